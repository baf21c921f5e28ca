package admission

import (
	"cmp"
	"net/netip"
	"slices"
)

// prefixes says something of addresses by the longest prefix that contains them.
type prefixes struct {
	ranks map[netip.Prefix]rank
	// bits4 and bits6 are the lengths that there are, the longest first.
	bits4, bits6 []int
}

// add puts a prefix in; one that is there already stays as it is.
func (p *prefixes) add(prefix netip.Prefix, r rank) {
	prefix = prefix.Masked()
	if _, there := p.ranks[prefix]; there {
		return
	}
	if p.ranks == nil {
		p.ranks = map[netip.Prefix]rank{}
	}
	p.ranks[prefix] = r
	bits := &p.bits6
	if prefix.Addr().Is4() {
		bits = &p.bits4
	}
	longerFirst := func(a, b int) int { return cmp.Compare(b, a) }
	if at, there := slices.BinarySearchFunc(*bits, prefix.Bits(), longerFirst); !there {
		*bits = slices.Insert(*bits, at, prefix.Bits())
	}
}

// find is what is said of an address, and by how long a prefix; ok is false when
// nothing is.
func (p *prefixes) find(a netip.Addr) (r rank, bits int, ok bool) {
	lengths := p.bits6
	if a.Is4() {
		lengths = p.bits4
	}
	for _, n := range lengths {
		// The length fits the family.
		prefix, _ := a.Prefix(n)
		if r, ok := p.ranks[prefix]; ok {
			return r, n, true
		}
	}
	return 0, 0, false
}
