package model

import (
	"encoding/binary"
	"net/netip"

	"onevoice/responder"
)

const (
	protoTCP = 6

	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10
)

// Segment is a TCP segment without options. Its payload is zeros.
type Segment struct {
	Src, Dst netip.AddrPort
	Flags    uint8
	Seq, Ack uint32
	Payload  int
}

const ipBytes, tcpBytes = 20, 20

// Packet is the segment as an IPv4 packet with right checksums.
func Packet(s *Segment) []byte {
	b := make([]byte, ipBytes+tcpBytes+s.Payload)
	src, dst := s.Src.Addr().As4(), s.Dst.Addr().As4()
	b[0], b[8], b[9] = 0x45, 64, protoTCP
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[10:], ^responder.Sum(0, b[:ipBytes]))
	t := b[ipBytes:]
	binary.BigEndian.PutUint16(t[0:], s.Src.Port())
	binary.BigEndian.PutUint16(t[2:], s.Dst.Port())
	binary.BigEndian.PutUint32(t[4:], s.Seq)
	binary.BigEndian.PutUint32(t[8:], s.Ack)
	t[12], t[13] = tcpBytes<<2, s.Flags
	binary.BigEndian.PutUint16(t[14:], receiveWindow)
	binary.BigEndian.PutUint16(t[16:], ^responder.Sum(responder.PseudoSum(src, dst, protoTCP, len(t)), t))
	return b
}

// Parse reads an IPv4 packet with a TCP segment, as the gate lets them through
// or Packet makes them.
func Parse(ip []byte) Segment {
	header := int(ip[0]&0xf) * 4
	t := ip[header:binary.BigEndian.Uint16(ip[2:])]
	return Segment{
		Src:     netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[12:16])), binary.BigEndian.Uint16(t)),
		Dst:     netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:20])), binary.BigEndian.Uint16(t[2:])),
		Flags:   t[13],
		Seq:     binary.BigEndian.Uint32(t[4:]),
		Ack:     binary.BigEndian.Uint32(t[8:]),
		Payload: len(t) - int(t[12]>>4)*4,
	}
}
