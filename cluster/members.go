package cluster

import (
	"cmp"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// change is a change of raft's membership. A member that votes counts from the
// entry's index on; who counts answers has to have applied it (R7).
func (t *Table) change(index uint64, c codec, cc *raftpb.ConfChange) bool {
	if v := t.voters().Voters; cc.GetType() != raftpb.ConfChangeAddNode && len(v) == 1 && v[0] == cc.GetNodeId() {
		return false // raft needs a voter
	}
	switch cc.GetType() {
	case raftpb.ConfChangeAddLearnerNode:
		if t.host(cc.GetNodeId()) != nil {
			break // a voter becomes a learner
		}
		var h Host
		if c.dec.Unmarshal(cc.GetContext(), &h) != nil || h.ID != cc.GetNodeId() || h.check() != nil || !t.addHost(Host{
			ID: h.ID, Name: h.Name, Address: h.Address, Order: t.nextOrder(h.Order), Witness: h.Witness, Weight: h.Weight, Percent: 100, Votes: h.Votes,
		}) {
			return false
		}
	case raftpb.ConfChangeAddNode:
		if h := t.host(cc.GetNodeId()); h == nil || h.Foreign {
			return false // removed since
		}
	case raftpb.ConfChangeRemoveNode:
		h := t.host(cc.GetNodeId())
		if h == nil || !h.over() {
			return false
		}
		t.forget(h)
	}
	voters := slices.DeleteFunc(slices.Clone(t.voters().Voters), func(v uint64) bool { return v == cc.GetNodeId() })
	if cc.GetType() == raftpb.ConfChangeAddNode {
		voters = append(voters, cc.GetNodeId())
		slices.Sort(voters)
	}
	if !slices.Equal(voters, t.voters().Voters) {
		t.Sets = append(t.Sets, VoterSet{Index: index, Voters: voters})
	}
	return true
}

// forget removes a host that is out, and takes its flows for dead.
func (t *Table) forget(h *Host) {
	me, name := bit(h.Slot), h.Slot+1
	for i := range t.Services {
		for b := range t.Services[i].Rows {
			r := &t.Services[i].Rows[b]
			r.Grace &^= me
			r.Drainers &^= me
			if r.Pinned == name {
				r.Pinned = 0
			}
		}
	}
	id := h.ID
	t.Hosts = slices.DeleteFunc(t.Hosts, func(h Host) bool { return h.ID == id })
}

// nextOrder keeps a wished place when it is free, so that a host that lost its
// state takes its own again.
func (t *Table) nextOrder(wish uint32) uint32 {
	last := uint32(0)
	taken := wish == 0
	for i := range t.Hosts {
		last = max(last, t.Hosts[i].Order)
		taken = taken || t.Hosts[i].Order == wish
	}
	if taken {
		return last + 1
	}
	return wish
}

// wantVoters are who should vote: without a witness the first odd number up to
// MaxVoters, with one the first even number and the witness (R1). Of two nodes without
// one that is the first alone, which is what two_nodes = "preferred" asks for; such a
// cluster has more votes as soon as it has a witness or more nodes.
func (t *Table) wantVoters() []uint64 {
	hosts := slices.Clone(t.Hosts)
	slices.SortFunc(hosts, func(a, b Host) int { return cmp.Compare(a.Order, b.Order) })
	var nodes, witness []uint64
	for _, h := range hosts {
		switch {
		case h.Witness && len(witness) == 0:
			witness = append(witness, h.ID)
		case !h.Witness && !h.Foreign && h.Votes != "no":
			nodes = append(nodes, h.ID)
		}
	}
	n := min(len(nodes), MaxVoters)
	switch {
	case n == 0:
		return nil
	case len(witness) > 0:
		n = max(min(n, MaxVoters-1)&^1, min(len(nodes), 1))
		if n == 1 {
			witness = nil
		}
	default:
		n -= (n + 1) % 2
	}
	out := append(slices.Clone(nodes[:n]), witness...)
	slices.Sort(out)
	return out
}
