package responder

import (
	"encoding/binary"
	"math/bits"
)

// Sum is the ones' complement sum of RFC 1071 over b in 16-bit big-endian
// words, on top of initial. Over bytes with their right checksum in them it is
// 0xffff. Eight bytes are added at a time: a sum of wider words folds to the
// same 16 bits (RFC 1071 §2(C)).
func Sum(initial uint16, b []byte) uint16 {
	if len(b) == 20 {
		return sum20(initial, (*[20]byte)(b))
	}
	acc, carry := uint64(initial), uint64(0)
	for len(b) >= 32 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[8:]), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[16:]), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[24:]), carry)
		b = b[32:]
	}
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), carry)
		b = b[8:]
	}
	// At most seven bytes are left; an odd one is the upper half of its word.
	var tail [8]byte
	copy(tail[:], b)
	acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(tail[:]), carry)
	return fold(acc, carry)
}

// sum20 is Sum of a header without options, which every frame has.
func sum20(initial uint16, b *[20]byte) uint16 {
	acc, carry := bits.Add64(binary.BigEndian.Uint64(b[0:]), binary.BigEndian.Uint64(b[8:]), 0)
	acc, carry = bits.Add64(acc, uint64(binary.BigEndian.Uint32(b[16:]))+uint64(initial), carry)
	return fold(acc, carry)
}

// fold brings a sum to 16 bits.
func fold(acc, carry uint64) uint16 {
	acc, carry = bits.Add64(acc, 0, carry)
	acc += carry
	acc = acc>>32 + acc&0xffffffff
	// What is above 16 bits becomes less each time: at most 17 bits, 2, 1 and none.
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc>>16 + acc)
}

// PseudoSum is the sum over the pseudo-header of RFC 9293 §3.1:
//
//	0                4                     8      9       10         12
//	| source address | destination address | zero | proto | length of the segment |
func PseudoSum(src, dst [4]byte, proto byte, length int) uint16 {
	var b [12]byte
	copy(b[0:], src[:])
	copy(b[4:], dst[:])
	b[9] = proto
	binary.BigEndian.PutUint16(b[10:], uint16(length))
	return Sum(0, b[:])
}
