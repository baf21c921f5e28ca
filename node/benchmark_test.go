package node

import (
	"encoding/binary"
	"testing"

	"onevoice/internal/flowstate"
	"onevoice/link"
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

// BenchmarkFlood is a SYN of a flood, from the frame to the SYN-ACK, in batches of
// link.MaxBatch: once netstack answers with cookies, and when it answers each by itself.
func BenchmarkFlood(b *testing.B) {
	for _, by := range []string{"here", "netstack"} {
		b.Run(by, func(b *testing.B) {
			w := newBenchFor(b, echoBackend(b))
			if by == "netstack" {
				w.node.answers = nil
			}
			w.overflow(10_000)
			batch := make([]*link.Frame, link.MaxBatch)
			source := uint32(0)
			b.ReportAllocs()
			for n := 0; n < b.N; n += len(batch) {
				b.StopTimer()
				for i := range batch {
					packet := in(4000, flagSYN, clientISN, 0, nil)
					binary.BigEndian.PutUint32(packet[12:], 10<<24+source)
					source++
					fixIP(packet)
					fixTransport(packet)
					batch[i] = frame(etherTypeIPv4, packet)
				}
				w.device.sent = w.device.sent[:0]
				w.put(noStamp, batch...)
				b.StartTimer()
				w.turn()
				for len(w.device.sent) < len(batch) {
					w.turn()
				}
			}
		})
	}
}
