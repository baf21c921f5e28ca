package responder

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/arp"
)

// Bounds of Neighbours.
const (
	// MaxNeighbours is how many addresses are known at a time by default, at
	// about 60 bytes each.
	MaxNeighbours = 65536
	// maxTable is the most that a caller may ask for.
	maxTable = 1 << 24
	// MaxAsking is how many addresses are asked for at a time. With AskEvery it
	// bounds the broadcasts that nobody answers to as many in a second.
	MaxAsking = 256
	// AskEvery is the least time between two requests for one address: RFC 1122
	// §2.3.2.1 recommends one a second.
	AskEvery = time.Second
	// AnswerWithin is how long after a request an answer is still believed.
	AnswerWithin = 3 * time.Second
	// NeighbourAge is how long an address is believed to be where it was last
	// seen or answered from.
	NeighbourAge = 10 * time.Minute
)

// NeighbourCounters count what happened since the start; Known and Asking are
// how many there are now.
type NeighbourCounters struct {
	Known  int `json:"known"`
	Asking int `json:"asking"`
	// Evicted: an address was forgotten to make room (MaxNeighbours).
	Evicted uint64 `json:"evicted"`
	// Refused: a mapping that no station can have, or for a VIP or for our own
	// address.
	Refused uint64 `json:"refused"`
	// Asked: requests returned for sending.
	Asked uint64 `json:"asked"`
	// AskHeld: a request held back because the last one is too young.
	AskHeld uint64 `json:"ask_held"`
	// AskingFull: a request held back at the bound MaxAsking.
	AskingFull uint64 `json:"asking_full"`
	// Answered: answers to requests of ours.
	Answered uint64 `json:"answered"`
	// Unasked: answers that no request of ours was waiting for.
	Unasked uint64 `json:"unasked"`
}

// Neighbours knows the next hop of the addresses that the node sends to: where
// a client's frames came from, or who answered a request of ours. It is not
// safe for concurrent use.
type Neighbours struct {
	own       MAC
	ownAddr   netip.Addr
	lan       netip.Prefix
	broadcast netip.Addr // the LAN's directed broadcast address
	gateway   netip.Addr // invalid where there is none
	six       network6
	vips      []VIP
	known     lru
	asking    lru
	counters  NeighbourCounters
}

// NewNeighbours returns an empty table for at most maxNeighbours addresses. own
// and ownAddr are the interface's and the sender of every request; hosts in lan
// are reached without a router, others through gateway, which is invalid where
// there is none. The error is one sentence for the user.
func NewNeighbours(own MAC, ownAddr netip.Addr, lan netip.Prefix, gateway netip.Addr, vips []VIP, maxNeighbours int) (*Neighbours, error) {
	if err := checkAddresses(own, ownAddr, vips); err != nil {
		return nil, err
	}
	if !lan.IsValid() || !lan.Addr().Is4() {
		return nil, fmt.Errorf("the interface's network %v is not an IPv4 prefix", lan)
	}
	if maxNeighbours < 1 || maxNeighbours > maxTable {
		return nil, fmt.Errorf("the bound on neighbours %d is not within 1 and %d", maxNeighbours, maxTable)
	}
	n := &Neighbours{
		own: own, ownAddr: ownAddr, lan: lan.Masked(), broadcast: directedBroadcast(lan),
		six:  network6{served: slices.ContainsFunc(vips, func(v VIP) bool { return v.Addr.Is6() })},
		vips: slices.Clone(vips), known: newLRU(maxNeighbours), asking: newLRU(MaxAsking),
	}
	if gateway.IsValid() && !n.mayBe(gateway) {
		return nil, fmt.Errorf("the gateway %v is a VIP, the interface's own address or no host's; name the router", gateway)
	}
	n.gateway = gateway
	return n, nil
}

// Learn notes that a frame delivered from addr came from mac, and reports
// whether that can be. Off the LAN it is the router's MAC that is learned, so
// that an answer leaves through the router the question came by. It allocates
// nothing.
func (n *Neighbours) Learn(now time.Duration, addr netip.Addr, mac MAC) bool {
	i := n.known.find(keyOf(addr))
	if i != none && n.known.entries[i].mac == mac {
		// What is known has been checked already.
		n.known.entries[i].at = now
		n.known.touch(i)
		return true
	}
	return n.note(now, i, addr, mac)
}

// note checks a mapping and writes it down at i, or at a new place.
func (n *Neighbours) note(now time.Duration, i int32, addr netip.Addr, mac MAC) bool {
	if !mac.isStation() || mac == n.own || isClusterMAC(n.vips, mac) || !n.mayBe(addr) {
		n.counters.Refused++
		return false
	}
	if i == none {
		// One comes and at most one old one goes, so that the table shrinks to
		// the addresses in use without a sweep.
		if o := n.known.oldest; o != none && now-n.known.entries[o].at > NeighbourAge {
			n.known.remove(o)
		}
		var evicted bool
		if i, evicted = n.known.add(keyOf(addr)); evicted {
			n.counters.Evicted++
		}
	} else {
		n.known.touch(i)
	}
	e := &n.known.entries[i]
	e.at, e.mac = now, mac
	return true
}

// Next returns the MAC to send a packet for dst to: where dst was last seen, or
// for an address off the LAN that was not, the gateway's. Without one the
// caller asks (Ask). It allocates nothing.
func (n *Neighbours) Next(now time.Duration, dst netip.Addr) (MAC, bool) {
	if mac, ok := n.lookup(now, dst); ok {
		return mac, true
	}
	if target, ok := n.target(dst); ok && target != dst {
		return n.lookup(now, target)
	}
	return MAC{}, false
}

// lookup finds an entry that is not too old.
func (n *Neighbours) lookup(now time.Duration, addr netip.Addr) (MAC, bool) {
	i := n.known.find(keyOf(addr))
	if i == none {
		return MAC{}, false
	}
	if e := &n.known.entries[i]; now-e.at <= NeighbourAge {
		n.known.touch(i)
		return e.mac, true
	}
	n.known.remove(i)
	return MAC{}, false
}

// target is whom to ask about dst: dst itself on the LAN, else the gateway.
func (n *Neighbours) target(dst netip.Addr) (netip.Addr, bool) {
	switch {
	case !n.mayBe(dst):
		return netip.Addr{}, false
	case dst.Is6():
		return n.six.target(dst)
	case n.lan.Contains(dst):
		return dst, true
	}
	return n.gateway, n.gateway.IsValid()
}

// mayBe reports whether addr can be another host's.
func (n *Neighbours) mayBe(addr netip.Addr) bool {
	switch {
	case addr.Is6():
		if !n.six.served || !isHost6(addr) || addr == n.six.addr {
			return false
		}
	case !isHost4(addr) || addr == n.ownAddr || addr == n.broadcast:
		return false
	}
	if addr == n.lan.Addr() && n.broadcast.IsValid() {
		return false // the network's own address
	}
	for i := range n.vips {
		if n.vips[i].Addr == addr {
			return false
		}
	}
	return true
}

// Ask returns an ARP request to broadcast, or a neighbour solicitation, for what
// Next lacked: dst, or the
// gateway when dst is off the LAN. It returns nil when the answer is known, when
// it was asked for less than AskEvery ago, when MaxAsking others are being asked
// for, and when there is nobody to ask. The frame is the caller's.
func (n *Neighbours) Ask(now time.Duration, dst netip.Addr) []byte {
	target, ok := n.target(dst)
	if !ok {
		return nil
	}
	if _, known := n.lookup(now, target); known {
		return nil
	}
	key := keyOf(target)
	i := n.asking.find(key)
	switch {
	case i != none && now-n.asking.entries[i].at < AskEvery:
		n.counters.AskHeld++
		return nil
	case i != none:
		n.asking.touch(i)
	case n.asking.full() && now-n.asking.entries[n.asking.oldest].at <= AnswerWithin:
		n.counters.AskingFull++
		return nil
	default:
		// When full, the one that goes has waited in vain.
		i, _ = n.asking.add(key)
	}
	n.asking.entries[i].at = now
	n.counters.Asked++
	// The sender is this node with its own address, never a VIP: a request
	// teaches everybody who hears it (RFC 826, packet reception).
	if target.Is6() {
		return n.solicitation(target)
	}
	return arpFrame(arp.OperationRequest, n.own, Broadcast(), n.own, n.ownAddr, MAC{}, target)
}

// Answer takes the sender of an ARP reply to our own address (ARPLearned) and
// reports whether it was believed: only when a request of ours is waiting.
func (n *Neighbours) Answer(now time.Duration, addr netip.Addr, mac MAC) bool {
	i := n.asking.find(keyOf(addr))
	if i == none || now-n.asking.entries[i].at > AnswerWithin {
		n.counters.Unasked++
		return false
	}
	if !n.note(now, n.known.find(keyOf(addr)), addr, mac) {
		return false
	}
	n.asking.remove(i)
	n.counters.Answered++
	return true
}

// Counters returns what was counted so far.
func (n *Neighbours) Counters() NeighbourCounters {
	c := n.counters
	c.Known, c.Asking = n.known.count, n.asking.count
	return c
}

// directedBroadcast is the last address of an IPv4 prefix; invalid for /31 and
// /32, which have none (RFC 3021).
func directedBroadcast(p netip.Prefix) netip.Addr {
	if p.Bits() >= 31 {
		return netip.Addr{}
	}
	a := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}
