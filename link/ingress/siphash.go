package ingress

import "github.com/cilium/ebpf/asm"

// The state of SipHash, its constants, and a register for what is between
// (Aumasson and Bernstein, SipHash: a fast short-input PRF, section 2). It is
// straight-line code: the verifier walks it once, and no helper is called.
const (
	v0 = asm.R2
	v1 = asm.R3
	v2 = asm.R4
	v3 = asm.R5
	// block is the 8 bytes of the message that come next.
	block = asm.R1
	temp  = asm.R0
)

func sipConstants() [4]int64 {
	return [4]int64{0x736f6d6570736575, 0x646f72616e646f6d, 0x6c7967656e657261, 0x7465646279746573}
}

// sipHash24 is SipHash-2-4 of a message in pieces of 8 bytes, each of which loads
// itself into block and may use temp; the last one has the message's length in its
// highest byte. The key lies at state and is copied to the stack, where the decision
// looks at it again. The hash is left in R0.
func sipHash24(pieces []asm.Instructions) asm.Instructions {
	p := asm.Instructions{
		asm.LoadMem(v0, state, stateKey, asm.DWord),
		asm.LoadMem(v1, state, stateKey+8, asm.DWord),
		asm.StoreMem(asm.R10, usedKey, v0, asm.DWord),
		asm.StoreMem(asm.R10, usedKey+8, v1, asm.DWord),
		asm.Mov.Reg(v2, v0),
		asm.Mov.Reg(v3, v1),
	}
	for i, v := range []asm.Register{v0, v1, v2, v3} {
		p = append(p, asm.LoadImm(temp, sipConstants()[i], asm.DWord), asm.Xor.Reg(v, temp))
	}
	for _, piece := range pieces {
		p = append(p, piece...)
		p = append(p, asm.Xor.Reg(v3, block))
		p = append(p, rounds(2)...)
		p = append(p, asm.Xor.Reg(v0, block))
	}
	p = append(p, asm.Xor.Imm(v2, 0xff))
	p = append(p, rounds(4)...)
	return append(p,
		asm.Mov.Reg(asm.R0, v0),
		asm.Xor.Reg(asm.R0, v1),
		asm.Xor.Reg(asm.R0, v2),
		asm.Xor.Reg(asm.R0, v3),
	)
}

// rounds is SipRound n times.
func rounds(n int) (p asm.Instructions) {
	for range n {
		p = append(p, halfRound(v0, v1, 13, v2, v3, 16)...)
		p = append(p, halfRound(v2, v1, 17, v0, v3, 21)...)
	}
	return p
}

// halfRound adds, rotates and mixes two pairs, and turns the first one's sum.
func halfRound(a, b asm.Register, left int32, c, d asm.Register, right int32) asm.Instructions {
	p := asm.Instructions{asm.Add.Reg(a, b)}
	p = append(p, rotate(b, left)...)
	p = append(p, asm.Xor.Reg(b, a))
	p = append(p, rotate(a, 32)...)
	p = append(p, asm.Add.Reg(c, d))
	p = append(p, rotate(d, right)...)
	return append(p, asm.Xor.Reg(d, c))
}

// rotate turns a register left.
func rotate(r asm.Register, bits int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(temp, r),
		asm.LSh.Imm(r, bits),
		asm.RSh.Imm(temp, 64-bits),
		asm.Or.Reg(r, temp),
	}
}
