package scenario

import (
	"testing"
	"time"

	"onevoice/cluster"
)

// sharingRig is a cluster beside nodes of another system: n1 and n2 found it, n3 is
// still one of the other's, and u4 is never one of ours.
type sharingRig struct {
	*Cluster
	t *testing.T
}

func newSharingRig(t *testing.T) *sharingRig {
	c := &sharingRig{watched(t, Options{Nodes: 2, Witness: true, Late: 1, Services: 1, Flows: 50, Timing: cluster.LAN, DriftPPM: 900,
		Sharing: &cluster.Sharing{Buckets: 4, Homes: []string{"n1", "n2", "n3", "u4"}}}), t}
	c.Boot(c.Hosts[:3]...) // n1, n2 and the witness
	c.must(t, "n1 and n2 own what is theirs by name", 20*time.Second, func() bool { return c.owners("n1", "n2", "-", "-") })
	return c
}

// owners compares who accepts in each bucket of the service; - is nobody of ours.
func (c *sharingRig) owners(want ...string) bool {
	for b, name := range want {
		have := "-"
		for _, h := range c.Hosts {
			if a := h.accepts(1, 0); a[0]&(1<<b) != 0 {
				have = h.Name
			}
		}
		if have != name {
			return false
		}
	}
	return true
}

// takes reports whether one of ours accepts in a bucket.
func (c *sharingRig) takes(bucket int) bool {
	for _, h := range c.Hosts {
		if a := h.accepts(1, 0); a[0]&(1<<bucket) != 0 {
			return true
		}
	}
	return false
}

// wish is answered with an error, or without one.
func (c *sharingRig) wish(w cluster.Wish, refused bool) {
	c.t.Helper()
	h := c.Hosts[1]
	n := h.ask(w)
	c.must(c.t, "the wish is answered", time.Second, func() bool { _, ok := h.answers[n]; return ok })
	if err := h.answers[n]; (err != nil) != refused {
		c.t.Fatalf("%#v: %v", w, err)
	}
}

// TestR21Homes: buckets are as many as the other system has nodes; each is at its home
// whenever that can serve, and those of the other system's nodes are nobody's of ours
// until an operator says so.
func TestR21Homes(t *testing.T) {
	c := newSharingRig(t)
	if n := c.Owned(0); n != 256 {
		t.Errorf("%d buckets of the VIP are owned, want 256: its address goes by weight", n)
	}
	c.Hosts[0].crash()
	c.must(t, "n2 owns what n1 had", time.Second, func() bool { return c.owners("n2", "n2", "-", "-") })
	c.never(t, "one of ours answers for another system's", 5*time.Second, func() bool { return c.takes(2) || c.takes(3) })
	c.Hosts[0].restart()
	c.must(t, "n1 has its own again", 20*time.Second, func() bool { return c.owners("n1", "n2", "-", "-") })

	// Its name alone gives a new node nothing.
	n3 := c.Hosts[3]
	c.Boot(n3)
	c.must(t, "n3 is in", 20*time.Second, func() bool { return n3.owns() > 0 })
	c.never(t, "n3 takes what the operator did not give it", 15*time.Second, func() bool { return c.takes(2) || c.takes(3) })
	c.wish(cluster.Takeover{Node: "n3"}, false)
	c.must(t, "n3 owns what it had as the other system's node", time.Second, func() bool { return c.owners("n1", "n2", "n3", "-") })
	c.wish(cluster.Takeover{Node: "n3"}, true)
	c.wish(cluster.Drain{Node: "n3"}, false)
	c.must(t, "others own what n3 had", 2*time.Second, func() bool { return c.Owned(1) == 3 && !c.owners("n1", "n2", "n3", "-") })
	c.wish(cluster.Drain{Node: "n3", Undo: true}, false)
	c.must(t, "n3 has its own again", 20*time.Second, func() bool { return c.owners("n1", "n2", "n3", "-") })

	c.wish(cluster.Takeover{Node: "u4"}, true) // nobody of that name
	c.wish(cluster.Takeover{Node: "n1", To: "n2"}, true)
	c.wish(cluster.Takeover{Node: "u4", To: "n1"}, false)
	c.must(t, "n1 owns the last", time.Second, func() bool { return c.Owned(1) == 4 && c.owners("n1", "n2", "n3") })
	c.wish(cluster.Move{Service: c.services[1].Name, Bucket: 4, Node: "n1"}, true)
	c.wish(cluster.Move{Service: c.services[1].Name, Bucket: 3, Node: "kernel:u4"}, false)
	c.must(t, "u4 has its own again", time.Second, func() bool { return c.owners("n1", "n2", "n3", "-") })
	c.never(t, "it came back by itself", 5*time.Second, func() bool { return c.takes(3) })
}

// TestR21Remap: a service goes over to our own hash when the last node of the other
// system is gone, and not before.
func TestR21Remap(t *testing.T) {
	c := newSharingRig(t)
	own := cluster.Mapping{Digest: c.services[1].Digest, Key: cluster.Key{7}}
	remap := cluster.Remap{Service: c.services[1].Name, Mapping: own}
	c.wish(remap, true)
	c.wish(cluster.Takeover{Node: "n3", To: "n1"}, false)
	c.wish(remap, true)
	c.wish(cluster.Takeover{Node: "u4", To: "n2"}, false)
	c.wish(remap, false)
	c.must(t, "all buckets are owned", 5*time.Second, func() bool { return c.Owned(1) == 256 })
	own.Key, own.Sharing = cluster.Key{8}, &cluster.Sharing{Buckets: 3, Homes: []string{"n2", "u4"}}
	c.wish(cluster.Remap{Service: c.services[1].Name, Mapping: own}, false)
	c.must(t, "three buckets, of which one is u4's", 5*time.Second, func() bool { return c.owners("n2", "-", "n1", "-") })
	own.Key, own.Sharing = cluster.Key{9}, &cluster.Sharing{Buckets: 300}
	c.wish(cluster.Remap{Service: c.services[1].Name, Mapping: own}, true)
}

// Whoever is left after a majority was lost for good has what ours had, and nothing of
// what the other system's nodes have.
func TestR21Recover(t *testing.T) {
	c := newSharingRig(t)
	for _, h := range c.Hosts[:2] {
		h.crash()
	}
	h := c.Hosts[0]
	saved, out, err := cluster.Recover(h.saved(), [16]byte{9})
	if err != nil || len(out.Forgotten) != 2 { // n2 and the witness
		t.Fatalf("%d hosts are forgotten, want n2 and the witness: %v", len(out.Forgotten), err)
	}
	core, err := cluster.New(h.options(), saved, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	s := core.Status(0)
	owners := s.Tables[c.services[1].Name]
	if owners[0] != h.id || owners[1] != h.id || owners[2] == h.id || owners[2] == 0 || owners[3] == h.id || owners[3] == 0 {
		t.Errorf("the owners are %x", owners[:4])
	}
	if n := s.Sizes[c.services[1].Name]; n != 4 {
		t.Errorf("it has %d buckets", n)
	}
}
