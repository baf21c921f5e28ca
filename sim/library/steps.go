package library

import (
	"time"

	"onevoice/cluster"
	"onevoice/config"
	"onevoice/health"
	"onevoice/sim"
	"onevoice/sim/report"
	"onevoice/sim/scenario"
)

// plan lets the steps take their course.
func (r *run) plan() error {
	r.site = r.cluster.Site()
	var faults sim.Plan
	world := r.cluster.World
	for i := range r.spec.Steps {
		st := &r.spec.Steps[i]
		world.At(st.At, func() { r.report.Tell(world.Now(), report.Fault, "%v", st) })
		if st.For > 0 {
			world.At(st.At+st.For, func() { r.report.Tell(world.Now(), report.Fault, "it ends: %v", st) })
		}
		if st.Fault != nil {
			faults = append(faults, *st.Fault)
			if st.Fault.Kind == sim.Freeze { // of the whole machine, workers too
				world.At(st.At, func() { r.cluster.Host(st.Fault.Hosts[0]).StallWorkers(st.For) })
			}
		} else {
			world.At(st.At, func() { r.do(st) })
		}
	}
	down := r.site.Down
	r.site.Down = func(f sim.Fault) {
		r.lost(f.Hosts[0], true)
		down(f)
	}
	return r.site.Run(faults)
}

// do is one of this package's own steps.
func (r *run) do(st *Step) {
	h := r.cluster.Host(st.Host)
	end := func(fn func()) {
		if st.For > 0 {
			r.cluster.World.After(st.For, fn)
		}
	}
	switch st.Verb {
	case "start":
		h.Start()
		if r.spec.has(leastMoves) {
			r.cluster.Rehash()
		}
	case "drain":
		if r.spec.has(handover) {
			r.restart(h, restartTime)
		}
		r.cluster.Ask(cluster.Drain{Node: st.Host})
		end(func() { r.cluster.Ask(cluster.Drain{Node: st.Host, Undo: true}) })
	case "undrain":
		r.cluster.Ask(cluster.Drain{Node: st.Host, Undo: true})
	case "weight":
		r.cluster.Ask(cluster.Weigh{Node: st.Host, Weight: uint32(st.Amount)})
	case "restart":
		r.restart(h, max(st.For, restartTime))
	case "stall":
		h.Stall(max(st.For, time.Second))
	case "service-down":
		h.Check(1, false)
		end(func() { h.Check(1, true) })
	case "service-flaps":
		r.flap(h, st.At+st.For, health.NewState(config.DefaultCheckRise, config.DefaultCheckFall, config.DefaultHoldDown))
	case "unheard":
		r.part(h, func(client int, on bool) { r.network.lan.Cut(h.Port().Index, client, on) }, end)
	case "unreached":
		r.part(h, func(client int, on bool) { r.network.lan.Cut(client, h.Port().Index, on) }, end)
	default:
		r.doNetwork(st, end)
	}
}

// part does something to what is between a node and all that is no node on its LAN, until
// the end.
func (r *run) part(h *scenario.Host, set func(client int, on bool), end func(func())) {
	for _, p := range r.network.lan.Ports() {
		if r.cluster.Host(p.Name) == nil {
			set(p.Index, true)
			end(func() { set(p.Index, false) })
		}
	}
}

// restart ends a control process and starts another. Its worker goes on, unless
// that is switched off.
func (r *run) restart(h *scenario.Host, away time.Duration) {
	if r.spec.has(handover) {
		h.Crash()
	} else {
		h.Stop()
	}
	r.cluster.World.After(away, h.Start)
}

// badAnswers is how many of a flapping service's answers are bad.
const badAnswers = 0.6

// flap asks a service that answers well or badly by chance, as a health check
// does, and tells the cluster what the check makes of it.
func (r *run) flap(h *scenario.Host, until time.Duration, s *health.State) {
	w := r.cluster.World
	if w.Now() >= until {
		h.Check(1, true)
		return
	}
	good := w.Rand().Float64() >= badAnswers
	if s.Step(w.Now(), good); r.spec.has(checkPatience) {
		h.Check(1, good)
	} else {
		up, _ := s.Up()
		h.Check(1, up)
	}
	w.After(config.DefaultCheckInterval, func() { r.flap(h, until, s) })
}

// doNetwork is a step about a trunk or a router.
func (r *run) doNetwork(st *Step, end func(func())) {
	trunk, router := r.network.lan.Trunk(st.Host), r.network.routers[st.Host]
	switch st.Verb {
	case "trunk-down":
		trunk.Unplug(true)
		end(func() { trunk.Unplug(false) })
	case "trunk-oneway":
		trunk.Forth.Loss = 1
		end(func() { trunk.Forth.Loss = 0 })
	case "router-down":
		router.Unplug(true)
		end(func() { router.Unplug(false) })
	}
}

// restartTime is how long a control process is away at least.
const restartTime = 300 * time.Millisecond
