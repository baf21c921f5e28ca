package cluster

import (
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// Raft's voters stand for election at random times, and two that stand at once
// may split the votes and lose a whole timeout, which the bound of L1 does not
// have. Here they stand in turn: the first that is heard as soon as the leader has
// been silent for the election timeout, each next campaignRank later.
const campaignRank = 40 * time.Millisecond

// election is what a voter knows of the leader's silence.
type election struct {
	timeout time.Duration
	// led is who leads, and ledAt when it was last heard as such.
	led   uint64
	ledAt time.Duration
	// silent: it was silent for the timeout, and this voter grants votes again.
	silent bool
}

// heardLeader notes a message that only a leader sends.
func (c *Core) heardLeader(m *raftpb.Message) {
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgSnap:
		if e := &c.raft.election; c.raft.node.BasicStatus().Lead == m.GetFrom() {
			e.led, e.ledAt, e.silent = m.GetFrom(), c.now, false
		}
	}
}

// tickRaft lets raft's time pass, but for a voter whose leader is silent and whose
// turn to stand has not come.
func (c *Core) tickRaft() {
	e, st := &c.raft.election, c.raft.node.BasicStatus()
	if st.RaftState != raft.StateFollower || c.table == nil || !c.table.voters().has(c.id) || e.led == 0 || st.Lead != e.led && !e.silent {
		e.silent = false
		c.raft.node.Tick()
		return
	}
	quiet := c.now - e.ledAt
	switch {
	case quiet < e.timeout-tick:
		c.raft.node.Tick()
	case quiet < e.timeout:
	case quiet < e.timeout+tick+c.turn(e.led)*campaignRank:
		if !e.silent {
			// Followers of a leader grant no votes for a timeout of raft's own ticks.
			e.silent = c.raft.node.ForgetLeader() == nil
		}
	default:
		e.silent, e.led = false, 0
		// It fails only where raft would not stand by itself either.
		_ = c.raft.node.Campaign()
	}
}

// turn is this voter's place among those who are heard, without the leader.
func (c *Core) turn(leader uint64) time.Duration {
	n := 0
	for _, v := range c.table.voters().Voters {
		if v == c.id {
			break
		}
		if v != leader && c.voter.of(v).fresh(c.now, c.table) {
			n++
		}
	}
	return time.Duration(n)
}

// deafLeader is how long a leader goes on without a lease.
const deafLeader = time.Second

// stepDown gives the lead away when this node has no lease: a leader that does not
// hear the LAN cannot see who may get rows, or which voter set is settled.
func (c *Core) stepDown() {
	d := &c.duties
	if c.o.Role == Witness || c.holder.leased(c.now) || d.ledSince == 0 {
		d.ledSince = c.now
		return
	}
	if c.now-d.ledSince < deafLeader {
		return
	}
	d.ledSince = c.now
	to, best := uint64(0), uint64(0)
	c.raft.node.WithProgress(func(id uint64, typ raft.ProgressType, p tracker.Progress) {
		// Another one each time, if there are several: the order is by what they had
		// last, and then by who it is not.
		if id != c.id && id != d.ledTo && typ == raft.ProgressTypePeer && p.RecentActive && (p.Match > best || p.Match == best && id < to) {
			to, best = id, p.Match
		}
	})
	if d.ledTo = to; to != 0 {
		c.raft.node.TransferLeader(to)
	}
}
