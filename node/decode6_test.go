package node

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

type badPacket6 struct {
	name   string
	packet []byte
	want   Verdict
}

// badPackets6 are IPv6 packets that no client sends, each with the reason.
func badPackets6() []badPacket6 {
	syn := func() []byte { return tcp6(asker6, 40000, 22, flagSYN, nil) }
	change := func(b []byte, at int, v byte) []byte { b[at] = v; return b }
	from := func(a string) []byte { return tcp6(netip.MustParseAddr(a), 40000, 22, flagSYN, nil) }
	long := func(n int) []byte { b := syn(); binary.BigEndian.PutUint16(b[4:], uint16(n)); return b }
	hop, dest, routing, fragment := uint8(nextHopByHop), uint8(nextDestination), uint8(nextRouting), uint8(nextFragment)
	route := func(kind, left byte) []byte { return []byte{0, 0, kind, left, 0, 0, 0, 0} }
	option := func(kind byte) []byte { return []byte{0, 0, kind, 4, 0, 0, 0, 0} }
	return []badPacket6{
		{"39 bytes", syn()[:39], Runt},
		{"an IPv4 header where IPv6 is announced", change(syn(), 0, 0x45), BadIPVersion},
		{"a payload of 0 bytes", long(0), BadIPLength},
		{"a jumbogram", chained(append(syn()[:40], syn()[40:]...), []uint8{hop}, []byte{0, 0, 0xc2, 4, 0, 1, 0, 0})[:40], BadIPLength},
		{"more bytes announced than there are", long(21), BadIPLength},
		{"from ::", from("::"), MartianSource},
		{"from loopback", from("::1"), MartianSource},
		{"from a group", from("ff02::1"), MartianSource},
		{"from an IPv4-mapped address", from("::ffff:10.77.0.101"), MartianSource},
		{"from an IPv4-compatible address", from("::10.77.0.101"), MartianSource},
		{"from this host's own address", from("2001:db8::11"), MartianSource},
		{"land", from("2001:db8::2"), MartianSource},
		{"a fragment", chained(syn(), []uint8{fragment}, []byte{0, 0, 0, 1, 0, 0, 0, 7}), Fragment},
		{"a fragment of a fragment", chained(syn(), []uint8{hop, fragment, fragment}, padding(), make([]byte, 8), []byte{0, 0, 0, 1, 0, 0, 0, 7}), Fragment},
		{"routing type 0", chained(syn(), []uint8{routing}, route(0, 1)), RoutingHeader},
		{"routing type 0 without segments left", chained(syn(), []uint8{routing}, route(0, 0)), RoutingHeader},
		{"segments left", chained(syn(), []uint8{routing}, route(4, 1)), RoutingHeader},
		{"hop-by-hop options behind others", chained(syn(), []uint8{dest, hop}, padding(), padding()), BadExtension},
		{"hop-by-hop options twice", chained(syn(), []uint8{hop, hop}, padding(), padding()), BadExtension},
		{"an extension header that overruns", chained(syn(), []uint8{dest}, []byte{0, 9, 1, 4, 0, 0, 0, 0}), BadExtension},
		{"an extension header cut off", change(long(20), 6, dest)[:44], BadIPLength},
		{"an option that overruns", chained(syn(), []uint8{dest}, []byte{0, 0, 1, 5, 0, 0, 0, 0}), BadExtension},
		{"an option cut off at its kind", chained(syn(), []uint8{dest}, []byte{0, 0, 1, 3, 0, 0, 0, 1}), BadExtension},
		{"a home address", chained(syn(), []uint8{dest}, option(0xc9)), BadExtension},
		{"a jumbo payload option", chained(syn(), []uint8{hop}, option(0xc2)), BadExtension},
		{"an option to discard by", chained(syn(), []uint8{dest}, option(0x7e)), BadExtension},
		{"five extension headers", chained(syn(), []uint8{hop, dest, dest, dest, dest}, padding(), padding(), padding(), padding(), padding()), ExtensionsFull},
		{"TCP of 19 bytes", ip6(asker6, vip6Addr, protoTCP, make([]byte, 19)), Runt},
		{"TCP offset", seal6(change(syn(), 52, 0x40), protoTCP, 40, 16), BadTCPOffset},
		{"no TCP flags", tcp6(asker6, 40000, 22, 0, nil), BadTCPFlags},
		{"TCP port 0", tcp6(asker6, 0, 22, flagSYN, nil), BadTCPPort},
		{"TCP checksum", change(syn(), 56, 0xff), BadTCPChecksum},
		{"TCP checksum as over IPv4", func() []byte { b := syn(); copy(b[56:], []byte{0, 0}); return b }(), BadTCPChecksum},
		{"UDP checksum", change(udp6(asker6, 1, 53, []byte("x")), 48, 'y'), BadUDP},
		{"UDP without checksum", ip6(asker6, vip6Addr, protoUDP, []byte{1, 1, 0, 53, 0, 8, 0, 0}), BadUDP},
		{"ICMPv6 of 7 bytes", ip6(asker6, vip6Addr, protoICMPv6, make([]byte, 7)), Runt},
		{"ICMPv6 checksum", change(icmp6(asker6, icmp6Echo, []byte("ping")), 48, 'P'), BadICMP},
		{"a checksum without pseudo-header", icmpSum(), BadICMP},
	}
}

// icmpSum is an echo request with a checksum as ICMP has it over IPv4.
func icmpSum() []byte {
	b := icmp6(asker6, icmp6Echo, []byte("ping"))
	b[42], b[43] = 0, 0
	binary.BigEndian.PutUint16(b[42:], ^slowSum(b[40:]))
	return b
}

func TestDecodeIPv6NamesWhatIsWrong(t *testing.T) {
	n, _ := newNode6(t)
	want := map[Verdict]uint64{}
	for _, c := range badPackets6() {
		h := n.Handle(0, frame6(c.packet))
		if h.Verdict != c.want || h.Packet != nil || h.Reply != nil {
			t.Errorf("%s: %+v, want %v", c.name, h, c.want)
		}
		want[c.want]++
	}
	counts := n.Counts()
	for v := range VerdictCount {
		if counts[v] != want[v] {
			t.Errorf("%v counted %d times, want %d", v, counts[v], want[v])
		}
	}
}

func TestDecodeIPv6TakesWhatIsRight(t *testing.T) {
	syn := tcp6(asker6, 40000, 22, flagSYN, nil)
	for name, packet := range map[string][]byte{
		"SYN":                       syn,
		"padding behind the packet": append(append([]byte{}, syn...), make([]byte, 6)...),
		"hop-by-hop options":        chained(syn, []uint8{nextHopByHop}, padding()),
		"a router alert":            chained(syn, []uint8{nextHopByHop}, []byte{0, 0, 5, 2, 0, 0, 0, 0}),
		"four extension headers": chained(syn, []uint8{nextHopByHop, nextDestination, nextRouting, nextDestination},
			padding(), padding(), []byte{0, 0, 4, 0, 0, 0, 0, 0}, padding()),
		"UDP":     udp6(asker6, 40000, 53, []byte("question")),
		"echo":    icmp6(asker6, icmp6Echo, []byte("abc")),
		"no more": ip6(asker6, vip6Addr, 59, []byte{1}),
	} {
		var d Decoded
		if v := d.Decode(frame6(packet)); v != Undecided {
			t.Errorf("%s: %v", name, v)
		}
		if d.Flow.Src != asker6 || d.Flow.Dst != vip6Addr || d.Flow.Proto == protoTCP && (d.Flow.SrcPort != 40000 || len(d.Segment) != 20) {
			t.Errorf("%s: %+v with %d bytes", name, d.Flow, len(d.Segment))
		}
	}
}

// A checksum that the kernel vouches for is not looked at, and its header has to
// fit the packet.
func TestDecodeIPv6TakesTheKernelsWord(t *testing.T) {
	var d Decoded
	f := frame6(tcp6(asker6, 40000, 22, flagSYN, nil))
	f.Data[70] ^= 0xff
	f.Offload.Partial, f.Offload.ChecksumStart, f.Offload.ChecksumOffset = true, 54, 16
	if v := d.Decode(f); v != Undecided || !d.Vouched {
		t.Errorf("a partial checksum: %v", v)
	}
	f.Offload.ChecksumStart = 34
	if v := d.Decode(f); v != BadOffload {
		t.Errorf("a start where IPv4 has it: %v", v)
	}
}
