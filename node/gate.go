package node

import (
	"net/netip"
	"time"

	"onevoice/responder"
)

// handleARP answers for VIPs, notes strangers, and learns what we asked for.
func (n *Node) handleARP(now time.Duration, frame []byte) Handled {
	refused := Undecided
	r := n.arp.Handle(now, frame, func(vip, asker netip.Addr) bool {
		refused = n.answersFor(now, n.vip(vip), asker)
		return refused == Undecided
	})
	switch r.Outcome {
	case responder.ARPAnswered, responder.ARPProbeAnswered:
		return Handled{Verdict: AnsweredARP, Reply: r.Reply}
	case responder.ARPNotOurs, responder.ARPProbeNotOurs:
		return Handled{Verdict: refused}
	case responder.ARPStranger, responder.ARPOwnAddressClaim:
		n.stranger = Stranger{Address: r.Peer, MAC: r.MAC, From: r.From, At: now}
		return Handled{Verdict: StrangerClaim}
	case responder.ARPLearned:
		if n.neighbours.Answer(now, r.Peer, r.MAC) {
			return Handled{Verdict: LearnedNeighbour}
		}
		return Handled{Verdict: OtherARP}
	case responder.ARPIgnored, responder.ARPOurs:
		return Handled{Verdict: OtherARP}
	}
	return Handled{Verdict: BadARP}
}

// handleIPv4 is the gate: what is not let in here never reaches netstack, which
// would reset it.
func (n *Node) handleIPv4(now time.Duration, frame []byte) Handled {
	d := &n.decoded
	vip := n.vip(d.Flow.Dst)
	if vip < 0 {
		return Handled{Verdict: OtherAddress}
	}
	if n.broadcastSource(vip) {
		return Handled{Verdict: MartianSource}
	}
	switch d.Flow.Proto {
	case protoTCP:
		return n.handleTCP(now, vip, frame)
	case protoICMP:
		return n.handleICMP(now, vip, frame)
	}
	return Handled{Verdict: NoService}
}

// broadcastSource reports a source that is the LAN's broadcast or network
// address, which no client has (RFC 1122 §3.2.1.3).
func (n *Node) broadcastSource(vip int) bool {
	lan := n.vips[vip].LAN
	if lan.Bits() >= 31 || !lan.Contains(n.decoded.Flow.Src) {
		return false
	}
	host := ^uint32(0) >> lan.Bits()
	b := n.decoded.IP[12:16]
	v := (uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])) & host
	return v == 0 || v == host
}

func (n *Node) handleTCP(now time.Duration, vip int, frame []byte) Handled {
	d := &n.decoded
	service, ok := n.byListen[netip.AddrPortFrom(d.Flow.Dst, d.Flow.DstPort)]
	if !ok {
		return n.closedPort(now, vip, frame)
	}
	syn := d.TCP.Flags&(flagSYN|flagACK) == flagSYN
	owned := &n.ownership.Services[service].Accept
	verdict := n.mayAccept(now, owned, n.hasher.Bucket(n.services[service].Affinity, &d.Flow))
	switch {
	case syn && verdict == Undecided:
		return n.acceptSYN(now, service, frame)
	case syn:
		// Never answer a SYN for a bucket that is not ours, whatever netstack
		// still has of that tuple (OWNERSHIP.md R13).
		return Handled{Verdict: verdict}
	case n.flows.Holds(&d.Flow):
		return n.deliver(now, DeliverHeld)
	case verdict == Undecided:
		return n.deliver(now, DeliverStray)
	}
	return Handled{Verdict: verdict}
}

// acceptSYN lets a SYN in that is ours to answer.
func (n *Node) acceptSYN(now time.Duration, service int, frame []byte) Handled {
	if !n.flows.Up(service) {
		return n.reset(now, RefusedSYN, frame)
	}
	if n.flows.Full() {
		return Handled{Verdict: FlowsFull}
	}
	return n.deliver(now, DeliverSYN)
}

// deliver hands the packet on and remembers where its sender is, for the
// answer goes back the way the question came.
func (n *Node) deliver(now time.Duration, v Verdict) Handled {
	d := &n.decoded
	n.neighbours.Learn(now, d.Flow.Src, d.From)
	return Handled{Verdict: v, Packet: d.IP}
}

// closedPort answers for a port of the VIP that no service has: one node, the
// owner in the VIP's own table, resets (RFC 9293 §3.10.7.1).
func (n *Node) closedPort(now time.Duration, vip int, frame []byte) Handled {
	if v := n.answersFor(now, vip, n.decoded.Flow.Src); v != Undecided {
		return Handled{Verdict: v}
	}
	return n.reset(now, ClosedPort, frame)
}

// reset answers with a reset, at a bounded rate. Only one that is owed and can
// be sent takes of that rate.
func (n *Node) reset(now time.Duration, v Verdict, frame []byte) Handled {
	d := &n.decoded
	reply, outcome := responder.AppendReset(n.reply[:0], frame, n.own, d.From, d.Vouched)
	n.reply = reply[:0]
	switch {
	case outcome != responder.ResetSent:
		return Handled{Verdict: StrayReset}
	case !n.resets.Allow(now):
		return Handled{Verdict: ResetLimited}
	}
	return Handled{Verdict: v, Reply: reply}
}

func (n *Node) handleICMP(now time.Duration, vip int, frame []byte) Handled {
	d := &n.decoded
	switch d.Segment[0] {
	case icmpEcho:
		return n.echo(now, vip, frame)
	case icmpUnreachable, icmpTimeExceeded, icmpParameterProblem:
		quoted, ok := d.quotedFlow()
		if !ok || quoted.Dst != d.Flow.Dst || !n.flows.Holds(&quoted) {
			return Handled{Verdict: UnknownQuote}
		}
		// The sender is a router on the way, not the flow's client: its MAC is
		// not learned.
		return Handled{Verdict: DeliverError, Packet: d.IP}
	}
	// Redirects and source quench are not obeyed; echo replies were not asked
	// for.
	return Handled{Verdict: OtherICMP}
}

func (n *Node) echo(now time.Duration, vip int, frame []byte) Handled {
	d := &n.decoded
	if v := n.answersFor(now, vip, d.Flow.Src); v != Undecided {
		return Handled{Verdict: v}
	}
	reply, outcome := responder.AppendEchoReply(n.reply[:0], frame, n.own, d.From, n.mtu)
	n.reply = reply[:0]
	if outcome != responder.EchoAnswered {
		return Handled{Verdict: BadICMP}
	}
	return Handled{Verdict: AnsweredEcho, Reply: reply}
}
