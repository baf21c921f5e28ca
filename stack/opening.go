package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"onevoice/responder"
)

// opening is a SYN, or the SYN-ACK that answers one, in the client's terms: from is the
// client, to the service. What is a slice points into the packet.
type opening struct {
	from, to         []byte
	fromPort, toPort []byte
	// number is the client's.
	number uint32
	// ip is how many bytes the IP header has, tcp is what follows it.
	ip  int
	tcp []byte
}

// key names an opening apart from others that come at the same time: its ports and
// number.
func (p *opening) key() uint64 {
	return uint64(binary.BigEndian.Uint16(p.fromPort))<<48 | uint64(binary.BigEndian.Uint16(p.toPort))<<32 | uint64(p.number)
}

// options are those of the TCP header.
func (p *opening) options() []byte { return p.tcp[header.TCPMinimumSize : int(p.tcp[12]>>4)*4] }

// readOpening reads a packet with nothing between the IP header and TCP's; false when
// there is. Its TCP header has been found to be whole. answer: it is a SYN-ACK.
func readOpening(packet []byte, answer bool) (p opening, ok bool) {
	switch {
	case len(packet) >= headerBytes && packet[0] == plainHeader:
		p.from, p.to, p.ip = packet[12:16], packet[16:20], header.IPv4MinimumSize
	case len(packet) >= headerBytes6 && packet[0]>>4 == header.IPv6Version && packet[6] == uint8(header.TCPProtocolNumber):
		p.from, p.to, p.ip = packet[8:24], packet[24:40], header.IPv6MinimumSize
	default:
		return opening{}, false
	}
	p.tcp = packet[p.ip:]
	if len(p.tcp) < int(p.tcp[12]>>4)*4 {
		return opening{}, false
	}
	p.fromPort, p.toPort, p.number = p.tcp[0:2], p.tcp[2:4], binary.BigEndian.Uint32(p.tcp[4:])
	if answer {
		p.from, p.to, p.fromPort, p.toPort = p.to, p.from, p.toPort, p.fromPort
		p.number = binary.BigEndian.Uint32(p.tcp[8:]) - 1
	}
	return p, true
}

// Where the time stamps are in a SYN-ACK with a cookie: behind the largest segment size,
// which is 4 bytes, two fillers, kind and length.
const (
	cookieStamp    = header.TCPMinimumSize + 4 + 4
	plainCookie    = header.TCPMinimumSize + 4
	stampedCookie  = plainCookie + 12
	stampKind      = header.TCPOptionTS
	stampKindAt    = cookieStamp - 2
	cookieEcho     = cookieStamp + 4
	cookieSegments = header.TCPMinimumSize
)

// isCookie reports whether a SYN-ACK has the form of netstack's cookies: with the
// largest segment size, and after it time stamps or nothing. stamped says which. Such
// a packet is not to be cut, so that its identification says nothing (RFC 6864 §4.1).
func (p *opening) isCookie(packet []byte) (stamped, ok bool) {
	if p.ip == header.IPv4MinimumSize && header.IPv4(packet).Flags()&header.IPv4FlagDontFragment == 0 {
		return false, false
	}
	if len(p.tcp) < plainCookie || p.tcp[cookieSegments] != header.TCPOptionMSS {
		return false, false
	}
	stamped = len(p.tcp) == stampedCookie && p.tcp[stampKindAt] == stampKind
	return stamped, stamped || len(p.tcp) == plainCookie
}

// finish writes the checksums of a packet.
func finish(packet []byte, ip int) {
	tcp := packet[ip:]
	tcp[16], tcp[17] = 0, 0
	var pseudo uint16
	if ip == header.IPv6MinimumSize {
		pseudo = responder.PseudoSum6((*[16]byte)(packet[8:]), (*[16]byte)(packet[24:]), uint8(header.TCPProtocolNumber), len(tcp))
	} else {
		packet[10], packet[11] = 0, 0
		binary.BigEndian.PutUint16(packet[10:], ^responder.Sum(0, packet[:ip]))
		pseudo = responder.PseudoSum([4]byte(packet[12:16]), [4]byte(packet[16:20]), uint8(header.TCPProtocolNumber), len(tcp))
	}
	binary.BigEndian.PutUint16(tcp[16:], ^responder.Sum(pseudo, tcp))
}
