package sim

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
)

// trace is a running hash of what happened, and perhaps a text of it. The hash
// need only tell two runs apart, so it is a fast one and not a strong one.
type trace struct {
	sum uint64
	out io.Writer
	err error
}

func (t *trace) mix(word uint64) {
	t.sum = bits.RotateLeft64(t.sum^word, 29) * 0x9e3779b97f4a7c15
}

func (t *trace) mixBytes(b []byte) {
	t.mix(uint64(len(b)))
	for ; len(b) >= 8; b = b[8:] {
		t.mix(binary.LittleEndian.Uint64(b))
	}
	var rest [8]byte
	copy(rest[:], b)
	t.mix(binary.LittleEndian.Uint64(rest[:]))
}

func (t *trace) mixText(s string) {
	t.mix(uint64(len(s)))
	for i := range len(s) {
		t.mix(uint64(s[i]))
	}
}

func (t *trace) line(format string, args ...any) {
	if _, err := fmt.Fprintf(t.out, format, args...); err != nil && t.err == nil {
		t.err = err
	}
}
