package cluster

import (
	"cmp"
	"slices"
	"time"
)

// holder is a node's own side of its leases: one on each path.
type holder struct {
	self uint64
	// low to high are the epochs in use: one, but while a renewal is on its way.
	// wanted is a higher one that is not durable yet.
	low, high, wanted uint64
	paths             []pathLease
	// suspendedSince: only answers to heartbeats sent after it count, for the
	// clock or this process has stood still before.
	suspendedSince time.Duration
}

// pathLease is the lease on one path.
type pathLease struct {
	path    string
	answers []answered // sorted by voter
	// end is when the lease ends; begin is since when it has been held without a
	// gap, and set the oldest voter set that it may rest on.
	begin, end time.Duration
	set        uint64
	held       bool
}

// answered is a voter's latest promise.
type answered struct {
	voter     uint64
	low, high uint64
	set       uint64
	end       time.Duration
}

func newHolder(self, epoch uint64, paths []string) *holder {
	h := &holder{self: self, low: epoch, high: epoch, wanted: epoch}
	for _, p := range paths {
		h.paths = append(h.paths, pathLease{path: p})
	}
	return h
}

// promised takes a voter's promise in. A witness's, off the LAN, has no path
// and counts on all: it promises only beside evidence from the LAN (R11). Nobody
// can have heard a heartbeat that was not sent yet.
func (h *holder) promised(now time.Duration, voter, set uint64, path string, p *promise) {
	ttl := time.Duration(p.TTL) * time.Millisecond
	if p.Sent < h.suspendedSince || p.Sent > now || ttl == 0 || ttl > maxTTL {
		return
	}
	end := leaseEnd(p.Sent, ttl)
	for i := range h.paths {
		if path == "" || h.paths[i].path == path {
			h.paths[i].note(answered{voter, p.Low, p.Low + p.More, set, end})
		}
	}
}

func (l *pathLease) note(a answered) {
	i, ok := slices.BinarySearchFunc(l.answers, a.voter, func(x answered, v uint64) int {
		switch {
		case x.voter < v:
			return -1
		case x.voter > v:
			return 1
		}
		return 0
	})
	switch {
	case !ok && len(l.answers) < MaxHosts:
		l.answers = slices.Insert(l.answers, i, a)
	case !ok:
		// Of members that were removed since: the oldest answer is nobody's any more.
		oldest := slices.MinFunc(l.answers, func(a, b answered) int { return cmp.Compare(a.end, b.end) })
		l.answers = slices.DeleteFunc(l.answers, func(x answered) bool { return x.voter == oldest.voter })
		l.note(a)
	case ok && (a.set != l.answers[i].set || a.high > l.answers[i].high || a.end > l.answers[i].end):
		l.answers[i] = a
	}
}

// renew works out every lease anew. It is called after each change and before
// each use.
func (h *holder) renew(now, ttl time.Duration, voters *VoterSet) {
	for i := range h.paths {
		h.paths[i].renew(now, leaseEnd(now, ttl), h.self, h.low, voters)
	}
}

// renew makes the lease end at the majority-th largest of what the voters have
// promised for the epoch, in the voter set that this node has applied (R7). An
// end that was reached under an older set stays: it was promised, and nobody is
// evicted without those voters until the set is settled.
func (l *pathLease) renew(now, own time.Duration, self, epoch uint64, voters *VoterSet) {
	var ends [MaxHosts]time.Duration
	n := 0
	for _, v := range voters.Voters {
		if v == self {
			ends[n] = own
			n++
			continue
		}
		for _, a := range l.answers {
			if a.voter == v && a.set == voters.Index && a.low <= epoch && epoch <= a.high {
				ends[n] = a.end
				n++
			}
		}
	}
	if l.held && now >= l.end {
		l.held = false
	}
	if n < voters.majority() {
		return
	}
	slices.Sort(ends[:n])
	end := ends[n-voters.majority()]
	if end <= now {
		return
	}
	if !l.held {
		l.held, l.begin, l.end, l.set = true, now, end, voters.Index
		return
	}
	if end >= l.end {
		l.end, l.set = end, voters.Index
	}
}

// drop ends every lease at once: its epoch is left behind.
func (h *holder) drop() {
	for i := range h.paths {
		h.paths[i].held, h.paths[i].end = false, 0
	}
}

// rebase forgets what rests on older voter sets, when the rows become bound to
// an epoch: evictions from it ask only the sets since.
func (h *holder) rebase(voters *VoterSet) {
	for i := range h.paths {
		if h.paths[i].set != voters.Index {
			h.paths[i].held, h.paths[i].end = false, 0
		}
	}
}

// suspend keeps the epoch and waits for a fresh answer (R10).
func (h *holder) suspend(now time.Duration) {
	h.suspendedSince = now
	h.drop()
	for i := range h.paths {
		h.paths[i].answers = h.paths[i].answers[:0]
	}
}

// leased reports a lease on any path.
func (h *holder) leased(now time.Duration) bool {
	return slices.ContainsFunc(h.paths, func(l pathLease) bool { return l.held && now < l.end })
}

// rests is the oldest voter set that a lease may rest on.
func (h *holder) rests(now time.Duration, voters *VoterSet) uint64 {
	oldest := voters.Index
	for i := range h.paths {
		if l := &h.paths[i]; l.held && now < l.end {
			oldest = min(oldest, l.set)
		}
	}
	return oldest
}
