package scenario

import (
	"testing"
	"time"

	"onevoice/cluster"
)

// hush keeps what one host sends on the LAN from others.
func (c *Cluster) hush(from *Host, on bool, to ...*Host) {
	for _, o := range to {
		c.LANs[0].Cut(from.ports[0].Index, o.ports[0].Index, on)
	}
}

// others are the nodes without some.
func (c *Cluster) others(but ...*Host) (out []*Host) {
	for _, h := range c.Hosts {
		is := false
		for _, b := range but {
			is = is || h == b
		}
		if !is {
			out = append(out, h)
		}
	}
	return out
}

// TestR8WithdrawnForGood: an eviction rests on a voter's withdrawal; then the voter
// hears the evicted node again, which knows nothing of all that and asks for a
// promise to the same epoch. In between the voter may have started anew, its disk
// may have been slow, and its log been made an image.
func TestR8WithdrawnForGood(t *testing.T) {
	for _, v := range []struct {
		name     string
		snapshot uint64
		stall    time.Duration
		crash    bool
	}{
		{name: "no crash"}, {name: "a crash", crash: true}, {name: "an image and a crash", snapshot: 2, crash: true},
		{name: "a slow disk and a crash", stall: 900 * ms, crash: true},
	} {
		t.Run(v.name, func(t *testing.T) {
			// A member that is out gets its tries in turns of its own clock.
			step := 60 * ms
			if testing.Short() {
				step *= 5
			}
			for phase := time.Duration(0); phase < 1200*ms; phase += step {
				withdrawnForGood(t, Options{Nodes: 5, Snapshot: v.snapshot, Keep: 1}, phase, v.stall, v.crash)
			}
		})
	}
}

func withdrawnForGood(t *testing.T, o Options, phase, stall time.Duration, crash bool) {
	c := rule(t, o)
	c.Run(phase)
	lead := c.leader()
	rest := c.others(lead)
	node, voter, third := rest[0], rest[1], rest[2]
	c.Net.Unplug(node.net.Index, true)
	// The fifth goes on hearing it. What it is refused it does not hear, or it would
	// go on to another epoch.
	c.hush(node, true, lead, voter, third)
	for _, h := range []*Host{lead, voter, third} {
		c.hush(h, true, node)
	}
	c.Run(200 * ms)
	if stall > 0 {
		voter.disk.Stall(stall)
	}
	c.Run(300 * ms)
	for i := range 8 {
		lead.ask(cluster.Weigh{Node: third.Name, Weight: uint32(100 + i%2)})
		c.Run(10 * ms)
	}
	if crash {
		voter.crash()
		voter.restart()
	}
	c.hush(node, false, voter)
	c.hush(voter, false, node)
	c.Run(1500 * ms)
}

// TestR8Renewing: a node that one voter refuses asks for its old epoch and a new
// one, as long as agreement is away; promises to the new one are none to the old,
// and who supports both goes on doing so.
func TestR8Renewing(t *testing.T) {
	t.Run("the other voter goes on", func(t *testing.T) {
		c := rule(t, Options{Nodes: 3})
		node, a := c.Hosts[0], c.Hosts[1]
		before := node.owns()
		c.Net.Unplug(node.net.Index, true)
		c.hush(node, true, a)
		c.Run(400 * ms)
		c.hush(node, false, a)
		c.never(t, "its buckets went", 700*ms, func() bool { return node.owns() != before })
	})
	t.Run("the other voter withdraws too", func(t *testing.T) {
		c := rule(t, Options{Nodes: 3})
		node, a, b := c.Hosts[0], c.Hosts[1], c.Hosts[2]
		alone := [][]int{{node.net.Index}, {a.net.Index}, {b.net.Index}}
		c.Net.Partition(alone, true)
		c.hush(node, true, a)
		c.Run(400 * ms)
		c.hush(node, false, a)
		c.Run(200 * ms)
		c.hush(node, true, b)
		c.Run(150 * ms)
		c.Net.Partition(alone, false)
		c.Net.Unplug(node.net.Index, true)
		c.Run(2 * time.Second)
	})
}

// TestR7ShrunkTTL: what was promised under a longer TTL is held, by voters that
// have started since, after the cluster has agreed on a shorter one.
func TestR7ShrunkTTL(t *testing.T) {
	for _, snapshot := range []uint64{0, 2} {
		c := rule(t, Options{Nodes: 5, Timing: cluster.Calm, Snapshot: snapshot, Keep: 1})
		lead := c.leader()
		node := c.others(lead)[0]
		fast, _ := cluster.TimingOf(cluster.Fast)
		c.Net.Unplug(node.net.Index, true)
		c.mute(node, true)
		lead.ask(cluster.Retime{Timing: fast})
		c.Run(40 * ms)
		for _, h := range c.others(lead, node) {
			h.crash()
			h.restart()
		}
		c.must(t, "the others own every bucket", 5*time.Second, func() bool { return node.owns() == 0 && c.AllOwned() })
	}
}

// TestR9HoldUnderALeader: voters that start anew know no promise, and the leader
// that could evict at once is there all the time.
func TestR9HoldUnderALeader(t *testing.T) {
	for seed := range uint64(10) {
		c := rule(t, Options{Nodes: 5})
		c.Run(time.Duration(seed) * 7 * ms)
		lead := c.leader()
		node := c.others(lead)[0]
		c.mute(node, true)
		for _, h := range c.others(lead, node) {
			h.crash()
			h.restart()
		}
		c.must(t, "the others own every bucket", 5*time.Second, func() bool { return node.owns() == 0 && c.AllOwned() })
	}
}
