package node

import (
	"encoding/binary"
	"net/netip"
	"time"

	"onevoice/datagram"
	"onevoice/hashing"
	"onevoice/responder"
)

// handleARP answers for VIPs, notes strangers, and learns what we asked for.
func (n *Node) handleARP(now time.Duration, frame []byte) Verdict {
	refused, of := Undecided, 0
	r := n.arp.Handle(now, frame, func(vip, asker netip.Addr) bool {
		of = n.vip(vip)
		refused = n.answersFor(now, of, asker)
		return refused == Undecided
	})
	switch r.Outcome {
	case responder.ARPAnswered, responder.ARPProbeAnswered:
		if r.Outcome == responder.ARPAnswered && n.decoded.To == responder.Broadcast() {
			n.doubts.answered(now, &r)
		}
		return n.also(Handled{Verdict: AnsweredARP, Reply: r.Reply, vip: of})
	case responder.ARPNotOurs, responder.ARPProbeNotOurs:
		return refused
	case responder.ARPStranger, responder.ARPOwnAddressClaim:
		n.stranger = Stranger{Address: r.Peer, MAC: r.MAC, From: r.From, At: now}
		return StrangerClaim
	case responder.ARPLearned:
		if n.neighbours.Answer(now, r.Peer, r.MAC) {
			return LearnedNeighbour
		}
		return OtherARP
	case responder.ARPIgnored, responder.ARPOurs:
		return OtherARP
	}
	return BadARP
}

// handleIPv4 is the gate: what is not let in here never reaches netstack, which
// would reset it.
func (n *Node) handleIPv4(now time.Duration, frame []byte) Verdict {
	d := &n.decoded
	vip := n.vip(d.Flow.Dst)
	if vip < 0 {
		return OtherAddress
	}
	if n.broadcastSource(vip) || n.ourSource() {
		return MartianSource
	}
	if len(n.doubts.open) > 0 {
		n.doubts.heard(d.From)
	}
	switch d.Flow.Proto {
	case protoTCP:
		return n.handleTCP(now, vip, frame)
	case protoUDP:
		return n.handleUDP(now, vip)
	case protoICMP:
		return n.handleICMP(now, vip, frame)
	}
	return NoService
}

// broadcastSource reports a source that is the LAN's broadcast or network
// address, which no client has (RFC 1122 §3.2.1.3).
func (n *Node) broadcastSource(vip int) bool {
	lan := &n.lans[vip]
	src := binary.BigEndian.Uint32(n.decoded.IP[12:])
	if lan.host <= 1 || src&^lan.host != lan.net {
		return false
	}
	v := src & lan.host
	return v == 0 || v == lan.host
}

// ourSource reports a source that is an address of ours: such a packet comes from
// this host, and not over a wire (RFC 1812 §5.3.8).
func (n *Node) ourSource() bool {
	src := n.decoded.Flow.Src
	return src == n.address || src == n.address6 || n.vip(src) >= 0
}

// subnet is a VIP's network: its address, and the bits of hosts in it.
type subnet struct{ net, host uint32 }

func subnetOf(p netip.Prefix) subnet {
	if !p.Addr().Is4() {
		return subnet{} // IPv6 has no broadcast
	}
	a := p.Addr().As4()
	host := uint32(uint64(1)<<(32-p.Bits()) - 1)
	return subnet{binary.BigEndian.Uint32(a[:]) &^ host, host}
}

// deliver hands the packet on and remembers where its sender is, for the
// answer goes back the way the question came.
func (n *Node) deliver(now time.Duration, v Verdict) Verdict {
	d := &n.decoded
	n.neighbours.Learn(now, d.Flow.Src, d.From)
	return n.also(Handled{Verdict: v, Packet: d.IP})
}

func (n *Node) handleICMP(now time.Duration, vip int, frame []byte) Verdict {
	d := &n.decoded
	switch d.Segment[0] {
	case icmpEcho:
		return n.echo(now, vip, frame)
	case icmpUnreachable, icmpTimeExceeded, icmpParameterProblem:
		quoted, ok := d.quotedFlow()
		return n.handleError(now, &quoted, ok)
	}
	// Redirects and source quench are not obeyed; echo replies were not asked
	// for.
	return OtherICMP
}

// handleError hands an ICMP error to whoever has the flow that it quotes, on
// whichever node that is; ok says that it quotes one.
func (n *Node) handleError(now time.Duration, quoted *hashing.Flow, ok bool) Verdict {
	d := &n.decoded
	switch {
	case !ok || quoted.Dst != d.Flow.Dst:
	case quoted.Proto == protoUDP:
		return n.quotedDatagram(now, quoted)
	case d.tooNarrow():
		return BadICMP
	case n.holds(now, quoted):
		// The sender is a router on the way, not the flow's client: its MAC is
		// not learned.
		return n.also(Handled{Verdict: DeliverError, Packet: d.IP})
	}
	return UnknownQuote
}

// tooNarrow reports an ICMP error that tells of a path which carries less than every
// path does: 68 bytes (RFC 1191 §3), over IPv6 1,280 (RFC 8201 §4). Our TCP would
// send a byte at a time.
func (d *Decoded) tooNarrow() bool {
	const least = 68
	what, mtu := d.trouble()
	return what == datagram.TooBig && (mtu < least || d.EtherType == etherTypeIPv6 && mtu < responder.MinIPv6MTU)
}

// holds reports whether our TCP holds the flow.
func (n *Node) holds(now time.Duration, f *hashing.Flow) bool {
	service, ok := n.byListen.find(n.vip(f.Dst), f.Proto, f.DstPort)
	if !ok {
		return false
	}
	e, _ := n.lookup(now, service, n.bucketOf(service, f), f)
	return e != nil
}

func (n *Node) echo(now time.Duration, vip int, frame []byte) Verdict {
	d := &n.decoded
	if v := n.speaksFor(now, vip, &d.Flow); v != Undecided {
		return v
	}
	reply, outcome := responder.AppendEchoReply(n.reply[:0], frame, n.own, d.From, max(n.mtu, len(d.IP)))
	n.reply = reply[:0]
	if outcome != responder.EchoAnswered {
		return BadICMP
	}
	if dontFragment := d.IP[6]&0x40 != 0; !dontFragment || len(reply)-ethernetBytes > n.mtu {
		// The question may have come in parts, and so may have to go the answer.
		return n.answerInParts(AnsweredEcho, vip, reply, n.mtu)
	}
	return n.also(Handled{Verdict: AnsweredEcho, Reply: reply, vip: vip})
}
