package virtual

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"onevoice/internal/timers"
)

// epoch is what a clock's zero is to netstack, for which a time of zero is none.
const epoch = time.Hour

// Clock is netstack's clock, for one stack or for several. Its owner calls
// Advance; netstack reads it and sets timers from any goroutine.
type Clock struct {
	mu     sync.Mutex
	now    time.Duration
	timers timers.Queue
}

var _ tcpip.Clock = (*Clock)(nil)

// Now implements tcpip.Clock.
func (c *Clock) Now() time.Time { return time.Unix(0, 0).UTC().Add(c.read()) }

// NowMonotonic implements tcpip.Clock.
func (c *Clock) NowMonotonic() tcpip.MonotonicTime {
	var t tcpip.MonotonicTime
	return t.Add(c.read())
}

func (c *Clock) read() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now + epoch
}

// AfterFunc implements tcpip.Clock. Advance calls f.
func (c *Clock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	t := &timer{Timer: timers.Timer{Run: f}, clock: c}
	t.Reset(d)
	return t
}

// Next is when the first timer is due; false when there is none.
func (c *Clock) Next() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.timers.First()
}

// Advance lets the time pass to now and runs the timers that are due, in the
// order of their times and then of their setting. After each it calls settle.
func (c *Clock) Advance(now time.Duration, settle func()) {
	for {
		fn := c.due(now)
		if fn == nil {
			return
		}
		fn()
		settle()
	}
}

// due takes the first timer that is due by then, or nil, and moves the time on.
func (c *Clock) due(now time.Duration) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.timers.Due(now)
	if t == nil {
		c.now = max(c.now, now)
		return nil
	}
	c.now = max(c.now, t.At())
	return t.Run
}

// timer is one of netstack's.
type timer struct {
	timers.Timer
	clock *Clock
}

var _ tcpip.Timer = (*timer)(nil)

// Stop implements tcpip.Timer.
func (t *timer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	return t.clock.timers.Remove(&t.Timer)
}

// Reset implements tcpip.Timer.
func (t *timer) Reset(d time.Duration) {
	c := t.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timers.Set(&t.Timer, c.now+max(d, 0))
}
