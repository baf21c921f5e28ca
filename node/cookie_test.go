package node

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"onevoice/admission"
	"onevoice/hashing"
	"onevoice/internal/flowstate"
	"onevoice/link"
	"onevoice/link/ingress"
	"onevoice/stack"
)

// cookies is a TCP that answers every SYN with a cookie.
type cookies struct{ made, told int }

func (c *cookies) AppendCookie(_ time.Duration, dst []byte, _ int, syn []byte) ([]byte, bool) {
	c.made++
	port, number := binary.BigEndian.Uint16(syn[20:]), binary.BigEndian.Uint32(syn[24:])
	return append(dst, out(port, flagSYN|flagACK, ownISN, number+1, nil)...), true
}

func (c *cookies) Answered(time.Duration, int, []byte, bool)        { c.told++ }
func (c *cookies) Made(int, []byte) bool                            { return true }
func (c *cookies) KernelCookies(int) (out ingress.Cookies, ok bool) { return out, false }
func (c *cookies) Since() time.Duration                             { return 0 }
func (c *cookies) Sent(uint64)                                      {}

// judgeAnswered is judge before a TCP whose cookies are known: of a SYN that is let in
// and begins a flow, it is answered; all else is judged as ever.
func judgeAnswered(t *testing.T, s situation, name string, want Verdict) {
	t.Helper()
	if want == DeliverSYN && s.state == flowstate.None {
		want = AnsweredSYN
	}
	n, _ := s.make(t)
	n.answers = &cookies{}
	h := n.Handle(n.last, frame(etherTypeIPv4, segments()[name]))
	if h.Verdict != want || want == AnsweredSYN && (h.Packet != nil || h.Reply == nil) {
		t.Errorf("%+v, %s: %v before a TCP whose cookies are known, want %v", s, name, h.Verdict, want)
	}
}

// Who may begin nothing gets no cookie, and a SYN that is sent again counts once.
func TestCookiesAreForWhoeverIsAdmitted(t *testing.T) {
	n, flows := admitting(t, limited(admission.Limit{New: 1, Per: time.Minute}), Drop, Drop)
	c := &cookies{}
	n.answers = c
	for _, want := range []struct {
		number uint32
		Verdict
	}{{5, AnsweredSYN}, {5, AnsweredSYN}, {6, RateLimited}} {
		if v := handleLast(n, frame(etherTypeIPv4, syn(2000, want.number)).Data); v != want.Verdict {
			t.Errorf("SYN %d: %v, want %v", want.number, v, want.Verdict)
		}
	}
	other := frame(etherTypeIPv4, syn(2000, 5)).Data
	for v, so := range map[Verdict]func(){
		RefusedSYN: func() { flows.down = true }, FlowsFull: func() { flows.full = true }, SourceFull: func() { flows.crowded = asker },
		Stopping: n.Stop,
	} {
		was := *flows
		so()
		if got := handleLast(n, other); got != v {
			t.Errorf("%v, want %v", got, v)
		}
		*flows, n.stopping = was, false
	}
	if c.made != 2 {
		t.Errorf("%d cookies were made, want 2", c.made)
	}
	if known := n.Neighbours().Known; known != 0 {
		t.Errorf("%d neighbours are known by SYNs that may be forged", known)
	}
}

// A cookie belongs to the VIP that its SYN was for, under whose lease it leaves, and is
// looked for at its service when it comes back, for as long as one of netstack's.
func TestCookiesBelongToTheirVIP(t *testing.T) {
	n, _ := newNode6(t)
	n.answers = &cookies{}
	for vip, f := range [][2]*link.Frame{
		{frame(etherTypeIPv4, segments()["SYN"]), frame(etherTypeIPv4, segments()["ACK"])},
		{frame6(tcp6(asker6, 40000, 22, flagSYN, nil)), frame6(tcp6(asker6, 40000, 22, flagACK, nil))},
	} {
		if v := handleLast(n, f[1].Data); v != StrayAnswered {
			t.Errorf("VIP %d: before a cookie: %v", vip, v)
		}
		if h := n.Handle(n.last, f[0]); h.Verdict != AnsweredSYN || h.vip != vip {
			t.Errorf("VIP %d: %v under the lease of VIP %d", vip, h.Verdict, h.vip)
		}
		if v := handleLast(n, f[1].Data); v != DeliverStray {
			t.Errorf("VIP %d: a cookie that comes back: %v", vip, v)
		}
		if v := n.Handle(n.last+unprovenTime, f[1]).Verdict; v != StrayAnswered {
			t.Errorf("VIP %d: a cookie that comes back after a minute: %v", vip, v)
		}
	}
}

// A tuple that was forgotten a moment ago is the TCP's, for what it says is kept back.
func TestCookiesAreNotForForgottenFlows(t *testing.T) {
	n, flows := situation{owned: true, state: flowstate.Open}.make(t)
	n.answers = &cookies{}
	all := allBuckets()
	if n.ForgetFlows(n.last, 0, &all) != 1 || len(flows.forgotten) != 1 {
		t.Fatal("nothing was forgotten")
	}
	if v := handleLast(n, frame(etherTypeIPv4, segments()["SYN"]).Data); v != DeliverSYN {
		t.Errorf("a SYN of a forgotten flow: %v", v)
	}
}

// overflow has netstack answer with a cookie: it remembers as many half-open flows as
// it may, from this port on. The cookie goes to the port that is returned.
func (b *bench) overflow(first uint16) uint16 {
	b.t.Helper()
	const remembered = stack.ListenBacklog - 1
	for i := range remembered {
		b.put(noStamp, frame(etherTypeIPv4, in(first+uint16(i), flagSYN, clientISN, 0, nil)))
		if i%64 == 63 {
			b.settle(i)
		}
	}
	b.settle(remembered)
	late := first + remembered
	b.put1(in(late, flagSYN, clientISN, 0, nil))
	b.until("the cookie is sent", func() bool { return len(b.sentTo(late)) > 0 })
	return late
}

// A half-open flow that ends before its SYN-ACK could leave, by a second SYN of the same
// turn, leaves no cookie behind: nothing waits for one (OWNERSHIP.md R14, R17).
func TestASYNACKOfAnEndedFlowIsNoCookie(t *testing.T) {
	b := newBenchFor(t, echoBackend(t))
	b.turn()
	const port = 40_000
	flow := toFlow(port)
	for i, want := range []flowstate.State{flowstate.HalfOpen, flowstate.None} {
		h := b.node.Handle(b.now, frame(etherTypeIPv4, in(port, flagSYN, clientISN+uint32(i), 0, nil)))
		if h.Verdict != DeliverSYN {
			t.Fatal(h.Verdict)
		}
		b.stack.Gather(h.Packet)
		b.stack.Flush()
		for deadline := time.Now().Add(5 * time.Second); b.stack.State(&flow) != want; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("netstack has it %v", b.stack.State(&flow))
			}
		}
	}
	b.turn()
	for _, s := range b.sentTo(port) {
		if s.flags == flagSYN|flagACK {
			t.Errorf("a SYN-ACK of nobody's left: %+v", s)
		}
	}
	buckets := allBuckets()
	if held := b.node.Held(b.now, 0, &buckets); len(held) != 0 || b.node.cookiesOut(b.now, 0) {
		t.Errorf("a cookie may come back: %+v", held)
	}
}

// A flood goes past netstack once that has answered with a cookie. Each SYN gets one
// SYN-ACK, and when it comes again the same; who means it is let in.
func TestNetstackIsSparedAFlood(t *testing.T) {
	b := newBenchFor(t, echoBackend(t))
	last := b.overflow(10_000)
	before := b.node.Counts()
	const flood = 500
	answers := map[string]int{}
	for range 2 {
		for i := range flood {
			sent := len(b.device.sent)
			b.put1(in(last+1+uint16(i), flagSYN, clientISN, 0, nil))
			if len(b.device.sent) == sent {
				t.Fatal("a SYN is not answered within its turn")
			}
			answers[string(b.device.sent[sent])]++
		}
	}
	for answer, times := range answers {
		if times != 2 {
			t.Fatalf("an answer was given %d times to a SYN that was sent twice: %x", times, answer)
		}
	}
	c := b.node.Counts()
	if answered, shown := c[AnsweredSYN]-before[AnsweredSYN], c[DeliverSYN]-before[DeliverSYN]; answered != 2*flood || shown != 0 {
		t.Errorf("%d SYNs of the flood were answered before netstack, and %d by it, want %d and 0", answered, shown, 2*flood)
	}
	means := last + flood
	to := b.sentTo(means)[0]
	b.put1(in(means, flagACK, clientISN+1, to.seq+1, nil))
	b.state(means, flowstate.Open)
	b.put1(in(means, flagACK|flagPSH, clientISN+1, to.seq+1, []byte("x")))
	b.until("the data is answered", func() bool { return len(b.sentTo(means)) > 2 })
	// A client that has a connection is challenged, and gets no cookie.
	b.put1(in(means, flagSYN, clientISN+50_000, 0, nil))
	if got := b.node.Counts()[AnsweredSYN]; got != c[AnsweredSYN] {
		t.Error("a SYN into an open flow got a cookie")
	}
	// Netstack is asked again in time.
	b.now += 50 * time.Millisecond
	b.put1(in(last+2*flood, flagSYN, clientISN, 0, nil))
	if got := b.node.Counts(); got[DeliverSYN] != c[DeliverSYN]+1 || got[AnsweredSYN] != c[AnsweredSYN] {
		t.Error("netstack is not asked again")
	}
}

// R10: a cookie that was made before netstack leaves under the lease only.
func TestR10CookiesLeaveOnlyUnderTheLease(t *testing.T) {
	b := newBenchFor(t, echoBackend(t))
	last := b.overflow(10_000)
	sent, clock, reads := len(b.device.sent), b.loop.clock, 0
	b.lease.end = b.now + time.Millisecond
	b.loop.clock = func() time.Duration {
		if reads++; reads > 1 {
			b.now = b.lease.end
		}
		return clock()
	}
	b.put1(in(last+1, flagSYN, clientISN, 0, nil))
	if b.node.Counts()[AnsweredSYN] != 1 || b.loop.Stats().LateReplies != 1 || len(b.device.sent) != sent {
		t.Errorf("%d SYNs answered, %d answers late, %d frames left after the lease",
			b.node.Counts()[AnsweredSYN], b.loop.Stats().LateReplies, len(b.device.sent)-sent)
	}
}

// R12, R17: a cookie that was made before netstack makes this node a drainer of its
// bucket for a minute, as netstack's does.
func TestR17CookiesBeforeNetstack(t *testing.T) {
	b := newBenchFor(t, echoBackend(t))
	last := b.overflow(10_000)
	// Nothing else is in this client's bucket.
	client := asker.Next()
	b.put1(ofClient(client, in(last+1, flagSYN, clientISN, 0, nil)))
	if b.node.Counts()[AnsweredSYN] != 1 {
		t.Fatal("the SYN was not answered before netstack")
	}
	bucket := b.node.bucketOf(0, &hashing.Flow{Src: client, Dst: vipAddr, SrcPort: last + 1, DstPort: 22, Proto: protoTCP})
	b.disown()
	everything := allBuckets()
	unproven := func() bool {
		return slices.ContainsFunc(b.node.Held(b.now, 0, &everything), func(h Held) bool { return h.Bucket == bucket && h.Unproven && h.Overflow })
	}
	b.now += unprovenTime - 1
	if !unproven() {
		t.Error("a node whose cookie may come back is no drainer")
	}
	b.now++
	if unproven() {
		t.Error("a node is a drainer for a cookie that is a minute old")
	}
}

// ofClient is a packet of another client.
func ofClient(client netip.Addr, packet []byte) []byte {
	copy(packet[12:], client.AsSlice())
	fixIP(packet)
	fixTransport(packet)
	return packet
}
