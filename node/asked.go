package node

import (
	"time"

	"onevoice/responder"
)

// One SYN is answered by one node, and a SYN-ACK is an answer to the last SYN that came
// before it. The TCP makes the first one in its own time and repeats it for a minute, and
// in between the right to answer may have gone to another node, which has answered the
// same SYN, and come back. So a SYN-ACK leaves only if the client has asked since this
// node's right began (OWNERSHIP.md R12, R13). Of a flow that is tracked the entry says
// when that was; this is about the others.

const (
	// askedTime is for how long after a right was first seen a first SYN-ACK has to answer
	// a SYN that is remembered. Our TCP takes some milliseconds, of time in which this
	// process runs.
	askedTime = time.Second
	// askedSlots bounds the SYNs that are remembered: more than wait for our TCP at a
	// time. One that was overwritten is not answered before the client repeats it.
	askedSlots = 4096
)

// askedSlot is a SYN that was let in within askedTime of its right.
type askedSlot struct {
	flow   uint64 // FlowHash
	number uint32 // the SYN's
	at     time.Duration
}

// newRight reports that first SYN-ACKs of a bucket have to answer what is remembered.
func (n *Node) newRight(now time.Duration, service int, bucket uint8) bool {
	seen := n.rights[service].seen(bucket)
	return seen == pending || now < seen+askedTime
}

// heardSYN remembers a SYN that is let in.
func (n *Node) heardSYN(now time.Duration, service int, bucket uint8) {
	if !n.newRight(now, service, bucket) {
		return
	}
	if n.asked == nil {
		n.asked = make([]askedSlot, askedSlots)
	}
	h := n.FlowHash(&n.decoded.Flow)
	// Of its two places it takes its own, or the one that was used longer ago: of 256 that
	// wait for our TCP one place alone would lose 3 %.
	a, b := n.askedPlaces(h)
	if b.flow == h || a.flow != h && b.at < a.at {
		a = b
	}
	*a = askedSlot{h, n.decoded.TCP.Seq, now}
}

// askedPlaces are where a SYN may be remembered.
func (n *Node) askedPlaces(h uint64) (a, b *askedSlot) {
	return &n.asked[h%askedSlots], &n.asked[h>>32%askedSlots]
}

// answersOld reports whether a first SYN-ACK answers a SYN from before this node's right,
// or one of which that is not known.
func (n *Node) answersOld(now time.Duration, service int, bucket uint8, s *outgoing) bool {
	switch {
	case !n.newRight(now, service, bucket):
		return false
	case n.asked == nil:
		return true
	}
	h := n.FlowHash(&s.flow)
	begins := n.rights[service].begins(bucket)
	a, b := n.askedPlaces(h)
	answers := func(to *askedSlot) bool { return to.flow == h && to.number == s.ack-1 && to.at >= begins }
	return !answers(a) && !answers(b)
}

// askedUs reports whether the client of a half-open flow has asked for its SYN-ACK since
// this node's right to give it began.
func (n *Node) askedUs(service int, e *tracked) bool {
	return e.asked >= n.rights[service].begins(n.bucketOf(service, &e.flow))
}

// answerAgain answers a SYN that was asked again with the SYN-ACK that stayed before it.
// Our TCP repeats that in its own time only, twice as late each time, and clients ask at
// about the same times: one that asks just after a repeat that stayed would wait as long
// once more. The reply leaves under the lease, as every one of the turn.
func (n *Node) answerAgain(e *tracked) {
	if e.kept == nil {
		return
	}
	d := &n.decoded
	reply, ok := responder.AppendFrame(n.reply[:0], n.own, d.From, !d.Flow.Src.Is4())
	n.reply = reply[:0]
	if ok {
		reply = append(reply, e.kept...)
		n.reply = reply[:0]
		n.handled.Reply, n.handled.vip = reply, n.vip(d.Flow.Dst)
	}
	e.kept = nil
}
