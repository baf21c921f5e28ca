package scenario

import (
	"fmt"
	"time"

	"onevoice/cluster"
)

// calm ends all faults and operators' wishes, and brings everybody back.
func (c *Chaos) calm() {
	for _, lan := range c.LANs {
		lan.Heal()
	}
	c.Net.Heal()
	c.World.Record("fault", "none any more")
	for _, h := range c.Hosts {
		h.clock.Resume()
		h.workers.Resume()
		h.disk.Resume()
		h.worker.slow = 0
		if h.role == cluster.Node && !c.sameFile(h) {
			h.kill()
		}
		h.restart()
		for _, s := range c.services {
			h.step(cluster.Checked{Service: s.Name, Up: true})
		}
		h.step(cluster.Loaded{Percent: 100})
	}
}

// sameFile gives a host the file that it first had. It tells whether nothing has
// changed by that.
func (c *Chaos) sameFile(h *Host) bool {
	same := h.votes == ""
	h.votes = ""
	for i := range h.services {
		same = same && h.services[i] == c.services[i]
		h.services[i] = c.services[i]
	}
	return same
}

// Bounds of the second act.
const (
	ownedWithin  = 5 * time.Second
	evenWithin   = 25 * time.Second // slow start is 10 s of it
	clientsLive  = 20 * time.Second
	flowsEndedIn = 10 * time.Second
)

// converge: with the faults off every bucket has an owner soon, and everything
// comes to rest.
func (c *Chaos) converge() {
	c.undoWishes()
	if !c.comes("every bucket has an owner", ownedWithin, c.AllOwned) {
		return
	}
	if !c.comes("all is even and nobody on the move", evenWithin, c.atRest) {
		return
	}
	c.o.Flows = 0
	c.Cluster.Run(clientsLive)
	if c.comes("nobody drains", flowsEndedIn, c.noDrainers) {
		c.survivors()
	}
}

// comes waits until something holds, or says that it never did.
func (c *Chaos) comes(what string, within time.Duration, holds func() bool) bool {
	if _, ok := c.Until(within, holds); !ok && len(c.Breaches) == 0 {
		c.breach("%v after the last fault it is not so that %s\n%s", within, what, c.describe())
	}
	return len(c.Breaches) == 0
}

// undoWishes asks for the settings of the beginning, once somebody answers.
func (c *Chaos) undoWishes() {
	c.Cluster.Run(3 * time.Second)
	timing, _ := cluster.TimingOf(c.o.Timing)
	wishes := []cluster.Wish{cluster.Retime{Timing: timing}}
	for _, h := range c.Hosts {
		if h.role == cluster.Node {
			wishes = append(wishes, cluster.Drain{Node: h.addr.String(), Undo: true}, cluster.Weigh{Node: h.addr.String(), Weight: 100})
		}
	}
	for i, s := range c.services {
		wishes = append(wishes, cluster.Remap{Service: s.Name, Mapping: cluster.Mapping{Digest: s.Digest, Key: cluster.Key{byte(i)}}})
	}
	for s := range c.services {
		for b := range 256 {
			wishes = append(wishes, cluster.Pin{Service: c.services[s].Name, Bucket: uint8(b)})
		}
	}
	h := c.member()
	for len(wishes) > 0 {
		n := min(len(wishes), 32)
		for _, w := range wishes[:n] {
			h.ask(w)
		}
		wishes = wishes[n:]
		c.Cluster.Run(100 * time.Millisecond)
	}
}

// member is a host that can ask for something; one that has lost its disk may still
// be on its way back.
func (c *Chaos) member() *Host {
	for _, h := range c.Hosts {
		if h.core.Status(h.clock.Now()).Phase == "member" {
			return h
		}
	}
	return c.Hosts[0]
}

// atRest: all are in, under leases, with an even share; nothing is on its way.
func (c *Chaos) atRest() bool {
	for _, h := range c.Hosts {
		if h.failed != nil || h.role == cluster.Node && (!h.leased() || !h.core.Leased(len(c.LANs)-1, h.clock.Now())) {
			return false
		}
	}
	if !c.AllOwned() {
		return false
	}
	nodes := len(c.nodes())
	for s := range c.services {
		for _, h := range c.nodes() {
			a := h.accepts(s, 0)
			n := count(a)
			if n < 256/nodes || n > (256+nodes-1)/nodes {
				return false
			}
		}
	}
	return c.same() == ""
}

func (c *Cluster) nodes() (out []*Host) {
	for _, h := range c.Hosts {
		if h.role == cluster.Node && h.up {
			out = append(out, h)
		}
	}
	return out
}

// same: all hosts have the same table.
func (c *Cluster) same() string {
	var first *Host
	for _, h := range c.Hosts {
		switch {
		case !h.up:
		case first == nil:
			first = h
		case h.core.Applied() != first.core.Applied() || h.core.Sum() != first.core.Sum():
			return fmt.Sprintf("%s and %s differ", h, first)
		}
	}
	return ""
}

// noDrainers: no flow, no drainer, no grace.
func (c *Chaos) noDrainers() bool {
	for _, h := range c.nodes() {
		for s := range c.services {
			r := &h.worker.rights.Services[s]
			if r.Grace != [4]uint64{} || r.Draining != [4]uint64{} || h.holding(s, &r.Mapping, false) != [4]uint64{} {
				return false
			}
			for i := range r.Shared {
				if r.Shared[i]&r.Accept[i] != 0 {
					return false
				}
			}
		}
	}
	return c.atRest()
}

// survivors: all others are gone for good, and a bare majority of the voters
// goes on with everything.
func (c *Chaos) survivors() {
	st := c.Hosts[0].core.Status(c.Hosts[0].clock.Now())
	die := (len(st.Voters) - 1) / 2
	if c.o.Preferred {
		die = 0
	}
	for _, h := range c.Hosts {
		voter := false
		for _, v := range st.Voters {
			voter = voter || v == h.id
		}
		switch {
		case voter && die > 0:
			die--
			h.crash()
		case !voter && h.role == cluster.Node && c.World.Rand().IntN(2) == 0:
			h.crash()
		}
	}
	c.comes("the survivors own every bucket", ownedWithin, c.AllOwned)
	c.comes("the dead are taken for dead", 2*ownedWithin, c.noGrace)
}

func (c *Chaos) noGrace() bool {
	for _, h := range c.nodes() {
		for s := range c.services {
			if h.worker.rights.Services[s].Grace != [4]uint64{} {
				return false
			}
		}
	}
	return true
}

func count(a [4]uint64) int {
	n := 0
	for i := range a {
		for w := a[i]; w != 0; w &= w - 1 {
			n++
		}
	}
	return n
}
