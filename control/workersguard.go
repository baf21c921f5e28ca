package control

import (
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

// What a guard's State begins with.
const (
	guardInKernel     = "in the kernel"
	guardNotAvailable = "not available: "
	guardClosed       = "closed"
)

// setLease puts a lease in force: the guard's first, so that it never has less
// than the node has looked at. It runs on the loop's goroutine at the start of a
// turn, when everything that was decided under an earlier lease has been sent or
// dropped.
func (g *Guest) setLease(now, begin, end time.Duration) {
	if guard := g.parts.Guard; guard != nil {
		if err := guard.SetLease(guardUntil(now, end, g.Orphaned())); err != nil && !g.guardFailed {
			g.guardFailed = true
			g.log.Warn("the guard in the kernel cannot be given the lease; nothing new is answered until it can", "error", err)
		}
	}
	g.parts.Node.SetLease(begin, end)
}

// guardUntil is until when the guard lets answers out. Once the lease is over the
// node says nothing that the guard would have to stop, and a worker that is alone
// gets no other. A guard that stayed shut would silence the worker of the next
// control process, too, if that does not take this one up.
func guardUntil(now, end time.Duration, alone bool) time.Duration {
	if alone && now >= end {
		return node.Forever
	}
	return end
}

// closeGuard lets go of the guard of a retired worker: it takes nothing new, and
// a frame leaves an interface only if the guards of all workers have a lease.
func (g *Guest) closeGuard() {
	if g.parts.Guard == nil {
		return
	}
	if err := g.parts.Guard.Close(); err != nil {
		g.log.Warn("the guard in the kernel could not be closed", "error", err)
	}
}

// guardStatus tells of the guard.
func (g *Guest) guardStatus() GuardStatus {
	if g.parts.Guard == nil {
		return GuardStatus{State: guardNotAvailable + g.parts.NoGuard}
	}
	dropped, err := g.parts.Guard.Stats()
	if err != nil {
		return GuardStatus{State: guardClosed}
	}
	return GuardStatus{guardInKernel, dropped.SYNACKs, dropped.ARPReplies, dropped.EchoReplies}
}
