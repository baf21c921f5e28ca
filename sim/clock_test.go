package sim

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A world's journal: who ran when, by the true clock.
type journal struct {
	w   *World
	got []string
}

func (j *journal) say(s string) func() {
	return func() { j.got = append(j.got, s+"@"+j.w.Now().String()) }
}

func (j *journal) check(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(j.got, want) {
		t.Errorf("events\n%q, want\n%q", j.got, want)
	}
}

func TestClockShowsOffsetAndDrift(t *testing.T) {
	for _, c := range []struct {
		offset, at, want time.Duration
		ppm              int64
	}{
		{0, time.Second, time.Second, 0},
		{5 * time.Second, time.Second, 6 * time.Second, 0},
		{0, time.Second, time.Second + time.Millisecond, 1000},
		{0, time.Second, time.Second - time.Millisecond, -1000},
		{time.Hour, 100 * time.Hour, 101*time.Hour + 36*time.Second, 100},
		{0, 100 * time.Hour, 150 * time.Hour, MaxDriftPPM},
	} {
		w := New(1)
		if got := w.NewClock(c.offset, c.ppm).Local(c.at); got != c.want {
			t.Errorf("offset %v drift %d shows %v at %v, want %v", c.offset, c.ppm, got, c.at, c.want)
		}
	}
}

// When is the inverse of Local, through changes of drift and freezes.
func TestWhenIsTheFirstTimeThatShows(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for range 200 {
		w := New(1)
		c := w.NewClock(time.Duration(rng.Int64N(1e9)), rng.Int64N(2000)-1000)
		for range rng.IntN(5) {
			w.Run(w.Now() + time.Duration(rng.Int64N(1e9)))
			switch rng.IntN(3) {
			case 0:
				c.SetDrift(rng.Int64N(2*MaxDriftPPM) - MaxDriftPPM)
			case 1:
				c.Freeze(time.Duration(rng.Int64N(1e8)))
			case 2:
				c.Resume()
			}
		}
		for range 50 {
			local := c.Local(0) + time.Duration(rng.Int64N(8e9))
			at := c.When(local)
			if c.Local(at) < local {
				t.Fatalf("When(%v) = %v, which shows %v", local, at, c.Local(at))
			}
			if at > 0 && local > c.Local(0) && c.Local(at-1) >= local {
				t.Fatalf("When(%v) = %v, yet a nanosecond before shows %v", local, at, c.Local(at-1))
			}
		}
	}
}

func TestTimersFollowTheClock(t *testing.T) {
	w := New(1)
	j := journal{w: w}
	c := w.NewClock(time.Hour, 0)
	c.After(10*ms, j.say("a"))
	c.After(20*ms, j.say("b"))
	w.At(10*ms+1, func() { c.SetDrift(MaxDriftPPM) }) // b's remaining 10 ms take 6.67
	w.Run(time.Second)
	j.check(t, "a@10ms", "b@16.666667ms")
}

func TestPauseDelaysAndKeepsOrder(t *testing.T) {
	for _, c := range []struct {
		name  string
		pause func(*Clock)
		want  []string
		shows time.Duration
	}{
		// While stopped, the clock goes on: what was due at 6 comes before what
		// came in at 7. All run at the end, each in its own event.
		{"pause", func(c *Clock) { c.Pause(10 * ms) }, []string{"t6@15ms", "in7@15ms", "t8@15ms", "in16@16ms", "t20@20ms"}, 30 * ms},
		// The frozen clock stands at 5: timers run 10 ms later than they were set for.
		{"freeze", func(c *Clock) { c.Freeze(10 * ms) }, []string{"in7@15ms", "t6@16ms", "in16@16ms", "t8@18ms", "t20@30ms"}, 20 * ms},
		{"resumed", func(c *Clock) {
			c.Freeze(10 * ms)
			c.w.After(2*ms, c.Resume)
		}, []string{"in7@7ms", "t6@8ms", "t8@10ms", "in16@16ms", "t20@22ms"}, 28 * ms},
		{"twice", func(c *Clock) {
			c.Pause(10 * ms)
			c.Pause(ms)
		}, []string{"t6@15ms", "in7@15ms", "t8@15ms", "in16@16ms", "t20@20ms"}, 30 * ms},
		{"killed", func(c *Clock) {
			c.Pause(10 * ms)
			c.w.After(4*ms, c.Reset)
		}, []string{"in16@16ms"}, 30 * ms},
	} {
		w := New(1)
		j := journal{w: w}
		clock := w.NewClock(0, 0)
		for _, at := range []time.Duration{6, 8, 20} {
			clock.At(at*ms, j.say("t"+at.String()[:len(at.String())-2]))
		}
		w.At(5*ms, func() { c.pause(clock) })
		w.At(7*ms, func() { clock.Do(j.say("in7")) })
		w.At(16*ms, func() { clock.Do(j.say("in16")) })
		w.Run(30 * ms)
		if !slices.Equal(j.got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, j.got, c.want)
		}
		if got := clock.Now(); got != c.shows {
			t.Errorf("%s: the clock shows %v, want %v", c.name, got, c.shows)
		}
		if c.name == "pause" && clock.LateEvents != 3 {
			t.Errorf("%d late events, want 3", clock.LateEvents)
		}
	}
}

// What comes in at the very moment of the resume waits behind what is late.
func TestNothingOvertakesWhatIsLate(t *testing.T) {
	w := New(1)
	j := journal{w: w}
	c := w.NewClock(0, 0)
	w.At(5*ms, func() { c.Do(j.say("b")) })
	c.Pause(5 * ms)
	w.At(2*ms, func() { c.Do(j.say("a")) })
	w.At(5*ms, func() { c.Do(j.say("c")) })
	w.Run(10 * ms)
	j.check(t, "a@5ms", "b@5ms", "c@5ms")
}

func TestRebootStartsTheClockAnew(t *testing.T) {
	w := New(1)
	c := w.NewClock(time.Hour, 0)
	ran := false
	timer := c.After(ms, func() { ran = true })
	c.Reboot(3 * ms)
	w.Run(10 * ms)
	if ran || timer.Pending() {
		t.Error("a timer outlived its host")
	}
	if got := c.Now(); got != 13*ms {
		t.Errorf("the clock shows %v, want 13ms", got)
	}
}

func TestDriftBound(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a drift beyond the bound was taken")
		}
	}()
	New(1).NewClock(0, -MaxDriftPPM-1)
}
