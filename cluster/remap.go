package cluster

import (
	"cmp"
	"slices"
)

// define adds a service, or begins to map one in another way: all who own rows
// of it release them first (R3).
func (t *Table) define(index uint64, c *command) error {
	if c.Mapping == nil || c.Service == "" {
		return errStale
	}
	s := t.service(c.Service)
	if s == nil {
		if len(t.Services) >= MaxServices {
			return errFull
		}
		i, _ := slices.BinarySearchFunc(t.Services, c.Service, func(s Service, n string) int { return cmp.Compare(s.Name, n) })
		m := *c.Mapping
		m.Generation = index
		if !t.meetForeign(&m) {
			return errFull
		}
		t.Services = slices.Insert(t.Services, i, Service{Name: c.Service, Mapping: m})
		t.layOut(&t.Services[i])
		t.giveAway(index)
		return nil
	}
	if s.Next != nil || s.Mapping.Digest == c.Mapping.Digest && s.Mapping.Key == c.Mapping.Key {
		return errStale
	}
	if t.foreignOwned(s) {
		return errForeignOwns
	}
	m := *c.Mapping
	m.Generation = index
	if !t.meetForeign(&m) {
		return errFull
	}
	s.Next, s.NextIndex, s.Holders = &m, index, 0
	for b := range s.Rows {
		if o := s.Rows[b].Owner; o != 0 {
			s.Holders |= bit(o - 1)
		}
	}
	t.mapAnew(index, s)
	return nil
}

// remap is a holder's word that it accepts nothing under the old mapping.
func (t *Table) remap(index uint64, c *command) error {
	h, s := t.host(c.ID), t.service(c.Service)
	if h == nil || s == nil || s.Next == nil || s.NextIndex != c.Index || !h.In || h.Epoch != c.Epoch {
		return errStale
	}
	s.Holders &^= bit(h.Slot)
	t.mapAnew(index, s)
	return nil
}

// mapAnew puts the next mapping in force once nobody holds the old one. A flow's
// bucket is another now, so whoever may hold flows of any row may hold them of
// every row.
func (t *Table) mapAnew(index uint64, s *Service) {
	if s.Next == nil || s.Holders != 0 {
		return
	}
	s.Mapping, s.Next = *s.Next, nil
	var drainers, grace slots
	for b := range s.Rows {
		r := &s.Rows[b]
		drainers |= r.Drainers
		grace |= r.Grace
		if r.Owner != 0 {
			drainers |= bit(r.Owner - 1)
		}
	}
	for b := range s.Rows {
		r := &s.Rows[b]
		r.Drainers, r.Grace, r.Since = drainers, grace, index
		r.give(r.Owner)
	}
	t.layOut(s)
	t.giveAway(index)
}
