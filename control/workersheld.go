package control

import (
	"encoding/json"
	"slices"
	"time"

	"onevoice/hashing"
	"onevoice/node"
)

// holdInterval is how often a worker looks what it still holds of buckets that
// it drains.
const holdInterval = 100 * time.Millisecond

// tellHolding tells control what is held: under every new table, and while this
// node drains, when it has changed. It runs on the loop's goroutine.
func (g *Guest) tellHolding(now time.Duration) {
	fresh := g.holding.Generation != g.generation
	if g.generation == 0 || !fresh && (!g.draining || now-g.heldAt < holdInterval) {
		return
	}
	g.heldAt = now
	h := Holding{Generation: g.generation, Services: make([]node.Bitmap, len(g.settings.Config.Services))}
	for i := range h.Services {
		h.Services[i] = g.parts.Node.Holding(now, i)
	}
	if !g.holdingDirect(now, h.Services) {
		return
	}
	if !fresh && slices.Equal(h.Services, g.holding.Services) {
		return
	}
	if g.say(newMessage(sayHolding, 0, h)) {
		g.holding = h
	}
}

// held answers askHeld. It runs on the loop's goroutine.
func (g *Guest) held(now time.Duration, want *heldWanted) (out HeldFlows) {
	out.Generation = g.generation
	out.Services = make([][]node.Held, len(g.settings.Config.Services))
	for i := range min(len(want.Services), len(out.Services)) {
		if want.Services[i] != (node.Bitmap{}) {
			out.Services[i] = g.parts.Node.Held(now, i, &want.Services[i])
		}
	}
	return out
}

// end obeys tellEnd. It runs on the loop's goroutine.
func (g *Guest) end(now time.Duration, want *endWanted) {
	for i := range min(len(want.Services), len(g.settings.Config.Services)) {
		if want.Silent {
			g.parts.Node.ForgetFlows(now, i, &want.Services[i])
		} else {
			g.parts.Node.EndFlows(now, i, &want.Services[i])
		}
	}
}

// list obeys tellLists. It runs on the loop's goroutine, after the page was
// looked at. What was told for another table than the one in force says nothing:
// another drainer may have come since.
func (g *Guest) list(told *listsTold) error {
	for i := range told.Lists {
		l := &told.Lists[i]
		if l.Service < 0 || l.Service >= len(g.settings.Config.Services) || len(l.Hashes) > node.MaxListed*maxListers {
			return garbage("a list of %d flows for service %d", len(l.Hashes), l.Service)
		}
	}
	if told.Generation != g.generation {
		return nil
	}
	for i := range told.Lists {
		l := &told.Lists[i]
		g.parts.Node.SetFlowLists(l.Service, l.Bucket, l.Complete, l.Hashes)
	}
	if g.parts.Direct != nil {
		g.parts.Direct.SetFlowLists(told.Lists)
	}
	return nil
}

// maxListers bounds the drainers whose lists make one: the other nodes, and the retired
// workers of this one.
const maxListers = 31 + MaxRetired

// Holding is what all workers together hold, under the oldest generation that
// any of them has told of. Generation 0 says that one has not told yet.
func (w *Workers) Holding() Holding {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := Holding{Generation: w.ownership.Generation, Services: make([]node.Bitmap, len(w.ownership.Services))}
	if w.active() == nil {
		w.direct(h.Services)
	}
	if len(w.missed) > 0 {
		// Who does not tell may hold anything.
		for i := range h.Services {
			h.Services[i] = node.Bitmap(every())
		}
	}
	for _, one := range w.all {
		if one.unusable {
			for i := range h.Services {
				h.Services[i] = node.Bitmap(every())
			}
			continue
		}
		h.Generation = min(h.Generation, one.holding.Generation)
		for i := range h.Services {
			if one.retired {
				// It has another configuration; it holds something until it ends.
				h.Services[i] = node.Bitmap(every())
			} else if i < len(one.holding.Services) {
				h.Services[i] = either(h.Services[i], one.holding.Services[i])
			}
		}
	}
	return h
}

// direct fills in that the host's own TCP may have flows in every bucket: nobody is
// there to look.
func (w *Workers) direct(services []node.Bitmap) {
	for i := range w.cfg.Settings.Config.Services {
		if i < len(services) && w.cfg.Settings.Config.Services[i].Direct {
			services[i] = node.Bitmap(every())
		}
	}
}

func either(a, b node.Bitmap) node.Bitmap {
	for i := range a {
		a[i] |= b[i]
	}
	return a
}

// told takes in a worker's holding.
func (w *Workers) told(one *worker, h Holding) {
	w.mu.Lock()
	one.holding = h
	w.mu.Unlock()
	w.report(Report{PID: one.pid, Holding: true})
}

// Held asks the active worker, and the retired ones, what they hold of the wanted
// buckets, a bitmap for each service.
func (w *Workers) Held(wanted []node.Bitmap) (HeldFlows, error) {
	w.mu.Lock()
	one := w.active()
	old, all := w.askable()
	// Without a worker there is no flow, but those of the host's own TCP.
	out := HeldFlows{Generation: w.ownership.Generation, All: all, Services: make([][]node.Held, len(wanted))}
	w.mu.Unlock()
	if one == nil {
		for i := range all {
			all[i] = all[i] && !w.cfg.Settings.Config.Services[i].Direct
		}
	} else {
		b, err := one.ask(askHeld, heldWanted{wanted})
		if err != nil {
			return HeldFlows{}, err
		}
		out = HeldFlows{}
		if err := json.Unmarshal(b, &out); err != nil {
			return HeldFlows{}, garbage("held: %v", err)
		}
		out.All = all
	}
	heldBeside(&out, old, wanted)
	return out, nil
}

// Accompanied reports whether workers of an earlier file, or program, may hold flows.
func (w *Workers) Accompanied() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.accompanied()
}

// accompanied reports whether there are workers besides the active one that may hold
// flows. They do not come into being beside one, but are found by StartWorkers, or
// TakeUp. It is for callers that hold the lock.
func (w *Workers) accompanied() bool {
	return w.beside || len(w.missed) > 0 || slices.ContainsFunc(w.all, func(one *worker) bool { return one.retired || one.unusable })
}

// maxToldHashes bounds the hashes of one message to a worker, some 20 bytes each.
const maxToldHashes = 1 << 18

// SetFlowLists tells the active worker which flows other nodes hold, under the
// ownership of a generation: with another in force the worker does not listen. What
// retired workers hold is added; where that is not known no list is complete.
func (w *Workers) SetFlowLists(generation uint64, lists []FlowList) error {
	w.mu.Lock()
	one, beside := w.active(), w.accompanied()
	old, all := w.askable()
	w.mu.Unlock()
	if one == nil {
		return errNoAnswer
	}
	if beside {
		lists = withRetired(generation, lists, old, all)
	}
	told := listsTold{Generation: generation}
	hashes := 0
	for _, l := range lists {
		if hashes += len(l.Hashes); hashes > maxToldHashes && len(told.Lists) > 0 {
			if err := one.tell(tellLists, told); err != nil {
				return err
			}
			told.Lists, hashes = nil, len(l.Hashes)
		}
		told.Lists = append(told.Lists, l)
	}
	return one.tell(tellLists, told)
}

// ListKey is the workers' key of flow hashes.
func (w *Workers) ListKey() hashing.Key { return w.cfg.Settings.ListKey }

// EndFlows makes every worker end the flows of the buckets, a bitmap for each
// service: with a reset, or silently, as after others were allowed to reset them
// (OWNERSHIP.md R17, R18). Retired workers end all of theirs.
func (w *Workers) EndFlows(buckets []node.Bitmap, silent bool) {
	w.mu.Lock()
	all := slices.Clone(w.all)
	w.mu.Unlock()
	for _, one := range all {
		want := endWanted{Services: buckets, Silent: silent}
		if one.retired {
			want.Services = slices.Repeat([]node.Bitmap{node.Bitmap(every())}, one.services)
		}
		// One that has just ended needs no telling.
		_ = one.tell(tellEnd, want)
	}
}
