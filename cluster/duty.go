package cluster

import (
	"slices"
	"strconv"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// Intervals of duties.
const (
	// again is how long a proposal gets until it is made anew.
	again = 100 * time.Millisecond
	// orphanAfter an eviction a host is taken for dead (R18).
	orphanAfter = 3 * time.Second
	// settledFor is how long a node that had been evicted has to hold a lease
	// before it asks for rows again (R7).
	settledFor = time.Second
	// moveEvery and movesAtOnce bound planned moves (R4).
	moveEvery   = 50 * time.Millisecond
	movesAtOnce = 16
	// slowStart is how long a node that has just come takes to get its share.
	slowStart = 10 * time.Second
)

// duties is what this host does by itself, found by comparing what is with what
// should be.
type duties struct {
	// tried is when each proposal was last made.
	tried []tried
	told  []told
	// refused: some voter supports no epoch of ours below it.
	refused uint64
	// joinedEpoch is the epoch under which the table was last seen to have us.
	joinedEpoch uint64
	// heldUntil: workers of an earlier control process may hold a lease of an
	// earlier epoch, which this host is not to withdraw from before (R9, R19).
	heldUntil time.Duration
	// ledSince is since when this host leads, or held a lease when it did; ledTo is
	// to whom it last gave the lead away.
	ledSince time.Duration
	ledTo    uint64
	// ends is the last entry that told this host to end flows.
	ends uint64
	// mayHold: this host's workers may hold flows.
	mayHold bool
	// outs are hosts that are out, since when; comers are those that have come.
	// ins are the hosts that were in when the table was last looked at.
	outs, comers []since
	ins          []uint64
	movesAt      time.Duration
	planned      uint64 // the table that the last plan found nothing to do for
	// wished are the rows that operators have moved since shares were last as they
	// should be: others go the other way.
	wished    []move
	hellos    []hello
	gones     []since // those that speak and were removed
	evictable []since
}

type tried struct {
	what string
	at   time.Duration
}

type since struct {
	id, epoch uint64
	at        time.Duration
}

// propose proposes a command unless the same was tried a moment ago.
func (c *Core) propose(what string, cmd *command) {
	i := slices.IndexFunc(c.duties.tried, func(t tried) bool { return t.what == what })
	if i >= 0 && c.now-c.duties.tried[i].at < again {
		return
	}
	cmd.From = c.id
	b := c.codec.marshal(cmd)
	if _, err := c.codec.command(b); err != nil {
		return // in the log it would stop every host
	}
	if c.raft.node.Propose(b) != nil {
		return // no leader: the next tick tries again
	}
	if i < 0 {
		c.duties.tried = slices.DeleteFunc(c.duties.tried, func(t tried) bool { return c.now-t.at >= again })
		c.duties.tried = append(c.duties.tried, tried{what: what})
		i = len(c.duties.tried) - 1
	}
	c.duties.tried[i].at = c.now
}

// doDuties runs on every tick.
func (c *Core) doDuties() {
	c.raft.reportSnapshots(c.now)
	if c.table == nil || c.failed != nil {
		return
	}
	c.seeBehind()
	c.renewLeases()
	c.keepEpoch()
	c.leaveBehind()
	c.withdraw()
	c.doEvict()
	c.doAsks()
	if me := c.table.host(c.id); me != nil && c.o.Role == Node {
		c.doJoin(me)
		c.doRelease(me)
		c.doDrained(me)
		c.doHealth(me)
	}
	c.doOrphan()
	if !c.leader() {
		c.duties.ledSince = 0
	} else {
		c.stepDown()
		c.doSettle()
		c.doMembers()
		c.doDefine()
		c.doMoves()
	}
}

// keepEpoch goes on to a new epoch once a voter refuses the present one. A node
// with a lease asks for both until the table has its rows under the new one.
func (c *Core) keepEpoch() {
	h := c.holder
	if h.low != 0 && h.low < h.high && !h.leased(c.now) {
		h.drop()
		h.low = h.high
	}
	if h.low == 0 || c.duties.refused <= h.low || h.wanted > h.high {
		return
	}
	if h.high >= c.duties.refused {
		return // on its way
	}
	h.wanted = max(c.duties.refused, h.high+1)
	c.disk.own.Epoch = max(c.disk.own.Epoch, h.wanted)
	c.disk.dirty = true
}

// epochDurable uses an epoch that was written down.
func (c *Core) epochDurable(epoch uint64) {
	h := c.holder
	if epoch < h.wanted || h.high == h.wanted {
		return
	}
	if h.low != 0 && h.leased(c.now) && h.low == h.high {
		h.high = h.wanted
		return
	}
	h.drop()
	h.low, h.high = h.wanted, h.wanted
	if c.table != nil {
		c.bindEpoch()
	}
}

// leaveBehind withdraws from this host's own epochs before the present one. That
// needs no disk: a start takes a later one.
func (c *Core) leaveBehind() {
	if c.now > c.duties.heldUntil {
		me := c.voter.of(c.id)
		me.below = max(me.below, c.holder.low)
	}
}

// withdraw makes withdrawals durable; they are told once they are.
func (c *Core) withdraw() {
	list := c.voter.withdraw(c.now, c.table)
	if len(list) == 0 {
		return
	}
	below := slices.DeleteFunc(slices.Clone(c.disk.own.Below), func(w withdrawal) bool {
		return c.table.host(w.Host) == nil || slices.ContainsFunc(list, func(x withdrawal) bool { return x.Host == w.Host })
	})
	c.disk.own.Below = append(below, list...)
	c.disk.dirty = true
}

// evictRank is how much later each next voter proposes an eviction that the one
// before it should have proposed: the leader may be the deaf one.
const evictRank = 60 * time.Millisecond

// doEvict proposes to evict whom enough voters have withdrawn from.
func (c *Core) doEvict() {
	if !c.table.voters().has(c.id) {
		return
	}
	kept := c.duties.evictable[:0]
	for i := range c.table.Hosts {
		h := &c.table.Hosts[i]
		if !h.In || h.Foreign {
			continue
		}
		by := c.blockedBy(h)
		if by == nil {
			continue
		}
		e := since{h.ID, h.Epoch, c.now}
		if j := slices.IndexFunc(c.duties.evictable, func(x since) bool { return x.id == h.ID && x.epoch == h.Epoch }); j >= 0 {
			e = c.duties.evictable[j]
		}
		kept = append(kept, e)
		wait := time.Duration(0)
		if !c.leader() {
			wait = evictRank * time.Duration(1+slices.Index(c.table.voters().Voters, c.id))
		}
		if c.renewing(h) {
			wait += settledFor
		}
		if c.now-e.at >= wait {
			c.propose("evict "+h.Name, &command{Kind: kindEvict, ID: h.ID, Epoch: h.Epoch, Withdrew: by})
		}
	}
	c.duties.evictable = kept
}

// renewing reports a host that is alive under a later epoch, and about to bind
// its rows to that.
func (c *Core) renewing(h *Host) bool {
	if h.ID == c.id {
		return c.holder.low > h.Epoch
	}
	m := c.voter.of(h.ID)
	return m.low > h.Epoch && m.fresh(c.now, c.table)
}

// doJoin asks to be in, under an epoch that holds a lease.
func (c *Core) doJoin(me *Host) {
	h := c.holder
	if !c.duties.mayHold && !c.outside.flows && !me.In && !me.Orphaned && me.Epoch > 0 && h.low > me.Epoch {
		// Started anew with no worker alive: nobody serves our old flows (R18).
		c.propose("own orphans", &command{Kind: kindOrphaned, ID: c.id, Epoch: me.Epoch})
	}
	if me.In && me.Waits && me.Epoch == h.low && c.leasedFor(settledFor) {
		c.propose("ready", &command{Kind: kindReady, ID: c.id, Epoch: me.Epoch})
	}
	if c.outside.leaving || h.high <= me.Epoch || !h.leased(c.now) {
		return
	}
	c.propose("join", &command{Kind: kindJoin, ID: c.id, Epoch: h.high, Flows: c.duties.mayHold || c.outside.flows})
}

// leasedFor reports a lease that has been held for so long.
func (c *Core) leasedFor(d time.Duration) bool {
	return slices.ContainsFunc(c.holder.paths, func(l pathLease) bool { return l.held && c.now < l.end && c.now-l.begin >= d })
}

// doRelease gives rows up whose end every worker has written back (R17).
func (c *Core) doRelease(me *Host) {
	if !me.In || me.Epoch != c.holder.low {
		return
	}
	released := false
	for i := range c.table.Services {
		s := &c.table.Services[i]
		if s.Next != nil && s.Holders.has(me.Slot) && s.NextIndex <= c.rights.written {
			c.propose("remap "+s.Name, &command{Kind: kindRemap, ID: c.id, Epoch: me.Epoch, Service: s.Name, Index: s.NextIndex})
		}
		for b := range s.Rows {
			r := &s.Rows[b]
			released = released || r.Owner == me.Slot+1 && r.To != 0 && r.Moved <= c.rights.written
		}
	}
	if released {
		c.propose("release "+number(c.rights.written), &command{Kind: kindReleased, ID: c.id, Epoch: me.Epoch, Index: c.rights.written})
	}
}

// doDrained says of which rows no flow is held any more.
func (c *Core) doDrained(me *Host) {
	if !me.In || me.Epoch != c.holder.low || c.outside.looked == 0 {
		return
	}
	for i := range c.table.Services {
		s := &c.table.Services[i]
		if done := c.drainedOf(s, me.Slot); !done.empty() {
			c.propose("drained "+s.Name, &command{Kind: kindDrained, ID: c.id, Epoch: me.Epoch, Service: s.Name, Buckets: done, Index: c.rights.looked})
		}
	}
}

// drainedOf are the rows of a service that this host drains, and of which its workers
// hold no flow since they have looked.
func (c *Core) drainedOf(s *Service, slot uint8) (done buckets) {
	var held buckets
	if j := slices.IndexFunc(c.o.Services, func(x ServiceSpec) bool { return x.Name == s.Name }); j >= 0 {
		held = c.outside.holding[j]
	} else if c.outside.others {
		// A worker of an earlier file may hold any.
		return done
	}
	for b := range s.Rows {
		if r := &s.Rows[b]; r.Drainers.has(slot) && r.Since <= c.rights.looked && !held.has(uint8(b)) {
			done.set(uint8(b))
		}
	}
	return done
}

// doHealth tells what this host's services are.
func (c *Core) doHealth(me *Host) {
	for i := range c.table.Services {
		s := &c.table.Services[i]
		if up := c.offers(s); c.table.healthy(me, s.Name) != up {
			c.propose("health "+s.Name, &command{Kind: kindHealth, ID: c.id, Service: s.Name, Up: up})
		}
	}
	if c.outside.leaving && me.In && !me.Leaving {
		c.propose("leave", &command{Kind: kindSet, ID: c.id, Leave: true})
	}
	if v := c.o.Votes; v != me.Votes {
		c.propose("votes", &command{Kind: kindSet, ID: c.id, Votes: &v})
	}
	if p := c.outside.percent; p != me.Percent {
		c.propose("load", &command{Kind: kindSet, ID: c.id, Percent: &p})
	}
}

// offers reports whether this host can take a service's buckets: its file has the
// service as the table has it, or will have it (R3), its check is well and its
// path too.
func (c *Core) offers(s *Service) bool {
	i := slices.IndexFunc(c.o.Services, func(x ServiceSpec) bool { return x.Name == s.Name })
	if i < 0 {
		return false
	}
	m := &s.Mapping
	if s.Next != nil {
		m = s.Next
	}
	if m.Digest != c.o.Services[i].Digest {
		c.tellOnce("digest "+s.Name+number(m.Generation), true,
			"service %s is defined in another way in this node's file than in the cluster; this node takes no bucket of it until they are the same", s.Name)
		return false
	}
	j := slices.IndexFunc(c.outside.health, func(h Health) bool { return h.Service == s.Name })
	return !c.pathLost(c.o.Services[i].Path) && (j < 0 || c.outside.health[j].Up)
}

// pathLost: no lease on a path for a TTL, while another has one. The services of
// that path are down here.
func (c *Core) pathLost(path int) bool {
	l := &c.holder.paths[path]
	return len(c.holder.paths) > 1 && c.holder.leased(c.now) && !l.held && c.now-l.end > c.table.Timing.TTL
}

// orphanRank is how much later each next voter takes a host for dead that the one
// before it should have.
const orphanRank = 300 * time.Millisecond

// doOrphan takes hosts for dead that have been out for long enough, and have held
// no lease in that time as far as anybody who is heard has heard: one that comes
// back is about to join. Who was deaf, or has started, in that time cannot tell,
// and leaves it to others: a lease of one's own says that a majority was heard,
// who hear everybody that has a lease. This host does not take itself for dead: while
// it stops it stays out, and its workers go on serving under its lease. A start without
// workers says so itself (doJoin).
func (c *Core) doOrphan() {
	if !c.table.voters().has(c.id) || c.o.Role != Node || !c.leasedFor(orphanAfter+c.table.Timing.TTL) {
		return
	}
	wait := orphanAfter + orphanRank*time.Duration(c.orphanTurn())
	for _, o := range c.duties.outs {
		h := c.table.host(o.id)
		if h == nil || h.ID == c.id || h.In || h.Orphaned || h.Epoch != o.epoch || c.now-o.at < wait {
			continue
		}
		// The lease that it spoke of has lasted a TTL from then.
		if seen := c.voter.of(h.ID).seenLeased; seen >= 0 && c.now-seen < wait+c.table.Timing.TTL {
			continue
		}
		c.propose("orphaned "+h.Name, &command{Kind: kindOrphaned, ID: h.ID, Epoch: h.Epoch})
	}
}

// orphanTurn is how many come before this host: the leader, if it can tell, and
// then the voters in turn.
func (c *Core) orphanTurn() int {
	lead, turn := c.table.host(c.raft.node.BasicStatus().Lead), 0
	if lead != nil && lead.ID == c.id {
		return 0
	}
	if lead != nil && !lead.Witness {
		turn++
	}
	for _, v := range c.table.voters().Voters {
		h := c.table.host(v)
		switch {
		case v == c.id:
			return turn
		case h != nil && h != lead && !h.Witness:
			turn++
		}
	}
	return turn
}

// doSettle drops older voter sets once no lease rests on them.
func (c *Core) doSettle() {
	if len(c.table.Sets) < 2 {
		return
	}
	newest := c.table.voters()
	for i := range c.table.Hosts {
		h := &c.table.Hosts[i]
		m := c.voter.of(h.ID)
		switch {
		case !h.In || h.Foreign:
		case h.ID == c.id:
			if c.rests() < newest.Index {
				return
			}
		case m.low < h.Epoch || m.rests < newest.Index:
			return
		}
	}
	c.propose("settled "+number(newest.Index), &command{Kind: kindSettled, Index: newest.Index})
}

// seeHosts keeps since when hosts are out, and who has just come. It runs after
// each change.
func (c *Core) seeHosts() {
	d := &c.duties
	d.outs = slices.DeleteFunc(d.outs, func(o since) bool {
		h := c.table.host(o.id)
		return h == nil || h.In || h.Epoch != o.epoch
	})
	d.comers = slices.DeleteFunc(d.comers, func(o since) bool { return c.now-o.at > slowStart })
	var ins []uint64
	for i := range c.table.Hosts {
		h := &c.table.Hosts[i]
		switch {
		case h.In && h.Waits:
		case h.In:
			ins = append(ins, h.ID)
			if len(d.ins) > 0 && !slices.Contains(d.ins, h.ID) {
				d.comers = append(d.comers, since{h.ID, h.Epoch, c.now})
			}
		case !h.Orphaned && h.Epoch > 0 && !slices.ContainsFunc(d.outs, func(o since) bool { return o.id == h.ID }):
			d.outs = append(d.outs, since{h.ID, h.Epoch, c.now})
		}
	}
	d.ins = ins
}

// changed looks at what an entry or a snapshot has changed for this host.
func (c *Core) changed(voted bool) {
	if c.table.voters().has(c.id) && !voted {
		// A new voter remembers no promise of its own (R9).
		c.voter.quietUntil = c.now + max(c.table.Timing.TTL, c.table.LongestTTL)
	}
	c.voter.prune(c.table)
	c.seeHosts()
	c.bindEpoch()
	if me := c.table.host(c.id); me != nil && me.Ends > c.duties.ends {
		c.effects.EndFlows = true
		c.duties.ends = me.Ends
	}
}

// bindEpoch uses the epoch that this host's rows are bound to.
func (c *Core) bindEpoch() {
	me := c.table.host(c.id)
	if me == nil {
		c.fail(errRemoved)
		return
	}
	h := c.holder
	if me.Epoch > max(h.high, h.wanted) {
		c.fail(errCopied)
		return
	}
	if !me.In || me.Epoch == c.duties.joinedEpoch || h.low == 0 || me.Epoch < h.low {
		return // nothing new, or about an epoch of an earlier start
	}
	c.duties.joinedEpoch = me.Epoch
	h.low = me.Epoch
	h.rebase(c.table.voters())
	c.effects.Forget = c.effects.Forget || me.Bare
	c.duties.mayHold = true
}

// number is short for names of proposals.
func number(n uint64) string { return strconv.FormatUint(n, 10) }

// progress reports whether a host follows the log closely. Only a leader knows.
func (c *Core) progress(id uint64) (caughtUp bool) {
	c.raft.node.WithProgress(func(p uint64, _ raft.ProgressType, pr tracker.Progress) {
		if p == id {
			caughtUp = pr.RecentActive && pr.Match > 0 && pr.Match+keepEntries >= c.table.Index
		}
	})
	return caughtUp
}
