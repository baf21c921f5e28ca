package node

import (
	"time"

	"onevoice/link/ingress"
	"onevoice/responder"
)

// Cookies knows the SYN cookies of the TCP behind the gate, a stack.Stack. A service is
// that with so many TCP services before it.
type Cookies interface {
	// AppendCookie appends to dst the IP packet with which the TCP would answer a SYN,
	// an IP packet too, if it would answer with a cookie at that time.
	AppendCookie(now time.Duration, dst []byte, service int, syn []byte) ([]byte, bool)
	// Answered tells of a SYN-ACK of the TCP's that leaves; kept: of a flow that it
	// has, and not a cookie.
	Answered(now time.Duration, service int, synACK []byte, kept bool)
	// Made reports whether such a SYN-ACK has a cookie; what it cannot tell has one.
	Made(service int, synACK []byte) bool
	// KernelCookies is what the kernel can make the same cookies from, while the TCP
	// makes some of every SYN of IPv4, of whomever; Since is how long its clock has gone,
	// and Sent tells of cookies that the kernel has sent.
	KernelCookies(service int) (c ingress.Cookies, ok bool)
	Since() time.Duration
	Sent(cookies uint64)
}

// answerSYN answers a SYN that opens a flow with a cookie, if the TCP would; Undecided
// when the TCP is to be asked. The cookie leaves under the lease as every answer of the
// turn does, within which no bucket changes hands (OWNERSHIP.md R10, R12). Who it came
// from is learned when it comes back: the sources of a flood are no neighbours.
func (n *Node) answerSYN(now time.Duration, service int, bucket uint8) Verdict {
	d := &n.decoded
	if n.answers == nil || n.table.find(&d.Flow) != nil {
		return Undecided
	}
	reply, ok := responder.AppendFrame(n.reply[:0], n.own, d.From, !d.Flow.Src.Is4())
	if ok {
		reply, ok = n.answers.AppendCookie(now, reply, n.places[service], d.IP)
	}
	n.reply = reply[:0]
	if !ok {
		return Undecided
	}
	n.cookies[service], n.cookiesOf[service][bucket] = now, now
	if n.kernel.in != nil && d.Flow.Src.Is4() {
		n.kernel.made[service]++
	}
	return n.also(Handled{Verdict: AnsweredSYN, Reply: reply, vip: n.vip(d.Flow.Dst)})
}

// answered tells who makes cookies of a SYN-ACK that leaves.
func (n *Node) answered(now time.Duration, service int, s *outgoing, kept bool) {
	if n.answers != nil {
		n.answers.Answered(now, n.places[service], s.packet, kept)
	}
}
