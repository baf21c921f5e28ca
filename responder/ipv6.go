package responder

import (
	"encoding/binary"
	"net/netip"
)

// The IPv6 header of RFC 8200 §3:
//
//	0                                4                6             7           8
//	| ver| traffic class | flow label | payload length | next header | hop limit |
//	8                24                    40
//	| source address | destination address | extension headers, payload …
const (
	etherTypeIPv6 = 0x86dd
	ipv6Bytes     = 40

	protoICMPv6 = 58

	// ndpHopLimit is that of every message of neighbour discovery: one that has
	// passed a router has a smaller one (RFC 4861 §3.1).
	ndpHopLimit = 255
	// MinIPv6MTU is what every link carries, RFC 8200 §5.
	MinIPv6MTU = 1280
)

// Packet6 is an IPv6 packet that may be answered, as its reader has taken it
// apart and found it well formed.
type Packet6 struct {
	Src, Dst     [16]byte
	TrafficClass byte
	// Body is what lies behind the extension headers, up to the packet's end.
	Body []byte
}

// PseudoSum6 is the sum over the pseudo-header of RFC 8200 §8.1: the addresses,
// the length of the segment and the upper-layer protocol.
func PseudoSum6(src, dst *[16]byte, proto byte, length int) uint16 {
	var b [40]byte
	copy(b[0:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint32(b[32:], uint32(length))
	b[39] = proto
	return Sum(0, b[:])
}

// isHost6 reports whether a can be the IPv6 address of one host on a network:
// not ::, not loopback, not multicast, and none of ::/96 and ::ffff:0:0/96, which
// stand for IPv4 addresses (RFC 4291 §2.5.5).
func isHost6(a netip.Addr) bool {
	return a.Is6() && a.Zone() == "" && !a.IsMulticast() && !embedsIPv4(a.As16())
}

// embedsIPv4 reports an address of ::/96, which :: and ::1 are too, or of
// ::ffff:0:0/96.
func embedsIPv4(a [16]byte) bool {
	if binary.BigEndian.Uint64(a[:]) != 0 {
		return false
	}
	v := binary.BigEndian.Uint32(a[8:])
	return v == 0 || v == 0xffff
}

// IsHost6 reports whether a packet may come from a: see isHost6.
func IsHost6(a [16]byte) bool { return a[0] != 0xff && !embedsIPv4(a) }

// GroupMAC is the MAC of a group's frames: of IPv6 33:33 and its last four bytes
// (RFC 2464 §7), of IPv4 01:00:5e and the low 23 bits (RFC 1112 §6.4).
func GroupMAC(group netip.Addr) MAC {
	a := group.As16()
	if group.Is4() {
		return MAC{0x01, 0x00, 0x5e, a[13] & 0x7f, a[14], a[15]}
	}
	return MAC{0x33, 0x33, a[12], a[13], a[14], a[15]}
}

// AllNodes is ff02::1, every IPv6 station of the LAN.
func AllNodes() netip.Addr { return netip.IPv6LinkLocalAllNodes() }

// SolicitedNode is the group in which the holder of an address hears who asks
// for it: ff02::1:ff00:0/104 and the address's last three bytes (RFC 4291
// §2.7.1).
func SolicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

// appendHeaders6 appends the Ethernet and IPv6 headers of a packet from src to
// dst with length bytes of payload. Flow label 0 is none (RFC 6437 §2).
func appendHeaders6(b []byte, own, to MAC, src, dst *[16]byte, class, next, hopLimit byte, length int) []byte {
	b = append(append(b, to[:]...), own[:]...)
	b = binary.BigEndian.AppendUint16(b, etherTypeIPv6)
	b = append(b, 6<<4|class>>4, class<<4, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = append(b, next, hopLimit)
	return append(append(b, src[:]...), dst[:]...)
}

// AppendEchoReply6 is AppendEchoReply for the ICMPv6 echo request in p, RFC 4443
// §4: the request's data come back whole, from the address that was asked. p's
// checksum has been judged. The traffic class is treated as appendHeaders treats
// its type of service.
func AppendEchoReply6(b []byte, p *Packet6, own, to MAC, mtu int) ([]byte, Outcome) {
	const request, reply = 128, 129
	switch {
	case !sendable(own, to) || mtu < MinIPv6MTU:
		return b, Unsendable
	case len(p.Body) < echoBytes:
		return b, BadICMP
	case p.Body[0] != request:
		return b, NotEchoRequest
	case p.Body[1] != 0:
		return b, BadICMPCode
	}
	body := p.Body[:min(len(p.Body), mtu-ipv6Bytes)]
	b = appendHeaders6(b, own, to, &p.Dst, &p.Src, p.TrafficClass&^0x03, protoICMPv6, replyTTL, len(body))
	at := len(b)
	b = append(b, reply, 0, 0, 0)
	b = append(b, body[4:]...)
	binary.BigEndian.PutUint16(b[at+2:], ^Sum(PseudoSum6(&p.Dst, &p.Src, protoICMPv6, len(body)), b[at:]))
	return b, EchoAnswered
}

// AppendReset6 is AppendReset for the TCP segment in p, whose checksum has been
// judged.
func AppendReset6(b []byte, p *Packet6, own, to MAC) ([]byte, Outcome) {
	if !sendable(own, to) {
		return b, Unsendable
	}
	if o := judgeSegment(&packet{body: p.Body}, true); o != Unjudged {
		return b, o
	}
	b = appendHeaders6(b, own, to, &p.Dst, &p.Src, p.TrafficClass&^0x03, protoTCP, replyTTL, tcpBytes)
	at := len(b)
	b = appendResetSegment(b, p.Body)
	binary.BigEndian.PutUint16(b[at+16:], ^Sum(PseudoSum6(&p.Dst, &p.Src, protoTCP, tcpBytes), b[at:]))
	return b, ResetSent
}
