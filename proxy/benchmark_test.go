package proxy

import "testing"

// BenchmarkPump is one direction of a flow through streams that cost nothing: what
// the copying itself takes.
func BenchmarkPump(b *testing.B) {
	for name, size := range map[string]int{"request": 100, "64 KB": ScratchBytes} {
		b.Run(name, func(b *testing.B) {
			data := make([]byte, size)
			client, backend := &fake{room: plenty}, &fake{out: make([]byte, 0, size)}
			p, scratch := NewPump(client, backend), make([]byte, ScratchBytes)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				client.in, backend.out, backend.room = data, backend.out[:0], size
				if o := p.Step(scratch); o != Waiting || len(backend.out) != size {
					b.Fatalf("%v, %d bytes", o, len(backend.out))
				}
			}
		})
	}
}
