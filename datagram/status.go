package datagram

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// ServiceStatus is what a relay knows of one service.
type ServiceStatus struct {
	Name    string
	Listen  string
	Backend string
	// Up: the last datagram found a program at the backend's port, as far as is
	// known.
	Up    bool
	Flows int
}

// FlowStatus describes one flow.
type FlowStatus struct {
	Client, Service string
	// Idle is how long ago something was last said in it.
	Age, Idle          time.Duration
	BytesUp, BytesDown uint64
}

// Services reports the services in the order of the configuration.
func (r *Relay) Services() []ServiceStatus {
	out := make([]ServiceStatus, len(r.services))
	for i, s := range r.services {
		out[i] = ServiceStatus{Name: s.Name, Listen: fmt.Sprint("udp://", s.Listen), Backend: s.Backend.Addr.String(), Up: !s.down, Flows: s.flows}
	}
	return out
}

// Flows lists at most limit flows, oldest first.
func (r *Relay) Flows(now time.Duration, limit int) []FlowStatus {
	var all []FlowID
	r.table.Flows(func(id FlowID) bool { all = append(all, id); return true })
	slices.SortFunc(all, func(a, b FlowID) int {
		return cmp.Compare(r.table.entries[a.slot()].began, r.table.entries[b.slot()].began)
	})
	var out []FlowStatus
	for _, id := range all[:min(len(all), limit)] {
		e, s, f := &r.table.entries[id.slot()], &r.sockets[id.slot()], r.table.Flow(id)
		out = append(out, FlowStatus{
			Client: netip.AddrPortFrom(f.Src, f.SrcPort).String(), Service: r.services[e.service].Name,
			Age: now - e.began, Idle: now - e.last, BytesUp: s.up, BytesDown: s.down,
		})
	}
	return out
}

// Kill ends the flows that are meant, and reports how many there were. The clients
// are not told: what they send next begins anew.
func (r *Relay) Kill(meant func(client netip.AddrPort, service string) bool) int {
	var all []FlowID
	r.table.Flows(func(id FlowID) bool {
		f := r.table.Flow(id)
		if meant(netip.AddrPortFrom(f.Src, f.SrcPort), r.services[r.table.Service(id)].Name) {
			all = append(all, id)
		}
		return true
	})
	for _, id := range all {
		r.end(id)
	}
	return len(all)
}

// FlowCount is the number of flows.
func (r *Relay) FlowCount() int { return r.table.Count() }

// FlowLimit is the bound on them.
func (r *Relay) FlowLimit() int { return r.table.bounds.flows }

// Counters reports what happened since the relay was made.
func (r *Relay) Counters() Counters { return r.counters }

// Waiting reports whether an answer may still come to what was taken: at a stop it is
// waited for.
func (r *Relay) Waiting(now time.Duration) bool {
	return r.table.Count() > 0 && now-r.lastUp < answerTime
}
