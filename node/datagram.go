package node

import (
	"encoding/binary"
	"time"

	"onevoice/admission"
	"onevoice/datagram"
	"onevoice/hashing"
	"onevoice/responder"
)

// Datagrams is the part of the UDP flows behind the gate that the gate asks: a
// datagram.Relay, or a model of one.
type Datagrams interface {
	// Has reports whether a client's flow has begun.
	Has(f *hashing.Flow) bool
	// Take makes room for a client's datagram of a service, that with so many UDP
	// services before it.
	Take(now time.Duration, service int, f *hashing.Flow) datagram.Outcome
	// Quoted is told of an ICMP error that quotes an answer of a flow, and reports
	// whether the flow is there.
	Quoted(now time.Duration, f *hashing.Flow, what datagram.Trouble, mtu int) bool
}

var _ Datagrams = (*datagram.Relay)(nil)

// Datagram is one that the gate has let in, for whoever has the UDP flows.
type Datagram struct {
	Flow hashing.Flow
	// Packet is the whole IP packet and Payload what the datagram carries. With
	// SegmentBytes above 0 it is several datagrams, each of so many bytes but the
	// last.
	Packet, Payload []byte
	SegmentBytes    int
}

// ICMP errors that a node makes are bounded in their rate, for they answer packets
// whose source may be forged (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)).
const (
	errorsPerSecond = 1000
	errorBurst      = 100
)

const udpBytes = 8

// TakesDatagram is the gate's rule for a UDP service: the bucket decides, at
// once. After a move the old owner takes no further datagram, whatever it has
// taken of the same client before, and may answer what it has taken, for an
// answer is not new (OWNERSHIP.md R15). Undecided lets the datagram in.
func (n *Node) TakesDatagram(now time.Duration, service int, flow *hashing.Flow) Verdict {
	return n.mayAccept(now, &n.rights[service], n.bucketOf(service, flow))
}

// handleUDP is the gate for UDP.
func (n *Node) handleUDP(now time.Duration, vip int) Verdict {
	d := &n.decoded
	if d.Flow.DstPort == n.controlPort && n.controlPort != 0 {
		return NoService
	}
	service, ok := n.byListen.find(vip, protoUDP, d.Flow.DstPort)
	if ok && n.services[service].Direct {
		return HostServes
	}
	if !ok || n.datagrams == nil {
		return n.closedDatagramPort(now, vip)
	}
	if v := n.TakesDatagram(now, service, &d.Flow); v != Undecided {
		return v
	}
	if d.Flow.SrcPort == 0 {
		// It wants no answer (RFC 768), and no socket can have that port.
		return BadUDP
	}
	if n.admission != nil {
		if why := n.admitDatagram(now, service, &d.Flow); why != admission.Admitted {
			return n.turnAway(now, service, why, nil)
		}
	}
	switch n.datagrams.Take(now, n.places[service], &d.Flow) {
	case datagram.Full:
		return FlowsFull
	case datagram.SourceFull:
		return SourceFull
	}
	n.neighbours.Learn(now, d.Flow.Src, d.From)
	n.datagram = Datagram{Flow: d.Flow, Packet: d.IP, Payload: d.Segment[udpBytes:], SegmentBytes: d.segmentBytes}
	return n.also(Handled{Verdict: DeliverDatagram, Datagram: &n.datagram})
}

// closedDatagramPort answers for a port of the VIP that no service has: one node,
// one that speaksFor the VIP, says so (RFC 1122 §4.1.3.1).
func (n *Node) closedDatagramPort(now time.Duration, vip int) Verdict {
	d := &n.decoded
	if v := n.speaksFor(now, vip, &d.Flow); v != Undecided {
		return v
	}
	if n.ownership.Elsewhere {
		return StrayShared
	}
	reply, ok := responder.AppendFrame(n.reply[:0], n.own, d.From, !d.Flow.Src.Is4())
	if ok {
		reply, ok = responder.AppendPortUnreachable(reply, d.IP)
	}
	n.reply = reply[:0]
	switch {
	case !ok:
		return NoService
	case !n.errors.Allow(now):
		return ErrorLimited
	}
	return n.also(Handled{Verdict: PortUnreachable, Reply: reply, vip: vip})
}

// quotedDatagram hands an ICMP error about an answer to whoever has the flow, on
// whichever node that is.
func (n *Node) quotedDatagram(now time.Duration, quoted *hashing.Flow) Verdict {
	what, mtu := n.decoded.trouble()
	if n.datagrams == nil || !n.datagrams.Quoted(now, quoted, what, mtu) {
		return UnknownQuote
	}
	return NotedError
}

// trouble is what the ICMP error says that was decoded.
func (d *Decoded) trouble() (what datagram.Trouble, mtu int) {
	const (
		protocolClosed, portClosed, cannotFragment = 2, 3, 4
		unreachable6, tooBig6, portClosed6         = 1, 2, 4
	)
	kind, code := d.Segment[0], d.Segment[1]
	switch six := !d.Flow.Dst.Is4(); {
	case six && kind == tooBig6:
		return datagram.TooBig, int(min(binary.BigEndian.Uint32(d.Segment[4:]), 1<<16))
	case !six && kind == icmpUnreachable && code == cannotFragment:
		return datagram.TooBig, int(binary.BigEndian.Uint16(d.Segment[6:]))
	case six && kind == unreachable6 && code == portClosed6,
		!six && kind == icmpUnreachable && (code == portClosed || code == protocolClosed):
		return datagram.PortClosed, 0
	}
	return datagram.Passing, 0
}
