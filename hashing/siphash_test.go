package hashing

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/dchest/siphash"
	"pgregory.net/rapid"
)

// The 64 vectors of the SipHash authors' reference implementation, and among
// them (15 bytes) the one that Appendix A of the paper works through, hold for
// the library and for the slow implementation.
func TestSipHashIsTheAuthors(t *testing.T) {
	key := [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	vectors := referenceVectors(t)
	if vectors[15] != 0xa129ca6149be45e5 {
		t.Fatalf("the file says %#x where the paper says 0xa129ca6149be45e5", vectors[15])
	}
	h := NewHasher(key)
	var message []byte
	for n, want := range vectors {
		if got := siphash.Hash(h.k0, h.k1, message); got != want {
			t.Errorf("%d bytes: the library says %#x, want %#x", n, got, want)
		}
		if got := slowSipHash(key, message); got != want {
			t.Errorf("%d bytes: the slow one says %#x, want %#x", n, got, want)
		}
		message = append(message, byte(n))
	}
}

func referenceVectors(t *testing.T) []uint64 {
	text, err := os.ReadFile("testdata/siphash.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out []uint64
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		b, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil || len(b) != 8 {
			t.Fatalf("%q is not 8 bytes", line)
		}
		out = append(out, binary.LittleEndian.Uint64(b))
	}
	if len(out) != 64 {
		t.Fatalf("%d vectors, want 64", len(out))
	}
	return out
}

func TestSipHashIsTheSlowOnes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := drawKey(t)
		message := rapid.SliceOfN(rapid.Byte(), 0, 24).Draw(t, "message")
		h := NewHasher(key)
		if got, want := siphash.Hash(h.k0, h.k1, message), slowSipHash(key, message); got != want {
			t.Fatalf("%#x, want %#x", got, want)
		}
	})
}

func drawKey(t *rapid.T) Key {
	return Key(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "key"))
}
