package proxy

import "time"

// RetryInterval is how often a backend that refused is dialled again without a
// client.
const RetryInterval = time.Second

// Health knows whether a backend takes connections, by what became of the last
// dial. It is a state machine: the caller tells it what happened and when, and
// asks when to dial next. What became of a client's own dial may be for the client's
// sake, as where a packet filter bans its address, so that it is no more than a doubt,
// which a dial without a client settles.
type Health struct {
	refused bool
	doubted bool
	// since is when the state last changed.
	since time.Duration
	next  time.Duration
	// probing: a dial without a client is under way. probed: there was one, at last.
	probing, probed bool
	last            time.Duration
}

// Up reports whether the backend took the last dial that tells; true before the first.
func (h *Health) Up() bool { return !h.refused }

// Since is when the state last changed.
func (h *Health) Since() time.Duration { return h.since }

// Doubt records a client's dial that nobody took. A dial without a client is due then,
// once in RetryInterval at most, however many clients are banned.
func (h *Health) Doubt(now time.Duration) {
	if h.refused || h.doubted {
		return
	}
	h.doubted, h.next = true, now
	if h.probed {
		h.next = max(now, h.last+RetryInterval)
	}
}

// Refused records a dial without a client that nobody took. It reports whether that is news.
func (h *Health) Refused(now time.Duration) bool {
	news := !h.refused
	if news {
		h.since = now
	}
	h.refused, h.doubted, h.probing = true, false, false
	h.next = now + RetryInterval
	return news
}

// Connected records a dial that went through. It reports whether that is news.
func (h *Health) Connected(now time.Duration) bool {
	news := h.refused
	if news {
		h.since = now
	}
	h.refused, h.doubted, h.probing = false, false, false
	return news
}

// Next is when the backend is to be dialled without a client; false when it
// need not be.
func (h *Health) Next() (time.Duration, bool) {
	return h.next, (h.refused || h.doubted) && !h.probing
}

// Probing records that such a dial has begun.
func (h *Health) Probing(now time.Duration) { h.probing, h.probed, h.last = true, true, now }
