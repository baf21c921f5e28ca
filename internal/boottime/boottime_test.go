package boottime

import (
	"testing"
	"time"
)

// fake is a host whose clocks the test sets, and that takes time to read them.
type fake struct {
	real, monotonic, boot time.Duration
	// asked counts readings of boot time. step is how long each reading of a clock
	// takes; stall is added behind the next reading of the real clock, and behind as many of
	// the monotonic one as stalls says.
	asked       int
	step        time.Duration
	stall       time.Duration
	stalls      int
	stalledLate time.Duration
}

func (f *fake) pass(d time.Duration) {
	f.real, f.monotonic, f.boot = f.real+d, f.monotonic+d, f.boot+d
}

func (f *fake) suspend(d time.Duration) { f.real, f.boot = f.real+d, f.boot+d }

func (f *fake) clock() *Clock {
	return &Clock{source: source{
		boot: func() time.Duration {
			f.asked++
			f.pass(f.step)
			return f.boot
		},
		both: func() (real, monotonic time.Duration) {
			real = f.real
			f.pass(f.step + f.stall)
			f.stall = 0
			monotonic = f.monotonic
			if f.stalls > 0 {
				f.stalls--
				f.pass(f.stalledLate)
			}
			return real, monotonic
		},
	}}
}

func newFake() *fake {
	return &fake{real: 7 * time.Hour, monotonic: time.Hour, boot: 3 * time.Hour, step: time.Microsecond}
}

// slack is what all readings of one Now take, without a stall.
const slack = 6 * time.Microsecond

func (f *fake) judge(t *testing.T, c *Clock, what string, most time.Duration) {
	t.Helper()
	before := f.boot
	got := c.Now()
	if got < before || got > f.boot+most {
		t.Errorf("%s: %v, boot time is %v to %v", what, got, before, f.boot)
	}
}

func TestNoSystemCallIsNeeded(t *testing.T) {
	f := newFake()
	c := f.clock()
	for range 1000 {
		f.judge(t, c, "in passing", slack)
		f.pass(7 * time.Millisecond)
	}
	if f.asked != 1 {
		t.Errorf("boot time was asked for %d times", f.asked)
	}
}

// A lease that ran out while the host slept has run out.
func TestASuspendedHostIsNoticed(t *testing.T) {
	f := newFake()
	c := f.clock()
	for _, slept := range []time.Duration{2 * time.Millisecond, 90 * time.Millisecond, time.Hour} {
		f.judge(t, c, "before", slack)
		f.suspend(slept)
		f.judge(t, c, "after "+slept.String(), slack)
	}
	if f.asked != 4 {
		t.Errorf("boot time was asked for %d times", f.asked)
	}
}

func TestASetClockChangesNothing(t *testing.T) {
	f := newFake()
	c := f.clock()
	for _, by := range []time.Duration{time.Hour, -2 * time.Hour, 3 * time.Millisecond} {
		f.judge(t, c, "before", slack)
		f.real += by
		f.judge(t, c, "after "+by.String(), slack)
	}
}

// A thread that is kept from the processor between two readings learns nothing wrong.
func TestAStalledReading(t *testing.T) {
	f := newFake()
	c := f.clock()
	f.judge(t, c, "at first", slack)
	f.stall = 40 * time.Millisecond
	f.judge(t, c, "between real and monotonic time", slack)
	f.judge(t, c, "after that", slack)
	// Every try of the next look is stalled, too.
	f.suspend(time.Hour)
	f.stalls, f.stalledLate = 100, 30*time.Millisecond
	was := f.asked
	f.judge(t, c, "before boot time", slack)
	if tried := f.asked - was; tried != tries {
		t.Errorf("boot time was asked for %d times, want %d", tried, tries)
	}
	f.stalls, was = 0, f.asked
	f.judge(t, c, "after all that", slack)
	f.judge(t, c, "and again", slack)
	if asked := f.asked - was; asked != 1 {
		t.Errorf("boot time was asked for %d times, want 1", asked)
	}
}

func TestItDoesNotGoBack(t *testing.T) {
	f := newFake()
	c := f.clock()
	last := c.Now()
	// Were it read a little late, and right after that.
	f.boot -= near
	f.real -= time.Hour
	if now := c.Now(); now < last {
		t.Errorf("it goes back from %v to %v", last, now)
	}
}

func TestTheHostsClock(t *testing.T) {
	var c Clock
	for range 1000 {
		before, got, after := Now(), c.Now(), Now()
		if got < before-time.Millisecond || got > after+time.Millisecond {
			t.Fatalf("%v, the kernel says %v and %v", got, before, after)
		}
	}
}

func BenchmarkNow(b *testing.B) {
	b.Run("clock", func(b *testing.B) {
		var c Clock
		for b.Loop() {
			c.Now()
		}
	})
	b.Run("kernel", func(b *testing.B) {
		for b.Loop() {
			Now()
		}
	})
}
