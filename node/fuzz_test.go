package node

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
	"onevoice/link"
	"onevoice/responder"
)

// seeds adds frames of every kind, good and bad.
func seeds(add func(*link.Frame)) {
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
	for _, s := range segments() {
		add(frame(etherTypeIPv4, s))
	}
	for _, c := range badPackets6() {
		add(frame6(c.packet))
	}
	add(frame6(tcp6(asker6, 40000, 22, flagSYN, nil)))
	add(frame6(chained(udp6(asker6, 40000, 53, nil), []uint8{nextHopByHop, nextDestination}, padding(), padding())))
	add(frame6(icmp6(asker6, icmp6PacketTooBig, out6(40000, flagACK, 1, 1))))
	add(frame6(ip6(asker6, vip6Addr, protoICMPv6, []byte{135, 0, 0, 0, 0, 0, 0, 0})))
}

func fuzzFrame(data []byte, tagged, partial, validated bool, start uint16) *link.Frame {
	return &link.Frame{Data: data, Tagged: tagged, Offload: link.Offload{Partial: partial, Validated: validated, ChecksumStart: start, ChecksumOffset: 16}}
}

// FuzzDecode: whatever comes, decoding ends without a panic, and what it takes
// for good is so by an independent look at the bytes.
func FuzzDecode(f *testing.F) {
	seeds(func(l *link.Frame) {
		f.Add(l.Data, l.Tagged, l.Offload.Partial, l.Offload.Validated, l.Offload.ChecksumStart)
	})
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

// Bits of a situation in FuzzHandleFrame.
const (
	fuzzOwned = 1 << iota
	fuzzGrace
	fuzzShared
	fuzzDraining
	fuzzOver
	fuzzCookies
	fuzzListed
)

// fuzzSituation is the situation that bits and a state say.
func fuzzSituation(bits, state uint8) situation {
	has := func(b uint8) bool { return bits&b != 0 }
	return situation{
		state: flowstate.State(state % 5), owned: has(fuzzOwned), grace: has(fuzzGrace), shared: has(fuzzShared),
		draining: has(fuzzDraining), over: has(fuzzOver), cookies: has(fuzzCookies),
	}
}

// FuzzHandleFrame: whatever comes, in whatever situation, there is one counted
// verdict, and no reply or delivery that the frame did not earn.
func FuzzHandleFrame(f *testing.F) {
	seeds(func(l *link.Frame) {
		for i, bits := range []uint8{fuzzOwned, fuzzOwned | fuzzGrace, fuzzOwned | fuzzShared | fuzzListed, fuzzOwned | fuzzShared | fuzzCookies,
			fuzzDraining, fuzzDraining | fuzzCookies, fuzzOwned | fuzzOver, 0} {
			f.Add(l.Data, l.Tagged, l.Offload.Partial, l.Offload.Validated, l.Offload.ChecksumStart, bits, uint8(i))
		}
	})
	f.Fuzz(func(t *testing.T, data []byte, tagged, partial, validated bool, start uint16, bits, state uint8) {
		s := fuzzSituation(bits, state)
		n, _ := s.make(t)
		if bits&fuzzListed != 0 {
			for b := range hashing.Buckets {
				n.SetFlowLists(0, uint8(b), true, nil)
			}
		}
		fr := fuzzFrame(append([]byte{}, data...), tagged, partial, validated, start)
		before := n.Counts()
		h := n.Handle(n.last, fr)
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
		checkRights(t, s, bits&fuzzListed != 0, &h)
	})
}

// checkRights looks at a verdict by the words of OWNERSHIP.md R12 to R14, not by
// the gate's code.
func checkRights(t *testing.T, s situation, listed bool, h *Handled) {
	mine := s.owned && !s.over
	alone := mine && !s.grace && (!s.shared || listed)
	switch {
	case h.Reply != nil && !mine:
		t.Errorf("%v: a reply without the right to one", h.Verdict)
	case h.Verdict == StrayAnswered && !alone:
		t.Errorf("a stray is reset that others may hold")
	case h.Verdict == DeliverStray && !(s.cookies && (mine && !s.grace || s.draining && !s.owned)):
		t.Errorf("a stray is let in that completes no cookie")
	case (h.Verdict == DeliverHeld || h.Verdict == DeliverError) && s.state == flowstate.None:
		t.Errorf("%v: nothing is held", h.Verdict)
	}
	if h.Packet == nil || h.Verdict == DeliverError {
		return
	}
	tcp := h.Packet[int(h.Packet[0]&0xf)*4:]
	flags, ack := tcp[13], binary.BigEndian.Uint32(tcp[8:])
	if flags&(flagSYN|flagACK) == flagSYN && !mine {
		t.Error("a SYN of another's bucket is let in")
	}
	if s.state == flowstate.HalfOpen && h.Verdict == DeliverHeld && flags&flagRST == 0 && !s.cookies {
		if isn := uint32(ownISN); ack != isn+1 {
			t.Errorf("a segment that acknowledges %d is let into a half-open flow", ack)
		}
	}
}

func checkReply(t *testing.T, asked []byte, h *Handled) {
	r := h.Reply
	if h.Verdict != DeliverSYN && h.Verdict != AnsweredARP && h.Verdict != AnsweredEcho && h.Verdict != RefusedSYN && h.Verdict != ClosedPort && h.Verdict != StrayAnswered && h.Verdict != PortUnreachable {
		t.Errorf("a reply with verdict %v", h.Verdict)
	}
	if responder.MAC(r[6:12]) != ownMAC {
		t.Errorf("a reply from %x", r[6:12])
	}
	if responder.MAC(r[:6]).IsGroup() {
		t.Errorf("a reply to the group %x", r[:6])
	}
	longest := max(len(asked), 60)
	if h.Verdict == PortUnreachable {
		longest = len(asked) + 20 + 8 // it quotes what was asked
	}
	if len(r) > longest {
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
