package node

import (
	"net/netip"
	"time"

	"onevoice/link"
	"onevoice/responder"
)

// groups6 are the MACs at which a node hears what is for groups: the VIPs'
// solicited-node groups and all nodes.
func groups6(vips []VIP) []responder.MAC {
	var addresses []netip.Addr
	for i := range vips {
		addresses = append(addresses, vips[i].Addr)
	}
	var out []responder.MAC
	for _, m := range link.NeighbourGroups(addresses) {
		out = append(out, responder.MAC(m))
	}
	return out
}

// handleIPv6 is handleIPv4 for IPv6.
func (n *Node) handleIPv6(now time.Duration, frame []byte) Verdict {
	d := &n.decoded
	if d.Flow.Proto == protoICMPv6 && responder.IsNDP(d.Segment[0]) {
		return n.handleNDP(now)
	}
	if d.Flow.Dst.IsMulticast() {
		return OtherAddress
	}
	if d.To != n.own && !n.isCluster(d.To) {
		// What is for one host and came in a frame to a group is dropped, as
		// RFC 1122 §3.3.6 has it of broadcasts.
		return OtherMAC
	}
	if d.Flow.Src.IsUnspecified() || n.ourSource() {
		return MartianSource
	}
	vip := n.vip(d.Flow.Dst)
	if vip < 0 {
		return OtherAddress
	}
	switch d.Flow.Proto {
	case protoTCP:
		return n.handleTCP(now, vip, frame)
	case protoUDP:
		return n.handleUDP(now, vip)
	case protoICMPv6:
		return n.handleICMPv6(now, vip)
	}
	return NoService
}

// handleNDP answers for VIPs, notes strangers, and learns what we asked for and
// the link's MTU.
func (n *Node) handleNDP(now time.Duration) Verdict {
	d := &n.decoded
	refused, of := Undecided, 0
	m := responder.NDPMessage{From: d.From, To: d.To, Src: d.Flow.Src, Dst: d.Flow.Dst, HopLimit: d.IP[7], Body: d.Segment}
	r := n.ndp.Handle(now, &m, func(vip, asker netip.Addr) bool {
		of = n.vip(vip)
		refused = n.answersFor(now, of, asker)
		return refused == Undecided
	})
	switch r.Outcome {
	case responder.NDPAnswered, responder.NDPProbeAnswered:
		return n.also(Handled{Verdict: AnsweredNDP, Reply: r.Reply, vip: of})
	case responder.NDPNotOurs, responder.NDPProbeNotOurs:
		return refused
	case responder.NDPStranger, responder.NDPOwnAddressClaim:
		n.stranger = Stranger{Address: r.Peer, MAC: r.MAC, From: r.From, At: now}
		return StrangerClaim
	case responder.NDPLearned:
		if n.neighbours.Answer(now, r.Peer, r.MAC) {
			return LearnedNeighbour
		}
		return OtherNDP
	case responder.NDPRouterMTU:
		n.mtu6 = r.MTU
		return LearnedMTU
	case responder.NDPStrangeRouter, responder.NDPRedirect:
		return StrangeRouter
	case responder.NDPIgnored, responder.NDPOurs:
		return OtherNDP
	case responder.NDPBadHopLimit:
		return BadHopLimit
	}
	return BadNDP
}

// MTU6 is the largest IPv6 packet in bytes: the interface's MTU, or less when the
// router says so.
func (n *Node) MTU6() int { return n.mtu6 }

// handleICMPv6 is handleICMP for IPv6 (RFC 4443).
func (n *Node) handleICMPv6(now time.Duration, vip int) Verdict {
	d := &n.decoded
	switch d.Segment[0] {
	case icmp6Echo:
		return n.echo6(now, vip)
	case icmp6Unreachable, icmp6PacketTooBig, icmp6TimeExceeded, icmp6ParameterProblem:
		quoted, ok := d.quotedFlow6()
		return n.handleError(now, &quoted, ok)
	}
	return OtherICMP
}

func (n *Node) echo6(now time.Duration, vip int) Verdict {
	d := &n.decoded
	if v := n.speaksFor(now, vip, &d.Flow); v != Undecided {
		return v
	}
	p := d.packet6()
	reply, outcome := responder.AppendEchoReply6(n.reply[:0], &p, n.own, d.From, max(n.mtu6, len(d.IP)))
	n.reply = reply[:0]
	if outcome != responder.EchoAnswered {
		return BadICMP
	}
	// No router cuts it, and who asks is not remembered by what his path carries.
	return n.answerInParts(AnsweredEcho, vip, reply, responder.MinIPv6MTU)
}
