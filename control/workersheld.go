package control

import (
	"encoding/json"
	"slices"
	"time"

	"onevoice/node"
)

// holdInterval is how often a worker looks what it still holds of buckets that
// it drains. It looks at every flow.
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
	all := node.Bitmap(every())
	for i := range h.Services {
		for _, held := range g.parts.Node.Held(now, i, &all) {
			h.Services[i].Set(held.Bucket)
		}
	}
	if !fresh && slices.Equal(h.Services, g.holding.Services) {
		return
	}
	if g.say(newMessage(sayHolding, 0, h)) {
		g.holding = h
	}
}

// held answers askHeld. It runs on the loop's goroutine.
func (g *Guest) held(now time.Duration, want *heldWanted) (out heldAnswer) {
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
// looked at: a table that takes lists back was published before they were sent.
func (g *Guest) list(lists []FlowList) error {
	for i := range lists {
		l := &lists[i]
		if l.Service < 0 || l.Service >= len(g.settings.Config.Services) || len(l.Hashes) > node.MaxListed*maxListers {
			return garbage("a list of %d flows for service %d", len(l.Hashes), l.Service)
		}
	}
	for i := range lists {
		l := &lists[i]
		g.parts.Node.SetFlowLists(l.Service, l.Bucket, l.Complete, l.Hashes)
	}
	return nil
}

// maxListers bounds the drainers whose lists make one: the other nodes.
const maxListers = 31

// Holding is what all workers together hold, under the oldest generation that
// any of them has told of. Generation 0 says that one has not told yet.
func (w *Workers) Holding() Holding {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := Holding{Generation: w.ownership.Generation, Services: make([]node.Bitmap, len(w.ownership.Services))}
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

// Held asks the active worker what it holds of the wanted buckets, a bitmap for
// each service. The answer is by service.
func (w *Workers) Held(wanted []node.Bitmap) ([][]node.Held, error) {
	w.mu.Lock()
	one := w.active()
	w.mu.Unlock()
	if one == nil {
		return make([][]node.Held, len(wanted)), nil
	}
	b, err := one.ask(askHeld, heldWanted{wanted})
	if err != nil {
		return nil, err
	}
	var out heldAnswer
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, garbage("held: %v", err)
	}
	return out.Services, nil
}

// SetFlowLists tells the active worker which flows other nodes hold, after the
// ownership that was last published is in force.
func (w *Workers) SetFlowLists(lists []FlowList) error {
	w.mu.Lock()
	one := w.active()
	w.mu.Unlock()
	if one == nil {
		return errNoAnswer
	}
	return one.tell(tellLists, lists)
}

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
