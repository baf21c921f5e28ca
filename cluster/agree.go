package cluster

import (
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Bounds of raft.
const (
	// The defaults of Options.SnapshotEvery and KeepEntries.
	snapshotEvery = 256
	keepEntries   = 64
	// maxMessageBytes bounds the entries of one message.
	maxMessageBytes = 256 << 10
	maxInflight     = 64
	// maxUncommitted bounds what a leader without a majority takes in, in bytes.
	maxUncommitted = 4 << 20
	// snapshotPatience is how long a follower gets to take a snapshot before it
	// is tried anew: datagrams get lost.
	snapshotPatience = 500 * time.Millisecond
)

// raftState is raft with its storage.
type raftState struct {
	node  *raft.RawNode
	store *raft.MemoryStorage
	conf  *raftpb.ConfState
	// ready waits for its write.
	ready *raft.Ready
	// saved is the index of the last snapshot; stale says that its members are
	// not those of now: raft takes no snapshot in that the taker is missing.
	saved uint64
	stale bool
	// broken is why raft stopped: it met what cannot be.
	broken   error
	election election
	// replayed is the last entry that was known to be agreed on before the start.
	replayed uint64
	// snapshots are on their way to hosts since a time.
	snapshots []sentSnapshot
}

type sentSnapshot struct {
	to uint64
	by time.Duration
}

func restoreRaft(im *image) (*raftState, error) {
	r := &raftState{store: raft.NewMemoryStorage(), conf: &raftpb.ConfState{}}
	if len(im.Snapshot) > 0 {
		snap := &raftpb.Snapshot{}
		if err := proto.Unmarshal(im.Snapshot, snap); err != nil {
			return nil, fmt.Errorf("cluster: the saved snapshot is damaged: %w", err)
		}
		if err := r.store.ApplySnapshot(snap); err != nil {
			return nil, err
		}
		r.conf = snap.GetMetadata().GetConfState()
		r.saved = snap.GetMetadata().GetIndex()
	}
	return r, r.restore(&record{Hard: im.Hard, Entries: im.Entries})
}

// restore replays one record.
func (r *raftState) restore(rec *record) error {
	if len(rec.Hard) > 0 {
		hs := &raftpb.HardState{}
		if err := proto.Unmarshal(rec.Hard, hs); err != nil {
			return fmt.Errorf("cluster: the saved state is damaged: %w", err)
		}
		if err := r.store.SetHardState(hs); err != nil {
			return err
		}
	}
	entries, err := unmarshalEntries(rec.Entries)
	if err != nil {
		return err
	}
	if err := r.follow(entries); err != nil {
		return err
	}
	return r.store.Append(entries)
}

// follow reports entries that cannot stand behind those that are there: raft would
// end the process over them.
func (r *raftState) follow(entries []*raftpb.Entry) error {
	next, err := r.store.LastIndex()
	if err != nil {
		return err
	}
	for i, e := range entries {
		if i == 0 && e.GetIndex() <= next {
			// A later leader has written others in their place.
			next = e.GetIndex() - 1
		}
		if next++; e.GetIndex() != next {
			return fmt.Errorf("cluster: the saved log is damaged: entry %d stands where %d is to be", e.GetIndex(), next)
		}
	}
	return nil
}

// agrees reports a saved log that ends before what is known to be agreed on, or
// begins after it.
func (r *raftState) agrees() error {
	hs, _, err := r.store.InitialState()
	if err != nil {
		return err
	}
	last, err := r.store.LastIndex()
	if commit := hs.GetCommit(); err == nil && (commit < r.saved || commit > last) {
		return fmt.Errorf("cluster: the saved log is damaged: entry %d is agreed on, and it has %d to %d", commit, r.saved, last)
	}
	return err
}

// image is all that raft has made durable.
func (r *raftState) image(o own) *image {
	im := &image{Version: Version, Own: o}
	hs, _, _ := r.store.InitialState()
	im.Hard = marshalProto(hs)
	snap, _ := r.store.Snapshot()
	im.Snapshot = marshalProto(snap)
	first, _ := r.store.FirstIndex()
	last, _ := r.store.LastIndex()
	first = max(first, snap.GetMetadata().GetIndex()+1)
	if last >= first {
		entries, _ := r.store.Entries(first, last+1, 1<<30)
		for _, e := range entries {
			im.Entries = append(im.Entries, marshalProto(e))
		}
	}
	return im
}

// start begins as a member, from what is saved.
func (c *Core) start(r *raftState) error {
	snap, err := r.store.Snapshot()
	if err != nil {
		return err
	}
	if len(snap.GetData()) > 0 {
		if c.table, err = c.codec.table(snap.GetData()); err != nil {
			return err
		}
	}
	if err := r.agrees(); err != nil {
		return err
	}
	r.election.timeout = c.o.Timing.Election
	if c.table != nil {
		r.election.timeout = c.table.Timing.Election
	}
	election := int(r.election.timeout / tick)
	r.node, err = raft.NewRawNode(&raft.Config{
		ID: c.id, ElectionTick: election, HeartbeatTick: max(election/5, 1), Storage: r.store,
		Applied: snap.GetMetadata().GetIndex(), MaxSizePerMsg: maxMessageBytes, MaxInflightMsgs: maxInflight,
		MaxUncommittedEntriesSize: maxUncommitted, CheckQuorum: true, PreVote: true, Logger: raftLog{},
	})
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	c.raft, c.blank = r, nil
	// What was wished before this start was another process's to do.
	hs, _, _ := r.store.InitialState()
	c.duties.ends, r.replayed = hs.GetCommit(), hs.GetCommit()
	c.disk.own.Epoch++
	c.disk.dirty = true
	c.holder = newHolder(c.id, 0, c.o.Paths)
	c.holder.wanted = c.disk.own.Epoch
	c.voter = newSupporter(c.id, c.now, c.disk.own.Below)
	c.voter.promisedTTL = r.longestTTL(c.codec)
	if c.outside.flows && c.table != nil {
		c.duties.heldUntil = c.now + max(c.table.LongestTTL, c.voter.promisedTTL)
	}
	uuid := c.disk.own.UUID
	if c.stepped {
		c.effects.Cluster = &uuid
	} else {
		c.announced = &uuid
	}
	return nil
}

// longestTTL is the longest TTL that an entry of the log asks for.
func (r *raftState) longestTTL(codec codec) (ttl time.Duration) {
	first, _ := r.store.FirstIndex()
	last, _ := r.store.LastIndex()
	if last < first {
		return 0
	}
	entries, _ := r.store.Entries(first, last+1, 1<<30)
	for _, e := range entries {
		if cmd, err := codec.command(e.GetData()); err == nil && cmd.Kind == kindRetime && cmd.Timing != nil {
			ttl = max(ttl, cmd.Timing.TTL)
		}
	}
	return ttl
}

// step gives raft a message. Raft panics at what cannot be, such as an
// acknowledgement of entries that a voter has lost; that ends this core alone.
func (r *raftState) step(m *raftpb.Message) {
	defer r.caught()
	// Refused messages are of no consequence: senders repeat themselves.
	_ = r.node.Step(m)
}

func (r *raftState) caught() {
	if p := recover(); p != nil {
		r.broken = fmt.Errorf("agreement met what cannot be (was a state directory put back from a copy?): %v", p)
	}
}

// pump moves raft on until it needs a write, or nothing is left.
func (c *Core) pump() {
	r := c.raft
	for !c.disk.busy && c.failed == nil && r.broken == nil && r.node.HasReady() {
		rd := r.node.Ready()
		r.ready = &rd
		if !rd.MustSync && (rd.Snapshot == nil || raft.IsEmptySnap(rd.Snapshot)) {
			c.finish()
			continue
		}
		c.writeReady(&rd)
	}
	if r.broken != nil {
		c.fail(r.broken)
	}
}

func (c *Core) writeReady(rd *raft.Ready) {
	rec := record{Own: c.takeOwn()}
	hs, _, _ := c.raft.store.InitialState()
	if rd.HardState != nil && !raft.IsEmptyHardState(rd.HardState) {
		hs = rd.HardState
	}
	rec.Hard = marshalProto(hs)
	for _, e := range rd.Entries {
		rec.Entries = append(rec.Entries, marshalProto(e))
	}
	w := &Write{}
	if rd.Snapshot != nil && !raft.IsEmptySnap(rd.Snapshot) {
		o := &c.disk.own
		if rec.Own != nil {
			o = rec.Own
		}
		w.Image = c.codec.marshal(&image{Version: Version, Own: *o, Hard: rec.Hard, Snapshot: marshalProto(rd.Snapshot), Entries: rec.Entries})
	} else {
		w.Records = [][]byte{c.codec.marshal(rec)}
	}
	c.write(w)
}

// finish does what a ready asks for once it is durable.
func (c *Core) finish() {
	r := c.raft
	rd := *r.ready
	r.ready = nil
	if rd.Snapshot != nil && !raft.IsEmptySnap(rd.Snapshot) {
		if err := c.takeSnapshot(rd.Snapshot); err != nil {
			c.fail(err)
			return
		}
	}
	if rd.HardState != nil && !raft.IsEmptyHardState(rd.HardState) {
		// MemoryStorage has no errors here.
		_ = r.store.SetHardState(proto.Clone(rd.HardState).(*raftpb.HardState))
	}
	_ = r.store.Append(rd.Entries)
	for _, m := range rd.Messages {
		c.sendRaft(m)
	}
	for _, e := range rd.CommittedEntries {
		if c.failed == nil {
			c.commit(e)
		}
	}
	r.node.Advance(rd)
	c.compact()
}

func (c *Core) sendRaft(m *raftpb.Message) {
	if m.GetType() == raftpb.MsgSnap {
		c.raft.snapshots = append(c.raft.snapshots, sentSnapshot{m.GetTo(), c.now + snapshotPatience})
	}
	c.effects.Datagrams = append(c.effects.Datagrams, Datagram{To: m.GetTo(), Data: append([]byte{messageRaft}, marshalProto(m)...)})
}

// reportSnapshots ends every snapshot that was sent: it has arrived by now or is
// tried again.
func (r *raftState) reportSnapshots(now time.Duration) {
	kept := r.snapshots[:0]
	for _, s := range r.snapshots {
		if now < s.by {
			kept = append(kept, s)
			continue
		}
		r.node.ReportSnapshot(s.to, raft.SnapshotFinish)
	}
	r.snapshots = kept
}

// takeSnapshot replaces the table by a leader's.
func (c *Core) takeSnapshot(snap *raftpb.Snapshot) error {
	t, err := c.codec.table(snap.GetData())
	if err != nil {
		return err
	}
	if err := c.raft.store.ApplySnapshot(snap); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	c.raft.conf = snap.GetMetadata().GetConfState()
	c.raft.saved = snap.GetMetadata().GetIndex()
	voted := c.table != nil && c.table.voters().has(c.id)
	c.table = t
	c.changed(voted)
	return nil
}

// commit applies an entry.
func (c *Core) commit(e *raftpb.Entry) {
	if c.table == nil {
		c.fail(fmt.Errorf("%w: entry %d comes before any table", errTable, e.GetIndex()))
		return
	}
	voted := c.table.voters().has(c.id)
	switch e.GetType() {
	case raftpb.EntryConfChange:
		c.commitChange(e)
	case raftpb.EntryNormal:
		if len(e.GetData()) == 0 {
			break
		}
		cmd, err := c.codec.command(e.GetData())
		if err != nil {
			c.fail(err)
			return
		}
		err = c.table.apply(e.GetIndex(), cmd)
		c.tell(cmd, err, e.GetIndex() > c.raft.replayed)
	default:
		c.fail(fmt.Errorf("cluster: entry %d is of a type that this version does not write", e.GetIndex()))
		return
	}
	c.table.Index = e.GetIndex()
	c.changed(voted)
}

func (c *Core) commitChange(e *raftpb.Entry) {
	cc := &raftpb.ConfChange{}
	if proto.Unmarshal(e.GetData(), cc) != nil || !c.table.change(e.GetIndex(), c.codec, cc) {
		// Raft wants to hear of a refused change too: one that changes nothing.
		cc = &raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum()}
	}
	c.raft.conf = c.raft.node.ApplyConfChange(cc)
	c.raft.stale = true
}

// compact saves the table whole when the log has become long, or a member new.
func (c *Core) compact() {
	r := c.raft
	if c.failed != nil || c.table == nil || c.table.Index < r.saved+c.o.SnapshotEvery && !r.stale {
		return
	}
	r.stale = false
	if _, err := r.store.CreateSnapshot(c.table.Index, r.conf, c.codec.marshal(c.table)); err != nil {
		return
	}
	r.saved = c.table.Index
	if first, _ := r.store.FirstIndex(); r.saved > first+c.o.KeepEntries {
		// Compact fails only for an index that is gone already.
		_ = r.store.Compact(r.saved - c.o.KeepEntries)
	}
	c.disk.image = true
}

// raftLog drops raft's lines: what matters is in our own notes. Panics must
// stay panics.
type raftLog struct{}

func (raftLog) Debug(...any)              {}
func (raftLog) Debugf(string, ...any)     {}
func (raftLog) Error(...any)              {}
func (raftLog) Errorf(string, ...any)     {}
func (raftLog) Info(...any)               {}
func (raftLog) Infof(string, ...any)      {}
func (raftLog) Warning(...any)            {}
func (raftLog) Warningf(string, ...any)   {}
func (raftLog) Fatal(v ...any)            { panic(fmt.Sprint(v...)) }
func (raftLog) Fatalf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }
func (raftLog) Panic(v ...any)            { panic(fmt.Sprint(v...)) }
func (raftLog) Panicf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }
