package lab

import (
	"container/list"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"onevoice/responder"
)

// askKey is a question that may be asked again: an ARP request for a VIP by a
// station, or an echo request with its identifier and sequence number.
type askKey struct {
	kind  SightKind
	asker netip.Addr
	mac   responder.MAC
	vip   netip.Addr
	id    uint32
}

// judgedAsk are the last times that a question was asked.
type judgedAsk struct {
	use  *list.Element
	key  askKey
	used time.Duration
	// times is a ring; next is the oldest.
	times [strayMemory]question
	next  int
	// overrun counts open questions that newer ones pushed out of the ring, the
	// last of them at overrunAt. Their answers cannot be told from second ones.
	overrun   int
	overrunAt time.Duration
}

// askerKey is whose questions are counted together.
type askerKey struct {
	kind  SightKind
	asker netip.Addr
}

// Asked says how an asker fared.
type Asked struct {
	Asked    int `json:"asked"`
	Answered int `json:"answered"`
	// Nodes are those that answered.
	Nodes []string `json:"nodes"`
}

// ARPAnswers tells how the ARP requests for VIPs of an address were answered.
func (j *Judge) ARPAnswers(asker netip.Addr) Asked { return j.answers(SightARPRequest, asker) }

// EchoAnswers tells how the echo requests to VIPs of an address were answered.
func (j *Judge) EchoAnswers(asker netip.Addr) Asked { return j.answers(SightEchoRequest, asker) }

func (j *Judge) answers(kind SightKind, asker netip.Addr) Asked {
	a := j.asked[askerKey{kind, asker}]
	if a == nil {
		return Asked{}
	}
	return Asked{a.Asked, a.Answered, slices.Clone(a.Nodes)}
}

func (j *Judge) judgeARP(p *packet) {
	for _, v := range j.addresses {
		if p.Src.Addr() == v.Addr {
			j.judgeClaim(p, v)
		}
	}
	if p.Kind == SightARPRequest && j.isVIP(p.Dst.Addr()) && !j.isVIP(p.Src.Addr()) {
		j.counts.ARPRequests++
		j.ask(askKey{kind: SightARPRequest, asker: p.Src.Addr(), mac: p.MAC, vip: p.Dst.Addr()}, p)
	}
}

// judgeClaim judges an ARP packet whose sender is a VIP.
func (j *Judge) judgeClaim(p *packet, v JudgedAddress) {
	switch {
	case p.MAC != v.MAC:
		j.breach(RuleClaim, fmt.Sprintf("%s claimed %s for %s, not for the cluster MAC", p.Host, v.Addr, p.MAC), p.Sight)
	case p.Kind == SightARPRequest && p.from.Node:
		j.breach(RuleVIPAsks, fmt.Sprintf("%s asked in ARP in the name of %s", p.Host, v.Addr), p.Sight)
	}
	if p.Kind == SightARPReply && j.speaks(p) {
		j.node(p.Host).ARPReplies++
		j.answer(askKey{kind: SightARPRequest, asker: p.Dst.Addr(), mac: p.target, vip: v.Addr}, p)
	}
}

// ask notes a question.
func (j *Judge) ask(key askKey, p *packet) {
	a := j.asks[key]
	if a == nil {
		if len(j.asks) >= MaxJudgedAsks {
			j.counts.Forgotten++
			j.forgetAsk(j.asksByUse.Front())
		}
		a = &judgedAsk{key: key}
		a.use = j.asksByUse.PushBack(a)
		j.asks[key] = a
	}
	a.used = j.at
	j.asksByUse.MoveToBack(a.use)
	if old := &a.times[a.next]; old.asked && !old.answered() && j.at-old.At <= askMemory {
		a.overrun++
		a.overrunAt = j.at
	}
	a.times[a.next] = question{Sight: p.Sight, asked: true}
	a.next = (a.next + 1) % strayMemory
	if t := j.tally(key); t != nil {
		t.Asked++
	}
}

// tally counts for an asker, nil when there are too many of them.
func (j *Judge) tally(key askKey) *Asked {
	k := askerKey{key.kind, key.asker}
	if j.asked[k] == nil {
		if len(j.asked) >= MaxJudgedAskers {
			j.counts.Forgotten++
			return nil
		}
		j.asked[k] = &Asked{}
	}
	return j.asked[k]
}

func (j *Judge) forgetAsk(e *list.Element) {
	delete(j.asks, e.Value.(*judgedAsk).key)
	j.asksByUse.Remove(e)
}

// answer judges an answer: it belongs to the oldest question that is open.
func (j *Judge) answer(key askKey, p *packet) {
	a := j.asks[key]
	if a == nil {
		j.breach(RuleAnswerUnasked, fmt.Sprintf("%s answered %s without a question", p.Host, p.Dst.Addr()), p.Sight)
		return
	}
	open, last := a.find(j.at)
	if fresh := a.openSince(j.at - lateTime); fresh != nil && j.movedSince(open.At) {
		// What was asked long ago met nobody; this is for the new question.
		open = fresh
	}
	switch {
	case open != nil:
		open.closeBy(p)
	case a.overrun > 0 && j.at-a.overrunAt <= askMemory:
		a.overrun--
	case last != nil:
		j.breach(RuleAnswerTwice, fmt.Sprintf("%s answered %s once more after %s", p.Host, p.Dst.Addr(), last.answer.Host),
			last.Sight, *last.answer, p.Sight)
		return
	default:
		j.breach(RuleAnswerUnasked, fmt.Sprintf("%s answered %s more than %v after the question", p.Host, p.Dst.Addr(), askMemory), p.Sight)
		return
	}
	if t := j.tally(key); t != nil {
		t.Answered++
		if !slices.Contains(t.Nodes, p.Host) {
			t.Nodes = append(t.Nodes, p.Host)
		}
	}
	// With two questions open at once, each may have got one answer of two
	// nodes, which is two for each. While owners change, it is only when the
	// first of the questions is too old to be answered still.
	if open != nil && last != nil && last.answer.Host != p.Host && last.answer.At >= open.At &&
		(!j.movedSince(open.At) || j.at-open.At > lateTime) {
		j.breach(RuleAnswerTwoNodes, fmt.Sprintf("%s and %s both answer %s", last.answer.Host, p.Host, p.Dst.Addr()),
			open.Sight, *last.answer, p.Sight)
	}
}

// find gives the oldest open question of the last askMemory, and the one that
// was answered last.
func (a *judgedAsk) find(now time.Duration) (open, last *question) {
	for i := range a.times {
		q := &a.times[(a.next+i)%strayMemory]
		switch {
		case !q.asked || now-q.At > askMemory:
		case q.answered():
			last = q
		case open == nil:
			open = q
		}
	}
	return open, last
}

// openSince is the oldest open question since an instant, nil when there is
// none.
func (a *judgedAsk) openSince(at time.Duration) *question {
	for i := range a.times {
		if q := &a.times[(a.next+i)%strayMemory]; q.asked && !q.answered() && q.At >= at {
			return q
		}
	}
	return nil
}
