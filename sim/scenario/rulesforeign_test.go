package scenario

import (
	"testing"
	"time"

	"onevoice/cluster"
)

// TestR21ForeignOwner: an owner that is no host of ours holds no lease and is never
// evicted; buckets pass to and from it by an operator's word, and by nothing else.
func TestR21ForeignOwner(t *testing.T) {
	c := rule(t, Options{Nodes: 3, Flows: 50})
	h := c.Hosts[1]
	ask := func(w cluster.Wish) {
		t.Helper()
		n := h.ask(w)
		c.must(t, "the wish is answered", time.Second, func() bool { _, ok := h.answers[n]; return ok })
		if err := h.answers[n]; err != nil {
			t.Fatalf("%T: %v", w, err)
		}
	}
	ask(cluster.Foreign{ID: 77, Name: "kernel"})
	kernel := func() int {
		n := 0
		for _, owner := range h.core.Status(h.clock.Now()).Tables[c.services[0].Name] {
			if owner == 77 {
				n++
			}
		}
		return n
	}
	c.never(t, "it owns what nobody gave it", 2*time.Second, func() bool { return kernel() > 0 })
	for b := range 3 {
		ask(cluster.Move{Service: c.services[0].Name, Bucket: uint8(b), Node: "kernel"})
	}
	c.must(t, "it owns three buckets, and nobody else answers there", time.Second, func() bool { return kernel() == 3 && c.Owned(0) == 253 })
	c.Hosts[0].crash()
	c.must(t, "the others own what the dead node had", time.Second, func() bool { return c.Owned(0) == 253 })
	c.Hosts[0].restart()
	c.never(t, "what it owns has moved", 15*time.Second, func() bool { return kernel() != 3 })
	for b := range 3 {
		ask(cluster.Move{Service: c.services[0].Name, Bucket: uint8(b), Node: "n3"})
	}
	c.must(t, "its buckets came back", time.Second, func() bool { return kernel() == 0 && c.AllOwned() })
	ask(cluster.Forget{Node: "kernel"})
}
