package node

import (
	"encoding/binary"
	"net/netip"

	"onevoice/hashing"
	"onevoice/link"
	"onevoice/responder"
)

// EtherTypes and IP protocols of the frames that a node handles.
const (
	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806

	protoICMP = 1
	protoTCP  = 6
	protoUDP  = 17
)

const ethernetBytes = 14

// Decoded is a frame taken apart. It is used again for the next frame and
// points into the frame's bytes.
type Decoded struct {
	To, From  responder.MAC
	EtherType uint16
	// IP is the packet without padding: as long as its total length says.
	IP []byte
	// Segment is what the IP header carries.
	Segment []byte
	Flow    hashing.Flow
	TCP     TCPFields
	// Vouched: the transport checksum need not be looked at.
	Vouched bool
	// segmentBytes is the length of each of the datagrams that the kernel has left
	// together, 0 where it is one.
	segmentBytes int
}

// TCPFields are what the gate looks at.
type TCPFields struct {
	Flags    uint8
	Seq, Ack uint32
	// Stamped: it has a Timestamps option (RFC 7323 §3.2).
	Stamped bool
}

// Flags of a TCP header, RFC 9293 §3.1.
const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	flagPSH
	flagACK
	flagURG
)

// Decode takes a frame apart as far as the IP payload and judges it: Undecided
// when nothing is wrong with it so far, else the reason to drop it. ARP is left
// whole. It allocates nothing.
func (d *Decoded) Decode(f *link.Frame) Verdict {
	b := f.Data
	if len(b) < ethernetBytes {
		return Runt
	}
	d.To, d.From = responder.MAC(b[0:6]), responder.MAC(b[6:12])
	d.EtherType = binary.BigEndian.Uint16(b[12:])
	if f.Tagged || isTag(d.EtherType) {
		return VLANTag
	}
	switch d.EtherType {
	case etherTypeARP:
		return Undecided
	case etherTypeIPv4:
		return d.decodeIPv4(b[ethernetBytes:], &f.Offload)
	case etherTypeIPv6:
		return d.decodeIPv6(b[ethernetBytes:], &f.Offload)
	}
	return OtherEtherType
}

// isTag reports whether an EtherType announces a VLAN tag (IEEE 802.1Q
// customer and service tags) that the kernel has left in the frame.
func isTag(t uint16) bool { return t == 0x8100 || t == 0x88a8 }

// decodeIPv4 checks the header of RFC 791 §3.1:
//
//	0        1        2                 4        6               8
//	| ver|ihl|  tos   |  total length   |   id   | flags|offset  |
//	| ttl    | proto  |    checksum     |   source address       |
//	| destination address               |   options …            |
func (d *Decoded) decodeIPv4(b []byte, o *link.Offload) Verdict {
	if len(b) < 20 {
		return Runt
	}
	if b[0]>>4 != 4 {
		return BadIPVersion
	}
	header := int(b[0]&0xf) * 4
	if header < 20 || header > len(b) {
		return BadIPHeaderLength
	}
	total := int(binary.BigEndian.Uint16(b[2:]))
	if total < header || total > len(b) {
		return BadIPLength
	}
	if responder.Sum(0, b[:header]) != 0xffff {
		return BadIPChecksum
	}
	d.IP, d.Segment = b[:total], b[header:total]
	src, dst := [4]byte(b[12:16]), [4]byte(b[16:20])
	d.Flow = hashing.Flow{Src: netip.AddrFrom4(src), Dst: netip.AddrFrom4(dst), Proto: b[9]}
	if v := ipOptions(b[20:header]); v != Undecided {
		return v
	}
	if martian(src, dst) {
		return MartianSource
	}
	const moreFragments, offset = 0x2000, 0x1fff
	if binary.BigEndian.Uint16(b[6:])&(moreFragments|offset) != 0 {
		return Fragment
	}
	return d.decodeTransport(header, o)
}

// ipOptions judges the options of an IPv4 header.
func ipOptions(b []byte) Verdict {
	switch responder.JudgeOptions(b) {
	case responder.SourceRoute:
		return SourceRoute
	case responder.BadIPOptions:
		return BadIPOptions
	}
	return Undecided
}

// martian reports whether no client can have that source address: this network
// and loopback (RFC 1122 §3.2.1.3), group and reserved addresses with the
// limited broadcast, and the destination's own.
func martian(src, dst [4]byte) bool {
	return src[0] == 0 || src[0] == 127 || src[0] >= 224 || src == dst
}

func (d *Decoded) decodeTransport(header int, o *link.Offload) Verdict {
	if !d.judgeOffload(header, o) {
		return BadOffload
	}
	switch proto := d.Flow.Proto; {
	case proto == protoTCP:
		return d.decodeTCP()
	case proto == protoUDP:
		return d.decodeUDP()
	case proto == protoICMP && d.EtherType == etherTypeIPv4:
		return d.decodeICMP()
	case proto == protoICMPv6 && d.EtherType == etherTypeIPv6:
		return d.decodeICMPv6()
	}
	return Undecided
}

// judgeOffload reports whether the kernel's header fits the packet. It describes
// the transport it was made for; one that points elsewhere is the work of a program
// on this host that writes raw frames.
func (d *Decoded) judgeOffload(header int, o *link.Offload) bool {
	if o.Partial && (int(o.ChecksumStart) != ethernetBytes+header ||
		int(o.ChecksumStart)+int(o.ChecksumOffset)+2 > ethernetBytes+len(d.IP)) {
		return false
	}
	d.Vouched = o.Partial || o.Validated
	return true
}

// decodeTCP checks the header of RFC 9293 §3.1:
//
//	0                 2                 4                         8
//	|  source port    |  dest. port     |  sequence number        |
//	|  acknowledgment number            | off|res|flags| window   |
//	|  checksum       |  urgent         |  options …              |
func (d *Decoded) decodeTCP() Verdict {
	s := d.Segment
	if len(s) < 20 {
		return Runt
	}
	offset := int(s[12]>>4) * 4
	if offset < 20 || offset > len(s) {
		return BadTCPOffset
	}
	d.Flow.SrcPort, d.Flow.DstPort = binary.BigEndian.Uint16(s), binary.BigEndian.Uint16(s[2:])
	if d.Flow.SrcPort == 0 || d.Flow.DstPort == 0 {
		return BadTCPPort
	}
	d.TCP = TCPFields{Flags: s[13], Seq: binary.BigEndian.Uint32(s[4:]), Ack: binary.BigEndian.Uint32(s[8:])}
	if badFlags(s[13]) {
		return BadTCPFlags
	}
	var v Verdict
	if v, d.TCP.Stamped = tcpOptions(s[20:offset]); v != Undecided {
		return v
	}
	if !d.Vouched && d.transportSum() != 0xffff {
		return BadTCPChecksum
	}
	return Undecided
}

// transportSum is the sum over pseudo-header and segment, 0xffff when the
// checksum inside is right.
func (d *Decoded) transportSum() uint16 {
	if d.EtherType == etherTypeIPv6 {
		pseudo := responder.PseudoSum6((*[16]byte)(d.IP[8:]), (*[16]byte)(d.IP[24:]), d.Flow.Proto, len(d.Segment))
		return responder.Sum(pseudo, d.Segment)
	}
	pseudo := responder.PseudoSum([4]byte(d.IP[12:16]), [4]byte(d.IP[16:20]), d.Flow.Proto, len(d.Segment))
	return responder.Sum(pseudo, d.Segment)
}

// badFlags reports combinations that no TCP sends: SYN with FIN or RST, and
// anything else without ACK but a SYN or a reset (RFC 9293 §3.10.7.4: a
// segment without ACK is dropped once the connection is synchronised).
func badFlags(flags uint8) bool {
	if flags&flagSYN != 0 {
		return flags&(flagFIN|flagRST) != 0
	}
	return flags&(flagACK|flagRST) == 0
}

// tcpOptions walks the options of a TCP header, RFC 9293 §3.2, and reports whether
// a Timestamps option of the right length is among them.
func tcpOptions(b []byte) (v Verdict, stamped bool) {
	const end, nop, timestamps, timestampsBytes = 0, 1, 8, 10
	// All that most segments have, as RFC 7323 appendix A lays it out.
	const alone = nop<<24 | nop<<16 | timestamps<<8 | timestampsBytes
	if len(b) == 2+timestampsBytes && binary.BigEndian.Uint32(b) == alone {
		return Undecided, true
	}
	for len(b) > 0 {
		switch b[0] {
		case end:
			return Undecided, stamped
		case nop:
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return BadTCPOptions, false
		}
		stamped = stamped || b[0] == timestamps && b[1] == timestampsBytes
		b = b[b[1]:]
	}
	return Undecided, stamped
}

// decodeUDP checks the header of RFC 768. A checksum of 0 means none over IPv4, and
// has no place over IPv6 (RFC 8200 §8.1).
func (d *Decoded) decodeUDP() Verdict {
	s := d.Segment
	if len(s) < 8 {
		return Runt
	}
	if n := int(binary.BigEndian.Uint16(s[4:])); n < 8 || n > len(s) {
		return BadUDP
	} else {
		s = s[:n]
	}
	d.Flow.SrcPort, d.Flow.DstPort = binary.BigEndian.Uint16(s), binary.BigEndian.Uint16(s[2:])
	d.Segment = s
	none := d.EtherType == etherTypeIPv4 && binary.BigEndian.Uint16(s[6:]) == 0
	if !d.Vouched && !none && d.transportSum() != 0xffff {
		return BadUDP
	}
	return Undecided
}

// decodeICMP checks length and checksum, RFC 792.
func (d *Decoded) decodeICMP() Verdict {
	if len(d.Segment) < 8 {
		return Runt
	}
	if responder.Sum(0, d.Segment) != 0xffff {
		return BadICMP
	}
	return Undecided
}

// ICMP types, RFC 792.
const (
	icmpUnreachable      = 3
	icmpSourceQuench     = 4
	icmpRedirect         = 5
	icmpEcho             = 8
	icmpTimeExceeded     = 11
	icmpParameterProblem = 12
)

// quotedFlow reads the flow that an ICMP error quotes: a packet that a node
// sent, so its destination is the client. False when it is neither a TCP segment nor
// a UDP datagram, or too short to tell.
func (d *Decoded) quotedFlow() (hashing.Flow, bool) {
	q := d.Segment[8:]
	if len(q) < 20 || q[0]>>4 != 4 {
		return hashing.Flow{}, false
	}
	const ports, offset = 4, 0x1fff
	header := int(q[0]&0xf) * 4
	// Of a fragment only the first has ports.
	if header < 20 || len(q) < header+ports || q[9] != protoTCP && q[9] != protoUDP || binary.BigEndian.Uint16(q[6:])&offset != 0 {
		return hashing.Flow{}, false
	}
	return hashing.Flow{
		Src:     netip.AddrFrom4([4]byte(q[16:20])),
		Dst:     netip.AddrFrom4([4]byte(q[12:16])),
		SrcPort: binary.BigEndian.Uint16(q[header+2:]),
		DstPort: binary.BigEndian.Uint16(q[header:]),
		Proto:   q[9],
	}, true
}
