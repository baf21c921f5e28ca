package admission

import (
	"cmp"
	"net/netip"
	"slices"
)

// prefixes says something of addresses by the longest prefix that contains them.
type prefixes struct {
	verdicts map[netip.Prefix]bool
	// bits4 and bits6 are the lengths that there are, the longest first.
	bits4, bits6 []int
}

// add puts a prefix in; one that is there already stays as it is.
func (p *prefixes) add(prefix netip.Prefix, verdict bool) {
	prefix = prefix.Masked()
	if _, there := p.verdicts[prefix]; there {
		return
	}
	if p.verdicts == nil {
		p.verdicts = map[netip.Prefix]bool{}
	}
	p.verdicts[prefix] = verdict
	bits := &p.bits6
	if prefix.Addr().Is4() {
		bits = &p.bits4
	}
	longerFirst := func(a, b int) int { return cmp.Compare(b, a) }
	if at, there := slices.BinarySearchFunc(*bits, prefix.Bits(), longerFirst); !there {
		*bits = slices.Insert(*bits, at, prefix.Bits())
	}
}

// find is what is said of an address; ok is false when nothing is.
func (p *prefixes) find(a netip.Addr) (verdict, ok bool) {
	bits := p.bits6
	if a.Is4() {
		bits = p.bits4
	}
	for _, n := range bits {
		// The length fits the family.
		prefix, _ := a.Prefix(n)
		if verdict, ok := p.verdicts[prefix]; ok {
			return verdict, true
		}
	}
	return false, false
}
