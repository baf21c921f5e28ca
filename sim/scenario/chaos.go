package scenario

import (
	"fmt"
	"time"

	"onevoice/cluster"
	"onevoice/sim"
)

// Chaos is a run under any fault.
type Chaos struct {
	*Cluster
	Seed     uint64
	Duration time.Duration
	// Counts is how often each fault was done.
	Counts map[string]int
}

// NewChaos chooses a cluster by a seed.
func NewChaos(seed uint64, d time.Duration) *Chaos {
	w := sim.New(seed ^ 0x6368616f73)
	r := w.Rand()
	o := Options{Nodes: 1 + r.IntN(7), Timing: []string{cluster.Fast, cluster.LAN, cluster.Calm}[r.IntN(3)], DriftPPM: 990, Services: 1, Hub: r.IntN(2) == 0}
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
		o.Loss, o.Dup = r.Float64()*0.1, r.Float64()*0.05
	}
	return &Chaos{Cluster: New(o, seed), Seed: seed, Duration: d, Counts: map[string]int{}}
}

func (c *Chaos) String() string { return fmt.Sprintf("seed %d, %+v", c.Seed, c.o) }

// Run does the chaos, then ends the faults and lets the cluster converge. It
// returns the first breach, "" for none.
func (c *Chaos) Run() string {
	r := c.World.Rand()
	c.Boot(c.Hosts[:c.founders]...)
	for i := c.founders; i < len(c.Hosts); i++ {
		h := c.Hosts[i]
		c.World.After(time.Duration(r.Int64N(int64(c.Duration/2))), func() { h.boot(false) })
	}
	c.World.After(2*time.Second, c.fault)
	for range 20 {
		c.World.Run(c.World.Now() + c.Duration/20)
	}
	if len(c.Breaches) > 0 {
		return c.Breaches[0]
	}
	c.calm()
	return c.converge()
}

// fault does a random fault, and the next a while later.
func (c *Chaos) fault() {
	if c.World.Now() > c.Duration {
		return
	}
	r := c.World.Rand()
	h := c.Hosts[r.IntN(len(c.Hosts))]
	ms := func(lo, hi int) time.Duration { return time.Duration(lo+r.IntN(hi-lo)) * time.Millisecond }
	did := ""
	switch r.IntN(16) {
	case 0, 1:
		did = "crash"
		h.crash()
		c.World.After(ms(10, 6000), h.again)
	case 2:
		did = "bounce"
		h.crash()
		c.World.After(ms(1, 300), h.again)
	case 3, 4:
		did = "pause"
		h.clock.Pause(ms(1, 2000))
	case 5:
		did = "short pause"
		h.clock.Pause(ms(1, 250))
	case 6:
		did = "deafen"
		c.unlessWitness(h, func(on bool) { c.LAN.Deafen(h.port.Index, on) }, ms(50, 4000))
	case 7:
		did = "mute"
		c.unlessWitness(h, func(on bool) { c.LAN.Mute(h.port.Index, on) }, ms(50, 4000))
	case 8:
		did = "silence datagrams"
		c.Net.Unplug(h.net.Index, true)
		c.World.After(ms(50, 4000), func() { c.Net.Unplug(h.net.Index, false) })
	case 9:
		did = "unplug"
		c.Net.Unplug(h.net.Index, true)
		c.unlessWitness(h, func(on bool) { c.LAN.Unplug(h.port.Index, on) }, ms(50, 5000))
		c.World.After(ms(50, 5000), func() { c.Net.Unplug(h.net.Index, false) })
	case 10:
		did = "cut"
		o := c.Hosts[r.IntN(len(c.Hosts))]
		if h.port != nil && o.port != nil && o != h {
			c.LAN.Cut(h.port.Index, o.port.Index, true)
			c.World.After(ms(50, 5000), func() { c.LAN.Cut(h.port.Index, o.port.Index, false) })
		}
		c.Net.Cut(h.net.Index, o.net.Index, true)
		c.World.After(ms(50, 5000), func() { c.Net.Cut(h.net.Index, o.net.Index, false) })
	case 11:
		did = "partition"
		c.partition(ms(50, 5000))
	case 12:
		did = "slow disk"
		h.disk.Stall(ms(10, 1500))
	case 13:
		did = "all off and on"
		if r.IntN(4) == 0 {
			for _, h := range c.Hosts {
				h.crash()
				c.World.After(ms(10, 1000), h.again)
			}
		}
	case 14:
		did = "wish"
		c.wish(h)
	case 15:
		did = "health"
		if h.up && h.role == cluster.Node {
			h.step(cluster.Checked{Service: c.services[1].Name, Up: r.IntN(3) > 0})
		}
	}
	c.Counts[did]++
	c.World.Record("fault", did+" "+h.Name)
	c.World.After(ms(5, 1500), c.fault)
}

// again restarts a host that has been started before.
func (h *Host) again() {
	if h.core != nil {
		h.restart()
	}
}

func (c *Chaos) unlessWitness(h *Host, set func(on bool), d time.Duration) {
	if h.port == nil {
		return
	}
	set(true)
	c.World.After(d, func() { set(false) })
}

func (c *Chaos) partition(d time.Duration) {
	var lan, net [2][]int
	for _, h := range c.Hosts {
		side := c.World.Rand().IntN(2)
		if h.port != nil {
			lan[side] = append(lan[side], h.port.Index)
		}
		net[side] = append(net[side], h.net.Index)
	}
	l, n := [][]int{lan[0], lan[1]}, [][]int{net[0], net[1]}
	c.LAN.Partition(l, true)
	c.Net.Partition(n, true)
	c.World.After(d, func() { c.LAN.Partition(l, false); c.Net.Partition(n, false) })
}

// wish is a random one of an operator.
func (c *Chaos) wish(h *Host) {
	if !h.up {
		return
	}
	r := c.World.Rand()
	node := c.Hosts[r.IntN(len(c.Hosts))].Name
	service := c.services[r.IntN(len(c.services))].Name
	var w cluster.Wish
	switch r.IntN(6) {
	case 0:
		w = cluster.Drain{Node: node}
	case 1:
		w = cluster.Drain{Node: node, Undo: true}
	case 2:
		w = cluster.Weigh{Node: node, Weight: uint32(r.IntN(300))}
	case 3:
		w = cluster.Move{Service: service, Bucket: uint8(r.IntN(256)), Node: node}
	case 4:
		w = cluster.Pin{Service: service, Bucket: uint8(r.IntN(256)), Node: node}
	case 5:
		m := cluster.Mapping{Digest: cluster.Digest{1}, Key: cluster.Key{byte(r.Uint32())}}
		for i := range c.services {
			if c.services[i].Name == service {
				m.Digest = c.services[i].Digest
			}
		}
		w = cluster.Remap{Service: service, Mapping: m}
	}
	h.asked++
	h.step(cluster.Ask{Request: h.asked, Wish: w})
}

// calm ends all faults and brings everybody back.
func (c *Chaos) calm() {
	c.LAN.Heal()
	c.Net.Heal()
	for _, h := range c.Hosts {
		h.clock.Resume()
		if h.core != nil {
			h.restart()
			for _, s := range c.services {
				h.step(cluster.Checked{Service: s.Name, Up: true})
			}
		}
	}
	c.World.Run(c.World.Now() + time.Second)
}

// converge: with the faults off every bucket has an owner soon.
func (c *Chaos) converge() string {
	if _, ok := c.Until(10*time.Second, c.AllOwned); !ok && len(c.Breaches) == 0 {
		c.breach("10 s after the last fault not every bucket has an owner\n%s", c.describe())
	}
	if len(c.Breaches) > 0 {
		return c.Breaches[0]
	}
	return ""
}
