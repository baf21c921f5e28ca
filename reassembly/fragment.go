package reassembly

import (
	"encoding/binary"
	"net/netip"
)

// Key is what the fragments of one datagram have in common: RFC 791 §3.2 for IPv4.
// Of IPv6 the protocol does not count, and is 0 (RFC 8200 §4.5).
type Key struct {
	Src, Dst netip.Addr
	ID       uint32
	Proto    uint8
}

// Fragment is a part of a datagram. Its bytes are the caller's.
type Fragment struct {
	Key
	// Upper is the protocol that the datagram carries, as far as this fragment
	// tells.
	Upper uint8
	// Offset is where Data belongs, in bytes, and More that some follows it.
	Offset int
	More   bool
	Data   []byte
	// Header is what stands before the data: the IPv4 header with its options, or
	// the IPv6 header with the extension headers in front of the fragment header.
	// Next is where in it the byte lies that says what follows, which is Upper in the
	// whole datagram.
	Header []byte
	Next   int
}

// IPv4 reads an IPv4 packet whose header has been judged, of header bytes, without
// what follows its total length. False when it is not a fragment.
func IPv4(ip []byte, header int) (Fragment, bool) {
	const moreFragments, offset = 0x2000, 0x1fff
	field := binary.BigEndian.Uint16(ip[6:])
	if field&(moreFragments|offset) == 0 {
		return Fragment{}, false
	}
	return Fragment{
		Key: Key{
			Src: netip.AddrFrom4([4]byte(ip[12:16])), Dst: netip.AddrFrom4([4]byte(ip[16:20])),
			ID: uint32(binary.BigEndian.Uint16(ip[4:])), Proto: ip[9],
		},
		Upper: ip[9], Offset: int(field&offset) * 8, More: field&moreFragments != 0,
		Data: ip[header:], Header: ip[:header], Next: 9,
	}, true
}

// IPv6 reads an IPv6 packet, without what follows its payload length, whose
// fragment header (RFC 8200 §4.5) begins at that byte; next is where the byte lies
// that announces it.
//
//	0             1          2                   4                8
//	| next header | reserved | offset | res | M  | identification |
func IPv6(ip []byte, at, next int) (Fragment, bool) {
	const headerBytes = 8
	if len(ip) < at+headerBytes || at < 40 || next >= at {
		return Fragment{}, false
	}
	field := binary.BigEndian.Uint16(ip[at+2:])
	return Fragment{
		Key: Key{
			Src: netip.AddrFrom16([16]byte(ip[8:24])), Dst: netip.AddrFrom16([16]byte(ip[24:40])),
			ID: binary.BigEndian.Uint32(ip[at+4:]),
		},
		Upper: ip[at], Offset: int(field &^ 7), More: field&1 != 0,
		Data: ip[at+headerBytes:], Header: ip[:at], Next: next,
	}, true
}

const protoTCP = 6

// judge refuses what cannot be a part of any datagram, Undecided otherwise.
func (f *Fragment) judge() Outcome {
	switch end := f.Offset + len(f.Data); {
	case f.More && (len(f.Data) == 0 || len(f.Data)%8 != 0):
		// The offsets of the others are multiples of 8 (RFC 8200 §4.5).
		return Bad
	case f.More && f.Offset == 0 && len(f.Data) < leastFirst(f.Upper):
		return Tiny
	case f.Upper == protoTCP && f.Offset == 8:
		// Nobody needs one, and it would change flags that a filter has looked at
		// (RFC 1858, RFC 3128).
		return Tiny
	case end+len(f.Header)-uncounted(f.Header) > maxLength:
		return Bad
	case len(f.Header) > maxHeaderBytes:
		return Bad
	}
	return Undecided
}

// leastFirst is how much of a transport's header the first fragment has to carry:
// of TCP up to its flags and window (RFC 1858), of others the ports or the type.
func leastFirst(proto uint8) int {
	if proto == protoTCP {
		return 16
	}
	return 8
}

// maxLength is the largest value of a datagram's length field, total length or
// payload length.
const maxLength = 65_535

// uncounted is how much of the header that field does not count.
func uncounted(header []byte) int {
	if header[0]>>4 == 6 {
		return 40
	}
	return 0
}

// whole writes the datagram's header behind dst, for so many bytes of data.
func (f *Fragment) whole(dst []byte, upper uint8, data int) []byte {
	at := len(dst)
	dst = append(dst, f.Header...)
	h := dst[at:]
	h[f.Next] = upper
	length := uint16(len(h) - uncounted(h) + data)
	if h[0]>>4 == 6 {
		binary.BigEndian.PutUint16(h[4:], length)
		return dst
	}
	binary.BigEndian.PutUint16(h[2:], length)
	h[6], h[7], h[10], h[11] = 0, 0, 0, 0
	binary.BigEndian.PutUint16(h[10:], ^sum(h))
	return dst
}

// sum is the ones' complement sum of RFC 1071 over a header.
func sum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
