package lab

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"onevoice/cluster"
)

// What a client may notice of a fault.
const (
	// synTimer is when Linux clients send a SYN again (RFC 6298 §2).
	synTimer = time.Second
	// waitSlack is what a machine of two processors may add.
	waitSlack = 250 * time.Millisecond
	// coldStart is how long a cluster may take from all off to all owned.
	coldStart = 3 * time.Second
	// ownedWithin is when the buckets of a node that is gone are others'.
	ownedWithin = time.Second
	// leaseTail is how long a node that is cut off may still accept.
	leaseTail = 300 * time.Millisecond
	// foundAgain is how long a node may take for a backend that it has had to
	// refuse for: it looks once a second.
	foundAgain = 3 * time.Second
	// restlessSlack is what is not held against a cluster whose buckets move all the
	// time, on a machine that has too much to do: a SYN, and the one after it, that
	// come in the moment of a move are lost.
	restlessSlack = 6 * time.Second
	// atOnceWait is a wait without a retransmission.
	atOnceWait = 200 * time.Millisecond
	// learnsWithin is for how long a node that is back may serve flows that it has to give
	// up: it has to hear of that first (OWNERSHIP.md R18).
	learnsWithin = time.Second
	// ownedCalm is ownedWithin of timing calm, whose leases are longer (OWNERSHIP.md L1).
	ownedCalm = 2 * time.Second
	// excuseStall: when the whole machine stood still for so long, waits are no
	// fault of the cluster.
	excuseStall = 100 * time.Millisecond
)

// kills reports whether a round ends the node's flows. Those of the hosts' own TCP go on
// without the daemon.
func (r *Round) kills(node string) bool {
	if r.Direct && r.Kind != TortureStop {
		return false
	}
	return r.Kind == TortureOff || (r.Kind == TortureKill || r.Kind == TortureStop) && r.Node == node
}

// ends reports whether a round ends the flow.
func (r *Round) ends(f *liveFlow) bool {
	return r.kills(f.node) || r.Kind == TortureBackend && r.Node == f.node && !f.ssh
}

// loses reports whether the node is without a lease for a time in the round.
func (r *Round) loses(node string) bool {
	switch r.Kind {
	case TortureOff:
		return true
	case TortureSplit:
		return slices.Contains(r.Sides[1], node)
	case TortureDrain, TortureWeight, TortureUpgrade, TortureBackend, TortureFlood:
		return false
	}
	return r.Node == node && !r.harmless()
}

// orphans reports whether flows of the node may be lost: it was killed, or may
// have had no lease for so long that others may reset them.
func (r *Round) orphans(node string) bool {
	return r.kills(node) || r.loses(node) && r.For >= orphanTime-orphanSlack
}

// served reports whether new clients can be served in the round at all.
func (r *Round) served() bool {
	return r.Kind != TortureOff && (r.Kind != TortureSplit || r.Clients != clientsSecond)
}

// judgeRound checks how the flows and newcomers of a round have fared.
func (t *torture) judgeRound(tr *trial) {
	k := t.result.kind(tr.Kind)
	k.Rounds++
	t.noteOrphans(tr)
	before := *k
	for _, f := range tr.flows {
		t.judgeFlow(k, tr, f)
	}
	t.result.Rounds = append(t.result.Rounds, RoundResult{tr.Round, tr.began, len(tr.flows), k.Lost - before.Lost, k.Orphaned - before.Orphaned, k.Broken - before.Broken})
	var ownerless time.Duration
	for _, c := range t.newcomers.take() {
		t.judgeNewcomer(k, tr, &c)
		if tr.loses(tr.owners[c.addr]) && c.began.Before(tr.undone) && c.connected > atOnceWait {
			ownerless = max(ownerless, c.began.Sub(tr.began))
		}
	}
	if tr.served() && !tr.harmless() {
		k.ownerless = append(k.ownerless, ownerless)
	}
	for addr, node := range tr.after {
		if before := tr.owners[addr]; tr.harmless() && tr.settled && before != node && t.bystander.worst(tr.began, time.Now()) < excuseStall {
			t.breach("%s was served by %s and after a stall of %s by %s", addr, before, tr.For, node)
		}
	}
}

// judgeFlow checks a flow that lived when the round began.
func (t *torture) judgeFlow(k *KindResult, tr *trial, f *liveFlow) {
	heard, at, ended := f.state()
	k.Flows++
	switch {
	case ended == nil && (tr.ends(f) || !heard.After(tr.undone)) && (t.stoodStill(tr.undone) || t.untold(tr, f)):
		// It is given up, for nobody can say.
		k.Silent++
		f.close()
	case ended == nil && tr.ends(f):
		t.breach("%s was told nothing of its node's death for %s: %s", f, short(time.Since(tr.began)), f.wire())
		f.close()
	case ended == nil && heard.After(tr.undone):
	case ended == nil:
		t.breach("%s has not gone on %s after %s: %s", f, short(time.Since(tr.undone)), tr.Round, f.wire())
		f.close()
	case errors.Is(ended, errNotEchoed):
		t.breach("%s: %v", f, ended)
	case tr.ends(f):
		k.Lost++
		k.told = append(k.told, at.Sub(tr.began))
	case tr.orphans(f.node):
		k.Orphaned++
	case lost(ended) && (t.lostLease(tr.began, at) || t.gaveUp(f, heard)):
		k.Orphaned++
	default:
		k.Broken++
		t.breach("%s was broken by %s: %v", f, tr.Round, ended)
	}
}

// untold reports whether the user of a flow that ended with its node in the round, or was
// given up in it or lately, need not have been told yet: a flood's cookies may still have
// come back when it last said something, so that strays of buckets that moved had no answer
// (OWNERSHIP.md R14, R17). Only a soak does not wait for the end of that.
func (t *torture) untold(tr *trial, f *liveFlow) bool {
	lost := tr.ends(f) || tr.orphans(f.node) || tr.began.Before(t.orphaned[f.node].Add(cookieMemory))
	return lost && t.restless && tr.began.Before(t.flooded.Add(cookieMemory))
}

// gaveUp reports whether the node of a flow may have given it up in an earlier round, in
// whose end it was heard for the last time, and its user may be told only now, for the same
// reason.
func (t *torture) gaveUp(f *liveFlow, heard time.Time) bool {
	return t.restless && heard.Before(t.orphaned[f.node].Add(learnsWithin)) && heard.Before(t.flooded.Add(cookieMemory))
}

// noteOrphans notes whose flows may be given up after the round: a node that has stood still
// for long enough learns of that when it is back, and its clients later.
func (t *torture) noteOrphans(tr *trial) {
	for _, f := range tr.flows {
		if tr.orphans(f.node) {
			t.orphaned[f.node] = tr.undone
		}
	}
}

// judgeNewcomer checks one new connection that began in a round.
func (t *torture) judgeNewcomer(k *KindResult, tr *trial, c *newcomer) {
	owner := tr.owners[c.addr]
	if c.err != nil && c.node != "" {
		// It had told who it is, before it was lost.
		owner = c.node
	}
	touched := tr.loses(owner) || tr.harmless() && owner == tr.Node
	switch {
	case c.err != nil && t.excusedError(tr, c, owner):
		k.Unserved++
		return
	case c.err != nil && t.excusedNewcomer(c):
		k.Excused++
		return
	case c.err != nil:
		t.breach("a new client, %s, of %s was not served, %s after %s: %v", c.addr, owner, short(c.began.Sub(tr.began)), tr.Round, c.err)
		return
	case touched:
		k.touched = append(k.touched, c.connected)
	default:
		k.others = append(k.others, c.connected)
	}
	switch limit := t.mayWait(tr, c, owner); {
	case c.connected <= limit:
	case t.restless && c.connected <= limit+restlessSlack:
		k.Late++
	case t.excusedWait(c):
		k.Excused++
	default:
		k.Late++
		t.breach("a new client, %s, of %s waited %s and not %s, %s after %s", c.addr, owner, short(c.connected), short(limit), short(c.began.Sub(tr.began)), tr.Round)
	}
}

// ownedIn is when the buckets of a node that is gone are others', by the timing.
func (t *torture) ownedIn() time.Duration {
	if t.o.Spec.Timing == cluster.Calm {
		return ownedCalm
	}
	return ownedWithin
}

// mayWait is how long a new client's handshake may take that is judged with a round. Who came
// before it may have noticed the round before, whose moves go on until shares have settled.
func (t *torture) mayWait(tr *trial, c *newcomer, owner string) time.Duration {
	wait := t.mayWaitIn(tr, c, owner)
	if t.last != nil && c.began.Before(tr.began) {
		wait = max(wait, t.mayWaitIn(t.last, c, t.last.owners[c.addr]))
	}
	return wait
}

// mayWaitInCalm is mayWait of who is judged between rounds.
func (t *torture) mayWaitInCalm(c *newcomer) time.Duration {
	const timer = synTimer + waitSlack
	switch {
	case t.restless:
		return timer + restlessSlack
	case t.settled && !c.began.Before(t.calmFrom):
		return synTimer - waitSlack
	case t.last != nil:
		return t.mayWaitIn(t.last, c, t.last.owners[c.addr])
	}
	return timer
}

// mayWaitIn is how long a new client's handshake may take for what a round does.
func (t *torture) mayWaitIn(tr *trial, c *newcomer, owner string) time.Duration {
	timer := synTimer + waitSlack
	if t.o.Spec.Timing == cluster.Calm && tr.loses(owner) {
		timer += synTimer
	}
	before := max(0, tr.undone.Sub(c.began))
	switch {
	case tr.Kind == TortureOff, !tr.served():
		// It is served once the fault is over, and its timer has grown with its
		// patience.
		wait := before + max(timer, before)
		if tr.Kind == TortureOff {
			wait += coldStart
		}
		return wait
	case tr.settled && tr.loses(owner) && c.began.After(tr.began.Add(t.ownedIn())) && c.began.Before(tr.undone):
		return synTimer - waitSlack
	}
	return timer
}

// excusedError reports whether a new client's failure is one that must be: its
// node died with it, or there was nobody to be reached.
func (t *torture) excusedError(tr *trial, c *newcomer, owner string) bool {
	if !tr.served() && c.began.Before(tr.undone.Add(coldStart)) {
		return true
	}
	if tr.Kind == TortureBackend {
		// Another node may have it since, when shares had not settled.
		return (owner == tr.Node || !tr.settled) && c.began.Before(tr.undone)
	}
	refused := errors.Is(c.err, syscall.ECONNREFUSED)
	accepted := c.began.Add(c.connected)
	return !refused && tr.mayLose(owner) && accepted.Before(tr.began.Add(leaseTail))
}

// mayLose reports whether flows of the node that served an address before may be
// lost. When shares had not settled, it may have been another since.
func (tr *trial) mayLose(owner string) bool {
	switch {
	case tr.settled:
		return tr.orphans(owner)
	case tr.Kind == TortureOff || tr.Kind == TortureKill:
		return !tr.Direct || tr.For >= orphanTime-orphanSlack
	}
	cuts := tr.Kind == TortureStall || tr.Kind == TortureDeafen || tr.Kind == TortureMute || tr.Kind == TortureSplit || tr.Kind == TortureControl
	return cuts && tr.For >= orphanTime-orphanSlack
}

// judgeCalm checks newcomers that came between rounds.
func (t *torture) judgeCalm(all []newcomer) {
	k := t.result.kind(tortureCalm)
	for _, c := range all {
		switch {
		case c.err != nil && t.excusedNewcomer(&c):
			k.Excused++
			continue
		case c.err != nil:
			t.breach("in a calm, a new client, %s, was not served: %v", c.addr, c.err)
			continue
		case c.connected <= t.mayWaitInCalm(&c):
		case t.excusedWait(&c):
			k.Excused++
		default:
			k.Late++
			t.breach("in a calm, a new client, %s, waited %s", c.addr, short(c.connected))
		}
		k.others = append(k.others, c.connected)
	}
}

// judgeAnswers checks what one question of each address got in a calm.
func (t *torture) judgeAnswers(name string, asked time.Time, answers Answers) {
	still := t.stoodStill(time.Now().Add(-probeTime)) || t.justTookALease(asked)
	for addr, n := range answers {
		if t.result.Asked++; n == 0 && still {
			t.result.kind(tortureCalm).Excused++
		} else if n != 1 {
			t.breach("in a calm, the %s of %s got %d answers and not one", name, addr, n)
		}
	}
}
