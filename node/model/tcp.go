// Package model is a TCP for simulations, with netstack's manners: it resets
// whatever it does not know, challenges what is out of its windows, and repeats
// its SYN-ACKs. It stands where netstack stands, behind the gate of package node,
// whose Flows it is. Its service takes what clients send and says nothing.
//
// It is deterministic: time is an argument, and initial sequence numbers come
// from a function.
package model

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
)

// ChallengeInterval is the least time between two acknowledgments of a flow that
// answer what is out of its windows, as netstack has it (RFC 5961 §7).
const ChallengeInterval = 500 * time.Millisecond

// Times and bounds of the model, as stack sets them.
const (
	timeWait      = 5 * time.Second
	firstRepeat   = time.Second
	lastRepeat    = 120 * time.Second
	cookieTime    = 128 * time.Second
	receiveWindow = 65_535
)

// TCP is a TCP with listeners on every port that the gate lets through.
type TCP struct {
	// Backlog bounds the half-open flows; beyond it SYNs are answered with
	// cookies.
	Backlog int
	// Down: the backend takes no connection.
	Down bool

	isn   func() uint32
	flows map[hashing.Flow]*conn
	half  int
	// cookies are the SYN cookies that have been sent. A real TCP computes them.
	cookies map[hashing.Flow]handshake
	out     [][]byte
	now     time.Duration
}

// handshake is the numbers of a SYN and its SYN-ACK.
type handshake struct {
	client, own uint32
	at          time.Duration
}

type conn struct {
	handshake
	state flowstate.State
	// next is what is expected next, sent what is sent next.
	next, sent uint32
	// finished: our FIN is out.
	finished bool
	// repeatAt is when the SYN-ACK is repeated, after repeat; until is when
	// TIME-WAIT ends.
	repeatAt, repeat, until time.Duration
	challenged              time.Duration
}

// New makes a TCP whose initial sequence numbers come from isn.
func New(isn func() uint32) *TCP {
	return &TCP{Backlog: 4095, isn: isn, flows: map[hashing.Flow]*conn{}, cookies: map[hashing.Flow]handshake{}}
}

// State implements node.Flows.
func (t *TCP) State(f *hashing.Flow) flowstate.State {
	if c := t.flows[*f]; c != nil {
		return c.state
	}
	return flowstate.None
}

// Full implements node.Flows.
func (t *TCP) Full() bool { return false }

// Crowded implements node.Flows.
func (t *TCP) Crowded(netip.Addr) bool { return false }

// Up implements node.Flows.
func (t *TCP) Up(int) bool { return !t.Down }

// Forget implements node.Flows. Like netstack, the model emits a reset for what
// is not half-open.
func (t *TCP) Forget(f *hashing.Flow) { t.End(f) }

// End implements node.Flows.
func (t *TCP) End(f *hashing.Flow) {
	c := t.flows[*f]
	if c == nil {
		return
	}
	if c.state != flowstate.HalfOpen {
		t.send(f, flagRST|flagACK, c.sent, c.next)
	}
	t.remove(f, c)
}

// Finish makes the service end a flow: a FIN leaves, and TIME-WAIT follows the
// client's.
func (t *TCP) Finish(f *hashing.Flow) {
	if c := t.flows[*f]; c != nil && c.state == flowstate.Open && !c.finished {
		t.send(f, flagFIN|flagACK, c.sent, c.next)
		c.sent++
		c.finished = true
	}
}

// Numbers are the initial sequence numbers of a flow that the TCP has, the
// client's and its own.
func (t *TCP) Numbers(f *hashing.Flow) (client, own uint32, ok bool) {
	c := t.flows[*f]
	if c == nil {
		return 0, 0, false
	}
	return c.client, c.own, true
}

// Flows are the flows that the TCP has, in order.
func (t *TCP) Flows() []hashing.Flow {
	out := make([]hashing.Flow, 0, len(t.flows))
	for f := range t.flows {
		out = append(out, f)
	}
	slices.SortFunc(out, inOrder)
	return out
}

// inOrder is the order of flows in all that is told or sent.
func inOrder(a, b hashing.Flow) int {
	return cmp.Or(a.Src.Compare(b.Src), cmp.Compare(a.SrcPort, b.SrcPort), a.Dst.Compare(b.Dst), cmp.Compare(a.DstPort, b.DstPort))
}

// Take returns the IPv4 packets that the TCP has made since the last call.
func (t *TCP) Take() [][]byte {
	out := t.out
	t.out = nil
	return out
}

// Tick repeats SYN-ACKs and ends what has lived long enough.
func (t *TCP) Tick(now time.Duration) {
	t.now = now
	var repeat []hashing.Flow
	for f, c := range t.flows {
		switch {
		case c.state == flowstate.TimeWait && now >= c.until:
			t.remove(&f, c)
		case c.state == flowstate.HalfOpen && now >= c.repeatAt:
			repeat = append(repeat, f)
		}
	}
	slices.SortFunc(repeat, inOrder)
	for _, f := range repeat {
		c := t.flows[f]
		if c.repeat *= 2; c.repeat > lastRepeat {
			t.remove(&f, c)
			continue
		}
		c.repeatAt = now + c.repeat
		t.send(&f, flagSYN|flagACK, c.own, c.client+1)
	}
}

func (t *TCP) remove(f *hashing.Flow, c *conn) {
	if c.state == flowstate.HalfOpen {
		t.half--
	}
	delete(t.flows, *f)
}

// Deliver takes in an IPv4 packet with a TCP segment that the gate let through.
func (t *TCP) Deliver(now time.Duration, ip []byte) {
	t.now = now
	s := Parse(ip)
	f := hashing.Flow{Src: s.Src.Addr(), SrcPort: s.Src.Port(), Dst: s.Dst.Addr(), DstPort: s.Dst.Port(), Proto: protoTCP}
	c := t.flows[f]
	switch {
	case c == nil:
		t.listen(&f, &s)
	case c.state == flowstate.HalfOpen:
		t.handshake(&f, c, &s)
	case c.state == flowstate.TimeWait:
		t.timeWait(&f, c, &s)
	default:
		t.open(&f, c, &s)
	}
}

// listen handles a segment of an unknown flow.
func (t *TCP) listen(f *hashing.Flow, s *Segment) {
	switch {
	case s.Flags&flagRST != 0:
	case s.Flags&(flagSYN|flagACK) == flagSYN:
		t.answer(f, s)
	case s.Flags&flagSYN == 0 && t.cookie(f, s):
	case s.Flags&flagACK != 0:
		t.send(f, flagRST, s.Ack, 0)
	}
}

// answer answers a SYN, with a half-open flow or a cookie.
func (t *TCP) answer(f *hashing.Flow, s *Segment) {
	h := handshake{s.Seq, t.isn(), t.now}
	if t.half >= t.Backlog {
		if was, ok := t.cookies[*f]; ok && was.client == s.Seq {
			// A cookie is made of the SYN, so the same SYN has the same.
			h.own = was.own
		}
		t.cookies[*f] = h
	} else {
		t.half++
		t.flows[*f] = &conn{handshake: h, state: flowstate.HalfOpen, next: s.Seq + 1, sent: h.own + 1, repeat: firstRepeat, repeatAt: t.now + firstRepeat}
	}
	t.send(f, flagSYN|flagACK, h.own, s.Seq+1)
}

// challenge says where the flow stands, at a bounded rate.
func (t *TCP) challenge(f *hashing.Flow, c *conn) {
	if t.now-c.challenged >= ChallengeInterval {
		c.challenged = t.now
		t.send(f, flagACK, c.sent, c.next)
	}
}

// cookie opens a flow whose segment completes a SYN cookie.
func (t *TCP) cookie(f *hashing.Flow, s *Segment) bool {
	h, ok := t.cookies[*f]
	if !ok || s.Ack != h.own+1 || s.Seq != h.client+1 || t.now-h.at > cookieTime {
		return false
	}
	delete(t.cookies, *f)
	c := &conn{handshake: h, state: flowstate.Open, next: h.client + 1, sent: h.own + 1}
	t.flows[*f] = c
	t.open(f, c, s)
	return true
}

// handshake handles a segment of a half-open flow as netstack's does.
func (t *TCP) handshake(f *hashing.Flow, c *conn, s *Segment) {
	inside := s.Seq-c.next < receiveWindow
	if h, ok := t.cookies[*f]; ok && s.Flags&flagACK != 0 && s.Ack == h.own+1 && s.Ack != c.sent && h.client == c.client {
		// It completes a cookie that was sent before the flow found room.
		c.own, c.sent = h.own, h.own+1
	}
	switch {
	case s.Flags&flagRST != 0:
		if inside {
			t.remove(f, c)
		}
	case s.Flags&flagACK != 0 && s.Ack != c.sent:
		t.send(f, flagRST, s.Ack, 0)
	case !inside && s.Flags&flagSYN != 0 && s.Seq != c.client:
		t.send(f, flagRST|flagACK, 0, s.Seq+1)
		t.remove(f, c)
	case !inside:
		t.challenge(f, c)
	case s.Flags&flagSYN != 0:
		t.send(f, flagRST|flagACK, 0, s.Seq+1)
		t.remove(f, c)
	case s.Flags&flagACK != 0:
		t.half--
		c.state = flowstate.Open
		t.open(f, c, s)
	}
}

// open handles a segment of a flow whose handshake is complete.
func (t *TCP) open(f *hashing.Flow, c *conn, s *Segment) {
	switch {
	case s.Flags&flagRST != 0:
		if s.Seq == c.next {
			t.remove(f, c)
		}
		return
	case s.Flags&flagSYN != 0 || s.Seq-c.next+receiveWindow >= 2*receiveWindow || s.Ack-c.sent-1 < 1<<31:
		// Out of its windows, or acknowledging what was never sent.
		t.challenge(f, c)
		return
	case s.Seq != c.next && c.state == flowstate.Closing && s.Flags&flagFIN != 0:
		t.send(f, flagFIN|flagACK, c.sent-1, c.next)
		return
	case s.Seq != c.next:
		t.send(f, flagACK, c.sent, c.next)
		return
	}
	c.next += uint32(s.Payload)
	if s.Flags&flagFIN != 0 {
		c.next++
		t.finish(f, c)
		return
	}
	if s.Payload > 0 {
		t.send(f, flagACK, c.sent, c.next)
	}
	if c.state == flowstate.Closing && s.Ack == c.sent {
		t.remove(f, c)
	}
}

// finish answers the client's FIN: with ours, or with the acknowledgment that
// ends the flow.
func (t *TCP) finish(f *hashing.Flow, c *conn) {
	if c.finished {
		t.send(f, flagACK, c.sent, c.next)
		c.state, c.until = flowstate.TimeWait, t.now+timeWait
		return
	}
	t.send(f, flagFIN|flagACK, c.sent, c.next)
	c.sent++
	c.finished = true
	c.state = flowstate.Closing
}

// timeWait handles a segment of a flow in TIME-WAIT.
func (t *TCP) timeWait(f *hashing.Flow, c *conn, s *Segment) {
	switch {
	case s.Flags&flagRST != 0:
	case s.Flags&flagSYN != 0 && int32(s.Seq-c.next) > 0:
		t.remove(f, c)
		t.listen(f, s)
	case s.Flags&flagFIN != 0 || s.Seq != c.next || s.Payload > 0:
		t.send(f, flagACK, c.sent, c.next)
	}
}

// send makes a segment for the client.
func (t *TCP) send(f *hashing.Flow, flags uint8, seq, ack uint32) {
	t.out = append(t.out, Packet(&Segment{
		Src: netip.AddrPortFrom(f.Dst, f.DstPort), Dst: netip.AddrPortFrom(f.Src, f.SrcPort), Flags: flags, Seq: seq, Ack: ack,
	}))
}
