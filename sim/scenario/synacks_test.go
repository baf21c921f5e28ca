package scenario

import (
	"maps"
	"net/netip"
	"testing"
	"time"

	"onevoice/cluster"
	"onevoice/link/ingress"
	"onevoice/node"
)

// keptSYNACKs is how many SYN-ACKs a host's gate has kept back.
func (h *Host) keptSYNACKs() uint64 {
	if h.kernel != nil {
		return h.kernel.programs.rulings[ingress.KeptSYNACK]
	}
	return h.worker.gate.(*gate).node.Counts()[node.LateSYNACK]
}

// unheard is a cluster at rest, of which a host has answered SYNs in vain for half a second:
// clients do not hear it, and now it does not hear them either.
func unheard(t *testing.T, direct bool) (*Chaos, *Host) {
	t.Helper()
	c := &Chaos{Cluster: New(Options{Nodes: 3, Timing: cluster.LAN, DriftPPM: 200, Services: 1, Stations: 6, Direct: direct}, 3)}
	c.Boot(c.Hosts...)
	c.must(t, "every bucket is owned", 5*time.Second, c.AllOwned)
	c.Cluster.Run(6 * time.Second)
	h := c.Hosts[1]
	for _, p := range c.clientPorts() {
		c.LANs[0].Cut(h.Port().Index, p.Index, true)
	}
	c.Cluster.Run(500 * ms)
	for _, p := range c.clientPorts() {
		c.LANs[0].Cut(p.Index, h.Port().Index, true)
	}
	return c, h
}

// awayAndBack gives the buckets in which a host has answered in vain to another, which
// answers, and back.
func (c *Chaos) awayAndBack(h *Host) {
	b := h.askedSince(c.World.Now() - 500*ms)
	c.moveAll(b, c.Hosts[2])
	c.Cluster.Run(1300 * ms)
	c.moveAll(b, h)
}

// TestSYNACKsAnswerTheLastSYN: clients do not hear a node, and then it does not hear them
// either, and its right to answer them goes and comes back: buckets that others have had,
// and a lease that was over for a moment. What it repeats of its SYN-ACKs stays.
func TestSYNACKsAnswerTheLastSYN(t *testing.T) {
	absences := map[string]func(c *Chaos, h *Host){
		"the buckets": (*Chaos).awayAndBack,
		"the lease":   func(_ *Chaos, h *Host) { h.clock.Pause(235 * ms) },
	}
	for name, absent := range absences {
		for _, direct := range []bool{false, true} {
			c, h := unheard(t, direct)
			before := h.keptSYNACKs()
			absent(c, h)
			c.Cluster.Run(1500 * ms)
			c.LANs[0].Heal()
			c.Cluster.Run(15 * time.Second)
			if len(c.Breaches) > 0 {
				t.Errorf("%s, direct %v: %s", name, direct, c.Breaches[0])
				continue
			}
			if n := h.keptSYNACKs() - before; n < 3 || count(h.accepts(1, 0)) < 60 {
				t.Errorf("%s, direct %v: too little was tried: %d SYN-ACKs are kept back, and it has %d buckets", name, direct, n, count(h.accepts(1, 0)))
			}
			if out := c.judgeStations(); len(out) > 0 {
				t.Errorf("%s, direct %v: %s", name, direct, out[0])
			}
		}
	}
}

// TestSYNACKsAnswerNoOtherSYN: the same, and then a client begins another connection from
// the same port. Its SYN is another: the old one's answer stays.
func TestSYNACKsAnswerNoOtherSYN(t *testing.T) {
	for _, direct := range []bool{false, true} {
		c, h := unheard(t, direct)
		asked, from := maps.Clone(h.syns), c.World.Now()-500*ms
		c.awayAndBack(h)
		c.Cluster.Run(500 * ms)
		c.LANs[0].Heal()
		again := 0
		for _, s := range c.stations {
			// Still it does not hear the node, or it would reset what that has of the old one.
			c.LANs[0].Cut(h.Port().Index, s.Port().Index, true)
			for _, n := range s.conns {
				at := asked[asking{flowOf(netip.AddrPortFrom(s.IP, n.Port), netip.AddrPortFrom(VIP(), servicePort)), n.ISN}]
				if at >= from && n.Connected > 0 && !n.State.Over() {
					n.Vanish()
					s.Open(n.Port, servicePort)
					again++
				}
			}
		}
		c.Cluster.Run(15 * time.Second)
		if len(c.Breaches) > 0 {
			t.Errorf("direct %v: %s", direct, c.Breaches[0])
		}
		if again < 3 {
			t.Errorf("direct %v: too little was tried: %d ports are used again", direct, again)
		}
	}
}
