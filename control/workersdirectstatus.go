package control

import (
	"net/netip"
	"time"

	"onevoice/hashing"
	"onevoice/internal/inetdiag"
	"onevoice/link/ingress"
	"onevoice/node"
	"onevoice/stack"
)

// DirectStatus is what a worker says of the direct path.
type DirectStatus struct {
	// Pinned: the programs outlive the process; Reason is why they do not.
	Pinned bool   `json:"pinned"`
	Reason string `json:"reason,omitempty"`
	// Before is how many programs of others come before these at the interface.
	Before int `json:"programs_before"`
	// KeptOut: SYNs pass the programs, and this host's stack takes none.
	KeptOut bool `json:"kept_out,omitempty"`
	// Flows are connections of the host's own TCP.
	Flows int `json:"flows"`
	// Rulings are frames by what the programs have decided about them.
	Rulings map[string]uint64 `json:"rulings"`
}

// directStatus is nil where no service is of the direct path.
func (g *Guest) directStatus() *DirectStatus {
	d := g.parts.Direct
	if d == nil {
		return nil
	}
	s := &DirectStatus{Pinned: g.parts.NoPins == "", Reason: g.parts.NoPins, Before: d.cfg.Programs.Before(), KeptOut: d.KeptOut(), Flows: d.Running(), Rulings: map[string]uint64{}}
	for r, n := range d.cfg.Programs.Rulings() {
		if ingress.Ruling(r) != ingress.Elsewhere {
			s.Rulings[ingress.Ruling(r).String()] = n
		}
	}
	return s
}

// service is a service's state, for the list of all.
func (d *DirectPath) service(index int) (up bool, flows int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, s := range d.cfg.Services {
		if s.Index == index {
			return d.listens[i], d.flows[i]
		}
	}
	return false, 0
}

// Flows are the running flows in the words of all flows.
func (d *DirectPath) Flows() (out []stack.FlowStatus, err error) {
	all, _, err := d.sockets(inetdiag.Wanted{Counts: true}, false)
	for i := range all {
		s := &all[i]
		state := "open"
		switch s.State {
		case inetdiag.SYNRecv:
			state = "connecting"
		case inetdiag.Established:
		default:
			state = "closing"
		}
		out = append(out, stack.FlowStatus{
			Client: s.Remote.String(), Service: d.cfg.Services[s.service].Name, State: state, Seconds: -1, BytesUp: s.Received, BytesDown: s.Acked,
		})
	}
	return out, err
}

// endDirect obeys tellEnd for the direct path.
func (g *Guest) endDirect(want *endWanted) error {
	if g.parts.Direct == nil {
		return nil
	}
	_, err := g.parts.Direct.End(want.Silent, func(service int, _ *hashing.Flow, bucket uint8) bool {
		return service < len(want.Services) && want.Services[service].Has(bucket)
	})
	return err
}

// killDirect obeys askKill for it.
func (g *Guest) killDirect(k *Kill) (n int, err error) {
	if g.parts.Direct == nil {
		return 0, nil
	}
	names := g.settings.Config.Services
	return g.parts.Direct.End(false, func(service int, f *hashing.Flow, _ uint8) bool {
		return k.Takes(netip.AddrPortFrom(f.Src, f.SrcPort), names[service].Name)
	})
}

// heldDirect answers askHeld for it. What cannot be looked at is not said to be free:
// the answer is one that counts for no table.
func (g *Guest) heldDirect(want *heldWanted, held *HeldFlows) {
	if g.parts.Direct == nil {
		return
	}
	generation, err := g.parts.Direct.Held(want.Services, held.Services)
	if err != nil {
		generation = 0
	}
	held.Generation = min(held.Generation, generation)
}

// written is the generation that may be written back: no frame is judged under an older
// one, on either path.
func (g *Guest) written() uint64 {
	if g.parts.Direct == nil {
		return g.generation
	}
	return min(g.generation, g.parts.Direct.Settled())
}

// holdingDirect fills in what the direct path holds, and reports whether that was found
// under the table in force.
func (g *Guest) holdingDirect(now time.Duration, services []node.Bitmap) bool {
	return g.parts.Direct == nil || g.parts.Direct.Holding(services, now) >= g.generation
}

// fillDirect fills a status in with what is of the direct path. The sockets are looked at
// outside of the loop.
func (g *Guest) fillDirect(s *WorkerStatus, flows bool) {
	d := g.parts.Direct
	if s.Direct = g.directStatus(); s.Direct == nil {
		return
	}
	s.Flows.Running += s.Direct.Flows
	if flows {
		// A loop that has ended has no flows to tell of.
		running, _ := d.Flows()
		s.Running = append(s.Running, running...)
	}
}

// leaveDirect leaves the programs to the worker of another configuration, and the
// frames that this one's have kept from the host's own stack.
func (g *Guest) leaveDirect() {
	if g.parts.Direct != nil {
		g.parts.Direct.Retire()
	}
	if g.parts.Filter != nil {
		if err := g.parts.Filter.DetachHost(); err != nil {
			g.log.Warn("the program that keeps frames from this host's own stack could not be taken away", "error", err)
		}
	}
}
