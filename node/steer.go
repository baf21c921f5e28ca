package node

import "onevoice/link/ingress"

// KernelSocket is what the host's own TCP has for a segment.
type KernelSocket uint8

// What the host's own TCP may have.
const (
	NoSocket KernelSocket = iota
	// ListeningSocket: only a listening socket takes it.
	ListeningSocket
	// HalfOpenSocket: a SYN-ACK has left, or is about to, and was not answered yet.
	HalfOpenSocket
	// OpenSocket: a connection, in whatever state between the handshake and its end.
	OpenSocket
	// DistantSocket: the same, and the segment lies far outside its windows.
	DistantSocket
	// TimeWaitSocket: a connection that is over, but for late segments.
	TimeWaitSocket
)

// BucketState is what a bucket is to this node.
type BucketState struct {
	// Owned: this node takes what is new, under a valid lease.
	Owned bool
	// Settled: no other node can hold a flow of it: it is in nobody's grace and has no
	// drainer. It counts only beside Owned.
	Settled bool
	// Lingering: this node may hold flows of it, whether it is owned or not. Where it
	// is not, the kernel is not asked for a socket.
	Lingering bool
	// Excluded is about the segment's flow: the list of every drainer of the bucket is
	// there, is complete and current, and has it not (R14, R17). It counts only beside
	// Owned.
	Excluded bool
	// Asked is about the segment: the last SYN of its flow, which it acknowledges, has come
	// since the bucket is Owned, without a gap. It counts only beside Owned.
	Asked bool
}

// SteerIn is the gate's rule for the direct path on the way in (OWNERSHIP.md R12 and
// R13): whether the host's own TCP may see a segment. It is in words what package
// ingress loads into the kernel, and differs from the netstack gate where the kernel's
// TCP differs: that one cannot be told to forget a flow, so what it would say about it
// is kept back by SteerOut.
//
// "Ours, or any socket that is known" is not enough: a tuple that was used again with
// another owner would be answered by the TIME-WAIT of the one before.
func SteerIn(flags uint8, s KernelSocket, b BucketState) ingress.Ruling {
	switch {
	case flags&(flagSYN|flagACK|flagRST) == 0, flags&flagSYN != 0 && flags&(flagFIN|flagRST) != 0:
		return ingress.Malformed
	case flags&(flagSYN|flagACK) == flagSYN && b.Owned:
		return ingress.PassSYN
	case flags&(flagSYN|flagACK) == flagSYN:
		return ingress.ForeignSYN
	case !b.Owned && !b.Lingering:
		return ingress.Foreign
	}
	// Whatever socket there is, the kernel knows best.
	if b.Owned && b.Settled {
		return ingress.PassAlone
	}
	// Where others may hold flows, the tuple of an old one of ours may be in use again.
	switch s {
	case HalfOpenSocket, OpenSocket:
		return ingress.PassHeld
	case DistantSocket:
		return ingress.Outside
	case TimeWaitSocket:
		if flags&flagFIN != 0 {
			return ingress.PassHeld
		}
		return ingress.ForeignTimeWait
	}
	mayComplete := s == ListeningSocket && flags&(flagSYN|flagACK|flagRST) == flagACK
	switch {
	case b.Owned && b.Excluded:
		return ingress.PassStray
	case mayComplete:
		return ingress.PassCookie
	case b.Owned:
		return ingress.Unsettled
	}
	return ingress.Foreign
}

// SteerDatagram is the same for a datagram of a UDP service: the bucket alone decides,
// for each anew (R15).
func SteerDatagram(b BucketState) ingress.Ruling {
	if b.Owned {
		return ingress.PassDatagram
	}
	return ingress.Foreign
}

// SteerOut is the rule on the way out (R10, R14), for a segment that the host's own TCP
// sends from a VIP. open: a connection sends it, not a listening socket, and not the
// kernel in nobody's name. quiet: this node's connections are to end without a word
// (R18). seq is the segment's sequence number.
//
// It asks anew for what SteerIn asked: the bucket may have gone since, or its drainers may
// be others. A SYN-ACK answers the last SYN before it: another node may have answered that if
// the right to answer has gone and come back since (R12), and the kernel repeats its own.
//
// A reset with ACK and the number 0 answers a segment without ACK (RFC 9293 §3.10.7.1),
// and of those only the SYNs of buckets that are ours came in.
func SteerOut(flags uint8, seq uint32, open, quiet bool, b BucketState) ingress.Ruling {
	switch {
	case flags&flagRST != 0:
		refusal := flags&flagACK != 0 && seq == 0
		switch {
		case open && quiet:
			return ingress.KeptSilent
		case open, b.Owned && (b.Settled || b.Excluded || refusal):
			return ingress.Elsewhere
		}
		return ingress.KeptReset
	case flags&(flagSYN|flagACK) == flagSYN|flagACK && !(b.Owned && b.Asked):
		return ingress.KeptSYNACK
	}
	return ingress.Elsewhere
}
