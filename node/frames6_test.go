package node

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/mdlayher/ndp"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
	"onevoice/link"
	"onevoice/responder"
)

// The IPv6 side of the tests' LAN.
var (
	cluster6MAC = responder.MAC{0x33, 0x33, 0x80, 0, 0, 0x02}
	routerMAC   = responder.MAC{0x02, 0, 0, 0, 2, 0x01}

	own6Addr    = netip.MustParseAddr("2001:db8::11")
	vip6Addr    = netip.MustParseAddr("2001:db8::2")
	lan6        = netip.MustParsePrefix("2001:db8::/64")
	asker6      = netip.MustParseAddr("2001:db8::101")
	router6Addr = netip.MustParseAddr("fe80::1")
)

// newNode6 is a node with a VIP of each family and a service on port 22 of both.
func newNode6(t testing.TB) (*Node, *modelFlows) {
	t.Helper()
	flows := &modelFlows{states: map[hashing.Flow]flowstate.State{}}
	n, err := New(Config{
		Own: ownMAC, Address: ownAddr, Address6: own6Addr, Gateway6: router6Addr, MTU: 1500,
		VIPs: []VIP{
			{VIP: responder.VIP{Addr: vipAddr, MAC: clusterMAC}, LAN: lan},
			{VIP: responder.VIP{Addr: vip6Addr, MAC: cluster6MAC}, LAN: lan6},
		},
		Services: []Service{
			{Proto: TCP, Listen: netip.AddrPortFrom(vipAddr, 22)},
			{Proto: TCP, Listen: netip.AddrPortFrom(vip6Addr, 22)},
		},
		Hasher: hashing.NewHasher(key), Flows: flows,
	})
	if err != nil {
		t.Fatal(err)
	}
	own6(t, n, allBuckets())
	return n, flows
}

func own6(t testing.TB, n *Node, buckets Bitmap) {
	t.Helper()
	rows := []Rows{{Accept: buckets}, {Accept: buckets}}
	if err := n.SetOwnership(&Ownership{Generation: 1, VIPs: rows, Services: rows, LeaseEnd: Forever}); err != nil {
		t.Fatal(err)
	}
	longAgo(n)
}

// frame6 is an IPv6 frame from a client's MAC: to the cluster MAC, or for a group
// to the group's.
func frame6(packet []byte) *link.Frame {
	to := cluster6MAC
	if len(packet) >= 40 && packet[24] == 0xff {
		to = responder.MAC{0x33, 0x33, packet[36], packet[37], packet[38], packet[39]}
	}
	b := append(append([]byte{}, to[:]...), clientMAC[:]...)
	b = binary.BigEndian.AppendUint16(b, etherTypeIPv6)
	return &link.Frame{Data: append(b, packet...)}
}

// ip6 is an IPv6 packet.
func ip6(src, dst netip.Addr, next uint8, payload []byte) []byte {
	b := make([]byte, 40, 40+len(payload))
	b[0], b[6], b[7] = 0x60, next, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	copy(b[8:], src.AsSlice())
	copy(b[24:], dst.AsSlice())
	return append(b, payload...)
}

// seal6 sets the checksum at an offset of the transport, which lies so many bytes
// into the packet.
func seal6(b []byte, proto uint8, header, at int) []byte {
	s := b[header:]
	s[at], s[at+1] = 0, 0
	pseudo := append([]byte{}, b[8:40]...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(s)))
	pseudo = append(pseudo, 0, 0, 0, proto)
	binary.BigEndian.PutUint16(s[at:], ^slowSum(append(pseudo, s...)))
	return b
}

func tcp6(src netip.Addr, srcPort, dstPort uint16, flags uint8, payload []byte) []byte {
	s := make([]byte, 20)
	binary.BigEndian.PutUint16(s, srcPort)
	binary.BigEndian.PutUint16(s[2:], dstPort)
	binary.BigEndian.PutUint32(s[4:], clientISN)
	s[12], s[13] = 0x50, flags
	return seal6(ip6(src, vip6Addr, protoTCP, append(s, payload...)), protoTCP, 40, 16)
}

func udp6(src netip.Addr, srcPort, dstPort uint16, payload []byte) []byte {
	s := make([]byte, 8)
	binary.BigEndian.PutUint16(s, srcPort)
	binary.BigEndian.PutUint16(s[2:], dstPort)
	binary.BigEndian.PutUint16(s[4:], uint16(8+len(payload)))
	return seal6(ip6(src, vip6Addr, protoUDP, append(s, payload...)), protoUDP, 40, 6)
}

// icmp6 is an ICMPv6 message to the VIP; rest follows four bytes behind the
// checksum.
func icmp6(src netip.Addr, kind uint8, rest []byte) []byte {
	return seal6(ip6(src, vip6Addr, protoICMPv6, append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, rest...)), protoICMPv6, 40, 2)
}

// chained puts extension headers in front of a packet's transport; each begins
// with a byte for the next header, which is filled in.
func chained(packet []byte, kinds []uint8, headers ...[]byte) []byte {
	out := append([]byte{}, packet[:40]...)
	next := append(append([]uint8{}, kinds...), packet[6])
	out[6] = next[0]
	for i, h := range headers {
		out = append(append(out, next[i+1]), h[1:]...)
	}
	out = append(out, packet[40:]...)
	binary.BigEndian.PutUint16(out[4:], uint16(len(out)-40))
	return out
}

// padding is an extension header of options, all of it padding.
func padding() []byte { return []byte{0, 0, 1, 4, 0, 0, 0, 0} }

// neighbour is a message of neighbour discovery from a client, by the library.
func neighbour(t testing.TB, src, dst netip.Addr, m ndp.Message) []byte {
	t.Helper()
	body, err := ndp.MarshalMessageChecksum(m, src, dst)
	if err != nil {
		t.Fatal(err)
	}
	b := ip6(src, dst, protoICMPv6, body)
	b[7] = 255
	return b
}

func solicitation(t testing.TB, src netip.Addr) []byte {
	return neighbour(t, src, responder.SolicitedNode(vip6Addr), &ndp.NeighborSolicitation{
		TargetAddress: vip6Addr, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: clientMAC[:]}},
	})
}

func toFlow6(port uint16) hashing.Flow {
	return hashing.Flow{Src: asker6, Dst: vip6Addr, SrcPort: port, DstPort: 22, Proto: protoTCP}
}

// out6 is a segment of the service for a client.
func out6(port uint16, flags uint8, seq, ack uint32) []byte {
	b := tcp6(asker6, port, 22, flags, nil)
	copy(b[8:], vip6Addr.AsSlice())
	copy(b[24:], asker6.AsSlice())
	binary.BigEndian.PutUint16(b[40:], 22)
	binary.BigEndian.PutUint16(b[42:], port)
	binary.BigEndian.PutUint32(b[44:], seq)
	binary.BigEndian.PutUint32(b[48:], ack)
	binary.BigEndian.PutUint16(b[54:], 0xffff)
	return seal6(b, protoTCP, 40, 16)
}

// in6 is a client's segment for the service.
func in6(port uint16, flags uint8, seq, ack uint32) []byte {
	b := tcp6(asker6, port, 22, flags, nil)
	binary.BigEndian.PutUint32(b[44:], seq)
	binary.BigEndian.PutUint32(b[48:], ack)
	return seal6(b, protoTCP, 40, 16)
}

// hold6 gives the node an open flow over IPv6.
func hold6(t testing.TB, n *Node, flows *modelFlows, port uint16) {
	t.Helper()
	flows.states[toFlow6(port)] = flowstate.HalfOpen
	if v := n.MayLeave(n.last, out6(port, flagSYN|flagACK, ownISN, clientISN+1)); v != Undecided {
		t.Fatalf("the SYN-ACK for port %d: %v", port, v)
	}
	if v := n.Handle(n.last, frame6(in6(port, flagACK, clientISN+1, ownISN+1))).Verdict; v != DeliverHeld {
		t.Fatalf("the ACK for port %d: %v", port, v)
	}
	flows.states[toFlow6(port)] = flowstate.Open
}
