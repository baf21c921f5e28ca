package node

import (
	"time"

	"onevoice/hashing"
)

// Bitmap has one bit for each bucket.
type Bitmap [hashing.Buckets / 64]uint64

// Has reports whether the bit of a bucket is set.
func (b *Bitmap) Has(bucket uint8) bool { return b[bucket/64]&(1<<(bucket%64)) != 0 }

// Set sets the bit of a bucket.
func (b *Bitmap) Set(bucket uint8) { b[bucket/64] |= 1 << (bucket % 64) }

// OwnedBy is the bitmap of a table's buckets that belong to a node.
func OwnedBy(t *hashing.Table, id hashing.NodeID) Bitmap {
	var b Bitmap
	for i, owner := range t {
		if owner == id && id != 0 {
			b.Set(uint8(i))
		}
	}
	return b
}

// Forever is the end of a lease that does not run out: the time far beyond any
// clock.
const Forever = time.Duration(1<<63 - 1)

// Rows is what one service's part of the table means for this node, bucket by
// bucket (OWNERSHIP.md R2, R12 to R14). A VIP's own rows decide who answers ARP
// and echo for it.
type Rows struct {
	// Key hashes clients to buckets; the zero Key means Config.Hasher.
	Key hashing.Key
	// Accept: this node answers what is new: it owns the bucket under its own
	// epoch, no move of it is pending, and its mapping is the table's.
	Accept Bitmap
	// Grace: a node that was evicted and is not known to be dead yet may hold
	// flows of the bucket. Nobody may speak for them.
	Grace Bitmap
	// Shared: another living node, a drainer, may hold flows of the bucket.
	Shared Bitmap
	// Draining: this node does not own the bucket and is a drainer of it.
	Draining Bitmap
}

// Ownership is the right to answer, as a value: which buckets this node owns
// and until when. It is made by whoever decides ownership and never changed
// after it was given to a node.
type Ownership struct {
	// Generation counts the changes of everything but the lease.
	Generation uint64
	// VIPs and Services are in the order of the node's configuration.
	VIPs     []Rows
	Services []Rows
	// Elsewhere: other nodes, or other workers of this one, may serve ports that have
	// no service here. Nothing is said for those.
	Elsewhere bool
	// LeaseBegin is when the present lease began: it has been renewed without a
	// gap since. LeaseEnd is compared with the clock when a frame comes in.
	LeaseBegin, LeaseEnd time.Duration
}
