package proxy

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Backend is a local service and how it is reached.
type Backend struct {
	Addr netip.AddrPort
	// Path is that of a unix socket, in Addr's place; "" when there is none.
	Path string
	// Transparent: connect from the client's own address. Needs CAP_NET_ADMIN
	// and Routes for Addr.
	Transparent bool
	// Mark is put on transparent connections, for Routes to know their answers by;
	// 0 for none. See MarkFor.
	Mark uint32
	// Header says in which form the backend is told who the client is.
	Header Header
}

// String is where the backend is, as the configuration file writes it.
func (b *Backend) String() string {
	if b.Path != "" {
		return "unix:" + b.Path
	}
	return b.Addr.String()
}

// Dial starts to connect to the backend on behalf of a client that has connected
// to vip, the address and port that the header names. Without a client, which is
// then the zero AddrPort, there is no header. The result is connecting: wait until
// it is writable and ask Connected. ECONNREFUSED when that is known at once, as it
// is on loopback; ErrBusy when the backend is there and takes no more just now.
//
// soon says that the first bytes are at hand and are written at once. The kernel then
// keeps the acknowledgment that ends TCP's handshake for them to carry, for up to
// 200 ms (TCP_QUICKACK of tcp(7), tcp_rcv_synsent_state_process in
// net/ipv4/tcp_input.c): that saves a packet, and the service is woken once and not
// twice.
//
// A transparent connection keeps the client's address always and its port if
// that is free: the port may still be held by an older connection, or by a
// local service on the same number.
func (b *Backend) Dial(client, vip netip.AddrPort, soon bool) (*Conn, error) {
	c, err := b.dial(client, soon)
	if err == nil && client.IsValid() {
		if c.header, err = b.Header.bytes(client, vip); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, err
}

func (b *Backend) dial(client netip.AddrPort, soon bool) (*Conn, error) {
	switch {
	case b.Path != "":
		return dialUnix(b.Path)
	case !b.Transparent:
		return b.dialFrom(netip.AddrPort{}, soon)
	}
	c, err := b.dialFrom(client, soon)
	if errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EACCES) {
		return b.dialFrom(netip.AddrPortFrom(client.Addr(), 0), soon)
	}
	return c, err
}

// ErrBusy says that a unix socket's queue of connections is full. Its service is
// there, and a connection that the queue has no room for does not wait in
// connect(2) as one of TCP does.
var ErrBusy = errors.New("proxy: the backend's queue is full")

// dialUnix connects to a unix socket. Unlike TCP's it is connected at once, or
// refused (connect(2), unix(7)).
func dialUnix(path string) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("proxy: socket for %s: %w", path, err)
	}
	// There is no algorithm of Nagle's to turn off.
	c := &Conn{fd: fd, writable: true, undelayed: true}
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err {
	case nil:
		return c, nil
	case unix.EAGAIN:
		c.Close()
		return nil, fmt.Errorf("%w: %s", ErrBusy, path)
	default:
		c.Close()
		return nil, fmt.Errorf("proxy: connect %s: %w", path, err)
	}
}
