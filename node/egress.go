package node

import (
	"encoding/binary"
	"net/netip"
	"time"

	"onevoice/hashing"
)

// MayLeave judges a TCP segment that netstack wants to send; flow is the
// client's. Undecided lets it leave, any other verdict is why it may not, and is
// counted.
func (n *Node) MayLeave(now time.Duration, flow *hashing.Flow, flags uint8) Verdict {
	if flags&flagSYN == 0 {
		return Undecided
	}
	if n.mayAnswer(now, flow) {
		return Undecided
	}
	n.counts[LateSYNACK]++
	return LateSYNACK
}

// mayAnswer reports whether the flow's bucket is this node's under a valid
// lease.
func (n *Node) mayAnswer(now time.Duration, flow *hashing.Flow) bool {
	service, ok := n.byListen[netip.AddrPortFrom(flow.Dst, flow.DstPort)]
	if !ok || !n.lease.covers(now) {
		return false
	}
	return n.ownership.Services[service].Accept.Has(n.hasher.Bucket(n.services[service].Affinity, flow))
}

// Address writes the Ethernet header of a packet that netstack sends: from our
// own MAC, never the cluster's, to where the client was last heard. False when
// that is not known.
func (n *Node) Address(now time.Duration, to netip.Addr, header []byte) bool {
	mac, ok := n.neighbours.Next(now, to)
	if !ok {
		return false
	}
	copy(header[0:6], mac[:])
	copy(header[6:12], n.own[:])
	binary.BigEndian.PutUint16(header[12:], etherTypeIPv4)
	return true
}

// Ask makes an ARP request for the next hop that Address lacked, from this
// node's own address; nil when one was sent a moment ago.
func (n *Node) Ask(now time.Duration, to netip.Addr) []byte { return n.neighbours.Ask(now, to) }
