package node

import (
	"net/netip"
	"testing"
	"time"

	"onevoice/node/model"
)

// chaosClient opens a flow, sends some data, ends it, and begins again from the
// same port.
type chaosClient struct {
	c    *chaos
	addr netip.AddrPort
	// try counts flows, so that timers of earlier ones do nothing.
	try   int
	state clientState
	// isn and peer are the two first numbers; next is what we send next, una what
	// is not acknowledged yet, expect what we expect.
	isn, peer, next, una, expect uint32
	data                         int
	began, challenged            time.Duration
	done, reset, gaveUp          int
}

type clientState uint8

const (
	clientConnecting clientState = iota
	clientOpen
	clientClosing
	clientIdle
)

// clientPatience is after what a client gives up.
const clientPatience = 8 * time.Second

func (cl *chaosClient) begin() {
	cl.try++
	cl.state = clientConnecting
	// A later SYN of the same port has a greater number (RFC 6528).
	cl.isn += 1_000_000 + cl.c.rand.Uint32N(1_000_000)
	cl.next, cl.una = cl.isn, cl.isn
	cl.data = 1 + cl.c.rand.IntN(20)
	cl.began = cl.c.now
	cl.connect(cl.try, time.Second)
}

func (cl *chaosClient) send(flags uint8, seq uint32, payload int) {
	cl.c.fromClient(&model.Segment{
		Src: cl.addr, Dst: netip.AddrPortFrom(vipAddr, 22), Flags: flags, Seq: seq, Ack: cl.expect, Payload: payload,
	})
}

// connect sends the SYN, and again until it is answered.
func (cl *chaosClient) connect(try int, again time.Duration) {
	if cl.try != try || cl.state != clientConnecting {
		return
	}
	if cl.tired() {
		return
	}
	cl.expect = 0
	cl.send(flagSYN, cl.isn, 0)
	cl.c.after(again, func() { cl.connect(try, 2*again) })
}

// tired begins anew when nothing came of a flow for long.
func (cl *chaosClient) tired() bool {
	if cl.c.now-cl.began < clientPatience {
		return false
	}
	if cl.state != clientConnecting {
		cl.send(flagRST, cl.next, 0)
	}
	cl.gaveUp++
	cl.end()
	return true
}

func (cl *chaosClient) end() {
	cl.state = clientIdle
	cl.c.after(cl.c.span(0, 800*time.Millisecond), cl.begin)
}

// step sends what is due: data one by one, and a FIN at the end, each until it
// is acknowledged.
func (cl *chaosClient) step(try int) {
	if cl.try != try || cl.state == clientConnecting || cl.state == clientIdle || cl.tired() {
		return
	}
	switch {
	case cl.una != cl.next:
		cl.transmit()
	case cl.data > 0:
		cl.data--
		cl.next += 100
		cl.transmit()
	case cl.state == clientOpen:
		cl.state = clientClosing
		cl.next++
		cl.transmit()
	}
	cl.c.after(cl.c.span(50*time.Millisecond, 300*time.Millisecond), func() { cl.step(try) })
}

func (cl *chaosClient) transmit() {
	if cl.state == clientClosing {
		cl.send(flagFIN|flagACK, cl.una, 0)
		return
	}
	cl.send(flagACK, cl.una, int(cl.next-cl.una))
}

func (cl *chaosClient) receive(from int, s model.Segment) {
	switch {
	case cl.state == clientIdle:
		return
	case cl.state == clientConnecting:
		cl.connecting(from, &s)
	case s.Flags&flagRST != 0:
		if s.Seq == cl.expect {
			cl.wasReset(from)
		}
	case s.Flags&flagSYN != 0 || s.Seq != cl.expect:
		cl.challenge()
	default:
		cl.established(&s)
	}
}

// challenge answers what is out of order, at a bounded rate: two that disagree
// would go on for ever (RFC 5961 §7).
func (cl *chaosClient) challenge() {
	if cl.c.now-cl.challenged >= model.ChallengeInterval {
		cl.challenged = cl.c.now
		cl.send(flagACK, cl.next, 0)
	}
}

// connecting handles SYN-SENT, RFC 9293 §3.10.7.3.
func (cl *chaosClient) connecting(from int, s *model.Segment) {
	switch {
	case s.Flags&flagACK != 0 && s.Ack != cl.isn+1:
		if s.Flags&flagRST == 0 {
			cl.send(flagRST, s.Ack, 0)
		}
	case s.Flags&flagRST != 0 && s.Flags&flagACK != 0:
		cl.c.fail("host %d resets the SYN of %v", from, cl.addr)
	case s.Flags&(flagSYN|flagACK) == flagSYN|flagACK:
		cl.state = clientOpen
		cl.peer, cl.expect = s.Seq, s.Seq+1
		cl.una, cl.next = cl.isn+1, cl.isn+1
		cl.began = cl.c.now
		cl.send(flagACK, cl.next, 0)
		cl.step(cl.try)
	}
}

func (cl *chaosClient) established(s *model.Segment) {
	if s.Ack-cl.una <= cl.next-cl.una && s.Ack != cl.una {
		cl.una = s.Ack
		cl.began = cl.c.now
	}
	if s.Flags&flagFIN != 0 && cl.state == clientClosing {
		cl.expect++
		cl.send(flagACK, cl.next, 0)
		cl.done++
		cl.end()
	}
}

// wasReset judges a reset that the client has to obey: nobody may serve the
// flow.
func (cl *chaosClient) wasReset(by int) {
	i, alive := cl.c.living(cl)
	if own := alive && i == by && cl.c.hosts[by].tcp.Backlog == 1; own {
		// What overtakes the ACK of a SYN cookie is a stray, and its reset meets
		// the flow that the ACK then opens; any TCP with cookies does so.
		alive = false
	}
	if alive {
		cl.c.fail("host %d resets the flow of %v that host %d serves", by, cl.addr, i)
	}
	cl.reset++
	cl.end()
}

// The gates of three hosts under chaos: no flow that a host serves is reset, no
// SYN is answered by two, and when the chaos is over every client is served.
func TestGatesUnderChaos(t *testing.T) {
	var counts [VerdictCount]uint64
	done, reset, gaveUp := 0, 0, 0
	seeds := uint64(8)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		c := newChaos(t, seed, 3, 24)
		c.run(time.Hour + 60*time.Second)
		c.faulty = false
		c.run(c.now + 2*clientPatience)
		before := make([]int, len(c.clients))
		for i, cl := range c.clients {
			before[i] = cl.done
		}
		c.run(c.now + 2*clientPatience)
		for i, cl := range c.clients {
			if cl.done == before[i] && !c.failed {
				c.fail("%v is not served when the chaos is over: %d done, %d resets, %d given up", cl.addr, cl.done, cl.reset, cl.gaveUp)
			}
			done, reset, gaveUp = done+cl.done, reset+cl.reset, gaveUp+cl.gaveUp
		}
		for _, h := range c.hosts {
			for v, n := range h.Counts() {
				counts[v] += n
			}
		}
		if c.failed {
			break
		}
	}
	t.Logf("%d flows done, %d reset, %d given up", done, reset, gaveUp)
	for v := range VerdictCount {
		if counts[v] > 0 {
			t.Logf("%v: %d", v, counts[v])
		}
	}
	// The chaos has met every corner of the gate.
	for _, v := range []Verdict{DeliverSYN, DeliverHeld, DeliverStray, StrayAnswered, StrayShared, StrayListed, NotOwner, ForgotFlow,
		StrayInGrace, NoLease, BadHandshakeACK, OutsideWindows, LateSYNACK, UnearnedReset, Muted} {
		if counts[v] == 0 && !testing.Short() {
			t.Errorf("%v has not come up", v)
		}
	}
}
