package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// MaxInstant bounds the events of one instant. A world that reaches it stands
// still: an event schedules itself again without letting time pass.
const MaxInstant = 1 << 20

// World is the event clock. It is not safe for use by several goroutines.
type World struct {
	// AfterEach, if set, runs after every event: the place for invariants.
	AfterEach func()

	now     time.Duration
	agenda  agenda
	rng     *rand.Rand
	events  uint64
	instant int
	stopped bool
	trace   trace
}

// New makes a world at time 0 whose chance all comes from seed.
func New(seed uint64) *World {
	return &World{rng: rand.New(rand.NewPCG(seed, 0x6f6e65766f696365)), trace: trace{sum: 0xcbf29ce484222325 ^ seed}}
}

// Now is the true time, which no host can read.
func (w *World) Now() time.Duration { return w.now }

// Rand is the source of all chance. Whoever draws from it does so within an
// event, or the order of the draws is not that of the seed.
func (w *World) Rand() *rand.Rand { return w.rng }

// Events is how many events have run.
func (w *World) Events() uint64 { return w.events }

// Pending is how many events wait.
func (w *World) Pending() int { return len(w.agenda.heap) - w.agenda.dead }

// At runs fn at time t, or as soon as possible if t has passed. Events of one
// time run in the order in which they were asked for.
func (w *World) At(t time.Duration, fn func()) Timer {
	return w.agenda.add(max(t, w.now), fn)
}

// After runs fn when d has passed.
func (w *World) After(d time.Duration, fn func()) Timer { return w.At(w.now+d, fn) }

// Step runs the next event, whenever it is, and says whether there was one.
func (w *World) Step() bool {
	at, ok := w.agenda.next()
	if !ok {
		return false
	}
	if at > w.now {
		w.instant = 0
	}
	if w.instant++; w.instant > MaxInstant {
		panic(fmt.Sprintf("sim: more than MaxInstant events at %v: the world stands still", at))
	}
	w.now = at
	w.events++
	w.trace.mix(uint64(at))
	w.agenda.take()()
	if w.AfterEach != nil {
		w.AfterEach()
	}
	return true
}

// Run runs all events up to the time until, that time included, and leaves the
// clock there. It returns early, with the clock where it is, after Stop.
func (w *World) Run(until time.Duration) {
	w.stopped = false
	for !w.stopped {
		if at, ok := w.agenda.next(); !ok || at > until {
			if until > w.now {
				w.now, w.instant = until, 0
			}
			return
		}
		w.Step()
	}
}

// Stop makes Run return after the present event.
func (w *World) Stop() { w.stopped = true }

// TraceTo writes a line for each thing that happens. A nil writer ends it. The
// hash is the same with and without.
func (w *World) TraceTo(out io.Writer) { w.trace.out = out }

// TraceHash covers the time of every event and everything recorded so far: two
// runs with the same hash did the same.
func (w *World) TraceHash() uint64 { return w.trace.sum }

// TraceErr is the first error of the writer given to TraceTo.
func (w *World) TraceErr() error { return w.trace.err }

// Record puts a line into the trace: who, and what happened to them.
func (w *World) Record(who, what string) { w.record(who, what, nil, nil) }

// record is Record with the bytes that it happened with, which show says in
// words for the text.
func (w *World) record(who, what string, data []byte, show func([]byte) string) {
	w.trace.mixText(who)
	w.trace.mixText(what)
	w.trace.mixBytes(data)
	if w.trace.out == nil {
		return
	}
	if show != nil {
		what += " " + show(data)
	}
	w.trace.line("%12.6f %s %s\n", w.now.Seconds(), who, what)
}

// chance is true with probability p. It draws only if p is above 0, so that a
// fault that is off does not move the others.
func (w *World) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// between draws a time in [lo, hi].
func (w *World) between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(w.rng.Int64N(int64(hi-lo)+1))
}
