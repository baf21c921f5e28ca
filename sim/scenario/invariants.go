package scenario

import (
	"slices"
	"time"

	"onevoice/cluster"
)

// lostAfter is how long a node may be without a lease until its flows may be
// reset (R18). The slack is for the drift of the clock that measures it.
const (
	lostAfter = 3 * time.Second
	slack     = 10 * time.Millisecond
	// longestTTL is that of the calm profile.
	longestTTL = 600 * time.Millisecond
)

// agreement is what each host's table was at an index.
type agreement map[uint64]struct {
	host *Host
	sum  [32]byte
}

// sampled indexes are compared between hosts: making a sum is dear.
const sampled = 4

// check is what must hold after every event.
func (c *Cluster) check() {
	if len(c.Breaches) > 0 {
		return
	}
	changed := false
	for _, h := range c.Hosts {
		h.noteLease()
		c.checkAgreement(h)
		if h.look() {
			h.noteRights()
			changed = true
		}
	}
	if !changed {
		return
	}
	for _, h := range c.Hosts {
		c.checkLists(h)
	}
	for s := range c.services {
		if s > 0 && c.o.Direct {
			c.checkDirect(s - 1)
		} else {
			c.checkService(s)
		}
	}
}

// stance is all that checkService looks at in a host, but for the time. As time
// passes and nothing else changes, leases end, grounds to refuse grow, and flows
// end: what held goes on to hold. So services are checked after each event that
// changed a stance, which few of the frames of thousands of clients do.
type stance struct {
	alive, up, paused bool
	boots             int
	page              *page
	rights            *cluster.Rights
	flows, kernel     uint64
	leases            []pageLease
}

// look takes the host's stance anew and says whether it has changed.
func (h *Host) look() bool {
	w, was := &h.worker, &h.stance
	now := stance{alive: w.alive, up: h.up, paused: h.workers.Paused(), boots: w.boots, page: w.page, rights: w.rights, flows: w.version, kernel: h.kernel.version(), leases: was.leases}
	var leases []pageLease
	if w.page != nil {
		leases = w.page.leases
	}
	if now.alive == was.alive && now.up == was.up && now.paused == was.paused && now.boots == was.boots && now.page == was.page &&
		now.rights == was.rights && now.flows == was.flows && now.kernel == was.kernel && slices.Equal(leases, was.leases) {
		return false
	}
	now.leases = append(now.leases[:0], leases...)
	*was = now
	return true
}

// noteLease keeps when the host last held a lease that others can know of: for a
// TTL, so that its renewal rests on heartbeats that said so. One that was without
// for too long has lost the right to its flows.
func (h *Host) noteLease() {
	now := h.clock.Now()
	if !h.up || !slices.ContainsFunc(h.page.leases, func(l pageLease) bool { return now < l.end && now-l.begin > longestTTL }) {
		return
	}
	now = h.c.World.Now()
	if now-h.leasedAt > lostAfter-slack {
		for i := range h.worker.flows {
			h.worker.flows[i].lost = true
		}
		h.worker.version++
		h.lostAt = now
	}
	h.leasedAt = now
}

// checkService: at most one host accepts in a bucket, all under one mapping, and
// nobody may reset a flow of another that is alive.
func (c *Cluster) checkService(s int) {
	var taken [4]uint64
	var mapping *cluster.Mapping
	for _, h := range c.Hosts {
		a := h.accepts(s, cluster.Guard)
		if a == [4]uint64{} {
			continue
		}
		r := &h.worker.rights.Services[s]
		switch {
		case mapping == nil:
			mapping = &r.Mapping
		case *mapping != r.Mapping:
			c.breach("%s accepts in %s under mapping %d, another under %d\n%s", h, c.services[s].Name, r.Mapping.Generation, mapping.Generation, c.describe())
			return
		}
		for i := range a {
			if taken[i]&a[i] != 0 {
				c.breach("two owners of a bucket of %s, %s is one of them\n%s", c.services[s].Name, h, c.describe())
				return
			}
			taken[i] |= a[i]
			a[i] &^= r.Grace[i] | r.Shared[i]
		}
		if o := c.victim(h, s, a, &r.Mapping); o != nil {
			c.breach("%s may reset a flow of %s in %s, which held a lease %v ago\n%s", h, o, c.services[s].Name, c.World.Now()-o.leasedAt, c.describe())
			return
		}
	}
}

// victim is another host that is alive and has a flow in one of the buckets.
func (c *Cluster) victim(h *Host, s int, buckets [4]uint64, m *cluster.Mapping) *Host {
	if buckets == [4]uint64{} {
		return nil
	}
	for _, o := range c.Hosts {
		if o == h || len(o.worker.flows) == 0 || c.World.Now()-o.leasedAt > lostAfter-slack {
			continue
		}
		if held := o.heldSince(s, m); meet(held, buckets) && meet(o.holding(s, m, true), buckets) {
			return o
		}
	}
	return nil
}

func meet(a, b [4]uint64) bool {
	return a[0]&b[0]|a[1]&b[1]|a[2]&b[2]|a[3]&b[3] != 0
}

// mask is what holding was when last it was worked out: flows that have ended
// since are still in it.
type mask struct {
	version uint64
	mapping cluster.Mapping
	buckets [4]uint64
}

// heldSince is holding or more, and cheap.
func (h *Host) heldSince(s int, m *cluster.Mapping) [4]uint64 {
	w := &h.worker
	for len(w.masks) <= s {
		w.masks = append(w.masks, mask{})
	}
	k := &w.masks[s]
	if k.version != w.version || k.mapping != *m {
		*k = mask{w.version, *m, h.holding(s, m, true)}
	}
	return k.buckets
}

// checkAgreement: two hosts that have applied the same entries have the same
// table.
func (c *Cluster) checkAgreement(h *Host) {
	if !h.up || h.failed != nil {
		return
	}
	index := h.core.Applied()
	if index == h.applied {
		return
	}
	if index < h.applied && h.appliedBoot == h.boots {
		c.breach("%s went back from entry %d to %d", h, h.applied, index)
	}
	h.applied, h.appliedBoot = index, h.boots
	if index%sampled != 0 {
		return
	}
	sum := h.core.Sum()
	if was, ok := c.raft[index]; ok && was.sum != sum {
		c.breach("%s and %s have different tables after entry %d\n%s", h, was.host, index, c.describe())
	} else if !ok {
		was.host, was.sum = h, sum
		c.raft[index] = was
	}
}

// Owned counts the buckets of a service that somebody accepts in.
func (c *Cluster) Owned(service int) int {
	n := 0
	for _, h := range c.Hosts {
		n += count(h.accepts(service, 0))
	}
	return n
}

// AllOwned: every bucket of every service has an owner.
func (c *Cluster) AllOwned() bool {
	for s := range c.services {
		if c.Owned(s) != 256 {
			return false
		}
	}
	return true
}
