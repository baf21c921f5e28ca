package node

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/link"
)

// openFlow shakes hands as a client of the bench, and returns the number that the
// answers' acknowledgments have to have.
func (b *bench) openFlow(port uint16) (ack uint32) {
	b.t.Helper()
	before := len(b.device.sent)
	b.put(b.now, frame(etherTypeIPv4, in(port, flagSYN, 1000, 0, nil)))
	b.settle(before + 1)
	synAck := b.device.sent[before]
	ack = binary.BigEndian.Uint32(synAck[14+20+4:]) + 1
	b.put(b.now, frame(etherTypeIPv4, in(port, flagACK, 1001, ack, nil)))
	b.turn()
	return ack
}

const streamSegment = 1000

// stream are so many segments of a flow, each right behind the one before.
func stream(port uint16, ack uint32, count int) (out []*link.Frame) {
	for i := range count {
		out = append(out, frame(etherTypeIPv4, in(port, flagACK, 1001+uint32(i*streamSegment), ack, make([]byte, streamSegment))))
	}
	return out
}

// After a turn with a stream of short frames the loop stands still for a moment, if
// nothing waits. It does not for requests, however many there are, nor with frames
// waiting.
func TestStreamsOfShortFramesGather(t *testing.T) {
	const joins = gatherAfter + 1 // segments, of which all but one are joined
	for name, c := range map[string]struct {
		flows, segments int
		more            bool
		want            []time.Duration
	}{
		"a stream":                 {1, joins, false, []time.Duration{gatherTime}},
		"a short stream":           {1, joins - 1, false, nil},
		"requests":                 {2 * joins, 1, false, nil},
		"a stream, and more of it": {1, joins, true, nil},
		"nothing":                  {0, 0, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			// The kernel takes what nobody accepts.
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			b := newBenchFor(t, netip.MustParseAddrPort(l.Addr().String()))
			var rests []time.Duration
			b.loop.rest = func(d time.Duration) { rests = append(rests, d) }
			acks := make([]uint32, c.flows)
			for i := range acks {
				acks[i] = b.openFlow(uint16(40000 + i))
			}
			wait := func() {
				t.Helper()
				if _, err := b.loop.wait(b.now); err != nil {
					t.Fatal(err)
				}
			}
			open := func() (n, up int) {
				for _, f := range b.stack.Flows(b.now, c.flows+1) {
					if up += int(f.BytesUp); f.State == "open" {
						n++
					}
				}
				return n, up
			}
			b.until("all flows are open", func() bool { n, _ := open(); return n == c.flows && b.stack.Idle() })
			wait()
			for i, ack := range acks {
				b.put(b.now, stream(uint16(40000+i), ack, c.segments)...)
			}
			b.turn()
			b.until("the backend has it all", func() bool {
				_, up := open()
				return up == c.flows*c.segments*streamSegment && b.stack.Idle()
			})
			if c.more {
				if _, err := unix.Write(b.device.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
					t.Fatal(err)
				}
			}
			rests = nil
			wait()
			if !slices.Equal(rests, c.want) {
				t.Errorf("it rested %v, want %v", rests, c.want)
			}
			// What was gathered counts once.
			wait()
			if len(rests) != len(c.want) {
				t.Errorf("then it rested %v", rests)
			}
		})
	}
}
