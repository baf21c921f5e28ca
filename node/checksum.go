package node

import (
	"encoding/binary"
	"math/bits"
)

// sum is the ones' complement sum of b in 16-bit big-endian words, RFC 1071,
// on top of initial. It adds eight bytes at a time: the sum of larger words
// folds to the same 16 bits (RFC 1071 §2(C)).
func sum(b []byte, initial uint16) uint16 {
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
	// At most seven bytes are left; an odd one is the upper half of a word.
	var tail [8]byte
	copy(tail[:], b)
	acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(tail[:]), carry)
	acc, carry = bits.Add64(acc, 0, carry)
	acc += carry
	return fold(acc)
}

// fold adds the four words of v with their carries.
func fold(v uint64) uint16 {
	v = v>>32 + v&0xffffffff
	v = v>>32 + v&0xffffffff
	v = v>>16 + v&0xffff
	v = v>>16 + v&0xffff
	return uint16(v)
}

// transportSum is the sum over pseudo-header (RFC 9293 §3.1) and segment; it
// is 0xffff when the checksum inside is right.
func transportSum(src, dst []byte, proto uint8, segment []byte) uint16 {
	var pseudo [12]byte
	copy(pseudo[0:4], src)
	copy(pseudo[4:8], dst)
	pseudo[9] = proto
	binary.BigEndian.PutUint16(pseudo[10:], uint16(len(segment)))
	return sum(segment, sum(pseudo[:], 0))
}
