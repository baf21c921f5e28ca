package hashing

import (
	"encoding/binary"
	"math/bits"
)

// jhashInitial is JHASH_INITVAL of include/linux/jhash.h, which is Jenkins' lookup3
// since Linux 2.6.38. All arithmetic is of 32 bits and wraps.
const jhashInitial = 0xdeadbeef

// jhash is the kernel's jhash: bytes taken as words of this machine's byte order, or
// as it is on machines that put the low byte first.
func jhash(key []byte, seed uint32) uint32 {
	a := jhashInitial + uint32(len(key)) + seed
	b, c := a, a
	for ; len(key) > 12; key = key[12:] {
		a += binary.LittleEndian.Uint32(key)
		b += binary.LittleEndian.Uint32(key[4:])
		c += binary.LittleEndian.Uint32(key[8:])
		a, b, c = jhashMix(a, b, c)
	}
	if len(key) == 0 {
		return c
	}
	var last [12]byte
	copy(last[:], key)
	a += binary.LittleEndian.Uint32(last[:])
	b += binary.LittleEndian.Uint32(last[4:])
	c += binary.LittleEndian.Uint32(last[8:])
	return jhashFinal(a, b, c)
}

// jhashWords is jhash2, and of one to three words jhash_1word to jhash_3words, which
// are the same function.
func jhashWords(words []uint32, seed uint32) uint32 {
	a := jhashInitial + 4*uint32(len(words)) + seed
	b, c := a, a
	for ; len(words) > 3; words = words[3:] {
		a, b, c = jhashMix(a+words[0], b+words[1], c+words[2])
	}
	var last [3]uint32
	if copy(last[:], words) == 0 {
		return c
	}
	return jhashFinal(a+last[0], b+last[1], c+last[2])
}

func jhashMix(a, b, c uint32) (uint32, uint32, uint32) {
	rol := bits.RotateLeft32
	a -= c
	a ^= rol(c, 4)
	c += b
	b -= a
	b ^= rol(a, 6)
	a += c
	c -= b
	c ^= rol(b, 8)
	b += a
	a -= c
	a ^= rol(c, 16)
	c += b
	b -= a
	b ^= rol(a, 19)
	a += c
	c -= b
	c ^= rol(b, 4)
	b += a
	return a, b, c
}

func jhashFinal(a, b, c uint32) uint32 {
	rol := bits.RotateLeft32
	c = (c ^ b) - rol(b, 14)
	a = (a ^ c) - rol(c, 11)
	b = (b ^ a) - rol(a, 25)
	c = (c ^ b) - rol(b, 16)
	a = (a ^ c) - rol(c, 4)
	b = (b ^ a) - rol(a, 14)
	return (c ^ b) - rol(b, 24)
}

// scale maps a hash to 0 to n-1 as reciprocal_scale of include/linux/kernel.h does.
func scale(hash, n uint32) int { return int(uint64(hash) * uint64(n) >> 32) }
