package stack

import (
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Timers run when they are due, in order, once each time that they were set, and not once
// they were stopped or the clock was closed.
func TestTimersOfTheSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSystemClock()
		began := time.Now()
		type run struct {
			name string
			at   time.Duration
		}
		var ran []run
		set := map[string]tcpip.Timer{}
		for name, d := range map[string]time.Duration{"second": 2 * time.Second, "first": time.Second, "day": 24 * time.Hour, "stopped": 3 * time.Second, "put off": time.Second, "never": 100 * time.Hour} {
			set[name] = c.AfterFunc(d, func() { ran = append(ran, run{name, time.Since(began)}) })
		}
		again := c.AfterFunc(-time.Second, func() { ran = append(ran, run{"at once", time.Since(began)}) })
		set["put off"].Reset(4 * time.Second)
		if !set["stopped"].Stop() || set["stopped"].Stop() {
			t.Error("a timer was not stopped, or twice")
		}
		synctest.Wait()
		if again.Stop() {
			t.Error("a timer that has run was stopped")
		}
		time.Sleep(5 * time.Second)
		again.Reset(time.Second)
		set["second"].Reset(30 * time.Hour)
		time.Sleep(40 * time.Hour)
		c.close()
		time.Sleep(100 * time.Hour)
		const s = time.Second
		want := []run{{"at once", 0}, {"first", s}, {"second", 2 * s}, {"put off", 4 * s}, {"at once", 6 * s}, {"day", 24 * time.Hour}, {"second", 30*time.Hour + 5*s}}
		if !slices.Equal(ran, want) {
			t.Errorf("%v, want %v", ran, want)
		}
	})
}

// A timer may set and stop others, and itself.
func TestTimersSetTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSystemClock()
		turns, known := 0, make(chan struct{})
		var self tcpip.Timer
		other := c.AfterFunc(time.Hour, func() { t.Error("it was stopped") })
		self = c.AfterFunc(time.Second, func() {
			<-known
			if turns++; turns < 3 {
				self.Reset(time.Second)
			}
			other.Stop()
		})
		close(known)
		time.Sleep(2 * time.Hour)
		c.close()
		if turns != 3 {
			t.Errorf("it ran %d times", turns)
		}
	})
}

// close waits for the timer that runs, and those that are due by then do not run.
func TestTimersEndWithTheOneThatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, ended := newSystemClock(), false
		c.AfterFunc(0, func() { time.Sleep(time.Second); ended = true })
		c.AfterFunc(time.Millisecond, func() { t.Error("it ran after close") })
		synctest.Wait()
		c.close()
		if !ended {
			t.Error("closed while a timer runs")
		}
	})
}

// As many timers as half-open connections may be are due at once without a goroutine for
// each.
func TestTimersTakeOneGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSystemClock()
		before, most, ran := runtime.NumGoroutine(), 0, 0
		for range ListenBacklog {
			c.AfterFunc(time.Second, func() { most, ran = max(most, runtime.NumGoroutine()), ran+1 })
		}
		time.Sleep(time.Second)
		synctest.Wait()
		c.close()
		if ran != ListenBacklog || most > before+1 {
			t.Errorf("%d ran, with %d goroutines in place of %d", ran, most, before)
		}
	})
}
