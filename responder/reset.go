package responder

import "encoding/binary"

// The TCP header of RFC 9293 §3.1:
//
//	0             2                  4                 8
//	| source port | destination port | sequence number | acknowledgment number |
//	12               13      14       16         18               20
//	| offset | 0 0 0 0 | flags | window | checksum | urgent pointer | options …
const (
	tcpBytes = 20

	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10
)

// AppendReset appends to dst the whole frame with the reset that the TCP segment
// in frame earns where no connection is, and returns the longer slice and
// ResetSent; or dst as it was and the reason. The frame goes from own to the
// next hop to. dst and frame must not overlap. vouched says that the kernel has
// vouched for the segment's checksum, which may then be partial (virtio-net
// header). The caller has made sure that the packet's destination is a VIP of
// ours and that this reset is owed (OWNERSHIP.md R14).
//
// RFC 9293 §3.10.7.1, CLOSED: an incoming segment with RST is discarded. One
// without ACK is answered <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>, one with
// ACK <SEQ=SEG.ACK><CTL=RST>. SEG.LEN counts SYN and FIN (§3.4).
func AppendReset(dst, frame []byte, own, to MAC, vouched bool) ([]byte, Outcome) {
	if !sendable(own, to) {
		return dst, Unsendable
	}
	p, o := readPacket(frame, own, protoTCP)
	if o != Unjudged {
		return dst, o
	}
	if o := judgeSegment(&p, vouched); o != Unjudged {
		return dst, o
	}
	dst = appendHeaders(dst, own, to, &p, protoTCP, tcpBytes)
	at := len(dst)
	dst = appendResetSegment(dst, p.body)
	sum := Sum(PseudoSum(p.dst, p.src, protoTCP, tcpBytes), dst[at:])
	binary.BigEndian.PutUint16(dst[at+16:], ^sum)
	return dst, ResetSent
}

// judgeSegment says why a segment earns no reset, Unjudged when it does.
func judgeSegment(p *packet, vouched bool) Outcome {
	s := p.body
	if len(s) < tcpBytes {
		return BadTCPHeader
	}
	header := int(s[12]>>4) * 4
	ports := binary.BigEndian.Uint16(s[0:]) != 0 && binary.BigEndian.Uint16(s[2:]) != 0
	switch {
	case header < tcpBytes || header > len(s) || !ports:
		return BadTCPHeader
	case !vouched && Sum(PseudoSum(p.src, p.dst, protoTCP, len(s)), s) != 0xffff:
		return BadTCPChecksum
	case s[13]&flagRST != 0:
		return AnswersReset
	}
	return Unjudged
}

// appendResetSegment appends the header of the reset for a judged segment s,
// its checksum still 0.
func appendResetSegment(dst, s []byte) []byte {
	flags, seq, ack := byte(flagRST), binary.BigEndian.Uint32(s[8:]), uint32(0)
	if s[13]&flagACK == 0 {
		length := len(s) - int(s[12]>>4)*4
		for _, counted := range [...]byte{flagSYN, flagFIN} {
			if s[13]&counted != 0 {
				length++
			}
		}
		flags, seq, ack = flagRST|flagACK, 0, binary.BigEndian.Uint32(s[4:])+uint32(length)
	}
	dst = append(append(dst, s[2:4]...), s[0:2]...)
	dst = binary.BigEndian.AppendUint32(dst, seq)
	dst = binary.BigEndian.AppendUint32(dst, ack)
	return append(dst, tcpBytes/4<<4, flags, 0, 0, 0, 0, 0, 0)
}
