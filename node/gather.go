package node

import (
	"time"

	"onevoice/internal/poller"
)

// Streams of short frames.
const (
	// gatherTime is how long the loop lets frames gather after a turn in which some
	// were joined and after which none wait. A sleeper is woken by the next frame, at
	// the cost of its sender, and finds little; one that stands still is not, and finds
	// a batch. docs/performance.md has what it is worth.
	gatherTime = 100 * time.Microsecond
	// gatherAfter is how many joined segments of one turn tell of such a stream:
	// requests and their answers are not joined.
	gatherAfter = 8
)

// wait waits for something to do, and lets frames gather where that pays.
func (l *Loop) wait(now time.Duration) ([]poller.Event, error) {
	joined := l.stack.Joined()
	gathers := l.rest != nil && joined-l.joined >= gatherAfter
	l.joined = joined
	timeout := l.timeout(now)
	if !gathers || timeout == 0 {
		return l.poller.Wait(timeout)
	}
	if events, err := l.poller.Wait(0); err != nil || len(events) > 0 {
		return events, err
	}
	l.rest(gatherTime)
	return l.poller.Wait(l.timeout(l.clock()))
}
