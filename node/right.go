package node

import (
	"time"

	"onevoice/hashing"
)

// right is which buckets of a service, or of a VIP, this node answers for, and
// since when.
type right struct {
	accept Bitmap
	lease  *lease // the VIP's
	// since is when a bucket of accept was found to be in it, pending before
	// that.
	since [hashing.Buckets]time.Duration
	// fresh: some are pending.
	fresh bool
	// anew: what is accepted next is all new.
	anew bool
}

// begins is since when a bucket of accept is this node's to answer for, without a gap;
// pending when that is not settled.
func (r *right) begins(bucket uint8) time.Duration {
	if r.lease.fresh() {
		return pending
	}
	return max(r.lease.begin, r.since[bucket])
}

// seen is when this node first looked at a frame with that right: not before it began.
func (r *right) seen(bucket uint8) time.Duration {
	if r.lease.fresh() {
		return pending
	}
	return max(r.lease.seen, r.since[bucket])
}

// pending stands for the `now` of the next frame or turn.
const pending = Forever

// set puts another bitmap in force.
func (r *right) set(accept *Bitmap) {
	for b := range hashing.Buckets {
		if b := uint8(b); accept.Has(b) && (r.anew || !r.accept.Has(b)) {
			r.since[b], r.fresh = pending, true
		}
	}
	r.accept, r.anew = *accept, false
}

// settle gives the pending buckets their time. The frames of the batch that
// comes with it were in the queue before: what had been the answer of another
// node is not ours to give.
func (r *right) settle(now time.Duration) {
	if !r.fresh {
		return
	}
	r.fresh = false
	for b := range r.since {
		if r.since[b] == pending {
			r.since[b] = now
		}
	}
}

// TakenUp says that ownerships are another control process's from now on. Which buckets
// went away and came back in between it does not say, so that all are new in its first one.
func (n *Node) TakenUp() {
	for i := range n.vipRights {
		n.vipRights[i].anew = true
	}
	for i := range n.rights {
		n.rights[i].anew = true
	}
}

// settle gives a new ownership its time.
func (n *Node) settle(now time.Duration) {
	n.last = now
	if !n.fresh {
		return
	}
	n.fresh = false
	for i := range n.leases {
		n.leases[i].settle(now)
	}
	for i := range n.vipRights {
		n.vipRights[i].settle(now)
	}
	for i := range n.rights {
		n.rights[i].settle(now)
	}
}
