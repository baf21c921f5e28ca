package scenario

import (
	"fmt"
	"net/netip"
	"time"

	"onevoice/cluster"
	"onevoice/hashing"
	"onevoice/link"
	"onevoice/node"
	"onevoice/node/model"
	"onevoice/responder"
	"onevoice/sim"
)

// gate is a worker that serves frames: a real node.Node in front of a model of
// netstack. There is one when Options.Stations is set.
type gate struct {
	h    *Host
	node *node.Node
	tcp  *model.TCP
	// rights are those that are in force in the node.
	rights *cluster.Rights
	boots  int
}

// Addresses of the simulated LAN.
const (
	vipAddress  = "10.77.0.2"
	lanPrefix   = "10.77.0.0/24"
	servicePort = 8000
	// realtime is how much CLOCK_REALTIME is ahead of each host's own clock.
	realtime = 1000 * time.Hour
)

func (h *Host) newGate() *gate {
	c := h.c
	vip := netip.MustParseAddr(vipAddress)
	cfg := node.Config{
		Own: h.mac(0), Address: h.addr, MTU: 1500,
		VIPs:   []node.VIP{{VIP: responder.VIP{Addr: vip, MAC: responder.MAC(clusterMAC(0))}, LAN: netip.MustParsePrefix(lanPrefix)}},
		Hasher: hashing.NewHasher(hashing.Key{1}), ListKey: hashing.Key{2},
	}
	for i := range c.o.Services {
		cfg.Services = append(cfg.Services, node.Service{Listen: netip.AddrPortFrom(vip, servicePort+uint16(i)), Affinity: hashing.SourceIPPort})
	}
	g := &gate{h: h, tcp: model.New(c.World.Rand().Uint32), boots: h.worker.boots}
	cfg.Flows = g.tcp
	n, err := node.New(cfg)
	if err != nil {
		panic(fmt.Sprintf("scenario: %v", err)) // a mistake of ours
	}
	g.node = n
	g.turns()
	return g
}

// mac is a host's own on a path.
func (h *Host) mac(path int) responder.MAC {
	return responder.MAC{2, 0, 0, 0, byte(path), byte(11 + h.Index)}
}

// turns lets the node's time pass.
func (g *gate) turns() {
	g.h.workers.After(node.MaxIdle, func() {
		if g.h.worker.gate == g {
			g.force()
			g.node.Tick(g.h.clock.Now())
			g.tcp.Tick(g.h.clock.Now())
			g.sendAll()
			g.turns()
		}
	})
}

// force puts in force what the worker has of its page.
func (g *gate) force() {
	w := &g.h.worker
	if w.rights == nil {
		return
	}
	if g.rights != w.rights {
		o := &node.Ownership{Generation: w.rights.Generation}
		o.VIPs = append(o.VIPs, rowsOf(&w.rights.Services[0]))
		for i := range w.rights.Services[1:] {
			o.Services = append(o.Services, rowsOf(&w.rights.Services[i+1]))
		}
		if err := g.node.SetOwnership(o); err != nil {
			panic(fmt.Sprintf("scenario: %v", err)) // a mistake of ours
		}
		g.rights = w.rights
	}
	l := w.page.leases[0]
	if l.generation > w.rights.Generation {
		l = pageLease{}
	}
	g.node.SetLease(0, l.begin, l.end)
}

func rowsOf(s *cluster.ServiceRights) node.Rows {
	r := node.Rows{Key: hashing.Key(s.Mapping.Key), Accept: s.Accept, Grace: s.Grace, Shared: s.Shared, Draining: s.Draining}
	r.Key[15] = 1 // no key of a table is zero
	return r
}

// frame is one that came in at a time of the host's clock.
func (g *gate) frame(frame []byte, arrived time.Duration) {
	g.force()
	now := g.h.clock.Now()
	g.node.SetReal(now + realtime)
	h := g.node.Handle(now, &link.Frame{Data: frame, Stamp: arrived + realtime})
	if h.Reply != nil {
		g.h.ports[0].Send(h.Reply)
	}
	if h.Packet != nil {
		g.tcp.Deliver(now, h.Packet)
	}
	g.sendAll()
}

func (g *gate) sendAll() {
	now := g.h.clock.Now()
	for _, p := range g.tcp.Take() {
		if g.node.MayLeave(now, p) != node.Undecided {
			continue
		}
		f := make([]byte, sim.MinFrame, sim.MinFrame+len(p))
		to := netip.AddrFrom4([4]byte(p[16:20]))
		if g.node.Address(now, to, f) {
			g.h.ports[0].Send(append(f, p...))
		} else if ask := g.node.Ask(now, to); ask != nil {
			g.h.ports[0].Send(ask)
		}
	}
}

// holding are the buckets of a service in which anything may be held.
func (g *gate) holding(service int) [4]uint64 {
	if service == 0 {
		return [4]uint64{} // the VIP's own rows have no flows
	}
	return g.node.Holding(g.h.clock.Now(), service-1)
}

// forgetAll closes what the gate holds and says nothing.
func (g *gate) forgetAll() {
	all := node.Bitmap{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
	for i := range g.h.c.o.Services {
		g.node.ForgetFlows(g.h.clock.Now(), i, &all)
	}
	g.sendAll()
}
