package proxy

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Conn is a non-blocking socket to a backend.
type Conn struct {
	fd int
	// connected: the poller has said so. wrote: the first bytes have left.
	// undelayed: see undelay.
	connected, wrote, undelayed bool
	// readable, writable: the next call may go through. They save the system
	// call that would only say "would block"; finished is set once the peer has
	// said its last, which a short read then does not hide.
	readable, writable, finished bool
	// urgent: the peer has marked bytes as urgent.
	urgent bool
	// header goes before the client's first byte; it is what has not left of it.
	header []byte
}

var _ Stream = (*Conn)(nil)

// dialFrom connects from an address, or from the system's choice when it is
// the zero AddrPort. soon is as in Dial.
func (b *Backend) dialFrom(from netip.AddrPort, soon bool) (*Conn, error) {
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, family(b.Addr.Addr()), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if errno != 0 {
		return nil, os.NewSyscallError("socket", errno)
	}
	c := &Conn{fd: int(fd), writable: true}
	if soon {
		// It changes when packets are sent, and nothing else, so it may fail.
		_ = c.setOption(unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
	}
	if err := c.connect(from, b.Addr, b.Mark); err != nil {
		c.Close()
		return nil, fmt.Errorf("proxy: connect %s from %s: %w", b.Addr, from, err)
	}
	return c, nil
}

func (c *Conn) connect(from, to netip.AddrPort, mark uint32) error {
	if from.IsValid() {
		if err := c.bind(from, mark); err != nil {
			return err
		}
	}
	errno := c.call(unix.SYS_CONNECT, to)
	if errno != 0 && errno != unix.EINPROGRESS {
		return os.NewSyscallError("connect", errno)
	}
	return nil
}

// bind takes an address that is not this host's. SO_REUSEADDR lets a port be
// taken that only a closed connection still holds; without a port the choice
// is put off to connect, where a port may serve several backends.
func (c *Conn) bind(from netip.AddrPort, mark uint32) error {
	if mark != 0 {
		if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
			return os.NewSyscallError("setsockopt SO_MARK", err)
		}
	}
	opts := []option{
		transparentOption(from.Addr()),
		{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR},
	}
	if from.Port() == 0 {
		// That of IPv4 is for both (ip(7)).
		opts = append(opts, option{"IP_BIND_ADDRESS_NO_PORT", unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT})
	}
	for _, o := range opts {
		if err := c.setOption(o.level, o.opt, 1); err != nil {
			return os.NewSyscallError("setsockopt "+o.name, err)
		}
	}
	if errno := c.call(unix.SYS_BIND, from); errno != 0 {
		return os.NewSyscallError("bind", errno)
	}
	return nil
}

// setOption sets an option. The calls of this file are raw: none of them blocks, and
// the runtime need not get ready for one that does.
func (c *Conn) setOption(level, opt int, value int32) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(c.fd), uintptr(level), uintptr(opt), uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// option is an option of a socket, to be set to 1.
type option struct {
	name       string
	level, opt int
}

// transparentOption lets a socket take an address of that family which is not this
// host's.
func transparentOption(a netip.Addr) option {
	if a.Is4() {
		return option{"IP_TRANSPARENT", unix.SOL_IP, unix.IP_TRANSPARENT}
	}
	return option{"IPV6_TRANSPARENT", unix.SOL_IPV6, unix.IPV6_TRANSPARENT}
}

func family(a netip.Addr) uintptr {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// call is connect(2) or bind(2) with an address of either family.
func (c *Conn) call(number uintptr, a netip.AddrPort) unix.Errno {
	if a.Addr().Is4() {
		at := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: a.Addr().As4()}
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&at.Port))[:], a.Port())
		_, _, errno := unix.RawSyscall(number, uintptr(c.fd), uintptr(unsafe.Pointer(&at)), unix.SizeofSockaddrInet4)
		return errno
	}
	at := unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: a.Addr().As16()}
	if a.Addr().IsLinkLocalUnicast() {
		// Such an address means nothing without an interface (RFC 4007 §6); the
		// backend's is loopback.
		at.Scope_id = loopbackIndex
	}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&at.Port))[:], a.Port())
	_, _, errno := unix.RawSyscall(number, uintptr(c.fd), uintptr(unsafe.Pointer(&at)), unix.SizeofSockaddrInet6)
	return errno
}

// FD is the descriptor to wait on.
func (c *Conn) FD() int { return c.fd }

// Connected reports how connecting has ended, once the socket is writable.
// The error is the kernel's: ECONNREFUSED when nothing listens.
func (c *Conn) Connected() error {
	if c.connected {
		return nil
	}
	e, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return os.NewSyscallError("getsockopt SO_ERROR", err)
	}
	if e != 0 {
		return unix.Errno(e)
	}
	return nil
}

// Ready records an edge of the poller: what has become possible since the last
// call that would have blocked.
func (c *Conn) Ready(readable, writable, peerClosed bool) {
	// A socket is writable without an error from when its connection stands.
	c.connected = c.connected || writable && !peerClosed
	c.readable = c.readable || readable
	c.writable = c.writable || writable
	c.finished = c.finished || peerClosed
}

// Urgent takes marked bytes for what they are, a part of the stream (RFC 6093 §6). The
// kernel ends a read where they begin, so that a short one does not say that nothing
// is left: from now on only the call that would block does.
func (c *Conn) Urgent() {
	if !c.urgent {
		c.urgent = true
		// It exists for every socket of TCP; one of a unix socket never gets here.
		_ = c.setOption(unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
	}
	c.readable = true
}

// Read implements Stream.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if !c.readable {
		return 0, ErrAgain
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		c.readable = errno != unix.EAGAIN
		return 0, again(errno)
	}
	if n == 0 {
		return 0, io.EOF
	}
	c.readable = c.finished || c.urgent || int(n) == len(p)
	return int(n), nil
}

// Queued implements Stream: SIOCINQ of tcp(7).
func (c *Conn) Queued() int {
	if !c.readable {
		return 0
	}
	var n int32
	if _, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(c.fd), unix.SIOCINQ, uintptr(unsafe.Pointer(&n))); errno != 0 {
		return 0
	}
	return int(n)
}

// Write implements Sink.
func (c *Conn) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(c.header) > 0 {
		return c.writeAfterHeader(p)
	}
	if !c.writable {
		return 0, ErrAgain
	}
	if err := c.undelay(); err != nil {
		return 0, err
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(c.fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		c.writable = errno != unix.EAGAIN
		return 0, again(errno)
	}
	c.writable = int(n) == len(p)
	return int(n), nil
}

// undelay turns Nagle's algorithm off before the second write, the first that it
// could hold back: bytes are passed on as they come; waiting for more is the
// client's choice, made at its own end.
func (c *Conn) undelay() error {
	if !c.wrote {
		c.wrote = true
		return nil
	}
	if c.undelayed {
		return nil
	}
	c.undelayed = true
	return os.NewSyscallError("setsockopt TCP_NODELAY", c.setOption(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
}

func again(errno unix.Errno) error {
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return ErrAgain
	}
	return errno
}

// CloseWrite implements Sink.
func (c *Conn) CloseWrite() error {
	if err := c.Flush(); err != nil {
		return err
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(c.fd), unix.SHUT_WR, 0); errno != 0 {
		return os.NewSyscallError("shutdown", errno)
	}
	return nil
}

// Close implements Sink.
func (c *Conn) Close() {
	if c.fd >= 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(c.fd), 0, 0)
		c.fd = -1
	}
}

// Abort implements Sink: with a linger time of zero, close(2) sends a reset.
func (c *Conn) Abort() {
	if c.fd >= 0 {
		_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		c.Close()
	}
}
