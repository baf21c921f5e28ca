package node

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"onevoice/internal/flowstate"
	"onevoice/stack"
	"onevoice/stack/virtual"
)

// These tests run the gate in front of netstack itself, by the loop: what the
// gate believes of netstack has to be so.

// echoBackend is a service on loopback that sends back what it hears, and ends
// a connection when it hears a q.
func echoBackend(t testing.TB) netip.AddrPort {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var b [1]byte
				for {
					if _, err := io.ReadFull(c, b[:]); err != nil || b[0] == 'q' {
						return
					}
					c.Write(b[:])
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// heard is what the bench has sent to a client's port.
type heard struct {
	flags    uint8
	seq, ack uint32
}

// sentTo are the segments sent to a client's port.
func (b *bench) sentTo(port uint16) (out []heard) {
	for _, f := range b.device.sent {
		if len(f) >= 54 && f[23] == protoTCP && binary.BigEndian.Uint16(f[36:]) == port {
			out = append(out, heard{f[47], binary.BigEndian.Uint32(f[38:]), binary.BigEndian.Uint32(f[42:])})
		}
	}
	return out
}

// put1 lets a client's packet in and turns.
func (b *bench) put1(packet []byte) {
	b.put(noStamp, frame(etherTypeIPv4, packet))
	b.turn()
}

// quiet turns until netstack has had time to do what it does, and checks that
// nothing was sent to the port since.
func (b *bench) quiet(port uint16, what string) {
	b.t.Helper()
	before := len(b.sentTo(port))
	for range 200 {
		b.turn()
	}
	if got := b.sentTo(port)[before:]; len(got) != 0 {
		b.t.Errorf("%s: sent %+v", what, got)
	}
}

// state waits until the flow from a port is in a state.
func (b *bench) state(port uint16, want flowstate.State) {
	b.t.Helper()
	f := toFlow(port)
	b.until("the flow is "+want.String(), func() bool { return b.stack.State(&f) == want })
}

// halfOpen opens a flow half and returns the service's sequence number.
func (b *bench) halfOpen(port uint16) uint32 {
	b.t.Helper()
	b.put1(in(port, flagSYN, clientISN, 0, nil))
	b.until("the SYN-ACK is sent", func() bool { return len(b.sentTo(port)) > 0 })
	b.state(port, flowstate.HalfOpen)
	return b.sentTo(port)[0].seq
}

// open opens a flow and returns the service's sequence number.
func (b *bench) open(port uint16) uint32 {
	b.t.Helper()
	isn := b.halfOpen(port)
	b.put1(in(port, flagACK, clientISN+1, isn+1, nil))
	b.state(port, flowstate.Open)
	b.until("the flow is accepted", func() bool { return b.stack.FlowCount() > 0 })
	return isn
}

// timeWait opens a flow that the service ends, and leads it into TIME-WAIT.
func (b *bench) timeWait(port uint16) {
	b.t.Helper()
	isn := b.open(port)
	b.put1(in(port, flagACK|flagPSH, clientISN+1, isn+1, []byte("q")))
	b.until("a FIN is sent", func() bool {
		all := b.sentTo(port)
		return all[len(all)-1].flags&flagFIN != 0
	})
	b.put1(in(port, flagACK|flagFIN, clientISN+2, isn+2, nil))
	b.until("the last ACK is sent", func() bool {
		all := b.sentTo(port)
		return all[len(all)-1].ack == clientISN+3
	})
	b.state(port, flowstate.TimeWait)
}

// disown gives the buckets to another node.
func (b *bench) disown() {
	o := *b.ownership
	o.Generation++
	rows := []Rows{{Draining: allBuckets()}}
	o.VIPs, o.Services = rows, rows
	b.ownership = &o
	b.turn()
}

// reown gives them back.
func (b *bench) reown() {
	o := *b.ownership
	o.Generation++
	rows := []Rows{{Accept: allBuckets()}}
	o.VIPs, o.Services = rows, rows
	b.ownership = &o
	b.now += time.Millisecond
	b.turn()
}

func TestNetstackIsNotShownWhatItWouldReset(t *testing.T) {
	b := newBenchFor(t, echoBackend(t))
	isn := b.halfOpen(port)
	for name, packet := range map[string][]byte{
		"an ACK that does not fit": in(port, flagACK, clientISN+1, isn+2, nil),
		"one of another flow":      in(port, flagACK, clientISN+1<<30, isn+1, []byte("data")),
		"a second SYN":             in(port, flagSYN, clientISN+777, 0, nil),
		"a SYN-ACK":                in(port, flagSYN|flagACK, clientISN, isn+1, nil),
	} {
		b.put1(packet)
		b.quiet(port, name)
	}
	b.put1(in(port, flagACK, clientISN+1, isn+1, nil))
	b.state(port, flowstate.Open)
	// A drainer does not answer what is outside its windows; inside, it does.
	b.disown()
	b.put1(in(port, flagACK, clientISN+1<<30, isn+1, []byte("data")))
	b.quiet(port, "data of another flow")
	b.put1(in(port, flagSYN, clientISN+777, 0, nil))
	b.quiet(port, "a SYN for another node")
	sent := len(b.sentTo(port))
	b.put1(in(port, flagACK|flagPSH, clientISN+1, isn+1, []byte("x")))
	b.until("the data is answered", func() bool { return len(b.sentTo(port)) > sent })
}

// A SYN for another node's bucket ends what netstack has of the tuple without a
// frame.
func TestNetstackForgetsInSilence(t *testing.T) {
	for name, begin := range map[string]func(b *bench){
		"half-open": func(b *bench) { b.halfOpen(port) },
		"TIME-WAIT": func(b *bench) { b.timeWait(port) },
	} {
		b := newBenchFor(t, echoBackend(t))
		begin(b)
		b.disown()
		b.put1(in(port, flagSYN, clientISN+100_000, 0, nil))
		if b.node.Counts()[ForgotFlow] != 1 {
			t.Errorf("%s: the SYN did not end the flow", name)
		}
		b.state(port, flowstate.None)
		b.quiet(port, name)
		// What comes after it is the owner's.
		b.put1(in(port, flagACK, clientISN+100_001, 1, []byte("data")))
		b.quiet(port, name+", the next segment")
	}
}

// A deadline ends flows with a reset, a granted epoch without flows ends them
// with nothing at all.
func TestNetstackEndsAndForgetsFlows(t *testing.T) {
	everything := allBuckets()
	b := newBenchFor(t, echoBackend(t))
	isn := b.open(port)
	b.disown()
	if got := b.node.EndFlows(b.now, 0, &everything); got != 1 {
		t.Errorf("%d flows ended", got)
	}
	b.until("the flow is gone", func() bool { return b.stack.FlowCount() == 0 })
	all := b.sentTo(port)
	if last := all[len(all)-1]; last.flags&flagRST == 0 || last.seq != isn+1 {
		t.Errorf("the last segment of a flow that was ended is %+v", last)
	}

	b = newBenchFor(t, echoBackend(t))
	b.open(port)
	if got := b.node.ForgetFlows(b.now, 0, &everything); got != 1 {
		t.Errorf("%d flows forgotten", got)
	}
	b.quiet(port, "a forgotten flow")
	b.until("the flow is gone", func() bool { return b.stack.FlowCount() == 0 })
	b.quiet(port, "a forgotten flow that is gone")
}

// More SYNs than the listener remembers are answered with cookies. The gate
// tells these from half-open flows, and takes their ACKs.
func TestNetstackSYNCookies(t *testing.T) {
	b := newBenchFor(t, echoBackend(t))
	// Netstack remembers one less than its backlog.
	const first, remembered = 10_000, stack.ListenBacklog - 1
	for i := range remembered {
		b.put(noStamp, frame(etherTypeIPv4, in(uint16(first+i), flagSYN, clientISN, 0, nil)))
		if i%64 == 63 {
			b.settle(i)
		}
	}
	b.settle(remembered)
	const late = first + 2*stack.ListenBacklog
	if b.node.cookiesOut(b.now, 0) {
		t.Fatal("cookies are out already")
	}
	b.put1(in(late, flagSYN, clientISN, 0, nil))
	b.until("the cookie is sent", func() bool { return len(b.sentTo(late)) > 0 })
	flow := toFlow(late)
	if b.stack.State(&flow) != flowstate.None || !b.node.cookiesOut(b.now, 0) {
		t.Fatal("the SYN-ACK is not known for a cookie")
	}
	isn := b.sentTo(late)[0].seq
	// Two that do not fit draw resets, which leave where nobody else can hold the
	// flow, and stay where somebody can.
	b.put1(in(late, flagACK, clientISN+1, isn+100_000, nil))
	b.until("the bad ACK is reset", func() bool { return len(b.sentTo(late)) == 2 && b.sentTo(late)[1].flags == flagRST })
	o := *b.ownership
	o.Generation++
	o.Services = []Rows{{Accept: allBuckets(), Shared: allBuckets()}}
	b.ownership = &o
	b.put1(in(late, flagACK, clientISN+1, isn+200_000, nil))
	b.until("netstack has answered", func() bool { return b.node.Counts()[UnearnedReset] > 0 })
	b.quiet(late, "a bad ACK of a shared bucket")
	// A drainer takes the good one.
	b.disown()
	b.put1(in(late, flagACK, clientISN+1, isn+1, nil))
	b.state(late, flowstate.Open)
	b.put1(in(late, flagACK|flagPSH, clientISN+1, isn+1, []byte("x")))
	b.until("the data is answered", func() bool { return len(b.sentTo(late)) > 3 })
	if c := b.node.Counts(); c[DeliverStray] != 3 || c[DeliverHeld] != 1 {
		t.Errorf("%d strays and %d segments of held flows were let in, want 3 and 1", c[DeliverStray], c[DeliverHeld])
	}
}

// A SYN-ACK that netstack repeats after the bucket has gone stays, also when it has come
// back.
func TestNetstackRepeatsNoSYNACKOfAnothersBucket(t *testing.T) {
	for name, then := range map[string]func(b *bench){"gone": func(*bench) {}, "back": (*bench).reown} {
		b := newBenchFor(t, echoBackend(t))
		b.halfOpen(port)
		b.disown()
		then(b)
		// Netstack repeats it after a second, by its own clock.
		deadline := time.Now().Add(5 * time.Second)
		for b.node.Counts()[LateSYNACK] == 0 && len(b.sentTo(port)) == 1 {
			if time.Now().After(deadline) {
				t.Fatalf("%s: netstack does not repeat its SYN-ACK", name)
			}
			if _, err := b.loop.poller.Wait(b.loop.timeout(b.now)); err != nil {
				t.Fatal(err)
			}
			b.turn()
		}
		if got := b.sentTo(port); len(got) != 1 {
			t.Errorf("%s: sent %+v", name, got)
		}
	}
}

// Netstack lets go of a half-open flow at once, and answers the SYN that took its place.
func TestNetstackAnswersATupleUsedAgain(t *testing.T) {
	b := newBenchFor(t, echoBackend(t))
	b.halfOpen(port)
	b.disown()
	b.reown()
	b.now += time.Millisecond
	b.put1(in(port, flagSYN, clientISN+777, 0, nil))
	b.until("the SYN-ACK is sent", func() bool { return len(b.sentTo(port)) > 1 })
	if got := b.sentTo(port)[1]; got.flags != flagSYN|flagACK || got.ack != clientISN+778 {
		t.Errorf("sent %+v", got)
	}
}

// patient is a client that asks again after 1, 3, 7 and 15 seconds, as netstack repeats its
// answers, and a little later than that. The right to answer it is away for a while, and
// all that was sent before is lost. It returns when the client is answered.
func patient(t *testing.T, gone, back time.Duration) time.Duration {
	t.Helper()
	clock := &virtual.Clock{}
	b := newBenchAt(t, echoBackend(t), func(c *stack.Config) { c.Clock = clock })
	b.halfOpen(port)
	turns := func() {
		for range 20 {
			b.turn()
		}
	}
	const step = 100 * time.Millisecond
	start, lost := b.now, 0
	asks := map[time.Duration]bool{time.Second: true, 3 * time.Second: true, 7 * time.Second: true, 15 * time.Second: true}
	for at := step; at < 40*time.Second; at += step {
		clock.Advance(at, runtime.Gosched)
		b.now = start + at
		switch at {
		case gone:
			b.disown()
		case back:
			b.reown()
		}
		turns()
		if asks[at] && (at < gone || at > back) {
			b.now += 10 * time.Millisecond
			b.put1(in(port, flagSYN, clientISN, 0, nil))
			turns()
		}
		if at <= back {
			lost = len(b.sentTo(port))
			continue
		}
		if got := b.sentTo(port)[lost:]; len(got) > 0 {
			if got[0].flags != flagSYN|flagACK || got[0].ack != clientISN+1 || got[0].seq != b.sentTo(port)[0].seq {
				t.Errorf("sent %+v", got)
			}
			return at
		}
	}
	t.Fatal("the client was not answered")
	return 0
}

// A client whose node lost the right and has it back is answered when it asks.
func TestNetstackAnswersWhoAsksOnceTheRightIsBack(t *testing.T) {
	for _, c := range []struct{ gone, back, want time.Duration }{
		{300 * time.Millisecond, 600 * time.Millisecond, time.Second},
		{900 * time.Millisecond, 1100 * time.Millisecond, 3 * time.Second},
		{1300 * time.Millisecond, 1600 * time.Millisecond, 3 * time.Second},
		{8 * time.Second, 9 * time.Second, 15 * time.Second},
	} {
		if got := patient(t, c.gone, c.back); got != c.want {
			t.Errorf("away from %v to %v: answered after %v, want %v", c.gone, c.back, got, c.want)
		}
	}
}

// A SYN-ACK is judged when it is made, also where so much waits to leave that other packets
// are dropped: its repeat would be taken for the first one, when the right has gone and come
// back and another node may have answered.
func TestNetstackDropsNoSYNACK(t *testing.T) {
	t.Cleanup(virtual.Take())
	clock, settler := &virtual.Clock{}, virtual.NewSettler()
	b := newBenchAt(t, echoBackend(t), func(c *stack.Config) { c.Clock = clock })
	b.halfOpen(port + 1) // where the client is, is known
	start := b.now
	for b.stack.Counters().EgressDropped == 0 {
		for range 64 {
			b.stack.Deliver(in(port+2, flagACK, clientISN, ownISN, nil))
		}
		settler.Settle()
	}
	// The gate has let it in.
	b.stack.Deliver(in(port, flagSYN, clientISN, 0, nil))
	settler.Settle()
	b.until("the SYN-ACK is sent", func() bool { return len(b.sentTo(port)) == 1 })
	b.disown()
	b.now = start + 500*time.Millisecond
	b.reown()
	clock.Advance(3*time.Second, settler.Settle)
	b.now = start + 3*time.Second
	b.quiet(port, "its repeat")
}
