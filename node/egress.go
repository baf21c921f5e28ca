package node

import (
	"encoding/binary"
	"net/netip"
	"time"

	"onevoice/internal/flowstate"
)

// MayLeave judges an IP packet that our TCP has made, of which at least all
// headers are in ip, and learns from it what the flow expects. Undecided lets it
// leave; any other verdict is why it may not, and is counted.
func (n *Node) MayLeave(now time.Duration, ip []byte) Verdict {
	s := &n.leaving
	if !s.read(ip) {
		return Undecided
	}
	s.packet = ip
	v := n.mayLeave(now, s)
	if v != Undecided {
		n.counts[v]++
	}
	return v
}

func (n *Node) mayLeave(now time.Duration, s *outgoing) Verdict {
	service, ok := n.byListen.find(n.vip(s.flow.Dst), s.flow.Proto, s.flow.DstPort)
	if !ok {
		return UnearnedReset
	}
	e := n.table.find(&s.flow)
	switch {
	case s.flags&(flagSYN|flagACK) == flagSYN|flagACK:
		return n.maySYNACK(now, service, e, s)
	case e != nil && e.muted:
		return Muted
	case s.flags&flagRST != 0:
		return n.mayLeaveReset(now, service, e, s)
	case e == nil:
		if !n.cookiesOut(now, service) {
			// The last acknowledgment of a flow that is gone.
			return Undecided
		}
		bucket := n.bucketOf(service, &s.flow)
		if e, _ = n.adopt(now, service, bucket, &s.flow); e == nil {
			return Undecided
		}
	}
	if !e.proven && s.length() == 0 && n.stateOf(e) == flowstate.HalfOpen {
		return EarlyACK
	}
	e.windows.told(s)
	return Undecided
}

// maySYNACK lets a SYN-ACK leave only under the lease and for a bucket of ours, for it
// accepts a flow, and only if the client has asked since that is so: netstack may have made
// it a while after the SYN was let in, and repeats it (OWNERSHIP.md R10, R12).
func (n *Node) maySYNACK(now time.Duration, service int, e *tracked, s *outgoing) Verdict {
	bucket := n.bucketOf(service, &s.flow)
	ours := n.rights[service].lease.covers(now) && n.ownership.Services[service].Accept.Has(bucket)
	if e != nil && e.ownISN == s.seq && e.clientISN == s.ack-1 {
		// It repeats what has left before. Where it stays now, the acknowledgment of the
		// one before may come all the same.
		switch {
		case e.muted:
			return Muted
		case !ours || !n.askedUs(service, e):
			e.kept = append(e.kept[:0], s.packet...)
			return LateSYNACK
		}
		e.kept = nil
		return Undecided
	}
	halfOpen := n.flows.State(&s.flow) == flowstate.HalfOpen
	if !ours || n.answersOld(now, service, bucket, s) {
		if halfOpen {
			// The client has never heard of it. Let it not be answered when the right
			// has come back, long after its SYN.
			n.flows.Forget(&s.flow)
		}
		return LateSYNACK
	}
	if !halfOpen {
		if n.answers != nil && !n.answers.Made(n.places[service], s.packet) {
			// Its half-open flow has ended before it could leave, as of two SYNs that
			// came in one turn: nothing can complete it.
			return LateSYNACK
		}
		n.cookies[service], n.cookiesOf[service][bucket] = now, now
		n.answered(now, service, s, false)
		return Undecided
	}
	if e != nil {
		n.unmap(e)
		n.table.remove(e)
	}
	if n.table.full() {
		// It would be repeated as a first one when there is room, whoever has answered.
		n.flows.Forget(&s.flow)
		return FlowsFull
	}
	e = n.table.add(&s.flow, service, bucket, now)
	e.ownISN, e.clientISN, e.windows.scale = s.seq, s.ack-1, s.scale()
	_, e.stamped = tcpOptions(s.options)
	e.windows.told(s)
	n.answered(now, service, s, true)
	return Undecided
}

// mayLeaveReset lets a reset leave only for a flow whose handshake this node saw
// complete, or for a stray that nobody else can hold (OWNERSHIP.md R14).
func (n *Node) mayLeaveReset(now time.Duration, service int, e *tracked, s *outgoing) Verdict {
	if e != nil {
		if e.proven {
			return Undecided
		}
		return UnearnedReset
	}
	bucket := n.bucketOf(service, &s.flow)
	if n.rights[service].lease.covers(now) && n.ownership.Services[service].Accept.Has(bucket) &&
		n.mayReset(service, bucket, &s.flow) == Undecided {
		return Undecided
	}
	return UnearnedReset
}

// cookiesOut reports whether a SYN cookie that the service's listener has sent
// may still come back.
func (n *Node) cookiesOut(now time.Duration, service int) bool {
	return now-n.cookies[service] < unprovenTime
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
	etherType := uint16(etherTypeIPv4)
	if to.Is6() {
		etherType = etherTypeIPv6
	}
	binary.BigEndian.PutUint16(header[12:], etherType)
	return true
}

// Ask makes an ARP request, or a neighbour solicitation, for the next hop that Address lacked, from this
// node's own address; nil when one was sent a moment ago.
func (n *Node) Ask(now time.Duration, to netip.Addr) []byte { return n.neighbours.Ask(now, to) }
