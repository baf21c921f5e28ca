package scenario

import (
	"slices"
	"time"

	"onevoice/cluster"
	"onevoice/hashing"
	"onevoice/sim"
)

// synKinds are faults by which connections stay half-open, whose node loses their buckets
// and has them again while it still repeats its SYN-ACKs: clients that its frames do not
// reach, and whose SYNs it does not hear any more, so that nothing tells it to forget.
// Meanwhile others serve them.
func (c *Chaos) synKinds() []kind {
	if len(c.clientPorts()) == 0 {
		return nil
	}
	moved := kind{"half-open, moved away and back", func(h *Host) {
		c.halfOpen(h, func(b [4]uint64) {
			c.moveAll(b, c.another(h))
			c.World.After(c.ms(200, 6000), func() { c.moveAll(b, h) })
		})
	}}
	return []kind{
		moved, moved,
		{"half-open, lost and back", func(h *Host) {
			c.halfOpen(h, func([4]uint64) {
				port, d := h.ports[0].Index, c.ms(300, 1500)
				c.LANs[0].Unplug(port, true)
				c.World.After(d, func() { c.LANs[0].Unplug(port, false) })
			})
		}},
		{"half-open, without a lease", func(h *Host) { c.halfOpen(h, func([4]uint64) { h.clock.Pause(c.ms(100, 900)) }) }},
		{"clients lose frames", func(*Host) { c.lossyClients() }},
	}
}

// clientPorts are those of all clients, by whom frames are said.
func (c *Cluster) clientPorts() (out []*sim.Port) {
	for _, s := range c.stations {
		out = append(out, s.Port())
	}
	if c.users != nil {
		for _, u := range c.users.all {
			out = append(out, u.Port())
		}
	}
	return out
}

// halfOpen cuts a host off from most clients: first they do not hear it, and then it does
// not hear them either. In between it answers SYNs in vain. then is called with their
// buckets of the first service.
func (c *Chaos) halfOpen(h *Host, then func(buckets [4]uint64)) {
	if h.ports == nil {
		return
	}
	r, lan, from := c.World.Rand(), c.LANs[0], c.World.Now()
	unheard, deaf, hears := c.ms(500, 9000), c.ms(50, 900), c.ms(500, 6000)
	for _, p := range c.clientPorts() {
		if r.IntN(4) == 0 {
			continue
		}
		lan.Cut(h.ports[0].Index, p.Index, true)
		c.World.After(unheard, func() { lan.Cut(h.ports[0].Index, p.Index, false) })
		c.World.After(deaf, func() {
			lan.Cut(p.Index, h.ports[0].Index, true)
			c.World.After(hears, func() { lan.Cut(p.Index, h.ports[0].Index, false) })
		})
	}
	c.World.After(deaf, func() { then(h.askedSince(from)) })
}

// askedSince are the buckets of the first service in which SYNs came for a host.
func (h *Host) askedSince(from time.Duration) (out [4]uint64) {
	if len(h.rights) < 2 {
		return out
	}
	for a, at := range h.syns {
		if b := hashing.NewHasher(h.rights[1].key).Bucket(h.affinity(), &a.flow); at >= from && int(a.flow.DstPort) == servicePort {
			out[b/64] |= 1 << (b % 64)
		}
	}
	return out
}

// moveAll moves buckets of the first service to a host.
func (c *Chaos) moveAll(buckets [4]uint64, to *Host) {
	for b := range hashing.Buckets {
		if hasBucket(&buckets, uint8(b)) {
			c.Ask(cluster.Move{Service: c.services[1].Name, Bucket: uint8(b), Node: to.Name})
		}
	}
}

// lossyClients lets the links of some clients lose frames, both ways.
func (c *Chaos) lossyClients() {
	const most = 0.4
	r := c.World.Rand()
	ports := slices.DeleteFunc(c.clientPorts(), func(*sim.Port) bool { return r.IntN(2) == 0 })
	was := make([]float64, len(ports))
	for i, p := range ports {
		was[i] = p.Up.Loss
		p.Up.Loss, p.Down.Loss = r.Float64()*most, r.Float64()*most
	}
	c.World.After(c.ms(300, 5000), func() {
		for i, p := range ports {
			p.Up.Loss, p.Down.Loss = was[i], was[i]
		}
	})
}
