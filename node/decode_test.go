package node

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"onevoice/link"
)

// change is a mutation of a good packet and the verdict that it earns.
type change struct {
	name   string
	packet func() []byte
	want   Verdict
}

func good() []byte { return tcp(asker, 40000, 22, flagSYN, nil) }

// edited is a good SYN with a change to its IP packet, checksums made right
// again.
func edited(edit func(b []byte) []byte) func() []byte {
	return func() []byte {
		b := edit(good())
		if len(b) >= 20 {
			fixIP(b)
		}
		return b
	}
}

func options(o ...byte) func() []byte {
	return func() []byte {
		for len(o)%4 != 0 {
			o = append(o, 0)
		}
		b := good()
		b = append(append(append([]byte{}, b[:20]...), o...), b[20:]...)
		b[0] = 0x40 | byte(5+len(o)/4)
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		fixIP(b)
		return b
	}
}

func segment(edit func(s []byte)) func() []byte {
	return func() []byte {
		b := good()
		edit(b[20:])
		fixTransport(b)
		return b
	}
}

func tcpOptionBytes(o ...byte) func() []byte {
	return func() []byte {
		for len(o)%4 != 0 {
			o = append(o, 0)
		}
		s := good()[20:]
		s[12] = byte(5+len(o)/4) << 4
		b := ip(asker, protoTCP, append(append([]byte{}, s...), o...))
		fixTransport(b)
		return b
	}
}

func from(addr string) func() []byte {
	return func() []byte { return tcp(netip.MustParseAddr(addr), 40000, 22, flagSYN, nil) }
}

func badPackets() []change {
	return []change{
		{"nothing behind the Ethernet header", func() []byte { return nil }, Runt},
		{"19 bytes", func() []byte { return good()[:19] }, Runt},
		{"version 6 under IPv4's type", edited(func(b []byte) []byte { b[0] = 0x65; return b }), BadIPVersion},
		{"header of 16 bytes", edited(func(b []byte) []byte { b[0] = 0x44; return b }), BadIPHeaderLength},
		{"header beyond the packet", edited(func(b []byte) []byte { b[0] = 0x4f; return b }), BadIPHeaderLength},
		{"total length below the header", edited(func(b []byte) []byte { b[3] = 19; return b }), BadIPLength},
		{"total length beyond the frame", edited(func(b []byte) []byte { b[3] = 41; return b }), BadIPLength},
		{"total length 0", edited(func(b []byte) []byte { b[2], b[3] = 0, 0; return b }), BadIPLength},
		{"IP checksum", func() []byte { b := good(); b[10] ^= 1; return b }, BadIPChecksum},
		{"option that overruns the header", options(7, 200), BadIPOptions},
		{"option of length 1", options(7, 1), BadIPOptions},
		{"option cut off at its type", options(1, 1, 1, 7), BadIPOptions},
		{"loose source route", options(131, 7, 4, 10, 0, 0, 1), SourceRoute},
		{"strict source route", options(137, 7, 4, 10, 0, 0, 1), SourceRoute},
		{"from 0.0.0.0", from("0.0.0.0"), MartianSource},
		{"from loopback", from("127.0.0.1"), MartianSource},
		{"from a group", from("224.0.0.1"), MartianSource},
		{"from the limited broadcast", from("255.255.255.255"), MartianSource},
		{"land: from the VIP", from("10.77.0.2"), MartianSource},
		{"first fragment", edited(func(b []byte) []byte { b[6] = 0x20; return b }), Fragment},
		{"later fragment", edited(func(b []byte) []byte { b[7] = 1; return b }), Fragment},
		{"TCP of 19 bytes", func() []byte { return ip(asker, protoTCP, good()[20:39]) }, Runt},
		{"TCP offset of 16", segment(func(s []byte) { s[12] = 0x40 }), BadTCPOffset},
		{"TCP offset beyond the segment", segment(func(s []byte) { s[12] = 0x60 }), BadTCPOffset},
		{"TCP option that overruns", tcpOptionBytes(2, 40, 5, 0xb4), BadTCPOptions},
		{"TCP option of length 0", tcpOptionBytes(2, 0), BadTCPOptions},
		{"TCP option cut off at its kind", tcpOptionBytes(1, 1, 1, 8), BadTCPOptions},
		{"source port 0", segment(func(s []byte) { s[0], s[1] = 0, 0 }), BadTCPPort},
		{"destination port 0", segment(func(s []byte) { s[2], s[3] = 0, 0 }), BadTCPPort},
		{"SYN and FIN", segment(func(s []byte) { s[13] = flagSYN | flagFIN }), BadTCPFlags},
		{"SYN and RST", segment(func(s []byte) { s[13] = flagSYN | flagRST }), BadTCPFlags},
		{"no flags", segment(func(s []byte) { s[13] = 0 }), BadTCPFlags},
		{"xmas", segment(func(s []byte) { s[13] = flagFIN | flagPSH | flagURG }), BadTCPFlags},
		{"TCP checksum", func() []byte { b := good(); b[36] ^= 1; return b }, BadTCPChecksum},
		{"UDP of 7 bytes", func() []byte { return ip(asker, protoUDP, make([]byte, 7)) }, Runt},
		{"UDP length below 8", func() []byte { return ip(asker, protoUDP, []byte{1, 1, 2, 2, 0, 7, 0, 0}) }, BadUDP},
		{"UDP length beyond the packet", func() []byte { return ip(asker, protoUDP, []byte{1, 1, 2, 2, 0, 9, 0, 0}) }, BadUDP},
		{"UDP checksum", func() []byte { b := udp(asker, 1, 53, []byte("x")); b[28] ^= 1; return b }, BadUDP},
		{"ICMP of 7 bytes", func() []byte { return ip(asker, protoICMP, make([]byte, 7)) }, Runt},
		{"ICMP checksum", func() []byte { b := icmp(asker, icmpEcho, nil); b[27] ^= 1; return b }, BadICMP},
	}
}

func TestDecodeNamesWhatIsWrong(t *testing.T) {
	var d Decoded
	for _, c := range badPackets() {
		if got := d.Decode(frame(etherTypeIPv4, c.packet())); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	for _, c := range []struct {
		name  string
		frame *link.Frame
		want  Verdict
	}{
		{"13 bytes", &link.Frame{Data: make([]byte, 13)}, Runt},
		{"a frame of LLDP", frame(0x88cc, make([]byte, 40)), OtherEtherType},
		{"a tag that the kernel took out", &link.Frame{Data: frame(etherTypeIPv4, good()).Data, Tagged: true}, VLANTag},
		{"a tag in the frame", frame(0x8100, append([]byte{0, 5, 8, 0}, good()...)), VLANTag},
		{"a service tag in the frame", frame(0x88a8, append([]byte{0, 5, 8, 0}, good()...)), VLANTag},
	} {
		if got := d.Decode(c.frame); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestDecodeTakesWhatIsRight(t *testing.T) {
	var d Decoded
	for name, packet := range map[string][]byte{
		"SYN":                       good(),
		"SYN with options":          tcpOptionBytes(2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7)(),
		"router alert":              options(148, 4, 0, 0)(),
		"padding behind the packet": append(good(), make([]byte, 6)...),
		"UDP without checksum":      ip(asker, protoUDP, []byte{1, 1, 0, 53, 0, 8, 0, 0}),
		"UDP":                       udp(asker, 40000, 53, []byte("question")),
		"echo request":              icmp(asker, icmpEcho, []byte("abc")),
		"another protocol (VRRP)":   ip(asker, 112, make([]byte, 20)),
		"SYN with ECN (RFC 3168)":   segment(func(s []byte) { s[13] = flagSYN | 0xc0 })(),
		"reset without ACK":         segment(func(s []byte) { s[13] = flagRST })(),
		"timestamps, unaligned end": tcpOptionBytes(8, 10, 0, 0, 0, 1, 0, 0, 0, 0)(),
	} {
		if got := d.Decode(frame(etherTypeIPv4, packet)); got != Undecided {
			t.Errorf("%s: %v", name, got)
		}
	}
	if d.Decode(frame(etherTypeIPv4, append(good(), 1, 2, 3))); len(d.IP) != 40 || len(d.Segment) != 20 {
		t.Errorf("padding counts as packet: %d and %d bytes", len(d.IP), len(d.Segment))
	}
	if f := d.Flow; f.Src != asker || f.Dst != vipAddr || f.SrcPort != 40000 || f.DstPort != 22 || f.Proto != protoTCP {
		t.Errorf("flow %+v", f)
	}
}

// A partial checksum is believed only where the kernel's header fits the frame.
func TestDecodeJudgesOffloads(t *testing.T) {
	var d Decoded
	wrong := good()
	wrong[36] ^= 1
	for _, c := range []struct {
		name    string
		offload link.Offload
		want    Verdict
	}{
		{"none", link.Offload{}, BadTCPChecksum},
		{"partial", link.Offload{Partial: true, ChecksumStart: 34, ChecksumOffset: 16}, Undecided},
		{"validated", link.Offload{Validated: true}, Undecided},
		{"partial, for another place", link.Offload{Partial: true, ChecksumStart: 38, ChecksumOffset: 16}, BadOffload},
		{"partial, for another place within", link.Offload{Partial: true, ChecksumStart: 30, ChecksumOffset: 16}, BadOffload},
		{"partial, beyond the packet", link.Offload{Partial: true, ChecksumStart: 34, ChecksumOffset: 19}, BadOffload},
	} {
		f := frame(etherTypeIPv4, wrong)
		f.Offload = c.offload
		if got := d.Decode(f); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestQuotedFlowIsTheClients(t *testing.T) {
	var d Decoded
	m := icmp(netip.MustParseAddr("10.77.0.1"), icmpUnreachable, quote(asker, 22, 40000))
	if v := d.Decode(frame(etherTypeIPv4, m)); v != Undecided {
		t.Fatal(v)
	}
	f, ok := d.quotedFlow()
	if !ok || f.Src != asker || f.SrcPort != 40000 || f.Dst != vipAddr || f.DstPort != 22 {
		t.Errorf("quoted %+v, %v", f, ok)
	}
	for name, q := range map[string][]byte{
		"nothing":            nil,
		"header only":        quote(asker, 22, 40000)[:20],
		"two bytes of ports": quote(asker, 22, 40000)[:22],
		"another version":    append([]byte{0x65}, quote(asker, 22, 40000)[1:]...),
		"header of 16 bytes": append([]byte{0x44}, quote(asker, 22, 40000)[1:]...),
		"header too long":    append([]byte{0x4f}, quote(asker, 22, 40000)[1:]...),
		"a later fragment":   slices.Concat(quote(asker, 22, 40000)[:6], []byte{0, 1}, quote(asker, 22, 40000)[8:]),
	} {
		d.Decode(frame(etherTypeIPv4, icmp(asker, icmpUnreachable, q)))
		if f, ok := d.quotedFlow(); ok {
			t.Errorf("%s: quotes %+v", name, f)
		}
	}
}
