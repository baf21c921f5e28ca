package control

import (
	"fmt"
	"time"

	"onevoice/node"
)

// FilterStatus is what a worker says of the programs that drop other nodes' frames in
// the kernel, see link/ingress.
type FilterStatus struct {
	// State is where frames for other nodes are dropped: "in the kernel (TCX +
	// socket)", "in the kernel (socket)" or "in user space".
	State string `json:"state"`
	// Reason is why it is not the first of these, "" when it is.
	Reason string `json:"reason,omitempty"`
	// Foreign frames were for other nodes and were dropped by the socket filter: no
	// verdict counts them.
	Foreign uint64 `json:"dropped_by_socket_filter"`
	// ForHost counts the copies of frames for a VIP, ours and others', that TCX kept
	// from this host's own stack.
	ForHost uint64 `json:"dropped_by_tcx"`
	// AnsweredSYNs were answered by TCX with SYN cookies, in a flood of them, and are among
	// the verdicts' answered-syn. NoAnswers is why this is left to the worker, "" when it
	// is not.
	AnsweredSYNs uint64 `json:"syns_answered_by_tcx"`
	NoAnswers    string `json:"syns_answered_by_worker,omitempty"`
}

// What a filter's State is.
const (
	filterWhole  = "in the kernel (TCX + socket)"
	filterSocket = "in the kernel (socket)"
	filterNone   = "in user space"
)

// Whole reports whether the host's own stack sees no frame for a VIP either.
func (s *FilterStatus) Whole() bool { return s.State == filterWhole }

// String is the state with its reason, for people.
func (s *FilterStatus) String() string {
	if s.Reason == "" {
		return s.State
	}
	return fmt.Sprintf("%s; %s", s.State, s.Reason)
}

func (g *Guest) filterStatus() FilterStatus {
	s := FilterStatus{State: filterNone, Reason: g.parts.NoFilter}
	if g.parts.Filter == nil {
		return s
	}
	stats := g.parts.Filter.Stats()
	s.Foreign, s.ForHost, s.State = stats.Foreign, stats.ForHost, filterWhole
	s.AnsweredSYNs = stats.AnsweredSYNs
	if s.Reason != "" {
		s.State = filterSocket
	}
	if err := g.parts.Filter.NoAnswers(); err != nil {
		s.NoAnswers = err.Error()
	} else if _, failed := g.parts.Node.KernelAnswers(); failed {
		s.NoAnswers = "another program on the interface takes the SYNs before TCX has them"
	}
	return s
}

// lookForeign notes how many frames of clients the kernel has dropped for being
// another node's. Each processor has a counter of its own, so that it is not done in
// every turn. It runs on the loop's goroutine.
func (g *Guest) lookForeign(now time.Duration) {
	if g.parts.Filter != nil && now >= g.foreignBy {
		g.foreign, g.foreignBy = g.parts.Filter.Stats().Foreign, now+node.MaxIdle
	}
}
