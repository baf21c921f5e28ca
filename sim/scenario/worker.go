package scenario

import (
	"math"
	"slices"
	"time"

	"onevoice/cluster"
)

// page is the memory that a control process shares with its workers: the rights
// and, bound to the rights that were in force when it was written, the leases.
type page struct {
	rights *cluster.Rights
	leases []pageLease
}

type pageLease struct {
	begin, end time.Duration
	// generation of the rights under which the lease may be used: a worker that
	// has older ones in force does not.
	generation uint64
}

func (p *page) publish(r *cluster.Rights) { p.rights = r }

func (p *page) lease(leases []cluster.Lease) {
	generation := uint64(0)
	if p.rights != nil {
		generation = p.rights.Generation
	}
	for i, l := range leases {
		p.leases[i] = pageLease{l.Begin, l.End, generation}
	}
}

// worker models what serves frames on a host: the rights that it has in force,
// which may be behind those of its page, and the flows that it holds. It goes on
// under its old page when its control process has died, until it has taken up
// the page of the next.
type worker struct {
	alive  bool
	boots  int
	page   *page
	rights *cluster.Rights
	flows  []flow
	// gate serves frames, nil when clients are only modelled.
	gate server
	// slow is until when it takes nothing up: it has a long batch.
	slow time.Duration
	// version counts the changes of flows, and masks are what they came to.
	version uint64
	masks   []mask
}

// server is the part of a worker that serves frames.
type server interface {
	// frame is one that came in at a time of the host's clock.
	frame(frame []byte, arrived time.Duration)
	// force puts in force what the worker has of its page; what was decided under
	// older rights has left when it returns.
	force()
	// inForce are the rights under which frames are judged, nil before any.
	inForce() *cluster.Rights
	// holding are the buckets of a service in which anything may be held.
	holding(service int) [4]uint64
	// forgetAll closes what is held and says nothing.
	forgetAll()
	// end is the worker's death.
	end()
}

// flow is a client's connection, found by its tuple.
type flow struct {
	service     int
	tuple       uint64
	born, until time.Duration // true times
	// forgotten: the cluster has given it up, and the worker was told. lost: its
	// node has been without a lease for too long.
	forgotten, lost bool
}

// bucketOf is the model's hash: the mapping's key leads a tuple to a bucket.
func bucketOf(tuple uint64, m *cluster.Mapping) uint8 {
	x := tuple ^ uint64(m.Key[0])<<8 ^ uint64(m.Digest[0])<<16
	x *= 0x9e3779b97f4a7c15
	return uint8(x >> 56)
}

// takeSoon lets the worker take up what its control process has published, a
// moment later.
func (h *Host) takeSoon() {
	w, p := h.workers, h.page
	delay := time.Duration(h.c.World.Rand().Int64N(int64(2 * time.Millisecond)))
	if h.worker.page != p {
		delay *= 10 // it has to be found, and to get the page's descriptor
	}
	w.After(max(delay, h.worker.slow-w.Now()), func() { h.take(p) })
}

// take puts the published rights of a page in force, and writes their generation
// back at the end of the batch.
func (h *Host) take(p *page) {
	w := &h.worker
	if !w.alive || p != h.page || p.rights == nil || w.page == p && w.rights == p.rights {
		return
	}
	if now := h.workers.Now(); now < w.slow {
		h.workers.At(w.slow, func() { h.take(p) })
		return
	}
	if g, ok := w.gate.(interface{ takenUp() }); ok && w.page != nil && w.page != p {
		g.takenUp()
	}
	w.page, w.rights = p, p.rights
	h.workers.After(time.Duration(h.c.World.Rand().Int64N(int64(time.Millisecond))), h.report)
}

// reports makes the worker report now and then.
func (h *Host) reports(boots int) {
	h.workers.After(100*time.Millisecond, func() {
		if h.boots == boots {
			h.report()
			h.reports(boots)
		}
	})
}

// report is what the worker says to its control process: it arrives a moment
// later.
func (h *Host) report() {
	w := &h.worker
	if w.rights == nil || w.page != h.page || !h.up || h.role != cluster.Node {
		return
	}
	if d, ok := w.gate.(*direct); ok {
		if r, ok := d.report(); ok {
			h.told(r)
		}
		return
	}
	r := cluster.Report{Written: w.rights.Generation, Looked: w.rights.Generation}
	for s := range h.services {
		held := h.holding(s, &w.rights.Services[s].Mapping, false)
		if w.gate != nil {
			w.gate.force()
			held = w.gate.holding(s)
		}
		r.Holding = append(r.Holding, held)
	}
	h.told(r)
}

// told lets a report come in.
func (h *Host) told(r cluster.Report) {
	boots := h.boots
	h.reported = max(h.reported, h.c.World.Now()+time.Duration(h.c.World.Rand().Int64N(int64(3*time.Millisecond))))
	h.c.World.At(h.reported, func() {
		h.clock.Do(func() {
			if h.boots == boots {
				h.step(r)
			}
		})
	})
}

// holding are the buckets of a service's flows under a mapping; if loyal, without
// those that the cluster may reset.
func (h *Host) holding(service int, m *cluster.Mapping, loyal bool) (out [4]uint64) {
	now := h.c.World.Now()
	for i := range h.worker.flows {
		f := &h.worker.flows[i]
		if f.service == service && now < f.until && !(loyal && (f.forgotten || f.lost)) {
			b := bucketOf(f.tuple, m)
			out[b/64] |= 1 << (b % 64)
		}
	}
	return out
}

// forget gives up what the worker holds. It closes the flows a moment later, and
// says nothing.
func (h *Host) forget() {
	for i := range h.worker.flows {
		h.worker.flows[i].forgotten = true
	}
	h.worker.version++
	h.lostAt = h.c.World.Now()
	boots := h.worker.boots
	h.workers.After(time.Millisecond, func() {
		if h.worker.boots == boots {
			h.worker.flows = slices.DeleteFunc(h.worker.flows, func(f flow) bool { return f.forgotten })
			if h.worker.gate != nil {
				h.worker.gate.forgetAll()
			}
		}
	})
}

// usable is the worker's own judgement: its lease on a service's path covers
// now. A frame that was let through leaves up to margin later.
func (h *Host) usable(service int, margin time.Duration) bool {
	w := &h.worker
	if !w.alive || w.page == nil || w.rights == nil {
		return false
	}
	l := w.page.leases[h.services[service].Path]
	return l.generation <= w.rights.Generation && h.clock.Now() < l.end+margin
}

// accepts reports in which buckets of a service this host would answer now. A
// worker that stands still answers nothing, but its kernel goes on.
func (h *Host) accepts(service int, margin time.Duration) (out [4]uint64) {
	if service > 0 && h.c.o.Direct {
		if h.kernel == nil {
			return out
		}
		return h.kernel.accepts(service-1, margin)
	}
	if !h.usable(service, margin) || h.workers.Paused() {
		return out
	}
	return h.worker.rights.Services[service].Accept
}

// nextClient lets a client come, at random.
func (c *Cluster) nextClient() {
	if c.o.Flows == 0 {
		return
	}
	r := c.World.Rand()
	c.World.After(time.Duration(r.ExpFloat64()/c.o.Flows*float64(time.Second)), func() {
		c.client()
		c.nextClient()
	})
}

// client is a new flow of a random tuple, taken by who accepts it.
func (c *Cluster) client() {
	r := c.World.Rand()
	now := c.World.Now()
	life := time.Duration(math.Exp(r.Float64()*6) * float64(40*time.Millisecond)) // 40 ms to 16 s
	f := flow{service: r.IntN(len(c.services)), tuple: r.Uint64(), born: now, until: now + life}
	for _, h := range c.Hosts {
		h.worker.flows = slices.DeleteFunc(h.worker.flows, func(f flow) bool { return now >= f.until })
		if !h.worker.alive || h.worker.rights == nil {
			continue
		}
		if a, b := h.accepts(f.service, 0), bucketOf(f.tuple, &h.worker.rights.Services[f.service].Mapping); a[b/64]&(1<<(b%64)) != 0 {
			h.worker.flows = append(h.worker.flows, f)
			h.worker.version++
			c.Served++
			return
		}
	}
	c.Refused++
}

// leased reports whether the control process has given its workers a lease.
func (h *Host) leased() bool {
	return h.up && slices.ContainsFunc(h.page.leases, func(l pageLease) bool { return h.clock.Now() < l.end })
}
