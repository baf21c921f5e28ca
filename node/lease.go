package node

import "time"

// lease is from when until when a node may answer what is new.
type lease struct {
	begin, end time.Duration
	// seen is the `now` of the first frame or turn with settled, the begin of that.
	settled, seen time.Duration
}

// fresh reports whether there was no frame or turn with that begin. One that was there
// before stays seen: an ownership takes the lease away for the moment until it is set.
func (l *lease) fresh() bool { return l.begin != l.settled }

func (l *lease) settle(now time.Duration) {
	if l.fresh() {
		l.settled, l.seen = l.begin, now
	}
}

// covers reports whether the lease is valid at that time.
func (l *lease) covers(at time.Duration) bool { return at >= l.begin && at < l.end }

// SetLease puts another lease of a VIP, and of the services on it, in force from
// the next frame on: its begin, which stays the same while the lease is renewed
// without a gap, and its end. It may be called for every batch.
func (n *Node) SetLease(vip int, begin, end time.Duration) {
	l := &n.leases[vip]
	l.begin, l.end = begin, end
	n.fresh = n.fresh || l.fresh()
	n.leaseAnswers(vip)
}

// Lease is a VIP's lease in force.
func (n *Node) Lease(vip int) (begin, end time.Duration) {
	return n.leases[vip].begin, n.leases[vip].end
}

// SetReal tells the node the CLOCK_REALTIME that belongs to the `now` of the
// frames that follow, so that it can tell from their stamps when they came in.
// With 0, stamps are not looked at.
func (n *Node) SetReal(real time.Duration) { n.real = real }

// Generation is that of the ownership in force.
func (n *Node) Generation() uint64 { return n.ownership.Generation }

// stale reports whether the frame that is being handled came in when the right
// to answer it was not this node's: before the present lease, or before began,
// when the bucket became so. Its previous owner may have answered it. A stamp from the future
// says that the clock was set, and nothing about the frame (OWNERSHIP.md R10).
func (n *Node) stale(now time.Duration, l *lease, began time.Duration) bool {
	if n.stamp == 0 || n.real == 0 {
		return n.emptying
	}
	age := n.real - n.stamp
	return age < 0 || now-age < max(l.begin, began)
}

// Stop makes the node accept nothing new and answer for no address any more.
// Flows that it holds go on.
func (n *Node) Stop() {
	n.stopping = true
	n.AnswerAlone()
}
