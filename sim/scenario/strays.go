package scenario

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"onevoice/cluster"
	"onevoice/sim"
)

// stray is a segment of a connection that nobody has: an acknowledgment with data, from
// a port that no other connection of its station ever has.
type stray struct {
	port uint16
	// sent is how often it was.
	sent int
	// shared: others drained its bucket when it was first sent.
	shared bool
}

// Bounds of strays.
const (
	firstStray   = 40000
	strayEvery   = time.Second
	strayAgain   = 300 * time.Millisecond
	strayTries   = 5
	strayBytes   = 20
	straysAtOnce = 30
)

// straysOf sends one now and then.
func (c *Cluster) straysOf(s *station) {
	if c.quiet || !c.o.Direct {
		return
	}
	c.World.After(strayEvery/2+time.Duration(c.World.Rand().Int64N(int64(strayEvery))), func() {
		c.stray(s, 1)
		c.straysOf(s)
	})
}

// stray sends one, and again while it has no answer.
func (c *Cluster) stray(s *station, tries int) {
	r := c.World.Rand()
	y := &stray{port: uint16(firstStray + len(s.strays))}
	s.strays = append(s.strays, y)
	y.shared = c.sharedNow(s, y.port)
	seq, ack := r.Uint32(), r.Uint32()
	var send func()
	send = func() {
		if s.resets(y) > 0 || y.sent == tries {
			return
		}
		y.sent++
		s.Send(y.port, servicePort, sim.ACK|sim.PSH, seq, ack, make([]byte, strayBytes))
		c.World.After(strayAgain, send)
	}
	send()
}

// flood sends SYNs whose answers nobody awaits: where these are cookies, they may come back
// for a minute.
func (c *Cluster) flood(s *station) {
	for range straysAtOnce {
		y := &stray{port: uint16(firstStray + len(s.strays)), sent: 1}
		s.strays = append(s.strays, y)
		s.Send(y.port, servicePort, sim.SYN, c.World.Rand().Uint32(), 0, nil)
	}
}

// resets are how many came for a stray.
func (s *station) resets(y *stray) (n int) {
	for i := range s.StrayResets {
		if s.StrayResets[i].To.Port() == y.port {
			n++
		}
	}
	return n
}

// sharedNow reports whether the bucket of a station's port has an owner and drainers.
func (c *Cluster) sharedNow(s *station, port uint16) bool {
	for _, h := range c.Hosts {
		if h.kernel == nil || h.kernel.programs == nil {
			continue
		}
		p := h.kernel.programs
		f := flowOf(netip.AddrPortFrom(s.IP, port), netip.AddrPortFrom(VIP(), servicePort))
		if b := p.bucket(&f, 0); b.Owned {
			return !b.Settled
		}
	}
	return false
}

// judgeStrays: nobody's segment is answered by two. Those that were sent more often than
// once have to be answered, as of a cluster at rest in which no SYN cookie is out.
func (c *Cluster) judgeStrays() (out []string) {
	for _, s := range c.stations {
		for _, y := range s.strays {
			switch n := s.resets(y); {
			case n > y.sent:
				out = append(out, fmt.Sprintf("%s port %d: %d resets for %d segments of no connection", s.Name, y.port, n, y.sent))
			case n == 0 && y.sent == strayTries:
				out = append(out, fmt.Sprintf("%s port %d: no reset for %d segments of no connection, though no drainer has it (a drained bucket: %v)", s.Name, y.port, y.sent, y.shared))
			}
		}
	}
	return out
}

// straysAtRest: a node drains, with connections that go on, and strays come in all
// buckets. It returns how many came in buckets that were drained.
// Where SYN cookies have left, no list counts for a minute, and nothing is tried.
func (c *Cluster) straysAtRest() (shared int) {
	nodes := c.nodes()
	if slices.ContainsFunc(nodes, func(h *Host) bool { return h.kernel.tcp.CookiesSent > 0 }) {
		return 0
	}
	c.Ask(cluster.Drain{Node: nodes[c.World.Rand().IntN(len(nodes))].Name})
	c.Run(2 * time.Second)
	for _, s := range c.stations {
		for range straysAtOnce {
			c.stray(s, strayTries)
			if s.strays[len(s.strays)-1].shared {
				shared++
			}
		}
	}
	c.Run((strayTries + 1) * strayAgain)
	return shared
}
