package scenario

import (
	"strings"
	"testing"
	"time"

	"onevoice/cluster"
)

// TestR7Behind: a node that hears the LAN and does not apply the log, because its
// disk takes no write or because datagrams do not reach it, may be given rows that
// it does not learn of. It is evicted within seconds, and comes back when it has
// caught up; its own flows were not lost to it if that was soon.
func TestR7Behind(t *testing.T) {
	why := map[string]func(c *Cluster, h *Host, d time.Duration){
		"full disk": func(_ *Cluster, h *Host, d time.Duration) { h.disk.Stall(d) },
		"no datagrams": func(c *Cluster, h *Host, d time.Duration) {
			c.Net.Unplug(h.net.Index, true)
			c.World.After(d, func() { c.Net.Unplug(h.net.Index, false) })
		},
	}
	for name, strike := range why {
		t.Run(name, func(t *testing.T) {
			c := rule(t, Options{Nodes: 5, Flows: 20})
			h, told := c.Hosts[4], 0
			h.story = func(_ *Host, n cluster.Note) {
				if n.Warn && strings.Contains(n.Text, "until it has caught up") {
					told++
				}
			}
			strike(c, h, 6*time.Second)
			c.Run(100 * ms)
			c.Hosts[1].crash()
			c.must(t, "it is given rows that it does not know", 2*time.Second, func() bool { return h.seen(c.Hosts[0]).Buckets["vip/10.77.0.2"] > h.owns() })
			took := c.must(t, "others own every bucket", 3*time.Second, func() bool { return h.owns() == 0 && c.AllOwned() })
			t.Logf("owned after %v", took)
			if told != 1 {
				t.Errorf("it was told %d times, want once", told)
			}
			c.must(t, "it is back", 15*time.Second, func() bool { return h.owns() > 0 })
		})
	}
}

// TestForgottenIsTold: a node that was forgotten and comes back with its old state
// has no lease, and is told why; nobody else is troubled.
func TestForgottenIsTold(t *testing.T) {
	c := rule(t, Options{Nodes: 4, Flows: 20})
	h, told := c.Hosts[3], ""
	h.crash()
	c.must(t, "it is out", 2*time.Second, func() bool { return !h.seen(c.Hosts[0]).In })
	n := c.Hosts[1].ask(cluster.Forget{Node: "n4"})
	c.must(t, "the wish is answered", 4*time.Second, func() bool { _, ok := c.Hosts[1].answers[n]; return ok })
	if seen := h.seen(c.Hosts[1]); seen.ID != 0 {
		t.Errorf("the wish was answered while the node was in the table: %+v", seen)
	}
	h.story = func(_ *Host, n cluster.Note) {
		if n.Warn && strings.Contains(n.Text, "removed from the cluster") {
			told = n.Text
		}
	}
	h.restart()
	c.must(t, "it is told", 3*time.Second, func() bool { return told != "" })
	c.never(t, "a node that was removed holds a lease", 5*time.Second, h.leased)
	if h.failed != nil {
		t.Errorf("it has stopped: %v", h.failed)
	}
}

// TestR18Replaced: a host that lost its state comes as a new one while workers of
// the old one are alive. The others have started anew and never heard the old one:
// they still wait until its flows may be reset.
func TestR18Replaced(t *testing.T) {
	c := rule(t, Options{Nodes: 5, Flows: 100})
	h := c.Hosts[4]
	h.kill()
	h.disk.Wipe()
	c.must(t, "it is evicted", time.Second, func() bool { return !h.seen(c.Hosts[0]).In })
	for _, o := range c.Hosts[:4] {
		o.kill()
		o.restart()
	}
	id := h.id
	h.restart()
	c.must(t, "it is in as another", 10*time.Second, func() bool { return h.id != id && h.seen(c.Hosts[0]).In })
}

// TestR18FreshVoters: a node that was evicted has a lease again, and is about to
// join, when nobody hears it any more and all others have started anew: none of
// them knows of its lease, and they must not take it for dead before it has been
// without one for 3 s.
func TestR18FreshVoters(t *testing.T) {
	c := rule(t, Options{Nodes: 5, Flows: 100})
	h := c.Hosts[4]
	c.Net.Unplug(h.net.Index, true)
	c.mute(h, true)
	c.must(t, "it is evicted", time.Second, func() bool { return !h.seen(c.Hosts[0]).In })
	c.mute(h, false)
	c.must(t, "it has a lease", 2*time.Second, h.leased)
	c.Run(800 * ms)
	c.mute(h, true)
	for _, o := range c.Hosts[:4] {
		o.crash()
		o.restart()
	}
	c.must(t, "it is taken for dead", 6*time.Second, func() bool { return h.seen(c.Hosts[0]).Orphaned })
}

// TestR18Leaving: a node is evicted while it stops, and so does not join again. It serves
// its flows under a lease until it ends, and is not taken for dead before: not by others,
// who hear of the lease, and not by itself, who holds it.
func TestR18Leaving(t *testing.T) {
	c := rule(t, Options{Nodes: 5, Flows: 100})
	h := c.Hosts[4]
	c.mute(h, true)
	h.step(cluster.Leave{})
	c.must(t, "it is evicted", time.Second, func() bool { return !h.seen(c.Hosts[0]).In })
	c.mute(h, false)
	c.must(t, "it has a lease", 2*time.Second, h.leased)
	if h.held() == 0 {
		t.Fatal("it holds no flow")
	}
	c.never(t, "it is taken for dead", 10*time.Second, func() bool { return h.seen(c.Hosts[0]).Orphaned })
	if !h.leased() || h.seen(h).In {
		t.Fatal("it has no lease, or is in: this tells nothing")
	}
	h.kill()
	c.must(t, "it is taken for dead", 5*time.Second, func() bool { return h.seen(c.Hosts[0]).Orphaned })
}
