package stack

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"onevoice/internal/timers"
)

// systemClock is the system's clock. Its timers run one after the other on a goroutine of
// their own: Go's have one each, and after a host has stood still in a flood of SYNs those of
// thousands of half-open connections are due at once. What Go keeps of goroutines that have
// ended, 500 bytes each, it keeps for good.
type systemClock struct {
	tcpip.Clock
	over sync.WaitGroup

	mu     sync.Mutex
	queue  timers.Queue
	closed bool
	// kick tells the goroutine that another timer is the first, or that it is over.
	kick chan struct{}
}

var _ tcpip.Clock = (*systemClock)(nil)

// newSystemClock starts the goroutine, which ends with close.
func newSystemClock() *systemClock {
	c := &systemClock{Clock: tcpip.NewStdClock(), kick: make(chan struct{}, 1)}
	c.over.Add(1)
	go c.run()
	return c
}

// now is the time since the clock was made.
func (c *systemClock) now() time.Duration { return c.NowMonotonic().Sub(tcpip.MonotonicTime{}) }

// AfterFunc implements tcpip.Clock.
func (c *systemClock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	t := &systemTimer{Timer: timers.Timer{Run: f}, clock: c}
	t.Reset(d)
	return t
}

// run runs the timers.
func (c *systemClock) run() {
	defer c.over.Done()
	// It is set before each wait.
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for {
		due, wait, ok := c.next()
		switch {
		case !ok:
			return
		case due != nil:
			due.Run()
			continue
		}
		alarm.Reset(wait)
		select {
		case <-alarm.C:
		case <-c.kick:
		}
	}
}

// next is a timer that is due, or nil and how long there is none; false after close.
func (c *systemClock) next() (due *timers.Timer, wait time.Duration, ok bool) {
	const long = time.Hour
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, 0, false
	}
	now := c.now()
	if due = c.queue.Due(now); due != nil {
		return due, 0, true
	}
	if at, set := c.queue.First(); set {
		return nil, min(at-now, long), true
	}
	return nil, long, true
}

// close ends the goroutine, after the timer that runs. No timer runs after it.
func (c *systemClock) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wake()
	c.over.Wait()
}

func (c *systemClock) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// systemTimer is a timer of a systemClock.
type systemTimer struct {
	timers.Timer
	clock *systemClock
}

var _ tcpip.Timer = (*systemTimer)(nil)

// Stop implements tcpip.Timer.
func (t *systemTimer) Stop() bool {
	c := t.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queue.Remove(&t.Timer)
}

// Reset implements tcpip.Timer.
func (t *systemTimer) Reset(d time.Duration) {
	c := t.clock
	c.mu.Lock()
	before, any := c.queue.First()
	at := c.now() + max(d, 0)
	c.queue.Set(&t.Timer, at)
	c.mu.Unlock()
	if !any || at < before {
		c.wake()
	}
}
