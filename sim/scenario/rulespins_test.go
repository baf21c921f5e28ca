package scenario

import (
	"testing"
	"time"

	"onevoice/cluster"
	"onevoice/hashing"
)

// TestPins: a bucket that a pin gives to a node is there whenever the node can serve,
// by its name or its address, and by weight with others meanwhile; what is given to
// nobody that there is is somebody's of ours. The rest goes by weight.
func TestPins(t *testing.T) {
	const byName, byAddress, nobodys = 0, 1, 2
	c := watched(t, Options{Nodes: 3, Services: 1, Flows: 50, Timing: cluster.LAN, DriftPPM: 900,
		Sharing: &cluster.Sharing{Buckets: hashing.Buckets, Homes: []string{"n2", "10.0.0.3", "x9"}, Ours: true}})
	at := func(bucket int) string {
		for _, h := range c.Hosts {
			if a := h.accepts(1, 0); a[0]&(1<<bucket) != 0 {
				return h.Name
			}
		}
		return ""
	}
	c.Boot(c.Hosts...)
	c.must(t, "the pinned are at home, and all else has an owner", 30*time.Second, func() bool {
		return at(byName) == "n2" && at(byAddress) == "n3" && at(nobodys) != "" && c.Owned(1) == hashing.Buckets
	})
	c.Hosts[1].crash()
	c.must(t, "others have what was pinned to the one that died", time.Second, func() bool {
		return at(byName) != "" && at(byName) != "n2" && at(byAddress) == "n3" && c.Owned(1) == hashing.Buckets
	})
	c.Hosts[1].restart()
	c.must(t, "it has its own again", 30*time.Second, func() bool { return at(byName) == "n2" })
}
