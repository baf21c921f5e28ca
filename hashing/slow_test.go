package hashing

import (
	"encoding/binary"
	"net/netip"
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
	return slowSipHash([16]byte([]byte("ecioveno" + "ovzedner")), m)
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
	moved := map[int]bool{}
	for {
		bestBucket, bestNode, best := -1, NodeID(0), uint64(0)
		for b, owner := range next {
			if moved[b] || owner != 0 && next.Count(owner) <= quota[owner] {
				continue
			}
			for _, s := range shares {
				if next.Count(s.Node) >= quota[s.Node] {
					continue
				}
				if v := slowScore(b, s.Node); bestBucket < 0 || v > best {
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

// slowQuotas hands the odd buckets out one at a time.
func slowQuotas(cur Table, shares []Share) map[NodeID]int {
	sum, given := uint64(0), 0
	for _, s := range shares {
		sum += uint64(s.Weight)
	}
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
			if best == nil || prefer(cur, quota, sum, s, best) {
				best = s
			}
		}
		took[best.Node] = true
		quota[best.Node]++
	}
	return quota
}

// prefer reports whether a is to have the odd bucket before b.
func prefer(cur Table, quota map[NodeID]int, sum uint64, a, b *Share) bool {
	hasA, hasB := cur.Count(a.Node) > quota[a.Node], cur.Count(b.Node) > quota[b.Node]
	if hasA != hasB {
		return hasA
	}
	restA, restB := Buckets*uint64(a.Weight)%sum, Buckets*uint64(b.Weight)%sum
	if restA != restB {
		return restA > restB
	}
	return a.Node < b.Node
}
