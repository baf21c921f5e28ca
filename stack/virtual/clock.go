package virtual

import (
	"container/heap"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// epoch is what a clock's zero is to netstack, for which a time of zero is none.
const epoch = time.Hour

// Clock is netstack's clock, for one stack or for several. Its owner calls
// Advance; netstack reads it and sets timers from any goroutine.
type Clock struct {
	mu     sync.Mutex
	now    time.Duration
	timers timerHeap
	seq    uint64
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
	t := &timer{clock: c, fn: f, index: -1}
	t.Reset(d)
	return t
}

// Next is when the first timer is due; false when there is none.
func (c *Clock) Next() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.timers) == 0 {
		return 0, false
	}
	return c.timers[0].at, true
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
	if len(c.timers) == 0 || c.timers[0].at > now {
		c.now = max(c.now, now)
		return nil
	}
	t := heap.Pop(&c.timers).(*timer)
	c.now = max(c.now, t.at)
	return t.fn
}

// timer is one of netstack's.
type timer struct {
	clock *Clock
	fn    func()
	at    time.Duration
	seq   uint64
	index int // in the heap, -1 when it is not there
}

var _ tcpip.Timer = (*timer)(nil)

// Stop implements tcpip.Timer.
func (t *timer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	if t.index < 0 {
		return false
	}
	heap.Remove(&t.clock.timers, t.index)
	return true
}

// Reset implements tcpip.Timer.
func (t *timer) Reset(d time.Duration) {
	c := t.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	t.at, t.seq = c.now+max(d, 0), c.seq
	if t.index >= 0 {
		heap.Fix(&c.timers, t.index)
		return
	}
	heap.Push(&c.timers, t)
}

// timerHeap is ordered by time, then by the order of setting.
type timerHeap []*timer

// Len implements heap.Interface.
func (h timerHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h timerHeap) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return h[i].seq < h[j].seq
}

// Swap implements heap.Interface.
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}

// Pop implements heap.Interface.
func (h *timerHeap) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	t.index = -1
	return t
}
