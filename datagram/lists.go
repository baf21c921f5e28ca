package datagram

import (
	"net/netip"
	"time"
)

// sourceKey is what the bound of a source counts by: a host of IPv6 has a whole /64
// to send from.
func sourceKey(a netip.Addr) [16]byte {
	k := a.As16()
	if !a.Is4() {
		clear(k[8:])
	}
	return k
}

// slot is a free entry.
func (t *Table) slot() int32 {
	if i := t.free; i != none {
		t.free = t.entries[i].inService.newer
		return i
	}
	t.entries = append(t.entries, entry{})
	return int32(len(t.entries) - 1)
}

// sourceSlot is the slot of a source, a new one if it has none.
func (t *Table) sourceSlot(k [16]byte) int32 {
	if i, ok := t.sources[k]; ok {
		return i
	}
	i := t.freeSource
	if i == none {
		t.bySource = append(t.bySource, source{})
		i = int32(len(t.bySource) - 1)
	} else {
		t.freeSource = t.bySource[i].count
	}
	t.bySource[i] = source{key: k, flows: ends{none, none}}
	t.sources[k] = i
	return i
}

// use makes a flow the one that was used last.
func (t *Table) use(now time.Duration, i int32) {
	t.unlink(i)
	t.entries[i].last = now
	t.link(i)
}

func serviceLinks(e *entry) *links { return &e.inService }
func sourceLinks(e *entry) *links  { return &e.inSource }

// link puts an entry behind the newest of its service and of its source.
func (t *Table) link(i int32) {
	e := &t.entries[i]
	s := &t.bySource[e.source]
	t.push(&t.byService[e.service], serviceLinks, i)
	t.push(&s.flows, sourceLinks, i)
	s.count++
}

func (t *Table) unlink(i int32) {
	e := &t.entries[i]
	s := &t.bySource[e.source]
	t.pull(&t.byService[e.service], serviceLinks, i)
	t.pull(&s.flows, sourceLinks, i)
	s.count--
}

func (t *Table) push(list *ends, of func(*entry) *links, i int32) {
	*of(&t.entries[i]) = links{older: list.newest, newer: none}
	if list.newest == none {
		list.oldest = i
	} else {
		of(&t.entries[list.newest]).newer = i
	}
	list.newest = i
}

func (t *Table) pull(list *ends, of func(*entry) *links, i int32) {
	l := *of(&t.entries[i])
	if l.older == none {
		list.oldest = l.newer
	} else {
		of(&t.entries[l.older]).newer = l.newer
	}
	if l.newer == none {
		list.newest = l.older
	} else {
		of(&t.entries[l.newer]).older = l.older
	}
}
