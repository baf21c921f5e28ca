package scenario

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/proxy"
	"onevoice/stack"
)

// backend is the service behind a whole worker, in memory and on virtual time: it
// plays the backend's part of exchanges, on connections that behave as
// non-blocking sockets do.
type backend struct {
	w      *whole
	random func(n int) int
	conns  map[int]*socket
	last   int
	// down: it takes no connection.
	down bool
}

// How long the backend's host takes for something.
const (
	leastWork = 20 * time.Microsecond
	mostWork  = 200 * time.Microsecond
)

// What a direction of a connection holds at most, as a socket's buffers do: for
// each connection leastSocketBytes or up to socketSizes-1 times the double of it,
// so that some are always full and some never.
const (
	leastSocketBytes = 8 << 10
	socketSizes      = 8
)

// dial is stack.Service.Dial.
func (b *backend) dial(client netip.AddrPort) (stack.Local, error) {
	if b.down {
		return nil, unix.ECONNREFUSED
	}
	b.last++
	s := &socket{b: b, fd: deviceFD + b.last, client: client, size: leastSocketBytes << b.random(socketSizes)}
	if b.conns == nil {
		b.conns = map[int]*socket{}
	}
	b.conns[s.fd] = s
	return s, nil
}

// added is called when the loop waits for a connection.
func (b *backend) added(fd int) {
	if s := b.conns[fd]; s != nil {
		b.soon(func() {
			s.connected = true
			b.w.poller.edge(fd, false, true, false)
		})
	}
}

// soon does something after the time that it takes.
func (b *backend) soon(fn func()) {
	d := leastWork + time.Duration(b.random(int(mostWork-leastWork)))
	b.w.h.workers.After(d, func() {
		if b.w.h.worker.gate == b.w {
			fn()
		}
	})
}

// stream is one direction of a connection.
type stream struct {
	data  []byte
	ended bool
}

// socket is a connection to the backend, from both sides.
type socket struct {
	b         *backend
	fd        int
	client    netip.AddrPort
	connected bool
	up, down  stream
	size      int // of each direction, in bytes
	// gone: the worker has let go of it. reset: the backend has reset it.
	gone, reset bool
	// short: the worker could not write all that it had.
	short bool
	// works: the backend will look at it soon.
	works bool

	head     []byte // of the exchange, as far as it has come
	kind     byte   // of it; another's than users' is taken and not answered
	total    uint64
	made     uint64
	received progress
}

var _ stack.Local = (*socket)(nil)

// FD implements stack.Local.
func (s *socket) FD() int { return s.fd }

// Connected implements stack.Local.
func (s *socket) Connected() error {
	if !s.connected {
		return unix.EINPROGRESS
	}
	return nil
}

// Ready implements stack.Local. There is no system call to save here.
func (s *socket) Ready(_, _, _ bool) {}

// Flush implements stack.Local.
func (s *socket) Flush() error { return nil }
func (s *socket) Urgent()      {}

// Read implements proxy.Stream.
func (s *socket) Read(p []byte) (int, error) {
	switch {
	case s.reset || s.gone:
		return 0, unix.ECONNRESET
	case len(s.down.data) > 0:
		n := copy(p, s.down.data)
		s.down.data = s.down.data[n:]
		s.work()
		return n, nil
	case s.down.ended:
		return 0, io.EOF
	}
	return 0, proxy.ErrAgain
}

// Queued implements proxy.Stream.
func (s *socket) Queued() int { return len(s.down.data) }

// Write implements proxy.Sink.
func (s *socket) Write(p []byte) (int, error) {
	if s.reset || s.gone || s.up.ended {
		return 0, unix.EPIPE
	}
	n := min(len(p), s.size-len(s.up.data))
	s.up.data = append(s.up.data, p[:n]...)
	s.short = n < len(p)
	s.work()
	if n == 0 && len(p) > 0 {
		return 0, proxy.ErrAgain
	}
	return n, nil
}

// CloseWrite implements proxy.Sink.
func (s *socket) CloseWrite() error {
	s.up.ended = true
	s.work()
	return nil
}

// Close implements proxy.Sink. The backend still gets what was written.
func (s *socket) Close() {
	s.up.ended = true
	s.work()
	s.forget()
}

// Abort implements proxy.Sink.
func (s *socket) Abort() {
	s.gone = true
	s.forget()
}

func (s *socket) forget() {
	delete(s.b.w.poller.tokens, s.fd)
	delete(s.b.conns, s.fd)
}

// work lets the backend look at the connection soon.
func (s *socket) work() {
	if !s.works && !s.gone {
		s.works = true
		s.b.soon(func() {
			s.works = false
			if !s.gone {
				s.serve()
			}
		})
	}
}

// serve does what the backend can do now, and tells the worker what it can.
func (s *socket) serve() {
	had, ended := len(s.down.data), s.down.ended
	s.readHead()
	switch s.kind {
	case kindEcho:
		s.serveEcho()
	case kindPush:
		s.servePush()
	default:
		s.up.data = s.up.data[:0]
		s.down.ended = s.up.ended
	}
	if s.up.ended && len(s.up.data) == 0 && s.kind != 0 {
		s.b.w.h.c.users.heard(s.received, s.finished())
	}
	readable := len(s.down.data) > had || s.down.ended != ended
	writable := s.short && len(s.up.data) < s.size
	if writable {
		s.short = false
	}
	if readable || writable {
		s.b.w.poller.edge(s.fd, readable, writable, s.down.ended)
	}
}

func (s *socket) readHead() {
	n := min(headerBytes-len(s.head), len(s.up.data))
	if n == 0 {
		return
	}
	s.head = append(s.head, s.up.data[:n]...)
	s.up.data = s.up.data[n:]
	if len(s.head) == headerBytes {
		if k := s.head[0]; k == kindEcho || k == kindPush {
			s.kind = k
		}
		s.total = binary.BigEndian.Uint64(s.head[8:])
		s.received = progress{id: binary.BigEndian.Uint32(s.head[4:]), direction: upward}
	}
}

// serveEcho sends back what has come, as far as there is room.
func (s *socket) serveEcho() {
	n := min(len(s.up.data), s.size-len(s.down.data))
	s.received.take(s.up.data[:n])
	s.down.data = append(s.down.data, s.up.data[:n]...)
	s.up.data = s.up.data[n:]
	s.down.ended = s.up.ended && len(s.up.data) == 0
}

// servePush sends what is left to send, as far as there is room, and takes what
// comes.
func (s *socket) servePush() {
	n := int(min(s.total-s.made, uint64(s.size-len(s.down.data))))
	at := len(s.down.data)
	s.down.data = append(s.down.data, make([]byte, n)...)
	content(s.received.id, downward, s.made, s.down.data[at:])
	s.made += uint64(n)
	s.down.ended = s.made == s.total
	s.received.take(s.up.data)
	s.up.data = s.up.data[:0]
}

// finished is nil if all that was to come has come.
func (s *socket) finished() error {
	want := s.total
	if s.kind == kindPush {
		want = tailBytes
	}
	switch {
	case s.received.wrong != nil:
		return fmt.Errorf("at the backend %w", s.received.wrong)
	case s.received.got != want:
		return fmt.Errorf("the backend got %d of %d bytes", s.received.got, want)
	}
	return nil
}
