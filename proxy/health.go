package proxy

import "time"

// RetryInterval is how often a backend that refused is dialled again without a
// client.
const RetryInterval = time.Second

// Health knows whether a backend takes connections, by what became of the last
// dial. It is a state machine: the caller tells it what happened and when, and
// asks when to dial next.
type Health struct {
	refused bool
	// since is when the state last changed.
	since time.Duration
	next  time.Duration
	// probing: a dial without a client is under way.
	probing bool
}

// Up reports whether the last dial went through; true before the first.
func (h *Health) Up() bool { return !h.refused }

// Since is when the state last changed.
func (h *Health) Since() time.Duration { return h.since }

// Refused records a dial that nobody took. It reports whether that is news.
func (h *Health) Refused(now time.Duration) bool {
	news := !h.refused
	if news {
		h.since = now
	}
	h.refused, h.probing = true, false
	h.next = now + RetryInterval
	return news
}

// Connected records a dial that went through. It reports whether that is news.
func (h *Health) Connected(now time.Duration) bool {
	news := h.refused
	if news {
		h.since = now
	}
	h.refused, h.probing = false, false
	return news
}

// Next is when the backend is to be dialled without a client; false when it
// need not be.
func (h *Health) Next() (time.Duration, bool) {
	return h.next, h.refused && !h.probing
}

// Probing records that such a dial has begun.
func (h *Health) Probing() { h.probing = true }
