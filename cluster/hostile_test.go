package cluster

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// What has come this far is sealed: its sender has the key. It may still be broken,
// of another release, or bad. Such a member may stop a host, with a clear word, but
// never end the process, fill its memory, or make it answer without right.

// victim is a core whose writes end at once and whose messages go nowhere.
type victim struct {
	t      testing.TB
	core   *Core
	now    time.Duration
	notes  []string
	failed error
	asked  []Answer
	// leader and other are the ids of two other members, 0 for a host alone.
	leader, other uint64
}

// mould is a saved state that victims start from.
type mould struct {
	options Options
	saved   Saved
	now     time.Duration
	others  []uint64
}

// newMould lets n hosts found a cluster, and takes what the last one has saved.
func newMould(t testing.TB, n int) *mould {
	y := newYard(t, n)
	last := y.hosts[yardAddr(n-1)]
	y.run("a cluster", 20*time.Second, func() bool { return last.rights != nil && last.lease.End > y.now })
	m := &mould{options: y.options(n - 1), saved: last.saved, now: y.now}
	for i := range n - 1 {
		m.others = append(m.others, y.hosts[yardAddr(i)].core.ID())
	}
	return m
}

func (m *mould) victim(t testing.TB) *victim {
	t.Helper()
	core, err := New(m.options, m.saved, m.now, false)
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{t: t, core: core, now: m.now}
	if len(m.others) > 1 {
		v.leader, v.other = m.others[0], m.others[1]
	}
	v.step(nil)
	v.pass(100 * time.Millisecond)
	return v
}

// step returns what was wanted, the writes' ends included.
func (v *victim) step(ev Event) (effects []string) {
	v.t.Helper()
	for e := v.core.Step(v.now, ev); ; e = v.core.Step(v.now, ev) {
		for _, n := range e.Notes {
			v.notes = append(v.notes, n.Text)
		}
		if e.Failed != nil {
			v.failed = e.Failed
		}
		v.asked = append(v.asked, e.Answers...)
		effects = append(effects, effectsOf(e)...)
		if t := v.core.table; t != nil {
			if err := t.check(); err != nil {
				v.t.Fatalf("the table has become one that no host would take: %v", err)
			}
		}
		if e.Write == nil {
			return effects
		}
		ev = Wrote{Seq: e.Write.Seq}
	}
}

// effectsOf names what is to be done, but for notes.
func effectsOf(e *Effects) (out []string) {
	for name, yes := range map[string]bool{
		"a write": e.Write != nil, "heartbeats": len(e.Heartbeats) > 0, "datagrams": len(e.Datagrams) > 0, "rights": e.Rights != nil,
		"leases": e.Leases != nil, "forget": e.Forget, "end flows": e.EndFlows, "answers": len(e.Answers) > 0, "a cluster": e.Cluster != nil,
		"an end": e.Failed != nil,
	} {
		if yes {
			out = append(out, name)
		}
	}
	return out
}

func (v *victim) pass(d time.Duration) {
	v.t.Helper()
	for end := v.now + d; v.now < end; {
		v.now = max(v.now+time.Millisecond, min(v.core.Deadline(), end))
		v.step(nil)
	}
}

// changes nothing, at the time and as long as raft goes on.
func (v *victim) shrugs(what string, ev Event) {
	v.t.Helper()
	v.step(nil)
	before := v.state()
	if done := v.step(ev); len(done) > 0 {
		v.t.Errorf("%s: led to %v", what, done)
	}
	if after := v.state(); after != before {
		v.t.Errorf("%s: changed\n%s to\n%s", what, before, after)
	}
	v.pass(50 * time.Millisecond)
	if v.failed != nil {
		v.t.Fatalf("%s: %v", what, v.failed)
	}
}

// state is all that others can change.
func (v *victim) state() string {
	c := v.core
	out := fmt.Sprintf("own %+v", c.disk.own)
	if c.raft != nil {
		st := c.raft.node.BasicStatus()
		last, _ := c.raft.store.LastIndex()
		out += fmt.Sprintf(" term %d lead %x last %d", st.GetTerm(), st.Lead, last)
	}
	if c.table != nil {
		out += fmt.Sprintf(" table %x voter %+v holder %+v %d hellos", c.Sum(), *c.voter, *c.holder, len(c.duties.hellos))
	}
	if c.blank != nil {
		out += fmt.Sprintf(" %d seen", len(c.blank.seen))
	}
	return out
}

// noted reports whether a note contains a text.
func (v *victim) noted(text string) bool {
	return slices.ContainsFunc(v.notes, func(n string) bool { return strings.Contains(n, text) })
}

// beatOf is a heartbeat of another member as it would be.
func (v *victim) beatOf(id uint64) *heartbeat {
	h := v.core.table.host(id)
	return &heartbeat{Version: Version, From: id, Path: "lan", Low: h.Epoch, High: h.Epoch, Sent: 5 * time.Second,
		Set: v.core.table.voters().Index, Rests: v.core.table.voters().Index, Applied: v.core.table.Index, Leased: true}
}

func (v *victim) promiseAt(sent time.Duration, ttl uint16) promise {
	return promise{To: v.core.id, Low: v.core.holder.low, Sent: sent, TTL: ttl}
}

func (v *victim) heard(h *heartbeat) Heard { return Heard{Data: v.core.codec.marshal(h)} }

func (v *victim) raft(m *raftpb.Message) Received {
	if m.To == nil {
		m.To = &v.core.id
	}
	return Received{From: yardAddr(0), Data: append([]byte{messageRaft}, marshalProto(m)...)}
}

func ptr[T any](v T) *T { return &v }

func TestForgedHeartbeats(t *testing.T) {
	v := newMould(t, 3).victim(t)
	good := v.core.codec.marshal(v.beatOf(v.leader))
	for i := range good {
		v.shrugs(fmt.Sprintf("cut to %d bytes", i), Heard{Data: good[:i]})
	}
	v.shrugs("more behind it", Heard{Data: append(bytes.Clone(good), 0)})
	v.shrugs("nothing but depth", Heard{Data: bytes.Repeat([]byte{0x81}, 1300)})
	v.shrugs("a list of 4 billion", Heard{Data: []byte{0xa1, 0x0e, 0x9a, 0xff, 0xff, 0xff, 0xff}})
	v.shrugs("a path that is not there", Heard{Path: 1, Data: good})
	v.shrugs("a path before the first", Heard{Path: -1, Data: good})
	for name, change := range map[string]func(h *heartbeat){
		"another version":        func(h *heartbeat) { h.Version++ },
		"nobody":                 func(h *heartbeat) { h.From = 0 },
		"our own id":             func(h *heartbeat) { h.From = v.core.id },
		"no member":              func(h *heartbeat) { h.From = 12345 },
		"another path":           func(h *heartbeat) { h.Path = "wan" },
		"off the LAN":            func(h *heartbeat) { h.Path = "" },
		"epochs in wrong order":  func(h *heartbeat) { h.Low = h.High + 1 },
		"no epoch":               func(h *heartbeat) { h.Low = 0 },
		"an epoch far ahead":     func(h *heartbeat) { h.High = math.MaxUint64 },
		"both epochs far ahead":  func(h *heartbeat) { h.Low, h.High = math.MaxUint64, math.MaxUint64 },
		"more promises than can": func(h *heartbeat) { h.Promises = make([]promise, MaxHosts+1) },
		"more withdrawals":       func(h *heartbeat) { h.Withdrawn = make([]withdrawal, MaxHosts+1) },
	} {
		h := v.beatOf(v.leader)
		change(h)
		v.shrugs(name, v.heard(h))
	}
	if !v.noted("state directory was copied") || !v.noted("it speaks version 2, we speak version 1") || !v.noted("cannot have come to") {
		t.Errorf("noted %q", v.notes)
	}
	// The control: a good one is heard.
	before := v.state()
	v.step(Heard{Data: good})
	if v.state() == before {
		t.Error("a good heartbeat was not heard")
	}
}

// A heartbeat of a node that comes as a datagram proves no path.
func TestForgedHeartbeatOffTheLAN(t *testing.T) {
	v := newMould(t, 3).victim(t)
	h := v.beatOf(v.leader)
	h.Path = ""
	h.Promises = []promise{v.promiseAt(v.now, 250)}
	v.shrugs("as a datagram", Received{From: yardAddr(0), Data: append([]byte{messageBeat}, v.core.codec.marshal(h)...)})
}

func TestForgedPromises(t *testing.T) {
	v := newMould(t, 3).victim(t)
	for name, change := range map[string]func(p *promise, h *heartbeat){
		"of what was never sent":     func(p *promise, _ *heartbeat) { p.Sent = v.now + time.Hour },
		"of the end of time":         func(p *promise, _ *heartbeat) { p.Sent = math.MaxInt64 },
		"of before the beginning":    func(p *promise, _ *heartbeat) { p.Sent = math.MinInt64 },
		"of no time":                 func(p *promise, _ *heartbeat) { p.TTL = 0 },
		"of a minute":                func(p *promise, _ *heartbeat) { p.TTL = 60_000 },
		"in another epoch":           func(p *promise, _ *heartbeat) { p.Low++ },
		"in epochs that run over":    func(p *promise, _ *heartbeat) { p.Low++; p.More = math.MaxUint64 },
		"to another":                 func(p *promise, _ *heartbeat) { p.To = v.other },
		"in another set of voters":   func(_ *promise, h *heartbeat) { h.Set++ },
		"by one voter as two hosts":  func(_ *promise, h *heartbeat) { h.From = 12345 },
		"by this host itself, twice": func(_ *promise, h *heartbeat) { h.From = v.core.id },
	} {
		h := v.beatOf(v.leader)
		p := v.promiseAt(v.now, 250)
		change(&p, h)
		h.Promises = []promise{p, p}
		v.step(v.heard(h))
		if v.core.holder.leased(v.now) {
			t.Errorf("a promise %s makes a lease", name)
		}
	}
	v.pass(10 * time.Millisecond)
	h := v.beatOf(v.leader)
	h.Promises = []promise{v.promiseAt(v.now, 250)}
	v.step(v.heard(h))
	if !v.core.holder.leased(v.now) {
		t.Error("a good promise makes none")
	}
}

// Whoever claims that this host's epochs are all used up does not make it use them.
func TestForgedWithdrawals(t *testing.T) {
	v := newMould(t, 3).victim(t)
	before := v.core.disk.own.Epoch
	h := v.beatOf(v.other)
	h.Withdrawn = []withdrawal{{Host: v.core.id, Below: math.MaxUint64}, {Host: v.leader, Below: math.MaxUint64}, {Host: 99, Below: 1}}
	for range 10 {
		v.step(v.heard(h))
		v.pass(100 * time.Millisecond)
	}
	if after := v.core.disk.own.Epoch; after != before || v.failed != nil {
		t.Errorf("epoch %d after %d, %v", after, before, v.failed)
	}
	if len(v.core.voter.hosts) > 3 {
		t.Errorf("%d hosts are remembered", len(v.core.voter.hosts))
	}
}

func TestForgedRaft(t *testing.T) {
	v := newMould(t, 3).victim(t)
	term := v.core.raft.node.BasicStatus().GetTerm()
	last, _ := v.core.raft.store.LastIndex()
	entry := func(index, term uint64, data []byte) *raftpb.Entry {
		return &raftpb.Entry{Index: &index, Term: &term, Type: raftpb.EntryNormal.Enum(), Data: data}
	}
	cmd := v.core.codec.marshal(&command{Kind: kindEnd, ID: v.other})
	for kind := raftpb.MessageType(-1); kind < 40; kind++ {
		for _, m := range []*raftpb.Message{
			{Type: kind.Enum(), From: &v.leader, Term: ptr(uint64(math.MaxUint64))},
			{Type: kind.Enum(), From: &v.leader, Term: ptr(term + maxAhead + 1), Index: &last, LogTerm: &term},
			{Type: kind.Enum(), From: ptr(uint64(0)), Term: &term},
			{Type: kind.Enum(), From: &v.core.id, Term: &term},
			{Type: kind.Enum(), From: &v.leader, To: &v.other, Term: &term},
			{Type: kind.Enum(), From: &v.leader},
		} {
			v.shrugs(fmt.Sprintf("%v", m), v.raft(m))
		}
	}
	app := func(change func(m *raftpb.Message)) *raftpb.Message {
		m := &raftpb.Message{Type: raftpb.MsgApp.Enum(), From: &v.leader, Term: ptr(term + 1), Index: ptr(last), LogTerm: ptr(term), Commit: ptr(last),
			Entries: []*raftpb.Entry{entry(last+1, term+1, cmd), entry(last+2, term+1, cmd)}}
		change(m)
		return m
	}
	for name, m := range map[string]*raftpb.Message{
		"a gap":                  app(func(m *raftpb.Message) { m.Entries[1].Index = ptr(last + 3) }),
		"the same entry twice":   app(func(m *raftpb.Message) { m.Entries[1].Index = ptr(last + 1) }),
		"a term after its own":   app(func(m *raftpb.Message) { m.Entries[1].Term = ptr(term + 2) }),
		"terms in wrong order":   app(func(m *raftpb.Message) { m.Entries[0].Term = ptr(term + 1); m.Entries[1].Term = ptr(term) }),
		"an index at the end":    app(func(m *raftpb.Message) { m.Index = ptr(uint64(math.MaxUint64)) }),
		"nothing is proposed":    {Type: raftpb.MsgProp.Enum(), From: &v.leader},
		"a proposal of no kind":  {Type: raftpb.MsgProp.Enum(), From: &v.leader, Entries: []*raftpb.Entry{entry(0, 0, v.core.codec.marshal(&command{Kind: 200}))}},
		"a proposal of nonsense": {Type: raftpb.MsgProp.Enum(), From: &v.leader, Entries: []*raftpb.Entry{entry(0, 0, []byte("nonsense"))}},
		"a change of members": {Type: raftpb.MsgProp.Enum(), From: &v.leader, Entries: []*raftpb.Entry{{Type: raftpb.EntryConfChangeV2.Enum(),
			Data: []byte("nonsense")}}},
	} {
		v.shrugs(name, v.raft(m))
	}
	// The control: a good message is taken.
	v.step(v.raft(app(func(*raftpb.Message) {})))
	if now, _ := v.core.raft.store.LastIndex(); now != last+2 || v.failed != nil {
		t.Errorf("good entries were not taken: %d after %d, %v", now, last, v.failed)
	}
}

// A leader that is broken may stop a host, which says why.
func TestForgedLog(t *testing.T) {
	m := newMould(t, 3)
	for name, c := range map[string]struct {
		data   []byte
		kind   raftpb.EntryType
		commit uint64
		says   string
	}{
		"agreed beyond the log":    {commit: 1000, says: "met what cannot be"},
		"an entry of another kind": {data: newCodec().marshal(&command{Kind: 200}), commit: 1, says: "unknown kind 200; this version is older"},
		"an entry of nonsense":     {data: []byte("nonsense"), commit: 1, says: "this version cannot read"},
		"an entry of another type": {kind: raftpb.EntryConfChangeV2, commit: 1, says: "type that this version does not write"},
	} {
		t.Run(name, func(t *testing.T) {
			v := m.victim(t)
			term := v.core.raft.node.BasicStatus().GetTerm() + 1
			last, _ := v.core.raft.store.LastIndex()
			logTerm, _ := v.core.raft.store.Term(last)
			v.step(v.raft(&raftpb.Message{Type: raftpb.MsgApp.Enum(), From: &v.leader, Term: &term, Index: &last, LogTerm: &logTerm,
				Commit: ptr(last + min(c.commit, 1)), Entries: []*raftpb.Entry{{Index: ptr(last + 1), Term: &term, Type: c.kind.Enum(), Data: c.data}}}))
			if c.commit > 1 {
				v.step(v.raft(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: &v.leader, Term: &term, Commit: ptr(last + c.commit)}))
			}
			v.pass(time.Second)
			if v.failed == nil || !strings.Contains(v.failed.Error(), c.says) {
				t.Errorf("stopped with %v", v.failed)
			}
			if v.core.holder.leased(v.now) {
				t.Error("a host that has stopped holds a lease")
			}
		})
	}
}

// tables are such as no host makes, each broken in another way.
func brokenTables(t *Table) map[string]func(t *Table) {
	id := t.Hosts[0].ID
	return map[string]func(t *Table){
		"two hosts in one slot":      func(t *Table) { t.Hosts[1].Slot = t.Hosts[0].Slot },
		"two hosts of one id":        func(t *Table) { t.Hosts[1].ID = t.Hosts[0].ID },
		"a slot that is not there":   func(t *Table) { t.Hosts[1].Slot = MaxHosts },
		"a host without an id":       func(t *Table) { t.Hosts[0].ID = 0 },
		"an address of nobody":       func(t *Table) { t.Hosts[0].Address = "" },
		"a name without end":         func(t *Table) { t.Hosts[0].Name = strings.Repeat("x", maxText+1) },
		"a weight without end":       func(t *Table) { t.Hosts[0].Weight = math.MaxUint32 },
		"a voter that counts twice":  func(t *Table) { t.Sets[0].Voters = []uint64{id, id, id} },
		"no voters":                  func(t *Table) { t.Sets[0].Voters = nil },
		"no set of voters":           func(t *Table) { t.Sets = nil },
		"more voters than hosts":     func(t *Table) { t.Sets[0].Voters = manyIDs(MaxHosts + 1) },
		"sets in wrong order":        func(t *Table) { t.Sets = append(t.Sets, VoterSet{Index: 0, Voters: []uint64{id}}) },
		"a row of nobody":            func(t *Table) { t.Services[0].Rows[7].Owner = 31 },
		"a row of beyond everybody":  func(t *Table) { t.Services[0].Rows[7].Owner = 200 },
		"a row on its way to nobody": func(t *Table) { t.Services[0].Rows[7].To = 31 },
		"a row pinned to nobody":     func(t *Table) { t.Services[0].Rows[7].Pinned = 31 },
		"two services of one name":   func(t *Table) { t.Services = append(t.Services, t.Services[0]) },
		"services without end":       func(t *Table) { t.Services = make([]Service, MaxServices+1) },
		"leases of an hour":          func(t *Table) { t.LongestTTL = time.Hour },
		"leases shorter than they":   func(t *Table) { t.LongestTTL = 0 },
		"heartbeats without rest":    func(t *Table) { t.Timing.Heartbeat = 0 },
		"votes that mean nothing":    func(t *Table) { t.Hosts[0].Votes = "perhaps" },
	}
}

func manyIDs(n int) (out []uint64) {
	for i := range n {
		out = append(out, uint64(i+1))
	}
	return out
}

func TestForgedTables(t *testing.T) {
	v := newMould(t, 3).victim(t)
	snapshotOf := func(data []byte, change func(m *raftpb.SnapshotMetadata)) Received {
		meta := &raftpb.SnapshotMetadata{Index: ptr(v.core.table.Index + 100), Term: ptr(uint64(9)),
			ConfState: &raftpb.ConfState{Voters: slices.Clone(v.core.table.voters().Voters)}}
		change(meta)
		return v.raft(&raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: &v.leader, Term: ptr(uint64(9)), Snapshot: &raftpb.Snapshot{Data: data, Metadata: meta}})
	}
	same := func(*raftpb.SnapshotMetadata) {}
	copied := func() *Table {
		c, err := v.core.codec.table(v.core.codec.marshal(v.core.table))
		if err != nil {
			t.Fatal(err)
		}
		c.Index += 100
		return c
	}
	for name, change := range brokenTables(v.core.table) {
		c := copied()
		change(c)
		v.shrugs(name, snapshotOf(v.core.codec.marshal(c), same))
	}
	good := v.core.codec.marshal(copied())
	v.shrugs("nonsense", snapshotOf([]byte("nonsense"), same))
	v.shrugs("nothing", snapshotOf(nil, same))
	v.shrugs("half of it", snapshotOf(good[:len(good)/2], same))
	v.shrugs("no snapshot", v.raft(&raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: &v.leader, Term: ptr(uint64(9))}))
	v.shrugs("other voters", snapshotOf(good, func(m *raftpb.SnapshotMetadata) { m.ConfState.Voters = m.ConfState.Voters[:1] }))
	v.shrugs("two sets at once", snapshotOf(good, func(m *raftpb.SnapshotMetadata) { m.ConfState.VotersOutgoing = m.ConfState.Voters }))
	v.shrugs("another entry's", snapshotOf(good, func(m *raftpb.SnapshotMetadata) { m.Index = ptr(m.GetIndex() + 1) }))
	v.shrugs("no term", snapshotOf(good, func(m *raftpb.SnapshotMetadata) { m.Term = nil }))
	c := copied()
	c.UUID[0]++
	v.shrugs("another cluster's", snapshotOf(v.core.codec.marshal(c), same))
	if !v.noted("sends a table that cannot be used") {
		t.Errorf("noted %q", v.notes)
	}
	v.step(snapshotOf(good, same))
	if v.core.table.Index != copied().Index-100 || v.failed != nil {
		t.Errorf("a good one was not taken: %v", v.failed)
	}
}

// Hellos, however many and of whatever size, take no more room than there is.
func TestForgedHellos(t *testing.T) {
	greet := func(i int, change func(h *hello)) Received {
		a := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		h := &hello{Version: Version, ID: uint64(i + 1000), Name: "x", Address: a.String(), Cluster: "yard", Weight: 100, Peers: []string{"10.0.0.1"}}
		change(h)
		return Received{From: a, Blank: true, Data: append([]byte{messageHello}, newCodec().marshal(h)...)}
	}
	leader := newMould(t, 1).victim(t)
	leader.pass(2 * time.Second)
	if !leader.core.leader() {
		t.Fatal("a host alone does not lead")
	}
	blankOptions := newYard(t, 1).options(0)
	blankOptions.Peers = append(blankOptions.Peers, Peer{Address: yardAddr(1)})
	core, err := New(blankOptions, Saved{}, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	blank := &victim{t: t, core: core}
	for name, v := range map[string]*victim{"a leader": leader, "a blank host": blank} {
		t.Run(name, func(t *testing.T) {
			for what, change := range map[string]func(h *hello){
				"without an id":          func(h *hello) { h.ID = 0 },
				"of our own id":          func(h *hello) { h.ID = v.core.id },
				"of another address":     func(h *hello) { h.Address = "10.9.9.9" },
				"of an odd address":      func(h *hello) { h.Address = "::ffff:10.1.0.0" },
				"of 33 peers":            func(h *hello) { h.Peers = make([]string, MaxHosts+1) },
				"of a peer of 1 MiB":     func(h *hello) { h.Peers = []string{strings.Repeat("x", 1<<20)} },
				"of a cluster of 1 MiB":  func(h *hello) { h.Cluster = strings.Repeat("x", 1<<20) },
				"of a name of 256":       func(h *hello) { h.Name = strings.Repeat("x", 256) },
				"of no vote":             func(h *hello) { h.Votes = "perhaps" },
				"of all the weight":      func(h *hello) { h.Weight = math.MaxUint32 },
				"of the version after":   func(h *hello) { h.Version++ },
				"of what is no address":  func(h *hello) { h.Address = "yard" },
				"of another version, ha": func(h *hello) { h.Version, h.Name = 9, "a\nb" },
			} {
				v.shrugs("a hello "+what, greet(0, change))
			}
			for i := range 10_000 {
				kind := i % 4
				v.step(greet(i, func(h *hello) {
					switch kind {
					case 1:
						h.Version++
					case 2:
						h.Cluster = fmt.Sprint(i)
					case 3:
						h.Peers = []string{fmt.Sprint(i)}
					}
				}))
			}
			if n := len(v.core.duties.hellos); n > MaxHosts {
				t.Errorf("%d hellos are kept", n)
			}
			if v.core.blank != nil && len(v.core.blank.seen) > MaxHosts {
				t.Errorf("%d blank peers are kept", len(v.core.blank.seen))
			}
			if n := len(v.core.duties.told); n > maxTold {
				t.Errorf("%d notes are remembered", n)
			}
			if len(v.notes) > 2*maxTold {
				t.Errorf("%d notes", len(v.notes))
			}
			for _, n := range v.notes {
				if strings.Contains(n, "\n") {
					t.Errorf("a note of two lines: %q", n)
				}
			}
			v.pass(3 * time.Second)
			if v.failed != nil {
				t.Error(v.failed)
			}
		})
	}
}

// What an operator asks for cannot be what no host can read.
func TestForgedWish(t *testing.T) {
	v := newMould(t, 1).victim(t)
	v.pass(2 * time.Second)
	long := strings.Repeat("x", 3000)
	for i, w := range []Wish{
		Pin{Service: long, Bucket: 1, Node: "n1"}, Move{Service: long, Bucket: 1, Node: "n1"}, Foreign{ID: 9, Name: long},
		Remap{Service: long}, Remap{Service: "a\xff"}, Pin{Service: "a\xff", Node: "n1"}, Weigh{Node: "n1", Weight: math.MaxUint32},
		Retime{}, Forget{Node: "n1"}, Drain{Node: long}, Pin{}, Move{},
	} {
		v.asked = nil
		v.step(Ask{Request: uint64(i + 1), Wish: w})
		v.pass(time.Second)
		if len(v.asked) != 1 || v.asked[0].Err == nil {
			t.Errorf("%.60v: answers %.200v", w, v.asked)
		}
		if v.failed != nil {
			t.Fatalf("%.60v: %v", w, v.failed)
		}
	}
}

// Of 32 hosts a heartbeat fits a datagram, also when all of them start anew at
// once, for the sixty-thousandth time.
func TestHeartbeatOf32HostsFits(t *testing.T) {
	for _, ahead := range []uint64{0, 1} {
		v := newMould(t, 3).victim(t)
		for i := len(v.core.table.Hosts); i < MaxHosts; i++ {
			v.core.table.addHost(Host{ID: math.MaxUint64 - uint64(i), Name: "x", Address: "10.2.0.1", Weight: 100})
		}
		v.core.voter.quietUntil = 0
		for i := range v.core.table.Hosts {
			h := &v.core.table.Hosts[i]
			h.Epoch, h.In = 60_000, true
			m := v.core.voter.of(h.ID)
			m.below, m.wanted = h.Epoch+ahead, h.Epoch+ahead
			if h.ID != v.core.id {
				b := v.beatOf(h.ID)
				b.Low, b.High, b.Sent = h.Epoch+ahead, h.Epoch+ahead, 400*24*time.Hour
				v.core.Step(v.now, v.heard(b))
			}
		}
		h := v.core.heartbeat("lan", 0)
		h.Path = "01:00:5e:00:00:01"
		// 1,379 bytes fit a sealed datagram (internal/sealed.MaxPayload).
		if b := v.core.codec.marshal(h); len(b) > 1379 || len(h.Promises) != MaxHosts-1 || len(h.Withdrawn) != int(ahead)*MaxHosts {
			t.Errorf("%d bytes with %d promises and %d withdrawals", len(b), len(h.Promises), len(h.Withdrawn))
		}
	}
}

// garbage reports bytes of which nothing may come.
func garbage(v *victim, kind byte, data []byte) bool {
	if kind%3 == 0 {
		_, err := v.core.codec.heartbeat(data)
		return err != nil
	}
	if len(data) < 2 {
		return true
	}
	switch data[0] {
	case messageBeat:
		_, err := v.core.codec.heartbeat(data[1:])
		return err != nil
	case messageHello, messagePassed:
		return v.core.codec.dec.Unmarshal(data[1:], &hello{}) != nil
	case messageWelcome:
		return v.core.codec.dec.Unmarshal(data[1:], &welcome{}) != nil
	case messageRaft:
		return false
	}
	return true
}

// script is a sequence of events: kind 1, length 2, data.
func script(events ...[]byte) (out []byte) {
	for _, e := range events {
		out = append(append(out, e[0]), binary.BigEndian.AppendUint16(nil, uint16(len(e)-1))...)
		out = append(out, e[1:]...)
	}
	return out
}

func FuzzDatagram(f *testing.F) {
	three, one := newMould(f, 3), newMould(f, 1)
	blank := newYard(f, 1).options(0)
	v := three.victim(f)
	term, index := v.core.raft.node.BasicStatus().GetTerm(), v.core.table.Index
	beat := v.core.codec.marshal(v.beatOf(v.leader))
	greeting := append([]byte{2, messageHello}, v.core.codec.marshal(&hello{Version: Version, ID: 9, Address: "10.0.0.1", Cluster: "yard", Peers: []string{"10.0.0.1"}})...)
	f.Add(uint8(0), script(append([]byte{0}, beat...)))
	f.Add(uint8(1), script(greeting))
	f.Add(uint8(2), script(greeting, append([]byte{2, messageWelcome}, v.core.codec.marshal(&welcome{Version: Version, UUID: [16]byte{1}})...)))
	for kind := raftpb.MessageType(0); kind < 24; kind++ {
		m := &raftpb.Message{Type: kind.Enum(), From: &v.leader, To: &v.core.id, Term: ptr(term + 1), Index: &index, LogTerm: &term, Commit: &index,
			Entries: []*raftpb.Entry{{Index: ptr(index + 1), Term: ptr(term + 1), Data: v.core.codec.marshal(&command{Kind: kindEnd, ID: 9})}}}
		f.Add(uint8(0), script(append([]byte{1, messageRaft}, marshalProto(m)...)))
		m.Entries, m.Term, m.To = nil, ptr(uint64(3)), &one.victim(f).core.id
		f.Add(uint8(1), script(append([]byte{1, messageRaft}, marshalProto(m)...), append([]byte{1, messageBeat}, beat...)))
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		var v *victim
		switch which % 3 {
		case 0:
			v = three.victim(t)
		case 1:
			v = one.victim(t)
			v.pass(500 * time.Millisecond)
		case 2:
			core, err := New(blank, Saved{}, 0, false)
			if err != nil {
				t.Fatal(err)
			}
			v = &victim{t: t, core: core}
		}
		// Who has stopped says so to every event.
		for n := 0; len(b) >= 3 && n < 16 && v.failed == nil; n++ {
			kind, size := b[0], min(int(binary.BigEndian.Uint16(b[1:])), len(b)-3)
			data := b[3 : 3+size]
			b = b[3+size:]
			v.step(nil)
			nothing := garbage(v, kind, data)
			var done []string
			if kind%3 == 0 {
				done = v.step(Heard{Data: data})
			} else {
				done = v.step(Received{From: yardAddr(0), Blank: kind%3 == 2, Data: data})
			}
			if nothing && len(done) > 0 {
				t.Fatalf("garbage led to %v", done)
			}
			v.pass(time.Duration(kind) * time.Millisecond)
		}
		v.pass(300 * time.Millisecond)
		if v.failed != nil && (v.core.holder != nil && v.core.holder.leased(v.now) || !v.noted("stopped: ")) {
			t.Fatalf("it has stopped with %v and goes on, or says nothing", v.failed)
		}
	})
}

func FuzzHeartbeat(f *testing.F) {
	v := newMould(f, 3).victim(f)
	h := v.beatOf(v.leader)
	h.Promises, h.Withdrawn = []promise{v.promiseAt(v.now, 250)}, []withdrawal{{Host: v.other, Below: 3}}
	h.Claims = &claims{Service: "ssh", Accept: buckets{1, 2, 3, 4}}
	f.Add(v.core.codec.marshal(h))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newCodec()
		h, err := c.heartbeat(b)
		if err != nil {
			return
		}
		again, err := c.heartbeat(c.marshal(h))
		if err != nil || !reflect.DeepEqual(h, again) && !bytes.Equal(c.marshal(h), c.marshal(again)) {
			t.Fatalf("%+v reads as %+v, %v", h, again, err)
		}
	})
}

func FuzzCommand(f *testing.F) {
	v := newMould(f, 3).victim(f)
	c := newCodec()
	saved := c.marshal(v.core.table)
	id, epoch := v.other, v.core.table.host(v.other).Epoch
	mapping, timing := &Mapping{Digest: Digest{9}}, v.core.table.Timing
	for _, list := range [][]command{
		{{Kind: kindMove, Moves: []move{{Service: "ssh", Bucket: 0, To: id}, {Service: "ssh", Bucket: 0, To: id}, {Service: "web"}}}},
		{{Kind: kindMove, Moves: []move{{Service: "ssh", Bucket: 0, To: id}, {Service: "ssh", Bucket: 1, To: v.leader}, {Service: "ssh", Bucket: 255, To: v.core.id}}}, {Kind: kindReleased, ID: id, Epoch: epoch, Index: 1 << 20}},
		{{Kind: kindEvict, ID: id, Epoch: epoch, Withdrew: []uint64{v.leader, v.core.id}}, {Kind: kindOrphaned, ID: id, Epoch: epoch}, {Kind: kindJoin, ID: id, Epoch: epoch + 1}},
		{{Kind: kindDrained, ID: id, Epoch: epoch, Service: "ssh", Buckets: buckets{1}, Index: 1 << 20}, {Kind: kindHealth, ID: id, Service: "ssh"}},
		{{Kind: kindPin, ID: id, Service: "ssh", Bucket: 9}, {Kind: kindSettled, Index: 1}, {Kind: kindEnd, ID: id}, {Kind: kindReady, ID: id, Epoch: epoch}},
		{{Kind: kindDefine, Service: "ssh", Mapping: mapping}, {Kind: kindRemap, ID: id, Epoch: epoch, Service: "ssh", Index: 1001}, {Kind: kindDefine, Service: "web", Mapping: mapping}},
		{{Kind: kindRetime, Timing: &timing}, {Kind: kindForeign, ID: 77, Name: "k"}, {Kind: kindMove, Moves: []move{{Service: "ssh", Bucket: 0, To: 77}}}, {Kind: kindForget, ID: 77}},
		{{Kind: kindSet, ID: id, Weight: ptr(uint32(0)), Drain: ptr(true), Percent: ptr(uint8(0)), Votes: ptr("no"), Leave: true}, {Kind: kindForget, ID: id}},
	} {
		var events [][]byte
		for i := range list {
			events = append(events, append([]byte{0}, c.marshal(&list[i])...))
		}
		f.Add(script(events...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := c.table(saved)
		if err != nil {
			t.Fatal(err)
		}
		for n := uint64(0); len(b) >= 3 && n < 32; n++ {
			size := min(int(binary.BigEndian.Uint16(b[1:])), len(b)-3)
			cmd, err := c.command(b[3 : 3+size])
			b = b[3+size:]
			if err != nil {
				continue
			}
			table.Index = 1000 + n
			before := c.marshal(table)
			if table.apply(table.Index, cmd) != nil && !bytes.Equal(before, c.marshal(table)) {
				t.Fatalf("%+v was refused and has changed the table", cmd)
			}
			if _, err := c.table(c.marshal(table)); err != nil {
				t.Fatalf("after %+v the table is one that no host would take: %v", cmd, err)
			}
		}
	})
}

func FuzzTable(f *testing.F) {
	v := newMould(f, 3).victim(f)
	c := newCodec()
	f.Add(c.marshal(v.core.table))
	small := &Table{Timing: v.core.table.Timing, LongestTTL: v.core.table.LongestTTL, Hosts: slices.Clone(v.core.table.Hosts), Sets: v.core.table.Sets, Index: 7}
	f.Add(c.marshal(small))
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := c.table(b)
		if err != nil {
			return
		}
		again, err := c.table(c.marshal(table))
		if err != nil || !bytes.Equal(c.marshal(table), c.marshal(again)) {
			t.Fatalf("a table that was taken is not taken again: %v", err)
		}
		ids := map[uint8]bool{}
		for i := range table.Hosts {
			if ids[table.Hosts[i].Slot] {
				t.Fatal("two hosts own the same rows")
			}
			ids[table.Hosts[i].Slot] = true
		}
		for i := range table.Hosts {
			h := table.Hosts[i]
			for _, cmd := range []command{{Kind: kindEvict, ID: h.ID, Epoch: h.Epoch, Withdrew: table.voters().Voters}, {Kind: kindJoin, ID: h.ID, Epoch: h.Epoch + 1},
				{Kind: kindReleased, ID: h.ID, Epoch: h.Epoch, Index: 1 << 40}, {Kind: kindForget, ID: h.ID}} {
				_ = table.apply(table.Index+1, &cmd)
				if err := table.check(); err != nil {
					t.Fatalf("after %+v: %v", cmd, err)
				}
			}
		}
	})
}
