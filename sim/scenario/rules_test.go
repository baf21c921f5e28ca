package scenario

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"onevoice/cluster"
)

// These tests have the names of the rules in OWNERSHIP.md. Each enters by real
// cores on a simulated LAN; what holds after every event is checked besides.

// rule begins with a cluster at rest.
func rule(t *testing.T, o Options) *Cluster {
	t.Helper()
	if o.Timing == "" {
		o.Timing = cluster.LAN
	}
	o.DriftPPM = 900
	c := watched(t, o)
	c.Boot(c.Hosts...)
	c.must(t, "every bucket is owned", 5*time.Second, c.AllOwned)
	c.must(t, "all are in with even shares", 30*time.Second, (&Chaos{Cluster: c}).atRest)
	return c
}

// watched is a cluster whose hosts are off, and whose first breach fails the test.
func watched(t *testing.T, o Options) *Cluster {
	t.Helper()
	c := New(o, 7)
	t.Cleanup(func() {
		if len(c.Breaches) > 0 {
			t.Error(c.Breaches[0])
		}
	})
	return c
}

func (c *Cluster) must(t *testing.T, what string, within time.Duration, holds func() bool) time.Duration {
	t.Helper()
	took, ok := c.Until(within, holds)
	if !ok {
		t.Fatalf("%v later it is not so that %s: %v\n%s", within, what, c.Breaches, c.describe())
	}
	return took
}

// never runs for a while in which something must not come to be.
func (c *Cluster) never(t *testing.T, what string, during time.Duration, happens func() bool) {
	t.Helper()
	if _, ok := c.Until(during, happens); ok {
		t.Fatalf("%s\n%s", what, c.describe())
	}
}

func (h *Host) owns() int { return count(h.accepts(0, 0)) }

// seen is how another host's table has this one.
func (h *Host) seen(by *Host) cluster.HostStatus {
	for _, s := range by.core.Status(by.clock.Now()).Hosts {
		if s.ID == h.id {
			return s
		}
	}
	return cluster.HostStatus{}
}

func (h *Host) voters() int { return len(h.core.Status(h.clock.Now()).Voters) }

func (c *Cluster) deafen(h *Host, on bool) {
	for p := range c.LANs {
		c.LANs[p].Deafen(h.ports[p].Index, on)
	}
}

func (c *Cluster) mute(h *Host, on bool) {
	for p := range c.LANs {
		c.LANs[p].Mute(h.ports[p].Index, on)
	}
}

func TestR1WhoVotes(t *testing.T) {
	for _, is := range []struct {
		o    Options
		want int
	}{
		{Options{Nodes: 1}, 1}, {Options{Nodes: 2, Preferred: true}, 1}, {Options{Nodes: 3}, 3}, {Options{Nodes: 4}, 3},
		{Options{Nodes: 5}, 5}, {Options{Nodes: 7}, 5}, {Options{Nodes: 2, Witness: true}, 3}, {Options{Nodes: 3, Witness: true}, 3},
		{Options{Nodes: 4, Witness: true}, 5}, {Options{Nodes: 6, Witness: true}, 5},
	} {
		c := rule(t, is.o)
		if got := c.Hosts[0].voters(); got != is.want {
			t.Errorf("%+v: %d vote, want %d", is.o, got, is.want)
		}
	}
}

// TestR1VoterChange: a voter that votes no more by its file is replaced, and the
// set that it was in is settled.
func TestR1VoterChange(t *testing.T) {
	c := rule(t, Options{Nodes: 4, Flows: 20})
	h := c.Hosts[0]
	h.votes = "no"
	h.kill()
	h.restart()
	c.must(t, "n4 votes instead of n1", 10*time.Second, func() bool {
		st := c.Hosts[1].core.Status(c.Hosts[1].clock.Now())
		return len(st.Voters) == 3 && !slices.Contains(st.Voters, h.id) && slices.Contains(st.Voters, c.Hosts[3].id)
	})
	c.Hosts[1].crash()
	c.must(t, "the new voters are enough", time.Second, c.AllOwned)
}

// TestR1ThirtyTwo: as many nodes as there may be.
func TestR1ThirtyTwo(t *testing.T) {
	c := rule(t, Options{Nodes: cluster.MaxHosts})
	c.Hosts[7].crash()
	c.must(t, "every bucket is owned", 500*ms, c.AllOwned)
	c.Hosts[7].restart()
	c.must(t, "it is in", 10*time.Second, func() bool { return c.Hosts[7].owns() > 0 })
}

// TestR2NoOwnerNoAnswer: without a majority the last node accepts nothing once its
// lease is over.
func TestR2NoOwnerNoAnswer(t *testing.T) {
	c := rule(t, Options{Nodes: 3})
	c.Hosts[0].crash()
	c.Hosts[1].crash()
	c.Run(400 * ms)
	c.never(t, "a node without a majority accepts", 5*time.Second, func() bool { return c.Owned(0) > 0 })
}

// TestR3Mapping: a node whose file differs accepts nothing; the new mapping waits
// for all holders; then everybody who held flows drains every bucket.
func TestR3Mapping(t *testing.T) {
	c := rule(t, Options{Nodes: 3, Services: 1, Flows: 100})
	odd := c.Hosts[2]
	odd.services[1].Digest[1] = 9
	odd.kill()
	odd.restart()
	c.must(t, "the others have the odd one's buckets", 5*time.Second, func() bool {
		return count(odd.accepts(1, 0)) == 0 && c.Owned(1) == 256 && odd.owns() > 0
	})
	if !odd.worker.rights.Elsewhere || c.Hosts[0].worker.rights.Elsewhere {
		t.Errorf("ports of others: the odd one knows of some: %v, the others: %v; want only the odd one", odd.worker.rights.Elsewhere, c.Hosts[0].worker.rights.Elsewhere)
	}
	slow := c.Hosts[1]
	slow.worker.slow = slow.workers.Now() + time.Second
	before := slow.worker.rights.Services[1].Mapping
	c.Hosts[0].ask(cluster.Remap{Service: c.services[1].Name, Mapping: cluster.Mapping{Digest: odd.services[1].Digest, Key: cluster.Key{7}}})
	c.never(t, "a new mapping did not wait for a holder", 900*ms, func() bool { return c.Hosts[0].worker.rights.Services[1].Mapping != before })
	c.must(t, "the odd one has it all: it alone has the new definition", 5*time.Second, func() bool { return count(odd.accepts(1, 0)) == 256 })
	if count(odd.worker.rights.Services[1].Shared) == 0 {
		t.Error("no bucket is shared with those who held flows under the mapping before")
	}
}

// TestR3ServiceInSomeFiles: whose file lacks a service knows that others may serve it,
// and drains what an earlier worker of it may hold.
func TestR3ServiceInSomeFiles(t *testing.T) {
	c := rule(t, Options{Nodes: 3, Services: 1, Flows: 100})
	odd := c.Hosts[2]
	if odd.worker.rights.Elsewhere {
		t.Error("with equal files ports are of others")
	}
	odd.crash()
	odd.services[1].Name = "another"
	odd.restart()
	c.must(t, "the others have the service", 5*time.Second, func() bool { return c.Owned(1) == 256 && odd.owns() > 0 })
	if !odd.worker.rights.Elsewhere {
		t.Error("a node without the service speaks for its port")
	}
}

func TestR4SmallestChange(t *testing.T) {
	c := rule(t, Options{Nodes: 4})
	before := c.owners()
	c.Hosts[1].crash()
	c.must(t, "every bucket is owned", time.Second, c.AllOwned)
	for b, o := range c.owners() {
		if before[b] != 2 && o != before[b] {
			t.Errorf("bucket %d went from n%d to n%d, and n2 died", b, before[b], o)
		}
	}
	// Planned moves: at most 16 at once.
	c.Hosts[1].restart()
	c.Run(20 * time.Second)
	most, last := 0, c.owners()
	c.Hosts[0].ask(cluster.Drain{Node: "n3"})
	for range 3000 {
		c.Run(ms)
		moved, now := 0, c.owners()
		for b := range now {
			if now[b] != last[b] && now[b] != 0 {
				moved++
			}
			if now[b] != 0 {
				last[b] = now[b]
			}
		}
		most = max(most, moved)
	}
	if c.Hosts[2].owns() != 0 || most > 16 || most == 0 {
		t.Errorf("n3 owns %d and drains; at most %d buckets moved in a millisecond, want 1 to 16", c.Hosts[2].owns(), most)
	}
}

// TestR5EveryPrefix: a host that dies within any of its writes comes back as
// itself, and agrees with the others.
func TestR5EveryPrefix(t *testing.T) {
	c := rule(t, Options{Nodes: 3, Snapshot: 5, Keep: 2, Flows: 20})
	h := c.Hosts[1]
	id := h.id
	for i := range 60 {
		c.Hosts[0].ask(cluster.Weigh{Node: "n3", Weight: uint32(90 + i%20)})
		c.Run(time.Duration(c.World.Rand().Int64N(int64(12 * ms))))
		h.crash()
		c.Run(20 * ms)
		h.restart()
		if h.id != id {
			t.Fatalf("crash %d: n2 was %x and comes back as %x", i, id, h.id)
		}
		c.must(t, "it is in", 5*time.Second, func() bool { return h.failed == nil && h.leased() && h.seen(c.Hosts[0]).In })
	}
}

func TestR5LostState(t *testing.T) {
	c := rule(t, Options{Nodes: 3})
	h := c.Hosts[2]
	id := h.id
	h.wipe()
	c.Run(200 * ms)
	h.restart()
	c.must(t, "it is in, and votes, as another", 15*time.Second, func() bool {
		st := c.Hosts[0].core.Status(c.Hosts[0].clock.Now())
		return h.id != id && len(st.Hosts) == 3 && slices.Contains(st.Voters, h.id) && h.seen(c.Hosts[0]).In
	})
}

func TestR5Bootstrap(t *testing.T) {
	c := New(Options{Nodes: 3, Timing: cluster.LAN}, 1)
	c.Boot(c.Hosts[:2]...)
	c.never(t, "a cluster without one of its named peers", 5*time.Second, func() bool { return c.Owned(0) > 0 })
	// An operator on each of two hosts leaves out another one: one cluster at most.
	for seed := range uint64(20) {
		c := New(Options{Nodes: 3, Timing: cluster.LAN, Loss: 0.1}, seed)
		c.Hosts[0].without = append(c.Hosts[0].without, c.Hosts[2].addr)
		c.Hosts[1].without = append(c.Hosts[1].without, c.Hosts[0].addr)
		c.Boot(c.Hosts...)
		for range 20 {
			c.Run(time.Duration(c.World.Rand().Int64N(int64(400 * ms))))
			h := c.Hosts[c.World.Rand().IntN(3)]
			h.crash()
			h.restart()
		}
		c.Run(3 * time.Second)
		uuids := map[[16]byte]bool{}
		for _, h := range c.Hosts {
			if id := h.core.Status(h.clock.Now()).UUID; id != [16]byte{} {
				uuids[id] = true
			}
		}
		if len(uuids) > 1 {
			t.Fatalf("seed %d: %d clusters\n%s", seed, len(uuids), c.describe())
		}
	}
	// A minority founds only by force.
	for _, forced := range []bool{false, true} {
		c := New(Options{Nodes: 3, Timing: cluster.LAN}, 2)
		h := c.Hosts[0]
		h.without, h.forced = append(h.without, c.Hosts[1].addr, c.Hosts[2].addr), forced
		c.Boot(h)
		if _, ok := c.Until(5*time.Second, c.AllOwned); ok != forced {
			t.Errorf("forced %v: one of three founds alone: %v", forced, ok)
		}
	}
}

// TestR6LeaseIsOfTheLAN: a node that is off the LAN has no lease, whatever it
// hears elsewhere.
func TestR6LeaseIsOfTheLAN(t *testing.T) {
	c := rule(t, Options{Nodes: 3})
	c.LANs[0].Unplug(c.Hosts[0].ports[0].Index, true)
	c.Run(300 * ms)
	c.never(t, "a node off the LAN holds a lease", 3*time.Second, c.Hosts[0].leased)
}

// TestR6TwoPaths: a node that is deaf on one path keeps the other's services.
func TestR6TwoPaths(t *testing.T) {
	c := rule(t, Options{Nodes: 3, Services: 2, Paths: 2})
	h := c.Hosts[0]
	c.LANs[1].Deafen(h.ports[1].Index, true)
	c.must(t, "the second service is the others'", 3*time.Second, func() bool { return count(h.accepts(2, 0)) == 0 && c.Owned(2) == 256 })
	if h.owns() == 0 {
		t.Error("it lost what is on the path that it hears")
	}
}

func TestR7Deaf(t *testing.T) {
	c := rule(t, Options{Nodes: 3, Flows: 20})
	for _, h := range c.Hosts {
		c.deafen(h, true)
		took := c.must(t, "others own a deaf node's buckets", time.Second, func() bool { return h.owns() == 0 && c.AllOwned() })
		t.Logf("%s deaf: %v", h.Name, took)
		c.Run(4 * time.Second)
		c.deafen(h, false)
		back := c.must(t, "it owns buckets again", 10*time.Second, func() bool { return h.owns() > 0 })
		if back < time.Second {
			t.Errorf("a deaf node got rows %v after it heard again", back)
		}
		c.Run(15 * time.Second)
	}
}

func TestR7TimingChange(t *testing.T) {
	c := rule(t, Options{Nodes: 3, Timing: cluster.Calm, Flows: 20})
	fast, _ := cluster.TimingOf(cluster.Fast)
	c.Hosts[0].ask(cluster.Retime{Timing: fast})
	c.Run(2 * time.Second)
	c.Hosts[1].crash()
	took := c.must(t, "every bucket is owned", 5*time.Second, c.AllOwned)
	if took > 300*ms {
		t.Errorf("under fast timing it took %v", took)
	}
}

// TestR8RefusedByOne: a node that one voter does not hear renews its epoch, and
// loses no bucket.
func TestR8RefusedByOne(t *testing.T) {
	c := rule(t, Options{Nodes: 3})
	before, epoch := c.owners(), c.Hosts[0].seen(c.Hosts[0]).Epoch
	c.LANs[0].Cut(c.Hosts[0].ports[0].Index, c.Hosts[1].ports[0].Index, true)
	c.must(t, "it has another epoch", 3*time.Second, func() bool { return c.Hosts[0].seen(c.Hosts[2]).Epoch > epoch })
	c.never(t, "a bucket has moved", 2*time.Second, func() bool { return c.owners() != before })
}

// TestR9NoWithdrawalAfterRestart: voters that forget what they promised give
// nobody's rows away while that lasts.
func TestR9NoWithdrawalAfterRestart(t *testing.T) {
	for seed := range uint64(30) {
		c := rule(t, Options{Nodes: 3, Timing: cluster.Calm})
		c.Run(time.Duration(seed) * 7 * ms)
		h := c.Hosts[0]
		c.mute(h, true)
		c.Hosts[1].crash()
		c.Hosts[2].crash()
		c.Run(5 * ms)
		c.Hosts[1].restart()
		c.Hosts[2].restart()
		c.must(t, "the restarted own every bucket", 5*time.Second, func() bool { return h.owns() == 0 && c.AllOwned() })
	}
}

// TestR9CrashAndRestart: one crash plus one restart does not stick for ever.
func TestR9CrashAndRestart(t *testing.T) {
	c := rule(t, Options{Nodes: 3})
	c.Hosts[0].crash()
	c.Hosts[1].crash()
	c.Run(100 * ms)
	c.Hosts[1].restart()
	c.must(t, "every bucket is owned", 3*time.Second, c.AllOwned)
}

// TestR10Suspend: after a gap a lease begins anew.
func TestR10Suspend(t *testing.T) {
	c := rule(t, Options{Nodes: 3})
	h := c.Hosts[0]
	began := h.page.leases[0].begin
	c.Run(100 * ms)
	if h.page.leases[0].begin != began {
		t.Fatal("the lease did not last")
	}
	h.clock.Pause(180 * ms)
	c.Run(181 * ms)
	woke := h.clock.Now() - 10*ms
	c.must(t, "it has a lease", time.Second, h.leased)
	if h.page.leases[0].begin < woke {
		t.Error("the lease from before the gap goes on")
	}
}

// TestR10FrozenClock shows what breaks when the assumption of a clock that does
// not stop does: a frozen machine answers beside the new owner.
func TestR10FrozenClock(t *testing.T) {
	c := rule(t, Options{Nodes: 3})
	h := c.Hosts[0]
	h.clock.Freeze(time.Second)
	h.workers.Pause(time.Second)
	c.Run(1200 * ms)
	if len(c.Breaches) == 0 || !strings.Contains(c.Breaches[0], "two owners") {
		t.Fatalf("a machine that was frozen for a second and its clock with it is not seen to answer: %v", c.Breaches)
	}
	c.Breaches = nil
}

func TestR11Witness(t *testing.T) {
	for gateway := range 2 {
		t.Run(fmt.Sprintf("the gateway answers n%d", gateway+1), func(t *testing.T) {
			c := rule(t, Options{Nodes: 2, Witness: true, Flows: 20})
			a, b := c.Hosts[gateway], c.Hosts[1-gateway]
			a.step(cluster.Beat{Gateway: true})
			c.Run(100 * ms)
			c.LANs[0].Partition([][]int{{a.ports[0].Index}, {b.ports[0].Index}}, true)
			c.must(t, "who has the gateway owns all", time.Second, func() bool { return a.owns() == 256 && b.owns() == 0 })
			c.never(t, "it goes back and forth", 5*time.Second, func() bool { return a.owns() != 256 })
			c.LANs[0].Heal()
			c.must(t, "both own again", 30*time.Second, func() bool { return b.owns() > 100 })
		})
	}
}

func TestR11WitnessOfTheLast(t *testing.T) {
	for i := range 2 {
		c := rule(t, Options{Nodes: 2, Witness: true})
		c.Hosts[i].crash()
		c.must(t, "the other owns all", 500*ms, c.AllOwned)
	}
	c := rule(t, Options{Nodes: 2, Witness: true})
	c.Hosts[2].crash()
	c.never(t, "two nodes need no witness while both live", 5*time.Second, func() bool { return !c.AllOwned() })
}

// TestR11PreferredGrows: two nodes of which one decides, and then two more: three
// vote, and the first is not needed any more.
func TestR11PreferredGrows(t *testing.T) {
	c := rule(t, Options{Nodes: 2, Late: 2, Preferred: true})
	voters := func(h *Host, want int) func() bool { return func() bool { return h.voters() == want } }
	c.must(t, "three vote", 20*time.Second, voters(c.Hosts[0], 3))
	c.must(t, "every bucket is owned", 20*time.Second, c.AllOwned)
	c.Hosts[0].crash()
	c.must(t, "the others serve without the first", 500*ms, c.AllOwned)
	c.Hosts[0].restart()
	c.must(t, "the first is in again", 10*time.Second, func() bool { return c.Hosts[0].owns() > 0 })
}

func TestR11Preferred(t *testing.T) {
	c := rule(t, Options{Nodes: 2, Preferred: true})
	c.Hosts[1].crash()
	c.must(t, "the preferred node owns all", 500*ms, c.AllOwned)
	c = rule(t, Options{Nodes: 2, Preferred: true})
	c.Hosts[0].crash()
	c.Run(400 * ms)
	c.never(t, "the other serves without the preferred node", 5*time.Second, func() bool { return c.Owned(0) > 0 })
	c.Hosts[0].restart()
	c.must(t, "the preferred node is back", 3*time.Second, c.AllOwned)
}
