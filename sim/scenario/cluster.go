package scenario

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net/netip"
	"time"

	"onevoice/cluster"
	"onevoice/hashing"
	"onevoice/sim"
)

// Options of a run.
type Options struct {
	// Nodes is how many nodes found the cluster; Late join later.
	Nodes, Late int
	Witness     bool
	Preferred   bool
	Timing      string
	// DriftPPM bounds the hosts' clocks.
	DriftPPM int64
	Hub      bool
	// Loss, Dup and Reorder of each link, 0 to 1.
	Loss, Dup, Reorder float64
	// Services besides the VIP's own.
	Services int
	// Sharing is of the services, as another system would have it; nil: by weight.
	Sharing *cluster.Sharing
	// Paths is how many LANs the nodes serve on, 1 if 0. The second service is on
	// the second.
	Paths int
	// Snapshot is after how many entries the table is saved whole, and Keep how
	// many entries stay; 0 for the defaults.
	Snapshot, Keep uint64
	// Flows is how many clients come in a second.
	Flows float64
	// Stations is how many clients come with frames of their own; the workers are
	// real gates then. There has to be a service.
	Stations int
	// Gates makes the workers real gates without Stations, for clients of the
	// caller's own. There has to be a service.
	Gates bool
	// Netstack makes the gates' workers whole: the daemon's own loop, netstack and
	// proxy, with a backend in memory. Such a run asserts outcomes and may differ
	// from another of its seed; see Close.
	Netstack bool
	// Direct makes the services those of the direct path: each host's kernel serves
	// them, as a model, by the rule of package node, and the daemon's own
	// control.DirectPath tells it what the host owns. There has to be a service.
	Direct bool
	// Users is how many clients with a whole TCP come; the workers are whole, too,
	// then. There has to be a service.
	Users int
	// Use is what they do.
	Use Use
	// LAN makes the first path's LAN; nil: a hub or a switch, by Hub.
	LAN func(*sim.World) *sim.LAN
	// Switch names the switch of the first LAN that a host is plugged into, by its
	// number; nil: the first.
	Switch func(host int) string
	// MAC is the first path's cluster MAC; zero: the group MAC of the VIP.
	MAC sim.MAC
	// Groups are what the gates join.
	Groups []netip.Addr
	// Prefix is the LAN's, with the VIP in it; zero: a /24.
	Prefix netip.Prefix
	// Gateway is the LAN's router; zero: there is none.
	Gateway netip.Addr
	// Affinity of the gates' services; nil: by address and port.
	Affinity *hashing.Affinity
	// Without are rules that are switched off, to see what they are for.
	Without Without
	// SyncMin and SyncMax bound an fsync. 0: an SSD's.
	SyncMin, SyncMax time.Duration
}

// Cluster is a simulated cluster.
type Cluster struct {
	World *sim.World
	LANs  []*sim.LAN
	Net   *sim.Net
	Hosts []*Host
	// Breaches are what must not be; the run stops at the first.
	Breaches []string
	// Served and Refused count clients that found an owner and that did not.
	Served, Refused uint64

	o        Options
	founders int
	services []cluster.ServiceSpec
	paths    []string
	raft     agreement
	tenants  []tenants
	stations []*station
	users    *users
	virtual  *virtualTime
	// quiet: no client does anything new.
	quiet bool
	// fixed: what each worker answers for does not change any more.
	fixed bool
}

// seeded makes raft's own chance, which it takes from crypto/rand, that of the
// seed. One run at a time in a process.
type seeded struct{ r *mrand.ChaCha8 }

func (s seeded) Read(b []byte) (int, error) { return s.r.Read(b) }

// New makes a cluster whose hosts are all off.
func New(o Options, seed uint64) *Cluster {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	rand.Reader = seeded{mrand.NewChaCha8(key)}

	w := sim.New(seed)
	o.Netstack = o.Netstack || o.Users > 0
	c := &Cluster{World: w, o: o, raft: agreement{}}
	for i := range max(o.Paths, 1) {
		c.LANs = append(c.LANs, c.newLAN(i))
		c.paths = append(c.paths, fmt.Sprintf("%x", c.clusterMAC(i)))
	}
	c.Net = w.NewNet()
	c.Net.Default = sim.Link{DelayMin: 80 * time.Microsecond, DelayMax: 600 * time.Microsecond, Loss: o.Loss, Dup: o.Dup, Reorder: o.Reorder, HoldBack: 5 * time.Millisecond}
	c.services = []cluster.ServiceSpec{{Name: "vip/10.77.0.2", Digest: cluster.Digest{1}}}
	for i := range o.Services {
		c.services = append(c.services, cluster.ServiceSpec{Name: fmt.Sprintf("s%d", i), Path: i % len(c.LANs), Digest: cluster.Digest{byte(i + 2)}, Sharing: o.Sharing})
	}
	for i := range o.Nodes {
		c.addHost(fmt.Sprintf("n%d", i+1), cluster.Node)
	}
	if o.Witness {
		c.addHost("w", cluster.Witness)
	}
	c.founders = len(c.Hosts)
	for i := range o.Late {
		c.addHost(fmt.Sprintf("n%d", o.Nodes+i+1), cluster.Node)
	}
	if o.Netstack {
		c.virtual = newVirtualTime()
	}
	w.AfterEach = c.check
	if o.Flows > 0 {
		c.nextClient()
	}
	c.addStations()
	c.addUsers()
	return c
}

func (c *Cluster) newLAN(path int) *sim.LAN {
	switch {
	case path == 0 && c.o.LAN != nil:
		return c.o.LAN(c.World)
	case c.o.Hub:
		return c.World.NewHub()
	}
	lan, _ := c.World.NewSwitch()
	return lan
}

// clusterMAC is that of the VIP on a path.
func (c *Cluster) clusterMAC(path int) sim.MAC {
	if path == 0 && c.o.MAC != (sim.MAC{}) {
		return c.o.MAC
	}
	return sim.MAC{0x01, 0x00, 0x5e, 0x4d, byte(path), 0x02}
}

func (c *Cluster) addHost(name string, role cluster.Role) {
	r := c.World.Rand()
	i := len(c.Hosts)
	h := &Host{
		Name: name, Index: i, c: c, role: role, addr: netip.AddrFrom4([4]byte{10, 77, 0, byte(11 + i)}),
		answers: map[uint64]error{}, weight: 100,
	}
	h.services = append(h.services, c.services...)
	drift := int64(0)
	if c.o.DriftPPM > 0 {
		drift = r.Int64N(2*c.o.DriftPPM+1) - c.o.DriftPPM
	}
	h.clock = c.World.NewClock(time.Duration(r.Int64N(int64(time.Hour))), drift)
	h.workers = c.World.NewClock(0, 0)
	h.disk = c.World.NewDisk(name, h.clock)
	h.disk.SyncMin, h.disk.SyncMax, h.disk.StallP, h.disk.StallFor = 300*time.Microsecond, 4*time.Millisecond, 0.01, 40*time.Millisecond
	if c.o.SyncMax > 0 {
		h.disk.SyncMin, h.disk.SyncMax = c.o.SyncMin, c.o.SyncMax
	}
	if role == cluster.Node {
		for p, lan := range c.LANs {
			port := c.plug(lan, h, p)
			port.Up = sim.Link{DelayMin: 20 * time.Microsecond, DelayMax: 100 * time.Microsecond, Loss: c.o.Loss, Dup: c.o.Dup, Reorder: c.o.Reorder, HoldBack: 5 * time.Millisecond}
			port.Down = port.Up
			h.ports = append(h.ports, port)
		}
	}
	h.net = c.Net.Attach(name, h.clock, func(from int, data []byte) {
		h.received(c.Hosts[from], data)
	})
	c.Hosts = append(c.Hosts, h)
}

// plug gives a host its port on a path.
func (c *Cluster) plug(lan *sim.LAN, h *Host, path int) *sim.Port {
	receive := func(frame []byte) { h.frame(path, frame) }
	if path > 0 || c.o.Switch == nil {
		return lan.Attach(h.Name, nil, receive)
	}
	port, err := lan.AttachTo(c.o.Switch(h.Index), h.Name, nil, receive)
	if err != nil {
		panic(fmt.Sprintf("scenario: %v", err)) // a mistake of ours
	}
	return port
}

// Boot starts hosts.
func (c *Cluster) Boot(hosts ...*Host) {
	for _, h := range hosts {
		h.boot()
	}
}

func (c *Cluster) send(h *Host, d cluster.Datagram) {
	mark := byte(kindMember)
	if d.Blank {
		mark = kindBlank
	}
	for _, to := range c.Hosts {
		if to != h && (d.To != 0 && to.id == d.To || d.To == 0 && to.addr == d.Address) {
			c.Net.Send(h.Index, to.Index, append([]byte{mark}, d.Data...))
		}
	}
}

func (c *Cluster) breach(format string, args ...any) {
	c.Breaches = append(c.Breaches, fmt.Sprintf("%.6fs: %s", c.World.Now().Seconds(), fmt.Sprintf(format, args...)))
	c.World.Record("breach", c.Breaches[len(c.Breaches)-1])
	c.World.Stop()
}

// Run lets the time pass, up to the first breach.
func (c *Cluster) Run(d time.Duration) {
	if len(c.Breaches) == 0 {
		c.World.Run(c.World.Now() + d)
	}
}

// Until runs until something holds, and returns how long that took; ok is false
// if it never did.
func (c *Cluster) Until(limit time.Duration, holds func() bool) (took time.Duration, ok bool) {
	from := c.World.Now()
	for c.World.Now() < from+limit && len(c.Breaches) == 0 {
		if holds() {
			return c.World.Now() - from, true
		}
		c.World.Run(c.World.Now() + time.Millisecond)
	}
	return limit, holds() && len(c.Breaches) == 0
}

// describe is each host in a line.
func (c *Cluster) describe() string {
	out := ""
	for _, h := range c.Hosts {
		if h.core == nil {
			out += h.Name + ": never started\n"
			continue
		}
		st := h.core.Status(h.clock.Now())
		out += fmt.Sprintf("%s: up=%v failed=%v phase=%s leader=%x index=%d voters=%x\n", h, h.up, h.failed, st.Phase, st.Leader, st.Index, st.Voters)
		for _, x := range st.Hosts {
			out += fmt.Sprintf("    %s %x in=%v epoch=%d orphaned=%v leased=%v heard=%v buckets=%v draining=%v\n", x.Name, x.ID, x.In, x.Epoch, x.Orphaned, x.Leased, x.Heard, x.Buckets, x.Draining)
		}
	}
	return out
}

// Trace writes what happens to a writer.
func (c *Cluster) Trace(w io.Writer) { c.World.TraceTo(w) }
