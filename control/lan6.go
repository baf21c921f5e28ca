package control

import (
	"encoding/binary"
	"net/netip"

	"onevoice/link"
	"onevoice/responder"
)

const (
	ipv6Bytes     = 40
	etherTypeIPv6 = 0x86dd
)

// Heartbeats to an IPv6 VIP are switched as its clients' frames are, so they are
// IPv6 datagrams. Nodes name each other by IPv4 addresses: the sender's stands in a
// link-local source, fe80::5efe:a.b.c.d, the form that RFC 5214 §6.1 has for
// addresses with an IPv4 address in them. No answer goes there.

// embedded is the IPv6 source of the node with an IPv4 address.
func embedded(a netip.Addr) netip.Addr {
	b := a.As4()
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 10: 0x5e, 11: 0xfe, 12: b[0], 13: b[1], 14: b[2], 15: b[3]})
}

// embeddedIn is the IPv4 address in such a source.
func embeddedIn(b [16]byte) (netip.Addr, bool) {
	a := netip.AddrFrom4([4]byte(b[12:]))
	return a, embedded(a) == netip.AddrFrom16(b)
}

// appendFrame6 makes the frame of a heartbeat. A UDP checksum is due (RFC 8200
// §8.1).
func (l *LAN) appendFrame6(b, payload []byte) []byte {
	src, dst := embedded(l.self).As16(), l.vip.As16()
	b = append(b, l.to...)
	b = append(b, l.device.HardwareAddr()...)
	b = binary.BigEndian.AppendUint16(b, etherTypeIPv6)
	b = append(b, 0x6c, 0x00, 0, 0) // DSCP 48, network control (RFC 4594 §3.1)
	b = binary.BigEndian.AppendUint16(b, uint16(udpBytes+len(payload)))
	b = append(b, protoUDP, heartbeatTTL)
	b = append(append(b, src[:]...), dst[:]...)
	at := len(b)
	b = binary.BigEndian.AppendUint16(b, l.port)
	b = binary.BigEndian.AppendUint16(b, l.port)
	b = binary.BigEndian.AppendUint16(b, uint16(udpBytes+len(payload)))
	b = append(append(b, 0, 0), payload...)
	sum := ^responder.Sum(responder.PseudoSum6(&src, &dst, protoUDP, len(b)-at), b[at:])
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[at+6:], sum)
	return b
}

// heartbeatOf6 is heartbeatOf for IPv6.
func heartbeatOf6(f *link.Frame) (from netip.Addr, payload []byte, ok bool) {
	b := f.Data
	if f.Tagged || len(b) < ethernetBytes+ipv6Bytes+udpBytes {
		return from, nil, false
	}
	ip := b[ethernetBytes:]
	end := ipv6Bytes + int(binary.BigEndian.Uint16(ip[4:]))
	if ip[0]>>4 != 6 || ip[6] != protoUDP || end > len(ip) || end < ipv6Bytes+udpBytes {
		return from, nil, false
	}
	if int(binary.BigEndian.Uint16(ip[ipv6Bytes+4:])) != end-ipv6Bytes {
		return from, nil, false
	}
	from, ok = embeddedIn([16]byte(ip[8:24]))
	return from, ip[ipv6Bytes+udpBytes : end], ok
}
