package scenario

import (
	"log/slog"
	"net/netip"
	"time"

	"onevoice/cluster"
	"onevoice/control"
	"onevoice/hashing"
	"onevoice/internal/inetdiag"
	"onevoice/link"
	"onevoice/node"
	"onevoice/sim"
)

// direct is a worker whose services are of the direct path: the daemon's own
// control.DirectPath and node.Node. DirectPath gets the programs, the sockets and the
// clock that it works with from its caller, so that all of it is real here but its
// goroutine, whose turns come on the worker's clock instead. The kernel is a model.
type direct struct {
	guarded
	path *control.DirectPath
	// wakes is when the path's time is over.
	wakes sim.Timer
	// told is what was last found to be held, under a generation.
	told struct {
		generation uint64
		services   []node.Bitmap
	}
}

// noFlows is a netstack without flows.
type noFlows struct{ node.Flows }

// wakeTakes is how long the goroutine of a DirectPath takes at most to wake up.
const wakeTakes = 2 * time.Millisecond

func (h *Host) newDirect() *direct {
	d := &direct{guarded: h.newGuarded(noFlows{})}
	k := h.kernel
	p := &programs{k: k, listed: map[uint64]bool{}, fresh: map[uint64]bool{}, asked: map[hashing.Flow]lastSYN{}, affinity: h.affinity(), hash: d.node.FlowHash}
	cfg := control.DirectConfig{
		Programs: p, Self: []netip.Addr{h.addr, VIP()}, Clock: h.clock.Now, Log: slog.New(slog.DiscardHandler),
		Ask:     func(fn func(*node.Node)) error { fn(d.node); return nil },
		Woken:   func() { h.workers.After(h.soon(time.Millisecond), h.report) },
		Listens: func(string, bool, error) {},
		Sockets: k.sockets,
		Destroy: func(s *inetdiag.Socket) error {
			f := flowOf(s.Remote, s.Local)
			k.tcp.Destroy(&f)
			k.send(netip.AddrPort{}, false)
			return nil
		},
		Cookies: func() (uint64, error) { return k.tcp.CookiesSent, nil },
		Begun:   func() (uint64, error) { return k.tcp.Begun, nil },
	}
	for i := range h.c.o.Services {
		cfg.Services = append(cfg.Services, control.DirectService{
			Index: i, Name: h.c.services[i+1].Name, Listen: netip.AddrPortFrom(VIP(), servicePort+uint16(i)),
		})
	}
	p.load(len(cfg.Services))
	if k.programs == nil {
		k.attach(p)
	} else {
		// Those of a process before this one go on until it has a lease.
		cfg.Attach = func() error { k.attach(p); return nil }
	}
	d.path = control.NewDirectPath(cfg)
	d.turnIn(0, true)
	d.turns()
	return d
}

// soon is a moment, of d at most.
func (h *Host) soon(d time.Duration) time.Duration {
	return time.Duration(h.c.World.Rand().Int64N(int64(d)))
}

// do is what the worker's process does once it runs, if it is still alive.
func (d *direct) do(fn func()) {
	d.h.workers.Do(func() {
		if d.h.worker.gate == d {
			fn()
		}
	})
}

// after is the same after a time.
func (d *direct) after(t time.Duration, fn func()) sim.Timer {
	return d.h.workers.After(t, func() {
		if d.h.worker.gate == d {
			fn()
		}
	})
}

// turnIn lets DirectPath have its turn.
func (d *direct) turnIn(t time.Duration, due bool) {
	if due {
		d.wakes.Stop()
		d.wakes = d.after(t, func() { d.turnIn(d.path.Turn(true), true) })
		return
	}
	d.after(t, func() { d.turnIn(d.path.Turn(false), true) })
}

// turns lets the node's time pass.
func (d *direct) turns() {
	d.after(node.MaxIdle, func() {
		d.force()
		d.node.Tick(d.h.clock.Now())
		for _, f := range d.node.Reports(d.h.clock.Now()) {
			d.h.send(f)
		}
		d.turns()
	})
}

// force implements server, as control.Guest.Begin does it.
func (d *direct) force() {
	before := d.rights
	d.guarded.force()
	if d.rights == nil {
		return
	}
	if d.rights != before {
		d.path.Grant(d.owned)
		d.turnIn(d.h.soon(wakeTakes), false)
	}
	for path, l := range d.h.worker.page.leases {
		if l.generation > d.h.worker.rights.Generation {
			l.end = 0
		}
		d.path.SetLease(path, l.begin, l.end, l.generation)
	}
}

// takenUp is what the worker does once it has another control process's page, as
// control.Guest.exchange does it.
func (d *direct) takenUp() {
	d.guarded.takenUp()
	d.path.TakenUp()
	d.told.generation, d.told.services = 0, nil
}

// written is the generation that may be written back.
func (d *direct) written() uint64 { return min(d.rights.Generation, d.path.Settled()) }

// report is what the worker says of what it holds, as control.Guest.tellHolding does it.
func (d *direct) report() (r cluster.Report, ok bool) {
	d.force()
	services := make([]node.Bitmap, d.h.c.o.Services)
	if d.path.Holding(services, d.h.clock.Now()) >= d.rights.Generation {
		d.told.generation, d.told.services = d.rights.Generation, services
	}
	if d.told.services == nil {
		return r, false
	}
	r = cluster.Report{Written: d.written(), Looked: d.told.generation, Holding: [][4]uint64{{}}}
	for _, b := range d.told.services {
		r.Holding = append(r.Holding, b)
	}
	return r, true
}

// frame implements server: it is none of the direct path's.
func (d *direct) frame(frame []byte, arrived time.Duration) {
	d.do(func() {
		d.force()
		now := d.h.clock.Now()
		n := d.node
		if d.careless != nil && d.h.c.o.Without.covers(frame) {
			n = d.careless
		}
		n.SetReal(now + realtime)
		if h := n.Handle(now, &link.Frame{Data: frame, Stamp: arrived + realtime}); h.Reply != nil {
			d.h.send(h.Reply)
		}
	})
}

// holding implements server.
func (d *direct) holding(int) [4]uint64 { return [4]uint64{} }

// forgetAll implements server.
func (d *direct) forgetAll() {
	_, _ = d.path.End(true, func(int, *hashing.Flow, uint8) bool { return true })
	d.turnIn(d.h.soon(wakeTakes), false)
}

// end implements server. The kernel goes on with what it was told last.
func (d *direct) end() {}

// sockets are those of the kernel, as inetdiag.Sockets tells of them.
func (k *kernel) sockets(w inetdiag.Wanted) (out []inetdiag.Socket, err error) {
	for i := range k.h.c.o.Services {
		out = append(out, inetdiag.Socket{Local: netip.AddrPortFrom(netip.IPv4Unspecified(), servicePort+uint16(i)), State: inetdiag.Listen})
	}
	for _, s := range k.tcp.Sockets() {
		if s.State != inetdiag.TimeWait || w.Over {
			out = append(out, inetdiag.Socket{
				Local: netip.AddrPortFrom(s.Flow.Dst, s.Flow.DstPort), Remote: netip.AddrPortFrom(s.Flow.Src, s.Flow.SrcPort), State: s.State,
			})
		}
	}
	return out, nil
}

// crashDaemon ends onevoice on the host, control and worker at once. The kernel goes on
// with what it was told last, and its lease runs out.
func (h *Host) crashDaemon() {
	h.kill()
	if h.worker.gate != nil {
		h.worker.gate.end()
	}
	h.worker = worker{boots: h.worker.boots + 1}
	h.workers.Reset()
}
