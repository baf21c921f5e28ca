package sim

import (
	"encoding/binary"
	"net/netip"
)

// Flags of a TCP segment.
const (
	FIN = 0x01
	SYN = 0x02
	RST = 0x04
	PSH = 0x08
	ACK = 0x10
)

// Segment is a TCP segment in an IPv4 packet in a frame.
type Segment struct {
	FromMAC, ToMAC MAC
	From, To       netip.AddrPort
	Seq, Ack       uint32
	Flags          byte
	Window         uint16
	MSS            uint16 // the option of a SYN; 0: none
	Data           []byte
}

// The TCP header of RFC 9293 §3.1:
//
//	0             2                  4                 8
//	| source port | destination port | sequence number | acknowledgment number |
//	12               13      14       16         18               20
//	| offset | 0 0 0 0 | flags | window | checksum | urgent pointer | options …
const (
	tcpBytes  = 20
	optionEnd = 0
	optionNop = 1
	optionMSS = 2
)

// Has says whether all these flags are set.
func (s *Segment) Has(flags byte) bool { return s.Flags&flags == flags }

// Length is what the segment takes of the sequence space: its data, SYN and FIN
// (RFC 9293 §3.4).
func (s *Segment) Length() uint32 {
	n := uint32(len(s.Data))
	if s.Has(SYN) {
		n++
	}
	if s.Has(FIN) {
		n++
	}
	return n
}

// Frame is the segment as a frame, with right checksums.
func (s *Segment) Frame() []byte {
	header := tcpBytes
	if s.MSS != 0 {
		header += 4
	}
	length := header + len(s.Data)
	b := appendEthernet(make([]byte, 0, MinFrame+ipBytes+length), s.ToMAC, s.FromMAC, etherIPv4)
	b = appendIPv4(b, s.From.Addr(), s.To.Addr(), protoTCP, length)
	at := len(b)
	b = binary.BigEndian.AppendUint16(b, s.From.Port())
	b = binary.BigEndian.AppendUint16(b, s.To.Port())
	b = binary.BigEndian.AppendUint32(b, s.Seq)
	b = binary.BigEndian.AppendUint32(b, s.Ack)
	b = append(b, byte(header/4)<<4, s.Flags)
	b = binary.BigEndian.AppendUint16(b, s.Window)
	b = append(b, 0, 0, 0, 0)
	if s.MSS != 0 {
		b = append(b, optionMSS, 4)
		b = binary.BigEndian.AppendUint16(b, s.MSS)
	}
	b = append(b, s.Data...)
	sum := onesSum(pseudoSum(s.From.Addr(), s.To.Addr(), protoTCP, length), b[at:])
	binary.BigEndian.PutUint16(b[at+16:], ^sum)
	return b
}

// ParseSegment takes a frame apart. ok is false if it is not a whole TCP segment
// with right checksums. Data is a part of the frame.
func ParseSegment(frame []byte) (s Segment, ok bool) {
	src, dst, proto, b, ok := parseIPv4(frame)
	if !ok || proto != protoTCP || len(b) < tcpBytes {
		return s, false
	}
	header := int(b[12]>>4) * 4
	if header < tcpBytes || header > len(b) || onesSum(pseudoSum(src, dst, protoTCP, len(b)), b) != 0xffff {
		return s, false
	}
	s = Segment{
		FromMAC: MAC(frame[6:]), ToMAC: MAC(frame[0:]),
		From: netip.AddrPortFrom(src, binary.BigEndian.Uint16(b)),
		To:   netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:])),
		Seq:  binary.BigEndian.Uint32(b[4:]), Ack: binary.BigEndian.Uint32(b[8:]),
		Flags: b[13], Window: binary.BigEndian.Uint16(b[14:]),
		MSS: findMSS(b[tcpBytes:header]), Data: b[header:],
	}
	return s, true
}

// findMSS is the maximum segment size among options (RFC 9293 §3.2), 0 if it is
// not there.
func findMSS(o []byte) uint16 {
	for len(o) > 0 && o[0] != optionEnd {
		if o[0] == optionNop {
			o = o[1:]
			continue
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return 0
		}
		if o[0] == optionMSS && o[1] == 4 {
			return binary.BigEndian.Uint16(o[2:])
		}
		o = o[o[1]:]
	}
	return 0
}

// before compares sequence numbers, modulo 2^32 (RFC 9293 §3.4).
func before(a, b uint32) bool { return int32(a-b) < 0 }
