package scenario

import (
	"fmt"
	mrand "math/rand/v2"
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

// guarded is a real node.Node, and what of its worker's page is in force in it.
type guarded struct {
	h      *Host
	node   *node.Node
	rights *cluster.Rights
	// owned is what they came to for the node.
	owned *node.Ownership
	// careless answers for every bucket of the VIP, where a rule is switched off.
	careless *node.Node
}

// gate is a worker that serves frames: a real node.Node in front of a model of
// netstack. There is one when Options.Stations or Options.Gates is set, unless
// Options.Netstack is.
type gate struct {
	guarded
	tcp *model.TCP
}

// Addresses of the simulated LAN.
const (
	servicePort = 8000
	lanBits     = 24
	usersBits   = 16 // with users
	mtu         = 1500
	// realtime is how much CLOCK_REALTIME is ahead of each host's own clock.
	realtime = 1000 * time.Hour
)

// VIP is the shared address of the simulated LAN.
func VIP() netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, 2}) }

// newServer makes what serves frames on a host, as the options say.
func (h *Host) newServer() server {
	switch {
	case h.c.o.Direct:
		return h.newDirect()
	case h.c.o.Netstack:
		return h.newWhole()
	}
	return h.newGate()
}

func (h *Host) newGate() *gate {
	g := &gate{tcp: model.New(h.c.World.Rand().Uint32)}
	g.guarded = h.newGuarded(g.tcp)
	g.turns()
	return g
}

// newGuarded makes the pipeline before a TCP.
func (h *Host) newGuarded(flows node.Flows) guarded {
	g := guarded{h: h, node: h.newNode(flows)}
	if w := h.c.o.Without; w.ICMPOwner || w.ARPOwner {
		g.careless = h.newNode(flows)
		all := node.Rows{Key: hashing.Key{1}, Accept: node.Bitmap{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}}
		o := &node.Ownership{VIPs: []node.Rows{all}, Services: make([]node.Rows, h.c.o.Services), LeaseEnd: node.Forever}
		if err := g.careless.SetOwnership(o); err != nil {
			panic(fmt.Sprintf("scenario: %v", err)) // a mistake of ours
		}
	}
	return g
}

// newNode makes the host's pipeline before a TCP.
func (h *Host) newNode(flows node.Flows) *node.Node {
	c := h.c
	lan := c.o.Prefix
	if bits := lanBits; !lan.IsValid() {
		if c.o.Users > 0 {
			bits = usersBits
		}
		lan = netip.PrefixFrom(VIP(), bits).Masked()
	}
	cfg := node.Config{
		Own: h.mac(0), Address: h.addr, MTU: mtu, Gateway: c.o.Gateway,
		VIPs:   []node.VIP{{VIP: responder.VIP{Addr: VIP(), MAC: responder.MAC(c.clusterMAC(0))}, LAN: lan}},
		Hasher: hashing.NewHasher(hashing.Key{1}), ListKey: listKey(), Flows: flows,
	}
	if whole, ok := flows.(node.Cookies); ok {
		cfg.Cookies = whole
	}
	for i := range c.o.Services {
		cfg.Services = append(cfg.Services, node.Service{Proto: node.TCP, Listen: netip.AddrPortFrom(VIP(), servicePort+uint16(i)), Affinity: h.affinity(), Direct: c.o.Direct})
	}
	if len(c.o.Groups) > 0 {
		r := c.World.Rand()
		cfg.Groups, cfg.Random = c.o.Groups, mrand.New(mrand.NewPCG(r.Uint64(), r.Uint64()))
	}
	n, err := node.New(cfg)
	if err != nil {
		panic(fmt.Sprintf("scenario: %v", err)) // a mistake of ours
	}
	return n
}

// affinity is that of the services.
func (h *Host) affinity() hashing.Affinity {
	if a := h.c.o.Affinity; a != nil {
		return *a
	}
	return hashing.SourceIPPort
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
			if g.careless != nil {
				g.careless.Tick(g.h.clock.Now())
			}
			g.tcp.Tick(g.h.clock.Now())
			g.sendAll()
			for _, f := range g.node.Reports(g.h.clock.Now()) {
				g.h.send(f)
			}
			g.turns()
		}
	})
}

// force puts in force what the worker has of its page.
func (g *guarded) force() {
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
func (g *guarded) own(r *cluster.Rights) {
	o := &node.Ownership{Generation: r.Generation, Elsewhere: r.Elsewhere, VIPs: []node.Rows{rowsOf(&r.Services[0])}}
	for i := range r.Services[1:] {
		o.Services = append(o.Services, rowsOf(&r.Services[i+1]))
	}
	if err := g.node.SetOwnership(o); err != nil {
		panic(fmt.Sprintf("scenario: %v", err)) // a mistake of ours
	}
	g.rights, g.owned = r, o
}

// takenUp is what the worker does once it has another control process's page.
func (g *guarded) takenUp() { g.node.TakenUp() }

// inForce implements server.
func (g *guarded) inForce() *cluster.Rights { return g.rights }

func rowsOf(s *cluster.ServiceRights) node.Rows {
	r := node.Rows{Key: hashing.Key(s.Mapping.Key), Accept: s.Accept, Grace: s.Grace, Shared: s.Shared, Draining: s.Draining}
	r.Key[15] = 1 // no key of a table is zero
	return r
}

// frame implements server: the gate looks at it once the worker runs.
func (g *gate) frame(frame []byte, arrived time.Duration) {
	g.h.workers.Do(func() {
		if g.h.worker.gate == g {
			g.handle(frame, arrived)
		}
	})
}

// end implements server.
func (g *gate) end() {}

func (g *gate) handle(frame []byte, arrived time.Duration) {
	g.force()
	now := g.h.clock.Now()
	n := g.node
	if g.careless != nil && g.h.c.o.Without.covers(frame) {
		n = g.careless
	}
	n.SetReal(now + realtime)
	h := n.Handle(now, &link.Frame{Data: frame, Stamp: arrived + realtime})
	if h.Reply != nil {
		g.h.send(h.Reply)
	}
	if h.Packet != nil {
		g.tcp.Deliver(now, h.Packet)
	}
	g.sendAll()
}

func (g *gate) sendAll() {
	now := g.h.clock.Now()
	for _, p := range g.tcp.Take() {
		if v := g.node.MayLeave(now, p); v != node.Undecided && !(v == node.LateSYNACK && g.h.c.o.Without.LastSYN && g.h.lateButOurs(p)) {
			continue
		}
		f := make([]byte, sim.MinFrame, sim.MinFrame+len(p))
		to := netip.AddrFrom4([4]byte(p[16:20]))
		if g.node.Address(now, to, f) {
			g.h.send(append(f, p...))
		} else if ask := g.node.Ask(now, to); ask != nil {
			g.h.send(ask)
		}
	}
}

// holding implements server.
func (g *guarded) holding(service int) [4]uint64 {
	if service == 0 {
		return [4]uint64{} // the VIP's own rows have no flows
	}
	return g.node.Holding(g.h.clock.Now(), service-1)
}

// forgetFlows forgets all that is held.
func (g *guarded) forgetFlows() {
	all := node.Bitmap{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
	for i := range g.h.c.o.Services {
		g.node.ForgetFlows(g.h.clock.Now(), i, &all)
	}
}

// forgetAll implements server.
func (g *gate) forgetAll() {
	g.forgetFlows()
	g.sendAll()
}
