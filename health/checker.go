package health

import (
	"time"
)

// MaxHoldDownFactor is how many times HoldDown a flapping service may be held
// down at most.
const MaxHoldDownFactor = 32

// maxReasonBytes bounds what is said about a result: it comes from outside.
const maxReasonBytes = 200

// State judges a row of good and bad answers: whether what was asked is up.
// It is not known until the first answer, which decides alone.
type State struct {
	rise, fall int
	holdDown   time.Duration

	known, up bool
	run       int           // answers in a row against the present state
	since     time.Duration // of the present state
	hold      time.Duration // the present or the last hold-down; 0 before the first
}

// NewState returns a State with a check's Rise, Fall and HoldDown.
func NewState(rise, fall int, holdDown time.Duration) *State {
	return &State{rise: rise, fall: fall, holdDown: holdDown}
}

// Up reports the present state; known is false before the first answer.
func (s *State) Up() (up, known bool) { return s.up, s.known }

// Since is when the present state began.
func (s *State) Since() time.Duration { return s.since }

// HeldUntil is the end of the hold-down of a state that is down. A good answer
// before it counts, but brings nothing up.
func (s *State) HeldUntil() time.Duration {
	if !s.known || s.up {
		return 0
	}
	return s.since + s.hold
}

// Step takes an answer and reports whether the state has changed by it. The
// first answer is a change.
func (s *State) Step(now time.Duration, good bool) bool {
	switch {
	case !s.known:
		s.known = true
		s.enter(now, good)
		return true
	case good == s.up:
		s.run = 0
		return false
	}
	s.run++
	if s.up {
		if s.run < s.fall {
			return false
		}
		s.lengthen(now)
	} else if s.run < s.rise || now < s.HeldUntil() {
		return false
	}
	s.enter(now, good)
	return true
}

func (s *State) enter(now time.Duration, up bool) {
	s.up, s.since, s.run = up, now, 0
}

// lengthen sets the hold-down for a state that goes down: double the last one
// if it was up for less than twice that, else the shortest.
func (s *State) lengthen(now time.Duration) {
	if flaps := s.hold > 0 && now-s.since < 2*s.hold; !flaps {
		s.hold = s.holdDown
		return
	}
	s.hold = min(2*s.hold, MaxHoldDownFactor*s.holdDown)
}

// Change says that a service's state is another now.
type Change struct {
	Service string
	Up      bool
	Reason  string // for people, one line, bounded
}

// Never is the deadline of what waits for something else than time.
const Never = time.Duration(1<<63 - 1)

// Schedule says when the next probe is due: an interval after the start of the
// last one, and never while one is under way.
type Schedule struct {
	interval time.Duration
	due      time.Duration
	running  bool
}

// Next is when a probe is due; Never while one is under way.
func (s *Schedule) Next() time.Duration {
	if s.running {
		return Never
	}
	return s.due
}

// Begin records that a probe starts.
func (s *Schedule) Begin(now time.Duration) {
	s.running = true
	s.due = now + s.interval
}

// end records that a probe has ended.
func (s *Schedule) end() { s.running = false }

// Checker is the judgement about one service. It is pure.
type Checker struct {
	Schedule
	State
	service string
}

// NewChecker returns a Checker of a valid check, first due at a time of the
// caller's choice.
func NewChecker(service string, c *Check, first time.Duration) *Checker {
	return &Checker{
		Schedule: Schedule{interval: c.Interval, due: first},
		State:    *NewState(c.Rise, c.Fall, c.HoldDown),
		service:  service,
	}
}

// Step takes the result of the probe that was under way: nil is good. It
// reports a change if there is one. The next deadline is Next.
func (c *Checker) Step(now time.Duration, result error) (Change, bool) {
	c.end()
	if !c.State.Step(now, result == nil) {
		return Change{}, false
	}
	reason := "answers"
	if result != nil {
		reason = result.Error()
	}
	return Change{Service: c.service, Up: c.up, Reason: oneLine(reason)}, true
}

// oneLine makes text from outside fit for a log: printable, one line, bounded.
func oneLine(s string) string {
	out := make([]byte, 0, min(len(s), maxReasonBytes))
	for i := 0; i < len(s) && len(out) < maxReasonBytes; i++ {
		b := s[i]
		if b < ' ' || b > '~' {
			b = ' '
		}
		if b == ' ' && (len(out) == 0 || out[len(out)-1] == ' ') {
			continue
		}
		out = append(out, b)
	}
	for len(out) > 0 && out[len(out)-1] == ' ' {
		out = out[:len(out)-1]
	}
	return string(out)
}
