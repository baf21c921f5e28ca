package node

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"onevoice/internal/flowstate"
	"onevoice/link"
	"onevoice/responder"
)

// seeds are frames of every kind, good and bad.
func seeds(f *testing.F) {
	add := func(l *link.Frame) {
		f.Add(l.Data, l.Tagged, l.Offload.Partial, l.Offload.Validated, l.Offload.ChecksumStart)
	}
	for _, c := range badPackets() {
		add(frame(etherTypeIPv4, c.packet()))
	}
	add(frame(etherTypeIPv4, good()))
	add(frame(etherTypeIPv4, tcp(asker, 40000, 22, flagACK, []byte("data"))))
	add(frame(etherTypeIPv4, tcp(asker, 40000, 80, flagACK, []byte("data"))))
	add(frame(etherTypeIPv4, udp(asker, 40000, 53, []byte("question"))))
	add(frame(etherTypeIPv4, icmp(asker, icmpEcho, []byte("ping"))))
	add(frame(etherTypeIPv4, icmp(asker, icmpUnreachable, quote(asker, 22, 40000))))
	add(arpRequest(asker, vipAddr))
	add(arpRequest(vipAddr, vipAddr))
	add(frame(0x8100, good()))
}

func fuzzFrame(data []byte, tagged, partial, validated bool, start uint16) *link.Frame {
	return &link.Frame{Data: data, Tagged: tagged, Offload: link.Offload{Partial: partial, Validated: validated, ChecksumStart: start, ChecksumOffset: 16}}
}

// FuzzDecode: whatever comes, decoding ends without a panic, and what it takes
// for good is so by an independent look at the bytes.
func FuzzDecode(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte, tagged, partial, validated bool, start uint16) {
		var d Decoded
		fr := fuzzFrame(data, tagged, partial, validated, start)
		if d.Decode(fr) != Undecided || d.EtherType != etherTypeIPv4 {
			return
		}
		ip := data[14:]
		header := int(ip[0]&0xf) * 4
		total := int(binary.BigEndian.Uint16(ip[2:]))
		switch {
		case tagged:
			t.Error("a tagged frame was taken")
		case ip[0]>>4 != 4 || header < 20 || total < header || total > len(ip):
			t.Error("lengths that cannot be were taken")
		case slowSum(ip[:header]) != 0xffff:
			t.Error("a wrong header checksum was taken")
		case len(d.IP) != total || len(d.Segment) > total-header:
			t.Errorf("packet of %d bytes with %d of payload, total length %d, header %d", len(d.IP), len(d.Segment), total, header)
		case ip[9] == protoTCP && !partial && !validated && !rightTCP(ip[:total], header):
			t.Error("a wrong TCP checksum was taken")
		case d.Flow.Src != netip.AddrFrom4([4]byte(ip[12:16])) || d.Flow.Dst != netip.AddrFrom4([4]byte(ip[16:20])):
			t.Error("the flow has other addresses")
		}
	})
}

func rightTCP(ip []byte, header int) bool {
	s := ip[header:]
	pseudo := append(append([]byte{}, ip[12:20]...), 0, protoTCP, byte(len(s)>>8), byte(len(s)))
	return slowSum(append(pseudo, s...)) == 0xffff
}

// FuzzHandleFrame: whatever comes, there is one counted verdict, and no reply
// or delivery that the frame did not earn.
func FuzzHandleFrame(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte, tagged, partial, validated bool, start uint16) {
		n, flows := newNode(t)
		hold(t, n, flows, 40000, flowstate.Open)
		fr := fuzzFrame(append([]byte{}, data...), tagged, partial, validated, start)
		before := n.Counts()
		h := n.Handle(0, fr)
		if counts := n.Counts(); h.Verdict == Undecided || h.Verdict >= VerdictCount || counts[h.Verdict] != before[h.Verdict]+1 {
			t.Fatalf("verdict %v is not counted once", h.Verdict)
		}
		if string(fr.Data) != string(data) {
			t.Error("the frame was changed")
		}
		delivers := h.Verdict >= DeliverSYN && h.Verdict <= DeliverError
		if delivers != (h.Packet != nil) {
			t.Errorf("%v with a packet of %d bytes", h.Verdict, len(h.Packet))
		}
		if h.Reply != nil {
			checkReply(t, data, &h)
		}
		// The same frame with nothing owned is never answered, and lets in only
		// what is held.
		own(t, n, Bitmap{}, Forever)
		if h := n.Handle(0, fr); h.Reply != nil || h.Packet != nil && h.Verdict != DeliverHeld && h.Verdict != DeliverError {
			t.Errorf("%v for a node that owns nothing", h.Verdict)
		}
	})
}

func checkReply(t *testing.T, asked []byte, h *Handled) {
	r := h.Reply
	if h.Verdict != AnsweredARP && h.Verdict != AnsweredEcho && h.Verdict != RefusedSYN && h.Verdict != ClosedPort && h.Verdict != StrayAnswered {
		t.Errorf("a reply with verdict %v", h.Verdict)
	}
	if responder.MAC(r[6:12]) != ownMAC {
		t.Errorf("a reply from %x", r[6:12])
	}
	if responder.MAC(r[:6]).IsGroup() {
		t.Errorf("a reply to the group %x", r[:6])
	}
	if len(r) > max(len(asked), 60) {
		t.Errorf("a reply of %d bytes to %d", len(r), len(asked))
	}
	if binary.BigEndian.Uint16(r[12:]) != etherTypeIPv4 {
		return
	}
	if got := netip.AddrFrom4([4]byte(r[26:30])); got != vipAddr {
		t.Errorf("a reply from the address %v", got)
	}
	var d Decoded
	if v := d.Decode(&link.Frame{Data: r}); v != Undecided {
		t.Errorf("our own reply is %v", v)
	}
}
