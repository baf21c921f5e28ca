package ingress

import (
	"github.com/cilium/ebpf/asm"
)

// Other is another system's hash, in the terms of package hashing, which has the
// sources. The zero Other is none: our own is used.
type Other struct {
	System OtherSystem
	Seed   uint32
	// Nodes is how many buckets there are.
	Nodes uint32
}

// OtherSystem says whose hash it is.
type OtherSystem uint8

// Systems.
const (
	// OwnHash is our own.
	OwnHash OtherSystem = iota
	// ClusterIP hashes what Hashed's ports say beside the IPv4 address.
	ClusterIP
	// XTCluster hashes the address, and of IPv6 its first 32 bits.
	XTCluster
	// NFTHash hashes the address.
	NFTHash
	// Netmask takes the low bits of the address.
	Netmask
	// CARP folds both addresses.
	CARP
)

// The words of the hash, and a register for what is between.
const (
	wordA = asm.R2
	wordB = asm.R3
	wordC = asm.R4
)

// jhashInitial is JHASH_INITVAL of include/linux/jhash.h.
const jhashInitial = 0xdeadbeef

// otherHash leaves the bucket by another system's hash in R0. The key, which it does
// not look at, is copied as sipHash24 does, for the decision.
func otherHash(h Hashed, family string) asm.Instructions {
	p := asm.Instructions{
		asm.LoadMem(asm.R0, state, stateKey, asm.DWord),
		asm.LoadMem(asm.R1, state, stateKey+8, asm.DWord),
		asm.StoreMem(asm.R10, usedKey, asm.R0, asm.DWord),
		asm.StoreMem(asm.R10, usedKey+8, asm.R1, asm.DWord),
	}
	switch h.System {
	case Netmask:
		last := int16(ipHeader + 12)
		if family == "6" {
			last = ipHeader + 8 + 12
		}
		return append(p,
			asm.LoadMem(asm.R0, asm.R10, last, asm.Word),
			asm.HostTo(asm.BE, asm.R0, asm.Word),
			asm.And.Imm(asm.R0, int32(h.Nodes-1)),
		)
	case CARP:
		return append(append(p, fold(family)...), asm.Mod.Imm32(asm.R0, int32(h.Nodes)))
	}
	p = append(p, jhash(words(h, family), h.Seed)...)
	// reciprocal_scale of include/linux/kernel.h; the hash has 32 bits.
	return append(p,
		asm.Mov.Reg32(asm.R0, wordC),
		asm.Mul.Imm(asm.R0, int32(h.Nodes)),
		asm.RSh.Imm(asm.R0, 32),
	)
}

// words load what is hashed, each into temp.
func words(h Hashed, family string) (out []asm.Instructions) {
	raw := func(at int16, order asm.Endianness, size asm.Size) {
		out = append(out, asm.Instructions{asm.LoadMem(temp, asm.R10, at, size), asm.HostTo(order, temp, size)})
	}
	switch {
	case h.System == ClusterIP:
		raw(ipHeader+12, asm.BE, asm.Word)
		if h.SourcePort {
			raw(tcp4, asm.LE, asm.Half)
		}
		if h.DestPort {
			raw(tcp4+2, asm.LE, asm.Half)
		}
	case family == "4":
		raw(ipHeader+12, asm.LE, asm.Word)
	case h.System == XTCluster:
		raw(ipHeader+8, asm.LE, asm.Word)
	default:
		for i := range int16(4) {
			raw(ipHeader+8+4*i, asm.LE, asm.Word)
		}
	}
	return out
}

// fold leaves all words of both addresses, one over the other, in R0.
func fold(family string) asm.Instructions {
	first, count := int16(ipHeader+12), int16(2)
	if family == "6" {
		first, count = ipHeader+8, 8
	}
	p := asm.Instructions{asm.LoadMem(asm.R0, asm.R10, first, asm.Word)}
	for i := int16(1); i < count; i++ {
		p = append(p, asm.LoadMem(asm.R1, asm.R10, first+4*i, asm.Word), asm.Xor.Reg(asm.R0, asm.R1))
	}
	return append(p, asm.HostTo(asm.BE, asm.R0, asm.Word))
}

// jhash is jhash2 of include/linux/jhash.h over words, left in wordC. All of it is of
// 32 bits.
func jhash(words []asm.Instructions, seed uint32) (p asm.Instructions) {
	initial := uint32(jhashInitial) + 4*uint32(len(words)) + seed
	registers := [3]asm.Register{wordA, wordB, wordC}
	for _, r := range registers {
		p = append(p, asm.Mov.Imm32(r, int32(initial)))
	}
	for i, word := range words {
		if i > 0 && i%3 == 0 {
			p = append(p, jhashMix()...)
		}
		p = append(p, word...)
		p = append(p, asm.Add.Reg32(registers[i%3], temp))
	}
	return append(p, jhashFinal()...)
}

// jhashMix is __jhash_mix.
func jhashMix() (p asm.Instructions) {
	const a, b, c = wordA, wordB, wordC
	for _, s := range []struct {
		x, y, z asm.Register
		bits    int32
	}{{a, c, b, 4}, {b, a, c, 6}, {c, b, a, 8}, {a, c, b, 16}, {b, a, c, 19}, {c, b, a, 4}} {
		// x -= y; x ^= rol(y, bits); y += z
		p = append(p, asm.Sub.Reg32(s.x, s.y))
		p = append(p, turned(s.y, s.bits)...)
		p = append(p, asm.Xor.Reg32(s.x, temp), asm.Add.Reg32(s.y, s.z))
	}
	return p
}

// jhashFinal is __jhash_final.
func jhashFinal() (p asm.Instructions) {
	const a, b, c = wordA, wordB, wordC
	for _, s := range []struct {
		x, y asm.Register
		bits int32
	}{{c, b, 14}, {a, c, 11}, {b, a, 25}, {c, b, 16}, {a, c, 4}, {b, a, 14}, {c, b, 24}} {
		// x ^= y; x -= rol(y, bits)
		p = append(p, asm.Xor.Reg32(s.x, s.y))
		p = append(p, turned(s.y, s.bits)...)
		p = append(p, asm.Sub.Reg32(s.x, temp))
	}
	return p
}

// turned leaves a register of 32 bits, turned left, in temp.
func turned(r asm.Register, bits int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg32(temp, r),
		asm.LSh.Imm32(temp, bits),
		asm.Mov.Reg32(asm.R1, r),
		asm.RSh.Imm32(asm.R1, 32-bits),
		asm.Or.Reg32(temp, asm.R1),
	}
}
