package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// OwnHost serves this host's own connections to a VIP. Their frames go out and
// never come in, so no node would hear the ones whose bucket this host owns.
// Routes lead them to loopback instead, where an ordinary listener takes them
// and copies to the backend of this host, whoever owns the bucket.
//
// It is beside the frame path and uses a goroutine for each direction.
type OwnHost struct {
	listeners []net.Listener
	slots     chan struct{}
	wg        sync.WaitGroup
	taken     []netip.AddrPort

	mu    sync.Mutex
	conns map[net.Conn]struct{} // of both sides
	// clients are the connections among them that were accepted.
	clients int
}

// MaxOwnHostConns bounds the connections of this host to its own VIPs; more
// wait, one beside each listener and the others in its queue.
const MaxOwnHostConns = 256

// ServeOwnHost listens on each service's address, which is nobody's on this
// host: IP_TRANSPARENT allows that, and answers from there. The map leads from listen address to backend.
func ServeOwnHost(services map[netip.AddrPort]Backend) (*OwnHost, error) {
	h := &OwnHost{slots: make(chan struct{}, MaxOwnHostConns), conns: map[net.Conn]struct{}{}}
	lc := net.ListenConfig{Control: transparent}
	for at, backend := range services {
		l, err := lc.Listen(context.Background(), network(at.Addr()), at.String())
		if errors.Is(err, unix.EADDRINUSE) {
			h.taken = append(h.taken, at)
			continue
		}
		if err != nil {
			h.Close()
			return nil, fmt.Errorf("proxy: listen on %s for this host: %w", at, err)
		}
		h.listeners = append(h.listeners, l)
		h.wg.Add(1)
		go h.accept(l, backend)
	}
	return h, nil
}

// Taken are the addresses of which a program on this host has the port on all
// addresses, as sshd does by default: the kernel gives it to nobody else then,
// and that program cannot answer from an address that is not this host's. This
// host's own connections to them come to nothing.
func (h *OwnHost) Taken() []netip.AddrPort { return h.taken }

// network is the family of an address as package net names it.
func network(a netip.Addr) string {
	if a.Is4() {
		return "tcp4"
	}
	return "tcp6"
}

func transparent(network, _ string, c syscall.RawConn) error {
	var inner error
	keep := transparentOption(netip.IPv4Unspecified())
	if network == "tcp6" {
		keep = transparentOption(netip.IPv6Unspecified())
	}
	err := c.Control(func(fd uintptr) {
		// A process that stands still may have the address yet; it is the same
		// user's, or the kernel refuses.
		inner = errors.Join(unix.SetsockoptInt(int(fd), keep.level, keep.opt, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	})
	return errors.Join(err, inner)
}

// accept is the goroutine `proxy.OwnHost.accept`, one for each service; it ends
// with Close.
func (h *OwnHost) accept(l net.Listener, backend Backend) {
	defer h.wg.Done()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		// Only who has a connection takes a slot: there may be more listeners.
		h.slots <- struct{}{}
		if !h.add(c) {
			<-h.slots
			continue
		}
		h.wg.Add(1)
		h.count(1)
		go h.serve(c.(*net.TCPConn), backend)
	}
}

func (h *OwnHost) add(c net.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conns == nil {
		c.Close()
		return false
	}
	h.conns[c] = struct{}{}
	return true
}

func (h *OwnHost) count(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients += n
}

func (h *OwnHost) remove(c net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
}

// serve is the goroutine `proxy.OwnHost.serve`; it ends with its connection.
func (h *OwnHost) serve(c *net.TCPConn, backend Backend) {
	defer func() { h.count(-1); h.remove(c); c.Close(); <-h.slots; h.wg.Done() }()
	b, err := backend.connect(c)
	if err != nil {
		// As for everybody else: a reset, not an end.
		_ = c.SetLinger(0)
		return
	}
	defer b.Close()
	if !h.add(b) {
		return
	}
	defer h.remove(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyHalf(b, c)
	}()
	copyHalf(c, b)
	<-done
}

// halfCloser is a connection of TCP, or of a unix socket.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// connect dials the backend for a connection of this host's own, and tells it who
// the client is where it wants to know.
func (b *Backend) connect(c *net.TCPConn) (halfCloser, error) {
	d := net.Dialer{Timeout: ownHostDialTimeout}
	network := "tcp"
	if b.Path != "" {
		network = "unix"
	}
	client, vip := c.RemoteAddr().(*net.TCPAddr), c.LocalAddr().(*net.TCPAddr)
	if b.Transparent {
		// The address is this host's own, so no right is needed to keep it.
		d.LocalAddr = &net.TCPAddr{IP: client.IP}
	}
	conn, err := d.Dial(network, cmp.Or(b.Path, b.Addr.String()))
	if err != nil {
		return nil, err
	}
	header, err := b.Header.bytes(unmapped(client), unmapped(vip))
	if err == nil && len(header) > 0 {
		_, err = conn.Write(header)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn.(halfCloser), nil
}

func unmapped(a *net.TCPAddr) netip.AddrPort {
	at := a.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// ownHostDialTimeout bounds how long the backend may take to accept.
const ownHostDialTimeout = 10 * time.Second

// copyHalf copies one direction and passes its end on; an error ends both.
func copyHalf(to, from halfCloser) {
	if _, err := io.Copy(to, from); err != nil {
		noLinger(to)
		noLinger(from)
		to.Close()
		from.Close()
		return
	}
	_ = to.CloseWrite()
}

// noLinger makes the close of a connection a reset; a unix socket has none.
func noLinger(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}

// Conns is how many connections run.
func (h *OwnHost) Conns() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.clients
}

// Retire ends the listeners, so that another process can have them. What runs
// goes on.
func (h *OwnHost) Retire() {
	for _, l := range h.listeners {
		l.Close()
	}
}

// Close ends the listeners and resets what still runs.
func (h *OwnHost) Close() error {
	h.Retire()
	h.mu.Lock()
	for c := range h.conns {
		noLinger(c)
		c.Close()
	}
	h.conns = nil
	h.mu.Unlock()
	h.wg.Wait()
	return nil
}
