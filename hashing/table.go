package hashing

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/dchest/siphash"
)

// NodeID names a node in tables. 0 is nobody. Whoever makes the shares chooses
// the numbers; the same node must have the same one everywhere, since they
// break ties.
type NodeID uint64

// Table says which node owns each bucket.
type Table [Buckets]NodeID

// Share is a node's claim to buckets.
type Share struct {
	Node NodeID
	// Weight is in any unit; 0 owns nothing.
	Weight uint32
}

// Bounds of a table.
const (
	// MaxNodes is the most nodes of a table: each has 8 buckets or so, and one
	// odd bucket more or less is at most an eighth of its share.
	MaxNodes = 32
	// MaxWeight is the heaviest weight. 256 times it, and the sum of MaxNodes
	// of it, fit 32 bits, so that no sum here can overflow on any machine.
	MaxWeight = 1 << 20
)

// Count is the number of buckets that a node owns.
func (t *Table) Count(id NodeID) int {
	n := 0
	for _, owner := range t {
		if owner == id {
			n++
		}
	}
	return n
}

// Moved is the number of buckets whose owner differs.
func Moved(a, b *Table) int {
	n := 0
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

// First makes the first table of a set of nodes: rendezvous with a quota, all
// pairs of bucket and node by descending score, each bucket once and each node
// until it is full. It refuses what Next refuses.
func First(shares []Share) (Table, error) { return Next(Table{}, shares) }

// Next makes the table for shares with the fewest changes from cur. Each node's
// number of buckets is within one of its exact share, 256 × weight / sum, and
// exact where that is a whole number. The odd buckets, which the rounding down
// leaves over, go first to nodes that have one already (each saves a move), then
// to the larger remainder, then to the lower id. Nodes that are gone or weigh
// nothing lose all they have. Which bucket goes to which node is decided by
// rendezvous: the pair with the highest score first. The order of shares does
// not matter.
//
// With no weight at all every bucket is nobody's. Too many nodes, node 0, a
// node named twice, and a weight above MaxWeight are errors; the table returned
// is then empty, and the caller is to keep the one it has.
func Next(cur Table, shares []Share) (Table, error) {
	return NextOf(cur, shares, Buckets, nil)
}

// NextOf is Next of the first so many buckets alone; the rest are nobody's. Buckets
// that are kept stay with the owner that they have in cur. One that is kept by
// somebody without a share counts for nobody's quota, all others do.
func NextOf(cur Table, shares []Share, buckets int, kept []bool) (Table, error) {
	keeps := func(b int) bool { return b < len(kept) && kept[b] }
	total := buckets
	for b := range cur {
		switch {
		case b >= buckets:
			cur[b] = 0
		case keeps(b) && !slices.ContainsFunc(shares, func(s Share) bool { return s.Node == cur[b] }):
			total--
		}
	}
	quota, err := quotas(&cur, shares, total)
	if err != nil {
		return Table{}, err
	}
	// What each node may still take (room) or has to give (excess).
	room, excess := map[NodeID]int{}, map[NodeID]int{}
	for id, want := range quota {
		if have := cur.Count(id); have < want {
			room[id] = want - have
		} else {
			excess[id] = have - want
		}
	}
	next := cur
	for b, owner := range cur {
		if _, stays := quota[owner]; !stays && !keeps(b) {
			next[b] = 0
		}
	}
	free := func(b int) bool { return b < buckets && !keeps(b) }
	for _, p := range candidates(&next, room, excess, free) {
		owner := next[p.bucket]
		switch {
		case room[p.node] == 0 || cur[p.bucket] != owner && owner != 0:
			// The taker is full, or the bucket has been given already.
		case owner == 0:
			next[p.bucket] = p.node
			room[p.node]--
		case excess[owner] > 0:
			next[p.bucket] = p.node
			excess[owner]--
			room[p.node]--
		}
	}
	return next, nil
}

// pair is a bucket that may go to a node.
type pair struct {
	score  uint64
	bucket int
	node   NodeID
}

// candidates are the buckets that may be given, of those that are free to go, with
// the nodes that may take them, highest score first.
func candidates(t *Table, room, excess map[NodeID]int, free func(int) bool) []pair {
	var out []pair
	for b, owner := range t {
		if !free(b) || owner != 0 && excess[owner] == 0 {
			continue
		}
		for id, n := range room {
			if n > 0 {
				out = append(out, pair{score(b, id), b, id})
			}
		}
	}
	slices.SortFunc(out, func(a, b pair) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.bucket, b.bucket), cmp.Compare(a.node, b.node))
	})
	return out
}

// score is the rendezvous score of a bucket and a node: SipHash-2-4 of both
// under a fixed key. It is public; what must not be guessed is the way from a
// client to its bucket.
func score(bucket int, id NodeID) uint64 {
	const k0, k1 = 0x6f6e65766f696365, 0x72656e64657a766f // "onevoice" "rendezvo"
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(bucket))
	binary.BigEndian.PutUint64(b[8:], uint64(id))
	return siphash.Hash(k0, k1, b[:])
}

// quotas are the numbers of buckets that the nodes of shares are to have, of so
// many.
func quotas(cur *Table, shares []Share, total int) (map[NodeID]int, error) {
	sum, err := check(shares)
	if err != nil || sum == 0 {
		return nil, err
	}
	type rest struct {
		id        NodeID
		remainder uint64
		has       bool
	}
	out := make(map[NodeID]int, len(shares))
	var rests []rest
	left := total
	for _, s := range shares {
		exact := uint64(total) * uint64(s.Weight)
		floor := int(exact / sum)
		out[s.Node] = floor
		left -= floor
		if r := exact % sum; r > 0 {
			rests = append(rests, rest{s.Node, r, cur.Count(s.Node) > floor})
		}
	}
	slices.SortFunc(rests, func(a, b rest) int {
		if a.has != b.has {
			if a.has {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.remainder, a.remainder), cmp.Compare(a.id, b.id))
	})
	// There are fewer odd buckets than nodes with a remainder: the remainders
	// sum to left times sum, and each is below sum.
	for _, r := range rests[:left] {
		out[r.id]++
	}
	return out, nil
}

func check(shares []Share) (sum uint64, err error) {
	if len(shares) > MaxNodes {
		return 0, fmt.Errorf("hashing: %d nodes, at most %d are supported", len(shares), MaxNodes)
	}
	seen := make(map[NodeID]bool, len(shares))
	for _, s := range shares {
		switch {
		case s.Node == 0:
			return 0, errors.New("hashing: node 0 is nobody and takes no share")
		case seen[s.Node]:
			return 0, fmt.Errorf("hashing: node %d has two shares", s.Node)
		case s.Weight > MaxWeight:
			return 0, fmt.Errorf("hashing: weight %d of node %d is above %d", s.Weight, s.Node, MaxWeight)
		}
		seen[s.Node] = true
		sum += uint64(s.Weight)
	}
	return sum, nil
}
