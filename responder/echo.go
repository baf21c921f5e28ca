package responder

import (
	"encoding/binary"
	"net/netip"
)

// The echo message of RFC 792:
//
//	0      1      2          4            6                 8
//	| type | code | checksum | identifier | sequence number | data …
const (
	echoBytes   = 8
	echoRequest = 8
)

// EchoRequest is a frame with an ICMP echo request without data, from own to the
// next hop to, which is the caller's. Both addresses are of IPv4.
func EchoRequest(own, to MAC, src, dst netip.Addr, id, seq uint16) []byte {
	// An answer to its answer.
	p := packet{src: dst.As4(), dst: src.As4()}
	b := appendHeaders(nil, own, to, &p, protoICMP, echoBytes)
	at := len(b)
	b = append(b, echoRequest, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, seq)
	binary.BigEndian.PutUint16(b[at+2:], ^Sum(0, b[at:]))
	return b
}

// AppendEchoReply appends to dst the whole frame that answers the ICMP echo
// request in frame, and returns the longer slice and EchoAnswered; or dst as it
// was and the reason. The frame goes from own to the next hop to, in a packet of
// at most mtu bytes. dst and frame must not overlap. The caller has made sure
// that the packet's destination is a VIP of ours and the asker ours to answer.
//
// RFC 1122 §3.2.2.6: the source is the destination of the request, and its data
// comes back whole; a reply that the link cannot carry is cut to fit, since this
// node does not fragment. That can happen only where MTUs on one LAN differ, as
// the request came in one piece. Record-route and timestamp options are not
// copied into the reply, which the paragraph only recommends: routers forward
// packets with options on their slow path or not at all (RFC 7126), and a reply
// without them arrives. Source routes are refused (see JudgeOptions).
func AppendEchoReply(dst, frame []byte, own, to MAC, mtu int) ([]byte, Outcome) {
	if !sendable(own, to) || mtu < minMTU {
		return dst, Unsendable
	}
	p, o := readPacket(frame, own, protoICMP)
	if o != Unjudged {
		return dst, o
	}
	switch {
	case len(p.body) < echoBytes:
		return dst, BadICMP
	case Sum(0, p.body) != 0xffff:
		return dst, BadICMPChecksum
	case p.body[0] != echoRequest:
		return dst, NotEchoRequest
	case p.body[1] != 0:
		return dst, BadICMPCode
	}
	body := p.body[:min(len(p.body), mtu-ipv4Bytes)]
	dst = appendHeaders(dst, own, to, &p, protoICMP, len(body))
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0) // type echo reply, code, checksum
	dst = append(dst, body[4:]...)
	// Summed anew: patching the request's checksum (RFC 1624) gives 0 instead of
	// 0xffff for a reply of nothing but zeros, which its receiver would refuse.
	binary.BigEndian.PutUint16(dst[at+2:], ^Sum(0, dst[at:]))
	return dst, EchoAnswered
}
