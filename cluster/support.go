package cluster

import (
	"slices"
	"time"
)

// supporter is the voter's side of leases: what this host has promised to each
// member, and what it will never promise again.
type supporter struct {
	self  uint64
	hosts []support // sorted by ID
	// booted is when this supporter was made. What was promised before is not
	// known, so every promise is held for a TTL from then (R9).
	booted time.Duration
	// promisedTTL is the longest that may have been promised before then, as far
	// as the log tells: entries that were applied once may not be again for a
	// while.
	promisedTTL time.Duration
	// quietUntil: a new voter supports nobody and withdraws from nobody (R9).
	quietUntil time.Duration
	// leasedAt is when somebody else last said that it holds a lease; without
	// that nobody can be told from deaf, for there may be no majority.
	leasedAt time.Duration
}

// support is what a voter keeps of one member.
type support struct {
	id uint64
	// epoch is the highest heard; until is when the promise to it runs out, and
	// olderUntil when the promises to all before it do.
	epoch             uint64
	until, olderUntil time.Duration
	// below: no epoch below it will be supported; durable, and told. wanted is
	// the same on its way to the disk.
	below, wanted uint64
	// withdrewAt is when the last was decided.
	withdrewAt time.Duration
	// heard is when the member was last heard on any path.
	heard, heardLAN time.Duration
	// leaseless is when its present series of heartbeats without a lease began,
	// -1 while it has one.
	leaseless time.Duration
	// joined is when the table last showed the member's epoch for the first time.
	joined      time.Duration
	joinedEpoch uint64
	// Reported by the member, see heartbeat.
	leased bool
	rests  uint64
	// seenLeased is when this host, or one that it has heard, last heard the
	// member say so; -1 for never.
	seenLeased time.Duration
	// low is the lowest epoch that the member still uses.
	low         uint64
	applied     uint64
	withdrawn   []withdrawal
	heardOn     []heard // by path
	leasedSince time.Duration
	hears       slots
	clients     uint64
	gateway     bool
	alarm       bool
}

// heard is the last heartbeat of a member on one path, which is answered there.
type heard struct {
	path      string
	at        time.Duration
	low, high uint64
	sent      time.Duration
	ttl       time.Duration
	// promised: the answer is a promise; else it is a refusal.
	promised bool
	// set is the voter set that the promise was given in.
	set uint64
}

func newSupporter(self uint64, now time.Duration, below []withdrawal) *supporter {
	s := &supporter{self: self, booted: now, leasedAt: -1}
	for _, w := range below {
		m := s.of(w.Host)
		m.below, m.wanted = w.Below, w.Below
	}
	return s
}

// of is the entry of a member, made when there is none.
func (s *supporter) of(id uint64) *support {
	i, ok := slices.BinarySearchFunc(s.hosts, id, func(m support, id uint64) int {
		switch {
		case m.id < id:
			return -1
		case m.id > id:
			return 1
		}
		return 0
	})
	if !ok {
		s.hosts = slices.Insert(s.hosts, i, support{id: id, leaseless: -1, heard: -1, heardLAN: -1, leasedSince: -1, seenLeased: -1, withdrewAt: -1})
	}
	return &s.hosts[i]
}

// hear takes a member's heartbeat in, and promises when that is right.
// witnessed is the witness's own judgement; true for others.
func (s *supporter) hear(now time.Duration, t *Table, h *heartbeat, witnessed bool) {
	m := s.of(h.From)
	m.heard = now
	if h.Path != "" {
		m.heardLAN = now
	}
	m.leased, m.applied, m.hears, m.clients, m.gateway, m.alarm = h.Leased, h.Applied, h.Hears, h.Clients, h.Gateway, h.Alarm
	s.noteLease(now, m, h)
	if h.High < m.epoch || h.Low < m.low {
		return // an older frame of the same member
	}
	m.rests, m.low, m.withdrawn = h.Rests, h.Low, h.Withdrawn
	if h.High > m.epoch {
		m.olderUntil = max(m.olderUntil, m.until)
		m.epoch, m.until = h.High, 0
	}
	a := heard{path: h.Path, at: now, low: max(h.Low, m.below, m.wanted), high: h.High, sent: h.Sent, ttl: t.Timing.TTL, set: t.voters().Index}
	a.promised = !h.Behind && a.low <= a.high && witnessed && t.voters().has(s.self) && now >= s.quietUntil && !s.deaf(now, t, m, h.Sent)
	if a.promised {
		m.until = max(m.until, now+a.ttl)
		if a.low < a.high {
			m.olderUntil = max(m.olderUntil, now+a.ttl)
		}
	}
	s.answer(m, a)
}

// noteLease keeps how long a member has been without a lease, or with one.
func (s *supporter) noteLease(now time.Duration, m *support, h *heartbeat) {
	switch {
	case h.Leased:
		s.leasedAt, m.seenLeased = now, now
		m.leaseless = -1
		if m.leasedSince < 0 {
			m.leasedSince = now
		}
	case m.leaseless < 0 || h.High > m.epoch:
		m.leaseless, m.leasedSince = now, -1
	default:
		m.leasedSince = -1
	}
}

// deafRetry is how long a member that has been found deaf, and is out, waits for
// another try, of a TTL. The times are by the member's own clock, so that all
// voters let it try at once.
const deafRetry = time.Second

// deaf reports a member that speaks and does not get a lease while others do: it
// does not hear, and is to be evicted like a dead one (R7).
func (s *supporter) deaf(now time.Duration, t *Table, m *support, sent time.Duration) bool {
	ttl := t.Timing.TTL
	// While this voter is quiet nobody can get a lease of it.
	if m.leaseless < 0 || now-max(m.leaseless, s.quietUntil) <= ttl || s.leasedAt < 0 || now-s.leasedAt > ttl {
		return false
	}
	h := t.host(m.id)
	return h == nil || h.In || sent%(ttl+deafRetry) >= ttl
}

// fresh reports whether a member was heard within a TTL, off the LAN too.
func (m *support) fresh(now time.Duration, t *Table) bool {
	return m.heard >= 0 && now-m.heard < t.Timing.TTL
}

// prune forgets those who are no members any more.
func (s *supporter) prune(t *Table) {
	s.hosts = slices.DeleteFunc(s.hosts, func(m support) bool { return m.id != s.self && t.host(m.id) == nil })
}

// answer keeps what the next heartbeats on a path say to a member.
func (s *supporter) answer(m *support, a heard) {
	for i := range m.heardOn {
		if m.heardOn[i].path == a.path {
			m.heardOn[i] = a
			return
		}
	}
	if len(m.heardOn) < maxPaths {
		m.heardOn = append(m.heardOn, a)
	}
}

// maxPaths bounds the paths of a node.
const maxPaths = 16

// withdrawAgain is how long a voter waits until it withdraws once more from a
// member that it has not heard in between: it may be deaf itself, and the member
// has renewed its epoch because of it.
const withdrawAgain = time.Second

// withdraw decides from whom to withdraw: members that are in, whose promises
// have all run out, and who are not heard (R8). It returns the withdrawals that
// are to be made durable.
func (s *supporter) withdraw(now time.Duration, t *Table) []withdrawal {
	var out []withdrawal
	hold := s.booted + max(t.LongestTTL, t.Timing.TTL, s.promisedTTL)
	if now < s.quietUntil || now <= hold || !t.votes(s.self) {
		return nil
	}
	for i := range t.Hosts {
		h := &t.Hosts[i]
		m := s.of(h.ID)
		if h.Epoch != m.joinedEpoch {
			m.joinedEpoch, m.joined = h.Epoch, now
		}
		if !h.In || h.Foreign || h.ID == s.self || m.wanted > h.Epoch || now <= m.olderUntil {
			continue
		}
		below := h.Epoch + 1
		switch {
		case m.epoch > h.Epoch:
			below = m.epoch
		case now <= m.until || now <= m.joined+t.Timing.TTL:
			continue
		}
		if m.withdrewAt >= 0 && m.heard < m.withdrewAt && now-m.withdrewAt < withdrawAgain {
			continue
		}
		m.wanted, m.withdrewAt = below, now
		out = append(out, withdrawal{Host: h.ID, Below: below})
	}
	return out
}

// durable says that withdrawals are on the disk, so that they may be told.
func (s *supporter) durable(list []withdrawal) {
	for _, w := range list {
		m := s.of(w.Host)
		m.below = max(m.below, w.Below)
	}
}

// promises are the answers for the next heartbeat on a path.
func (s *supporter) promises(now time.Duration, t *Table, path string) []promise {
	if !t.voters().has(s.self) {
		return nil
	}
	var out []promise
	for i := range s.hosts {
		for _, a := range s.hosts[i].heardOn {
			if a.path == path && a.promised && now-a.at < a.ttl && a.set == t.voters().Index {
				out = append(out, promise{To: s.hosts[i].id, Low: a.low, More: a.high - a.low, Sent: a.sent, TTL: uint16(a.ttl / time.Millisecond)})
			}
		}
	}
	return out
}

// withdrawals are all that this voter has made durable.
func (s *supporter) withdrawals() []withdrawal {
	var out []withdrawal
	for i := range s.hosts {
		if m := &s.hosts[i]; m.below > 0 {
			out = append(out, withdrawal{Host: m.id, Below: m.below})
		}
	}
	return out
}

// telling are the withdrawals that the table still cares for: those from the epoch
// that a member's rows are bound to, or from later ones. Others could fill a
// heartbeat, and rest on epochs that nobody can be evicted from any more.
func (s *supporter) telling(t *Table) []withdrawal {
	return slices.DeleteFunc(s.withdrawals(), func(w withdrawal) bool {
		h := t.host(w.Host)
		return h == nil || w.Below <= h.Epoch
	})
}

// withdrew reports whether a voter is known to have withdrawn from an epoch.
func (s *supporter) withdrew(voter, id, epoch uint64) bool {
	list := s.of(voter).withdrawn
	if voter == s.self {
		list = s.withdrawals()
	}
	return slices.ContainsFunc(list, func(w withdrawal) bool { return w.Host == id && w.Below > epoch })
}
