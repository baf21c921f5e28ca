package sim

import (
	"fmt"
	"time"
)

// MaxDriftPPM bounds a clock's drift, in parts per million either way.
const MaxDriftPPM = 500_000

// era is a stretch of a clock's life with one rate: at the true time from the
// clock showed local.
type era struct {
	from, local time.Duration
	ppm         int64
	frozen      bool
}

func (e *era) at(t time.Duration) time.Duration {
	if e.frozen {
		return e.local
	}
	d := t - e.from
	// In two steps, so that no product overflows.
	return e.local + d + d/1e6*time.Duration(e.ppm) + d%1e6*time.Duration(e.ppm)/1e6
}

// Clock is one host's clock and what waits for that host: its timers, and what
// came in while it was paused. A paused host runs nothing; when it resumes, all
// that is late runs in order of its local time, each in an event of its own.
type Clock struct {
	// LateEvents counts what a pause made late.
	LateEvents uint64

	w      *World
	eras   []era // since the boot, oldest first
	agenda agenda
	alarm  Timer
	wakes  time.Duration // true time of the alarm

	pausedUntil time.Duration
	life        uint64 // how often Reset was called
}

// NewClock makes a host's clock that now shows offset and gains drift parts in
// a million.
func (w *World) NewClock(offset time.Duration, driftPPM int64) *Clock {
	c := &Clock{w: w}
	c.eras = []era{{w.now, offset, checkedDrift(driftPPM), false}}
	return c
}

func checkedDrift(ppm int64) int64 {
	if ppm < -MaxDriftPPM || ppm > MaxDriftPPM {
		panic(fmt.Sprintf("sim: a drift of %d ppm is beyond MaxDriftPPM", ppm))
	}
	return ppm
}

// Now is what the host's clock shows.
func (c *Clock) Now() time.Duration { return c.Local(c.w.now) }

// Local is what the clock showed, or will show if nothing changes, at a true
// time. For a time before the host's boot it is what the clock showed then.
func (c *Clock) Local(t time.Duration) time.Duration {
	i := len(c.eras) - 1
	if last := &c.eras[i]; t >= last.from {
		return last.at(t)
	}
	for i > 0 && c.eras[i].from > t {
		i--
	}
	return c.eras[i].at(max(t, c.eras[i].from))
}

// When is the first true time at which the clock shows local or more, if
// nothing changes.
func (c *Clock) When(local time.Duration) time.Duration {
	i := len(c.eras) - 1
	for i > 0 && c.eras[i].local >= local {
		i--
	}
	e := c.eras[i] // never a frozen one, for the era after that begins with the same local
	if local <= e.local {
		return e.from
	}
	rate, d := time.Duration(1e6+e.ppm), local-e.local
	t := e.from + d/rate*1e6 + d%rate*1e6/rate
	for e.at(t) < local {
		t++
	}
	for t > e.from && e.at(t-1) >= local {
		t--
	}
	return t
}

// At runs fn when the clock shows local, or as soon as the host runs after
// that. A change of drift or a freeze in between is taken into account.
func (c *Clock) At(local time.Duration, fn func()) Timer {
	t := c.agenda.add(max(local, c.Now()), fn)
	c.arm()
	return t
}

// After runs fn when the clock has gone on by d.
func (c *Clock) After(d time.Duration, fn func()) Timer { return c.At(c.Now()+d, fn) }

// Do runs fn at once, or behind what is late already. It is how something from
// outside, such as a frame, reaches the host.
func (c *Clock) Do(fn func()) {
	if c.Late() {
		c.agenda.add(c.Now(), fn)
		c.arm()
		return
	}
	fn()
}

// Paused says whether the host stands still.
func (c *Clock) Paused() bool { return c.w.now < c.pausedUntil }

// Late says whether what comes in now must wait: the host is paused, or has
// just resumed and is not done with what came in before.
func (c *Clock) Late() bool {
	if c.Paused() {
		return true
	}
	at, ok := c.agenda.next()
	return ok && at <= c.Now()
}

// Pause lets the host do nothing for d, while its clock goes on: a stopped
// process. A pause within a pause ends with the later one.
func (c *Clock) Pause(d time.Duration) {
	c.pausedUntil = max(c.pausedUntil, c.w.now+d)
	c.rearm()
}

// Freeze pauses the host and its clock: a virtual machine that is not
// scheduled, and does not know it afterwards.
func (c *Clock) Freeze(d time.Duration) {
	end := c.w.now + d
	last := c.eras[len(c.eras)-1]
	if last.from > c.w.now { // frozen already; the era after it starts later
		end = max(end, last.from)
		c.eras[len(c.eras)-1].from = end
	} else {
		shows := c.Now()
		c.eras = append(c.eras, era{c.w.now, shows, 0, true}, era{end, shows, last.ppm, false})
	}
	c.pausedUntil = max(c.pausedUntil, end)
	c.rearm()
}

// Frozen says whether the clock stands still.
func (c *Clock) Frozen() bool { return c.eras[len(c.eras)-1].from > c.w.now }

// Resume ends a pause or a freeze before its time.
func (c *Clock) Resume() {
	last := len(c.eras) - 1
	c.eras[last].from = min(c.eras[last].from, c.w.now)
	c.pausedUntil = c.w.now
	c.rearm()
}

// SetDrift changes the rate from now on, without a jump.
func (c *Clock) SetDrift(ppm int64) {
	checkedDrift(ppm)
	last := len(c.eras) - 1
	if c.eras[last].from >= c.w.now {
		c.eras[last].ppm = ppm
	} else {
		c.eras = append(c.eras, era{c.w.now, c.Now(), ppm, false})
	}
	c.rearm()
}

// Reset is the death of the process: its timers and whatever waited for it are
// gone, and it is no longer paused. The clock goes on.
func (c *Clock) Reset() {
	c.agenda.clear()
	c.life++
	c.Resume()
}

// Reboot is the death of the host: a Reset, after which the clock shows offset
// again, as CLOCK_BOOTTIME does.
func (c *Clock) Reboot(offset time.Duration) {
	c.Reset()
	last := c.eras[len(c.eras)-1]
	c.eras = append(c.eras[:0], era{c.w.now, offset, last.ppm, false})
}

func (c *Clock) rearm() {
	c.alarm.Stop()
	c.arm()
}

// arm sets the alarm for the first event. One that is set too early, for an
// event cancelled since, only looks again.
func (c *Clock) arm() {
	at, ok := c.agenda.next()
	if !ok {
		return
	}
	want := max(c.When(at), c.pausedUntil, c.w.now)
	if c.alarm.Pending() && c.wakes <= want {
		return
	}
	c.alarm.Stop()
	c.wakes = want
	c.alarm = c.w.At(want, c.ring)
}

func (c *Clock) ring() {
	if at, ok := c.agenda.next(); ok && at <= c.Now() && !c.Paused() {
		if c.When(at) < c.pausedUntil {
			c.LateEvents++
		}
		c.agenda.take()()
	}
	c.arm()
}
