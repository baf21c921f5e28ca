package scenario

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"onevoice/cluster"
	"onevoice/lab"
	"onevoice/responder"
	"onevoice/sim"
)

// watch holds the frames on the first LAN to the rules of the lab's judge, as its
// sniffer on the switch does, and tells the judge what becomes of the hosts.
type watch struct {
	c     *Cluster
	judge *lab.Judge
	nodes map[*sim.Port]bool
	hosts []seenHost
	// changed is when rights or leases last changed.
	changed time.Duration
	settled bool
}

// seenHost is what was last seen of a host.
type seenHost struct {
	rights *cluster.Rights
	boots  int
	leased bool
}

const (
	// watchEvery is how often hosts are looked at.
	watchEvery = 5 * time.Millisecond
	// calmAfter is how long nothing changes until owners count as settled: a worker
	// may be behind its page for so long.
	calmAfter = 500 * time.Millisecond
)

func newWatch(c *Cluster) *watch {
	w := &watch{c: c, nodes: map[*sim.Port]bool{}, hosts: make([]seenHost, len(c.Hosts)), settled: true}
	var services []netip.AddrPort
	for i := range c.o.Services {
		services = append(services, netip.AddrPortFrom(VIP(), servicePort+uint16(i)))
	}
	w.judge = lab.NewJudge([]lab.JudgedAddress{{Addr: VIP(), MAC: responder.MAC(c.clusterMAC(0))}}, services)
	for _, h := range c.Hosts {
		if p := h.Port(); p != nil {
			w.nodes[p] = true
		}
	}
	before := c.LANs[0].Tap
	c.LANs[0].Tap = func(from *sim.Port, frame []byte) {
		if before != nil {
			before(from, frame)
		}
		w.frame(from, frame)
	}
	w.look()
	return w
}

func (w *watch) frame(from *sim.Port, frame []byte) {
	w.judge.Frame(w.c.World.Now(), lab.Sender{Host: from.Name, Node: w.nodes[from]}, &lab.Capture{Data: frame, Bytes: len(frame)})
}

// look tells the judge what has changed, now and from now on.
func (w *watch) look() {
	now := w.c.World.Now()
	for i, h := range w.c.Hosts {
		if h.role != cluster.Node {
			continue
		}
		was, is := w.hosts[i], seenHost{h.worker.rights, h.worker.boots, h.leased() && !h.workers.Paused()}
		if is == was {
			continue
		}
		w.changed = now
		w.hosts[i] = is
		switch {
		case is.boots != was.boots:
			w.judge.Dead(h.Name, now)
			w.judge.Alive(h.Name, now)
			if !is.leased {
				w.judge.Cut(h.Name, now)
			}
		case was.leased && !is.leased:
			w.judge.Cut(h.Name, now-watchEvery)
		}
		if is.leased && !was.leased {
			w.judge.Whole(h.Name, now)
		}
	}
	switch {
	case now-w.changed < calmAfter && w.settled:
		w.settled = false
		w.judge.Moving(now)
	case now-w.changed >= calmAfter && !w.settled && w.c.AllOwned():
		w.settled = true
		w.judge.Settled(now)
	}
	w.c.World.After(watchEvery, w.look)
}

// UseReport is what users met.
type UseReport struct {
	// Begun exchanges; of them Whole came to their end with every byte, Lost ended
	// because their node had died or been without a lease for too long, and Open
	// are under way.
	Begun, Whole, Lost, Open int
	// Bytes are those of whole exchanges, both ways.
	Bytes uint64
	// Faults are what must not be, a line each; empty if all is well.
	Faults []string
	// Frames is what the judge of the frames has to say.
	Frames *lab.Verdict
}

// Exchanges are all that users have begun, oldest first, as they stand now.
func (c *Cluster) Exchanges() []*Exchange {
	if c.users == nil {
		return nil
	}
	return c.users.exchanges
}

// Quiet lets no client begin anything new, and sessions come to their end.
func (c *Cluster) Quiet() { c.quiet = true }

// JudgeUsers checks what users and the sniffer saw so far: an exchange that does
// not come to its end has to have met the death of its node. To have none under
// way, let the cluster be Quiet for a while first.
func (c *Cluster) JudgeUsers() UseReport {
	r := UseReport{Frames: c.users.judge.judge.Verdict()}
	for _, x := range c.users.exchanges {
		r.Begun++
		switch {
		case x.Ended == 0:
			r.Open++
		case x.Err == nil:
			r.Whole++
			r.Bytes += 2 * x.Bytes
			if x.Push {
				r.Bytes -= x.Bytes - tailBytes
			}
		case x.Connected > 0 && c.lostSince(c.ownerOf(x.By), x.Connected):
			r.Lost++
		default:
			r.Faults = append(r.Faults, x.String())
		}
	}
	for _, b := range r.Frames.Breaches {
		r.Faults = append(r.Faults, fmt.Sprintf("%s: %s %v", b.Rule, b.Text, b.Frames))
	}
	r.Faults = slices.Concat(c.Breaches, r.Faults)
	return r
}
