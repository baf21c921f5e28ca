package scenario

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net/netip"
	"time"

	"onevoice/cluster"
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
	// Loss and Dup of each link, 0 to 1.
	Loss, Dup float64
	// Services besides the VIP's own.
	Services int
}

// Cluster is a simulated cluster.
type Cluster struct {
	World *sim.World
	LAN   *sim.LAN
	Net   *sim.Net
	Hosts []*Host

	o        Options
	founders int
	services []cluster.ServiceSpec
	path     string
	// Breaches are what must not be; the run stops at the first.
	Breaches []string
}

// clusterMAC is the one of the simulated VIP.
const clusterMAC = "01:00:5e:4d:00:02"

// seeded makes raft's own chance, which it takes from crypto/rand, that of the
// seed.
type seeded struct{ r *mrand.ChaCha8 }

func (s seeded) Read(b []byte) (int, error) { return s.r.Read(b) }

// New makes a cluster whose hosts are all off.
func New(o Options, seed uint64) *Cluster {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	rand.Reader = seeded{mrand.NewChaCha8(key)}

	w := sim.New(seed)
	c := &Cluster{World: w, o: o, path: clusterMAC}
	if o.Hub {
		c.LAN = w.NewHub()
	} else {
		c.LAN, _ = w.NewSwitch()
	}
	c.Net = w.NewNet()
	c.Net.Default = sim.Link{DelayMin: 80 * time.Microsecond, DelayMax: 600 * time.Microsecond, Loss: o.Loss, Dup: o.Dup}
	c.services = []cluster.ServiceSpec{{Name: "vip/10.77.0.2", Digest: cluster.Digest{1}}}
	for i := range o.Services {
		c.services = append(c.services, cluster.ServiceSpec{Name: fmt.Sprintf("s%d", i), Digest: cluster.Digest{byte(i + 2)}})
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
	w.AfterEach = c.check
	return c
}

func (c *Cluster) addHost(name string, role cluster.Role) {
	r := c.World.Rand()
	i := len(c.Hosts)
	h := &Host{
		Name: name, Index: i, c: c, role: role, addr: netip.AddrFrom4([4]byte{10, 77, 0, byte(11 + i)}),
		mac: sim.MAC{2, 0, 0, 0, 0, byte(11 + i)}, answers: map[uint64]error{},
	}
	drift := int64(0)
	if c.o.DriftPPM > 0 {
		drift = r.Int64N(2*c.o.DriftPPM+1) - c.o.DriftPPM
	}
	h.clock = c.World.NewClock(time.Duration(r.Int64N(int64(time.Hour))), drift)
	h.disk = c.World.NewDisk(name, h.clock)
	h.disk.SyncMin, h.disk.SyncMax, h.disk.StallP, h.disk.StallFor = 300*time.Microsecond, 4*time.Millisecond, 0.01, 40*time.Millisecond
	if role == cluster.Node {
		h.port = c.LAN.Attach(name, h.clock, func(frame []byte) { h.frame(frame) })
		h.port.Up = sim.Link{DelayMin: 20 * time.Microsecond, DelayMax: 100 * time.Microsecond, Loss: c.o.Loss, Dup: c.o.Dup}
		h.port.Down = h.port.Up
	}
	h.net = c.Net.Attach(name, h.clock, func(from int, data []byte) {
		if h.up {
			h.step(cluster.Received{From: c.Hosts[from].addr, Blank: data[0] == 1, Data: data[1:]})
		}
	})
	c.Hosts = append(c.Hosts, h)
}

// Boot starts hosts.
func (c *Cluster) Boot(hosts ...*Host) {
	for _, h := range hosts {
		h.boot(false)
	}
}

// frame puts a heartbeat into a frame to the cluster MAC: a UDP datagram whose
// destination is the VIP, as far as the model LAN looks.
func (c *Cluster) frame(h *Host, data []byte) []byte {
	f := []byte{0x01, 0x00, 0x5e, 0x4d, 0x00, 0x02}
	f = append(f, h.mac[:]...)
	f = append(f, 0x08, 0x00)
	f = append(f, heartbeatMark...)
	return append(f, data...)
}

const heartbeatMark = "onevoice-heartbeat"

func (h *Host) frame(frame []byte) {
	if !h.up || len(frame) < 14 {
		return
	}
	if body, ok := bytes.CutPrefix(frame[14:], []byte(heartbeatMark)); ok {
		h.step(cluster.Heard{Data: body})
	}
}

func (c *Cluster) send(h *Host, d cluster.Datagram) {
	mark := byte(0)
	if d.Blank {
		mark = 1
	}
	for _, to := range c.Hosts {
		if to != h && (d.To != 0 && to.core != nil && to.core.ID() == d.To || d.To == 0 && to.addr == d.Address) {
			c.Net.Send(h.Index, to.Index, append([]byte{mark}, d.Data...))
		}
	}
}

func (c *Cluster) breach(format string, args ...any) {
	c.Breaches = append(c.Breaches, fmt.Sprintf("%.6fs: %s", c.World.Now().Seconds(), fmt.Sprintf(format, args...)))
	c.World.Record("breach", c.Breaches[len(c.Breaches)-1])
	c.World.Stop()
}

// check is S1: nobody accepts in a bucket where another does.
func (c *Cluster) check() {
	if len(c.Breaches) > 0 {
		return
	}
	for s := range c.services {
		var taken [4]uint64
		for _, h := range c.Hosts {
			a := h.accepts(s, cluster.Guard)
			for i := range a {
				if taken[i]&a[i] != 0 {
					c.breach("two owners of a bucket of %s, %s is one of them\n%s", c.services[s].Name, h.Name, c.describe())
					return
				}
				taken[i] |= a[i]
			}
		}
	}
}

// Owned counts the buckets of a service that somebody accepts in.
func (c *Cluster) Owned(service int) int {
	n := 0
	for _, h := range c.Hosts {
		a := h.accepts(service, 0)
		for i := range a {
			for w := a[i]; w != 0; w &= w - 1 {
				n++
			}
		}
	}
	return n
}

// AllOwned: every bucket of every service has an owner.
func (c *Cluster) AllOwned() bool {
	for s := range c.services {
		if c.Owned(s) != 256 {
			return false
		}
	}
	return true
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
	return limit, false
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
			out += fmt.Sprintf("    %s %x in=%v epoch=%d orphaned=%v leased=%v heard=%v buckets=%v draining=%v\n", x.Name, x.ID, x.In, x.Epoch, x.Orphaned, x.Leased, x.Heard, x.Buckets, x.Drains)
		}
	}
	return out
}

// Trace writes what happens to a writer.
func (c *Cluster) Trace(w io.Writer) { c.World.TraceTo(w) }
