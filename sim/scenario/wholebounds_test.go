package scenario

import (
	"bytes"
	"net/netip"
	"testing"

	"onevoice/link"
	"onevoice/responder"
	"onevoice/sim"
)

// The kernel keeps maxInbox frames for a worker that takes none.
func TestWholeInboxBound(t *testing.T) {
	d := &device{}
	for i := range maxInbox + 7 {
		if took := d.put(make([]byte, sim.MinFrame), 1); took != (i < maxInbox) {
			t.Fatalf("frame %d: %v", i, took)
		}
	}
	frames := make([]link.Frame, link.MaxBatch)
	if n, err := d.Receive(frames); n != link.MaxBatch || err != nil {
		t.Errorf("%d frames, %v", n, err)
	}
	if s := d.Stats(); s.KernelDropped != 7 || s.ReceivedFrames != link.MaxBatch {
		t.Errorf("%+v", s)
	}
}

func TestWholeUsersBound(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("more than MaxUsers are let in")
		}
	}()
	c := &Cluster{o: Options{Users: MaxUsers + 1}}
	c.addUsers()
}

// A super-segment becomes segments of its size, with their own numbers, lengths,
// checksums and ends.
func TestWireFrames(t *testing.T) {
	s := sim.Segment{
		From: netip.MustParseAddrPort("10.77.0.2:22"), To: netip.MustParseAddrPort("10.77.1.1:40000"),
		Flags: sim.ACK | sim.FIN | 0x08, Seq: 1<<32 - 1000, Ack: 77, Window: 500, Data: make([]byte, 2500),
	}
	for i := range s.Data {
		s.Data[i] = byte(i * 7)
	}
	whole := s.Frame()
	header := len(whole) - len(s.Data)
	v := link.Vector{Pieces: [][]byte{whole[:20], whole[20:]}, Offload: link.Offload{Partial: true, Segmentation: link.SegmentationTCPv4,
		HeaderBytes: uint16(header), SegmentBytes: 1000, ChecksumStart: 34, ChecksumOffset: 16}}
	var data []byte
	frames := wireFrames(&v)
	for i, f := range frames {
		p, ok := sim.ParseSegment(f)
		if !ok {
			t.Fatalf("segment %d is broken: %x", i, f[:header])
		}
		last := i == len(frames)-1
		if p.Seq != s.Seq+uint32(i*1000) || p.Has(sim.FIN) != last || p.Flags&0x08 != 0 != last || p.Ack != s.Ack {
			t.Errorf("segment %d: %+v", i, p)
		}
		data = append(data, p.Data...)
	}
	if len(frames) != 3 || !bytes.Equal(data, s.Data) {
		t.Errorf("%d segments with %d bytes", len(frames), len(data))
	}
	// A frame whose checksum is only begun is finished.
	s.Data = s.Data[:100]
	begun := s.Frame()
	sum := responder.PseudoSum([4]byte(begun[26:]), [4]byte(begun[30:]), 6, len(begun)-34)
	begun[50], begun[51] = byte(sum>>8), byte(sum)
	if _, ok := sim.ParseSegment(begun); ok {
		t.Fatal("the checksum is right before")
	}
	out := wireFrames(&link.Vector{Pieces: [][]byte{begun}, Offload: link.Offload{Partial: true, ChecksumStart: 34, ChecksumOffset: 16}})
	if _, ok := sim.ParseSegment(out[0]); !ok || len(out) != 1 {
		t.Errorf("%d frames, right: %v", len(out), ok)
	}
}
