package node

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/dchest/siphash"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
)

// MaxListed bounds the flows of a bucket that a drainer lists. A list that says
// that it is not complete excludes nothing (OWNERSHIP.md R14, R17).
const MaxListed = 4096

// never is before anything that happens.
const never = time.Duration(-1 << 62)

// flowList is the hashes of the flows of a bucket that other nodes hold, in
// order.
type flowList struct {
	complete bool
	hashes   []uint64
}

// excludes is Undecided when the list proves that no other node holds the flow,
// or else why it does not. The nil list proves nothing.
func (l *flowList) excludes(hash uint64) Verdict {
	if l == nil || !l.complete {
		return StrayShared
	}
	if _, listed := slices.BinarySearch(l.hashes, hash); listed {
		return StrayListed
	}
	return Undecided
}

// SetFlowLists says which flows of a bucket its drainers hold, all of them
// together, by FlowHash. complete: each drainer's list is there, is current, and
// has all of its flows; false takes back what was said before, as every ownership
// does: its rows may have drainers that nobody knew of. The hashes are copied.
func (n *Node) SetFlowLists(service int, bucket uint8, complete bool, hashes []uint64) {
	l := &flowList{complete: complete}
	if complete {
		l.hashes = slices.Clone(hashes)
		slices.Sort(l.hashes)
	}
	n.lists[service][bucket] = l
}

// forgetLists takes back all lists of a service.
func (n *Node) forgetLists(service int) { clear(n.lists[service][:]) }

// FlowHash is the hash by which nodes name a flow to each other: SipHash-2-4
// under Config.ListKey of source, destination and protocol.
func (n *Node) FlowHash(f *hashing.Flow) uint64 {
	b := make([]byte, 0, 37)
	if f.Dst.Is4() {
		src, dst := f.Src.As4(), f.Dst.As4()
		b = append(append(b, src[:]...), dst[:]...)
	} else {
		src, dst := f.Src.As16(), f.Dst.As16()
		b = append(append(b, src[:]...), dst[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, f.SrcPort)
	b = binary.BigEndian.AppendUint16(b, f.DstPort)
	return siphash.Hash(n.listKey[0], n.listKey[1], append(b, f.Proto))
}

// Held is what this node holds of one bucket of a service.
type Held struct {
	Bucket uint8
	// Flows counts all that its TCP holds, in TIME-WAIT too: nobody else may
	// answer for them. HalfOpen of them are half-open.
	Flows, HalfOpen int
	// Unproven: a SYN-ACK of ours may still be answered of which there is no
	// proof in Flows: a SYN cookie, or one of a half-open flow. It left, or the
	// half-open flow was there, less than a minute ago. A node that holds no flow
	// of the bucket stays its drainer until this is false.
	Unproven bool
	// Hashes are the flows by FlowHash, MaxListed at most. Overflow says that there
	// are more, or that there may be, for SYN cookies may still come back.
	Hashes   []uint64
	Overflow bool
}

// Held reports what this node holds of the wanted buckets of a service: those of
// which anything is left, in order. It looks at every flow of the node.
func (n *Node) Held(now time.Duration, service int, wanted *Bitmap) []Held {
	var by [hashing.Buckets]Held
	for _, e := range n.table.order {
		bucket := e.bucket
		if e.service != service || !wanted.Has(bucket) {
			continue
		}
		switch n.stateOf(e) {
		case flowstate.None:
			continue
		case flowstate.HalfOpen:
			by[bucket].HalfOpen++
		}
		h := &by[bucket]
		h.Flows++
		if len(h.Hashes) < MaxListed {
			h.Hashes = append(h.Hashes, n.FlowHash(&e.flow))
		} else {
			h.Overflow = true
		}
	}
	var out []Held
	for b := range by {
		h := &by[b]
		h.Bucket = uint8(b)
		cookies := now-n.cookiesOf[service][b] < unprovenTime
		h.Overflow = h.Overflow || cookies
		h.Unproven = cookies || h.HalfOpen > 0 || now-n.lost[service][b] < unprovenTime
		if wanted.Has(h.Bucket) && (h.Flows > 0 || h.Unproven) {
			out = append(out, *h)
		}
	}
	return out
}

// Holding is the buckets of a service of which Held would report anything, for
// callers that want to know no more: it costs nothing, and a flow that has ended
// may count for a second longer.
func (n *Node) Holding(now time.Duration, service int) (b Bitmap) {
	for i := range hashing.Buckets {
		if n.table.count[service][i] > 0 || now-max(n.cookiesOf[service][i], n.lost[service][i]) < unprovenTime {
			b.Set(uint8(i))
		}
	}
	return b
}

// stateOf is a flow's state, None when it was forgotten.
func (n *Node) stateOf(e *tracked) flowstate.State {
	if e.muted {
		return flowstate.None
	}
	return n.flows.State(&e.flow)
}

// EndFlows ends the flows of the buckets: open ones with a reset, which leaves
// at the end of the turn, all others in silence. It returns how many it ended.
// It is for drained flows whose time is over.
func (n *Node) EndFlows(now time.Duration, service int, buckets *Bitmap) int {
	return n.each(service, buckets, func(e *tracked) {
		if n.flows.State(&e.flow) != flowstate.Open || !e.proven {
			n.forget(now, e)
			return
		}
		n.flows.End(&e.flow)
	})
}

// ForgetFlows closes the flows of the buckets and says nothing to anybody: this
// node was taken for dead, and others may reset them by now (OWNERSHIP.md R18).
// It returns how many it closed.
func (n *Node) ForgetFlows(now time.Duration, service int, buckets *Bitmap) int {
	return n.each(service, buckets, func(e *tracked) { n.forget(now, e) })
}

// each calls fn for the flows of the buckets that our TCP holds.
func (n *Node) each(service int, buckets *Bitmap, fn func(*tracked)) (count int) {
	for _, e := range n.table.order {
		if e.service == service && buckets.Has(e.bucket) && n.stateOf(e) != flowstate.None {
			fn(e)
			count++
		}
	}
	return count
}
