package scenario

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"onevoice/cluster"
)

var (
	wholeSeeds = flag.Uint64("whole", 1, "how many seeds of chaos with netstack")
	scale      = flag.Bool("scale", false, "measure 4 nodes with 200 users for a minute")
)

// TestWholeChaos: under any fault, what users and the sniffer see is held to
// DESIGN.md's "What must hold", 2 to 6; when the faults are over, everybody is
// served.
func TestWholeChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector makes netstack slow; TestWholeCalm runs a small cluster under it")
	}
	for seed := *first; seed < *first+*wholeSeeds; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			c := NewChaos(seed, 30*time.Second)
			o := c.o
			o.Flows, o.Users, o.Paths, o.Services, o.Preferred, o.Dup = 0, 10, 1, 1, false, 0
			o.Nodes, o.Use = max(o.Nodes, 3), Use{Every: 500 * ms}
			c.Cluster = New(o, seed)
			defer c.Close()
			wholeChaos(t, c)
		})
	}
}

func wholeChaos(t *testing.T, c *Chaos) {
	c.Boot(c.Hosts[:c.founders]...)
	c.World.After(4*time.Second, c.fault)
	c.Cluster.Run(c.Duration)
	c.calm()
	c.undoWishes()
	c.comes("all is even and nobody on the move", evenWithin, c.atRest)
	from := c.World.Now()
	c.Cluster.Run(4 * time.Second)
	c.Quiet()
	c.Cluster.Run(20 * time.Second)
	r := c.JudgeUsers()
	t.Cleanup(func() {
		t.Logf("%v: %d begun, %d whole, %d lost, %d open, %d frames, faults %v", c, r.Begun, r.Whole, r.Lost, r.Open, r.Frames.Counts.Frames, c.Counts)
	})
	for _, x := range c.Exchanges() {
		if x.Opened >= from && (x.Connected == 0 || x.Connected-x.Opened > 4*time.Second || x.Err != nil) {
			r.Faults = append(r.Faults, "after the last fault: "+x.String())
		}
	}
	if len(r.Faults) > 0 {
		t.Errorf("%v: %d faults, the first:\n%s", c, len(r.Faults), r.Faults[0])
	}
	if r.Whole < 50 {
		t.Errorf("too little was tried: %+v", r)
	}
}

// TestWholeFrames: clients that are frames and no TCP, with ARP and echo, before
// whole workers; see TestFrames.
func TestWholeFrames(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector makes netstack slow; TestWholeCalm runs a small cluster under it")
	}
	c := NewChaos(*first, 30*time.Second)
	o := c.o
	o.Flows, o.Stations, o.Paths, o.Services, o.Preferred, o.Loss, o.Dup, o.Reorder = 0, 6, 1, 1, false, 0, 0, 0
	o.Nodes, o.Netstack = max(o.Nodes, 3), true
	c.Cluster = New(o, *first)
	defer c.Close()
	runFrames(t, c)
}

// TestWholeScale measures; `make sim-scale` runs it.
func TestWholeScale(t *testing.T) {
	if !*scale {
		t.Skip("make sim-scale runs it")
	}
	c := New(Options{Nodes: 4, Timing: cluster.LAN, DriftPPM: 200, Services: 1, Users: 200}, 1)
	defer c.Close()
	c.Boot(c.Hosts...)
	began := time.Now()
	c.Run(60 * time.Second)
	took := time.Since(began)
	c.Quiet()
	c.Run(20 * time.Second)
	r := c.JudgeUsers()
	t.Logf("60 s of 4 nodes and 200 users took %v: %d exchanges, %d whole, %.0f MB, %d frames at the switch, %d events",
		took.Round(10*ms), r.Begun, r.Whole, float64(r.Bytes)/1e6, r.Frames.Counts.Frames, c.World.Events())
	if len(r.Faults) > 0 || r.Lost+r.Open > 0 {
		t.Errorf("%d lost, %d open, faults %v", r.Lost, r.Open, r.Faults)
	}
}
