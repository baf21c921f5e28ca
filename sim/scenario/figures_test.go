package scenario

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"onevoice/cluster"
)

var figures = flag.Int("figures", 12, "how often each figure is measured")

const ms = time.Millisecond

// settled is a cluster that has been at rest for a random while.
func settled(t *testing.T, o Options, seed uint64) *Cluster {
	t.Helper()
	o.Timing, o.DriftPPM = cluster.LAN, 200
	c := New(o, seed)
	for _, h := range c.Hosts {
		h.disk.StallFor = 10 * ms // L1: fsync p99 is 10 ms at most
	}
	c.Boot(c.Hosts...)
	if _, ok := c.Until(5*time.Second, c.AllOwned); !ok {
		t.Fatalf("seed %d: it never starts: %v\n%s", seed, c.Breaches, c.describe())
	}
	c.Run(time.Second + time.Duration(c.World.Rand().Int64N(int64(200*ms))))
	return c
}

// leader is the node that leads, as it knows itself.
func (c *Cluster) leader() *Host {
	for _, h := range c.Hosts {
		if h.up && h.core.Status(h.clock.Now()).Leader == h.id {
			return h
		}
	}
	return nil
}

// measure collects a figure over many seeds and holds it to its bounds.
func measure(t *testing.T, name string, p50, p99 time.Duration, one func(seed uint64) time.Duration) {
	t.Helper()
	var all []time.Duration
	for seed := range *figures {
		all = append(all, one(uint64(seed+1)))
	}
	slices.Sort(all)
	at := func(p int) time.Duration { return all[(len(all)-1)*p/100] }
	text := fmt.Sprintf("%s: p50 %v, p99 %v, most %v, of %d", name, at(50).Round(ms), at(99).Round(ms), at(100).Round(ms), len(all))
	t.Log(text)
	if at(50) > p50 || at(99) > p99 {
		t.Errorf("%s; the bounds are %v and %v", text, p50, p99)
	}
}

// crashed is how long after the crash of a host every bucket has an owner.
func crashed(t *testing.T, c *Cluster, seed uint64, h *Host) time.Duration {
	h.crash()
	took, ok := c.Until(5*time.Second, c.AllOwned)
	if !ok {
		t.Fatalf("seed %d: not every bucket has an owner: %v\n%s", seed, c.Breaches, c.describe())
	}
	return took
}

func TestFigureCrash(t *testing.T) {
	for name, o := range map[string]Options{
		"3 nodes": {Nodes: 3}, "4 nodes": {Nodes: 4}, "7 nodes": {Nodes: 7}, "2 nodes and a witness": {Nodes: 2, Witness: true},
	} {
		measure(t, name+", crash of the leader to every bucket owned", 300*ms, 500*ms, func(seed uint64) time.Duration {
			c := settled(t, o, seed)
			h := c.leader()
			if h.role == cluster.Witness {
				h = c.Hosts[seed%2]
			}
			return crashed(t, c, seed, h)
		})
		measure(t, name+", crash of another to every bucket owned", 300*ms, 500*ms, func(seed uint64) time.Duration {
			c := settled(t, o, seed)
			others := slices.DeleteFunc(slices.Clone(c.Hosts), func(h *Host) bool { return h == c.leader() || h.role == cluster.Witness })
			return crashed(t, c, seed, others[c.World.Rand().IntN(len(others))])
		})
	}
}

func TestFigureMove(t *testing.T) {
	measure(t, "a planned move", 50*ms, 50*ms, func(seed uint64) time.Duration {
		c := settled(t, Options{Nodes: 4}, seed)
		r := c.World.Rand()
		to, bucket := c.Hosts[r.IntN(4)], uint8(r.IntN(256))
		has := func() bool { a := to.accepts(0, 0); return a[bucket/64]&(1<<(bucket%64)) != 0 }
		for has() {
			bucket++
		}
		c.Hosts[r.IntN(4)].ask(cluster.Move{Service: c.services[0].Name, Bucket: bucket, Node: to.Name})
		took, ok := c.Until(time.Second, has)
		if !ok {
			t.Fatalf("seed %d: the bucket never moves: %v\n%s", seed, c.Breaches, c.describe())
		}
		return took
	})
}

func TestFigureColdStart(t *testing.T) {
	start := func(c *Cluster, seed uint64, on func(h *Host)) time.Duration {
		for _, h := range c.Hosts {
			c.World.After(time.Duration(c.World.Rand().Int64N(int64(300*ms))), func() { on(h) })
		}
		took, ok := c.Until(10*time.Second, c.AllOwned)
		if !ok {
			t.Fatalf("seed %d: it never starts: %v\n%s", seed, c.Breaches, c.describe())
		}
		return took
	}
	measure(t, "bootstrap of 5 nodes switched on within 300 ms", 3*time.Second, 3*time.Second, func(seed uint64) time.Duration {
		return start(New(Options{Nodes: 5, Timing: cluster.LAN, DriftPPM: 200}, seed), seed, (*Host).boot)
	})
	measure(t, "all 5 nodes off and on within 300 ms", 3*time.Second, 3*time.Second, func(seed uint64) time.Duration {
		c := settled(t, Options{Nodes: 5}, seed)
		for _, h := range c.Hosts {
			h.crash()
		}
		c.Run(time.Second)
		return start(c, seed, (*Host).restart)
	})
}

// TestFigureStall: a node that stands still for 200 ms keeps its buckets.
func TestFigureStall(t *testing.T) {
	for seed := range *figures {
		c := settled(t, Options{Nodes: 4}, uint64(seed+1))
		before := c.owners()
		h := c.Hosts[seed%4]
		h.clock.Pause(200 * ms)
		h.workers.Pause(200 * ms)
		c.Run(2 * time.Second)
		if after := c.owners(); after != before || len(c.Breaches) > 0 {
			t.Fatalf("seed %d: a stall of 200 ms of %s moves buckets: %v\n%s", seed+1, h, c.Breaches, c.describe())
		}
	}
}

// owners is who accepts in each bucket of the first service.
func (c *Cluster) owners() (out [256]byte) {
	for i, h := range c.Hosts {
		a := h.accepts(0, 0)
		for b := range out {
			if a[b/64]&(1<<(b%64)) != 0 {
				out[b] = byte(i + 1)
			}
		}
	}
	return out
}
