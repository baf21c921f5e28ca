package responder

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// addrKey is an address without a pointer in it, so that the collector need not
// walk a table of 65,536 of them. IPv4 is written as IPv4 in IPv6.
type addrKey [16]byte

func keyOf(a netip.Addr) addrKey { return a.As16() }

// none is the index of no entry.
const none = int32(-1)

// leastHeads is the number of hash chains of an empty table.
const leastHeads = 16

// entry is an address with its MAC and the time it was put down.
type entry struct {
	key          addrKey
	at           time.Duration
	newer, older int32 // in the order of use
	chain        int32 // the next with the same hash, or the next that is free
	mac          MAC
}

// lru is a table of at most max addresses in the order of their last use. All
// of its operations take constant time, and allocate only while it grows to the
// most that it ever held. The runtime's map would do more: where keys come and
// go at a constant number it has been seen to keep growing.
type lru struct {
	entries        []entry
	heads          []int32      // the first of each hash chain; a power of two
	seed           maphash.Seed // keeps clients from choosing a chain; no result depends on it
	newest, oldest int32
	free           int32
	count, max     int
}

func newLRU(maxEntries int) lru {
	l := lru{seed: maphash.MakeSeed(), newest: none, oldest: none, free: none, max: maxEntries}
	l.rehash(leastHeads)
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
		if len(l.entries) == len(l.heads) {
			l.rehash(2 * len(l.heads))
		}
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

// rehash spreads the entries over so many chains, a power of two.
func (l *lru) rehash(heads int) {
	l.heads = make([]int32, heads)
	for i := range l.heads {
		l.heads[i] = none
	}
	for i := l.newest; i != none; i = l.entries[i].older {
		e := &l.entries[i]
		h := l.head(&e.key)
		e.chain, *h = *h, i
	}
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
