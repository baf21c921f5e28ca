package cluster

import (
	"slices"
	"time"
)

// behindAfter is how long a host may lack an entry that a majority of the voters
// says it has applied: at least behindAfter, and behindTTLs times the TTL.
const (
	behindAfter = time.Second
	behindTTLs  = 4
)

// behind is what a host knows of how far it is behind the log. One that hears the
// LAN, and does not apply the log, because its disk takes no write or datagrams do
// not reach it, would keep its lease and be given rows that it never learns of: it
// asks for no lease any more, and is evicted like a deaf one.
type behind struct {
	// goal was applied by a majority of the voters at since, and not here.
	goal  uint64
	since time.Duration
	on    bool
}

// seeBehind compares the table with what the voters say they have applied.
func (c *Core) seeBehind() {
	b := &c.behind
	agreed := c.voter.agreed(c.table)
	switch {
	case c.table.Index >= agreed, !b.on && c.table.Index >= b.goal:
		if b.on {
			c.tellNoMore("behind")
			c.note(false, "this node has caught up with the table, at entry %d", c.table.Index)
		}
		*b = behind{goal: agreed, since: c.now}
	case c.now-b.since > max(behindAfter, behindTTLs*c.table.Timing.TTL):
		b.on = true
		c.tellOnce("behind", true, "this node knows the table up to entry %d, and the others up to %d: it takes no clients until it has caught up; can it write its state directory, and do datagrams of [cluster] control_port reach it?", c.table.Index, agreed)
	}
}

// agreed is the last entry that a majority of the voters is known to have applied,
// this host apart; 0 if that is not known.
func (s *supporter) agreed(t *Table) uint64 {
	set := t.voters()
	var applied []uint64
	for i := range s.hosts {
		if m := &s.hosts[i]; m.id != s.self && set.has(m.id) {
			applied = append(applied, m.applied)
		}
	}
	if len(applied) < set.majority() {
		return 0
	}
	slices.Sort(applied)
	return applied[len(applied)-set.majority()]
}
