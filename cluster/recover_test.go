package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// yard is a few hosts on virtual time, with a network that loses nothing and
// keeps clusters apart as sealed datagrams do.
type yard struct {
	t     testing.TB
	now   time.Duration
	hosts map[netip.Addr]*yardHost
	peers []Peer
	queue []func()
	seed  uint64
}

type yardHost struct {
	core   *Core
	addr   netip.Addr
	saved  Saved
	uuid   [16]byte
	lease  Lease
	rights *Rights
}

func newYard(t testing.TB, n int) *yard {
	y := &yard{t: t, hosts: map[netip.Addr]*yardHost{}}
	for i := range n {
		y.peers = append(y.peers, Peer{Address: yardAddr(i)})
	}
	for i := range n {
		y.boot(i, Saved{})
	}
	return y
}

func yardAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}) }

func (y *yard) options(i int) Options {
	timing, err := TimingOf("lan")
	if err != nil {
		y.t.Fatal(err)
	}
	y.seed++
	return Options{
		Cluster: "yard", Name: fmt.Sprintf("n%d", i+1), Address: yardAddr(i), Peers: y.peers, Timing: timing, Paths: []string{"lan"},
		Services: []ServiceSpec{{Name: "ssh"}}, Weight: 100, Random: rand.New(rand.NewPCG(y.seed, 1)), NewCluster: [16]byte{byte(y.seed)}, NewKey: Key{1},
	}
}

// boot starts a host from what it has saved.
func (y *yard) boot(i int, saved Saved) *yardHost {
	y.t.Helper()
	core, err := New(y.options(i), saved, y.now, false)
	if err != nil {
		y.t.Fatal(err)
	}
	h := &yardHost{core: core, addr: yardAddr(i), saved: saved, uuid: core.Status(y.now).UUID}
	y.hosts[h.addr] = h
	return h
}

func (y *yard) step(h *yardHost, ev Event) {
	if y.hosts[h.addr] != h {
		return // it is off
	}
	e := h.core.Step(y.now, ev)
	if e.Failed != nil {
		y.t.Fatalf("%s has failed: %v", h.addr, e.Failed)
	}
	if w := e.Write; w != nil {
		if w.Image != nil {
			h.saved = Saved{Image: w.Image}
		}
		h.saved.Records = append(h.saved.Records, w.Records...)
		seq := w.Seq
		y.queue = append(y.queue, func() { y.step(h, Wrote{Seq: seq}) })
	}
	if e.Cluster != nil {
		h.uuid = *e.Cluster
	}
	if len(e.Leases) > 0 {
		h.lease = e.Leases[0]
	}
	if e.Rights != nil {
		h.rights = e.Rights
		g := e.Rights.Generation
		y.queue = append(y.queue, func() { y.step(h, Report{Written: g, Looked: g, Holding: make([][4]uint64, 1)}) })
	}
	for _, b := range e.Heartbeats {
		data, uuid := slices.Clone(b.Data), h.uuid
		y.each(h, func(o *yardHost) {
			if o.uuid == uuid {
				y.step(o, Heard{Path: 0, Data: data})
			}
		})
	}
	for _, d := range e.Datagrams {
		d.Data = slices.Clone(d.Data)
		uuid := h.uuid
		y.each(h, func(o *yardHost) {
			if d.To != 0 && o.core.ID() != d.To || d.To == 0 && o.addr != d.Address || !d.Blank && o.uuid != uuid {
				return
			}
			y.step(o, Received{From: h.addr, Blank: d.Blank, Data: d.Data})
		})
	}
}

// each queues something for all hosts but one, in their order.
func (y *yard) each(but *yardHost, fn func(*yardHost)) {
	for _, p := range y.peers {
		if o := y.hosts[p.Address]; o != nil && o != but {
			y.queue = append(y.queue, func() { fn(o) })
		}
	}
}

// run lets time pass until something holds.
func (y *yard) run(what string, atMost time.Duration, holds func() bool) {
	y.t.Helper()
	for end := y.now + atMost; y.now < end; y.now += time.Millisecond {
		for _, p := range y.peers {
			if h := y.hosts[p.Address]; h != nil && y.now >= h.core.Deadline() {
				y.step(h, nil)
			}
		}
		for len(y.queue) > 0 {
			next := y.queue[0]
			y.queue = y.queue[1:]
			next()
		}
		y.oneOwner()
		if holds() {
			return
		}
	}
	y.t.Fatalf("%s: not within %v", what, atMost)
}

// oneOwner is S1.
func (y *yard) oneOwner() {
	y.t.Helper()
	var taken [4]uint64
	for i := range y.peers {
		if y.accepts(i) == 0 {
			continue
		}
		for w, set := range y.hosts[yardAddr(i)].rights.Services[0].Accept {
			if taken[w]&set != 0 {
				y.t.Fatalf("at %v two hosts accept in a bucket", y.now)
			}
			taken[w] |= set
		}
	}
}

func (y *yard) pass(d time.Duration) {
	end := y.now + d
	y.run("time passes", d+time.Second, func() bool { return y.now >= end })
}

// accepts counts the buckets in which a host accepts what is new.
func (y *yard) accepts(i int) int {
	h := y.hosts[yardAddr(i)]
	if h == nil || h.rights == nil || h.lease.End <= y.now || h.lease.Begin > y.now {
		return 0
	}
	return ones(h.rights.Services[0].Accept)
}

func ones(b [4]uint64) (n int) {
	for i := range 256 {
		if b[i/64]&(1<<(i%64)) != 0 {
			n++
		}
	}
	return n
}

// lose takes hosts off and returns what they had saved.
func (y *yard) lose(hosts ...int) (saved []Saved) {
	for _, i := range hosts {
		saved = append(saved, y.hosts[yardAddr(i)].saved)
		delete(y.hosts, yardAddr(i))
	}
	return saved
}

func balanced(y *yard, hosts ...int) func() bool {
	return func() bool {
		sum := 0
		for _, i := range hosts {
			n := y.accepts(i)
			if n < 256/len(hosts) {
				return false
			}
			sum += n
		}
		return sum == 256
	}
}

func TestRecoverAfterALostMajority(t *testing.T) {
	for survivor := range 3 {
		t.Run(fmt.Sprint("survivor ", survivor), func(t *testing.T) {
			y := newYard(t, 3)
			y.run("a cluster of three", 10*time.Second, balanced(y, 0, 1, 2))
			before := y.hosts[yardAddr(survivor)].core.Status(y.now)
			others := []int{(survivor + 1) % 3, (survivor + 2) % 3}
			old := y.lose(others...)
			y.pass(2 * time.Second)
			if n := y.accepts(survivor); n != 0 {
				t.Fatalf("without a majority it accepts in %d buckets", n)
			}
			mine := y.lose(survivor)[0]
			uuid := [16]byte{0xee}
			saved, r, err := Recover(mine, uuid)
			if err != nil {
				t.Fatal(err)
			}
			if r.ID != before.ID || r.Index < before.Index || len(r.Forgotten) != 2 || r.Cluster != "yard" {
				t.Errorf("%+v; index before %d", r, before.Index)
			}
			h := y.boot(survivor, saved)
			y.run("the survivor serves alone", 3*time.Second, balanced(y, survivor))
			s := h.core.Status(y.now)
			if s.UUID != uuid || len(s.Hosts) != 1 || s.Index <= before.Index || s.Hosts[0].Epoch <= before.Hosts[slices.IndexFunc(before.Hosts, func(h HostStatus) bool { return h.Self })].Epoch {
				t.Errorf("%+v", s)
			}

			// One of the others comes with its old state: neither is let in nor disturbs.
			y.boot(others[0], old[0])
			y.pass(5 * time.Second)
			if n := y.accepts(others[0]); n != 0 || !balanced(y, survivor)() || len(h.core.Status(y.now).Hosts) != 1 {
				t.Errorf("a host of the old cluster accepts in %d buckets", n)
			}
			// With empty state directories both join.
			y.boot(others[0], Saved{})
			y.boot(others[1], Saved{})
			y.run("all three again", 30*time.Second, balanced(y, 0, 1, 2))
			if s := h.core.Status(y.now); len(s.Hosts) != 3 || s.UUID != uuid {
				t.Errorf("%d hosts", len(s.Hosts))
			}
			// What was recovered starts again like any other state.
			y.boot(survivor, y.lose(survivor)[0])
			y.run("all three after a restart", 30*time.Second, balanced(y, 0, 1, 2))
		})
	}
}

// A host that was evicted before the majority was lost gets its rows too, and
// every second majority can be lost.
func TestRecoverTwiceAndFromOut(t *testing.T) {
	y := newYard(t, 3)
	y.run("a cluster of three", 10*time.Second, balanced(y, 0, 1, 2))
	out := y.hosts[yardAddr(2)]
	y.lose(2)
	y.run("two are left", 10*time.Second, balanced(y, 0, 1))
	// It learns that it is out, and is cut off before it is in again.
	out = y.boot(2, out.saved)
	y.run("it knows that it is out", 5*time.Second, func() bool {
		me := slices.IndexFunc(out.core.Status(y.now).Hosts, func(h HostStatus) bool { return h.Self })
		return me >= 0 && !out.core.Status(y.now).Hosts[me].In
	})
	saved, r, err := Recover(y.lose(0, 1, 2)[2], [16]byte{1})
	if err != nil || len(r.Forgotten) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	y.boot(2, saved)
	y.run("it serves alone", 5*time.Second, balanced(y, 2))
	y.pass(time.Second)
	saved, _, err = Recover(y.lose(2)[0], [16]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	y.boot(2, saved)
	y.run("it serves alone again", 5*time.Second, balanced(y, 2))
}

// Nothing is left of the forgotten in any row, and what an operator wished about
// this host stays.
func TestStandAloneForgetsTheOthers(t *testing.T) {
	table := &Table{Index: 50, LongestTTL: time.Second}
	for i := range 3 {
		table.Hosts = append(table.Hosts, Host{ID: uint64(i + 1), Slot: uint8(i), Epoch: 1, In: true, Weight: 100, Percent: 100, Votes: "no", Draining: i == 1})
	}
	s := Service{Name: "ssh", Mapping: Mapping{Generation: 1}, Next: &Mapping{Generation: 2}, NextIndex: 40, Holders: bit(0) | bit(2)}
	for b := range s.Rows {
		s.Rows[b] = Row{Owner: uint8(b%3 + 1), To: uint8(b % 4), Pinned: uint8(b % 4), Drainers: slots(b % 8), Grace: slots(b / 8 % 8)}
	}
	table.Services = []Service{s}
	table.Sets = []VoterSet{{Index: 1, Voters: []uint64{1, 2, 3}}, {Index: 9, Voters: []uint64{1, 3}}}
	if got := table.standAlone(2); len(got) != 2 {
		t.Errorf("forgotten %v", got)
	}
	me := table.Hosts[0]
	if len(table.Hosts) != 1 || me.ID != 2 || !me.Draining || me.Votes != "" {
		t.Errorf("hosts %+v", table.Hosts)
	}
	if len(table.Sets) != 1 || table.Sets[0].Index != 50 || !slices.Equal(table.Sets[0].Voters, []uint64{2}) || !slices.Equal(table.wantVoters(), []uint64{2}) {
		t.Errorf("sets %+v", table.Sets)
	}
	got := table.Services[0]
	if got.Next != nil || got.Mapping.Generation != 2 || got.Holders != 0 {
		t.Errorf("mapping %+v", got)
	}
	for b, r := range got.Rows {
		if r.Owner != 2 || r.To != 0 && r.To != 2 || r.Pinned != 0 && r.Pinned != 2 || (r.Drainers|r.Grace)&^bit(1) != 0 {
			t.Fatalf("row %d: %+v", b, r)
		}
	}
}

// Whatever was written counts, agreed on or not, and the result goes on from there.
func TestRecoverTakesAllThatWasWritten(t *testing.T) {
	y := newYard(t, 3)
	y.run("a cluster of three", 10*time.Second, balanced(y, 0, 1, 2))
	saved := y.hosts[yardAddr(0)].saved
	codec := newCodec()
	im, r, err := codec.replay(saved)
	if err != nil {
		t.Fatal(err)
	}
	last, err := r.store.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	weight, learner, term := uint32(55), uint64(1234), uint64(90)
	entry := func(index uint64, kind raftpb.EntryType, data []byte) []byte {
		return marshalProto(&raftpb.Entry{Index: &index, Term: &term, Type: &kind, Data: data})
	}
	// The log is in the image, as after a compaction.
	saved = Saved{Image: codec.marshal(r.image(im.Own))}
	o := im.Own
	o.Epoch, o.Below = 77, []withdrawal{{Host: o.ID, Below: 70}, {Host: 5, Below: 6}}
	saved.Records = append(saved.Records, codec.marshal(record{Own: &o, Entries: [][]byte{
		entry(last+1, raftpb.EntryNormal, codec.marshal(command{Kind: kindSet, ID: o.ID, Weight: &weight})),
		entry(last+2, raftpb.EntryConfChange, marshalProto(&raftpb.ConfChange{
			Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: &learner, Context: codec.marshal(Host{ID: learner, Address: "10.0.0.9", Weight: 1}),
		})),
	}}))
	got, done, err := Recover(saved, [16]byte{9})
	if err != nil {
		t.Fatal(err)
	}
	im, r, err = codec.replay(got)
	if err != nil {
		t.Fatal(err)
	}
	snap, err := r.store.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	table, err := codec.table(snap.GetData())
	if err != nil {
		t.Fatal(err)
	}
	if done.Index != last+2 || len(done.Forgotten) != 3 || len(table.Hosts) != 1 || table.Hosts[0].Weight != weight || table.Index != last+3 {
		t.Errorf("%+v, hosts %+v, index %d of %d", done, table.Hosts, table.Index, last)
	}
	if im.Own.Epoch != 77 || len(im.Own.Below) != 1 || im.Own.Below[0].Host != o.ID || im.Own.ID != o.ID || im.Own.UUID != [16]byte{9} {
		t.Errorf("own %+v", im.Own)
	}
	hs, _, err := r.store.InitialState()
	if err != nil {
		t.Fatal(err)
	}
	if meta := snap.GetMetadata(); meta.GetIndex() != last+3 || meta.GetTerm() != term+1 || hs.GetTerm() != term+1 || hs.GetCommit() != last+3 || hs.GetVote() != 0 {
		t.Errorf("snapshot %v, state %v", meta, hs)
	}
	if len(im.Entries) != 0 || len(got.Records) != 0 {
		t.Error("entries of the old cluster are left")
	}
}

func TestRecoverRefuses(t *testing.T) {
	y := newYard(t, 3)
	y.run("a cluster of three", 10*time.Second, balanced(y, 0, 1, 2))
	good := y.hosts[yardAddr(0)].saved
	blank := newYard(t, 3)
	blank.lose(1, 2)
	blank.pass(time.Second)
	codec := newCodec()
	own := own{ID: 7, UUID: [16]byte{1}, Epoch: 1}
	for name, c := range map[string]struct {
		saved Saved
		want  error
		text  string
	}{
		"nothing":       {want: errNothingSaved},
		"blank":         {saved: blank.hosts[yardAddr(0)].saved, want: errNothingSaved},
		"no table":      {saved: Saved{Image: codec.marshal(image{Version: Version, Own: own})}, want: errNoTable},
		"later version": {saved: Saved{Image: codec.marshal(image{Version: Version + 1, Own: own})}, text: "written by version 2, and this is version 1"},
		"no image":      {saved: Saved{Image: []byte{1}}, text: "image is damaged"},
		"no record":     {saved: Saved{Image: good.Image, Records: [][]byte{{1}}}, text: "record is damaged"},
		"removed":       {saved: edit(t, good, func(im *image, _ *Table) { im.Own.ID++ }), want: errRemoved},
		"witness":       {saved: edit(t, good, func(im *image, t *Table) { t.host(im.Own.ID).Witness = true }), want: errWitness},
	} {
		_, _, err := Recover(c.saved, [16]byte{9})
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// edit changes what was saved, by a recovery of it.
func edit(t *testing.T, saved Saved, change func(*image, *Table)) Saved {
	t.Helper()
	saved, _, err := Recover(saved, [16]byte{3})
	if err != nil {
		t.Fatal(err)
	}
	codec := newCodec()
	im, r, err := codec.replay(saved)
	if err != nil {
		t.Fatal(err)
	}
	table, _, err := r.lastTable(codec)
	if err != nil {
		t.Fatal(err)
	}
	change(im, table)
	snap, err := r.store.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	snap.Data = codec.marshal(table)
	im.Snapshot = marshalProto(snap)
	return Saved{Image: codec.marshal(im)}
}

// A host keeps its word about its own epochs, and no other.
func TestOwnWithdrawalsAreKept(t *testing.T) {
	got := withdrawnFromSelf(&own{ID: 2, Below: []withdrawal{{Host: 1, Below: 5}, {Host: 2, Below: 6}}})
	if len(got) != 1 || got[0].Host != 2 || got[0].Below != 6 {
		t.Errorf("%+v", got)
	}
}

// A mapping does not wait for a host that is forgotten, not even one that had
// moved its last row away.
func TestStandAloneEndsARemap(t *testing.T) {
	table := &Table{Index: 50, Sets: []VoterSet{{Index: 1, Voters: []uint64{1}}}}
	table.Hosts = []Host{{ID: 1, Slot: 0, In: true, Weight: 1, Percent: 100}, {ID: 2, Slot: 1, In: true, Weight: 1, Percent: 100}}
	s := Service{Name: "ssh", Next: &Mapping{Generation: 2}, Holders: bit(0)}
	for b := range s.Rows {
		s.Rows[b].Owner = 2
	}
	table.Services = []Service{s}
	table.standAlone(2)
	if table.Services[0].Next != nil {
		t.Error("the mapping waits")
	}
}
