package datagram

import (
	"encoding/binary"
	"net/netip"

	"onevoice/responder"
)

// EthernetBytes is the room at the start of each packet for the Ethernet header,
// which the caller of Egress fills in.
const EthernetBytes = 14

const (
	ipv4Bytes     = 20
	ipv6Bytes     = 40
	udpBytes      = 8
	fragmentBytes = 8 // of IPv6's fragment header, RFC 8200 §4.5

	nextFragment  = 44
	moreFragments = 0x2000
	hopLimit      = 64
)

// MaxPayloadBytes is the longest datagram of a family that has an address like that
// (RFC 768, RFC 791 §3.1; RFC 8200 §3).
func MaxPayloadBytes(a netip.Addr) int {
	if a.Is4() {
		return 65_535 - ipv4Bytes - udpBytes
	}
	return 65_535 - udpBytes
}

// Packet is one IP packet to send.
type Packet struct {
	// To is whom it is for.
	To netip.Addr
	// Bytes have EthernetBytes of room in front of the packet.
	Bytes []byte
}

// datagramOut is a datagram that is to leave.
type datagramOut struct {
	from, to netip.AddrPort
	payload  []byte
	// mtu is the longest packet, and id what the fragments have in common, which
	// nobody may foresee: who can, puts bytes of his own among them (RFC 7739 §4).
	mtu int
	id  uint32
}

// pack writes the packets of a datagram behind arena, each with its room, and calls
// for each. The payload is not longer than MaxPayloadBytes.
//
// DF is not set: nobody could tell the service to send less, so that a router has to
// be free to cut (RFC 1191 §3 leaves that to the sender).
func (o *datagramOut) pack(arena []byte, each func(begin, end int)) []byte {
	var head [udpBytes]byte
	binary.BigEndian.PutUint16(head[0:], o.from.Port())
	binary.BigEndian.PutUint16(head[2:], o.to.Port())
	binary.BigEndian.PutUint16(head[4:], uint16(udpBytes+len(o.payload)))
	binary.BigEndian.PutUint16(head[6:], o.checksum(&head))
	begin, total := len(arena), udpBytes+len(o.payload)
	if o.ipBytes()+total <= o.mtu {
		arena = o.appendIP(arena, total, 0, false, false)
		arena = append(append(arena, head[:]...), o.payload...)
		each(begin, len(arena))
		return arena
	}
	for at := 0; at < total; {
		room := o.mtu - o.ipBytes()
		if !o.to.Addr().Is4() {
			room -= fragmentBytes
		}
		n, more := total-at, false
		if n > room {
			n, more = room&^7, true
		}
		begin = len(arena)
		arena = o.appendIP(arena, n, at, more, true)
		from := at
		if at == 0 {
			arena = append(arena, head[:]...)
			from = udpBytes
		}
		arena = append(arena, o.payload[from-udpBytes:at+n-udpBytes]...)
		each(begin, len(arena))
		at += n
	}
	return arena
}

func (o *datagramOut) ipBytes() int {
	if o.to.Addr().Is4() {
		return ipv4Bytes
	}
	return ipv6Bytes
}

// appendIP appends the room and the IP header for length bytes that belong at an
// offset of the datagram; cut says that it is a fragment.
func (o *datagramOut) appendIP(b []byte, length, offset int, more, cut bool) []byte {
	b = append(b, make([]byte, EthernetBytes)...)
	at := len(b)
	if o.to.Addr().Is4() {
		field := uint16(offset / 8)
		if more {
			field |= moreFragments
		}
		b = append(b, 4<<4|ipv4Bytes/4, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(ipv4Bytes+length))
		b = binary.BigEndian.AppendUint16(b, uint16(o.id))
		b = binary.BigEndian.AppendUint16(b, field)
		b = append(b, hopLimit, protoUDP, 0, 0)
		from, to := o.from.Addr().As4(), o.to.Addr().As4()
		b = append(append(b, from[:]...), to[:]...)
		binary.BigEndian.PutUint16(b[at+10:], ^responder.Sum(0, b[at:]))
		return b
	}
	next := byte(protoUDP)
	if cut {
		next, length = nextFragment, length+fragmentBytes
	}
	b = append(b, 6<<4, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = append(b, next, hopLimit)
	from, to := o.from.Addr().As16(), o.to.Addr().As16()
	b = append(append(b, from[:]...), to[:]...)
	if cut {
		field := uint16(offset)
		if more {
			field |= 1
		}
		b = append(b, protoUDP, 0)
		b = binary.BigEndian.AppendUint16(b, field)
		b = binary.BigEndian.AppendUint32(b, o.id)
	}
	return b
}

// checksum is that of the whole datagram, never 0, which would say that there is
// none (RFC 768; RFC 8200 §8.1).
func (o *datagramOut) checksum(head *[udpBytes]byte) uint16 {
	var s uint16
	if o.to.Addr().Is4() {
		from, to := o.from.Addr().As4(), o.to.Addr().As4()
		s = responder.Sum(responder.Sum(0, from[:]), to[:])
	} else {
		from, to := o.from.Addr().As16(), o.to.Addr().As16()
		s = responder.Sum(responder.Sum(0, from[:]), to[:])
	}
	length := uint16(udpBytes + len(o.payload))
	pseudo := [4]byte{0, protoUDP, byte(length >> 8), byte(length)}
	s = responder.Sum(responder.Sum(responder.Sum(s, pseudo[:]), head[:6]), o.payload)
	if s == 0xffff {
		return s
	}
	return ^s
}
