package responder

import (
	"hash/maphash"
	"math/bits"
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
	newer, older int32 // in the order of use
	chain        int32 // the next with the same hash, or the next that is free
	mac          MAC
}

// lru is a table of at most max addresses in the order of their last use. All
// of its operations take constant time, and none allocates: it has its room from the
// start, of which the system gives what is used, so that a table which fills, as with the
// sources of floods, is no heap that grows. The runtime's map would do more: where keys
// come and go at a constant number it has been seen to keep growing.
type lru struct {
	entries        []entry
	heads          []int32      // the first of each hash chain; a power of two
	seed           maphash.Seed // keeps clients from choosing a chain; no result depends on it
	newest, oldest int32
	free           int32
	count, max     int
}

func newLRU(maxEntries int) lru {
	l := lru{
		entries: make([]entry, 0, maxEntries), heads: make([]int32, 1<<bits.Len(uint(maxEntries-1))),
		seed: maphash.MakeSeed(), newest: none, oldest: none, free: none, max: maxEntries,
	}
	for i := range l.heads {
		l.heads[i] = none
	}
	return l
}

func (l *lru) full() bool { return l.count >= l.max }

// head is where the chain of a key begins.
func (l *lru) head(key *addrKey) *int32 {
	return &l.heads[maphash.Bytes(l.seed, key[:])&uint64(len(l.heads)-1)]
}

// find returns the entry's index or none. Frames come in runs from one client,
// so the newest entry is tried before the chains.
func (l *lru) find(key addrKey) int32 {
	if i := l.newest; i != none && l.entries[i].key == key {
		return i
	}
	i := *l.head(&key)
	for i != none && l.entries[i].key != key {
		i = l.entries[i].chain
	}
	return i
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
		l.free = l.entries[i].chain
	} else {
		i = int32(len(l.entries))
		l.entries = append(l.entries, entry{})
	}
	h := l.head(&key)
	l.entries[i] = entry{key: key, chain: *h}
	*h = i
	l.link(i)
	l.count++
	return i, evicted
}

func (l *lru) remove(i int32) {
	l.unlink(i)
	e := &l.entries[i]
	at := l.head(&e.key)
	for *at != i {
		at = &l.entries[*at].chain
	}
	*at = e.chain
	e.chain, l.free = l.free, i
	l.count--
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
