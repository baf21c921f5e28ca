package scenario

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"onevoice/cluster"
	"onevoice/control"
	"onevoice/sim"
)

// Host is one simulated machine: a control process, whose core is real, and a
// worker beside it that may outlive it.
type Host struct {
	Name  string
	Index int
	c     *Cluster
	addr  netip.Addr
	role  cluster.Role

	clock *sim.Clock
	disk  *sim.Disk
	ports []*sim.Port // by path
	net   *sim.NetHost
	// workers is the worker's process: it stands still by itself. Its time is
	// true time; what it compares with leases is the host's clock.
	workers *sim.Clock

	// up: the control process runs.
	up    bool
	boots int
	id    uint64
	core  *cluster.Core
	// lister lists flows for others; nil but on the direct path.
	lister *control.Lister
	timer  sim.Timer
	page   *page
	// failed is why the core stopped.
	failed error

	worker worker
	// kernel is the host's own TCP, of the direct path; nil where there is none.
	kernel *kernel
	// lateFINs are what TIME-WAIT of its kernels has answered in buckets that others may
	// own, by client.
	lateFINs map[netip.AddrPort]uint64
	// rights are what it may take of each service, and syns when SYNs came for it.
	rights []right
	syns   map[asking]time.Duration
	// stance is what the invariants last saw.
	stance stance
	// reported is when the worker's last report comes in: they keep their order.
	reported time.Duration
	// leasedAt is the true time at which this host last held a lease.
	leasedAt time.Duration
	// lostAt is when it last lost the right to its flows: by its death, or by too
	// long a time without a lease.
	lostAt time.Duration
	// applied is the last entry that its table was looked at after.
	applied     uint64
	appliedBoot int

	// What its operator has set: the file, and the options of its start.
	services []cluster.ServiceSpec
	votes    string
	weight   uint32
	without  []netip.Addr
	forced   bool
	// answers of operators' wishes.
	answers map[uint64]error
	asked   uint64
	// story gets the lines of its log.
	story func(h *Host, n cluster.Note)
}

// boot starts the control process. Workers of an earlier one may be alive.
func (h *Host) boot() {
	h.boots++
	h.up, h.failed = true, nil
	h.page = &page{leases: make([]pageLease, len(h.c.paths))}
	if h.c.o.Direct && h.kernel == nil && h.role == cluster.Node {
		h.kernel = h.newKernel()
	}
	flows := h.worker.alive || h.kernel != nil && h.kernel.programs != nil
	core, err := cluster.New(h.options(), h.saved(), h.clock.Now(), flows)
	if err != nil {
		h.c.breach("%s does not start: %v", h.Name, err)
		h.up = false
		return
	}
	h.core, h.id, h.lister = core, core.ID(), nil
	if h.c.o.Direct && h.role == cluster.Node && !h.c.o.Without.Lists {
		h.lister = h.newLister()
	}
	if !h.worker.alive && h.role == cluster.Node {
		h.worker = worker{alive: true, page: h.page, boots: h.worker.boots + 1}
		if o := &h.c.o; o.Stations > 0 || o.Users > 0 || o.Gates || o.Direct {
			h.worker.gate = h.newServer()
		}
	}
	h.reports(h.boots)
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
		Weight: h.weight, Services: h.services, Without: h.without, Forced: h.forced, Votes: h.votes,
		SnapshotEvery: h.c.o.Snapshot, KeepEntries: h.c.o.Keep,
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
		o.Paths = h.c.paths
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
	boots := h.boots
	done := func(err error) {
		if h.boots == boots {
			h.step(cluster.Wrote{Seq: w.Seq, Err: err})
		}
	}
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
	h.list()
	h.timer.Stop()
	h.timer = h.clock.At(h.core.Deadline(), func() { h.step(nil) })
}

func (h *Host) do(e *cluster.Effects) {
	if e.Write != nil {
		h.write(e.Write)
	}
	for _, b := range e.Heartbeats {
		h.ports[b.Path].Send(h.heartbeat(b))
	}
	for _, d := range e.Datagrams {
		h.c.send(h, d)
	}
	if e.Rights != nil {
		h.page.publish(e.Rights)
		if h.lister != nil {
			h.lister.Regranted()
		}
		h.takeSoon()
	}
	if e.Leases != nil {
		h.page.lease(e.Leases)
	}
	if e.Forget {
		h.forget()
	}
	for _, a := range e.Answers {
		h.answers[a.Request] = a.Err
	}
	for _, n := range e.Notes {
		h.c.World.Record(h.Name, n.Text)
		if h.story != nil {
			h.story(h, n)
		}
	}
	if e.Failed != nil && h.failed == nil {
		h.failed = e.Failed
		h.page.lease(make([]cluster.Lease, len(h.c.paths)))
	}
}

// ask gives the core an operator's wish, and returns its number.
func (h *Host) ask(w cluster.Wish) uint64 {
	h.asked++
	h.step(cluster.Ask{Request: h.asked, Wish: w})
	return h.asked
}

// kill ends the control process alone: the worker goes on.
func (h *Host) kill() {
	if h.up {
		h.up = false
		h.boots++
		h.timer.Stop()
		h.disk.Crash() // an fsync that was not answered may have happened or not
		h.clock.Reset()
	}
}

// crash ends the host at once, worker and all. Its clock begins anew, as
// CLOCK_BOOTTIME does.
func (h *Host) crash() {
	h.kill()
	if h.worker.gate != nil {
		h.worker.gate.end()
	}
	h.worker = worker{boots: h.worker.boots + 1}
	h.kernel = nil
	h.lostAt = h.c.World.Now()
	h.workers.Reset()
	h.clock.Reboot(time.Duration(h.c.World.Rand().Int64N(int64(time.Second))))
}

// wipe is a crash after which the disk is empty.
func (h *Host) wipe() {
	h.crash()
	h.disk.Wipe()
}

// restart brings the control process back.
func (h *Host) restart() {
	if !h.up {
		h.boot()
	}
}

func (h *Host) String() string { return fmt.Sprintf("%s (%x)", h.Name, h.id) }
