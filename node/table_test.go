package node

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"onevoice/internal/flowstate"
)

// tickFor turns the node for a while, as a loop does.
func tickFor(n *Node, d time.Duration) {
	for end := n.last + d; n.last < end; {
		n.Tick(n.last + MaxIdle)
	}
}

// A half-open flow is forgotten a minute after its SYN-ACK, in silence, so that
// a drainer knows when none can come to life any more.
func TestR17HalfOpenFlowsEndAfterAMinute(t *testing.T) {
	n, flows := situation{state: flowstate.HalfOpen, owned: true}.make(t)
	tickFor(n, unprovenTime-2*sweepTime)
	if len(flows.forgotten) != 0 {
		t.Fatal("it is forgotten too early")
	}
	for range 4 * sweepTime / MaxIdle {
		if n.Tick(n.last + MaxIdle); len(flows.forgotten) > 0 {
			break
		}
	}
	if len(flows.forgotten) != 1 {
		t.Fatal("it is not forgotten")
	}
	if v := n.MayLeave(n.last, out(port, flagSYN|flagACK, ownISN, clientISN+1, nil)); v != Muted {
		t.Errorf("its SYN-ACK: %v", v)
	}
	tickFor(n, 4*sweepTime)
	if len(n.table.order) != 0 || len(n.table.flows) != 0 {
		t.Errorf("%d flows are left in the table", len(n.table.order))
	}
}

// Flows that have ended leave the table within a few seconds, whether or not
// another segment comes.
func TestTableForgetsWhatHasEnded(t *testing.T) {
	n, flows := newNode(t)
	n.Tick(time.Hour)
	const held = 1000
	for i := range held {
		hold(t, n, flows, uint16(2000+i), flowstate.Open)
	}
	for i := range held {
		if i%10 != 0 {
			delete(flows.states, toFlow(uint16(2000+i)))
		}
	}
	tickFor(n, 8*sweepTime)
	if got := len(n.table.order); got != held/10 || len(n.table.flows) != got {
		t.Errorf("%d flows are left in the table, want %d", got, held/10)
	}
	for i, e := range n.table.order {
		if e.at != i || n.table.find(&e.flow) != e {
			t.Fatalf("place %d has the flow of place %d", i, e.at)
		}
	}
}

// A table that is full lets no SYN in and no SYN-ACK out.
func TestTableIsBounded(t *testing.T) {
	n, flows := newNode(t)
	n.Tick(time.Hour)
	n.table.order = make([]*tracked, MaxTracked-1, MaxTracked)
	hold(t, n, flows, port, flowstate.HalfOpen)
	if v := handleLast(n, synFrom(port+1).Data); v != FlowsFull {
		t.Errorf("a SYN: %v", v)
	}
	flows.states[toFlow(port+1)] = flowstate.HalfOpen
	if v := n.MayLeave(n.last, out(port+1, flagSYN|flagACK, ownISN, clientISN+1, nil)); v != FlowsFull {
		t.Errorf("a SYN-ACK: %v", v)
	}
	n.cookies[0] = n.last
	flows.states[toFlow(port+2)] = flowstate.Open
	if v := handleLast(n, frame(etherTypeIPv4, in(port+2, flagACK, 1, 1, nil)).Data); v != DeliverStray {
		t.Errorf("a flow that began with a cookie: %v", v)
	}
	if len(n.table.order) != MaxTracked {
		t.Errorf("%d flows in the table", len(n.table.order))
	}
}

// The windows of a flow follow what we send, over the end of the numbers, and
// with the scale that our SYN-ACK offered.
func TestWindowsFollowWhatWeSend(t *testing.T) {
	n, flows := newNode(t)
	n.Tick(time.Hour)
	flows.states[toFlow(port)] = flowstate.HalfOpen
	synack := out(port, flagSYN|flagACK, ownISN, clientISN+1, nil)
	synack = withOptions(synack, []byte{1, 3, 3, 4}) // a shift of 4
	if v := n.MayLeave(n.last, synack); v != Undecided {
		t.Fatal(v)
	}
	flows.states[toFlow(port)] = flowstate.Open
	const data = 1000
	for i := range uint32(5) {
		seq := uint32(ownISN) + 1 + i*data
		if v := n.MayLeave(n.last, out(port, flagACK, seq, clientISN+1+i*data, make([]byte, data))); v != Undecided {
			t.Fatal(v)
		}
	}
	own(t, n, Bitmap{}, Forever)
	expected := uint32(clientISN + 1 + 4*data)
	sent := uint32(ownISN)
	sent++ // the SYN; the data goes over the end of the numbers
	for _, c := range []struct {
		name     string
		seq, ack uint32
		want     Verdict
	}{
		{"next", expected, sent + 5*data, DeliverHeld},
		{"at the end of the scaled window", expected + 0xffff<<4, sent + 5*data, DeliverHeld},
		{"behind it", expected + 0xffff<<4 + 1, sent + 5*data, OutsideWindows},
		{"one window old", expected - 0xffff<<4, sent, DeliverHeld},
		{"older", expected - 0xffff<<4 - 1, sent, OutsideWindows},
		{"acknowledges what was never sent", expected, sent + 5*data + 1, OutsideWindows},
		{"an old acknowledgment", expected, sent + 5*data - maxInFlight, DeliverHeld},
		{"too old", expected, sent + 5*data - maxInFlight - 1, OutsideWindows},
	} {
		if got := handleLast(n, frame(etherTypeIPv4, in(port, flagACK, c.seq, c.ack, nil)).Data); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// withOptions puts options between the header and the payload of a segment
// without options.
func withOptions(b, options []byte) []byte {
	out := append(append(append([]byte{}, b[:40]...), options...), b[40:]...)
	out[3] += uint8(len(options))
	out[32] += uint8(len(options)/4) << 4
	fixIP(out)
	fixTransport(out)
	return out
}

// What is no TCP segment of a service is not MayLeave's to hold back, and no
// damage in it is more than that.
// While there is no room for others a half-open flow is forgotten in silence after seven
// seconds, so that there is: a flood's are not kept for a minute after it. This node stays
// its bucket's drainer for a minute more (OWNERSHIP.md R17).
func TestHalfOpenFlowsMakeRoom(t *testing.T) {
	for name, c := range map[string]struct {
		cookies, kernel bool
		at              time.Duration
		ended           bool
	}{
		"a moment before":           {true, false, crowdedTime - 2*sweepTime, false},
		"with cookies":              {true, false, crowdedTime + 2*sweepTime, true},
		"while the kernel has them": {true, true, crowdedTime + 2*sweepTime, false},
		"with room":                 {false, false, crowdedTime + 2*sweepTime, false},
	} {
		t.Run(name, func(t *testing.T) {
			n, flows := situation{state: flowstate.HalfOpen, owned: true}.make(t)
			begun := n.last
			n.kernel.any = c.kernel
			for n.last < begun+c.at {
				if c.cookies {
					n.cookies[0] = n.last
				}
				n.Tick(n.last + MaxIdle)
			}
			if (len(flows.forgotten) > 0) != c.ended {
				t.Errorf("%d flows are forgotten", len(flows.forgotten))
			}
			n.cookies[0] = never
			if buckets := n.Holding(n.last, 0); buckets == (Bitmap{}) {
				t.Error("this node is no drainer of what may still come to life")
			}
		})
	}
}

// Of a flow whose SYN-ACK agreed on time stamps, what has none is not its client's
// (RFC 7323 §3.2); a reset needs none.
func TestUnstampedSegments(t *testing.T) {
	stamps := []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}
	withOptions := func(b []byte) []byte {
		b = slices.Concat(b[:40], stamps, b[40:])
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		b[32] = 8 << 4
		fixIP(b)
		fixTransport(b)
		return b
	}
	n, flows := newNode(t)
	flows.states[toFlow(port)] = flowstate.HalfOpen
	if v := n.MayLeave(n.last, withOptions(out(port, flagSYN|flagACK, ownISN, clientISN+1, nil))); v != Undecided {
		t.Fatal(v)
	}
	bare := in(port, flagACK, clientISN+1, ownISN+1, nil)
	if v := handle(n, frame(etherTypeIPv4, bare)); v != Unstamped {
		t.Errorf("an ACK without its stamp: %v", v)
	}
	if v := handle(n, frame(etherTypeIPv4, withOptions(in(port, flagACK, clientISN+1, ownISN+1, nil)))); v != DeliverHeld {
		t.Errorf("an ACK with its stamp: %v", v)
	}
	flows.states[toFlow(port)] = flowstate.Open
	if v := handle(n, frame(etherTypeIPv4, in(port, flagACK, clientISN+1, ownISN+1, []byte("data")))); v != Unstamped {
		t.Errorf("data without its stamp: %v", v)
	}
	if v := handle(n, frame(etherTypeIPv4, in(port, flagRST, clientISN+1, 0, nil))); v != DeliverHeld {
		t.Errorf("a reset: %v", v)
	}
}

func TestMayLeaveReadsAnything(t *testing.T) {
	n, _ := newNode(t)
	good := out(port, flagRST, 1, 1, nil)
	for i := range good {
		n.MayLeave(0, good[:i])
		for _, v := range []byte{0, 0x7f, 0xff} {
			b := append([]byte{}, good...)
			b[i] = v
			n.MayLeave(0, b)
		}
	}
	for _, options := range [][]byte{{2}, {3, 3}, {3, 0, 0, 0}, {3, 200, 0, 0}, {0, 3, 3, 9}} {
		s := outgoing{options: options}
		if got := s.scale(); got != 0 {
			t.Errorf("options %x have a scale of %d", options, got)
		}
	}
	if s := (outgoing{options: []byte{3, 3, 200}}); s.scale() != 14 {
		t.Error("a scale above 14 is not bounded")
	}
	if v := n.MayLeave(0, icmp(asker, icmpEcho, nil)); v != Undecided {
		t.Errorf("ICMP: %v", v)
	}
	other := out(port, flagRST, 1, 1, nil)
	other[21] = 23
	if v := n.MayLeave(0, other); v != UnearnedReset {
		t.Errorf("a reset of another port: %v", v)
	}
}
