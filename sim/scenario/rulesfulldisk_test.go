package scenario

import (
	"errors"
	"strings"
	"testing"
	"time"

	"onevoice/cluster"
)

// A leader whose disk takes no write is to drain, and is asked itself or by way of
// another: it cannot decide that, says why, and gives the lead away. Nobody answers
// for a bucket twice, which is looked at after every event, all buckets are soon others',
// and with room again it follows them.
func TestDrainOfALeaderWithAFullDisk(t *testing.T) {
	for _, byItself := range []bool{true, false} {
		c := rule(t, Options{Nodes: 4, Flows: 50})
		full := c.leader()
		asked := full
		if !byItself {
			asked = c.Hosts[(full.Index+1)%len(c.Hosts)]
		}
		full.disk.Stall(time.Minute)
		n := asked.ask(cluster.Drain{Node: full.Name})
		c.must(t, "others own every bucket", 4*time.Second, func() bool { return full.owns() == 0 && c.AllOwned() })
		c.must(t, "the wish is answered", 6*time.Second, func() bool { _, ok := asked.answers[n]; return ok })
		switch err := asked.answers[n]; {
		case byItself && (err == nil || !strings.Contains(err.Error(), "save its state for 5s") || !strings.Contains(err.Error(), "make room")):
			t.Errorf("who cannot save the wish says %v", err)
		case !byItself && err != nil:
			t.Errorf("asked elsewhere: %v", err)
		}
		c.must(t, "another leads", time.Second, func() bool {
			st := asked.core.Status(asked.clock.Now())
			return st.Leader != 0 && st.Leader != full.id
		})
		n = c.Hosts[(full.Index+1)%len(c.Hosts)].ask(cluster.Drain{Node: full.Name})
		c.must(t, "it is to drain", 3*time.Second, func() bool {
			return full.seen(c.Hosts[(full.Index+1)%len(c.Hosts)]).Draining
		})
		full.disk.Resume()
		c.must(t, "it knows that it is to drain", 10*time.Second, func() bool { return full.seen(full).Draining && full.seen(full).In })
		c.never(t, "a drained node is given a bucket", 3*time.Second, func() bool { return full.owns() > 0 })
		c.Hosts[0].ask(cluster.Drain{Node: full.Name, Undo: true})
		c.must(t, "it owns its share again", 30*time.Second, func() bool { return full.owns() > 0 })
	}
}

// A leader whose disk fails for good says so to who has asked it something.
func TestDrainOfALeaderWithABrokenDisk(t *testing.T) {
	c := rule(t, Options{Nodes: 4, Flows: 50})
	broken := c.leader()
	broken.disk.Break()
	n := broken.ask(cluster.Drain{Node: broken.Name})
	c.must(t, "the wish is answered", time.Second, func() bool { _, ok := broken.answers[n]; return ok })
	if err := broken.answers[n]; err == nil || errors.Is(err, cluster.ErrNoAnswer) {
		t.Errorf("it says %v", err)
	}
	c.must(t, "others own every bucket", 4*time.Second, func() bool { return broken.owns() == 0 && c.AllOwned() })
}
