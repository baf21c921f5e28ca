package responder

import "encoding/binary"

// The ICMP error of RFC 792 and of RFC 4443 §3.1:
//
//	0      1      2          4        8
//	| type | code | checksum | unused | the packet that it is about …
const (
	icmpErrorBytes = 8

	unreachable4, portUnreachable4, prohibited4 = 3, 3, 13
	unreachable6, portUnreachable6, prohibited6 = 1, 4, 1

	// maxError4 and maxError6 bound the whole packet of an error: every host of IPv4
	// takes 576 bytes (RFC 1812 §4.3.2.3), and every link of IPv6 carries 1,280 (RFC
	// 4443 §2.4 (c)).
	maxError4 = 576
	maxError6 = 1280
)

// AppendPortUnreachable appends to dst the IP packet, of the same family, which
// tells the sender of the UDP datagram in quoted that nothing listens at the port. It
// goes from the datagram's destination, which the caller has made sure is a VIP of
// ours, and quotes as much as may be sent. False, and dst as it was, when an error
// must not be sent about it (RFC 1122 §3.2.2, RFC 4443 §2.4 (e)): the sender's
// address is no single host's, or it is not the first fragment of its datagram. quoted
// may have been cut short, but not before the end of its UDP header; its header
// checksum and lengths have been judged.
//
// The caller bounds the rate (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)).
func AppendPortUnreachable(dst, quoted []byte) ([]byte, bool) {
	return appendUnreachable(dst, quoted, portUnreachable4, portUnreachable6)
}

// AppendProhibited is AppendPortUnreachable for the sender of a datagram or segment
// that is not let in: "communication administratively prohibited", code 13 (RFC 1812
// §5.2.7.1), code 1 of IPv6 (RFC 4443 §3.1).
func AppendProhibited(dst, quoted []byte) ([]byte, bool) {
	return appendUnreachable(dst, quoted, prohibited4, prohibited6)
}

// appendUnreachable is the error with a code of each family.
func appendUnreachable(dst, quoted []byte, code4, code6 byte) ([]byte, bool) {
	if len(quoted) < 1 {
		return dst, false
	}
	if quoted[0]>>4 == 6 {
		return appendUnreachable6(dst, quoted, code6)
	}
	header := int(quoted[0]&0xf) * 4
	if quoted[0]>>4 != 4 || header < ipv4Bytes || len(quoted) < header+8 ||
		binary.BigEndian.Uint16(quoted[6:])&offsetMask != 0 {
		return dst, false
	}
	p := packet{src: [4]byte(quoted[12:16]), dst: [4]byte(quoted[16:20])}
	if !isHost4Bytes(p.src) || !isHost4Bytes(p.dst) || p.src == p.dst {
		return dst, false
	}
	quoted = quoted[:min(len(quoted), maxError4-ipv4Bytes-icmpErrorBytes)]
	// The type of service is 0 (RFC 1122 §3.2.2).
	dst = appendIPv4(dst, &p, protoICMP, icmpErrorBytes+len(quoted))
	at := len(dst)
	dst = append(append(dst, unreachable4, code4, 0, 0, 0, 0, 0, 0), quoted...)
	binary.BigEndian.PutUint16(dst[at+2:], ^Sum(0, dst[at:]))
	return dst, true
}

// appendUnreachable6 is the same in IPv6. Extension headers in front of the UDP
// header are quoted as they are.
func appendUnreachable6(dst, quoted []byte, code byte) ([]byte, bool) {
	if len(quoted) < ipv6Bytes+8 {
		return dst, false
	}
	src, to := [16]byte(quoted[8:24]), [16]byte(quoted[24:40])
	if !IsHost6(src) || !IsHost6(to) || src == to {
		return dst, false
	}
	quoted = quoted[:min(len(quoted), maxError6-ipv6Bytes-icmpErrorBytes)]
	length := icmpErrorBytes + len(quoted)
	dst = append(dst, 6<<4, 0, 0, 0, byte(length>>8), byte(length), protoICMPv6, replyTTL)
	dst = append(append(dst, to[:]...), src[:]...)
	at := len(dst)
	dst = append(append(dst, unreachable6, code, 0, 0, 0, 0, 0, 0), quoted...)
	binary.BigEndian.PutUint16(dst[at+2:], ^Sum(PseudoSum6(&to, &src, protoICMPv6, length), dst[at:]))
	return dst, true
}

// AppendFrame appends an Ethernet header from own to the next hop to, for the IP
// packet that follows. False, and dst as it was, when no frame can go between them.
func AppendFrame(dst []byte, own, to MAC, six bool) ([]byte, bool) {
	if !sendable(own, to) {
		return dst, false
	}
	dst = append(append(dst, to[:]...), own[:]...)
	if six {
		return binary.BigEndian.AppendUint16(dst, etherTypeIPv6), true
	}
	return binary.BigEndian.AppendUint16(dst, etherTypeIPv4), true
}
