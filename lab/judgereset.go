package lab

import (
	"fmt"
	"time"
)

// A reset in the name of a VIP is earned in three ways (OWNERSHIP.md R14,
// RFC 9293 §3.10.7):
//
//   - it ends a flow whose handshake its sender completed;
//   - it answers a SYN for a port that has no service or whose backend does not
//     accept, with <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>;
//   - it answers another segment, by its numbers, of a flow that no node holds,
//     or whose node is dead or cut off for so long that it is orphaned (R18):
//     <SEQ=SEG.ACK><CTL=RST>, or as for a SYN where the segment has no ACK.
//
// Each segment earns one at most, from one node.

// judgeReset judges a reset that a node sent.
func (j *Judge) judgeReset(f *judgedFlow, p *packet) {
	if f == nil {
		j.breach(RuleResetUnasked, fmt.Sprintf("%s reset %s, which had sent nothing", p.Host, p.Dst), p.Sight)
		return
	}
	for _, c := range []*connection{&f.now, &f.before} {
		if c.heldBy(p.Host) {
			c.over = true
			return
		}
	}
	open, answered := f.reasons(p, j.heardUntil(f))
	switch {
	case open != nil:
		open.closeBy(p)
		j.judgeAnswer(f, open, p)
	case f.overrun > 0:
		f.overrun--
		j.judgeAnswer(f, &question{}, p)
	case answered != nil:
		j.breach(RuleResetTwice, fmt.Sprintf("%s reset %s once more for a segment that %s had reset", p.Host, p.Dst, answered.answer.Host),
			answered.Sight, *answered.answer, p.Sight)
	default:
		j.breach(RuleResetUnasked, fmt.Sprintf("%s reset %s without a segment that this would answer", p.Host, p.Dst), f.evidence(p)...)
	}
}

// heardUntil is until when the client's segments were heard by a node that held
// the flow and that is dead or cut off since, 0 for other flows.
func (j *Judge) heardUntil(f *judgedFlow) time.Duration {
	if c := &f.now; c.complete && j.orphaned(c.node, c.synACK.At) {
		return j.fates[c.node].since
	}
	return 0
}

// reasons finds the client's segments since an instant that a reset fits by its
// numbers: the oldest that was not answered, and one that was.
func (f *judgedFlow) reasons(p *packet, since time.Duration) (open, answered *question) {
	for i := range f.strays {
		q := &f.strays[(f.nextStrays+i)%strayMemory]
		switch {
		case !q.asked || q.At < since || !q.earns(p):
		case q.answered():
			answered = q
		case open == nil:
			open = q
		}
	}
	return open, answered
}

// earns reports whether the reset's numbers are those of an answer to q.
func (q *question) earns(p *packet) bool {
	if q.Flags&tcpACK != 0 {
		return p.Flags&tcpACK == 0 && p.Seq == q.Ack
	}
	length := q.Bytes
	for _, counted := range [...]uint8{tcpSYN, tcpFIN} {
		if q.Flags&counted != 0 {
			length++
		}
	}
	return p.Flags&tcpACK != 0 && p.Seq == 0 && p.Ack == q.Seq+length
}

// judgeAnswer judges a reset that answers q, from a node that did not complete
// this flow's handshake.
func (j *Judge) judgeAnswer(f *judgedFlow, q *question, p *packet) {
	if q.Flags&(tcpSYN|tcpACK) == tcpSYN {
		j.judgeRefusal(f, q, p)
		return
	}
	for _, c := range []*connection{&f.now, &f.before} {
		switch {
		case !c.answered || c.over:
		case j.orphaned(c.node, c.synACK.At):
			c.over = true
		case c.node != p.Host && j.spared(c.node):
			j.breach(RuleResetEarly, fmt.Sprintf("%s reset %s, a flow of %s, %v after that was cut off", p.Host, p.Dst, c.node, (j.at-j.fates[c.node].since).Round(time.Millisecond)), c.syn, c.synACK, q.Sight, p.Sight)
			return
		case c.node != p.Host:
			j.breach(RuleResetForeign, fmt.Sprintf("%s reset a flow of %s that %s holds", p.Host, p.Dst, c.node), c.syn, c.synACK, q.Sight, p.Sight)
			return
		default:
			// OWNERSHIP.md R13: the reset would carry the client's exact number.
			j.breach(RuleResetHalfOpen, fmt.Sprintf("%s reset %s before the handshake was complete", p.Host, p.Dst), c.syn, c.synACK, q.Sight, p.Sight)
			return
		}
	}
}

// judgeRefusal judges a reset that answers a SYN.
func (j *Judge) judgeRefusal(f *judgedFlow, q *question, p *packet) {
	c := f.askedBy(p)
	if c == nil {
		// The SYN's connection was pushed out by newer ones.
		return
	}
	if c.refused++; c.refused == 1 && !c.answered {
		j.noteAnswered(c)
	}
	switch {
	case c.answered:
		j.breach(RuleSYNACKAndReset, fmt.Sprintf("%s reset %s in answer to a SYN that %s had accepted", p.Host, p.Dst, c.node), c.syn, c.synACK, p.Sight)
	case j.serving[p.Src.AddrPort()] && !f.restarts(p.Host):
		j.breach(RuleResetServed, fmt.Sprintf("%s refused %s although the service on %s accepts", p.Host, p.Dst, p.Src), q.Sight, p.Sight)
	}
	if c.syns <= c.refused {
		c.over = true
	}
}

// restarts reports whether the client's new SYN met its own older connection,
// half-open at the node: that may be ended by a reset.
func (f *judgedFlow) restarts(node string) bool {
	return f.before.answered && !f.before.over && f.before.node == node
}

// evidence is what is remembered of the flow before p, for a breach.
func (f *judgedFlow) evidence(p *packet) []Sight {
	var s []Sight
	if f.now.begun {
		s = append(s, f.now.syn)
	}
	if f.now.answered {
		s = append(s, f.now.synACK)
	}
	last := f.strays[(f.nextStrays+strayMemory-1)%strayMemory]
	if last.asked {
		s = append(s, last.Sight)
	}
	return append(s, p.Sight)
}
