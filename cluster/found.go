package cluster

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"onevoice/hashing"
)

// blank is a host without a cluster. It says hello to its peers; when all named
// peers are there and blank, the first of them founds the cluster, and a cluster
// that is there already lets it join.
//
// Founding is safe against two founders: a blank host pledges itself, durably
// and once, to one founder, and a founder founds only with the pledges of all
// the peers that it does not leave out, a majority of those named at least (R5).
type blank struct {
	seen    []hello
	helloAt time.Duration
	// adopted: a cluster's first image is on its way to the disk.
	adopted bool
}

// hello is what a blank host says to its peers, under the all-zero UUID.
type hello struct {
	Version uint16   `cbor:"1,keyasint"`
	ID      uint64   `cbor:"2,keyasint"`
	Name    string   `cbor:"3,keyasint"`
	Address string   `cbor:"4,keyasint"`
	Order   uint32   `cbor:"5,keyasint"`
	Witness bool     `cbor:"6,keyasint"`
	Weight  uint32   `cbor:"7,keyasint"`
	Votes   string   `cbor:"8,keyasint"`
	Cluster string   `cbor:"9,keyasint"`
	Peers   []string `cbor:"10,keyasint"`
	// Founding: the sender asks for pledges. Pledge is whom it is pledged to.
	Founding bool   `cbor:"11,keyasint"`
	Pledge   uint64 `cbor:"12,keyasint"`

	at time.Duration
}

// welcome is a member's word to a blank host that the table has. Snapshot, the
// cluster's first state, stays with the founder: others get it from the leader.
type welcome struct {
	Version  uint16   `cbor:"1,keyasint"`
	UUID     [16]byte `cbor:"2,keyasint"`
	Snapshot []byte   `cbor:"-"`
}

// helloEvery is the interval of hellos; helloFresh how long one counts.
const (
	helloEvery = 100 * time.Millisecond
	helloFresh = time.Second
)

func (c *Core) startBlank() error {
	c.blank = &blank{helloAt: c.now}
	if c.disk.own.ID == 0 {
		c.disk.own.ID = c.o.Random.Uint64() | 1
		c.disk.image = true
	}
	c.id = c.disk.own.ID
	return nil
}

// blankTick says hello, and founds when it is time.
func (c *Core) blankTick() {
	b := c.blank
	if c.disk.image && !c.disk.busy {
		c.disk.image = false
		c.write(&Write{Image: c.codec.marshal(&image{Version: Version, Own: c.disk.own})})
	}
	if b.adopted || c.disk.image || c.disk.busy || c.disk.dirty || c.now < b.helloAt {
		return
	}
	b.helloAt = c.now + helloEvery
	b.seen = slices.DeleteFunc(b.seen, func(h hello) bool { return c.now-h.at > helloFresh })
	me := c.hello()
	if me.Founding && me.Pledge == 0 {
		c.disk.own.Pledge, c.disk.dirty = c.id, true
		return
	}
	if me.Founding && c.pledged() {
		c.found()
		return
	}
	data := append([]byte{messageHello}, c.codec.marshal(me)...)
	for _, p := range c.o.Peers {
		if p.Address != c.o.Address {
			c.effects.Datagrams = append(c.effects.Datagrams, Datagram{Address: p.Address, Blank: true, Data: data})
		}
	}
}

func (c *Core) hello() *hello {
	h := &hello{
		Version: Version, ID: c.id, Name: c.o.Name, Address: c.o.Address.String(), Witness: c.o.Role == Witness,
		Weight: c.o.Weight, Votes: c.o.Votes, Cluster: c.o.Cluster, Founding: c.mayFound(), Pledge: c.disk.own.Pledge,
	}
	for i, p := range c.o.Peers {
		h.Peers = append(h.Peers, p.Address.String())
		if p.Address == c.o.Address {
			h.Order = uint32(i + 1)
		}
	}
	return h
}

// needed are the peers that a founder waits for.
func (c *Core) needed() []netip.Addr {
	var out []netip.Addr
	for _, p := range c.o.Peers {
		if !slices.Contains(c.o.Without, p.Address) {
			out = append(out, p.Address)
		}
	}
	return out
}

// mayFound: this host is the one to found the cluster, and all whom it needs are
// there, blank, and of the same mind about who the peers are.
func (c *Core) mayFound() bool {
	need := c.needed()
	if c.o.Role == Witness || c.disk.own.Pledge != 0 && c.disk.own.Pledge != c.id {
		return false
	}
	if len(c.o.Without) == 0 && (len(need) == 0 || need[0] != c.o.Address) {
		return false
	}
	if len(need) < len(c.o.Peers)/2+1 && !c.o.Forced {
		return false
	}
	for _, a := range need {
		if a != c.o.Address && c.blankPeer(a) == nil {
			return false
		}
	}
	return slices.Contains(need, c.o.Address)
}

func (c *Core) blankPeer(a netip.Addr) *hello {
	for i := range c.blank.seen {
		if c.blank.seen[i].Address == a.String() {
			return &c.blank.seen[i]
		}
	}
	return nil
}

// pledged: everybody needed has pledged itself to this host.
func (c *Core) pledged() bool {
	for _, a := range c.needed() {
		if h := c.blankPeer(a); a != c.o.Address && (h == nil || h.Pledge != c.id) {
			return false
		}
	}
	return c.disk.own.Pledge == c.id
}

// found makes the first table: every node in, under epoch 1, with its share.
func (c *Core) found() {
	t := &Table{UUID: c.o.NewCluster, Cluster: c.o.Cluster, Timing: c.o.Timing, LongestTTL: c.o.Timing.TTL, Preferred: c.o.Preferred, Index: 1}
	t.Sets = []VoterSet{{Index: 1}}
	for i, p := range c.o.Peers {
		h := c.hello()
		if p.Address != c.o.Address {
			if h = c.blankPeer(p.Address); h == nil {
				continue // left out; it joins later
			}
		}
		t.addHost(Host{ID: h.ID, Name: h.Name, Address: h.Address, Order: uint32(i + 1), Witness: p.Witness, Weight: h.Weight, Percent: 100, Votes: h.Votes})
	}
	for i := range t.Hosts {
		if h := &t.Hosts[i]; !h.Witness {
			h.Epoch, h.In = 1, true
		}
	}
	t.Sets[0].Voters = c.firstVoters(t)
	for _, s := range c.o.Services {
		t.Services = append(t.Services, Service{Name: s.Name, Mapping: Mapping{Generation: 1, Digest: s.Digest, Key: c.o.NewKey, Sharing: s.Sharing}})
	}
	slices.SortFunc(t.Services, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
	for i := range t.Services {
		if s := &t.Services[i]; t.meetForeign(&s.Mapping) {
			t.layOut(s)
		}
	}
	t.giveAway(1)
	c.note(false, "founded cluster %s with %d hosts", c.o.Cluster, len(t.Hosts))
	c.adopt(&welcome{Version: Version, UUID: t.UUID, Snapshot: c.firstSnapshot(t)})
}

// firstVoters are who should vote and, for it alone has the table, the founder.
func (c *Core) firstVoters(t *Table) []uint64 {
	voters := t.wantVoters()
	if !slices.Contains(voters, c.id) {
		voters = append(voters[:max(len(voters)-1, 0)], c.id)
		slices.Sort(voters)
	}
	return voters
}

func (c *Core) firstSnapshot(t *Table) []byte {
	conf := &raftpb.ConfState{Voters: t.Sets[0].Voters}
	for i := range t.Hosts {
		if !t.Sets[0].has(t.Hosts[i].ID) {
			conf.Learners = append(conf.Learners, t.Hosts[i].ID)
		}
	}
	one := uint64(1)
	return marshalProto(&raftpb.Snapshot{Data: c.codec.marshal(t), Metadata: &raftpb.SnapshotMetadata{ConfState: conf, Index: &one, Term: &one}})
}

// adopt makes a cluster's first state durable and starts from it; without a
// snapshot the leader will send one.
func (c *Core) adopt(f *welcome) {
	c.blank.adopted = true
	c.disk.own.UUID, c.disk.own.Pledge = f.UUID, 0
	c.disk.own.Epoch = 0
	im := &image{Version: Version, Own: c.disk.own, Snapshot: f.Snapshot}
	if len(f.Snapshot) > 0 {
		one := uint64(1)
		im.Hard = marshalProto(&raftpb.HardState{Term: &one, Commit: &one})
	}
	r, err := restoreRaft(im)
	if err == nil {
		err = c.start(r)
	}
	if err != nil {
		c.fail(err)
		return
	}
	// The image goes first and carries the epoch that start has taken.
	im.Own = *c.takeOwn()
	c.write(&Write{Image: c.codec.marshal(im)})
}

// meet takes in what is said under the all-zero UUID.
func (c *Core) meet(from netip.Addr, kind byte, body []byte) {
	if kind != messageHello {
		c.beAdopted(body)
		return
	}
	h, ok := c.helloOf(body)
	if !ok || h.Address != from.String() {
		return
	}
	if c.blank != nil {
		c.meetBlank(h)
		return
	}
	c.meetMember(h, false)
}

// helloOf reads a hello. Hellos are kept, so that their size is bounded.
func (c *Core) helloOf(body []byte) (*hello, bool) {
	h := &hello{}
	if len(body) > maxHelloBytes || c.codec.dec.Unmarshal(body, h) != nil {
		return nil, false
	}
	a, err := netip.ParseAddr(h.Address)
	if err != nil || a.String() != h.Address || h.ID == 0 || h.ID == c.id || len(h.Peers) > MaxHosts {
		return nil, false
	}
	if h.Version != Version {
		c.tellOnce("hello version "+h.Address, true, "%q at %s is refused: it speaks version %d, we speak version %d; run the same release on all nodes", h.Name, h.Address, h.Version, Version)
		return nil, false
	}
	// As what it would be in the table.
	host := Host{Name: h.Name, Address: h.Address, Weight: h.Weight, Votes: h.Votes}
	h.at = c.now
	return h, host.check() == nil
}

// meetBlank: two blank hosts meet.
func (c *Core) meetBlank(h *hello) {
	b := c.blank
	mine := c.hello()
	if !slices.Equal(mine.Peers, h.Peers) {
		c.tellOnce("peers "+h.Address, true, "%q at %s has other [cluster] peers (%q) than this node (%q); make the files equal", h.Name, h.Address, h.Peers, mine.Peers)
		return
	}
	b.seen = slices.DeleteFunc(b.seen, func(x hello) bool { return x.Address == h.Address })
	if len(b.seen) < MaxHosts {
		b.seen = append(b.seen, *h)
	}
	if h.Founding && c.disk.own.Pledge == 0 && !b.adopted {
		c.disk.own.Pledge, c.disk.dirty = h.ID, true
	}
}

// meetMember: a blank host has found its cluster. The leader lets it in; whoever
// has it in the table welcomes it.
func (c *Core) meetMember(h *hello, passed bool) {
	if c.table == nil {
		return
	}
	if h.Cluster != c.table.Cluster {
		c.tellOnce("cluster "+h.Address, true, "%q at %s wants to join cluster %q, and this is %q; correct [cluster] name or peers in its file", h.Name, h.Address, h.Cluster, c.table.Cluster)
		return
	}
	if c.table.host(h.ID) != nil && c.holder.low != 0 {
		// What founded the cluster is durable by now.
		w := welcome{Version: Version, UUID: c.table.UUID}
		to, _ := netip.ParseAddr(h.Address)
		c.effects.Datagrams = append(c.effects.Datagrams, Datagram{Address: to, Blank: true, Data: append([]byte{messageWelcome}, c.codec.marshal(&w)...)})
		return
	}
	if !c.leader() {
		// It may know a few of us only, and the leader is the one to let it in.
		if lead := c.raft.node.BasicStatus().Lead; lead != 0 && !passed {
			c.effects.Datagrams = append(c.effects.Datagrams, Datagram{To: lead, Data: append([]byte{messagePassed}, c.codec.marshal(h)...)})
		}
		return
	}
	c.duties.hellos = slices.DeleteFunc(c.duties.hellos, func(x hello) bool { return x.ID == h.ID })
	if len(c.duties.hellos) < MaxHosts {
		c.duties.hellos = append(c.duties.hellos, *h)
	}
}

// beAdopted: a member has answered a blank host.
func (c *Core) beAdopted(body []byte) {
	var f welcome
	if c.blank == nil || c.blank.adopted || c.disk.busy || len(body) > maxHelloBytes || c.codec.dec.Unmarshal(body, &f) != nil || f.UUID == [16]byte{} {
		return
	}
	if f.Version != Version {
		c.tellOnce("cluster version", true, "the cluster is refused: it speaks version %d, we speak version %d; run the same release on all nodes", f.Version, Version)
		return
	}
	c.adopt(&f)
	c.note(false, "welcomed by the cluster")
}

// meetPassed takes in a hello that another member has checked and passed on.
func (c *Core) meetPassed(body []byte) {
	h, ok := c.helloOf(body)
	if !ok {
		return
	}
	c.meetMember(h, true)
}

// shareOf is the number of buckets of a service that a host owns.
func (s *Service) shareOf(h *Host) int {
	t := s.owners()
	return t.Count(hashing.NodeID(h.Slot) + 1)
}
