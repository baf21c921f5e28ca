package scenario

import (
	"flag"
	"os"
	"testing"
	"time"

	"onevoice/cluster"
	"onevoice/internal/inetdiag"
	"onevoice/link/ingress"
	"onevoice/sim"
)

var directSeeds = flag.Uint64("direct", 2, "how many seeds of chaos on the direct path")

// TestDirectChaos: the services are those of the direct path, under any fault, and under
// those of its own. What clients see is held to DESIGN.md's "What must hold", 2 to 5, and
// what the kernels may accept and reset to S1 and R14, after every event.
func TestDirectChaos(t *testing.T) {
	n := *directSeeds
	if testing.Short() {
		n = min(n, 1)
	}
	for seed := *first; seed < *first+n; seed++ {
		c := NewChaos(seed, 40*time.Second)
		o := c.o
		o.Flows, o.Stations, o.Direct, o.Paths, o.Services, o.Preferred, o.Loss, o.Dup, o.Reorder = 0, 6, true, 1, 1, false, 0, 0, 0
		o.Nodes = max(o.Nodes, 3)
		c.Cluster = New(o, seed)
		if *tell {
			c.Trace(os.Stderr)
		}
		runFrames(t, c)
		t.Log(c.rulings())
	}
}

// rulings are what the programs that stand now have counted.
func (c *Cluster) rulings() map[string]uint64 {
	out := map[string]uint64{}
	for _, h := range c.Hosts {
		if h.kernel == nil || h.kernel.programs == nil {
			continue
		}
		for r, n := range h.kernel.programs.rulings {
			if n > 0 {
				out[ingress.Ruling(r).String()] += n
			}
		}
	}
	return out
}

// TestDirectRepeats: the same seed makes the same frames, lists and datagrams.
func TestDirectRepeats(t *testing.T) {
	run := func(seed uint64) (sum, lists uint64) {
		c := New(Options{Nodes: 4, Timing: cluster.LAN, DriftPPM: 200, Services: 1, Stations: 4, Direct: true}, seed)
		c.Boot(c.Hosts...)
		c.Run(5 * time.Second)
		c.Ask(cluster.Drain{Node: "n3"})
		c.Hosts[0].crashDaemon()
		c.Run(2 * time.Second)
		c.Hosts[0].restart()
		c.Run(2 * time.Second)
		for _, h := range c.Hosts {
			lists += h.lister.Counts().Heard
		}
		return c.World.TraceHash(), lists
	}
	sum, lists := run(1)
	again, _ := run(1)
	other, _ := run(2)
	if sum != again || sum == other || lists < 20 {
		t.Errorf("the same seed gives %x and %x, another %x; %d messages of lists were heard", sum, again, other, lists)
	}
}

// TestDirectDaemonDies: onevoice dies on a host, all of it, and is back a second later.
// Meanwhile its kernel takes nobody new once the lease is over, and nobody's connection
// ends. When it stays away, its clients are reset by the others, as those of any dead node.
func TestDirectDaemonDies(t *testing.T) {
	c := New(Options{Nodes: 4, Timing: cluster.LAN, DriftPPM: 200, Services: 1, Stations: 6, Direct: true}, 3)
	c.Boot(c.Hosts...)
	c.must(t, "every bucket is owned", 5*time.Second, c.AllOwned)
	c.Run(6 * time.Second)
	dies := c.Hosts[1]
	held := c.heldBy(dies)
	dies.crashDaemon()
	c.must(t, "its lease is over, and its kernel accepts nothing", 300*ms, func() bool { return count(dies.accepts(1, 0)) == 0 })
	c.must(t, "the others have its buckets", time.Second, c.AllOwned)
	before := dies.kernel.programs.rulings[ingress.PassSYN]
	c.Run(500 * ms)
	if n := dies.kernel.programs.rulings[ingress.PassSYN] - before; n > 0 {
		t.Errorf("without a lease its kernel takes %d SYNs", n)
	}
	dies.restart()
	c.Run(4 * time.Second)
	for _, n := range held {
		if n.State == sim.WasReset || n.Waiting() > patienceOf {
			t.Errorf("port %d: its kernel has it, and it is %v, and waits for %v", n.Port, n.State, n.Waiting())
		}
	}
	if len(held) < 10 || count(dies.accepts(1, 0)) == 0 {
		t.Errorf("too little was tried: %d connections, and it has %d buckets again", len(held), count(dies.accepts(1, 0)))
	}
	held = c.heldBy(dies)
	dies.crashDaemon()
	c.Run(8 * time.Second)
	reset := 0
	for _, n := range held {
		if n.State == sim.WasReset {
			reset++
		}
	}
	dies.restart()
	c.Run(2 * time.Second)
	if reset == 0 {
		t.Errorf("of %d clients of a host without onevoice none is reset", len(held))
	}
	if out := append(c.Breaches, c.judgeStations()...); len(out) > 0 {
		t.Fatal(out[0])
	}
}

// TestDirectStraysOfADrainedBucket: a node drains, with connections that go on, and then
// another dies, to which clients of the same buckets had come. Those of the dead one are
// reset at their next word as if there were no drainer (R14, R18), and those of the drainer
// notice nothing.
func TestDirectStraysOfADrainedBucket(t *testing.T) {
	c := New(Options{Nodes: 4, Timing: cluster.LAN, DriftPPM: 200, Services: 1, Stations: 16, Direct: true}, 3)
	c.Boot(c.Hosts...)
	c.must(t, "every bucket is owned", 5*time.Second, c.AllOwned)
	c.Run(6 * time.Second)
	drains, dies := c.Hosts[1], c.Hosts[2]
	held := c.heldBy(drains)
	c.Ask(cluster.Drain{Node: drains.Name})
	c.Run(3 * time.Second)
	dead, shared := c.heldBy(dies), 0
	buckets := drains.kernel.holding(0, dies.kernel.programs, 0)
	for f := range dies.kernel.tcp.All() {
		if _, at := dies.kernel.programs.row(0, &f.Flow, dies.affinity()); f.State == inetdiag.Established && buckets[at/64]&(1<<(at%64)) != 0 {
			shared++
		}
	}
	crash := c.World.Now()
	dies.crash()
	c.Run(lostAfter + 1500*ms)
	for _, n := range dead {
		if n.State != sim.WasReset && n.Opened < crash && !n.State.Over() && n.Unanswered(c.World.Now()-800*ms, c.World.Now()-20*ms) {
			t.Errorf("port %d: its node is dead for %v, and it is %v and hears nothing", n.Port, c.World.Now()-crash, n.State)
		}
	}
	for _, n := range held {
		if n.State == sim.WasReset || n.Waiting() > patienceOf {
			t.Errorf("port %d: a drainer has it, and it is %v, and waits for %v", n.Port, n.State, n.Waiting())
		}
	}
	if shared < 5 || len(held) < 20 {
		t.Errorf("too little was tried: %d clients of the dead node in buckets of %d of the drainer's", shared, len(held))
	}
	if out := append(c.Breaches, c.judgeStations()...); len(out) > 0 {
		t.Fatal(out[0])
	}
}

// heldBy are the connections that a host serves and that are open.
func (c *Cluster) heldBy(h *Host) (out []*sim.Conn) {
	for _, s := range c.stations {
		for _, n := range s.conns {
			if n.State == sim.Established && c.ownerOf(n.SYNACKs[0].From) == h {
				out = append(out, n)
			}
		}
	}
	return out
}
