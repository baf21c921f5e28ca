package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"go.etcd.io/raft/v3"
)

// Role is what this host is to its cluster.
type Role uint8

// Roles.
const (
	// Node serves.
	Node Role = iota
	// Witness votes, off the LAN, and owns nothing.
	Witness
)

// ServiceSpec is a service as this host's file defines it. A VIP has one of its
// own, that decides who answers ARP and echo for it.
type ServiceSpec struct {
	Name string
	// Path is the index, in Options.Paths, of the path whose lease it needs.
	Path   int
	Digest Digest
	// Sharing is nil where the buckets go by the nodes' weights.
	Sharing *Sharing
}

// Peer is a named member of the cluster to be.
type Peer struct {
	Address netip.Addr
	Witness bool
}

// Options are what this host's file says.
type Options struct {
	Cluster string
	Name    string
	Address netip.Addr
	Role    Role
	// Peers in the order of the file; the same on all hosts.
	Peers []Peer
	// Preferred: of two nodes only the first votes, as it does without a witness.
	Preferred bool
	Timing    Timing
	// Paths are names of the paths on which this node serves: cluster MACs.
	Paths    []string
	Services []ServiceSpec
	Weight   uint32
	// Votes is "", "yes" or "no", see Host.
	Votes string
	// Random makes ids, keys and raft's jitter differ between hosts.
	Random *rand.Rand
	// NewCluster and NewKey are random bytes for a cluster that this host founds.
	NewCluster [16]byte
	NewKey     Key
	// Without are peers that a bootstrap does not wait for, see Found.
	Without []netip.Addr
	// Forced: the operator has fenced the others off.
	Forced bool
	// SnapshotEvery entries the table is saved whole, and the log before it but
	// KeepEntries let go; 0 for the defaults.
	SnapshotEvery, KeepEntries uint64
}

// Core is ownership on one host. It belongs to one goroutine.
type Core struct {
	o     Options
	codec codec
	id    uint64
	now   time.Duration
	// failed is why this core has stopped for ever.
	failed error

	table   *Table
	rights  rights
	voter   *supporter
	holder  *holder
	raft    *raftState
	blank   *blank
	disk    disk
	duties  duties
	behind  behind
	asks    []ask
	effects Effects

	nextTick, nextBeat time.Duration
	// announced is the cluster that New has found; the first Step tells it.
	announced *[16]byte
	stepped   bool
	outside   outside
}

// outside is what the shell has told.
type outside struct {
	// held: this host's workers may hold flows from before this start.
	flows   bool
	clients []uint64
	gateway bool
	alarm   bool
	// written is the generation that every worker has written back.
	written uint64
	health  []Health
	percent uint8
	leaving bool
	// holding are, by service, the buckets in which flows, half-open ones or
	// cookies may be held.
	holding []buckets
	// looked is the generation under which holding was found, 0 for never.
	looked uint64
	// others: flows may be held of services that are not in Options.
	others bool
}

// Effects are what Step wants done, in this order: the write first of all, the
// rest at once. They are valid until the next Step.
type Effects struct {
	// Write is to be made durable, nil for none. Until Step was told so by Wrote
	// there is no other.
	Write *Write
	// Heartbeats are to be sent now: one for each path, to the VIP in a frame to
	// the cluster MAC.
	Heartbeats []PathMessage
	// Datagrams are to be sent to hosts.
	Datagrams []Datagram
	// Rights are set when they have changed, the leases' times excepted.
	Rights *Rights
	// Leases are set when one has changed, in the order of Options.Paths.
	Leases []Lease
	// Forget: flows that this host's workers held before its present epoch have
	// been given up by the cluster: close them locally and say nothing.
	Forget bool
	// EndFlows: an operator wants the flows that this host only drains ended with
	// resets.
	EndFlows bool
	// Answers end operators' requests.
	Answers []Answer
	// Notes are lines for the log.
	Notes []Note
	// Cluster is set once, when this host has become a member: datagrams carry
	// the cluster's UUID from then on.
	Cluster *[16]byte
	// Failed is why this core has stopped; it accepts nothing any more.
	Failed error
}

// PathMessage is a heartbeat for a path, or from one.
type PathMessage struct {
	Path int
	Data []byte
}

// Datagram is a message to or from a host.
type Datagram struct {
	// To is 0 while the host's id is not known; then Address says where.
	To      uint64
	Address netip.Addr
	// Blank datagrams travel under the all-zero UUID.
	Blank bool
	Data  []byte
}

// Lease is the right to use Rights, from Begin to End; End is 0 for none.
type Lease struct{ Begin, End time.Duration }

// Answer ends an operator's request.
type Answer struct {
	Request uint64
	Err     error
}

// Note is a line for the log.
type Note struct {
	// Warn: somebody should look at it.
	Warn bool
	Text string
}

// New makes the core of a host from what it saved; see Load. A host without
// anything saved is blank: it waits for its peers, and founds a cluster with
// them or joins the one that is there. flows tells that workers of an earlier
// control process are alive and may hold flows.
func New(o Options, saved Saved, now time.Duration, flows bool) (*Core, error) {
	if len(o.Paths) > maxPaths || len(o.Services) > MaxServices {
		return nil, fmt.Errorf("cluster: %d paths and %d services; at most %d and %d", len(o.Paths), len(o.Services), maxPaths, MaxServices)
	}
	if !o.Timing.valid() {
		return nil, errors.New("cluster: this timing cannot hold a lease")
	}
	o.SnapshotEvery, o.KeepEntries = cmp.Or(o.SnapshotEvery, snapshotEvery), cmp.Or(o.KeepEntries, keepEntries)
	c := &Core{o: o, codec: newCodec(), now: now, nextTick: now + tick, nextBeat: now}
	c.outside.flows, c.outside.percent = flows, 100
	c.outside.clients = make([]uint64, len(o.Paths))
	c.outside.holding = make([]buckets, len(o.Services))
	if saved.empty() {
		return c, c.startBlank()
	}
	if err := c.load(saved); err != nil {
		return nil, err
	}
	return c, nil
}

// ID is this host's own.
func (c *Core) ID() uint64 { return c.id }

// Deadline is when Step wants to be called even if nothing happens.
func (c *Core) Deadline() time.Duration {
	if c.failed != nil {
		return c.now + time.Hour // there is nothing more to do
	}
	return min(c.nextTick, c.nextBeat)
}

// Step tells the core of an event, nil for the passing of time, and returns what
// to do. now never goes back.
func (c *Core) Step(now time.Duration, ev Event) *Effects {
	c.effects = Effects{Datagrams: c.effects.Datagrams[:0], Heartbeats: c.effects.Heartbeats[:0], Cluster: c.announced, Notes: c.earlyNotes()}
	c.announced = nil
	c.now = max(now, c.now)
	if c.failed != nil {
		c.effects.Failed = c.failed
		return &c.effects
	}
	c.stoodStill()
	if ev != nil {
		ev.happen(c)
	}
	c.passTime()
	if c.raft != nil {
		c.pump()
	}
	if c.table != nil && c.failed == nil {
		c.showRights()
	}
	c.flush()
	if c.failed != nil {
		c.effects.Failed = c.failed
	}
	return &c.effects
}

// earlyNotes are those of New, for the first Step.
func (c *Core) earlyNotes() []Note {
	if c.stepped {
		return nil
	}
	c.stepped = true
	return c.effects.Notes
}

// stoodStill suspends the leases after a gap in which this core was not called:
// its clock or its process may have stood still (R10).
func (c *Core) stoodStill() {
	late := c.now - min(c.Deadline(), c.now)
	if c.table != nil && c.holder != nil && late > c.table.Timing.TTL/2 {
		c.holder.suspend(c.now)
	}
}

// passTime does what is due.
func (c *Core) passTime() {
	for c.now >= c.nextTick {
		c.nextTick += tick
		if c.now-c.nextTick > time.Second {
			c.nextTick = c.now + tick
		}
		switch {
		case c.raft != nil:
			c.tickRaft()
		case c.blank != nil:
			c.blankTick()
		}
		if c.raft != nil && c.now < c.nextTick {
			c.pump()
			c.doDuties()
		}
	}
	if c.now >= c.nextBeat {
		c.beat()
		c.nextBeat = c.now + c.interval()
	}
}

func (c *Core) interval() time.Duration {
	if c.table != nil {
		return c.table.Timing.Heartbeat
	}
	return c.o.Timing.Heartbeat
}

// fail stops this core for ever: its host needs an operator.
func (c *Core) fail(err error) {
	if c.failed == nil {
		c.failed = err
		c.note(true, "stopped: %v", err)
		for _, a := range c.asks {
			c.answer(a.request, err)
		}
		c.asks = nil
		if c.holder != nil {
			c.holder.drop()
			c.showLeases()
		}
	}
}

func (c *Core) note(warn bool, format string, args ...any) {
	c.effects.Notes = append(c.effects.Notes, Note{warn, fmt.Sprintf(format, args...)})
}

// leader reports whether this host leads, as far as it knows.
func (c *Core) leader() bool {
	return c.raft != nil && c.raft.node.BasicStatus().RaftState == raft.StateLeader
}
