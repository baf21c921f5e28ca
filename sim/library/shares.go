package library

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"onevoice/sim/report"
	"onevoice/sim/scenario"
)

// sample looks at who owns how much, and again a little later.
func (r *run) sample() {
	now := r.cluster.World.Now()
	var all [4]uint64
	owners, before := "", ""
	for i, h := range r.nodes() {
		a := [4]uint64{}
		if h.Alive() {
			a = h.Answers(1)
		}
		n := scenario.Count(a)
		if r.owned[i] > 0 {
			before += " " + h.Name
		}
		if n > 0 {
			owners += " " + h.Name
		}
		if r.complete && (r.owned[i] > 0) != (n > 0) {
			r.turns[i]++
		}
		r.owned[i] = n
		for j := range a {
			all[j] |= a[j]
		}
	}
	if owners != before {
		r.report.Tell(now, report.Shares, "answering:%s", cmp.Or(owners, " nobody"))
	}
	r.gap(now, scenario.Count(all))
	r.draw(now)
	r.cluster.World.After(sampleEvery, r.sample)
}

// maxSamples bounds what is drawn.
const maxSamples = 5000

// draw keeps the shares for the drawing, without what a planned move leaves
// without an owner for a moment.
func (r *run) draw(now time.Duration) {
	all := r.report.Samples
	moving := r.gapSince >= 0 && now-r.gapSince < plannedMove
	if len(all) == maxSamples || len(all) > 0 && (moving || slices.Equal(all[len(all)-1].Buckets, r.owned)) {
		return
	}
	at := now
	if r.gapSince >= 0 && len(all) > 0 && time.Duration(all[len(all)-1].At) < r.gapSince {
		at = r.gapSince
	}
	r.report.Samples = append(all, report.Sample{At: report.Time(at), Buckets: slices.Clone(r.owned)})
}

// gap follows for how long some bucket has no owner.
func (r *run) gap(now time.Duration, owned int) {
	switch {
	case owned == 256 && !r.complete:
		r.complete = true
		r.report.Tell(now, report.Shares, "every bucket has an owner: %s", r.shares())
	case r.complete && owned < 256 && r.gapSince < 0:
		r.gapSince = now
	case owned == 256 && r.gapSince >= 0:
		r.report.Failover = max(r.report.Failover, report.Time(now-r.gapSince))
		if now-r.gapSince >= plannedMove {
			r.report.Tell(now, report.Shares, "every bucket has an owner again, after %v: %s", now-r.gapSince, r.shares())
		}
		r.gapSince = -1
	}
}

func (r *run) shares() string {
	var out []string
	for i, h := range r.nodes() {
		if r.owned[i] > 0 {
			out = append(out, fmt.Sprintf("%s %d", h.Name, r.owned[i]))
		}
	}
	return strings.Join(out, ", ")
}
