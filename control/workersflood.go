package control

import (
	"fmt"
	"log/slog"
	"time"
)

// When there is a flood of SYNs for an operator: so many of a second are answered with
// SYN cookies, which is more than people make who all come at once; and for how long it
// must have been less when it is over.
const (
	floodCookies = 500
	floodOver    = 10 * time.Second
	floodLook    = time.Second
)

// FloodStatus is of a flood of SYNs that lasts.
type FloodStatus struct {
	// Seconds is for how long it has lasted.
	Seconds float64 `json:"seconds"`
	// PerSecond SYNs were answered with SYN cookies of late, Most in a second at most, and
	// Answered in all.
	PerSecond uint64 `json:"answered_per_second"`
	Most      uint64 `json:"answered_per_second_at_most"`
	Answered  uint64 `json:"answered"`
}

// String is for people.
func (s *FloodStatus) String() string {
	return fmt.Sprintf("a flood of SYNs: %d a second are answered with SYN cookies, for %s so far", s.PerSecond, time.Duration(s.Seconds*float64(time.Second)).Round(time.Second))
}

// floodWatch looks at how many SYN cookies were sent, every second or more rarely.
type floodWatch struct {
	next, looked time.Duration
	// cookies are those that had been sent when it was last looked, and before those that
	// had when the flood began.
	cookies, before uint64
	// begun is when there was the first second of the flood that lasts, and latest when
	// the last: 0 and 0 while there is none.
	begun, latest   time.Duration
	perSecond, most uint64
}

// due reports whether it is to look.
func (w *floodWatch) due(now time.Duration) bool { return now >= w.next }

// look takes how many SYN cookies were sent in all, and returns what is to be said: of a
// flood that has begun, or of one that is over.
func (w *floodWatch) look(now time.Duration, cookies uint64) (begun, over *FloodStatus) {
	first := w.next == 0
	more, took := cookies-w.cookies, now-w.looked
	before := w.cookies
	w.cookies, w.looked, w.next = cookies, now, now+floodLook
	if first {
		return nil, nil // what was sent until then has no time
	}
	w.perSecond = uint64(float64(more) / took.Seconds())
	if w.perSecond >= floodCookies {
		w.latest, w.most = now, max(w.most, w.perSecond)
		if w.begun == 0 {
			w.begun, w.before = now-took, before
			return w.status(now), nil
		}
		return nil, nil
	}
	if w.begun == 0 || now-w.latest < floodOver {
		return nil, nil
	}
	s := w.status(w.latest)
	w.begun, w.latest, w.most = 0, 0, 0
	return nil, s
}

// status is nil while there is no flood.
func (w *floodWatch) status(now time.Duration) *FloodStatus {
	if w.begun == 0 {
		return nil
	}
	return &FloodStatus{Seconds: (now - w.begun).Seconds(), PerSecond: w.perSecond, Most: w.most, Answered: w.cookies - w.before}
}

// lookForFlood logs a flood of what netstack serves when it begins and when it is over. It
// runs on the loop's goroutine.
func (g *Guest) lookForFlood(now time.Duration) {
	if g.flood.due(now) {
		g.flood.tell(g.log, now, g.parts.Stack.Counters().CookiesSent)
	}
}

// floodStatus is of the flood that lasts: of what netstack serves, or else of what the
// host's own TCP does.
func (g *Guest) floodStatus(now time.Duration) *FloodStatus {
	s := g.flood.status(now)
	if s == nil && g.parts.Direct != nil {
		s = g.parts.Direct.Flood(now)
	}
	return s
}

// Flood is of a flood of what the host's own TCP serves, nil while there is none.
func (d *DirectPath) Flood(now time.Duration) *FloodStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.flood.status(now)
}

// tell looks, and logs what is to be said.
func (w *floodWatch) tell(log *slog.Logger, now time.Duration, cookies uint64) {
	begun, over := w.look(now, cookies)
	if begun != nil {
		log.Warn("a flood of SYNs: they are answered with SYN cookies; connections that are open go on, and who is new may have no window scaling while it lasts", "per_second", begun.PerSecond)
	}
	if over != nil {
		log.Info("the flood of SYNs is over", "lasted", time.Duration(over.Seconds*float64(time.Second)).Round(time.Second), "answered", over.Answered, "per_second_at_most", over.Most)
	}
}
