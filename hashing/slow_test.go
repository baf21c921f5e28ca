package hashing

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
)

// This file is the slow and obvious second implementation that the fast one is
// compared with.

// slowSipHash is SipHash-2-4 as the paper says it (Aumasson and Bernstein,
// "SipHash: a fast short-input PRF", §2.2 to §2.4).
func slowSipHash(key [16]byte, m []byte) uint64 {
	k0, k1 := binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:])
	v0, v1 := k0^0x736f6d6570736575, k1^0x646f72616e646f6d
	v2, v3 := k0^0x6c7967656e657261, k1^0x7465646279746573
	rotate := func(x uint64, n uint) uint64 { return x<<n | x>>(64-n) }
	round := func() {
		v0 += v1
		v2 += v3
		v1 = rotate(v1, 13)
		v3 = rotate(v3, 16)
		v1 ^= v0
		v3 ^= v2
		v0 = rotate(v0, 32)
		v2 += v1
		v0 += v3
		v1 = rotate(v1, 17)
		v3 = rotate(v3, 21)
		v1 ^= v2
		v3 ^= v0
		v2 = rotate(v2, 32)
	}
	padded := append([]byte{}, m...)
	for len(padded)%8 != 7 {
		padded = append(padded, 0)
	}
	padded = append(padded, byte(len(m)))
	for i := 0; i < len(padded); i += 8 {
		word := binary.LittleEndian.Uint64(padded[i:])
		v3 ^= word
		round()
		round()
		v0 ^= word
	}
	v2 ^= 0xff
	for range 4 {
		round()
	}
	return v0 ^ v1 ^ v2 ^ v3
}

// slowBucket writes the fields out one by one.
func slowBucket(key Key, a Affinity, f *Flow) uint8 {
	var m []byte
	address := f.Src
	if address.Is4In6() {
		address = netip.AddrFrom4([4]byte(address.AsSlice()[12:]))
	}
	switch {
	case a == SourceNet && address.Is4():
		b := address.As4()
		m = []byte{b[0], b[1], b[2], 0}
	case a == SourceNet:
		m = address.AsSlice()[:8]
	default:
		m = address.AsSlice()
	}
	if a == SourceIPPort || a == SourceIPPortDestPort {
		m = append(m, byte(f.SrcPort>>8), byte(f.SrcPort))
	}
	if a == SourceIPPortDestPort {
		m = append(m, byte(f.DstPort>>8), byte(f.DstPort))
	}
	return uint8(slowSipHash(key, m) & 0xff)
}

// slowScore is the rendezvous score of a bucket and a node.
func slowScore(bucket int, id NodeID) uint64 {
	m := binary.BigEndian.AppendUint64(nil, uint64(bucket))
	m = binary.BigEndian.AppendUint64(m, uint64(id))
	return slowSipHash([16]byte([]byte("ecioveno"+"ovzedner")), m)
}

// remembered is slowScore that computes no score twice.
func remembered() func(bucket int, id NodeID) uint64 {
	type key struct {
		bucket int
		id     NodeID
	}
	known := map[key]uint64{}
	return func(bucket int, id NodeID) uint64 {
		k := key{bucket, id}
		v, ok := known[k]
		if !ok {
			v = slowScore(bucket, id)
			known[k] = v
		}
		return v
	}
}

// slowDeriveKey is RFC 5869 §2.2 and §2.3 written out: extract with a salt of
// zeros, then the first block of the expansion.
func slowDeriveKey(clusterKey []byte) Key {
	extract := hmac.New(sha256.New, make([]byte, sha256.Size))
	extract.Write(clusterKey)
	expand := hmac.New(sha256.New, extract.Sum(nil))
	expand.Write([]byte("onevoice hash key v1\x01"))
	return Key(expand.Sum(nil)[:16])
}

// slowNext scans everything again for each single move: the best pair of a
// bucket that must or may leave its owner and a node that lacks one.
func slowNext(cur Table, shares []Share) Table {
	quota := slowQuotas(cur, shares)
	next := cur
	for b := range next {
		if _, member := quota[next[b]]; !member {
			next[b] = 0
		}
	}
	moved, score := map[int]bool{}, remembered()
	for {
		bestBucket, bestNode, best := -1, NodeID(0), uint64(0)
		count := slowCount(next)
		for b, owner := range next {
			if moved[b] || owner != 0 && count[owner] <= quota[owner] {
				continue
			}
			for _, s := range shares {
				if count[s.Node] >= quota[s.Node] {
					continue
				}
				if v := score(b, s.Node); bestBucket < 0 || v > best {
					bestBucket, bestNode, best = b, s.Node, v
				}
			}
		}
		if bestBucket < 0 {
			return next
		}
		next[bestBucket], moved[bestBucket] = bestNode, true
	}
}

func slowCount(t Table) map[NodeID]int {
	count := map[NodeID]int{}
	for _, owner := range t {
		count[owner]++
	}
	return count
}

// slowQuotas hands the odd buckets out one at a time.
func slowQuotas(cur Table, shares []Share) map[NodeID]int {
	sum, given, count := slowSum(shares), 0, slowCount(cur)
	quota := map[NodeID]int{}
	if sum == 0 {
		return quota
	}
	for _, s := range shares {
		quota[s.Node] = int(Buckets * uint64(s.Weight) / sum)
		given += quota[s.Node]
	}
	took := map[NodeID]bool{}
	for ; given < Buckets; given++ {
		var best *Share
		for i := range shares {
			s := &shares[i]
			if took[s.Node] || Buckets*uint64(s.Weight)%sum == 0 {
				continue
			}
			if best == nil || prefer(count, quota, sum, s, best) {
				best = s
			}
		}
		took[best.Node] = true
		quota[best.Node]++
	}
	return quota
}

// prefer reports whether a is to have the odd bucket before b: who has one
// already, then the larger remainder, then the lower id.
func prefer(count, quota map[NodeID]int, sum uint64, a, b *Share) bool {
	hasA, hasB := count[a.Node] > quota[a.Node], count[b.Node] > quota[b.Node]
	if hasA != hasB {
		return hasA
	}
	restA, restB := Buckets*uint64(a.Weight)%sum, Buckets*uint64(b.Weight)%sum
	if restA != restB {
		return restA > restB
	}
	return a.Node < b.Node
}

func slowSum(shares []Share) uint64 {
	sum := uint64(0)
	for _, s := range shares {
		sum += uint64(s.Weight)
	}
	return sum
}

// exhaustiveQuotas tries every way to hand out the odd buckets and reports the
// best: the fewest moves, then the one that gives to the first in the order of
// larger remainder and lower id. It takes 2^nodes steps.
//
// Under given quotas a node keeps at most the smaller of what it has and its
// quota, whatever table is made; all other buckets move. So the fewest moves
// over all ways is the fewest moves over all tables.
func exhaustiveQuotas(cur Table, shares []Share) (quota map[NodeID]int, moves int) {
	sum, count := slowSum(shares), slowCount(cur)
	ranked := slices.Clone(shares)
	slices.SortFunc(ranked, func(a, b Share) int {
		return cmp.Or(cmp.Compare(Buckets*uint64(b.Weight)%sum, Buckets*uint64(a.Weight)%sum), cmp.Compare(a.Node, b.Node))
	})
	moves = Buckets + 1
	// The highest bit is the first of the order, so the first best found from
	// above is the one wanted.
	for mask := 1<<len(ranked) - 1; mask >= 0; mask-- {
		q, total, kept := map[NodeID]int{}, 0, 0
		possible := true
		for i, s := range ranked {
			exact := Buckets * uint64(s.Weight)
			q[s.Node] = int(exact / sum)
			if mask>>(len(ranked)-1-i)&1 == 1 {
				q[s.Node]++
				possible = possible && exact%sum > 0
			}
			total += q[s.Node]
			kept += min(q[s.Node], count[s.Node])
		}
		if possible && total == Buckets && Buckets-kept < moves {
			quota, moves = q, Buckets-kept
		}
	}
	return quota, moves
}

// fewestMoves is the same least number by a formula that does for any number of
// nodes: each node keeps at most its rounded-down share, and as many nodes as
// there are odd buckets keep one more if they have it.
func fewestMoves(cur Table, shares []Share) int {
	sum, count := slowSum(shares), slowCount(cur)
	kept, odd, wanted := 0, Buckets, 0
	for _, s := range shares {
		exact := Buckets * uint64(s.Weight)
		floor := int(exact / sum)
		odd -= floor
		kept += min(count[s.Node], floor)
		if count[s.Node] > floor && exact%sum > 0 {
			wanted++
		}
	}
	return Buckets - kept - min(odd, wanted)
}
