package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Datagrams is a non-blocking UDP socket that is connected to a backend: one for
// each flow, so that the kernel tells which flow an answer is of, and whether a
// program listens there at all.
type Datagrams struct{ fd int }

// ErrRefused says that nothing listens at the backend: an earlier datagram met an
// ICMP port unreachable.
var ErrRefused = errors.New("proxy: no program has the backend's port")

// DialDatagrams opens a socket to the backend on behalf of a client. A transparent
// one has the client's address always, and its port if that is free, as a
// connection's has: see Dial.
func (b *Backend) DialDatagrams(client netip.AddrPort) (*Datagrams, error) {
	if !b.Transparent {
		return b.datagramsFrom(netip.AddrPort{})
	}
	d, err := b.datagramsFrom(client)
	if errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EACCES) {
		return b.datagramsFrom(netip.AddrPortFrom(client.Addr(), 0))
	}
	return d, err
}

func (b *Backend) datagramsFrom(from netip.AddrPort) (*Datagrams, error) {
	family := unix.AF_INET6
	if b.Addr.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	d := &Datagrams{fd}
	if err := d.connect(family, from, b.Addr); err != nil {
		d.Close()
		return nil, fmt.Errorf("proxy: connect UDP to %s from %s: %w", b.Addr, from, err)
	}
	return d, nil
}

func (d *Datagrams) connect(family int, from, to netip.AddrPort) error {
	if from.IsValid() {
		if err := d.bind(family, from); err != nil {
			return err
		}
	}
	return os.NewSyscallError("connect", unix.Connect(d.fd, sockaddrOf(to)))
}

// bind takes an address that is not this host's. With SO_REUSEADDR the flows of a
// client's port to several services may each have it; the kernel then tells them
// apart by what they are connected to.
func (d *Datagrams) bind(family int, from netip.AddrPort) error {
	level, option := unix.SOL_IP, unix.IP_TRANSPARENT
	if family == unix.AF_INET6 {
		level, option = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	if err := unix.SetsockoptInt(d.fd, level, option, 1); err != nil {
		return os.NewSyscallError("setsockopt IP_TRANSPARENT", err)
	}
	if err := unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt SO_REUSEADDR", err)
	}
	return os.NewSyscallError("bind", unix.Bind(d.fd, sockaddrOf(from)))
}

func sockaddrOf(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	at := &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	if a.Addr().IsLinkLocalUnicast() {
		at.ZoneId = loopbackIndex // as Conn.call has it
	}
	return at
}

// FD is the descriptor to wait on.
func (d *Datagrams) FD() int { return d.fd }

// Send sends a datagram to the backend. ErrRefused says that it is gone, and ErrAgain
// that there is no room; in both the datagram is lost.
func (d *Datagrams) Send(p []byte) error {
	for {
		err := d.send(p)
		if err != unix.EINTR {
			return datagramError("sendto", err)
		}
	}
}

func (d *Datagrams) send(p []byte) error {
	var at unsafe.Pointer
	if len(p) > 0 {
		at = unsafe.Pointer(&p[0])
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(d.fd), uintptr(at), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func datagramError(call string, err error) error {
	switch err {
	case nil:
		return nil
	case unix.EAGAIN, unix.ENOBUFS:
		return ErrAgain
	case unix.ECONNREFUSED:
		return ErrRefused
	}
	return os.NewSyscallError(call, err)
}

// Bounds of a DatagramBatch.
const (
	// MaxDatagramBytes is the longest datagram, RFC 768.
	MaxDatagramBytes = 65_535
	// MaxDatagrams is how many are received by one call.
	MaxDatagrams = 8
)

// DatagramBatch has room for what one call of Receive brings. It is used again for
// the next flow.
type DatagramBatch struct {
	buffers [MaxDatagrams][]byte
	iovs    [MaxDatagrams]unix.Iovec
	msgs    [MaxDatagrams]messageHeader
}

// messageHeader is struct mmsghdr, recvmmsg(2).
type messageHeader struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// NewDatagramBatch makes the room.
func NewDatagramBatch() *DatagramBatch {
	b := &DatagramBatch{}
	for i := range b.buffers {
		b.buffers[i] = make([]byte, MaxDatagramBytes)
		b.iovs[i].Base = &b.buffers[i][0]
		b.iovs[i].SetLen(MaxDatagramBytes)
		b.msgs[i].hdr.Iov = &b.iovs[i]
		b.msgs[i].hdr.SetIovlen(1)
	}
	return b
}

// Datagram is the one with that number of the last Receive, valid until the next.
func (b *DatagramBatch) Datagram(i int) []byte { return b.buffers[i][:b.msgs[i].n] }

// Receive takes up to MaxDatagrams that the backend has sent. ErrRefused says that
// nothing listens there, ErrAgain that nothing has come.
func (d *Datagrams) Receive(b *DatagramBatch) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(d.fd), uintptr(unsafe.Pointer(&b.msgs[0])), MaxDatagrams, unix.MSG_DONTWAIT, 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.EINTR:
		return 0, ErrAgain
	}
	return 0, datagramError("recvmmsg", errno)
}

// Close lets go of the socket.
func (d *Datagrams) Close() {
	if d.fd >= 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(d.fd), 0, 0)
		d.fd = -1
	}
}
