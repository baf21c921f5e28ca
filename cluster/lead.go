package cluster

import (
	"cmp"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"onevoice/hashing"
)

// doMembers changes who belongs and who votes, one step at a time, each only
// after no lease rests on the voters before (R1, R8).
func (c *Core) doMembers() {
	if len(c.table.Sets) > 1 {
		return
	}
	if cc := c.nextMember(); cc != nil {
		c.proposeChange(cc)
		return
	}
	want, have := c.table.wantVoters(), c.table.voters().Voters
	if len(want) == 0 {
		return // all files say that they do not vote: whoever does goes on
	}
	lacking := false
	for _, v := range want {
		if slices.Contains(have, v) {
			continue
		}
		lacking = true
		if c.progress(v) {
			c.proposeChange(&raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: &v})
			return
		}
	}
	for _, v := range have {
		if !slices.Contains(want, v) && (!lacking || c.table.host(v) == nil) && c.enoughWithout(v) {
			c.proposeChange(&raftpb.ConfChange{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: &v})
			return
		}
	}
}

// enoughWithout reports whether a majority of the other voters follows the log: to
// let a living voter go beside a dead one could leave no majority.
func (c *Core) enoughWithout(v uint64) bool {
	n, alive := 0, 0
	for _, o := range c.table.voters().Voters {
		if o == v {
			continue
		}
		n++
		if o == c.id || c.progress(o) {
			alive++
		}
	}
	return alive > n/2
}

func (c *Core) proposeChange(cc *raftpb.ConfChange) {
	what := "member " + cc.GetType().String() + number(cc.GetNodeId())
	if slices.ContainsFunc(c.duties.tried, func(t tried) bool { return t.what == what && c.now-t.at < 5*again }) {
		return
	}
	if c.raft.node.ProposeConfChange(cc) == nil {
		c.duties.tried = append(c.duties.tried, tried{what, c.now})
	}
}

// replaceAfter is how long a host has to be silent until another one may take
// its address.
const replaceAfter = 3 * time.Second

// nextMember finds a host that asks to be let in, or one that another has
// replaced.
func (c *Core) nextMember() *raftpb.ConfChange {
	for i := range c.table.Hosts {
		if h := &c.table.Hosts[i]; h.Forgotten && h.over() && h.ID != c.id {
			id := h.ID
			return &raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: &id}
		}
	}
	c.duties.hellos = slices.DeleteFunc(c.duties.hellos, func(h hello) bool { return c.now-h.at > time.Second })
	for i := range c.duties.hellos {
		h := &c.duties.hellos[i]
		if c.table.host(h.ID) != nil {
			continue
		}
		j := slices.IndexFunc(c.table.Hosts, func(o Host) bool { return o.Address == h.Address })
		if j < 0 {
			if c.table.full() {
				c.tellOnce("full", true, "%s at %s asks to join, and there are %d nodes already; remove one with `onevoice forget NODE`", h.Name, h.Address, MaxHosts)
				continue
			}
			return c.admit(h, 0)
		}
		old := &c.table.Hosts[j]
		m := c.voter.of(old.ID)
		if !old.over() || m.heard >= 0 && c.now-m.heard < replaceAfter+c.table.Timing.TTL {
			continue // the lease that it may have had has not been over for so long
		}
		c.note(true, "%s at %s has lost its state and comes as a new host; the old one is forgotten", h.Name, h.Address)
		id := old.ID
		return &raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: &id}
	}
	return nil
}

// over reports a host whose flows may be reset: it was taken for dead, or has
// never been in. One that was removed before would lose flows that it still has.
func (h *Host) over() bool { return !h.In && (h.Orphaned || h.Epoch == 0) }

func (c *Core) admit(h *hello, order uint32) *raftpb.ConfChange {
	id := h.ID
	return &raftpb.ConfChange{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: &id, Context: c.codec.marshal(Host{
		ID: h.ID, Name: h.Name, Address: h.Address, Order: cmp.Or(order, h.Order), Witness: h.Witness, Weight: h.Weight, Votes: h.Votes,
	})}
}

// doDefine adds services of the leader's own file that the table lacks.
func (c *Core) doDefine() {
	if c.o.Role == Witness {
		return
	}
	for _, s := range c.o.Services {
		if c.table.service(s.Name) == nil && len(c.table.Services) > 0 {
			m := Mapping{Digest: s.Digest, Key: c.table.Services[0].Mapping.Key, Sharing: s.Sharing}
			c.propose("define "+s.Name, &command{Kind: kindDefine, Service: s.Name, Mapping: &m})
		}
	}
}

// doMoves plans moves that restore the quotas (R4).
func (c *Core) doMoves() {
	d := &c.duties
	if c.now < d.movesAt || d.planned == c.table.Index && len(d.comers) == 0 {
		return
	}
	d.movesAt = c.now + moveEvery
	var moves []move
	complete := true
	for i := range c.table.Services {
		var all bool
		moves, all = c.planService(&c.table.Services[i], moves)
		complete = complete && all
	}
	switch {
	case len(moves) > 0:
		// Two plans of one table are the same plan: no interval is needed.
		cmd := &command{Kind: kindMove, From: c.id, Moves: moves}
		if c.raft.node.Propose(c.codec.marshal(cmd)) == nil {
			d.planned = c.table.Index
		}
	case complete:
		d.planned, d.wished = c.table.Index, nil
	}
}

// maxWished bounds the moved rows that are remembered: all of a few services.
const maxWished = 4 * hashing.Buckets

// wish remembers what operators have moved.
func (d *duties) wish(moves []move) {
	d.wished = append(d.wished, moves...)
	d.wished = d.wished[max(len(d.wished)-maxWished, 0):]
}

// stays reports whether an operator has moved a row to who has it now, or is to have it:
// a plan that restores the shares takes others, or the wish would be undone at once.
func (c *Core) stays(s *Service, cur *hashing.Table, b int) bool {
	return slices.ContainsFunc(c.duties.wished, func(m move) bool {
		to := c.table.host(m.To)
		return int(m.Bucket) == b && m.Service == s.Name && to != nil && cur[b] == hashing.NodeID(to.Slot+1)
	})
}

// planService adds a service's moves, as long as there is room. It tells whether
// nothing was left out.
func (c *Core) planService(s *Service, moves []move) ([]move, bool) {
	if s.Next != nil {
		return moves, true
	}
	cur := s.owners()
	for b := range s.Rows {
		if to := s.Rows[b].To; to != 0 {
			cur[b] = hashing.NodeID(to)
		}
	}
	shares := c.table.shares(s.Name, fullWeight)
	if len(shares) == 0 {
		return moves, true
	}
	if s.Mapping.Sharing == nil || s.Mapping.Sharing.Ours {
		c.slowDown(shares, &cur)
	}
	next, err := c.table.next(s, cur, shares, func(b int) bool { return c.stays(s, &cur, b) })
	if err != nil {
		return moves, true
	}
	complete := true
	for b := range s.Rows {
		r := &s.Rows[b]
		to := c.table.at(c.table.heir(s, b, uint8(next[b])))
		if from := c.table.at(r.Owner); from == nil || from.Foreign {
			continue
		}
		if to == nil || r.To != 0 || r.Owner == to.Slot+1 {
			continue
		}
		if len(moves) >= movesAtOnce || !c.leasedNow(to.ID) {
			complete = false
			continue
		}
		moves = append(moves, move{Service: s.Name, Bucket: uint8(b), To: to.ID})
	}
	return moves, complete
}

// slowDown lets those who have just come grow bit by bit, to their share in
// slowStart. It never takes away what they have.
func (c *Core) slowDown(shares []hashing.Share, cur *hashing.Table) {
	sum, settled, grown := uint64(0), uint64(0), uint64(0)
	for _, s := range shares {
		sum += uint64(s.Weight)
	}
	have := make([]uint64, len(shares))
	for i, s := range shares {
		since, slow := c.cameAt(c.table.at(uint8(s.Node)).ID)
		if !slow {
			settled += uint64(s.Weight)
			continue
		}
		full := max(hashing.Buckets*uint64(s.Weight)/sum, 1)
		ramp := uint64(c.now-since)*full/uint64(slowStart) + 1
		have[i] = min(max(uint64(cur.Count(s.Node)), ramp), full)
		grown += have[i]
	}
	if settled == 0 || grown >= hashing.Buckets {
		return // nobody else could take what they do not
	}
	for i := range shares {
		if have[i] > 0 {
			// The weight whose quota is that many buckets, beside the others' weights.
			shares[i].Weight = uint32(min(have[i]*settled/(hashing.Buckets-grown), uint64(shares[i].Weight)))
		}
	}
}

// cameAt is when a host came that is in its slow start.
func (c *Core) cameAt(id uint64) (at time.Duration, slow bool) {
	for _, o := range c.duties.comers {
		if o.id == id && c.now-o.at < slowStart {
			return o.at, true
		}
	}
	return 0, false
}

// leasedNow reports whether a node is known to hold a lease.
func (c *Core) leasedNow(id uint64) bool {
	if id == c.id {
		return c.holder.leased(c.now)
	}
	m := c.voter.of(id)
	return m.leased && m.fresh(c.now, c.table)
}
