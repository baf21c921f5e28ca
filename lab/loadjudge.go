package lab

import (
	"errors"
	"time"

	"onevoice/cluster"
)

// LostLease is a lease that a node lost under load.
type LostLease struct {
	Node string    `json:"node"`
	At   time.Time `json:"at"`
	// OverFor is how long it was without one, 0 until the end.
	OverFor time.Duration `json:"over_for_ns"`
	// Stall is the longest in the lease's time before, of a bystander with the
	// priority of heartbeats; so long that no node could have kept its lease, it
	// excuses.
	Stall   time.Duration `json:"stall_ns"`
	Excused bool          `json:"excused"`
	// Worker: the node had kept its heartbeats back, for its worker stood still.
	Worker bool `json:"worker_stood_still"`
}

// LoadEviction is a node's eviction under load. It is excused when every loss
// of a lease that it came of is.
type LoadEviction struct {
	Node    string    `json:"node"`
	At      time.Time `json:"at"`
	Excused bool      `json:"excused"`
}

const (
	// stallSlack is what a bystander may wake earlier than the heartbeats.
	stallSlack = 20 * time.Millisecond
	// evictionNear bounds how far a loss and the eviction that comes of it are
	// apart, and how far apart the nodes tell of one eviction.
	evictionNear = 5 * time.Second
)

// excusing is how long the whole machine has to stand still to excuse a lost
// lease: it lasts for a TTL from the sending of a heartbeat, and the last may
// have left an interval before.
func excusing(t cluster.Timing) time.Duration { return t.TTL - t.Heartbeat - stallSlack }

// judge finds lost leases and evictions in what the logs say.
func (r *LoadResult) judge(events []loadEvent, heartbeat *bystander, timing cluster.Timing) {
	open, still := map[string]int{}, map[string]time.Time{}
	for _, e := range events {
		switch e.kind {
		case workerStill:
			still[e.node] = e.at
		case leaseLost, leaseBlinked:
			lost := LostLease{Node: e.node, At: e.at, Stall: heartbeat.worst(e.at.Add(-timing.TTL), e.at)}
			lost.Excused = lost.Stall >= excusing(timing)
			s, ok := still[e.node]
			lost.Worker = ok && e.at.Sub(s) < 2*timing.TTL
			open[e.node] = len(r.Lost)
			r.Lost = append(r.Lost, lost)
		case leaseHeld:
			if i, ok := open[e.node]; ok {
				r.Lost[i].OverFor = e.at.Sub(r.Lost[i].At)
				delete(open, e.node)
			}
		}
	}
	for _, e := range events {
		if e.kind == evicted {
			r.evicted(e)
		}
	}
}

// evicted notes an eviction once, of which every node tells.
func (r *LoadResult) evicted(e loadEvent) {
	for i := range r.Evictions {
		if v := &r.Evictions[i]; v.Node == e.node && e.at.Sub(v.At) < evictionNear {
			return
		}
	}
	losses, excused := 0, true
	for i := range r.Lost {
		if l := &r.Lost[i]; l.Node == e.node && l.At.Sub(e.at).Abs() < evictionNear {
			losses++
			excused = excused && l.Excused
		}
	}
	r.Evictions = append(r.Evictions, LoadEviction{e.node, e.at, excused && losses > 0})
}

// arrived notes newcomers that are done.
func (r *LoadResult) arrived(all []newcomer) {
	for _, c := range all {
		var late interface{ Timeout() bool }
		switch {
		case c.err == nil:
			r.Connections++
			r.waits = append(r.waits, c.connected)
		case errors.As(c.err, &late) && late.Timeout():
			r.Unserved++
		default:
			r.Broken++
			r.breach("%s: a new connection of %s was broken: %v", c.began.Format(time.TimeOnly), c.addr, c.err)
		}
	}
}
