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

// Ownership is the right to answer, as a value: which buckets this node owns
// and until when. It is made by whoever decides ownership and never changed
// after it was given to a node.
type Ownership struct {
	// Generation counts the changes.
	Generation uint64
	// VIPs and Services are in the order of the node's configuration. A VIP's
	// own bitmap decides who answers ARP and echo for it.
	VIPs     []Bitmap
	Services []Bitmap
	// LeaseEnd is compared with the clock when a frame comes in.
	LeaseEnd time.Duration
}
