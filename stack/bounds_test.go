package stack

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"onevoice/internal/poller"
	"onevoice/proxy"
)

// filled lets sources begin flows in turn until none of them may begin more.
func filled(s *Stack, sources int) (each []int) {
	each = make([]int, sources)
	for again := true; again; {
		again = false
		for i := range sources {
			from := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
			if s.Full() || s.Crowded(from) {
				continue
			}
			s.lastID++
			s.flows[s.lastID] = &flow{}
			s.bounds.count(from, 1)
			each[i]++
			again = true
		}
	}
	return each
}

// However many flows few sources begin, others may still begin some; and many sources
// have nearly all there are.
func TestFlowsAreSharedBySource(t *testing.T) {
	for _, c := range []struct{ sources, least, room int }{{1, 44_000, 5500}, {2, 23_000, 2900}, {10, 4900, 600}, {1000, 49, 0}} {
		s := &Stack{flows: map[uint64]*flow{}, bounds: newBounds(0)}
		each := filled(s, c.sources)
		for i, n := range each {
			if n < c.least || i > 0 && n < each[0]-1 {
				t.Errorf("of %d sources the %dth has %d, and the first %d", c.sources, i, n, each[0])
				break
			}
		}
		room := s.Limit() - len(s.flows)
		if stranger := netip.MustParseAddr("10.9.9.9"); room < c.room || (room > 0) == s.Crowded(stranger) {
			t.Errorf("beside %d sources there is room for %d", c.sources, room)
		}
	}
}

func TestSourcesOfIPv6AreNetworks(t *testing.T) {
	b := newBounds(10)
	for _, a := range []string{"2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"} {
		b.count(netip.MustParseAddr(a), 1)
	}
	if len(b.sources) != 2 || b.sources[netip.MustParseAddr("2001:db8::")] != 2 {
		t.Errorf("%v", b.sources)
	}
	for _, a := range []string{"2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"} {
		b.count(netip.MustParseAddr(a), -1)
	}
	if len(b.sources) != 0 {
		t.Errorf("nothing runs, and there are %v", b.sources)
	}
}

// At the limit what runs goes on, and what is new waits until there is room.
func TestFlowsAreBounded(t *testing.T) {
	w := newWorld(t, backend(t, func(c *net.TCPConn) { io.Copy(c, c); c.Close() }))
	w.do(func() { w.stack.bounds.limit = 2 })
	talk := func(c *gonet.TCPConn) {
		t.Helper()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write([]byte("x")); err != nil {
			t.Error(err)
		} else if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Error(err)
		}
	}
	dial := func() *gonet.TCPConn {
		t.Helper()
		c, err := w.dial()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	first, second := dial(), dial()
	talk(first)
	talk(second)
	w.turnedAway()
	w.settle(func() bool { c, _ := w.counters(); return c.OverLimit == 1 })
	talk(first)
	first.Close()
	w.settle(func() bool { _, running := w.counters(); return running == 1 })
	talk(second)
	talk(dial())
	w.do(func() {
		if n := w.stack.bounds.sources[client]; n != 2 || w.stack.Limit() != 2 {
			t.Errorf("the source counts %d flows of %d", n, w.stack.Limit())
		}
	})
}

// flooding is a backend that writes for as long as it is let.
func flooding(t *testing.T) netip.AddrPort {
	return backend(t, func(c *net.TCPConn) {
		defer c.Close()
		for b := make([]byte, 64<<10); ; {
			for i := range b {
				b[i] = byte(i)
			}
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
}

// sentDown is how many bytes of the backend each flow has taken. What the client's
// window does not let go waits in netstack.
func (w *world) sentDown() (each []int) {
	w.do(func() {
		for _, f := range w.stack.flows {
			if f.pump != nil {
				_, down := f.pump.Bytes()
				each = append(each, int(down))
			}
		}
	})
	return each
}

// Clients that never read, with windows of zero for ever: what is held for each is
// bounded, little when memory is tight, and those that hold much when it gets tight
// get no more.
func TestZeroWindowsForEver(t *testing.T) {
	const window = 8 << 10
	w := newWorld(t, flooding(t))
	small := tcpip.TCPReceiveBufferSizeRangeOption{Min: window, Default: window, Max: window}
	if err := w.client.SetTransportProtocolOption(tcp.ProtocolNumber, &small); err != nil {
		t.Fatal(err)
	}
	open := func() *gonet.TCPConn {
		c, err := w.dial()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	open()
	w.settle(func() bool { return slices.Max(append(w.sentDown(), 0)) > 8*tightBytes })
	w.do(func() { w.stack.SetMemory(Tight) })
	w.settle(func() bool {
		squeezed := false
		w.do(func() { squeezed = len(w.stack.bounds.squeeze) == 0 })
		return squeezed
	})
	before := slices.Max(w.sentDown())
	var later []*gonet.TCPConn
	for range 8 {
		later = append(later, open())
	}
	w.settle(func() bool {
		full := 0
		for _, n := range w.sentDown() {
			if n >= tightBytes {
				full++
			}
		}
		return full == 9
	})
	// One portion may come on top of a buffer that has room for a byte.
	for _, n := range w.sentDown() {
		if n > before && n > tightBytes+proxy.ScratchBytes+2*window {
			t.Errorf("%d bytes were taken for a client that does not read", n)
		}
	}
	// Nothing is lost of it.
	c := later[0]
	c.SetDeadline(time.Now().Add(20 * time.Second))
	got := make([]byte, 1<<20)
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	for i, b := range got {
		if b != byte(i) {
			t.Fatalf("byte %d is %d", i, b)
		}
	}
	w.do(func() {
		if w.stack.SetMemory(Full); !w.stack.Full() {
			t.Error("memory is full, and flows may begin")
		}
		if w.stack.SetMemory(Ample); w.stack.Full() || w.stack.Memory() != Ample {
			t.Error("memory is ample, and none may begin")
		}
	})
}

// stalling is a backend in memory that takes so many bytes and then none, until it is
// let go on.
type stalling struct {
	echo
	room int
}

func (b *stalling) Write(p []byte) (int, error) {
	n := min(len(p), b.room)
	b.room -= n
	b.got = append(b.got, p[:n]...)
	if n == 0 {
		return 0, proxy.ErrAgain
	}
	return n, nil
}

// A client that was told of a wide window, and sends all of it to a backend that does
// not read any more: once memory is full no more of it is taken, and all arrives when
// the backend reads on.
func TestStalledBackends(t *testing.T) {
	const first, more = 512 << 10, 512 << 10
	p := newTestPoller(t)
	b := &stalling{room: first + 1}
	wait := &echoPoller{Poller: p, echo: &b.echo}
	b.poller = wait
	w := startWorld(t, p, wait, Service{
		Name: "stalling", Listen: netip.AddrPortFrom(vip, 22), Dial: func(netip.AddrPort) (Local, error) { return b, nil },
	})
	c, err := w.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	wrote := make(chan error, 1)
	write := func(n int) {
		_, err := c.Write(make([]byte, n))
		wrote <- err
	}
	got := func() (n int) { w.do(func() { n = len(b.got) }); return n }
	go write(first)
	w.settle(func() bool { return got() == first })
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	// One byte more is acknowledged with the window of an empty buffer.
	go write(1)
	w.settle(func() bool { return got() == first+1 && w.mayStillSend(first+1) > 2*tightBytes })
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	w.do(func() { w.stack.SetMemory(Full) })
	go write(more)
	held, dropped := 0, uint64(0)
	w.settle(func() bool {
		w.do(func() { held, dropped = w.received() })
		return dropped > 0
	})
	// One packet of joined segments may come on top of a buffer that has room for a byte.
	if most := tightBytes + maxPacketBytes; held > most || got() != first+1 {
		t.Errorf("%d bytes are held, want at most %d; the backend has %d", held, most, got())
	}
	w.do(func() {
		w.stack.SetMemory(Ample)
		b.room = 1 << 30
		wait.events = append(wait.events, poller.Event{Token: b.token, Writable: true})
	})
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	w.settle(func() bool { return got() == first+1+more })
	// What was dropped is counted once the flow has ended.
	c.Close()
	w.settle(func() bool { c, running := w.counters(); return running == 0 && c.Glutted >= dropped })
}

// A client that lost a segment while its window was wide has sent much after it when
// memory gets tight. That fills the small buffer by itself; the lost one still gets in,
// and all arrives.
func TestHoleWhenMemoryGetsTight(t *testing.T) {
	const before, size = 1 << 20, 4 << 20
	at := backend(t, func(c *net.TCPConn) { io.Copy(io.Discard, c); c.Write([]byte("x")); c.Close() })
	w := newWorld(t, at)
	c, err := w.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	// The first segment when the window is wide, and each repetition of it, is lost.
	var hole *uint32
	sent, after := 0, 0
	w.do(func() {
		w.lost = func(ip []byte) bool {
			h := header.TCP(header.IPv4(ip).Payload())
			if sent += len(h.Payload()); sent < before {
				return false
			}
			if seq := h.SequenceNumber(); hole == nil || seq == *hole {
				hole = &seq
				return true
			}
			after += len(h.Payload())
			return false
		}
	})
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, size))
		wrote <- err
	}()
	w.settle(func() (wide bool) { w.do(func() { wide = after > 4*tightBytes }); return wide })
	w.do(func() { w.stack.SetMemory(Tight) })
	w.settle(func() (done bool) { w.do(func() { done = len(w.stack.bounds.squeezed) == 1 }); return done })
	w.do(func() { w.lost = nil })
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	c.CloseWrite()
	if all, err := io.ReadAll(c); err != nil || len(all) != 1 {
		t.Errorf("%q, %v; the backend did not read all", all, err)
	}
}

// received is what of the only client waits for its backend, and how many segments
// found no room.
func (w *world) received() (held int, dropped uint64) {
	for _, f := range w.stack.flows {
		held, dropped = f.client.unread(), f.client.glutted()
	}
	return held, dropped
}

// mayStillSend is how much the only client has been told that it may send, after it
// has sent so many bytes.
func (w *world) mayStillSend(sent int) (n int) {
	w.do(func() {
		first, last := header.TCP(header.IPv4(w.sent[0]).Payload()), header.TCP(header.IPv4(w.sent[len(w.sent)-1]).Payload())
		scale := header.ParseSynOptions(first.Options(), true).WS
		acked := int(last.AckNumber() - first.AckNumber())
		n = acked + int(last.WindowSize())<<scale - sent
	})
	return n
}

// Where the process has no more descriptors, a connection is refused, and the backend
// is not taken for one that is down.
func TestDescriptorsAreGone(t *testing.T) {
	at := backend(t, func(c *net.TCPConn) { io.Copy(c, c); c.Close() })
	gone := true
	p := newTestPoller(t)
	w := startWorld(t, p, p, Service{
		Name: "echo", Listen: netip.AddrPortFrom(vip, 22), Backend: proxy.Backend{Addr: at},
		Dial: func(netip.AddrPort) (Local, error) {
			if gone {
				return nil, os.NewSyscallError("socket", unix.EMFILE)
			}
			return (&proxy.Backend{Addr: at}).Dial(netip.AddrPort{}, netip.AddrPort{}, false)
		},
	})
	w.turnedAway()
	w.do(func() {
		if gone = false; !w.stack.Up(0) || len(w.changes) > 0 {
			t.Errorf("the backend is taken for one that is down: %v", w.changes)
		}
	})
	c, err := w.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	c.Write([]byte("x"))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// More than the loop takes of what netstack emits is dropped, as a transmit queue
// would drop it, and counted.
func TestEgressIsBounded(t *testing.T) {
	l := newLinkEndpoint(mtu, func() {})
	const more = 100
	for range MaxEgressPackets + more {
		var list netstack.PacketBufferList
		p := netstack.NewPacketBuffer(netstack.PacketBufferOptions{Payload: buffer.MakeWithData([]byte{0x45})})
		list.PushBack(p)
		if _, err := l.WritePackets(list); err != nil {
			t.Fatal(err)
		}
		p.DecRef()
	}
	if n := l.dropped.Load(); n != more || len(l.queue) != MaxEgressPackets {
		t.Errorf("%d packets wait and %d were dropped", len(l.queue), n)
	}
	l.discard()
}

// silent is a backend that neither accepts nor refuses.
type silent struct{ echo }

func (s *silent) Connected() error { return unix.EINPROGRESS }

// deafPoller is a poller that never hears of such a backend.
type deafPoller struct{ *poller.Poller }

func (p deafPoller) AddEdge(fd int, token uint64) error {
	if fd == (&silent{}).FD() {
		return nil
	}
	return p.Poller.AddEdge(fd, token)
}

// A backend that lets its callers wait costs each of them so long and no longer; then
// it is down, and its clients are told at once.
func TestBackendThatStalls(t *testing.T) {
	p := newTestPoller(t)
	b := &silent{}
	w := startWorld(t, p, deafPoller{p}, Service{
		Name: "silent", Listen: netip.AddrPortFrom(vip, 22), Dial: func(netip.AddrPort) (Local, error) { b.closed = false; return b, nil },
	})
	c, err := w.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	w.settle(func() bool { _, running := w.counters(); return running == 1 })
	w.do(func() {
		w.stack.expire(w.clock() + connectTimeout + time.Second)
	})
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the client meets %v, want a reset", err)
	}
	w.do(func() {
		if len(w.stack.flows) != 0 || w.stack.counters.Refused != 1 {
			t.Errorf("%d flows, %+v", len(w.stack.flows), w.stack.counters)
		}
	})
	w.settle(func() bool {
		up := true
		w.do(func() { up = w.stack.Up(0) })
		return !up
	})
}
