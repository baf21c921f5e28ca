package lab

import (
	"container/list"
	"fmt"
	"slices"
	"time"
)

// flowKey is a flow from the client's point of view.
type flowKey struct{ client, service Endpoint }

// judgedFlow is what is known of all connections with one tuple.
type judgedFlow struct {
	use  *list.Element
	key  flowKey
	used time.Duration
	// now is the connection that the last SYN began, and before the one that
	// was there until its handshake is complete.
	now, before connection
	// strays are the last segments of the client; each may earn one reset.
	strays     [strayMemory]question
	nextStrays int
	// overrun counts strays without an answer that newer ones pushed out while
	// no node held the flow. Each may still be reset.
	overrun int
}

// connection is one life of a tuple, from a SYN on.
type connection struct {
	begun bool
	// unsettled: the SYN came while owners changed.
	unsettled bool
	answered  bool
	// complete: the client has acknowledged the SYN-ACK.
	complete              bool
	clientFIN, serviceFIN bool
	// over: both have sent FIN, or one has sent a reset.
	over bool
	syn  Sight
	// syns and refused count the SYN with its retransmissions, and the resets
	// that answered it.
	syns, refused int
	// lastSYN is when the SYN came last, and lastAnswer when a SYN-ACK did.
	lastSYN, lastAnswer time.Duration
	// synACK is the first one of node; when owners change, the last owner's
	// first one, and older are those of the others.
	synACK Sight
	node   string
	older  []olderAnswer
}

// olderAnswer is what a former owner answered to a SYN.
type olderAnswer struct {
	node string
	seq  uint32
}

// question is a frame that may be answered once.
type question struct {
	Sight
	asked bool
	// answer is nil while there is none.
	answer *Sight
}

func (q *question) answered() bool { return q.answer != nil }

// closeBy notes p as the answer.
func (q *question) closeBy(p *packet) {
	s := p.Sight
	q.answer = &s
}

// living reports whether the flow is established: it stays in memory.
func (f *judgedFlow) living() bool { return f.now.complete && !f.now.over }

// heldBy reports whether the node completed the connection's handshake.
func (c *connection) heldBy(node string) bool { return c.complete && c.node == node }

func (j *Judge) judgeTCP(p *packet) {
	switch toVIP, fromVIP := j.isVIP(p.Dst.Addr()), j.isVIP(p.Src.Addr()); {
	case fromVIP && j.speaks(p):
		j.fromService(p)
	case toVIP && !fromVIP:
		j.fromClient(p)
	}
}

// flow finds a flow or makes one.
func (j *Judge) flow(key flowKey) *judgedFlow {
	f := j.flows[key]
	if f == nil {
		if len(j.flows) >= MaxJudgedFlows {
			j.counts.Forgotten++
			j.forgetFlow(j.flowsByUse.Front())
		}
		f = &judgedFlow{key: key}
		f.use = j.flowsByUse.PushBack(f)
		j.flows[key] = f
	}
	f.used = j.at
	j.flowsByUse.MoveToBack(f.use)
	return f
}

func (j *Judge) forgetFlow(e *list.Element) {
	delete(j.flows, e.Value.(*judgedFlow).key)
	j.flowsByUse.Remove(e)
}

func (j *Judge) fromClient(p *packet) {
	f := j.flow(flowKey{p.Src, p.Dst})
	switch {
	case p.Flags&tcpRST != 0:
		// A reset earns no answer, RFC 9293 §3.10.7.1.
		f.now.over = true
		return
	case p.Flags&(tcpSYN|tcpACK) == tcpSYN:
		j.clientSYN(f, p)
	case p.Flags&tcpACK != 0:
		j.clientACK(f, p)
	}
	if old := &f.strays[f.nextStrays]; old.asked && !old.answered() && !(f.living() && !j.orphaned(f.now.node, f.now.synACK.At)) {
		f.overrun++
	}
	f.strays[f.nextStrays] = question{Sight: p.Sight, asked: true}
	f.nextStrays = (f.nextStrays + 1) % strayMemory
}

// clientSYN begins a connection, or is a retransmission of the SYN that began
// the present one.
func (j *Judge) clientSYN(f *judgedFlow, p *packet) {
	if c := &f.now; c.begun && c.syn.Seq == p.Seq && !c.over {
		c.syns++
		c.lastSYN = j.at
		j.counts.RepeatedSYNs++
		return
	}
	j.counts.SYNs++
	f.before = f.now
	f.now = connection{begun: true, syn: p.Sight, syns: 1, lastSYN: j.at}
	if j.moving {
		j.unsettle(&f.now)
	}
}

func (j *Judge) clientACK(f *judgedFlow, p *packet) {
	c := &f.now
	if node := c.accepterOf(p.Ack - 1); node != "" && !c.complete && p.Flags&tcpSYN == 0 {
		c.complete, c.node = true, node
		f.before, f.overrun = connection{}, 0
		j.counts.Handshakes++
		j.node(c.node).Flows++
	}
	if p.Flags&tcpFIN != 0 {
		c.clientFIN = true
		c.over = c.over || c.serviceFIN
	}
}

func (j *Judge) fromService(p *packet) {
	n := j.node(p.Host)
	key := flowKey{p.Dst, p.Src}
	switch {
	case p.Flags&tcpRST != 0:
		n.Resets++
		j.judgeReset(j.flows[key], p)
	case p.Flags&tcpSYN != 0:
		n.SYNACKs++
		j.judgeSYNACK(j.flows[key], p)
	default:
		j.judgeSegment(j.flow(key), p)
	}
}

// judgeSYNACK checks that a SYN and its retransmissions are answered by one
// node with one sequence number.
func (j *Judge) judgeSYNACK(f *judgedFlow, p *packet) {
	c := f.askedBy(p)
	switch {
	case c == nil:
		j.breach(RuleSYNACKUnasked, fmt.Sprintf("%s sent %s a SYN-ACK that no SYN asked for", p.Host, p.Dst), p.Sight)
	case !c.answered && c.syns <= c.refused:
		j.breach(RuleSYNACKAndReset, fmt.Sprintf("%s accepted a SYN of %s that had been refused by a reset", p.Host, p.Dst), c.syn, p.Sight)
	case !c.answered:
		c.answered, c.synACK, c.node, c.lastAnswer = true, p.Sight, p.Host, j.at
		if c.refused == 0 {
			j.noteAnswered(c)
		}
	case c.synACK.Host == p.Host && c.synACK.Seq == p.Seq:
		c.lastAnswer = j.at
	case !j.mayAnswer(c, p):
		j.judgeOtherAnswer(c, p)
	}
}

// noteAnswered counts a SYN that was answered for the first time.
func (j *Judge) noteAnswered(c *connection) {
	j.counts.AnsweredSYNs++
	if c.unsettled {
		j.counts.AnsweredUnsettledSYNs++
	}
}

// mayAnswer reports whether another SYN-ACK than that before is the answer of a
// new owner to a retransmission that nobody has answered, or one of an old
// owner that crossed it. It notes a new owner's.
func (j *Judge) mayAnswer(c *connection, p *packet) bool {
	if !j.movedSince(c.syn.At) {
		return false
	}
	if slices.Contains(c.older, olderAnswer{p.Host, p.Seq}) {
		return j.at-c.synACK.At <= crossTime
	}
	if c.lastSYN <= c.lastAnswer || len(c.older) >= maxOlderAnswers {
		return false
	}
	c.lastAnswer = j.at
	if c.complete {
		// It was on its way when the client acknowledged the other.
		c.older = append(c.older, olderAnswer{p.Host, p.Seq})
		return true
	}
	c.older = append(c.older, olderAnswer{c.node, c.synACK.Seq})
	c.synACK, c.node = p.Sight, p.Host
	return true
}

// maxOlderAnswers is how many owners a SYN may meet: clients give up after
// about six retransmissions.
const maxOlderAnswers = 8

func (j *Judge) judgeOtherAnswer(c *connection, p *packet) {
	if c.synACK.Host != p.Host {
		j.breach(RuleSYNTwoNodes, fmt.Sprintf("%s and %s answered one SYN of %s", c.synACK.Host, p.Host, p.Dst), c.syn, c.synACK, p.Sight)
		return
	}
	j.breach(RuleSYNTwoNumbers, fmt.Sprintf("%s answered one SYN of %s with two sequence numbers", p.Host, p.Dst), c.syn, c.synACK, p.Sight)
}

// accepterOf is the node whose SYN-ACK had this sequence number.
func (c *connection) accepterOf(seq uint32) string {
	if c.answered && c.synACK.Seq == seq {
		return c.synACK.Host
	}
	for _, a := range c.older {
		if a.seq == seq {
			return a.node
		}
	}
	return ""
}

// askedBy is the connection whose SYN a SYN-ACK or the reset of a SYN
// acknowledges, nil when there is none. The one before counts too: its answer
// may be sent once more after the tuple was used again.
func (f *judgedFlow) askedBy(p *packet) *connection {
	if f == nil {
		return nil
	}
	for _, c := range []*connection{&f.now, &f.before} {
		if c.begun && p.Ack == c.syn.Seq+1+c.syn.Bytes || c.begun && p.Ack == c.syn.Seq+1 {
			return c
		}
	}
	return nil
}

// judgeSegment checks that one node answers a flow for its whole life.
func (j *Judge) judgeSegment(f *judgedFlow, p *packet) {
	c := &f.now
	if !c.answered && f.before.answered && !f.before.over {
		// The client has sent a new SYN into a running flow; its holder goes on
		// speaking for it.
		c = &f.before
	}
	switch {
	case !c.answered && !c.begun:
		j.counts.Adopted++
		*c = connection{answered: true, complete: true, node: p.Host, synACK: p.Sight}
	case !c.answered:
		j.breach(RuleSegmentUnasked, fmt.Sprintf("%s sent %s a segment before any SYN-ACK", p.Host, p.Dst), c.syn, p.Sight)
	case c.node != p.Host:
		j.breach(RuleFlowTwoNodes, fmt.Sprintf("%s spoke in the flow of %s, which %s had answered", p.Host, p.Dst, c.node), c.syn, c.synACK, p.Sight)
	}
	if p.Flags&tcpFIN != 0 && c.node == p.Host {
		c.serviceFIN = true
		c.over = c.over || c.clientFIN
	}
}
