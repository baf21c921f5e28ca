package cluster

import (
	"slices"
	"time"
)

const (
	// maxGone bounds the removed hosts that a heartbeat tells of.
	maxGone = 4
	// goneFor is how long they are told of after they spoke.
	goneFor = time.Second
)

// meetGone takes in the heartbeat of a host that is not in the table. If the
// sender has applied no more than this host it was a member and is none any more:
// the log has no other way, and no id comes twice. It cannot find that out by
// itself, for nobody sends it the log.
func (c *Core) meetGone(h *heartbeat) {
	if h.Applied == 0 || h.Applied > c.table.Index {
		return
	}
	d := &c.duties
	d.gones = slices.DeleteFunc(d.gones, func(g since) bool { return g.id == h.From || c.now-g.at > goneFor })
	if len(d.gones) < maxGone {
		d.gones = append(d.gones, since{id: h.From, at: c.now})
	}
}

// goneNow are the removed hosts that have spoken a moment ago.
func (c *Core) goneNow() (ids []uint64) {
	for _, g := range c.duties.gones {
		if c.now-g.at <= goneFor {
			ids = append(ids, g.id)
		}
	}
	return ids
}

// heedGone notes that another member calls this host removed. It stops nothing:
// who was removed holds no lease anyway, and one member may be wrong.
func (c *Core) heedGone(h *heartbeat) {
	if slices.Contains(h.Gone, c.id) {
		c.tellOnce("gone", true, "host %x says that this node was removed from the cluster, by `onevoice forget` or because another host has its address; to join anew give it an empty state directory", h.From)
	}
}
