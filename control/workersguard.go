package control

import (
	"strings"
	"time"

	"onevoice/node"
)

// GuardStatus is what a worker says of what keeps it silent after its lease in
// the kernel, see link/egress.
type GuardStatus struct {
	// State is "in the kernel", or "not available: " and why, or "closed" of a
	// retired worker.
	State string `json:"state"`
	// SYNACKs, ARPReplies and EchoReplies were about to leave after the lease, and
	// were dropped: the process stood still between its look at the clock and the
	// send.
	SYNACKs     uint64 `json:"dropped_syn_acks"`
	ARPReplies  uint64 `json:"dropped_arp_replies"`
	EchoReplies uint64 `json:"dropped_echo_replies"`
}

// Missing reports whether no program keeps answers back, and why.
func (s *GuardStatus) Missing() (reason string, missing bool) {
	return strings.CutPrefix(s.State, guardNotAvailable)
}

// What a guard's State begins with.
const (
	guardInKernel     = "in the kernel"
	guardNotAvailable = "not available: "
	guardClosed       = "closed"
)

// setLease puts a path's lease in force: the guard's first, so that it never has
// less than the node has looked at. It runs on the loop's goroutine at the start
// of a turn, when everything that was decided under an earlier lease has been sent
// or dropped.
func (g *Guest) setLease(now time.Duration, path int, begin, end time.Duration) {
	if path < len(g.parts.Guards) {
		g.leased = g.leased || now < end
		if err := g.parts.Guards[path].SetLease(guardUntil(now, end, g.Orphaned() || !g.leased)); err != nil && !g.guardFailed {
			g.guardFailed = true
			g.log.Warn("the guard in the kernel cannot be given the lease; nothing new is answered until it can", "error", err)
		}
	}
	for vip := range g.settings.Config.VIPs {
		if g.pathOf[vip] == path {
			g.parts.Node.SetLease(vip, begin, end)
		}
	}
}

// guardUntil is until when the guard lets answers out. Once the lease is over the
// node says nothing that the guard would have to stop, and a worker that is apart
// gets no other, or has had none yet: it is alone, or another one answers beside it
// until this one's first lease. A guard that stayed shut would silence that one, or
// the worker of the next control process, if that does not take this one up.
func guardUntil(now, end time.Duration, apart bool) time.Duration {
	if apart && now >= end {
		return node.Forever
	}
	return end
}

// closeGuards lets go of the guards of a retired worker: it takes nothing new, and
// a frame leaves an interface only if the guards of all workers have a lease.
func (g *Guest) closeGuards() {
	for _, guard := range g.parts.Guards {
		if err := guard.Close(); err != nil {
			g.log.Warn("the guard in the kernel could not be closed", "error", err)
		}
	}
}

// guardStatus tells of the guards of all paths together.
func (g *Guest) guardStatus() GuardStatus {
	if len(g.parts.Guards) == 0 {
		return GuardStatus{State: guardNotAvailable + g.parts.NoGuard}
	}
	s := GuardStatus{State: guardInKernel}
	for _, guard := range g.parts.Guards {
		dropped, err := guard.Stats()
		if err != nil {
			return GuardStatus{State: guardClosed}
		}
		s.SYNACKs += dropped.SYNACKs
		s.ARPReplies += dropped.ARPReplies
		s.EchoReplies += dropped.EchoReplies
	}
	return s
}
