package stack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
	"onevoice/internal/poller"
	"onevoice/link"
	"onevoice/proxy"
)

// patience is how long a starved machine may take.
const patience = time.Minute

var (
	vip    = netip.MustParseAddr("10.77.0.2")
	client = netip.MustParseAddr("10.77.0.101")
)

const mtu = 1500

// world is a stack on its loop, and a client's netstack wired to it.
type world struct {
	t      *testing.T
	stack  *Stack
	poller *poller.Poller
	wait   waits
	clock  func() time.Duration // the loop's
	plain  bool                 // segments are delivered one by one
	client *netstack.Stack
	wire   *channel.Endpoint

	// sent are the packets that the stack has emitted, for tests that look at
	// them; of the loop.
	sent [][]byte
	// offloads are those of super-segments, since sent was last cleared.
	offloads []link.Offload

	mu      sync.Mutex
	calls   []func()
	changes []bool
	// lost tells what of the client's packets is lost on the way; nil for none.
	lost   func(ip []byte) bool
	stop   bool
	ended  chan struct{}
	pumped chan struct{}
	cancel context.CancelFunc
}

// newWorld starts a stack whose service is a TCP listener on loopback.
func newWorld(t *testing.T, backend netip.AddrPort) *world {
	t.Helper()
	p := newTestPoller(t)
	return startWorld(t, p, p, Service{Name: "echo", Listen: netip.AddrPortFrom(vip, 22), Backend: proxy.Backend{Addr: backend}})
}

// newTestPoller makes a poller, which startWorld closes.
func newTestPoller(t *testing.T) *poller.Poller {
	t.Helper()
	p, err := poller.New(poller.ByKernel)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// waits is what the loop waits with.
type waits interface {
	Poller
	Sleep()
	Wait(time.Duration) ([]poller.Event, error)
}

// startWorld starts a stack with one service; it closes the poller.
func startWorld(t *testing.T, p *poller.Poller, wait waits, service Service) *world {
	t.Helper()
	w := &world{t: t, poller: p, wait: wait, ended: make(chan struct{}), pumped: make(chan struct{})}
	var err error
	w.stack, err = New(Config{
		MTU: mtu, Addresses: []netip.Addr{vip}, Poller: wait,
		Services:       []Service{service},
		BackendChanged: func(_ string, up bool, _ error) { w.changes = append(w.changes, up) },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.newClient()
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	go w.fromClient(ctx)
	go w.loop()
	t.Cleanup(w.close)
	return w
}

func (w *world) newClient() {
	w.wire = channel.New(1024, mtu, "")
	// Super-segments come with partial checksums, which a kernel would finish.
	w.wire.LinkEPCapabilities = netstack.CapabilityRXChecksumOffload
	w.client = netstack.New(netstack.Options{
		NetworkProtocols:   []netstack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []netstack.TransportProtocolFactory{tcp.NewProtocol},
	})
	// As every client's kernel has it; and netstack's RACK repeats two segments for each
	// timeout when a whole window was lost.
	sack, recovery := tcpip.TCPSACKEnabled(true), tcpip.TCPRecovery(0)
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &recovery} {
		if err := w.client.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.client.CreateNIC(1, w.wire); err != nil {
		w.t.Fatal(err)
	}
	if err := w.client.AddProtocolAddress(1, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: toAddress(client).WithPrefix()}, netstack.AddressProperties{}); err != nil {
		w.t.Fatal(err)
	}
	w.client.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: 1}})
}

// do runs fn on the loop's goroutine and waits for it.
func (w *world) do(fn func()) {
	done := make(chan struct{})
	w.mu.Lock()
	w.calls = append(w.calls, func() { fn(); close(done) })
	w.mu.Unlock()
	w.poller.Wake()
	<-done
}

// fromClient hands the client's packets to the loop, as many at a time as there are.
func (w *world) fromClient(ctx context.Context) {
	defer close(w.pumped)
	for {
		p := w.wire.ReadContext(ctx)
		if p == nil {
			return
		}
		var packets [][]byte
		for ; p != nil; p = w.wire.Read() {
			v := p.ToView()
			packets = append(packets, bytes.Clone(v.AsSlice()))
			v.Release()
			p.DecRef()
		}
		w.do(func() {
			for _, b := range packets {
				if w.lost != nil && w.lost(b) {
					continue
				}
				if w.plain {
					w.stack.Deliver(b)
				} else {
					w.stack.Gather(b)
				}
			}
		})
	}
}

func (w *world) loop() {
	defer close(w.ended)
	began := time.Now()
	w.clock = func() time.Duration { return time.Since(began) }
	for !w.stop {
		w.poller.Sleep()
		timeout := time.Duration(-1)
		now := time.Since(began)
		if at, ok := w.stack.Next(); ok {
			timeout = max(at-now, 0)
		}
		w.mu.Lock()
		if len(w.calls) > 0 || !w.stack.Idle() {
			timeout = 0
		}
		w.mu.Unlock()
		events, err := w.wait.Wait(timeout)
		if err != nil {
			w.t.Error(err)
			return
		}
		now = time.Since(began)
		for i := range events {
			w.stack.Ready(&events[i], now)
		}
		w.mu.Lock()
		calls := w.calls
		w.calls = nil
		w.mu.Unlock()
		for _, fn := range calls {
			fn()
		}
		w.stack.Flush()
		w.stack.Turn(now)
		w.toClient(now)
	}
}

// toClient hands what the stack emits to the client, cut as the kernel would.
func (w *world) toClient(now time.Duration) {
	for _, p := range w.stack.Egress(now) {
		b := bytes.Join(p.Vector.Pieces, nil)[EthernetBytes:]
		w.sent = append(w.sent, b)
		if p.Vector.Offload.Segmentation != link.SegmentationNone {
			w.offloads = append(w.offloads, p.Vector.Offload)
		}
		pkt := netstack.NewPacketBuffer(netstack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
		w.wire.InjectInbound(ipv4.ProtocolNumber, pkt)
		pkt.DecRef()
	}
	w.stack.Release()
}

func (w *world) close() {
	w.do(func() { w.stop = true })
	<-w.ended
	w.client.Destroy()
	w.cancel()
	w.stack.Close()
	w.poller.Close()
}

func (w *world) dial() (*gonet.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return gonet.DialContextTCP(ctx, w.client, tcpip.FullAddress{NIC: 1, Addr: toAddress(vip), Port: 22}, ipv4.ProtocolNumber)
}

// turnedAway dials and wants a reset, neither an end nor an answer. It may come
// before the dialler has seen that the handshake is done.
func (w *world) turnedAway() {
	w.t.Helper()
	c, err := w.dial()
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		_, err = c.Read(make([]byte, 1))
	}
	if err == nil || !strings.HasSuffix(err.Error(), (&tcpip.ErrConnectionReset{}).String()) {
		w.t.Errorf("a client that is turned away: %v, want a reset", err)
	}
}

func (w *world) counters() (c Counters, running int) {
	w.do(func() { c, running = w.stack.Counters(), w.stack.FlowCount() })
	return c, running
}

// backend starts a service on loopback that handles each connection with serve.
func backend(t *testing.T, serve func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// A client that finishes first still gets the whole answer, and the bytes are
// those that were sent, both ways: on the path that gathers segments and on the
// plain one.
func TestBytesAndHalfCloseBothWays(t *testing.T) {
	t.Run("gathered", func(t *testing.T) { bytesBothWays(t, false) })
	t.Run("plain", func(t *testing.T) { bytesBothWays(t, true) })
}

func bytesBothWays(t *testing.T, plain bool) {
	const size = 3 << 20
	sum := make(chan [32]byte, 1)
	at := backend(t, func(c *net.TCPConn) {
		defer c.Close()
		all, _ := io.ReadAll(c) // ends only with the client's half-close
		sum <- sha256.Sum256(all)
		c.Write(all)
	})
	w := newWorld(t, at)
	w.do(func() { w.plain = plain })
	c, err := w.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * i >> 3)
	}
	go func() {
		c.Write(data)
		c.CloseWrite()
	}()
	back, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if got := <-sum; got != sha256.Sum256(data) {
		t.Error("the backend read other bytes")
	}
	if !bytes.Equal(back, data) {
		t.Errorf("%d bytes came back, want the %d that were sent", len(back), size)
	}
	st, running := w.counters()
	if plain != (st.JoinedSegments == 0) {
		t.Errorf("%d segments were joined", st.JoinedSegments)
	}
	if running != 0 || st.Finished != 1 || st.BytesUp != size || st.BytesDown != size {
		t.Errorf("%d running, %+v", running, st)
	}
}

// The backend may finish first; what the client then sends still arrives.
func TestBackendFinishesFirst(t *testing.T) {
	got := make(chan string, 1)
	at := backend(t, func(c *net.TCPConn) {
		defer c.Close()
		c.Write([]byte("banner"))
		c.CloseWrite()
		all, _ := io.ReadAll(c)
		got <- string(all)
	})
	w := newWorld(t, at)
	c, err := w.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if all, err := io.ReadAll(c); err != nil || string(all) != "banner" {
		t.Fatalf("read %q, %v", all, err)
	}
	c.Write([]byte("and after that"))
	c.CloseWrite()
	if s := <-got; s != "and after that" {
		t.Errorf("the backend read %q", s)
	}
}

func TestResetsPassThroughBothWays(t *testing.T) {
	reset := make(chan error, 1)
	at := backend(t, func(c *net.TCPConn) {
		var b [1]byte
		c.Read(b[:])
		if b[0] == 'r' {
			c.SetLinger(0)
			c.Close()
			return
		}
		_, err := c.Read(b[:])
		reset <- err
	})
	w := newWorld(t, at)
	c, err := w.dial()
	if err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("r"))
	if _, err := io.ReadAll(c); err == nil {
		t.Error("the backend's reset reached the client as an end")
	}
	c.Close()

	ep, err := w.rawDial()
	if err != nil {
		t.Fatal(err)
	}
	w.write(ep, "x")
	ep.Abort()
	if err := <-reset; err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the client's reset reached the backend as %v", err)
	}
	st, _ := w.counters()
	if st.Broken != 2 {
		t.Errorf("%d flows count as broken, want 2", st.Broken)
	}
}

// rawDial connects an endpoint that the test can reset.
func (w *world) rawDial() (tcpip.Endpoint, error) {
	var queue waiter.Queue
	ep, terr := w.client.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, &queue)
	if terr != nil {
		return nil, errors.New(terr.String())
	}
	entry, connected := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)
	if terr = ep.Connect(tcpip.FullAddress{NIC: 1, Addr: toAddress(vip), Port: 22}); terr != nil {
		if _, started := terr.(*tcpip.ErrConnectStarted); !started {
			return nil, errors.New(terr.String())
		}
		<-connected
		if terr = ep.LastError(); terr != nil {
			return nil, errors.New(terr.String())
		}
	}
	return ep, nil
}

func (w *world) write(ep tcpip.Endpoint, s string) {
	if _, err := ep.Write(bytes.NewReader([]byte(s)), tcpip.WriteOptions{}); err != nil {
		w.t.Error(err)
	}
}

// closedPort is an address on loopback where nothing listens, and a function
// that starts a listener there.
func closedPort(t *testing.T) (netip.AddrPort, func()) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr)
	l.Close()
	return at.AddrPort(), func() {
		l, err := net.ListenTCP("tcp4", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.AcceptTCP()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
	}
}

// The client that discovers a refusal gets a reset after its handshake, not an
// end; the backend is dialled without a client until it is back.
func TestRefusedBackendResetsAndIsFoundAgain(t *testing.T) {
	at, start := closedPort(t)
	w := newWorld(t, at)
	up := func() (u bool) { w.do(func() { u = w.stack.Up(0) }); return u }
	if !up() {
		t.Error("the backend counts as down before it was dialled")
	}
	w.turnedAway()
	if up() {
		t.Error("the backend counts as up after a refusal")
	}
	start()
	// The stack dials once a second; wait for it by the loop's own turns.
	for deadline := time.Now().Add(10 * time.Second); !up(); {
		if time.Now().After(deadline) {
			t.Fatal("the backend that is back was not found")
		}
	}
	var changes []bool
	w.do(func() { changes = append(changes, w.changes...) })
	if len(changes) != 2 || changes[0] || !changes[1] {
		t.Errorf("changes reported: %v", changes)
	}
}

// Half-open connections are bounded, cause no dial, and do not keep others out.
func TestFloodOfSYNsCausesNoDialAndLetsOthersIn(t *testing.T) {
	dialled := make(chan struct{}, 16)
	at := backend(t, func(c *net.TCPConn) {
		dialled <- struct{}{}
		io.Copy(c, c)
		c.Close()
	})
	w := newWorld(t, at)
	const flood = ListenBacklog * 3 / 2
	for from := range flood {
		w.do(func() {
			w.stack.Deliver(syn(netip.AddrFrom4([4]byte{10, 9, byte(from >> 8), byte(from)}), 1024))
			w.stack.link.discard()
		})
	}
	var c Counters
	w.settle(func() bool { c, _ = w.counters(); return c.CookiesSent > 0 })
	if len(dialled) > 0 {
		t.Fatalf("%d dials for spoofed SYNs", len(dialled))
	}
	conn, err := w.dial()
	if err != nil {
		t.Fatalf("a client during the flood: %v", err)
	}
	defer conn.Close()
	conn.Write([]byte("x"))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	if c, _ := w.counters(); c.Accepted != 1 || c.CookiesTaken != 1 {
		t.Errorf("%+v, want one connection, by a cookie", c)
	}
}

// settle turns the loop until cond holds.
func (w *world) settle(cond func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); {
		if time.Now().After(deadline) {
			w.t.Fatal("did not settle")
		}
	}
}

// syn is a SYN for the service.
func syn(from netip.Addr, port uint16) []byte {
	b := make([]byte, header.IPv4MinimumSize+header.TCPMinimumSize)
	header.IPv4(b).Encode(&header.IPv4Fields{
		TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(tcp.ProtocolNumber),
		SrcAddr: toAddress(from), DstAddr: toAddress(vip),
	})
	header.TCP(b[header.IPv4MinimumSize:]).Encode(&header.TCPFields{
		SrcPort: port, DstPort: 22, SeqNum: 1000, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagSyn, WindowSize: 65535,
	})
	return b
}

func TestHoldsKnowsFlowsAndNotListeners(t *testing.T) {
	at := backend(t, func(c *net.TCPConn) { io.Copy(c, c); c.Close() })
	w := newWorld(t, at)
	holds := func(f hashing.Flow) (h bool) { w.do(func() { h = w.stack.Holds(&f) }); return h }
	stranger := hashing.Flow{Src: client, Dst: vip, SrcPort: 1, DstPort: 22, Proto: 6}
	if holds(stranger) {
		t.Error("a listener counts as a flow")
	}
	conn, err := w.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	from := conn.LocalAddr().(*net.TCPAddr).AddrPort()
	if !holds(hashing.Flow{Src: client, Dst: vip, SrcPort: from.Port(), DstPort: 22, Proto: 6}) {
		t.Error("an established flow is not held")
	}
	half := netip.MustParseAddr("10.77.0.150")
	w.do(func() { w.stack.Deliver(syn(half, 2000)) })
	w.settle(func() bool { return holds(hashing.Flow{Src: half, Dst: vip, SrcPort: 2000, DstPort: 22, Proto: 6}) })
}

// remembered is of how many flows the stack remembers the endpoint, which stays in memory
// as long.
func (w *world) remembered() (n int) {
	w.do(func() {
		for i := range w.stack.known {
			if w.stack.known[i].ep != nil {
				n++
			}
		}
	})
	return n
}

// A half-open flow ends in silence, an open one with a reset for both sides.
func TestStateAndEnd(t *testing.T) {
	reset := make(chan error, 1)
	at := backend(t, func(c *net.TCPConn) {
		_, err := io.Copy(io.Discard, c)
		reset <- err
	})
	w := newWorld(t, at)
	state := func(f hashing.Flow) (s flowstate.State) { w.do(func() { s = w.stack.State(&f) }); return s }
	half := hashing.Flow{Src: netip.MustParseAddr("10.77.0.150"), Dst: vip, SrcPort: 2000, DstPort: 22, Proto: 6}
	w.do(func() { w.stack.Deliver(syn(half.Src, half.SrcPort)) })
	// It is half-open a moment before its SYN is answered.
	var sent int
	w.settle(func() bool {
		w.do(func() { sent = len(w.sent) })
		return sent > 0 && state(half) == flowstate.HalfOpen
	})
	w.do(func() { w.toClient(w.clock()); sent = len(w.sent); w.stack.Forget(&half) })
	// Before anybody asks for the flow again.
	if n := w.remembered(); n != 0 {
		t.Errorf("%d endpoints are remembered, and the only one was forgotten", n)
	}
	if s := state(half); s != flowstate.None {
		t.Errorf("a half-open flow that was forgotten is %v", s)
	}
	w.do(func() {
		if w.toClient(w.clock()); len(w.sent) != sent {
			t.Errorf("its end made %d packets", len(w.sent)-sent)
		}
	})
	// Its tuple now leads to the listener, which stays.
	w.do(func() { w.stack.End(&half) })
	conn, err := w.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	open := hashing.Flow{Src: client, Dst: vip, SrcPort: conn.LocalAddr().(*net.TCPAddr).AddrPort().Port(), DstPort: 22, Proto: 6}
	w.settle(func() bool { return state(open) == flowstate.Open && len(w.flowsNow()) == 1 })
	w.do(func() { w.stack.End(&open) })
	if _, err := io.ReadAll(conn); err == nil {
		t.Error("the client read an end, want a reset")
	}
	if err := <-reset; err == nil {
		t.Error("the backend read an end, want a reset")
	}
	if s := state(open); s != flowstate.None {
		t.Errorf("an open flow that was ended is %v", s)
	}
	w.do(func() { w.stack.End(&open) }) // of nothing: nothing happens
}

// Flows that are left when the stack closes are reset, and nothing of them
// stays.
func TestCloseResetsWhatIsLeft(t *testing.T) {
	ended := make(chan error, 1)
	at := backend(t, func(c *net.TCPConn) {
		_, err := io.Copy(io.Discard, c)
		ended <- err
	})
	w := newWorld(t, at)
	conn, err := w.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte("x"))
	w.settle(func() bool { c, _ := w.counters(); w.do(func() {}); return c.Accepted == 1 && len(w.flowsNow()) == 1 })
	w.do(w.stack.AbortFlows)
	if err := <-ended; err == nil {
		t.Error("the backend read an end, want a reset")
	}
	if _, err := io.ReadAll(conn); err == nil {
		t.Error("the client read an end, want a reset")
	}
	if _, running := w.counters(); running != 0 {
		t.Errorf("%d flows are left", running)
	}
}

func (w *world) flowsNow() (f []FlowStatus) {
	w.do(func() { f = w.stack.Flows(0, 10) })
	return f
}

// A router on the way that cannot carry our packets is obeyed: RFC 1191. What
// follows is cut to what it can carry.
func TestPathMTUIsObeyed(t *testing.T) {
	const narrow = 1280
	more := make(chan struct{})
	at := backend(t, func(c *net.TCPConn) {
		defer c.Close()
		c.Write(make([]byte, 20_000))
		<-more
		c.Write(make([]byte, 200_000))
	})
	w := newWorld(t, at)
	conn, err := w.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, 20_000)); err != nil {
		t.Fatal(err)
	}
	w.do(func() {
		w.stack.Deliver(tooBig(w.sent[len(w.sent)-1], narrow))
		w.offloads = nil
	})
	close(more)
	if _, err := io.ReadFull(conn, make([]byte, 200_000)); err != nil {
		t.Fatal(err)
	}
	w.do(func() {
		// The kernel cuts super-segments by the MSS that goes with them; here the
		// client gets them whole, so look at what they would be cut to.
		for _, o := range w.offloads {
			if o.SegmentBytes > narrow-40 {
				t.Errorf("segments of %d bytes after a router said %d", o.SegmentBytes, narrow)
				break
			}
		}
		if len(w.offloads) == 0 {
			t.Error("no super-segment was sent")
		}
	})
}

// tooBig is a router's "fragmentation needed" about a packet of ours, RFC 1191
// §4.
func tooBig(about []byte, mtu uint16) []byte {
	quoted := about[:header.IPv4MinimumSize+8]
	b := make([]byte, header.IPv4MinimumSize+header.ICMPv4MinimumSize, header.IPv4MinimumSize+header.ICMPv4MinimumSize+len(quoted))
	b = append(b, quoted...)
	ip := header.IPv4(b)
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber),
		SrcAddr: toAddress(netip.MustParseAddr("10.77.0.1")), DstAddr: toAddress(vip),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	icmp := header.ICMPv4(b[header.IPv4MinimumSize:])
	icmp.SetType(header.ICMPv4DstUnreachable)
	icmp.SetCode(header.ICMPv4FragmentationNeeded)
	icmp.SetMTU(mtu)
	icmp.SetChecksum(header.ICMPv4Checksum(icmp, 0))
	return b
}
