package scenario

import (
	"slices"
	"testing"
	"time"

	"onevoice/cluster"
)

// grain is how closely a test looks that has to act between two messages.
const grain = 20 * time.Microsecond

// closely is Until in grains.
func (c *Cluster) closely(t *testing.T, what string, within time.Duration, holds func() bool) {
	t.Helper()
	for by := c.World.Now() + within; !holds(); c.Run(grain) {
		if c.World.Now() > by || len(c.Breaches) > 0 {
			t.Fatalf("%v later it is not so that %s: %v\n%s", within, what, c.Breaches, c.describe())
		}
	}
}

// TestR8OlderSet: a node's lease rests on the voters that it knows. A voter more
// has come since, of which it and another have not heard, and who have come
// withdraw: they must not evict it before the older voters have, too.
func TestR8OlderSet(t *testing.T) {
	for phase := range time.Duration(8) {
		c := watched(t, Options{Nodes: 4, Late: 1, Timing: cluster.LAN, DriftPPM: 900})
		c.Boot(c.Hosts[:4]...)
		c.must(t, "every bucket is owned", 5*time.Second, c.AllOwned)
		c.Run(time.Second)
		c.Run(phase * 9 * ms)
		lead := c.leader()
		st := lead.core.Status(lead.clock.Now())
		var voters, learner []*Host
		for _, h := range c.others(lead, c.Hosts[4]) {
			if slices.Contains(st.Voters, h.id) {
				voters = append(voters, h)
			} else {
				learner = append(learner, h)
			}
		}
		if len(voters) != 2 || len(learner) != 1 {
			continue // the learner leads the way into the cluster, and nothing else
		}
		node, a, comer := voters[0], voters[1], learner[0]
		c.Net.Unplug(node.net.Index, true)
		c.Hosts[4].boot()
		c.closely(t, "the leader has a voter more", 10*time.Second, func() bool { return lead.voters() == 4 })
		// The other old voter has written the change down, and does not hear that it
		// was agreed on.
		c.Net.Unplug(a.net.Index, true)
		c.hush(node, true, lead, comer)
		c.must(t, "the new voter knows it", time.Second, func() bool { return comer.voters() == 4 })
		c.Run(600 * ms)
		c.Net.Unplug(a.net.Index, false)
		c.Run(1500 * ms)
		if len(c.Breaches) > 0 {
			return
		}
	}
}

// TestR8RemovedVoter: who votes no more still counts for leases that rest on the
// voters before, and withdraws as they do. One voter dies, and another is off
// the LAN and still agrees: only with the third withdrawal are they evicted.
func TestR8RemovedVoter(t *testing.T) {
	c := rule(t, Options{Nodes: 5})
	lead := c.leader()
	rest := c.others(lead)
	rest[0].votes = "no"
	rest[0].kill()
	rest[0].restart()
	c.closely(t, "one votes no more", 5*time.Second, func() bool { return lead.voters() == 4 })
	// Two are dropped, one after the other. Who is next is cut off the LAN, so
	// that the voters after that have a majority.
	cut, dead := rest[0], rest[1]
	if !slices.Contains(lead.core.Status(lead.clock.Now()).Voters, cut.id) {
		cut = rest[3]
	}
	dead.crash()
	c.LANs[0].Unplug(cut.ports[0].Index, true)
	c.must(t, "others own every bucket", 3*time.Second, func() bool { return cut.owns() == 0 && c.AllOwned() })
}

// TestR5VoteIsWritten: a voter that has voted, and starts anew at once, does not
// vote for another host in the same term: there would be two leaders, and two
// histories.
func TestR5VoteIsWritten(t *testing.T) {
	for phase := range time.Duration(6) {
		c := rule(t, Options{Nodes: 3})
		c.Run(phase * 11 * ms)
		voter := c.leader()
		rest := c.others(voter)
		c.Net.Partition([][]int{{rest[0].net.Index}, {rest[1].net.Index}}, true)
		voter.crash()
		c.Run(500 * ms)
		voter.restart()
		leads := func(h *Host) bool { return h.up && h.core.Status(h.clock.Now()).Leader == h.id }
		var first *Host
		c.closely(t, "one of the others leads", 5*time.Second, func() bool {
			for _, h := range rest {
				if leads(h) {
					first = h
				}
			}
			return first != nil || leads(voter)
		})
		if first == nil {
			continue // the voter itself was faster
		}
		second := c.others(voter, first)[0]
		both := [][]int{{first.net.Index}, {voter.net.Index}}
		c.Net.Partition(both, true)
		voter.crash()
		c.Run(2 * ms) // what was on its way to it is lost
		voter.restart()
		for i := range 8 {
			first.ask(cluster.Weigh{Node: "n1", Weight: uint32(100 + i)})
		}
		c.must(t, "there is a leader of the majority", 5*time.Second, func() bool { return leads(second) || leads(voter) })
		for i := range 8 {
			second.ask(cluster.Weigh{Node: "n1", Weight: uint32(200 + i)})
		}
		c.Run(300 * ms)
		c.Net.Heal()
		c.Run(3 * time.Second)
		if len(c.Breaches) > 0 {
			return
		}
	}
}

// TestR5PledgeIsWritten: a blank host that has pledged itself to a founder, and
// starts anew before it is welcomed, pledges itself to no other: there would be two
// clusters.
func TestR5PledgeIsWritten(t *testing.T) {
	for phase := range time.Duration(5) {
		c := watched(t, Options{Nodes: 3, Timing: cluster.LAN})
		first, both, second := c.Hosts[0], c.Hosts[1], c.Hosts[2]
		first.without, second.without = append(first.without, second.addr), append(second.without, first.addr)
		first.boot()
		c.Run(phase * 23 * ms)
		both.boot()
		member := func(h *Host) bool { return h.core.Status(h.clock.Now()).UUID != [16]byte{} }
		c.closely(t, "the first has founded a cluster", 5*time.Second, func() bool { return member(first) })
		c.Net.Unplug(first.net.Index, true)
		both.crash()
		both.restart()
		second.boot()
		c.never(t, "another cluster is founded", 3*time.Second, func() bool { return member(second) })
		c.Net.Unplug(first.net.Index, false)
		c.must(t, "all are in the first", 10*time.Second, func() bool { return member(both) && member(second) && c.AllOwned() })
	}
}
