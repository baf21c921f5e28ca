package node

import (
	"time"

	"onevoice/hashing"
)

// TakesDatagram is the gate's rule for a UDP service: the bucket decides, at
// once. After a move the old owner takes no further datagram, whatever it has
// taken of the same client before, and may answer what it has taken, for an
// answer is not new (OWNERSHIP.md R15). Undecided lets the datagram in.
func (n *Node) TakesDatagram(now time.Duration, service int, flow *hashing.Flow) Verdict {
	return n.mayAccept(now, &n.rights[service], n.bucketOf(service, flow))
}
