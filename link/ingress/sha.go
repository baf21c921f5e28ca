package ingress

import "github.com/cilium/ebpf/asm"

// The compression functions of SHA-1 and SHA-256 (FIPS 180-4 sections 6.1.2 and 6.2.2)
// as subprograms. They are straight-line code, which the verifier walks once for each
// call. All words are in the machine's own order.
const (
	// shaWords are the words of a block.
	shaWords  = 16
	sha1State = 5
)

// Where a subprogram keeps things, from its own frame pointer.
const (
	shaBlock = -4 * shaWords
	shaMore  = shaBlock - 8
)

// rotate32 turns the lower half of a register left, by way of another one.
func rotate32(r, by asm.Register, n int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg32(by, r),
		asm.LSh.Imm32(r, n),
		asm.RSh.Imm32(by, 32-n),
		asm.Or.Reg32(r, by),
	}
}

// sha1Compress is a subprogram: R1 points to five words of state and R2 to the sixteen
// of a block, both of which it changes.
func sha1Compress(name string) (p asm.Instructions) {
	const (
		t, u   = asm.R0, asm.R6
		hashed = asm.R7
		words  = asm.R8
	)
	add := func(more ...asm.Instruction) { p = append(p, more...) }
	add(asm.Mov.Reg(hashed, asm.R1).WithSymbol(name), asm.Mov.Reg(words, asm.R2))
	v := [sha1State]asm.Register{asm.R1, asm.R2, asm.R3, asm.R4, asm.R5}
	for i, r := range v {
		add(asm.LoadMem(r, hashed, int16(4*i), asm.Word))
	}
	at := func(i int) int16 { return int16(4 * (i % shaWords)) }
	for i := range 80 {
		a, b, c, d, e := v[0], v[1], v[2], v[3], v[4]
		add(asm.LoadMem(t, words, at(i), asm.Word))
		if i >= shaWords {
			for _, back := range []int{3, 8, 14} {
				add(asm.LoadMem(u, words, at(i-back), asm.Word), asm.Xor.Reg32(t, u))
			}
			add(rotate32(t, u, 1)...)
			add(asm.StoreMem(words, at(i), t, asm.Word))
		}
		add(asm.Add.Reg32(e, t))
		var k uint32
		switch i / 20 {
		case 0: // choose
			k = 0x5a827999
			add(asm.Mov.Reg32(t, c), asm.Xor.Reg32(t, d), asm.And.Reg32(t, b), asm.Xor.Reg32(t, d))
		case 2: // majority
			k = 0x8f1bbcdc
			add(asm.Mov.Reg32(t, b), asm.Xor.Reg32(t, c), asm.Mov.Reg32(u, c), asm.Xor.Reg32(u, d), asm.And.Reg32(t, u), asm.Xor.Reg32(t, c))
		default: // parity
			k = []uint32{1: 0x6ed9eba1, 3: 0xca62c1d6}[i/20]
			add(asm.Mov.Reg32(t, b), asm.Xor.Reg32(t, c), asm.Xor.Reg32(t, d))
		}
		add(asm.Add.Imm32(e, int32(k)), asm.Add.Reg32(e, t), asm.Mov.Reg32(t, a))
		add(rotate32(t, u, 5)...)
		add(asm.Add.Reg32(e, t))
		add(rotate32(b, u, 30)...)
		v = [sha1State]asm.Register{e, a, b, c, d}
	}
	for i, r := range v {
		add(asm.LoadMem(t, hashed, int16(4*i), asm.Word), asm.Add.Reg32(t, r), asm.StoreMem(hashed, int16(4*i), t, asm.Word))
	}
	add(asm.Mov.Imm(asm.R0, 0), asm.Return())
	return p
}

// sha256First is a subprogram: R1 points to the sixteen words of a message's only block,
// and R0 is the first word of its hash.
func sha256First(name string) (p asm.Instructions) {
	const t, u = asm.R0, asm.R9
	initial, constants := sha256Constants()
	add := func(more ...asm.Instruction) { p = append(p, more...) }
	for i := range int16(shaWords) {
		load := asm.LoadMem(asm.R0, asm.R1, 4*i, asm.Word)
		if i == 0 {
			load = load.WithSymbol(name)
		}
		add(load, asm.StoreMem(asm.R10, shaBlock+4*i, asm.R0, asm.Word))
	}
	v := [8]asm.Register{asm.R1, asm.R2, asm.R3, asm.R4, asm.R5, asm.R6, asm.R7, asm.R8}
	for i, r := range v {
		add(asm.Mov.Imm32(r, int32(initial[i])))
	}
	at := func(i int) int16 { return shaBlock + int16(4*(i%shaWords)) }
	for i := range 64 {
		a, b, c, d, e, f, g, h := v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]
		if i >= shaWords {
			// The schedule's next word is summed up in h, which waits meanwhile.
			add(asm.StoreMem(asm.R10, shaMore, h, asm.Word))
			add(asm.LoadMem(h, asm.R10, at(i), asm.Word), asm.LoadMem(t, asm.R10, at(i-7), asm.Word), asm.Add.Reg32(h, t))
			add(smallSigma(t, u, at(i-15), 7, 18, 3)...)
			add(asm.Add.Reg32(h, t))
			add(smallSigma(t, u, at(i-2), 17, 19, 10)...)
			add(asm.Add.Reg32(h, t), asm.StoreMem(asm.R10, at(i), h, asm.Word), asm.LoadMem(t, asm.R10, shaMore, asm.Word))
		} else {
			add(asm.LoadMem(t, asm.R10, at(i), asm.Word))
		}
		add(asm.Add.Reg32(h, t))
		add(asm.Add.Imm32(h, int32(constants[i])))
		add(threeTurns(t, u, e, 6, 11, 25)...)
		add(asm.Add.Reg32(h, t))
		add(asm.Mov.Reg32(t, f), asm.Xor.Reg32(t, g), asm.And.Reg32(t, e), asm.Xor.Reg32(t, g), asm.Add.Reg32(h, t))
		add(asm.Add.Reg32(d, h))
		add(threeTurns(t, u, a, 2, 13, 22)...)
		add(asm.Add.Reg32(h, t))
		add(asm.Mov.Reg32(t, a), asm.Xor.Reg32(t, b), asm.Mov.Reg32(u, b), asm.Xor.Reg32(u, c), asm.And.Reg32(t, u), asm.Xor.Reg32(t, b), asm.Add.Reg32(h, t))
		v = [8]asm.Register{h, a, b, c, d, e, f, g}
	}
	add(asm.Mov.Reg32(asm.R0, v[0]), asm.Add.Imm32(asm.R0, int32(initial[0])), asm.Return())
	return p
}

// threeTurns leaves in t the exclusive or of r turned right by x, y and z, which grow.
func threeTurns(t, u, r asm.Register, x, y, z int32) asm.Instructions {
	p := asm.Instructions{asm.Mov.Reg32(t, r)}
	for _, n := range []int32{z - y, y - x} {
		p = append(p, rotate32(t, u, 32-n)...)
		p = append(p, asm.Xor.Reg32(t, r))
	}
	return append(p, rotate32(t, u, 32-x)...)
}

// sha1Initial is the state that a hash begins from (section 5.3.1).
func sha1Initial() [sha1State]uint32 {
	return [sha1State]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}
}

// smallSigma leaves in t the exclusive or of a word of the own frame turned right by x and
// y, x < y, and shifted by z.
func smallSigma(t, u asm.Register, at int16, x, y, z int32) asm.Instructions {
	word := asm.LoadMem(u, asm.R10, at, asm.Word)
	p := asm.Instructions{asm.LoadMem(t, asm.R10, at, asm.Word)}
	p = append(p, rotate32(t, u, 32-(y-x))...)
	p = append(p, word, asm.Xor.Reg32(t, u))
	p = append(p, rotate32(t, u, 32-x)...)
	return append(p, word, asm.RSh.Imm32(u, z), asm.Xor.Reg32(t, u))
}

// sha256Constants are those of sections 5.3.3 and 4.2.2.
func sha256Constants() (initial [8]uint32, constants [64]uint32) {
	return [8]uint32{
			0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
		}, [64]uint32{
			0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
			0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
			0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
			0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
			0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
			0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
			0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
			0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
		}
}
