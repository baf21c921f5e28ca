package node

import (
	"encoding/binary"
	"net/netip"

	"onevoice/link"
	"onevoice/responder"
)

// The LAN of the tests.
var (
	ownMAC     = responder.MAC{0x02, 0, 0, 0, 0, 0x11}
	peerMAC    = responder.MAC{0x02, 0, 0, 0, 0, 0x12}
	clientMAC  = responder.MAC{0x02, 0, 0, 0, 1, 0x01}
	clusterMAC = responder.MAC{0x01, 0, 0x5e, 0x4d, 0, 0x02}

	ownAddr = netip.MustParseAddr("10.77.0.11")
	vipAddr = netip.MustParseAddr("10.77.0.2")
	lan     = netip.MustParsePrefix("10.77.0.0/24")
	asker   = netip.MustParseAddr("10.77.0.101")
)

// frame is an Ethernet frame for the cluster MAC from a client.
func frame(etherType uint16, payload []byte) *link.Frame {
	b := append(append([]byte{}, clusterMAC[:]...), clientMAC[:]...)
	b = binary.BigEndian.AppendUint16(b, etherType)
	return &link.Frame{Data: append(b, payload...)}
}

// ip is an IPv4 packet to the VIP with right lengths and checksum.
func ip(src netip.Addr, proto uint8, payload []byte) []byte {
	b := make([]byte, 20, 20+len(payload))
	b[0], b[8], b[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
	copy(b[12:], src.AsSlice())
	copy(b[16:], vipAddr.AsSlice())
	b = append(b, payload...)
	fixIP(b)
	return b
}

// fixIP sets the header checksum anew.
func fixIP(b []byte) {
	header := int(b[0]&0xf) * 4
	if header > len(b) || header < 12 {
		return
	}
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^slowSum(b[:header]))
}

// tcp is a TCP segment in an IPv4 packet with right checksums.
func tcp(src netip.Addr, srcPort, dstPort uint16, flags uint8, payload []byte) []byte {
	s := make([]byte, 20)
	binary.BigEndian.PutUint16(s, srcPort)
	binary.BigEndian.PutUint16(s[2:], dstPort)
	binary.BigEndian.PutUint32(s[4:], 1000)
	s[12], s[13] = 0x50, flags
	b := ip(src, protoTCP, append(s, payload...))
	fixTransport(b)
	return b
}

// fixTransport sets the TCP or UDP checksum anew.
func fixTransport(b []byte) {
	at := map[uint8]int{protoTCP: 16, protoUDP: 6}[b[9]]
	s := b[20:]
	s[at], s[at+1] = 0, 0
	pseudo := append(append([]byte{}, b[12:20]...), 0, b[9], byte(len(s)>>8), byte(len(s)))
	binary.BigEndian.PutUint16(s[at:], ^slowSum(append(pseudo, s...)))
}

func udp(src netip.Addr, srcPort, dstPort uint16, payload []byte) []byte {
	s := make([]byte, 8)
	binary.BigEndian.PutUint16(s, srcPort)
	binary.BigEndian.PutUint16(s[2:], dstPort)
	binary.BigEndian.PutUint16(s[4:], uint16(8+len(payload)))
	b := ip(src, protoUDP, append(s, payload...))
	fixTransport(b)
	return b
}

// icmp is an ICMP message with a right checksum; rest follows the code.
func icmp(src netip.Addr, kind uint8, rest []byte) []byte {
	m := append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, rest...)
	binary.BigEndian.PutUint16(m[2:], ^slowSum(m))
	return ip(src, protoICMP, m)
}

// quote is the start of a packet that a node sent to a client.
func quote(dst netip.Addr, srcPort, dstPort uint16) []byte {
	b := make([]byte, 28)
	b[0], b[9] = 0x45, protoTCP
	copy(b[12:], vipAddr.AsSlice())
	copy(b[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(b[20:], srcPort)
	binary.BigEndian.PutUint16(b[22:], dstPort)
	return b
}

// arpRequest asks for an address on behalf of a sender.
func arpRequest(sender, target netip.Addr) *link.Frame {
	b := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	b = append(append(b, clientMAC[:]...), sender.AsSlice()...)
	b = append(append(b, 0, 0, 0, 0, 0, 0), target.AsSlice()...)
	f := frame(etherTypeARP, b)
	copy(f.Data, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	return f
}

// slowSum is the ones' complement sum of RFC 1071 as its definition says it:
// word by word.
func slowSum(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		s += w
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
