package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Backend is a local service and how it is reached.
type Backend struct {
	Addr netip.AddrPort
	// Transparent: connect from the client's own address. Needs CAP_NET_ADMIN
	// and Routes for Addr.
	Transparent bool
}

// Conn is a non-blocking TCP socket to a backend.
type Conn struct {
	fd int
	// readable, writable: the next call may go through. They save the system
	// call that would only say "would block"; finished is set once the peer has
	// said its last, which a short read then does not hide.
	readable, writable, finished bool
}

var _ Stream = (*Conn)(nil)

// Dial starts to connect to the backend on behalf of a client. The result is
// connecting: wait until it is writable and ask Connected. ErrRefused when
// that is known at once, as it is on loopback.
//
// A transparent connection keeps the client's address always and its port if
// that is free: the port may still be held by an older connection, or by a
// local service on the same number.
func (b *Backend) Dial(client netip.AddrPort) (*Conn, error) {
	if !b.Transparent {
		return b.dialFrom(netip.AddrPort{})
	}
	c, err := b.dialFrom(client)
	if errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EACCES) {
		return b.dialFrom(netip.AddrPortFrom(client.Addr(), 0))
	}
	return c, err
}

// dialFrom connects from an address, or from the system's choice when it is
// the zero AddrPort.
func (b *Backend) dialFrom(from netip.AddrPort) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	c := &Conn{fd: fd, writable: true}
	if err := c.connect(from, b.Addr); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("proxy: connect %s from %s: %w", b.Addr, from, err)
	}
	return c, nil
}

func (c *Conn) connect(from, to netip.AddrPort) error {
	// Bytes are passed on as they come; waiting for more is the client's
	// choice, made at its own end.
	if err := unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return os.NewSyscallError("setsockopt TCP_NODELAY", err)
	}
	if from.IsValid() {
		if err := c.bind(from); err != nil {
			return err
		}
	}
	err := unix.Connect(c.fd, sockaddr(to))
	if err == unix.EINPROGRESS {
		err = nil
	}
	return os.NewSyscallError("connect", err)
}

// bind takes an address that is not this host's. SO_REUSEADDR lets a port be
// taken that only a closed connection still holds; without a port the choice
// is put off to connect, where a port may serve several backends.
func (c *Conn) bind(from netip.AddrPort) error {
	opts := []struct {
		name       string
		level, opt int
	}{
		{"IP_TRANSPARENT", unix.SOL_IP, unix.IP_TRANSPARENT},
		{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR},
	}
	if from.Port() == 0 {
		opts = append(opts, opts[0])
		opts[2].name, opts[2].opt = "IP_BIND_ADDRESS_NO_PORT", unix.IP_BIND_ADDRESS_NO_PORT
	}
	for _, o := range opts {
		if err := unix.SetsockoptInt(c.fd, o.level, o.opt, 1); err != nil {
			return os.NewSyscallError("setsockopt "+o.name, err)
		}
	}
	return os.NewSyscallError("bind", unix.Bind(c.fd, sockaddr(from)))
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}

// FD is the descriptor to wait on.
func (c *Conn) FD() int { return c.fd }

// Connected reports how connecting has ended, once the socket is writable.
// The error is the kernel's: ECONNREFUSED when nothing listens.
func (c *Conn) Connected() error {
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
	c.readable = c.readable || readable
	c.writable = c.writable || writable
	c.finished = c.finished || peerClosed
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
	c.readable = c.finished || int(n) == len(p)
	return int(n), nil
}

// Write implements Stream.
func (c *Conn) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if !c.writable {
		return 0, ErrAgain
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(c.fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		c.writable = errno != unix.EAGAIN
		return 0, again(errno)
	}
	c.writable = int(n) == len(p)
	return int(n), nil
}

func again(errno unix.Errno) error {
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return ErrAgain
	}
	return errno
}

// CloseWrite implements Stream.
func (c *Conn) CloseWrite() error {
	return os.NewSyscallError("shutdown", unix.Shutdown(c.fd, unix.SHUT_WR))
}

// Close implements Stream.
func (c *Conn) Close() {
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

// Abort implements Stream: with a linger time of zero, close(2) sends a reset.
func (c *Conn) Abort() {
	if c.fd >= 0 {
		_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		c.Close()
	}
}
