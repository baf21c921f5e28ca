package node

import (
	"encoding/binary"
	"net/netip"

	"onevoice/hashing"
)

// outgoing is a TCP segment that is about to leave.
type outgoing struct {
	flow     hashing.Flow // the client is its source
	flags    uint8
	seq, ack uint32
	window   uint16
	payload  int
	options  []byte
	packet   []byte // its IP packet, all headers of it at least
}

// length is SEG.LEN: SYN and FIN count (RFC 9293 §3.4).
func (s *outgoing) length() uint32 {
	n := uint32(s.payload)
	if s.flags&flagSYN != 0 {
		n++
	}
	if s.flags&flagFIN != 0 {
		n++
	}
	return n
}

// read reads a packet that our TCP made, of which all headers are there. False
// when it is no TCP segment.
func (s *outgoing) read(ip []byte) bool {
	if len(ip) >= ipv6Bytes+20 && ip[0]>>4 == 6 {
		return ip[6] == protoTCP && s.segment(ip[ipv6Bytes:],
			netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40])), int(binary.BigEndian.Uint16(ip[4:])))
	}
	if len(ip) < 20 || ip[0]>>4 != 4 || ip[9] != protoTCP {
		return false
	}
	header := int(ip[0]&0xf) * 4
	if header < 20 || len(ip) < header+20 {
		return false
	}
	return s.segment(ip[header:], netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20])),
		int(binary.BigEndian.Uint16(ip[2:]))-header)
}

// segment reads a segment of at least 20 bytes, from a VIP to a client. length is
// that of header and data.
func (s *outgoing) segment(t []byte, vip, client netip.Addr, length int) bool {
	offset := int(t[12]>>4) * 4
	if offset < 20 || offset > len(t) {
		return false
	}
	*s = outgoing{
		flow: hashing.Flow{
			Src: client, SrcPort: binary.BigEndian.Uint16(t[2:]),
			Dst: vip, DstPort: binary.BigEndian.Uint16(t),
			Proto: protoTCP,
		},
		flags: t[13], seq: binary.BigEndian.Uint32(t[4:]), ack: binary.BigEndian.Uint32(t[8:]),
		window:  binary.BigEndian.Uint16(t[14:]),
		payload: max(length-offset, 0),
		options: t[20:offset],
	}
	return true
}

// scale is the window scale option of a SYN-ACK, 0 when it has none (RFC 7323
// §2.2: kind 3, length 3, shift of at most 14).
func (s *outgoing) scale() uint8 {
	const end, nop, windowScale, most = 0, 1, 3, 14
	for b := s.options; len(b) > 0; {
		switch {
		case b[0] == end:
			return 0
		case b[0] == nop:
			b = b[1:]
			continue
		case len(b) < 2 || b[1] < 2 || int(b[1]) > len(b):
			return 0
		case b[0] == windowScale && b[1] == 3:
			return min(b[2], most)
		}
		b = b[b[1]:]
	}
	return 0
}
