package node

import (
	"testing"

	"onevoice/internal/flowstate"
)

// BenchmarkHandleOwn is the verdict on a segment of a flow that we hold: decode,
// checksums, hash, table, gate.
func BenchmarkHandleOwn(b *testing.B) {
	for name, size := range map[string]int{"ACK": 0, "1448 bytes": 1448} {
		b.Run(name, func(b *testing.B) {
			n, flows := newNode(b)
			const port = 2000
			hold(b, n, flows, port, flowstate.Open)
			f := frame(etherTypeIPv4, in(port, flagACK, clientISN+1, ownISN+1, make([]byte, size)))
			b.ReportAllocs()
			for b.Loop() {
				if v := n.Handle(0, f).Verdict; v != DeliverHeld {
					b.Fatal(v)
				}
			}
		})
	}
}
