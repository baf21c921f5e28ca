package scenario

import (
	"fmt"
	"slices"
	"time"

	"onevoice/cluster"
	"onevoice/node/model"
	"onevoice/sim"
)

// Chaos is a run under any fault.
type Chaos struct {
	*Cluster
	Seed     uint64
	Duration time.Duration
	// Counts is how often each fault was done.
	Counts map[string]int
	// wiped is when a disk was last lost.
	wiped time.Duration
}

// NewChaos chooses a cluster by a seed.
func NewChaos(seed uint64, d time.Duration) *Chaos {
	w := sim.New(seed ^ 0x6368616f73)
	r := w.Rand()
	o := Options{
		Nodes: 1 + r.IntN(7), Timing: []string{cluster.Fast, cluster.LAN, cluster.Calm}[r.IntN(3)], DriftPPM: 990,
		Services: 1, Hub: r.IntN(2) == 0, Flows: 20,
	}
	switch {
	case o.Nodes == 2 && r.IntN(2) == 0:
		o.Preferred = true
	case o.Nodes == 2 || o.Nodes == 4 && r.IntN(2) == 0:
		o.Witness = true
	}
	if r.IntN(2) == 0 {
		o.Late = r.IntN(3)
	}
	if r.IntN(3) == 0 {
		o.Loss, o.Dup, o.Reorder = r.Float64()*0.1, r.Float64()*0.05, r.Float64()*0.05
	}
	if r.IntN(4) == 0 {
		o.Paths, o.Services = 2, 2
	}
	if r.IntN(2) == 0 {
		o.Snapshot, o.Keep = uint64(4+r.IntN(20)), uint64(1+r.IntN(10))
	}
	if r.IntN(4) == 0 {
		o.SyncMin, o.SyncMax = 5*time.Millisecond, 25*time.Millisecond
	}
	return &Chaos{Cluster: New(o, seed), Seed: seed, Duration: d, Counts: map[string]int{}}
}

func (c *Chaos) String() string { return fmt.Sprintf("seed %d, %+v", c.Seed, c.o) }

// Run does the chaos, then ends the faults and lets the cluster converge. It
// returns the first breach, "" for none.
func (c *Chaos) Run() string {
	r := c.World.Rand()
	for _, h := range c.Hosts {
		late := time.Duration(r.Int64N(int64(2 * time.Second)))
		if h.Index >= c.founders {
			late = time.Duration(r.Int64N(int64(c.Duration / 2)))
		}
		c.World.After(late, h.restart)
	}
	c.World.After(time.Duration(r.Int64N(int64(3*time.Second))), c.fault)
	c.Cluster.Run(c.Duration)
	if len(c.Breaches) == 0 {
		c.calm()
		c.converge()
	}
	if len(c.Breaches) > 0 {
		return c.Breaches[0]
	}
	return ""
}

// fault does a random fault, and the next a while later.
func (c *Chaos) fault() {
	if c.World.Now() > c.Duration {
		return
	}
	r := c.World.Rand()
	h := c.Hosts[r.IntN(len(c.Hosts))]
	kinds := c.kinds()
	k := kinds[r.IntN(len(kinds))]
	c.Counts[k.name]++
	c.World.Record("fault", k.name+" "+h.Name)
	k.do(h)
	c.World.After(c.ms(5, 1500), c.fault)
}

func (c *Chaos) ms(lo, hi int) time.Duration {
	return time.Duration(lo+c.World.Rand().IntN(hi-lo)) * time.Millisecond
}

// kind is a kind of fault.
type kind struct {
	name string
	do   func(h *Host)
}

// kinds are all faults, each as often as it is here.
func (c *Chaos) kinds() []kind {
	crash := kind{"crash", func(h *Host) { h.crash(); c.World.After(c.ms(10, 6000), h.restart) }}
	pause := kind{"pause", func(h *Host) { d := c.ms(1, 2000); h.clock.Pause(d); h.workers.Pause(d) }}
	wish := kind{"wish", func(h *Host) { c.wish(h) }}
	return append([]kind{
		crash, crash, pause, pause, wish, wish,
		{"bounce", func(h *Host) { h.crash(); c.World.After(c.ms(1, 300), h.restart) }},
		{"kill", func(h *Host) { h.kill(); c.World.After(c.ms(1, 4000), h.restart) }},
		{"kill and again", func(h *Host) { h.kill(); c.World.After(c.ms(1, 60), h.restart) }},
		{"wipe", c.wipe},
		{"short pause", func(h *Host) { d := c.ms(1, 250); h.clock.Pause(d); h.workers.Pause(d) }},
		{"control stands still", func(h *Host) { h.clock.Pause(c.ms(1, 1500)) }},
		{"workers stand still", func(h *Host) { h.workers.Pause(c.ms(1, 1500)) }},
		{"slow worker", func(h *Host) { h.worker.slow = h.workers.Now() + c.ms(1, 1500) }},
		{"deafen", func(h *Host) { c.onLAN(h, c.ms(50, 4000), (*sim.LAN).Deafen) }},
		{"mute", func(h *Host) { c.onLAN(h, c.ms(50, 4000), (*sim.LAN).Mute) }},
		{"cut off datagrams", func(h *Host) { c.offNet(h, c.ms(50, 4000)) }},
		{"unplug", func(h *Host) { c.offNet(h, c.ms(50, 5000)); c.onLAN(h, c.ms(50, 5000), (*sim.LAN).Unplug) }},
		{"cut", c.cut},
		{"partition", func(*Host) { c.partition(c.ms(50, 5000)) }},
		{"slow disk", func(h *Host) { h.disk.Stall(c.ms(10, 1500)) }},
		{"full disk", func(h *Host) { h.disk.Stall(c.ms(1000, 6000)) }},
		{"all off and on", c.allOff},
		{"health", func(h *Host) {
			h.step(cluster.Checked{Service: c.services[1].Name, Up: c.World.Rand().IntN(3) > 0})
		}},
		{"load", func(h *Host) { h.step(cluster.Loaded{Percent: uint8(c.World.Rand().IntN(101))}) }},
		{"drift", func(h *Host) { h.clock.SetDrift(c.World.Rand().Int64N(2*c.o.DriftPPM+1) - c.o.DriftPPM) }},
		{"another file", c.anotherFile},
		{"another vote", c.anotherVote},
		{"lonely", c.lonely}, {"lonely", c.lonely},
		{"lonely, another timing", func(h *Host) {
			h.ask(cluster.Retime{Timing: c.timing()})
			c.World.After(c.ms(1, 400), func() { c.lonely(h) })
		}},
		{"kill all", func(*Host) {
			for _, h := range c.Hosts {
				if h.up {
					h.kill()
					c.World.After(c.ms(1, 100), h.restart)
				}
			}
		}},
	}, append(c.directKinds(), c.synKinds()...)...)
}

// directKinds are those of the direct path: onevoice dies on a host, and the kernel goes
// on; buckets of which kernels hold connections move about; it cannot be told whether the
// programs have taken what they were told; and with every other seed SYNs are answered with
// cookies for a while, for no list counts for a minute then.
func (c *Chaos) directKinds() []kind {
	if !c.o.Direct {
		return nil
	}
	daemon := kind{"daemon dies", func(h *Host) { h.crashDaemon(); c.World.After(c.ms(1, 6000), h.restart) }}
	move := kind{"moves", func(*Host) { c.moves() }}
	kinds := []kind{
		daemon, daemon, move, move, move,
		{"programs run on", func(h *Host) {
			if k := h.kernel; k != nil {
				k.runOn = c.World.Now() + c.ms(10, 1500)
			}
		}},
		{"daemon dies and again", func(h *Host) { h.crashDaemon(); c.World.After(c.ms(1, 300), h.restart) }},
	}
	if c.Seed%2 == 0 {
		return kinds
	}
	return append(kinds, kind{"full queue", func(h *Host) {
		if k := h.kernel; k != nil {
			k.tcp.Backlog = 0
			c.World.After(c.ms(50, 1000), func() { k.tcp.Backlog = model.NewKernel(nil).Backlog })
			for _, s := range c.stations {
				c.flood(s)
			}
		}
	}})
}

// moves moves buckets of clients, of a service.
func (c *Chaos) moves() {
	r := c.World.Rand()
	from := c.Hosts[r.IntN(len(c.Hosts))]
	if from.kernel == nil || from.kernel.programs == nil {
		return
	}
	held := from.kernel.holding(0, from.kernel.programs, 0)
	for b := range 256 {
		if held[b/64]&(1<<(b%64)) != 0 {
			c.Ask(cluster.Move{Service: c.services[1].Name, Bucket: uint8(b), Node: c.Hosts[r.IntN(len(c.Hosts))].Name})
		}
	}
}

// wipe is rare, and never of more than a minority: nobody promises to survive
// that. A founder whose file names nobody else would found another cluster, and
// the preferred node is the only voter.
func (c *Chaos) wipe(h *Host) {
	if c.World.Rand().IntN(3) > 0 || c.World.Now() < 5*time.Second || c.World.Now() < c.wiped+8*time.Second || len(c.Hosts) < 3 || c.founders < 2 || c.o.Preferred {
		return
	}
	for _, o := range c.Hosts {
		if o == h {
			continue
		}
		if !o.up {
			return
		}
		st := o.core.Status(o.clock.Now())
		if st.Phase != "member" || slices.Contains(st.Voters, h.id) && len(st.Voters) < 3 {
			return
		}
	}
	c.wiped = c.World.Now()
	id := h.id
	if c.World.Rand().IntN(3) == 0 {
		h.kill() // its worker goes on, of a member that is no more
		h.disk.Wipe()
	} else {
		h.wipe()
	}
	if c.World.Rand().IntN(3) > 0 {
		c.World.After(c.ms(10, 1500), h.restart)
		return
	}
	// An operator gives the old one up, and the new one comes some time.
	c.World.After(c.ms(200, 3000), func() { c.another(h).ask(cluster.Forget{Node: fmt.Sprintf("%x", id)}) })
	c.World.After(c.ms(10, 6000), h.restart)
}

// another is some other host.
func (c *Chaos) another(but *Host) *Host {
	for {
		if h := c.Hosts[c.World.Rand().IntN(len(c.Hosts))]; h != but {
			return h
		}
	}
}

func (c *Chaos) onLAN(h *Host, d time.Duration, set func(*sim.LAN, int, bool)) {
	for p, port := range h.ports {
		if p > 0 && c.World.Rand().IntN(2) == 0 {
			continue
		}
		set(c.LANs[p], port.Index, true)
		c.World.After(d, func() { set(c.LANs[p], port.Index, false) })
	}
}

func (c *Chaos) offNet(h *Host, d time.Duration) {
	c.Net.Unplug(h.net.Index, true)
	c.World.After(d, func() { c.Net.Unplug(h.net.Index, false) })
}

// cut drops what one host sends to another, on one LAN and, perhaps, beside it.
func (c *Chaos) cut(h *Host) {
	r := c.World.Rand()
	o := c.Hosts[r.IntN(len(c.Hosts))]
	if o == h {
		return
	}
	if p := r.IntN(len(c.LANs)); h.ports != nil && o.ports != nil {
		c.LANs[p].Cut(h.ports[p].Index, o.ports[p].Index, true)
		c.World.After(c.ms(50, 5000), func() { c.LANs[p].Cut(h.ports[p].Index, o.ports[p].Index, false) })
	}
	if r.IntN(2) == 0 {
		c.Net.Cut(h.net.Index, o.net.Index, true)
		c.World.After(c.ms(50, 5000), func() { c.Net.Cut(h.net.Index, o.net.Index, false) })
	}
}

func (c *Chaos) partition(d time.Duration) {
	var lans [2][][]int
	var net [2][]int
	for i := range lans {
		lans[i] = make([][]int, len(c.LANs))
	}
	for _, h := range c.Hosts {
		side := c.World.Rand().IntN(2)
		for p, port := range h.ports {
			lans[side][p] = append(lans[side][p], port.Index)
		}
		net[side] = append(net[side], h.net.Index)
	}
	set := func(on bool) {
		for p, lan := range c.LANs {
			lan.Partition([][]int{lans[0][p], lans[1][p]}, on)
		}
		c.Net.Partition(net[:], on)
	}
	set(true)
	c.World.After(d, func() { set(false) })
}

func (c *Chaos) allOff(*Host) {
	if c.World.Rand().IntN(3) == 0 {
		for _, h := range c.Hosts {
			if h.boots > 0 {
				h.crash()
				c.World.After(c.ms(10, 1000), h.restart)
			}
		}
	}
}

// anotherFile gives a host another definition of a service, until somebody
// gives it back.
func (c *Chaos) anotherFile(h *Host) {
	r := c.World.Rand()
	if h.role == cluster.Node {
		h.services[r.IntN(len(h.services))].Digest[1] = byte(r.IntN(2))
		h.kill()
		c.World.After(c.ms(1, 100), h.restart)
	}
}

// anotherVote makes a host vote or not, by its file.
func (c *Chaos) anotherVote(h *Host) {
	if h.role == cluster.Node && !c.o.Preferred && h.boots > 0 {
		h.votes = []string{"", "no"}[c.World.Rand().IntN(2)]
		h.kill()
		c.World.After(c.ms(1, 100), h.restart)
	}
}

// lonely lets a host go on while the others do not hear it, and all at once know
// nothing of what they promised to it; or its own control process, too, forgets.
func (c *Chaos) lonely(h *Host) {
	r := c.World.Rand()
	c.onLAN(h, c.ms(50, 2000), (*sim.LAN).Mute)
	if r.IntN(2) == 0 {
		c.offNet(h, c.ms(50, 2000))
	}
	if r.IntN(3) == 0 {
		h.kill()
		c.World.After(c.ms(1, 30), h.restart)
	}
	for _, o := range c.Hosts {
		if o != h && o.up && r.IntN(6) > 0 {
			o.crash()
			c.World.After(c.ms(1, 60), o.restart)
		}
	}
}

func (c *Chaos) timing() cluster.Timing {
	timing, _ := cluster.TimingOf([]string{cluster.Fast, cluster.LAN, cluster.Calm}[c.World.Rand().IntN(3)])
	return timing
}

// wish is a random one of an operator.
func (c *Chaos) wish(h *Host) {
	r := c.World.Rand()
	node := c.Hosts[r.IntN(len(c.Hosts))].Name
	service := c.services[r.IntN(len(c.services))]
	service.Digest[1] = byte(r.IntN(2))
	wishes := []cluster.Wish{
		cluster.Drain{Node: node},
		cluster.Drain{Node: node, Undo: true},
		cluster.Weigh{Node: node, Weight: uint32(r.IntN(300))},
		cluster.Move{Service: service.Name, Bucket: uint8(r.IntN(256)), Node: node},
		cluster.Pin{Service: service.Name, Bucket: uint8(r.IntN(256)), Node: node},
		cluster.Remap{Service: service.Name, Mapping: cluster.Mapping{Digest: service.Digest, Key: cluster.Key{byte(r.Uint32())}}},
		cluster.Retime{Timing: c.timing()},
	}
	h.ask(wishes[r.IntN(len(wishes))])
}
