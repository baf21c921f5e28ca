package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"onevoice/hashing"
)

// Why an entry changed nothing. Operators see these.
var (
	errStale     = errors.New("the table has gone on since; look again")
	errNoHost    = errors.New("there is no such node")
	errNoService = errors.New("there is no such service")
	errNotNow    = errors.New("the bucket is on its way already; try again")
	errHolder    = errors.New("the node is not in, or takes no buckets now")
	errNoBucket  = errors.New("the service has fewer buckets")
	errIsIn      = errors.New("the node is in; drain it and stop it first")
	errFull      = errors.New("the table is full")
)

// apply changes the table by an entry. It is the same on every host: it looks at
// the table and the entry only. An error says why the entry changed nothing.
func (t *Table) apply(index uint64, c *command) error {
	switch c.Kind {
	case kindJoin:
		return t.join(index, c)
	case kindEvict:
		return t.evict(index, c)
	case kindOrphaned:
		return t.orphaned(c)
	case kindMove:
		return t.move(index, c)
	case kindReleased:
		return t.released(index, c)
	case kindDrained:
		return t.drained(c)
	case kindHealth:
		return t.health(c)
	case kindSettled:
		return t.settled(c)
	case kindSet:
		return t.set(c)
	case kindPin:
		return t.pin(c)
	case kindDefine:
		return t.define(index, c)
	case kindRemap:
		return t.remap(index, c)
	case kindRetime:
		return t.retime(c)
	case kindReady:
		return t.ready(index, c)
	case kindEnd:
		return t.endFlows(index, c)
	case kindForget:
		return t.letGo(c)
	case kindForeign:
		return t.foreign(c)
	}
	return fmt.Errorf("cluster: entry of kind %d", c.Kind)
}

// join lets a host in, or renews its epoch. A renewal keeps its rows: they are
// bound to the new epoch from here on, and an eviction of that one needs
// withdrawals from all before it.
func (t *Table) join(index uint64, c *command) error {
	h := t.host(c.ID)
	if h == nil || h.Foreign || c.Epoch <= h.Epoch || ahead(c.Epoch, h.Epoch) {
		return errStale
	}
	renewed := h.In
	h.Leaving = false
	// A host that is new to the table is no drainer in it: what its workers hold is
	// of a host that it was before.
	bare := !c.Flows || !h.In && (h.Orphaned || h.Epoch == 0)
	if !renewed {
		h.Waits = h.Epoch > 0 && slices.ContainsFunc(t.Hosts, func(h Host) bool { return h.serves() })
	}
	h.Epoch, h.In, h.Orphaned = c.Epoch, true, false
	h.Bare = bare && c.Flows
	me := bit(h.Slot)
	for i := range t.Services {
		for b := range t.Services[i].Rows {
			r := &t.Services[i].Rows[b]
			if r.Grace&me != 0 && !bare {
				r.Drainers |= me
				r.Since = index
			}
			r.Grace &^= me
			if bare {
				r.Drainers &^= me
			}
		}
	}
	if !renewed {
		t.giveAway(index)
	}
	return nil
}

// ready ends a host's waiting.
func (t *Table) ready(index uint64, c *command) error {
	h := t.host(c.ID)
	if h == nil || !h.In || !h.Waits || h.Epoch != c.Epoch {
		return errStale
	}
	h.Waits = false
	t.giveAway(index)
	return nil
}

// evict takes a host's rows away. It counts only with withdrawals that leave no
// majority in any voter set that a lease of that epoch may rest on (R8).
func (t *Table) evict(index uint64, c *command) error {
	h := t.host(c.ID)
	if h == nil || h.Foreign || !h.In || h.Epoch != c.Epoch {
		return errStale
	}
	withdrew := func(v uint64) bool { return slices.Contains(c.Withdrew, v) }
	for i := range t.Sets {
		if !t.Sets[i].blocked(withdrew) {
			return errStale
		}
	}
	t.takeOut(h)
	t.giveAway(index)
	for i := range t.Services {
		// It may have been the last to hold a mapping, without a row any more.
		t.mapAnew(index, &t.Services[i])
	}
	return nil
}

// takeOut makes a host one that may still hold flows, and owns nothing.
func (t *Table) takeOut(h *Host) {
	h.In, h.Orphaned, h.Waits = false, false, false
	me, name := bit(h.Slot), h.Slot+1
	for i := range t.Services {
		s := &t.Services[i]
		s.Holders &^= me
		for b := range s.Rows {
			r := &s.Rows[b]
			if r.Owner == name || r.Drainers&me != 0 {
				r.Grace |= me
			}
			r.Drainers &^= me
			if r.To == name {
				r.To = 0
			}
			if r.Owner == name {
				r.Owner, r.To = 0, 0
			}
		}
	}
}

// giveAway gives every row without an owner to one, by the least change.
func (t *Table) giveAway(index uint64) {
	for i := range t.Services {
		s := &t.Services[i]
		cur := s.owners()
		if cur.Count(0) == hashing.Buckets-s.Mapping.buckets() {
			continue
		}
		shares := t.shares(s.Name, fullWeight)
		if len(shares) == 0 {
			// Nobody healthy: whoever is in keeps the table going.
			shares = t.anybody()
		}
		next, err := t.next(s, cur, shares, func(int) bool { return false })
		if err != nil || len(shares) == 0 {
			continue
		}
		for b := range s.Mapping.buckets() {
			if r := &s.Rows[b]; r.Owner == 0 {
				r.give(t.heir(s, b, uint8(next[b])))
			}
		}
		t.mapAnew(index, s)
	}
}

// give makes a slot + 1 the owner. An owner is no drainer: it speaks for its own
// flows.
func (r *Row) give(to uint8) {
	r.Owner, r.To = to, 0
	if to != 0 {
		r.Drainers &^= bit(to - 1)
	}
}

// heir is who gets an ownerless row: who it is pinned to, when that host is in.
func (t *Table) heir(s *Service, b int, by uint8) uint8 {
	if s.Mapping.Sharing != nil {
		return by // it was thought of
	}
	if h := t.at(s.Rows[b].Pinned); h != nil && h.serves() {
		return s.Rows[b].Pinned
	}
	return by
}

// anybody are all that are in, whatever their health or weight.
func (t *Table) anybody() []hashing.Share {
	var out []hashing.Share
	for i := range t.Hosts {
		if h := &t.Hosts[i]; h.In && !h.Witness && !h.Foreign {
			out = append(out, hashing.Share{Node: hashing.NodeID(h.Slot) + 1, Weight: 1})
		}
	}
	return out
}

// orphaned takes an evicted host's flows for dead, so that others may reset
// them.
func (t *Table) orphaned(c *command) error {
	h := t.host(c.ID)
	if h == nil || h.In || h.Epoch != c.Epoch || h.Orphaned {
		return errStale
	}
	h.Orphaned = true
	for i := range t.Services {
		for b := range t.Services[i].Rows {
			t.Services[i].Rows[b].Grace &^= bit(h.Slot)
		}
	}
	return nil
}

// move begins moves: from here on the owners accept nothing new in those rows. It
// is refused only when not one of them could begin.
func (t *Table) move(index uint64, c *command) error {
	done, begun := errStale, false
	for _, m := range c.Moves {
		s, to := t.service(m.Service), t.host(m.To)
		switch {
		case s == nil:
			done = errNoService
			continue
		case to == nil || !to.In || to.Waits || to.Witness:
			done = errHolder
			continue
		}
		if int(m.Bucket) >= s.Mapping.buckets() {
			done = errNoBucket
			continue
		}
		r := &s.Rows[m.Bucket]
		if r.To != 0 || r.Owner == 0 || r.Owner == to.Slot+1 {
			done = errNotNow
			continue
		}
		r.To, r.Moved = to.Slot+1, index
		if from := t.at(r.Owner); from != nil && from.Foreign {
			// It was taken off there, says the operator; nothing can release it.
			r.Since = index
			r.give(r.To)
		}
		begun = true
	}
	if begun {
		return nil
	}
	return done
}

// released ends the moves that a host's workers have all written back. The host
// drains: it may hold flows, half-open ones and cookies of the rows.
func (t *Table) released(index uint64, c *command) error {
	h := t.host(c.ID)
	if h == nil || !h.In || h.Epoch != c.Epoch {
		return errStale
	}
	for i := range t.Services {
		for b := range t.Services[i].Rows {
			r := &t.Services[i].Rows[b]
			if r.Owner != h.Slot+1 || r.To == 0 || r.Moved > c.Index {
				continue
			}
			r.Drainers |= bit(h.Slot)
			r.Since = index
			r.give(r.To)
		}
	}
	return nil
}

// drained ends a host's draining of rows, unless it became a drainer of them
// after it had looked.
func (t *Table) drained(c *command) error {
	h, s := t.host(c.ID), t.service(c.Service)
	if h == nil || s == nil || !h.In || h.Epoch != c.Epoch {
		return errStale
	}
	for b := range s.Rows {
		if r := &s.Rows[b]; c.Buckets.has(uint8(b)) && r.Since <= c.Index {
			r.Drainers &^= bit(h.Slot)
		}
	}
	return nil
}

func (t *Table) health(c *command) error {
	h := t.host(c.ID)
	if h == nil || t.service(c.Service) == nil {
		return errStale
	}
	i, ok := slices.BinarySearchFunc(h.Health, c.Service, func(x Health, n string) int { return cmp.Compare(x.Service, n) })
	if !ok {
		h.Health = slices.Insert(h.Health, i, Health{Service: c.Service})
	}
	h.Health[i].Up = c.Up
	return nil
}

// settled drops the voter sets before an index: no lease rests on them any more.
func (t *Table) settled(c *command) error {
	i := slices.IndexFunc(t.Sets, func(s VoterSet) bool { return s.Index == c.Index })
	if i <= 0 {
		return errStale
	}
	t.Sets = slices.Delete(t.Sets, 0, i)
	return nil
}

func (t *Table) set(c *command) error {
	h := t.host(c.ID)
	switch {
	case h == nil:
		return errNoHost
	case h.Foreign:
		return errForeign
	case c.Weight != nil && *c.Weight > MaxWeight:
		return fmt.Errorf("a weight is at most %d", MaxWeight)
	case c.Percent != nil && *c.Percent > 100 || c.Votes != nil && !validVotes(*c.Votes):
		return errStale
	}
	if c.Weight != nil {
		h.Weight = *c.Weight
	}
	if c.Drain != nil {
		h.Draining = *c.Drain
	}
	if c.Percent != nil {
		h.Percent = *c.Percent
	}
	if c.Votes != nil {
		h.Votes = *c.Votes
	}
	if c.Leave {
		h.Leaving = true
	}
	return nil
}

// pin keeps a row at a host, or with ID 0 lets it go where it likes.
func (t *Table) pin(c *command) error {
	s := t.service(c.Service)
	if s == nil {
		return errNoService
	}
	if c.ID == 0 {
		s.Rows[c.Bucket].Pinned = 0
		return nil
	}
	h := t.host(c.ID)
	switch {
	case h == nil || h.Witness:
		return errNoHost
	case h.Foreign:
		return errForeign
	case int(c.Bucket) >= s.Mapping.buckets():
		return errNoBucket
	}
	s.Rows[c.Bucket].Pinned = h.Slot + 1
	return nil
}

func (t *Table) retime(c *command) error {
	if c.Timing == nil || !c.Timing.valid() {
		return errStale
	}
	t.Timing = *c.Timing
	t.LongestTTL = max(t.LongestTTL, t.Timing.TTL)
	return nil
}

func (t *Table) endFlows(index uint64, c *command) error {
	h := t.host(c.ID)
	if h == nil {
		return errNoHost
	}
	h.Ends = index
	return nil
}

// letGo marks a host that is out as one to be removed; the leader then does.
func (t *Table) letGo(c *command) error {
	h := t.host(c.ID)
	switch {
	case h == nil:
		return errNoHost
	case h.In && !h.Foreign:
		return errIsIn
	case h.Foreign && t.owns(h):
		return errors.New("the node owns buckets; move them first")
	case h.Foreign:
		t.forget(h)
		return nil
	}
	h.Forgotten = true
	return nil
}

// owns tells whether a host owns rows, or is to.
func (t *Table) owns(h *Host) bool {
	for i := range t.Services {
		for b := range t.Services[i].Rows {
			if r := &t.Services[i].Rows[b]; r.Owner == h.Slot+1 || r.To == h.Slot+1 {
				return true
			}
		}
	}
	return false
}

// foreign adds an owner that is no host of ours (R21).
func (t *Table) foreign(c *command) error {
	if c.ID == 0 || c.Name == "" || t.host(c.ID) != nil {
		return errStale
	}
	if _, there := t.hostsNamed(c.Name); there != nil {
		return errStale
	}
	if !t.addForeign(c.ID, c.Name) {
		return errFull
	}
	return nil
}
