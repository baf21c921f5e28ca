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
	// careless answers for every bucket of the VIP, where a rule is switched off.
	careless *node.Node
}

// Addresses of the simulated LAN.
const (
	servicePort = 8000
	lanBits     = 24
	// realtime is how much CLOCK_REALTIME is ahead of each host's own clock.
	realtime = 1000 * time.Hour
)

// VIP is the shared address of the simulated LAN.
func VIP() netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, 2}) }

func (h *Host) newGate() *gate {
	g := &gate{h: h, tcp: model.New(h.c.World.Rand().Uint32), boots: h.worker.boots}
	g.node = g.newNode()
	if w := h.c.o.Without; w.ICMPOwner || w.ARPOwner {
		g.careless = g.newNode()
		g.careless.SetLease(0, 0, node.Forever)
		all := node.Rows{Key: hashing.Key{1}, Accept: node.Bitmap{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}}
		o := &node.Ownership{VIPs: []node.Rows{all}, Services: make([]node.Rows, h.c.o.Services)}
		if err := g.careless.SetOwnership(o); err != nil {
			panic(fmt.Sprintf("scenario: %v", err)) // a mistake of ours
		}
	}
	g.turns()
	return g
}

func (g *gate) newNode() *node.Node {
	c := g.h.c
	affinity := hashing.SourceIPPort
	if c.o.Affinity != nil {
		affinity = *c.o.Affinity
	}
	lan := c.o.Prefix
	if !lan.IsValid() {
		lan = netip.PrefixFrom(VIP(), lanBits).Masked()
	}
	cfg := node.Config{
		Own: g.h.mac(0), Address: g.h.addr, MTU: 1500, Gateway: c.o.Gateway,
		VIPs:   []node.VIP{{VIP: responder.VIP{Addr: VIP(), MAC: responder.MAC(c.clusterMAC(0))}, LAN: lan}},
		Hasher: hashing.NewHasher(hashing.Key{1}), ListKey: hashing.Key{2}, Flows: g.tcp,
	}
	for i := range c.o.Services {
		cfg.Services = append(cfg.Services, node.Service{Listen: netip.AddrPortFrom(VIP(), servicePort+uint16(i)), Affinity: affinity})
	}
	n, err := node.New(cfg)
	if err != nil {
		panic(fmt.Sprintf("scenario: %v", err)) // a mistake of ours
	}
	return n
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
	if g.rights != w.rights && !(g.h.c.fixed && g.rights != nil) {
		g.own(w.rights)
	}
	if g.h.c.fixed {
		g.node.SetLease(0, 0, node.Forever)
		return
	}
	l := w.page.leases[0]
	if l.generation > w.rights.Generation {
		l = pageLease{}
	}
	g.node.SetLease(0, l.begin, l.end)
}

// own puts rights in force.
func (g *gate) own(r *cluster.Rights) {
	o := &node.Ownership{Generation: r.Generation, VIPs: []node.Rows{rowsOf(&r.Services[0])}}
	for i := range r.Services[1:] {
		o.Services = append(o.Services, rowsOf(&r.Services[i+1]))
	}
	if err := g.node.SetOwnership(o); err != nil {
		panic(fmt.Sprintf("scenario: %v", err)) // a mistake of ours
	}
	g.rights = r
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
	n := g.node
	if g.careless != nil && g.h.c.o.Without.covers(frame) {
		n = g.careless
	}
	n.SetReal(now + realtime)
	h := n.Handle(now, &link.Frame{Data: frame, Stamp: arrived + realtime})
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
