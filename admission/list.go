package admission

import (
	"net/netip"

	"github.com/gaissmai/bart"
)

// List is prefixes from a file, in a trie that is walked eight bits at a time, so that
// a long list costs a lookup little more than a short one. It does not change once it
// is made, and may be read by several goroutines.
type List struct {
	prefixes bart.Lite
	size     int
}

// NewList makes a list. Prefixes may be there twice, and bits beyond their length do
// not count.
func NewList(prefixes []netip.Prefix) *List {
	l := &List{}
	for _, p := range prefixes {
		l.prefixes.Insert(p.Masked())
	}
	l.size = l.prefixes.Size()
	return l
}

// Len is how many different prefixes there are.
func (l *List) Len() int { return l.size }

// Longest is the length of the longest prefix that contains an address; ok is false
// when none does.
func (l *List) Longest(a netip.Addr) (bits int, ok bool) {
	p, ok := l.prefixes.LookupPrefixLPM(netip.PrefixFrom(a, a.BitLen()))
	return p.Bits(), ok
}
