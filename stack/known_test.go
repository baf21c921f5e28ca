package stack

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
)

// What the stack remembers of a flow is not taken for another's: neither for one of
// the same tuple that came later, nor for one that shares its slot.
func TestStateOfFlowsThatShareASlot(t *testing.T) {
	w := newWorld(t, backend(t, func(c *net.TCPConn) { c.Close() }))
	state := func(f hashing.Flow) (s flowstate.State) { w.do(func() { s = w.stack.State(&f) }); return s }
	begin := func(f hashing.Flow) {
		t.Helper()
		w.do(func() { w.stack.Deliver(syn(f.Src, f.SrcPort)) })
		w.settle(func() bool { return state(f) == flowstate.HalfOpen })
	}
	first := hashing.Flow{Src: netip.MustParseAddr("10.77.0.150"), Dst: vip, SrcPort: 2000, DstPort: 22, Proto: 6}
	second := first
	for second.SrcPort++; knownSlot(&second) != knownSlot(&first); second.SrcPort++ {
	}
	begin(first)
	w.do(func() { w.stack.Forget(&first) })
	begin(first)
	begin(second)
	if s := state(first); s != flowstate.HalfOpen {
		t.Errorf("beside another flow in its slot a half-open one is %v", s)
	}
	w.do(func() { w.stack.Forget(&first) })
	if a, b := state(first), state(second); a != flowstate.None || b != flowstate.HalfOpen {
		t.Errorf("the flow that was forgotten is %v, the one in its slot %v", a, b)
	}
	begin(first)
	w.do(func() { w.stack.Forget(&second) })
	if a, b := state(first), state(second); a != flowstate.HalfOpen || b != flowstate.None {
		t.Errorf("the flow that came again is %v, the one that was forgotten %v", a, b)
	}
}

// ticking is a clock that goes on by a millisecond each time that it is read.
type ticking struct {
	tcpip.Clock
	now time.Duration
}

func (c *ticking) NowMonotonic() tcpip.MonotonicTime {
	c.now += time.Millisecond
	return tcpip.MonotonicTime{}.Add(c.now)
}

// During a turn time stands still; after it, it has not lost any.
func TestTurnClock(t *testing.T) {
	c := &turnClock{Clock: &ticking{}}
	read := func() time.Duration { return c.NowMonotonic().Sub(tcpip.MonotonicTime{}) / time.Millisecond }
	for i, want := range []time.Duration{1, 2} {
		if got := read(); got != want {
			t.Errorf("reading %d gives %d ms, want %d", i, got, want)
		}
	}
	c.hold()
	if a, b := read(), read(); a != 3 || b != 3 {
		t.Errorf("held at 3 ms it gives %d and %d", a, b)
	}
	c.hold()
	if got := read(); got != 4 {
		t.Errorf("held again it gives %d ms, want 4", got)
	}
	c.release()
	if got := read(); got != 5 {
		t.Errorf("it goes on with %d ms, want 5", got)
	}
}
