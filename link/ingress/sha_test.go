package ingress

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// shaProgram is a program that runs a subprogram on the words of a shared map: five of
// state, and sixteen of a block, at 32.
func shaProgram(t testing.TB, body asm.Instructions, sub asm.Instructions) (*ebpf.Program, []byte) {
	t.Helper()
	root(t)
	m, memory, err := shared("sha", 128, 3)
	if err != nil {
		t.Fatal(err)
	}
	code := asm.Instructions{asm.LoadMapValue(asm.R1, m.FD(), 0), asm.Mov.Reg(asm.R2, asm.R1), asm.Add.Imm(asm.R2, 32)}
	code = append(code, body...)
	code = append(code, asm.Return())
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "sha", Type: ebpf.SchedCLS, Instructions: append(code, sub...)})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { p.Close(); m.Close() })
	return p, memory
}

func sha1Program(t testing.TB) (*ebpf.Program, []byte) {
	return shaProgram(t, asm.Instructions{asm.Call.Label("sha1"), asm.Mov.Imm(asm.R0, 0)}, sha1Compress("sha1"))
}

func sha256Program(t testing.TB) (*ebpf.Program, []byte) {
	return shaProgram(t, asm.Instructions{asm.Mov.Reg(asm.R1, asm.R2), asm.Call.Label("sha256")}, sha256First("sha256"))
}

// blocks are bytes of a message as the programs want them, padded to whole blocks.
func blocks(message []byte) (out []byte) {
	padded := append(append([]byte{}, message...), 0x80)
	for len(padded)%64 != 56 {
		padded = append(padded, 0)
	}
	padded = binary.BigEndian.AppendUint64(padded, uint64(8*len(message)))
	for ; len(padded) > 0; padded = padded[4:] {
		out = binary.NativeEndian.AppendUint32(out, binary.BigEndian.Uint32(padded))
	}
	return out
}

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

var frame60 = make([]byte, 60)

func TestSHA1(t *testing.T) {
	p, memory := sha1Program(t)
	for n := range 130 {
		message := random(n)
		for i, h := range sha1Initial() {
			binary.NativeEndian.PutUint32(memory[4*i:], h)
		}
		for w := blocks(message); len(w) > 0; w = w[64:] {
			copy(memory[32:], w[:64])
			if _, err := p.Run(&ebpf.RunOptions{Data: frame60}); err != nil {
				t.Fatal(err)
			}
		}
		want := sha1.Sum(message)
		for i := range sha1State {
			if got := binary.NativeEndian.Uint32(memory[4*i:]); got != binary.BigEndian.Uint32(want[4*i:]) {
				t.Fatalf("%d bytes: word %d is %x, want %x", n, i, got, want)
			}
		}
	}
}

func TestSHA256(t *testing.T) {
	p, memory := sha256Program(t)
	for n := range 56 {
		message := random(n)
		copy(memory[32:], blocks(message))
		got, err := p.Run(&ebpf.RunOptions{Data: frame60})
		if err != nil {
			t.Fatal(err)
		}
		if want := sha256.Sum256(message); got != binary.BigEndian.Uint32(want[:]) {
			t.Fatalf("%d bytes: %x, want %x", n, got, want)
		}
	}
}

func BenchmarkSHA(b *testing.B) {
	p1, _ := sha1Program(b)
	p2, _ := sha256Program(b)
	for _, p := range []*ebpf.Program{p1, p2} {
		_, d, err := benchmarkRun(p, 200000)
		if err != nil {
			b.Fatal(err)
		}
		b.Log(d)
	}
}

func benchmarkRun(p *ebpf.Program, n int) (uint32, string, error) {
	r, d, err := p.Benchmark(frame60, n, nil)
	return r, d.String(), err
}
