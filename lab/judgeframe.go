package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"onevoice/responder"
)

// SightKind is what a frame was to the judge.
type SightKind uint8

// Kinds of sights.
const (
	SightOther SightKind = iota
	SightARPRequest
	SightARPReply
	SightEchoRequest
	SightEchoReply
	SightTCP
	SightUDP
)

// Sight is a frame in a few words, kept as evidence.
type Sight struct {
	At   time.Duration
	Host string
	Kind SightKind
	// Flags, Seq, Ack and Bytes are of a TCP segment, Bytes its payload. Seq of
	// an echo is its identifier and sequence number.
	Flags uint8
	// Src and Dst are addresses and ports; of ARP the sender's and the target's.
	Src, Dst Endpoint
	// MAC is the sender's inside an ARP packet.
	MAC      responder.MAC
	Seq, Ack uint32
	Bytes    uint32
}

// Endpoint is an IPv4 address and a port. A judge keeps many: it is a fifth of
// a netip.AddrPort.
type Endpoint struct {
	addr [4]byte
	port uint16
}

// Addr is the address.
func (e Endpoint) Addr() netip.Addr { return netip.AddrFrom4(e.addr) }

// AddrPort is the endpoint as package netip has it.
func (e Endpoint) AddrPort() netip.AddrPort { return netip.AddrPortFrom(e.Addr(), e.port) }

// String is like 10.77.0.2:22.
func (e Endpoint) String() string { return e.AddrPort().String() }

// String is a line much like tcpdump's, in most cases within 78 columns.
func (s Sight) String() string {
	head := fmt.Sprintf("%9.4f %-7s ", s.At.Seconds(), s.Host)
	switch s.Kind {
	case SightARPRequest:
		return head + fmt.Sprintf("who has %s? tell %s at %s", s.Dst.Addr(), s.Src.Addr(), s.MAC)
	case SightARPReply:
		return head + fmt.Sprintf("to %s: %s is at %s", s.Dst.Addr(), s.Src.Addr(), s.MAC)
	case SightEchoRequest:
		return head + fmt.Sprintf("%s > %s echo request %d/%d", s.Src.Addr(), s.Dst.Addr(), s.Seq>>16, s.Seq&0xffff)
	case SightEchoReply:
		return head + fmt.Sprintf("%s > %s echo reply %d/%d", s.Src.Addr(), s.Dst.Addr(), s.Seq>>16, s.Seq&0xffff)
	case SightTCP:
		line := head + fmt.Sprintf("%s > %s %s %d", s.Src, s.Dst, flagNames(s.Flags), s.Seq)
		if s.Bytes > 0 {
			line += fmt.Sprintf(":%d", s.Seq+s.Bytes)
		}
		if s.Flags&tcpACK != 0 {
			line += fmt.Sprintf(" ack %d", s.Ack)
		}
		return line
	case SightUDP:
		return head + fmt.Sprintf("%s > %s UDP, %d bytes", s.Src, s.Dst, s.Bytes)
	}
	return head + "another frame"
}

// MarshalText implements encoding.TextMarshaler: in JSON, too, it is a line.
func (s Sight) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// TCP flags, RFC 9293 §3.1.
const (
	tcpFIN = 1 << iota
	tcpSYN
	tcpRST
	tcpPSH
	tcpACK
	tcpURG
)

// flagNames are tcpdump's: S is SYN, and a point stands for ACK.
func flagNames(flags uint8) string {
	var names strings.Builder
	for _, f := range []struct {
		flag uint8
		name byte
	}{{tcpFIN, 'F'}, {tcpSYN, 'S'}, {tcpRST, 'R'}, {tcpPSH, 'P'}, {tcpURG, 'U'}, {tcpACK, '.'}} {
		if flags&f.flag != 0 {
			names.WriteByte(f.name)
		}
	}
	return names.String()
}

// packet is a frame taken apart.
type packet struct {
	Sight
	from         Sender
	to48, from48 responder.MAC
	// target is the other MAC inside an ARP packet.
	target responder.MAC
}

// Faults of a frame: what is wrong with it, in words.
const (
	faultLength    = "a length does not fit"
	faultIPSum     = "the IP header's checksum"
	faultTCPSum    = "the TCP checksum"
	faultICMPSum   = "the ICMP checksum"
	faultFragment  = "a fragment"
	faultTag       = "a VLAN tag"
	faultOptions   = "an option overruns"
	faultRoute     = "a source route"
	faultSource    = "a source address that nobody has"
	faultFlags     = "TCP flags that do not go together"
	faultPort      = "port 0"
	faultUnchecked = "too long to check its checksum"
)

const (
	ethernetBytes = 14
	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806
	protoICMP     = 1
	protoTCP      = 6
	protoUDP      = 17
)

// read takes a frame apart. The fault is "" when nothing is wrong with it or it
// is none of the judge's business.
func (p *packet) read(c *Capture) string {
	b := c.Data
	if len(b) < ethernetBytes {
		return faultLength
	}
	p.to48, p.from48 = responder.MAC(b[:6]), responder.MAC(b[6:12])
	if c.Tagged {
		return faultTag
	}
	switch binary.BigEndian.Uint16(b[12:]) {
	case etherTypeARP:
		return p.readARP(b[ethernetBytes:])
	case etherTypeIPv4:
		return p.readIPv4(b[ethernetBytes:], c)
	}
	return ""
}

// readARP reads the packet of RFC 826, for Ethernet and IPv4:
//
//	0       2       4    5    6           8            14           18           24
//	| htype | ptype |hlen|plen| operation | sender MAC | sender IPv4 | target MAC | target IPv4 |
func (p *packet) readARP(b []byte) string {
	if len(b) < 28 || binary.BigEndian.Uint16(b) != 1 || binary.BigEndian.Uint16(b[2:]) != etherTypeIPv4 || b[4] != 6 || b[5] != 4 {
		return faultLength
	}
	switch binary.BigEndian.Uint16(b[6:]) {
	case 1:
		p.Kind = SightARPRequest
	case 2:
		p.Kind = SightARPReply
	default:
		return ""
	}
	p.MAC, p.target = responder.MAC(b[8:14]), responder.MAC(b[18:24])
	p.Src.addr, p.Dst.addr = [4]byte(b[14:18]), [4]byte(b[24:28])
	return ""
}

// readIPv4 reads the header of RFC 791 §3.1. More than the frame holds may be
// announced only where the capture has cut it.
func (p *packet) readIPv4(b []byte, c *Capture) string {
	if len(b) < 20 || b[0]>>4 != 4 {
		return faultLength
	}
	p.Src.addr, p.Dst.addr = [4]byte(b[12:16]), [4]byte(b[16:20])
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if total == 0 && c.Bytes-ethernetBytes > 0xffff {
		// A super-frame longer than the field can say (IPv4 BIG TCP).
		total = c.Bytes - ethernetBytes
	}
	switch {
	case header < 20 || header > len(b) || total < header || total > c.Bytes-ethernetBytes:
		return faultLength
	case foldedSum(0, b[:header]) != 0xffff:
		return faultIPSum
	case b[12] == 0 || b[12] == 127 || b[12] >= 224:
		// RFC 1122 §3.2.1.3.
		return faultSource
	case binary.BigEndian.Uint16(b[6:])&0x3fff != 0:
		return faultFragment
	}
	if fault := optionFault(b[20:header], true); fault != "" {
		return fault
	}
	whole := total <= len(b)
	body := b[header:min(total, len(b))]
	switch b[9] {
	case protoTCP:
		return p.readTCP(body, total-header, whole, c.Vouched)
	case protoICMP:
		return p.readICMP(body, whole, c.Vouched)
	case protoUDP:
		return p.readUDP(body, total-header)
	}
	return ""
}

// optionFault walks the options of an IPv4 header (RFC 791 §3.1) or of a TCP
// header (RFC 9293 §3.2), which have one form.
func optionFault(b []byte, ip bool) string {
	const end, nop, looseRoute, strictRoute = 0, 1, 131, 137
	for len(b) > 0 && b[0] != end {
		switch {
		case b[0] == nop:
			b = b[1:]
			continue
		case ip && (b[0] == looseRoute || b[0] == strictRoute):
			return faultRoute
		case len(b) < 2 || b[1] < 2 || int(b[1]) > len(b):
			return faultOptions
		}
		b = b[b[1]:]
	}
	return ""
}

// readTCP reads the header of RFC 9293 §3.1. size is the segment's whole length.
func (p *packet) readTCP(b []byte, size int, whole, vouched bool) string {
	if len(b) < 20 {
		return faultLength
	}
	header := int(b[12]>>4) * 4
	if header < 20 || header > size {
		return faultLength
	}
	p.Kind = SightTCP
	p.Src.port, p.Dst.port = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	p.Seq, p.Ack, p.Flags = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]), b[13]
	p.Bytes = uint32(size - header)
	if fault := optionFault(b[20:min(header, len(b))], false); fault != "" {
		return fault
	}
	switch {
	case p.Src.port == 0 || p.Dst.port == 0:
		return faultPort
	case p.Flags&tcpSYN != 0 && p.Flags&(tcpFIN|tcpRST) != 0:
		return faultFlags
	case vouched:
		return ""
	case !whole:
		return faultUnchecked
	case foldedSum(p.pseudoSum(size), b) != 0xffff:
		return faultTCPSum
	}
	return ""
}

// pseudoSum is the sum over the pseudo-header of RFC 9293 §3.1.
func (p *packet) pseudoSum(size int) uint32 {
	sum := uint32(protoTCP) + uint32(size)
	for _, a := range [...][4]byte{p.Src.addr, p.Dst.addr} {
		sum += uint32(a[0])<<8 + uint32(a[1]) + uint32(a[2])<<8 + uint32(a[3])
	}
	return sum
}

// readICMP reads the echo message of RFC 792.
func (p *packet) readICMP(b []byte, whole, vouched bool) string {
	if len(b) < 8 {
		return faultLength
	}
	switch b[0] {
	case 8:
		p.Kind = SightEchoRequest
	case 0:
		p.Kind = SightEchoReply
	}
	p.Seq, p.Bytes = binary.BigEndian.Uint32(b[4:]), uint32(len(b)-8)
	switch {
	case vouched:
		return ""
	case !whole:
		return faultUnchecked
	case foldedSum(0, b) != 0xffff:
		return faultICMPSum
	}
	return ""
}

// readUDP reads the header of RFC 768. Its checksum is not looked at.
func (p *packet) readUDP(b []byte, size int) string {
	if len(b) < 8 || int(binary.BigEndian.Uint16(b[4:])) > size {
		return faultLength
	}
	p.Kind = SightUDP
	p.Src.port, p.Dst.port = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	p.Bytes = uint32(size - 8)
	return ""
}

// foldedSum is the ones' complement sum of RFC 1071, in the obvious way. Over
// bytes with their right checksum in them it is 0xffff.
func foldedSum(sum uint32, b []byte) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
