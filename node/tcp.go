package node

import (
	"time"

	"onevoice/admission"
	"onevoice/hashing"
	"onevoice/internal/flowstate"
	"onevoice/responder"
)

// handleTCP is the gate for TCP (OWNERSHIP.md R12 to R14).
func (n *Node) handleTCP(now time.Duration, vip int, frame []byte) Verdict {
	d := &n.decoded
	service, ok := n.byListen.find(vip, protoTCP, d.Flow.DstPort)
	if !ok {
		return n.closedPort(now, vip, frame)
	}
	if n.services[service].Direct {
		return HostServes
	}
	bucket := n.bucketOf(service, &d.Flow)
	verdict := n.mayAccept(now, &n.rights[service], bucket)
	if d.TCP.Flags&(flagSYN|flagACK) == flagSYN {
		return n.handleSYN(now, service, bucket, verdict, frame)
	}
	if e, state := n.lookup(now, service, bucket, &d.Flow); e != nil {
		return n.handleHeld(now, service, e, state, verdict == Undecided, frame)
	}
	return n.handleStray(now, service, bucket, verdict, frame)
}

// handleSYN judges a segment that opens a flow.
func (n *Node) handleSYN(now time.Duration, service int, bucket uint8, verdict Verdict, frame []byte) Verdict {
	d := &n.decoded
	e, state := n.lookup(now, service, bucket, &d.Flow)
	if verdict != Undecided {
		return n.foreignSYN(now, service, bucket, e, state, verdict)
	}
	if e != nil && state == flowstate.HalfOpen && d.TCP.Seq != e.clientISN {
		if n.askedUs(service, e) {
			// Netstack would reset the first SYN's flow.
			return SecondSYN
		}
		// Nothing of it leaves any more that the client could answer with a reset: it may
		// have been served elsewhere meanwhile, and uses its port again.
		n.forget(now, e)
		e, state = nil, flowstate.None
	}
	if e != nil {
		// It has room already, whatever is full.
		e.asked = now
	}
	switch {
	case e != nil && state == flowstate.Open:
		// It challenges the client (RFC 9293 §3.10.7.4), for a flow of ours.
		return n.deliver(now, DeliverHeld)
	case n.admission != nil && (e == nil || state != flowstate.HalfOpen):
		if why := n.admit(now, service, &d.Flow, connectionOf(d)); why != admission.Admitted {
			return n.turnAway(now, service, why, frame)
		}
	}
	switch {
	case !n.flows.Up(n.places[service]):
		return n.reset(now, n.resets, RefusedSYN, frame)
	case n.flows.Full() || n.table.full():
		return FlowsFull
	case n.flows.Crowded(d.Flow.Src):
		return SourceFull
	}
	if v := n.answerSYN(now, service, bucket); v != Undecided {
		return v
	}
	n.heardSYN(now, service, bucket)
	v := n.deliver(now, DeliverSYN)
	if e != nil && state == flowstate.HalfOpen {
		n.answerAgain(e)
	}
	return v
}

// foreignSYN judges a SYN that is not ours to answer. Where its bucket is
// another node's, that node answers it, and what we had of the tuple is over:
// the flow is forgotten in silence, half-open or closed. An open one stays until
// its own end, and does not answer the SYN (OWNERSHIP.md R13).
func (n *Node) foreignSYN(now time.Duration, service int, bucket uint8, e *tracked, state flowstate.State, verdict Verdict) Verdict {
	if e == nil || state == flowstate.Open || n.ownership.Services[service].Accept.Has(bucket) {
		return verdict
	}
	n.forget(now, e)
	return ForgotFlow
}

// handleHeld judges a segment of a flow that our TCP holds. answers: its bucket
// is ours under a valid lease.
func (n *Node) handleHeld(now time.Duration, service int, e *tracked, state flowstate.State, answers bool, frame []byte) Verdict {
	d := &n.decoded
	switch {
	case e.stamped && !d.TCP.Stamped && d.TCP.Flags&flagRST == 0:
		// RFC 7323 §3.2: "If a non-<RST> segment is received without a TSopt, a TCP
		// SHOULD silently drop the segment." Ours does so only before a flow is open.
		return Unstamped
	case state == flowstate.HalfOpen:
		return n.handleHandshake(now, service, e, answers, frame)
	case answers && d.TCP.Flags&flagACK != 0 && e.windows.beyond(d.TCP.Ack):
		return n.deliver(now, DeliverUnsent)
	case answers:
	case state == flowstate.TimeWait && d.TCP.Flags&flagFIN == 0, !e.windows.contain(d.TCP.Seq, d.TCP.Ack, d.TCP.Flags):
		// The tuple may have been used again with the bucket's owner. Our TCP would
		// answer what is outside its windows with an acknowledgment.
		return OutsideWindows
	}
	return n.deliver(now, DeliverHeld)
}

// handleHandshake judges a segment of a half-open flow: a reset, or what
// acknowledges our SYN and begins where the client's ends. Anything else would
// draw a reset with the client's exact number. An acknowledgment where ours is due
// of something else, in a bucket that is ours alone, is counted apart: another
// node may have answered the same SYN (OWNERSHIP.md R22).
func (n *Node) handleHandshake(now time.Duration, service int, e *tracked, answers bool, frame []byte) Verdict {
	d := &n.decoded
	fits := e.windows.contain(d.TCP.Seq, d.TCP.Ack, d.TCP.Flags) && int32(d.TCP.Seq-e.clientISN) > 0
	switch {
	case d.TCP.Flags&flagSYN != 0 || !fits && d.TCP.Flags&flagRST != 0:
		return BadHandshakeACK
	case d.TCP.Flags&flagRST != 0:
		return n.deliver(now, DeliverHeld)
	case fits && d.TCP.Ack == e.ownISN+1:
		if n.admission != nil && !e.proven {
			if why := n.fits(now, service, &d.Flow); why != admission.Admitted {
				return n.giveUp(now, e, why, frame)
			}
		}
		n.prove(e)
		return n.deliver(now, DeliverHeld)
	case !e.proven && n.cookiesOut(now, service):
		// It may complete a cookie that went out for the same SYN before. If it
		// does not, the reset that it draws does not leave.
		return n.deliver(now, DeliverHeld)
	case answers && d.TCP.Flags&flagACK != 0 && d.TCP.Seq == e.clientISN+1 && d.TCP.Ack != e.ownISN+1 &&
		n.askedUs(service, e):
		return UnsentACK
	}
	return BadHandshakeACK
}

// giveUp ends a half-open flow whose client has just learned of it, when others of
// its kind have used up the limit meanwhile.
func (n *Node) giveUp(now time.Duration, e *tracked, why admission.Outcome, frame []byte) Verdict {
	n.flows.End(&e.flow)
	n.drop(now, e)
	return n.resetAway(now, why, frame)
}

// handleStray judges a segment, not a SYN, of a flow that our TCP does not hold;
// verdict says whether its bucket is ours. It completes a SYN cookie, or earns a
// reset if nobody else can hold the flow.
func (n *Node) handleStray(now time.Duration, service int, bucket uint8, verdict Verdict, frame []byte) Verdict {
	rows := &n.ownership.Services[service]
	cookie := n.cookiesOut(now, service) && n.decoded.TCP.Flags&(flagACK|flagSYN|flagRST) == flagACK
	// What the node tells of a bucket that it drains, its list among it, is about
	// cookies of that bucket, so others do not count.
	drained := verdict == NotOwner && rows.Draining.Has(bucket) && now-n.cookiesOf[service][bucket] < unprovenTime
	if cookie && (verdict == Stopping || drained) {
		return n.deliverCookie(now, service, bucket)
	}
	if verdict != Undecided {
		return verdict
	}
	why := n.mayReset(service, bucket, &n.decoded.Flow)
	switch {
	case why == StrayInGrace || why == StrayListed:
		return why
	case cookie && n.admission != nil:
		if fits := n.fits(now, service, &n.decoded.Flow); fits != admission.Admitted {
			if why == Undecided {
				return n.resetAway(now, fits, frame)
			}
			return verdictOn(fits)
		}
		return n.deliverCookie(now, service, bucket)
	case cookie:
		return n.deliverCookie(now, service, bucket)
	case why != Undecided:
		return why
	}
	return n.reset(now, n.strays, StrayAnswered, frame)
}

// deliverCookie hands on what may complete a cookie: netstack takes it or makes a reset,
// which MayLeave judges.
func (n *Node) deliverCookie(now time.Duration, service int, bucket uint8) Verdict {
	if !n.mayComplete(service, bucket, &n.decoded.Flow) {
		return FlowsFull
	}
	return n.deliver(now, DeliverStray)
}

// mayReset reports whether a flow of an owned bucket that this node does not
// hold may be reset: Undecided, or why another node may hold it (OWNERSHIP.md
// R14).
func (n *Node) mayReset(service int, bucket uint8, flow *hashing.Flow) Verdict {
	rows := &n.ownership.Services[service]
	switch {
	case rows.Grace.Has(bucket):
		return StrayInGrace
	case !rows.Shared.Has(bucket):
		return Undecided
	}
	return n.lists[service][bucket].excludes(n.FlowHash(flow))
}

// closedPort answers for a port of the VIP that no service has: one node, the
// one that speaksFor the VIP, resets (RFC 9293 §3.10.7.1).
func (n *Node) closedPort(now time.Duration, vip int, frame []byte) Verdict {
	if v := n.speaksFor(now, vip, &n.decoded.Flow); v != Undecided {
		return v
	}
	if n.ownership.Elsewhere {
		return StrayShared
	}
	return n.reset(now, n.resets, ClosedPort, frame)
}

// reset answers with a reset, at a bounded rate. Only one that is owed and can
// be sent takes of that rate.
func (n *Node) reset(now time.Duration, limit *responder.Limit, v Verdict, frame []byte) Verdict {
	d := &n.decoded
	reply, outcome := n.appendReset(frame)
	n.reply = reply[:0]
	switch {
	case outcome != responder.ResetSent:
		return StrayReset
	case !limit.Allow(now):
		return ResetLimited
	}
	return n.also(Handled{Verdict: v, Reply: reply, vip: n.vip(d.Flow.Dst)})
}

func (n *Node) appendReset(frame []byte) ([]byte, responder.Outcome) {
	d := &n.decoded
	if d.EtherType == etherTypeIPv6 {
		p := d.packet6()
		return responder.AppendReset6(n.reply[:0], &p, n.own, d.From)
	}
	return responder.AppendReset(n.reply[:0], frame, n.own, d.From, d.Vouched)
}
