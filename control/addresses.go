package control

import (
	"net/netip"
	"slices"
	"time"
)

// PeerAddress is where a host named in the file can be reached.
type PeerAddress struct {
	// Address is the one that names it, Control another, of a management network,
	// or none.
	Address, Control netip.Addr
	// Port is its control port.
	Port uint16
}

const (
	// maxKnown bounds the members with an address: those of a table, and as many
	// that were removed from it but still speak.
	maxKnown = 64
	// heardFresh is how long an address that was heard is better than the others.
	heardFresh = time.Second
)

// addresses is the book of where members are. A member is best reached where it
// was last heard from, authenticated; one that was not heard for a while is tried
// at each address that is known, in turn, for one of its networks may be down.
type addresses struct {
	port    uint16
	peers   []PeerAddress
	members map[uint64]*member
}

type member struct {
	known   []netip.AddrPort
	heard   netip.AddrPort
	heardAt time.Duration
	// spoke: it has sent to this host alone, last at spokeAt.
	spoke   bool
	spokeAt time.Duration
	turn    int
}

func newAddresses(port uint16, peers []PeerAddress) *addresses {
	return &addresses{port, peers, make(map[uint64]*member)}
}

// nameOf is the address that names the host with an address.
func (b *addresses) nameOf(a netip.Addr) netip.Addr {
	for _, p := range b.peers {
		if p.Control.IsValid() && p.Control == a {
			return p.Address
		}
	}
	return a
}

// of are the ways to the host that an address names.
func (b *addresses) of(name netip.Addr) []netip.AddrPort {
	for _, p := range b.peers {
		if p.Address != name {
			continue
		}
		out := []netip.AddrPort{netip.AddrPortFrom(p.Address, p.Port)}
		if p.Control.IsValid() {
			out = append(out, netip.AddrPortFrom(p.Control, p.Port))
		}
		return out
	}
	return []netip.AddrPort{netip.AddrPortFrom(name, b.port)}
}

// know sets the members of the table; others are forgotten.
func (b *addresses) know(members map[uint64]netip.Addr) {
	for id := range b.members {
		if _, ok := members[id]; !ok {
			delete(b.members, id)
		}
	}
	for id, name := range members {
		if m := b.member(id); m != nil {
			m.known = b.of(name)
		}
	}
}

// member finds a member's page, or makes one; nil when the book is full.
func (b *addresses) member(id uint64) *member {
	m := b.members[id]
	if m == nil && len(b.members) < maxKnown {
		m = &member{}
		b.members[id] = m
	}
	return m
}

// hear notes where an authentic, new datagram came from.
func (b *addresses) hear(now time.Duration, id uint64, from netip.AddrPort) {
	if m := b.member(id); m != nil {
		m.heard, m.heardAt = from, now
	}
}

// spoke notes that a member's datagram to this host came in.
func (b *addresses) spoke(now time.Duration, id uint64) {
	if m := b.member(id); m != nil {
		m.spoke, m.spokeAt = true, now
	}
}

// to is where to send a member's next message; not valid when nobody knows.
func (b *addresses) to(now time.Duration, id uint64) netip.AddrPort {
	m := b.members[id]
	if m == nil {
		return netip.AddrPort{}
	}
	if m.heard.IsValid() && now-m.heardAt < heardFresh {
		return m.heard
	}
	ways := m.known
	if m.heard.IsValid() && !slices.Contains(ways, m.heard) {
		ways = append(slices.Clone(ways), m.heard)
	}
	if len(ways) == 0 {
		return netip.AddrPort{}
	}
	m.turn++
	return ways[m.turn%len(ways)]
}
