package responder

import "time"

// Limit is a token bucket: on the average at most so many a second, and at most
// a burst at once. The zero value allows nothing. It is kept as virtual
// scheduling (GCRA, ITU-T I.371): one instant instead of a count of tokens, so
// that nothing is lost by rounding.
type Limit struct {
	cost   time.Duration // of one: the time in which it is earned
	credit time.Duration // how far next may run ahead of now: burst-1 costs
	next   time.Duration // when the bucket will be full again
}

// NewLimit allows perSecond a second and burst at once. What is below one
// allows nothing; above 1e9 a second counts as 1e9.
func NewLimit(perSecond, burst int) *Limit {
	if perSecond < 1 || burst < 1 {
		return &Limit{}
	}
	cost := max(time.Second/time.Duration(perSecond), 1)
	// A day's worth at most, which keeps the product within range.
	credit := time.Duration(min(int64(burst-1), int64(24*time.Hour/cost))) * cost
	return &Limit{cost: cost, credit: credit}
}

// Allow takes one from the bucket if there is one.
func (l *Limit) Allow(now time.Duration) bool {
	if l.cost == 0 {
		return false
	}
	next := max(l.next, now)
	if next-now > l.credit {
		return false
	}
	l.next = next + l.cost
	return true
}
