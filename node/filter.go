package node

import "onevoice/hashing"

// Filter is a program in the kernel that passes to this node only what it must
// see: frames of the buckets that it was told to pass, and of the flows that it
// was told to hold. Its methods are called between frames.
type Filter interface {
	// Hold passes the frames of a flow from now on, also where its bucket does
	// not pass. False when the map is full.
	Hold(*hashing.Flow) bool
	// Release ends that.
	Release(*hashing.Flow)
	// Pass says which buckets of a service pass.
	Pass(service int, buckets *Bitmap)
}
