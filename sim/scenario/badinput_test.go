package scenario

import (
	"bytes"
	"testing"
	"time"

	"onevoice/cluster"
	"onevoice/sim"
)

// TestBadInput: cut off messages and bytes of nobody are dropped, by members and
// by blank hosts; heartbeats of hosts that are no members change nothing.
func TestBadInput(t *testing.T) {
	c := rule(t, Options{Nodes: 3, Late: 1})
	var real [][]byte
	c.LANs[0].Tap = func(_ *sim.Port, frame []byte) {
		if body, ok := heartbeatIn(frame); ok && len(real) < 3 {
			real = append(real, bytes.Clone(body))
		}
	}
	c.Run(200 * ms)
	c.LANs[0].Tap = nil
	if len(real) == 0 {
		t.Fatal("no heartbeat was seen")
	}
	r := c.World.Rand()
	before := c.owners()
	blank := c.Hosts[3]
	blank.boot()
	for i := range 20_000 {
		b := make([]byte, r.IntN(200))
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		if i%2 == 0 { // the beginning of a real one
			b = bytes.Clone(real[i%len(real)])
			b = b[:r.IntN(len(b))]
		}
		kinds := []byte("rbhwp?")
		for _, h := range []*Host{c.Hosts[i%3], blank} {
			h.step(cluster.Heard{Path: r.IntN(4) - 1, Data: b})
			h.step(cluster.Received{From: c.Hosts[0].addr, Blank: i%3 == 0, Data: append([]byte{kinds[r.IntN(len(kinds))]}, b...)})
		}
	}
	for _, h := range c.Hosts {
		if h.failed != nil {
			t.Errorf("%s has stopped: %v", h, h.failed)
		}
	}
	c.Run(100 * ms)
	if c.owners() != before {
		t.Error("buckets have moved")
	}
	// A stranger with the keys: heartbeats of another cluster's node.
	o := New(Options{Nodes: 3, Timing: cluster.LAN}, 8)
	o.Boot(o.Hosts...)
	o.must(t, "the other cluster is there", 5*time.Second, o.AllOwned)
	o.LANs[0].Tap = func(_ *sim.Port, frame []byte) {
		for _, h := range c.Hosts[:3] {
			body, _ := heartbeatIn(frame)
			h.step(cluster.Heard{Data: body})
		}
	}
	o.Run(time.Second)
	c.never(t, "another cluster's heartbeats move buckets", time.Second, func() bool { return !c.AllOwned() })
}

// TestTwoWithOneID: a copied state directory is told by both, and stops the
// later one.
func TestTwoWithOneID(t *testing.T) {
	c := rule(t, Options{Nodes: 3, Late: 1})
	twin := c.Hosts[3]
	twin.disk.Replace(c.Hosts[0].disk.Records(), nil)
	c.Run(50 * ms)
	told := 0
	for _, h := range c.Hosts {
		h.story = func(_ *Host, n cluster.Note) {
			if n.Warn && bytes.Contains([]byte(n.Text), []byte("was copied")) {
				told++
			}
		}
	}
	twin.boot()
	c.never(t, "two with one id own one bucket", 5*time.Second, func() bool { return len(c.Breaches) > 0 })
	if told == 0 {
		t.Errorf("nobody says that two hosts have one id\n%s", c.describe())
	}
}
