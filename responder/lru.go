package responder

import (
	"net/netip"
	"time"
)

// addrKey is an address without a pointer in it, so that the collector need not
// walk a table of 65,536 of them. IPv4 is written as IPv4 in IPv6.
type addrKey [16]byte

func keyOf(a netip.Addr) addrKey { return a.As16() }

// none is the index of no entry.
const none = int32(-1)

// entry is an address with its MAC and the time it was put down.
type entry struct {
	key          addrKey
	at           time.Duration
	newer, older int32 // neighbours in the order of use; older also links free entries
	mac          MAC
}

// lru is a table of at most max addresses in the order of their last use. All
// of its operations take constant time, and allocate only while it grows.
type lru struct {
	index          map[addrKey]int32
	entries        []entry
	newest, oldest int32
	free           int32
	max            int
}

func newLRU(maxEntries int) lru {
	return lru{index: make(map[addrKey]int32), newest: none, oldest: none, free: none, max: maxEntries}
}

func (l *lru) len() int { return len(l.index) }

func (l *lru) full() bool { return len(l.index) >= l.max }

// find returns the entry's index or none. Frames come in runs from one client,
// so the newest entry is tried before the map.
func (l *lru) find(key addrKey) int32 {
	if i := l.newest; i != none && l.entries[i].key == key {
		return i
	}
	if i, ok := l.index[key]; ok {
		return i
	}
	return none
}

// touch makes an entry the newest.
func (l *lru) touch(i int32) {
	if i == l.newest {
		return
	}
	l.unlink(i)
	l.link(i)
}

// add puts a key that is not in the table at the newest place and reports
// whether the oldest entry had to go for it.
func (l *lru) add(key addrKey) (i int32, evicted bool) {
	if l.full() {
		l.remove(l.oldest)
		evicted = true
	}
	if i = l.free; i != none {
		l.free = l.entries[i].older
	} else {
		i = int32(len(l.entries))
		l.entries = append(l.entries, entry{})
	}
	l.entries[i] = entry{key: key}
	l.index[key] = i
	l.link(i)
	return i, evicted
}

func (l *lru) remove(i int32) {
	l.unlink(i)
	delete(l.index, l.entries[i].key)
	l.entries[i].older = l.free
	l.free = i
}

func (l *lru) link(i int32) {
	e := &l.entries[i]
	e.newer, e.older = none, l.newest
	if l.newest != none {
		l.entries[l.newest].newer = i
	} else {
		l.oldest = i
	}
	l.newest = i
}

func (l *lru) unlink(i int32) {
	e := &l.entries[i]
	if e.newer != none {
		l.entries[e.newer].older = e.older
	} else {
		l.newest = e.older
	}
	if e.older != none {
		l.entries[e.older].newer = e.newer
	} else {
		l.oldest = e.newer
	}
}
