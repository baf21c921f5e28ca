package responder

import "encoding/binary"

// The IPv4 header of RFC 791 §3.1:
//
//	0         1     2              4    6                8     9       10
//	| ver|ihl | tos | total length | id | flags | offset | ttl | proto | checksum |
//	12               16                    20
//	| source address | destination address | options …
const (
	etherTypeIPv4 = 0x0800
	ethernetBytes = 14
	ipv4Bytes     = 20

	protoICMP = 1
	protoTCP  = 6

	dontFragment  = 0x4000
	moreFragments = 0x2000
	offsetMask    = 0x1fff

	// replyTTL is the hop limit of RFC 1700, which RFC 1122 §3.2.1.7 points to.
	replyTTL = 64
	// minMTU is what every link carries, RFC 791 §3.2.
	minMTU = 68
)

// packet is an unfragmented IPv4 packet that may be answered.
type packet struct {
	src, dst [4]byte
	tos      byte
	body     []byte // what the IPv4 header carries, without Ethernet padding
}

// readPacket takes a frame apart as far as the IPv4 payload and judges it:
// Unjudged when nothing is wrong with it.
func readPacket(frame []byte, own MAC, proto byte) (packet, Outcome) {
	if len(frame) < ethernetBytes+ipv4Bytes {
		return packet{}, Runt
	}
	to, from := MAC(frame[0:6]), MAC(frame[6:12])
	switch {
	case binary.BigEndian.Uint16(frame[12:]) != etherTypeIPv4:
		return packet{}, OtherEtherType
	case from == own:
		return packet{}, OwnMAC
	case !from.isStation():
		return packet{}, BadSourceMAC
	case to == Broadcast():
		return packet{}, BroadcastMAC
	}
	return readIPv4(frame[ethernetBytes:], proto)
}

func readIPv4(b []byte, proto byte) (packet, Outcome) {
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if b[0]>>4 != 4 || header < ipv4Bytes || total < header || total > len(b) {
		return packet{}, BadIPHeader
	}
	if Sum(0, b[:header]) != 0xffff {
		return packet{}, BadIPChecksum
	}
	if o := JudgeOptions(b[ipv4Bytes:header]); o != Unjudged {
		return packet{}, o
	}
	p := packet{src: [4]byte(b[12:16]), dst: [4]byte(b[16:20]), tos: b[1], body: b[header:total]}
	switch {
	case !isHost4Bytes(p.src) || !isHost4Bytes(p.dst) || p.src == p.dst:
		return packet{}, MartianAddress
	case binary.BigEndian.Uint16(b[6:])&(moreFragments|offsetMask) != 0:
		return packet{}, Fragment
	case b[9] != proto:
		return packet{}, OtherProtocol
	}
	return p, Unjudged
}

// JudgeOptions walks the options of an IPv4 header, RFC 791 §3.1. Source routes
// are refused: RFC 1122 §3.2.2.6 would have them reversed, but then whoever
// forges one chooses the way that our answer takes; RFC 7126 §4.3 and §4.4
// advise against them. The rest is read over.
func JudgeOptions(b []byte) Outcome {
	const end, nop, looseRoute, strictRoute = 0, 1, 131, 137
	for len(b) > 0 {
		switch b[0] {
		case end:
			return Unjudged
		case nop:
			b = b[1:]
			continue
		case looseRoute, strictRoute:
			return SourceRoute
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return BadIPOptions
		}
		b = b[b[1]:]
	}
	return Unjudged
}

// sendable reports whether a unicast frame can go from own to to.
func sendable(own, to MAC) bool { return own.isStation() && to.isStation() && own != to }

// appendHeaders appends the Ethernet and IPv4 headers of the answer to p, which
// will carry length bytes of payload.
//
// DSCP is kept, so that an answer travels in the class of the question (as Linux
// does; RFC 1349 §5.1 asked the same of the old field). The ECN bits are not:
// RFC 3168 §5 lets a sender set ECT only where its transport reacts to
// congestion, which an echo reply and a reset do not. Identification is 0 with
// DF set, an atomic datagram (RFC 6864 §4.1). Frames below 60 bytes are padded
// by the network card or its driver.
func appendHeaders(dst []byte, own, to MAC, p *packet, proto byte, length int) []byte {
	dst = append(append(dst, to[:]...), own[:]...)
	dst = binary.BigEndian.AppendUint16(dst, etherTypeIPv4)
	return appendIPv4(dst, p, proto, length)
}

// appendIPv4 appends the IPv4 header alone.
func appendIPv4(dst []byte, p *packet, proto byte, length int) []byte {
	at := len(dst)
	dst = append(dst, 4<<4|ipv4Bytes/4, p.tos&^0x03)
	dst = binary.BigEndian.AppendUint16(dst, uint16(ipv4Bytes+length))
	dst = append(dst, 0, 0, dontFragment>>8, 0, replyTTL, proto, 0, 0)
	dst = append(append(dst, p.dst[:]...), p.src[:]...)
	binary.BigEndian.PutUint16(dst[at+10:], ^Sum(0, dst[at:]))
	return dst
}
