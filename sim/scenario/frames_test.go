package scenario

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"onevoice/cluster"
	"onevoice/sim"
)

var frameSeeds = flag.Uint64("frames", 3, "how many seeds of chaos with frames of clients")

// TestFrames: real gates behind real cores, and clients that are stations of the
// LAN. What they see is held to DESIGN.md's "What must hold", 2 to 5.
func TestFrames(t *testing.T) {
	n := *frameSeeds
	if testing.Short() {
		n = min(n, 2)
	}
	for seed := *first; seed < *first+n; seed++ {
		c := NewChaos(seed, 40*time.Second)
		o := c.o
		o.Flows, o.Stations, o.Paths, o.Services, o.Preferred, o.Loss, o.Dup, o.Reorder = 0, 6, 1, 1, false, 0, 0, 0
		o.Nodes = max(o.Nodes, 3)
		c.Cluster = New(o, seed)
		runFrames(t, c)
	}
}

func runFrames(t *testing.T, c *Chaos) {
	c.Boot(c.Hosts[:c.founders]...)
	c.World.After(5*time.Second, c.fault)
	c.Cluster.Run(c.Duration)
	c.calm()
	c.undoWishes()
	c.comes("all is even and nobody on the move", evenWithin, c.atRest)
	// All is well: who comes now is served at once, and once. While buckets move, which a
	// drain for strays does, a ping may meet no owner.
	from := c.World.Now()
	c.Cluster.Run(5 * time.Second)
	until, strays := c.World.Now(), 0
	if c.o.Direct {
		strays = c.straysAtRest()
	}
	c.quiet = true
	c.Cluster.Run(2 * time.Second)
	if len(c.Breaches) > 0 {
		t.Fatalf("%v: %s", c, c.Breaches[0])
	}
	out := c.judgeStations()
	served, waited, pings, answered := 0, 0, 0, 0
	for _, s := range c.stations {
		for _, n := range s.conns {
			if n.Connected > 0 {
				served++
			}
			if n.Opened >= from && (n.Connected == 0 || n.Connected-n.Opened > 1100*ms) {
				waited++
			}
		}
		for _, p := range s.Pings {
			if p.At >= from && p.At < until {
				pings++
				answered += len(p.Answers)
			}
		}
	}
	if answered != pings {
		out = append(out, fmt.Sprintf("%d of %d echo requests are answered", answered, pings))
	}
	if len(out) > 0 || served < 100 {
		t.Fatalf("%v: %d served, %d faults, the first:\n%s", c, served, len(out), append(out, "too few")[0])
	}
	t.Logf("%v: %d connections served, %d of the last waited, %d strays in drained buckets, faults %v", c, served, waited, strays, c.Counts)
}

// TestFramesNodeDies: users of a dead node get a reset at their next word, within
// 3.5 s of the crash or one round trip of their word after that; the others notice
// nothing; who comes is served within one retransmission.
func TestFramesNodeDies(t *testing.T) {
	c := New(Options{Nodes: 4, Timing: cluster.LAN, DriftPPM: 200, Services: 1, Stations: 6}, 3)
	c.Boot(c.Hosts...)
	c.must(t, "every bucket is owned", 5*time.Second, c.AllOwned)
	c.Run(10 * time.Second)
	dead := c.Hosts[1]
	crash := c.World.Now()
	dead.crash()
	c.Run(8 * time.Second)
	c.quiet = true
	if len(c.Breaches) > 0 {
		t.Fatal(c.Breaches[0])
	}
	if out := c.judgeStations(); len(out) > 0 {
		t.Fatal(out[0])
	}
	reset, newcomers := 0, 0
	for _, s := range c.stations {
		for _, n := range s.conns {
			switch {
			case n.Opened > crash && n.Opened < crash+3*time.Second:
				newcomers++
				if n.Connected == 0 || n.Connected-n.Opened > 1100*ms {
					t.Errorf("%s port %d came %v after the crash and waited %v", s.Name, n.Port, n.Opened-crash, n.Connected-n.Opened)
				}
			case n.Connected > 0 && n.Connected < crash && c.ownerOf(n.SYNACKs[0].From) == dead && (n.Ended == 0 || n.Ended > crash):
				if n.State == sim.WasReset {
					reset++
				} else if !n.State.Over() {
					t.Errorf("%s port %d still waits for the dead node, %v", s.Name, n.Port, n.State)
				}
			}
		}
	}
	t.Logf("%d were reset, %d came", reset, newcomers)
	if reset == 0 || newcomers == 0 {
		t.Error("nothing was tried")
	}
}
