package scenario

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"onevoice/cluster"
	"onevoice/sim"
)

// Host is one simulated machine.
type Host struct {
	Name  string
	Index int
	c     *Cluster
	addr  netip.Addr
	mac   sim.MAC
	role  cluster.Role

	clock *sim.Clock
	disk  *sim.Disk
	port  *sim.Port
	net   *sim.NetHost

	up    bool
	boots int
	core  *cluster.Core
	timer sim.Timer
	// without and forced are what an operator gives a blank host's start.
	without []netip.Addr

	worker worker
	leases []cluster.Lease
	// failed is why the core stopped.
	failed error
	// answers of operators' wishes.
	answers map[uint64]error
	asked   uint64
}

// worker models what serves frames on a host: the rights that it has put in
// force, and the flows that it may hold.
type worker struct {
	rights *cluster.Rights
	// held is, by service and bucket, until when a flow is held.
	held [][256]time.Duration
}

// boot starts the host's process.
func (h *Host) boot(flows bool) {
	h.boots++
	h.up = true
	h.failed = nil
	h.leases = nil
	h.worker = worker{held: make([][256]time.Duration, len(h.c.services))}
	core, err := cluster.New(h.options(), h.saved(), h.clock.Now(), flows)
	if err != nil {
		h.c.breach("%s does not start: %v", h.Name, err)
		h.up = false
		return
	}
	h.core = core
	h.step(nil)
}

func (h *Host) options() cluster.Options {
	timing, err := cluster.TimingOf(h.c.o.Timing)
	if err != nil {
		panic(err)
	}
	r := h.c.World.Rand()
	o := cluster.Options{
		Cluster: "sim", Name: h.Name, Address: h.addr, Role: h.role, Preferred: h.c.o.Preferred, Timing: timing,
		Weight: 100, Services: h.c.services, Without: h.without,
		Random: rand.New(rand.NewPCG(r.Uint64(), r.Uint64())),
	}
	for i := range o.NewCluster {
		o.NewCluster[i] = byte(r.Uint32())
	}
	for _, p := range h.c.Hosts {
		if p.Index < h.c.founders {
			o.Peers = append(o.Peers, cluster.Peer{Address: p.addr, Witness: p.role == cluster.Witness})
		}
	}
	if !slices.ContainsFunc(o.Peers, func(p cluster.Peer) bool { return p.Address == h.addr }) {
		o.Peers = append(o.Peers, cluster.Peer{Address: h.addr})
	}
	if h.role == cluster.Node {
		o.Paths = []string{h.c.path}
	} else {
		o.Services = nil
	}
	return o
}

// The first byte of a record on the model disk.
const (
	diskImage  = 'I'
	diskRecord = 'R'
)

func (h *Host) saved() cluster.Saved {
	var s cluster.Saved
	for _, r := range h.disk.Records() {
		if r[0] == diskImage {
			s = cluster.Saved{Image: r[1:]}
			continue
		}
		s.Records = append(s.Records, r[1:])
	}
	return s
}

func (h *Host) write(w *cluster.Write) {
	done := func(err error) { h.step(cluster.Wrote{Seq: w.Seq, Err: err}) }
	var records [][]byte
	for _, r := range w.Records {
		records = append(records, append([]byte{diskRecord}, r...))
	}
	if len(w.Image) > 0 {
		h.disk.Replace(append([][]byte{append([]byte{diskImage}, w.Image...)}, records...), done)
		return
	}
	for i, r := range records {
		if i == len(records)-1 {
			h.disk.Write(r, done)
		} else {
			h.disk.Write(r, nil)
		}
	}
}

// step tells the core of an event and does what it wants.
func (h *Host) step(ev cluster.Event) {
	if !h.up {
		return
	}
	h.do(h.core.Step(h.clock.Now(), ev))
	h.timer.Stop()
	h.timer = h.clock.At(h.core.Deadline(), func() { h.step(nil) })
}

func (h *Host) do(e *cluster.Effects) {
	if e.Write != nil {
		h.write(e.Write)
	}
	for _, b := range e.Heartbeats {
		h.port.Send(h.c.frame(h, b.Data))
	}
	for _, d := range e.Datagrams {
		h.c.send(h, d)
	}
	if e.Leases != nil {
		h.leases = slices.Clone(e.Leases)
	}
	if e.Rights != nil {
		h.takeRights(e.Rights)
	}
	for _, a := range e.Answers {
		h.answers[a.Request] = a.Err
	}
	for _, n := range e.Notes {
		h.c.World.Record(h.Name, n.Text)
	}
	if e.Failed != nil && h.failed == nil {
		h.failed = e.Failed
		h.leases = nil
	}
}

// takeRights puts rights in force in the worker a moment later, and writes their
// generation back once the batch is out.
func (h *Host) takeRights(r *cluster.Rights) {
	delay := time.Duration(h.c.World.Rand().Int64N(int64(2 * time.Millisecond)))
	boots := h.boots
	h.clock.After(delay, func() {
		if h.boots != boots || h.worker.rights != nil && h.worker.rights.Generation > r.Generation {
			return
		}
		h.worker.rights = r
		h.clock.After(delay, func() {
			if h.boots == boots {
				h.report()
			}
		})
	})
}

// report is what the worker says to its control process.
func (h *Host) report() {
	if h.worker.rights == nil || !h.up {
		return
	}
	r := cluster.Report{Written: h.worker.rights.Generation, Looked: h.worker.rights.Generation}
	now := h.clock.Now()
	for s := range h.c.services {
		var held [4]uint64
		for b, until := range h.worker.held[s] {
			if now < until {
				held[b/64] |= 1 << (b % 64)
			}
		}
		r.Holding = append(r.Holding, held)
	}
	h.step(r)
}

// accepts reports in which buckets of a service this host would answer now. A
// frame that was let through leaves up to Guard later.
func (h *Host) accepts(service int, margin time.Duration) (out [4]uint64) {
	if !h.up || h.failed != nil || h.clock.Paused() || h.worker.rights == nil || len(h.leases) == 0 {
		return out
	}
	if h.clock.Now() >= h.leases[0].End+margin {
		return out
	}
	return h.worker.rights.Services[service].Accept
}

// crash ends the host at once.
func (h *Host) crash() {
	if !h.up {
		return
	}
	h.up = false
	h.boots++
	h.timer.Stop()
	h.disk.Crash()
	h.clock.Reset()
}

// restart brings it back. Its clock begins anew, as CLOCK_BOOTTIME does.
func (h *Host) restart() {
	if h.up {
		return
	}
	h.boot(false)
}

func (h *Host) String() string { return fmt.Sprintf("%s (%x)", h.Name, h.core.ID()) }
