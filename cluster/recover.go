package cluster

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

var (
	errNothingSaved = errors.New("this host has no state to recover from; found a cluster with `onevoice run`, or `onevoice bootstrap --without NODE`")
	errNoTable      = errors.New("this host has joined a cluster and never got its table; recover on another one")
	errWitness      = errors.New("a witness holds no buckets; recover on a node")
)

// Recovered tells what Recover has made.
type Recovered struct {
	ID      uint64
	Cluster string
	// Index is the last entry that this host had of the old cluster.
	Index uint64
	// Forgotten are the hosts that are no members any more.
	Forgotten []Host
}

// Recover makes, of what one host has saved, the beginning of a new cluster that
// consists of that host alone. It is for a majority that is lost for good. The
// others join it again as new hosts, with empty state directories.
//
// It is safe (S1) only if none of the others runs, and none will run again with
// its old state: the operator has to vouch for that. Then the old cluster's
// leases are gone: they were all held by hosts that are off, or by this one,
// whose core does not run, for Recover needs the lock of its state directory.
// From then on this host alone promises, to itself, under a new epoch.
//
// Should one of the others run after all, the new UUID keeps it out: neither
// hears the other's heartbeats and messages, so no promise, vote or entry passes
// between the two, and each says that another cluster uses its address. Both may
// then answer for the same bucket, if the other still has a majority of the old
// voters; no rule of this side can prevent that.
//
// All entries of the log count, also those that this host does not know to be
// agreed on. What it knows of that is older than the truth, for a commit index
// alone is not worth a write, and an entry too many does no harm here: it can
// only have moved rows between hosts that are all forgotten and this one.
func Recover(saved Saved, uuid [16]byte) (Saved, Recovered, error) {
	var out Recovered
	if saved.empty() {
		return Saved{}, out, errNothingSaved
	}
	codec := newCodec()
	im, r, err := codec.replay(saved)
	if err != nil {
		return Saved{}, out, err
	}
	if im.Own.UUID == ([16]byte{}) {
		return Saved{}, out, errNothingSaved
	}
	t, term, err := r.lastTable(codec)
	if err != nil {
		return Saved{}, out, err
	}
	me := t.host(im.Own.ID)
	switch {
	case me == nil:
		return Saved{}, out, errRemoved
	case me.Witness:
		return Saved{}, out, errWitness
	}
	out = Recovered{ID: im.Own.ID, Cluster: t.Cluster, Index: t.Index}
	t.UUID = uuid
	t.Index++
	out.Forgotten = t.standAlone(im.Own.ID)

	index := t.Index
	im.Own.UUID = uuid
	im.Own.Below = withdrawnFromSelf(&im.Own)
	im.Snapshot = marshalProto(&raftpb.Snapshot{Data: codec.marshal(t), Metadata: &raftpb.SnapshotMetadata{
		ConfState: &raftpb.ConfState{Voters: []uint64{im.Own.ID}}, Index: &index, Term: &term,
	}})
	im.Hard = marshalProto(&raftpb.HardState{Term: &term, Commit: &index})
	im.Entries = nil
	return Saved{Image: codec.marshal(im)}, out, nil
}

// replay reads what was saved, to the last record.
func (c codec) replay(saved Saved) (*image, *raftState, error) {
	im := &image{}
	if err := c.dec.Unmarshal(saved.Image, im); err != nil {
		return nil, nil, fmt.Errorf("cluster: the saved image is damaged: %w", err)
	}
	if im.Version > Version {
		return nil, nil, fmt.Errorf("cluster: the state was written by version %d, and this is version %d; use that one or a later one", im.Version, Version)
	}
	r, err := restoreRaft(im)
	if err != nil {
		return nil, nil, err
	}
	for _, b := range saved.Records {
		var rec record
		if err := c.dec.Unmarshal(b, &rec); err != nil {
			return nil, nil, fmt.Errorf("cluster: a saved record is damaged: %w", err)
		}
		if rec.Own != nil {
			im.Own = *rec.Own
		}
		if err := r.restore(&rec); err != nil {
			return nil, nil, err
		}
	}
	return im, r, nil
}

// lastTable is the table after the last entry of the log, and a term after all
// that this host has seen.
func (r *raftState) lastTable(c codec) (*Table, uint64, error) {
	snap, err := r.store.Snapshot()
	if err != nil || len(snap.GetData()) == 0 {
		return nil, 0, errNoTable
	}
	t, err := c.table(snap.GetData())
	if err != nil {
		return nil, 0, err
	}
	hs, _, err := r.store.InitialState()
	if err != nil {
		return nil, 0, err
	}
	term := max(hs.GetTerm(), snap.GetMetadata().GetTerm())
	last, err := r.store.LastIndex()
	if err != nil || last <= t.Index {
		return t, term + 1, err
	}
	entries, err := r.store.Entries(t.Index+1, last+1, 1<<40)
	if err != nil {
		return nil, 0, fmt.Errorf("cluster: the saved log: %w", err)
	}
	for _, e := range entries {
		if err := t.replay(c, e); err != nil {
			return nil, 0, err
		}
		term = max(term, e.GetTerm())
	}
	return t, term + 1, nil
}

// replay applies an entry as commit does, with nobody to tell.
func (t *Table) replay(c codec, e *raftpb.Entry) error {
	switch {
	case e.GetType() == raftpb.EntryConfChange:
		cc := &raftpb.ConfChange{}
		if proto.Unmarshal(e.GetData(), cc) == nil {
			t.change(e.GetIndex(), c, cc)
		}
	case len(e.GetData()) > 0:
		cmd, err := c.command(e.GetData())
		if err != nil {
			return err
		}
		// What an entry could not do changes nothing.
		_ = t.apply(e.GetIndex(), cmd)
	}
	t.Index = e.GetIndex()
	return nil
}

// standAlone forgets all hosts but one, which votes alone and inherits all rows
// if it is in. If it is not, it gets them when it joins.
func (t *Table) standAlone(id uint64) (forgotten []Host) {
	for _, h := range t.Hosts {
		if h.ID != id && !h.Foreign {
			forgotten = append(forgotten, h)
		}
	}
	for i := range forgotten {
		t.takeOut(t.host(forgotten[i].ID))
	}
	for i := range forgotten {
		t.forget(t.host(forgotten[i].ID))
	}
	me := t.host(id)
	// Its file may say that it is not to vote. Nobody else is there to.
	me.Votes = ""
	t.Sets = []VoterSet{{Index: t.Index, Voters: []uint64{id}}}
	t.giveAway(t.Index)
	for i := range t.Services {
		t.mapAnew(t.Index, &t.Services[i])
	}
	return forgotten
}

// withdrawnFromSelf is what a host may not forget of its withdrawals: those from
// its own epochs.
func withdrawnFromSelf(o *own) []withdrawal {
	var out []withdrawal
	for _, w := range o.Below {
		if w.Host == o.ID {
			out = append(out, w)
		}
	}
	return out
}
