package node

import (
	"encoding/binary"
	"net/netip"

	"onevoice/hashing"
	"onevoice/link"
	"onevoice/responder"
)

const (
	etherTypeIPv6 = 0x86dd
	ipv6Bytes     = 40

	protoICMPv6 = 58
)

// Next headers of RFC 8200 §4 that a chain is walked over.
const (
	nextHopByHop    = 0
	nextRouting     = 43
	nextFragment    = 44
	nextDestination = 60
)

// maxExtensions bounds the extension headers that are walked. RFC 8200 §4.1 knows
// four before a transport that is neither encrypted nor authenticated: hop-by-hop
// options, destination options, routing, and destination options again.
const maxExtensions = 4

// decodeIPv6 checks the header of RFC 8200 §3:
//
//	0                                4                6             7           8
//	| ver| traffic class | flow label | payload length | next header | hop limit |
//	8                24                    40
//	| source address | destination address | extension headers, payload …
//
// A payload length of 0 would be a jumbogram (RFC 2675), which no LAN of ours
// carries, or no payload at all.
func (d *Decoded) decodeIPv6(b []byte, o *link.Offload) Verdict {
	if len(b) < ipv6Bytes {
		return Runt
	}
	if b[0]>>4 != 6 {
		return BadIPVersion
	}
	total := ipv6Bytes + int(binary.BigEndian.Uint16(b[4:]))
	if total == ipv6Bytes || total > len(b) {
		return BadIPLength
	}
	d.IP = b[:total]
	src, dst := [16]byte(b[8:24]), [16]byte(b[24:40])
	d.Flow = hashing.Flow{Src: netip.AddrFrom16(src), Dst: netip.AddrFrom16(dst), Proto: b[6]}
	if martian6(src, dst) {
		return MartianSource
	}
	at, v := d.extensions()
	d.Segment = d.IP[at:]
	if v != Undecided {
		return v
	}
	return d.decodeTransport(at, o)
}

// martian6 reports whether nobody can have that source address: loopback, groups,
// what stands for an IPv4 address (RFC 4291 §2.5.3, §2.5.5, §2.7), and the
// destination's own. ::, the source of who has no address yet, is left to the
// gate.
func martian6(src, dst [16]byte) bool {
	return !responder.IsHost6(src) && src != [16]byte{} || src == dst
}

// extensions walks the extension headers and reports where the next one lies that
// is none of them. It leaves the protocol there in Flow.Proto. The fragment header
// is where reassembly begins.
func (d *Decoded) extensions() (at int, v Verdict) {
	at = ipv6Bytes
	for n := 0; ; n++ {
		switch d.Flow.Proto {
		case nextFragment:
			return at, Fragment
		case nextHopByHop, nextRouting, nextDestination:
		default:
			return at, Undecided
		}
		if n == maxExtensions {
			return at, ExtensionsFull
		}
		b := d.IP[at:]
		// A length in units of 8 bytes, the first not counted.
		if len(b) < 8 || len(b) < 8+8*int(b[1]) {
			return at, BadExtension
		}
		b = b[:8+8*int(b[1])]
		if v := judgeExtension(d.Flow.Proto, n, b); v != Undecided {
			return at, v
		}
		d.Flow.Proto = b[0]
		at += len(b)
	}
}

// judgeExtension judges the n-th extension header. Hop-by-hop options come first
// or not at all (RFC 8200 §4.1). A routing header that has somewhere left to go is
// for a router; one of type 0 is for nobody any more (RFC 5095).
func judgeExtension(kind uint8, n int, b []byte) Verdict {
	const typeSource = 0
	switch {
	case kind == nextRouting && (b[2] == typeSource || b[3] != 0):
		return RoutingHeader
	case kind == nextRouting:
		return Undecided
	case kind == nextHopByHop && n > 0:
		return BadExtension
	}
	return judgeOptions6(b[2:])
}

// judgeOptions6 walks options of RFC 8200 §4.2. None is obeyed; one whose upper two
// bits are set forbids to go on for who does not know it.
func judgeOptions6(b []byte) Verdict {
	const pad1, mustKnow = 0, 0xc0
	for len(b) > 0 {
		if b[0] == pad1 {
			b = b[1:]
			continue
		}
		if len(b) < 2 || 2+int(b[1]) > len(b) || b[0]&mustKnow != 0 {
			return BadExtension
		}
		b = b[2+int(b[1]):]
	}
	return Undecided
}

// decodeICMPv6 checks length and checksum, RFC 4443 §2.1 and §2.3.
func (d *Decoded) decodeICMPv6() Verdict {
	if len(d.Segment) < 8 {
		return Runt
	}
	if !d.Vouched && d.transportSum() != 0xffff {
		return BadICMP
	}
	return Undecided
}

// ICMPv6 types, RFC 4443 and RFC 3810. Below 128 are errors.
const (
	icmp6Unreachable      = 1
	icmp6PacketTooBig     = 2
	icmp6TimeExceeded     = 3
	icmp6ParameterProblem = 4
	icmp6Echo             = 128
)

// quotedFlow6 is quotedFlow for an ICMPv6 error. Of the extension headers, what nodes
// send has that of fragments alone.
func (d *Decoded) quotedFlow6() (hashing.Flow, bool) {
	q := d.Segment[8:]
	const ports, fragmentBytes = 4, 8
	if len(q) < ipv6Bytes+fragmentBytes || q[0]>>4 != 6 {
		return hashing.Flow{}, false
	}
	proto, at := q[6], ipv6Bytes
	if proto == nextFragment && binary.BigEndian.Uint16(q[at+2:])&^7 == 0 {
		proto, at = q[at], at+fragmentBytes
	}
	if proto != protoTCP && proto != protoUDP || len(q) < at+ports {
		return hashing.Flow{}, false
	}
	return hashing.Flow{
		Src:     netip.AddrFrom16([16]byte(q[24:40])),
		Dst:     netip.AddrFrom16([16]byte(q[8:24])),
		SrcPort: binary.BigEndian.Uint16(q[at+2:]),
		DstPort: binary.BigEndian.Uint16(q[at:]),
		Proto:   proto,
	}, true
}

// packet6 is the packet as the responder wants it.
func (d *Decoded) packet6() responder.Packet6 {
	return responder.Packet6{
		Src: [16]byte(d.IP[8:24]), Dst: [16]byte(d.IP[24:40]),
		TrafficClass: d.IP[0]<<4 | d.IP[1]>>4, Body: d.Segment,
	}
}
