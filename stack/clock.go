package stack

import (
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// turnClock is netstack's clock. During a turn of the loop it stands still: netstack
// asks for the time some twenty times for each connection, which was 2 % of its cost,
// and a turn is much shorter than anything that is measured with it.
type turnClock struct {
	tcpip.Clock
	// held is the time at which it stands, 0 while it goes.
	held atomic.Int64
}

var _ tcpip.Clock = (*turnClock)(nil)

// NowMonotonic implements tcpip.Clock.
func (c *turnClock) NowMonotonic() tcpip.MonotonicTime {
	if at := c.held.Load(); at != 0 {
		return tcpip.MonotonicTime{}.Add(time.Duration(at))
	}
	return c.Clock.NowMonotonic()
}

func (c *turnClock) hold() {
	c.held.Store(int64(c.Clock.NowMonotonic().Sub(tcpip.MonotonicTime{})))
}

func (c *turnClock) release() { c.held.Store(0) }

// HoldTime makes netstack's clock stand still until ReleaseTime. The loop calls it at
// the beginning of a turn, and may call it again for the next.
func (s *Stack) HoldTime() { s.clock.hold() }

// ReleaseTime lets netstack's clock go on. The loop calls it before it waits: timers
// fire meanwhile.
func (s *Stack) ReleaseTime() { s.clock.release() }
