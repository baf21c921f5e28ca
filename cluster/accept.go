package cluster

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// What follows is about members that have the key and are broken, or of another
// release. Raft takes every member at its word, so what could stop a host for ever
// is refused before raft sees it.

const (
	// maxAhead is how far terms and epochs of others may be ahead of what is known
	// of them. Each grows by one for an election or a start.
	maxAhead = 1 << 32
	// maxHelloBytes bounds a hello: 32 peers, and names.
	maxHelloBytes = 4 << 10
)

// acceptable reports whether raft may see a message. Of an entry that is not
// acceptable nothing is known but that its proposer is broken or newer: in a
// proposal it is refused, in the log it stops this host.
func (c *Core) acceptable(m *raftpb.Message) bool {
	if m.GetFrom() == 0 || m.GetFrom() == c.id || m.GetTerm() > c.raft.node.BasicStatus().GetTerm()+maxAhead {
		return false
	}
	switch m.GetType() {
	case raftpb.MsgApp:
		return inOrder(m)
	case raftpb.MsgProp:
		return m.GetTerm() == 0 && c.proposable(m.GetEntries())
	case raftpb.MsgSnap:
		return m.GetTerm() > 0 && c.usable(m.GetSnapshot(), m.GetFrom())
	case raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp,
		raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgTimeoutNow:
		return m.GetTerm() > 0
	}
	return false // nobody of this version sends the others
}

// inOrder reports entries that follow each other.
func inOrder(m *raftpb.Message) bool {
	index, term := m.GetIndex(), m.GetLogTerm()
	for _, e := range m.GetEntries() {
		if index++; e.GetIndex() != index || e.GetTerm() < term {
			return false
		}
		term = e.GetTerm()
	}
	return m.GetTerm() > 0 && term <= m.GetTerm()
}

// proposable reports proposals that every host can apply. Members are changed by
// leaders only, who do not send their proposals.
func (c *Core) proposable(entries []*raftpb.Entry) bool {
	for _, e := range entries {
		if e.GetType() != raftpb.EntryNormal {
			return false
		}
		if _, err := c.codec.command(e.GetData()); err != nil {
			c.tellOnce("proposal", true, "a node proposes what this version does not know, and is refused: %v", err)
			return false
		}
	}
	return len(entries) > 0
}

// usable reports a snapshot that this host could go on from. One that it cannot is
// refused before it takes the place of all that is saved.
func (c *Core) usable(snap *raftpb.Snapshot, from uint64) bool {
	t, err := c.codec.table(snap.GetData())
	if err == nil {
		err = t.fits(snap.GetMetadata(), c.disk.own.UUID)
	}
	if err != nil {
		c.tellOnce("snapshot "+number(from), true, "host %x sends a table that cannot be used, and is refused: %v", from, err)
	}
	return err == nil
}

// fits checks a table against the place in the log that it is said to have.
func (t *Table) fits(at *raftpb.SnapshotMetadata, uuid [16]byte) error {
	conf := at.GetConfState()
	voters := slices.Sorted(slices.Values(conf.GetVoters()))
	switch {
	case t.UUID != uuid:
		return fmt.Errorf("%w: it is cluster %x's", errTable, t.UUID)
	case t.Index != at.GetIndex() || at.GetTerm() == 0:
		return fmt.Errorf("%w: it is of entry %d and is said to be of entry %d", errTable, t.Index, at.GetIndex())
	case !slices.Equal(voters, t.voters().Voters) || len(conf.GetVotersOutgoing()) > 0 || len(conf.GetLearnersNext()) > 0:
		return fmt.Errorf("%w: raft has the voters %x and the table %x", errTable, voters, t.voters().Voters)
	}
	return nil
}

// ahead reports an epoch that nobody can have come to since one that is known.
func ahead(epoch, known uint64) bool { return epoch > known && epoch-known > maxAhead }
