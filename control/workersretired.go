package control

import (
	"encoding/json"
	"reflect"
	"slices"
	"time"

	"onevoice/config"
	"onevoice/node"
)

// What retired workers hold, for lists of flows. A retired worker takes nothing new, so
// that a list of it has flows too many as time goes on, never too few (flowlists.go);
// half-open flows are on it, and while a SYN cookie of a bucket may come back it is not
// complete. It is asked as the active worker is, where its buckets are ours: where its
// file shares the clients of a service as the present one does, under the same keys.

// retiredTime is how long a retired worker may take to say what it holds.
const retiredTime = time.Second

// retiredWorker is a retired worker that can be asked, and the places of this configuration's
// services in its own, -1 for none.
type retiredWorker struct {
	*worker
	places []int
}

// askable are the retired workers, and by service whether they are all who may hold flows
// of it besides the active one. It is for callers that hold the lock.
func (w *Workers) askable() (old []retiredWorker, all []bool) {
	all = make([]bool, len(w.cfg.Settings.Config.Services))
	for i := range all {
		all[i] = !w.beside && len(w.missed) == 0
	}
	for _, one := range w.all {
		if !one.retired && !one.unusable {
			continue
		}
		places, known := placesIn(&w.cfg.Settings, &one.runs)
		for i := range all {
			all[i] = all[i] && known[i] && !one.unusable
		}
		if !one.unusable && slices.Max(append(places, -1)) >= 0 {
			old = append(old, retiredWorker{one, places})
		}
	}
	return old, all
}

// placesIn is where the services of settings are among those of a worker, -1 for none;
// known: it maps the service's clients as we do, or has nobody who talks to its ports.
func placesIn(ours, theirs *WorkerSettings) (places []int, known []bool) {
	services := ours.Config.Services
	places, known = slices.Repeat([]int{-1}, len(services)), make([]bool, len(services))
	if theirs.Config == nil || ours.HashKey != theirs.HashKey || ours.ListKey != theirs.ListKey {
		return places, known
	}
	for i := range services {
		known[i] = true
		for j := range theirs.Config.Services {
			switch s := &theirs.Config.Services[j]; {
			case sharesAlike(ours.Config, &services[i], theirs.Config, s):
				places[i] = j
			case s.Name == services[i].Name || samePorts(&services[i], s):
				known[i] = false
			}
		}
	}
	return places, known
}

// otherPorts reports whether a worker beside the active one may serve ports that have no
// service here. It is for callers that hold the lock.
func (w *Workers) otherPorts() bool {
	return w.beside || len(w.missed) > 0 || slices.ContainsFunc(w.all, func(one *worker) bool {
		if !one.retired {
			return false
		}
		places, _ := placesIn(&w.cfg.Settings, &one.runs)
		known := slices.DeleteFunc(places, func(at int) bool { return at < 0 })
		return one.unusable || one.runs.Config == nil || len(known) < len(one.runs.Config.Services)
	})
}

// sharesAlike reports whether a service is the same in two files as far as who its clients
// are, and their buckets.
func sharesAlike(c *config.Config, a *config.Service, d *config.Config, b *config.Service) bool {
	if a.Name != b.Name || a.Listen != b.Listen || a.LastPort != b.LastPort || a.UDP != b.UDP || a.Direct != b.Direct || a.Affinity != b.Affinity {
		return false
	}
	ours, _ := c.PinsOf(a.Name)
	theirs, _ := d.PinsOf(b.Name)
	return reflect.DeepEqual(ours, theirs) && reflect.DeepEqual(a.Sharing, b.Sharing)
}

// samePorts reports whether one client can talk to both.
func samePorts(a, b *config.Service) bool {
	last := func(s *config.Service) uint16 { return max(s.Listen.Port(), s.LastPort) }
	return a.UDP == b.UDP && a.Listen.Addr() == b.Listen.Addr() && a.Listen.Port() <= last(b) && b.Listen.Port() <= last(a)
}

// held is what a retired worker holds of buckets, by this configuration's services.
func (e *retiredWorker) held(wanted []node.Bitmap) (HeldFlows, error) {
	theirs := make([]node.Bitmap, e.services)
	for i, at := range e.places {
		if at >= 0 && i < len(wanted) {
			theirs[at] = wanted[i]
		}
	}
	b, err := e.askWithin(retiredTime, askHeld, heldWanted{theirs})
	if err != nil {
		return HeldFlows{}, err
	}
	var told HeldFlows
	if err := json.Unmarshal(b, &told); err != nil || len(told.Services) != e.services {
		return HeldFlows{}, garbage("held: %v", err)
	}
	out := HeldFlows{Generation: told.Generation, Services: make([][]node.Held, len(wanted))}
	for i, at := range e.places {
		if at >= 0 && i < len(wanted) {
			out.Services[i] = told.Services[at]
		}
	}
	return out, nil
}

// join adds what another worker of this host holds. It is as old as the older of both.
func (h *HeldFlows) join(other *HeldFlows) {
	h.Generation = min(h.Generation, other.Generation)
	for i := range min(len(h.Services), len(other.Services)) {
		for k := range other.Services[i] {
			o := &other.Services[i][k]
			at := slices.IndexFunc(h.Services[i], func(x node.Held) bool { return x.Bucket == o.Bucket })
			if at < 0 {
				h.Services[i] = append(h.Services[i], *o)
				continue
			}
			was := &h.Services[i][at]
			was.Flows, was.HalfOpen = was.Flows+o.Flows, was.HalfOpen+o.HalfOpen
			was.Unproven, was.Overflow = was.Unproven || o.Unproven, was.Overflow || o.Overflow
			was.Hashes = append(was.Hashes, o.Hashes...)
			// The host's own TCP is told of by both.
			slices.Sort(was.Hashes)
			was.Hashes = slices.Compact(was.Hashes)
			if len(was.Hashes) > node.MaxListed {
				was.Overflow, was.Hashes = true, was.Hashes[:node.MaxListed]
			}
		}
	}
}

// heldBeside adds what the retired workers hold to what the active worker does. One that says
// nothing may hold anything.
func heldBeside(out *HeldFlows, old []retiredWorker, wanted []node.Bitmap) {
	for i := range old {
		told, err := old[i].held(wanted)
		if err != nil || told.Generation == 0 {
			clear(out.All)
			continue
		}
		out.join(&told)
	}
}

// withRetired adds the flows of retired workers to lists of other nodes', and takes back
// that a list is complete where they are not known.
func withRetired(generation uint64, lists []FlowList, old []retiredWorker, all []bool) []FlowList {
	wanted := make([]node.Bitmap, len(all))
	for _, l := range lists {
		if l.Complete && l.Service < len(wanted) {
			wanted[l.Service].Set(l.Bucket)
		}
	}
	// As if the active one held nothing: it knows its own.
	here := HeldFlows{Generation: generation, All: slices.Clone(all), Services: make([][]node.Held, len(wanted))}
	heldBeside(&here, old, wanted)
	if here.Generation < generation {
		// One of them has other buckets still.
		clear(here.All)
	}
	type place struct {
		service int
		bucket  uint8
	}
	at := map[place]*node.Held{}
	for i := range here.Services {
		for k := range here.Services[i] {
			at[place{i, here.Services[i][k].Bucket}] = &here.Services[i][k]
		}
	}
	out := slices.Clone(lists)
	for i := range out {
		l := &out[i]
		if l.Service >= len(all) {
			continue // the worker will complain
		}
		held := at[place{l.Service, l.Bucket}]
		switch {
		case !here.All[l.Service] || held != nil && held.Overflow:
			l.Complete, l.Hashes = false, nil
		case held != nil && l.Complete:
			l.Hashes = append(slices.Clone(l.Hashes), held.Hashes...)
		}
	}
	return out
}
