package node

import (
	"net/netip"
	"slices"
	"time"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
	"onevoice/node/model"
	"onevoice/responder"
)

// Times of a death, as OWNERSHIP.md has them.
const (
	chaosTTL   = 250 * time.Millisecond
	chaosGrace = 3 * time.Second
)

// death is how a host stops having a lease.
type death uint8

const (
	// crashed: its flows are gone.
	crashed death = iota
	// stalled: it does nothing for a while, and what came in waits for it.
	stalled
	// leaseless: it goes on serving what it holds.
	leaseless
	deaths
)

// boot gives a host a gate and a TCP without flows.
func (c *chaos) boot(h *chaosHost) {
	h.tcp = model.New(c.rand.Uint32)
	if c.seed%2 == 0 {
		h.tcp.Backlog = 1 // many SYN cookies
	}
	var err error
	h.Node, err = New(Config{
		Own: ownMAC, Address: ownAddr, MTU: 1500,
		VIPs:     []VIP{{VIP: responder.VIP{Addr: vipAddr, MAC: clusterMAC}, LAN: lan}},
		Services: []Service{{Proto: TCP, Listen: netip.AddrPortFrom(vipAddr, 22)}},
		Hasher:   hashing.NewHasher(key), Flows: h.tcp,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	h.leaseEnd = Forever
}

// die takes a host's lease away, evicts it when its lease has run out, and
// brings it back before or after its flows were given up.
func (c *chaos) die() {
	if !c.faulty || c.dying || slices.Contains(c.owner[:], -1) || c.rand.IntN(10) > 0 {
		return
	}
	c.dying = true
	i := c.rand.IntN(len(c.hosts))
	h := c.hosts[i]
	kind := death(c.rand.IntN(int(deaths)))
	h.down = kind == crashed || kind == stalled
	h.leaseEnd = c.now + chaosTTL
	h.SetLease(0, 0, h.leaseEnd)
	if kind == crashed {
		h.tcp = model.New(c.rand.Uint32)
	}
	c.after(chaosTTL+c.span(0, 100*time.Millisecond), func() { c.evict(i) })
	c.after(chaosTTL+100*time.Millisecond+chaosGrace, func() { c.orphan(i) })
	back := c.span(chaosTTL, 2*chaosGrace)
	if kind == crashed {
		back += 2 * chaosGrace
	}
	c.after(back, func() { c.resume(i, kind) })
}

// evict gives a host's rows away. Whether it is dead nobody knows.
func (c *chaos) evict(i int) {
	for b := range c.owner {
		bucket := uint8(b)
		drained := slices.Contains(c.drains[b], i)
		if c.owner[b] == i {
			c.owner[b] = (i + 1 + c.rand.IntN(len(c.hosts)-1)) % len(c.hosts)
			c.moved[b] = c.now
			next := c.hosts[c.owner[b]]
			c.drains[b] = slices.DeleteFunc(c.drains[b], func(d int) bool { return d == c.owner[b] })
			next.rows.Accept.Set(bucket)
			clearBit(&next.rows.Draining, b)
		} else if !drained {
			continue
		}
		c.drains[b] = slices.DeleteFunc(c.drains[b], func(d int) bool { return d == i })
		owner := c.hosts[c.owner[b]]
		owner.rows.Grace.Set(bucket)
		c.share(b)
	}
	c.publishAll(i)
}

// share sets a bucket's Shared bit as its drainers are.
func (c *chaos) share(b int) {
	owner := c.hosts[c.owner[b]]
	clearBit(&owner.rows.Shared, b)
	if len(c.drains[b]) > 0 {
		owner.rows.Shared.Set(uint8(b))
	}
}

func (c *chaos) publishAll(but int) {
	for i := range c.hosts {
		if i != but {
			c.publish(i)
		}
	}
}

// orphan gives up a host's flows, unless it came back before.
func (c *chaos) orphan(i int) {
	h := c.hosts[i]
	if h.back {
		return
	}
	h.orphaned = true
	for _, other := range c.hosts {
		other.rows.Grace = Bitmap{}
	}
	c.publishAll(i)
}

// resume brings a host back: its worker first, which has the old table and no
// lease, and the new table a moment later.
func (c *chaos) resume(i int, kind death) {
	h := c.hosts[i]
	if kind == crashed {
		c.boot(h)
		h.rows = Rows{}
	}
	h.down = false
	for _, packet := range h.waiting {
		c.deliver(i, packet)
	}
	h.waiting = nil
	c.after(c.span(0, 50*time.Millisecond), func() { c.join(i) })
}

// join lets a host in again. If its flows were not given up it is a drainer of
// all buckets in which it holds any; else it closes them and says nothing.
func (c *chaos) join(i int) {
	h := c.hosts[i]
	if slices.Contains(c.owner[:], i) {
		// It was not evicted yet.
		c.after(chaosTTL, func() { c.join(i) })
		return
	}
	h.rows = Rows{}
	everything := allBuckets()
	if h.orphaned {
		h.ForgetFlows(c.now, 0, &everything)
		c.flush(i)
		h.orphaned = false
		c.dying = false
	} else {
		h.back = true
		for _, other := range c.hosts {
			other.rows.Grace = Bitmap{}
		}
		for _, held := range h.Held(c.now, 0, &everything) {
			b := int(held.Bucket)
			h.rows.Draining.Set(held.Bucket)
			c.drains[b] = append(c.drains[b], i)
			c.share(b)
		}
		c.after(2*chaosGrace, func() { h.back, c.dying = false, false })
	}
	h.leaseEnd = Forever
	c.publishAll(-1)
}

// living reports whether a TCP serves the flow that a client began with a SYN,
// and nobody was told that it does not.
func (c *chaos) living(cl *chaosClient) (int, bool) {
	f := hashing.Flow{Src: cl.addr.Addr(), SrcPort: cl.addr.Port(), Dst: vipAddr, DstPort: 22, Proto: protoTCP}
	for i, h := range c.hosts {
		if client, own, ok := h.tcp.Numbers(&f); ok && client == cl.isn && own == cl.peer && h.tcp.State(&f) == flowstate.Open && !h.orphaned {
			return i, true
		}
	}
	return 0, false
}
