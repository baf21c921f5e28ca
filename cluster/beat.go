package cluster

import (
	"slices"
	"time"
)

// beat sends this host's heartbeats.
func (c *Core) beat() {
	if c.table == nil || c.holder.low == 0 || c.failed != nil {
		return
	}
	c.renewLeases()
	for i, path := range c.o.Paths {
		c.effects.Heartbeats = append(c.effects.Heartbeats, PathMessage{Path: i, Data: c.sayHeartbeat(path, i)})
	}
	for i := range c.table.Hosts {
		h := &c.table.Hosts[i]
		if h.ID == c.id || h.Foreign || h.Witness == (c.o.Role == Witness) {
			continue
		}
		// Between a witness and the nodes there is no LAN.
		b := c.sayHeartbeat("", 0)
		c.effects.Datagrams = append(c.effects.Datagrams, Datagram{To: h.ID, Data: append([]byte{messageBeat}, b...)})
	}
}

// sayHeartbeat encodes a heartbeat, with claims where there is room for them.
func (c *Core) sayHeartbeat(path string, i int) []byte {
	h := c.heartbeat(path, i)
	h.Claims = c.claim()
	b := c.codec.marshal(h)
	if h.Claims != nil && len(b) > maxAlarmBytes {
		h.Claims = nil
		b = c.codec.marshal(h)
	}
	return b
}

func (c *Core) heartbeat(path string, i int) *heartbeat {
	set := c.table.voters()
	h := &heartbeat{
		Version: Version, From: c.id, Path: path, Low: c.holder.low, High: c.holder.high, Sent: c.now,
		Leased: c.holder.leased(c.now), Set: set.Index, Rests: c.rests(), Applied: c.table.Index, Live: c.voter.live(c.now, c.table),
		Hears: c.voter.hearing(c.now, c.table), Gateway: c.outside.gateway, Alarm: c.outside.alarm, Behind: c.behind.on, Gone: c.goneNow(),
		Promises: c.voter.promises(c.now, c.table, path), Withdrawn: c.voter.telling(c.table),
	}
	if i < len(c.outside.clients) {
		h.Clients = c.outside.clients[i]
	}
	return h
}

// hear takes in a heartbeat of another member.
func (c *Core) hear(h *heartbeat) {
	switch {
	case h.From == c.id:
		c.tellOnce("own id", true, "another host speaks with this node's id %x: a state directory was copied; give that host an empty one", c.id)
		return
	case c.table.host(h.From) == nil:
		c.meetGone(h)
		return
	case ahead(h.High, c.table.host(h.From).Epoch):
		c.tellOnce("epoch "+number(h.From), true, "host %x claims epoch %d, which it cannot have come to, and is not heard: is its state directory damaged?", h.From, h.High)
		return
	}
	if c.holder.leased(c.now) {
		c.voter.leasedAt = c.now
	}
	c.voter.hear(c.now, c.table, h, c.o.Role != Witness || c.witnesses(h))
	for i := range h.Promises {
		if h.Promises[i].To == c.id {
			c.holder.promised(c.now, h.From, h.Set, h.Path, &h.Promises[i])
		}
	}
	c.noteLive(h.Live)
	c.heedGone(h)
	c.alarmed(h)
	for _, w := range h.Withdrawn {
		if w.Host == c.id && !ahead(w.Below, c.holder.high) {
			c.duties.refused = max(c.duties.refused, w.Below)
		}
	}
	c.renewLeases()
}

// renewLeases works out the leases as of now.
func (c *Core) renewLeases() {
	if c.table == nil || c.holder.low == 0 || c.o.Role == Witness {
		return
	}
	c.holder.renew(c.now, c.table.Timing.TTL, c.table.voters())
	c.showLeases()
}

// witnesses judges, as a witness off the LAN, whether a node may be supported:
// of two that do not hear each other on the LAN only the one with the better
// evidence (R11).
func (c *Core) witnesses(h *heartbeat) bool {
	me := c.table.host(h.From)
	for i := range c.voter.hosts {
		m := &c.voter.hosts[i]
		o := c.table.host(m.id)
		if o == nil || o.Witness || o.ID == h.From || m.heard < 0 || c.now-m.heard > c.table.Timing.TTL {
			continue
		}
		if h.Hears.has(o.Slot) && m.hears.has(me.Slot) {
			continue
		}
		if !betterEvidence(h, me, m, o) {
			return false
		}
	}
	return true
}

// betterEvidence compares two nodes that do not hear each other: the gateway
// first, then client frames heard, then who is in the table, then the order.
func betterEvidence(h *heartbeat, me *Host, m *support, o *Host) bool {
	switch {
	case h.Gateway != m.gateway:
		return h.Gateway
	case h.Leased != m.leased:
		return h.Leased
	case (h.Clients > 0) != (m.clients > 0):
		return h.Clients > 0
	case me.In != o.In:
		return me.In
	}
	return me.Order < o.Order
}

// hearing are the nodes heard on the LAN within a TTL.
func (s *supporter) hearing(now time.Duration, t *Table) slots {
	var out slots
	for i := range s.hosts {
		m := &s.hosts[i]
		if h := t.host(m.id); h != nil && m.heardLAN >= 0 && now-m.heardLAN <= t.Timing.TTL {
			out |= bit(h.Slot)
		}
	}
	return out
}

// live are the nodes heard to hold a lease in the last two heartbeats: what is
// older would make them live longer at those who are told.
func (s *supporter) live(now time.Duration, t *Table) slots {
	var out slots
	for i := range s.hosts {
		m := &s.hosts[i]
		if h := t.host(m.id); h != nil && m.leased && m.heard >= 0 && now-m.heard <= 2*t.Timing.Heartbeat {
			out |= bit(h.Slot)
		}
	}
	return out
}

// noteLive keeps who holds a lease as another member hears it: this host may not
// hear everybody.
func (c *Core) noteLive(live slots) {
	for i := range c.table.Hosts {
		if h := &c.table.Hosts[i]; live.has(h.Slot) && h.ID != c.id {
			c.voter.of(h.ID).seenLeased = c.now
		}
	}
}

// rests is the oldest voter set that a lease of this host may rest on. What
// workers of an earlier control process have is not known.
func (c *Core) rests() uint64 {
	if c.now <= c.duties.heldUntil {
		return 0
	}
	return c.holder.rests(c.now, c.table.voters())
}

// blockedBy are the voters who are known to have withdrawn from a host's epoch,
// when they leave no majority in any voter set in force; nil otherwise.
func (c *Core) blockedBy(h *Host) []uint64 {
	var out []uint64
	for i := range c.table.Sets {
		for _, v := range c.table.Sets[i].Voters {
			if c.voter.withdrew(v, h.ID, h.Epoch) && !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
	}
	slices.Sort(out)
	for i := range c.table.Sets {
		if !c.table.Sets[i].blocked(func(v uint64) bool { return slices.Contains(out, v) }) {
			return nil
		}
	}
	return out
}
