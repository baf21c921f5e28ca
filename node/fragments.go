package node

import (
	"encoding/binary"
	"time"

	"github.com/dchest/siphash"

	"onevoice/hashing"
	"onevoice/link"
	"onevoice/reassembly"
	"onevoice/responder"
)

// handleFragment takes a part of a datagram, and judges the datagram once it is
// whole, as any other. Each node puts together what is for a VIP, for only the first
// fragment has ports, and whose the datagram is may depend on them.
//
// It counts as received when its first fragment was: a node that had no right to it
// then leaves it alone, so that the bucket's owner before, which may have completed
// it a moment ago, is the only one that takes it.
func (n *Node) handleFragment(now time.Duration, f *link.Frame) Verdict {
	d := &n.decoded
	vip := n.vip(d.Flow.Dst)
	switch {
	case vip < 0:
		return OtherAddress
	case d.Flow.Src.Is4() && n.broadcastSource(vip), n.ourSource(), d.Flow.Src.IsUnspecified():
		return MartianSource
	}
	part, ok := d.fragment()
	if !ok {
		return Fragment
	}
	if part.Upper == protoUDP && !n.mayBeOurs(vip, &d.Flow) {
		return NotOwner
	}
	var room [ethernetBytes]byte
	copy(room[:], f.Data)
	before := n.fragments.Counters()
	whole, stamp, outcome := n.fragments.Add(now, f.Stamp, &part, room[:])
	n.countFragments(&before)
	switch outcome {
	case reassembly.Whole:
	case reassembly.Held:
		return FragmentHeld
	case reassembly.Duplicate:
		return FragmentDuplicate
	case reassembly.Overlap:
		return FragmentOverlap
	case reassembly.TooMany:
		return FragmentsFull
	default:
		return Fragment
	}
	n.stamp = stamp
	g := link.Frame{Data: whole, Stamp: stamp}
	if v := d.Decode(&g); v != Undecided {
		return v
	}
	if d.Flow.Proto == protoICMPv6 && responder.IsNDP(d.Segment[0]) {
		// Neighbour discovery never comes in parts (RFC 6980 §5).
		return BadNDP
	}
	return n.handleWhole(now, &g)
}

// fragment reads the part that was decoded.
func (d *Decoded) fragment() (reassembly.Fragment, bool) {
	at := len(d.IP) - len(d.Segment)
	if d.Flow.Dst.Is4() {
		return reassembly.IPv4(d.IP, at)
	}
	// The byte that announces the fragment header is in the last one before it.
	const nextHeader = 6
	next := nextHeader
	for last := ipv6Bytes; last < at; last += 8 + 8*int(d.IP[last+1]) {
		next = last
	}
	return reassembly.IPv6(d.IP, at, next)
}

// countFragments counts what became of datagrams that others had to make room for, or
// whose time was over.
func (n *Node) countFragments(before *reassembly.Counters) {
	after := n.fragments.Counters()
	n.counts[FragmentTimeout] += after.TimedOut - before.TimedOut
	n.counts[FragmentsFull] += after.GivenUp - before.GivenUp
}

// mayBeOurs reports whether this node may have to answer a UDP datagram of which it
// does not know the ports: it speaksFor the VIP, or owns the bucket in the table of a
// service, or the bucket depends on ports. What is another's whatever its ports are
// takes no memory here.
func (n *Node) mayBeOurs(vip int, f *hashing.Flow) bool {
	if s := n.compatible[vip]; s >= 0 {
		if n.mayBeOfService(s, f) {
			return true
		}
	} else if n.vipRights[vip].accept.Has(n.vipMappings[vip].hasher.Bucket(hashing.SourceIP, f)) {
		return true
	}
	for _, l := range n.byListen[vip] {
		if l.first>>16 == protoUDP && n.mayBeOfService(l.service, f) {
			return true
		}
	}
	return false
}

func (n *Node) mayBeOfService(service int, f *hashing.Flow) bool {
	return n.hashesPorts(service) || n.rights[service].accept.Has(n.bucketOf(service, f))
}

// hashesPorts reports whether a service's buckets depend on ports.
func (n *Node) hashesPorts(service int) bool {
	s := &n.services[service]
	if s.Compatible != nil {
		return s.Compatible.System == hashing.ClusterIPSourcePort || s.Compatible.System == hashing.ClusterIPBothPorts
	}
	return s.Affinity == hashing.SourceIPPort || s.Affinity == hashing.SourceIPPortDestPort
}

// answerInParts is a verdict with a reply that may be longer than a packet of mtu
// bytes.
func (n *Node) answerInParts(v Verdict, vip int, reply []byte, mtu int) Verdict {
	parts := responder.Cut(reply, mtu, n.identification())
	return n.also(Handled{Verdict: v, Reply: parts[0], Rest: parts[1:], vip: vip})
}

// identification is that of a datagram which may be cut: a keyed hash of a number, so
// that nobody foresees it (RFC 7739 §4.3).
func (n *Node) identification() uint32 {
	n.identified++
	b := append([]byte("identification"), n.own[:]...)
	return uint32(siphash.Hash(n.listKey[0], n.listKey[1], binary.BigEndian.AppendUint64(b, n.identified)))
}

// FragmentCounters are of the datagrams that lack a fragment.
func (n *Node) FragmentCounters() reassembly.Counters { return n.fragments.Counters() }
