package lab

import "time"

// What a judge is told beside the frames: what was done to the nodes. Without
// it, a judge holds the LAN for calm, in which no bucket changes its owner.

// How late what follows from a fault may be seen, and how soon.
const (
	// orphanTime is how long flows of a node without a lease are spared before
	// others may reset them (OWNERSHIP.md R18), counted here from the fault.
	orphanTime = 3 * time.Second
	// orphanSlack: a node that is whole again so long before orphanTime may not
	// have got its lease in time.
	orphanSlack = 750 * time.Millisecond
	// crossTime is how long after the new owner's first answer one of the old
	// owner may still come, that was on its way.
	crossTime = 20 * time.Millisecond
	// lateTime is how old a question may be that a node still answers while
	// owners change.
	lateTime = 250 * time.Millisecond
)

// fate is what became of a node.
type fate struct {
	// away: it is dead or cut off since then.
	away, dead bool
	since      time.Duration
	// diedBefore: flows that it accepted before are nobody's for good, for all of
	// its processes had ended, or it had been away for too long.
	diedBefore time.Duration
	// Flows that it accepted before orphansBefore may be reset by others from
	// orphansFrom on.
	orphansBefore, orphansFrom time.Duration
}

// Moving tells the judge that owners may change from now on, until Settled.
func (j *Judge) Moving(at time.Duration) {
	j.moving = true
	// A SYN of just now may meet an owner that is gone.
	for e := j.flowsByUse.Back(); e != nil; e = e.Prev() {
		f := e.Value.(*judgedFlow)
		if f.used < at-lateTime {
			break
		}
		if c := &f.now; c.begun && !c.answered && c.refused == 0 {
			j.unsettle(c)
		}
	}
}

// Settled tells the judge that every bucket has the owner that it keeps.
func (j *Judge) Settled(at time.Duration) { j.moving, j.settled = false, at }

// movedSince reports whether owners may have changed since an instant.
func (j *Judge) movedSince(at time.Duration) bool { return j.moving || at < j.settled }

// unsettle counts a SYN as one that came while owners change.
func (j *Judge) unsettle(c *connection) {
	if !c.unsettled {
		c.unsettled = true
		j.counts.UnsettledSYNs++
	}
}

// Dead tells that all processes of a node have been killed, and Alive that they
// were started again: with that, its flows are nobody's at once.
func (j *Judge) Dead(node string, at time.Duration) { j.fates[node] = j.fate(node).leave(at, true) }

// Alive is told when a dead node is started.
func (j *Judge) Alive(node string, at time.Duration) { j.fates[node] = j.fate(node).back(at) }

// Cut tells that a node can hold no lease: it is deaf, mute, stalled, or on the
// smaller side of a split. Whole tells that it can again.
func (j *Judge) Cut(node string, at time.Duration) { j.fates[node] = j.fate(node).leave(at, false) }

// Whole is told when nothing keeps a node from a lease any more.
func (j *Judge) Whole(node string, at time.Duration) { j.fates[node] = j.fate(node).back(at) }

func (j *Judge) fate(node string) fate { return j.fates[node] }

// leave: of two faults at once, the first counts, and death is the worse.
func (f fate) leave(at time.Duration, dead bool) fate {
	if !f.away {
		f.since = at
	}
	f.away, f.dead = true, f.dead || dead
	return f
}

func (f fate) back(at time.Duration) fate {
	switch {
	case !f.away:
	case f.dead:
		f.diedBefore = at
	case at-f.since >= orphanTime-orphanSlack:
		if f.orphansFrom <= at {
			f.diedBefore = max(f.diedBefore, f.orphansBefore)
		}
		f.orphansBefore, f.orphansFrom = at, max(at, f.since+orphanTime)
	}
	f.away, f.dead = false, false
	return f
}

// orphaned reports whether others may reset a flow that the node accepted then.
func (j *Judge) orphaned(node string, accepted time.Duration) bool {
	f := j.fates[node]
	if accepted < f.diedBefore || f.away && j.at >= f.since+orphanTime {
		return true
	}
	return accepted < f.orphansBefore && j.at >= f.orphansFrom
}

// spared reports whether the node is away and its flows are not orphaned yet.
func (j *Judge) spared(node string) bool { return j.fates[node].away }
