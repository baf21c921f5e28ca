package responder

import (
	"encoding/binary"
	"net/netip"
)

// Kinds of group records (RFC 3376 §4.2.12, RFC 3810 §5.2.12).
const (
	recordIsExclude = 2 // answers a query: the group is wanted
	recordToInclude = 3 // from no source: the group was left
	recordToExclude = 4 // the group was joined
)

// record is what a report says of a group.
type record struct {
	kind  int
	group netip.Addr
}

// reportFrame is a report of IGMPv3 (RFC 3376 §4.2) or MLDv2 (RFC 3810 §5.2), of
// which all records have no sources:
//
//	0      1   2          4   6         8
//	| type | 0 | checksum | 0 | records | record …
//	0      1                 2         4
//	| kind | words of data 0 | sources | group address
func (m *Membership) reportFrame(records []record) []byte {
	to, kind := netip.AddrFrom4([4]byte{224, 0, 0, 22}), byte(igmpReport3)
	if m.addr.Is6() {
		to, kind = linkGroup(22), mldReport2
	}
	b := []byte{kind, 0, 0, 0, 0, 0, 0, byte(len(records))}
	for _, r := range records {
		b = append(b, byte(r.kind), 0, 0, 0)
		b = append(b, r.group.AsSlice()...)
	}
	return m.frame(to, b)
}

// oldFrame is a message of the older versions: a report goes to the group itself,
// and a leave to all routers (RFC 2236 §9, RFC 2710 §5). Version 1 says nothing
// when it leaves.
func (m *Membership) oldFrame(r record) []byte {
	leaves := r.kind == recordToInclude
	if m.addr.Is6() {
		to, kind := r.group, byte(mldReport1)
		if leaves {
			to, kind = linkGroup(2), mldDone
		}
		b := append(make([]byte, 0, mldBytes), kind, 0, 0, 0, 0, 0, 0, 0)
		return m.frame(to, append(b, r.group.AsSlice()...))
	}
	to, kind := r.group, byte(igmpReport2)
	switch {
	case leaves && m.version == version1:
		return nil
	case leaves:
		to, kind = netip.AddrFrom4([4]byte{224, 0, 0, 2}), igmpLeave
	case m.version == version1:
		kind = igmpReport1
	}
	return m.frame(to, append([]byte{kind, 0, 0, 0}, r.group.AsSlice()...))
}

// linkGroup is one of IPv6's groups of the link, ff02::n.
func linkGroup(n byte) netip.Addr { return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: n}) }

// frame puts a message, of which the checksum is still 0, into a packet from this
// host to a group. It dies at the first router, carries a router alert, and is of
// the class of network control (RFC 3376 §4, RFC 3810 §5).
func (m *Membership) frame(to netip.Addr, message []byte) []byte {
	mac := GroupMAC(to)
	f := append(append(make([]byte, 0, 128), mac[:]...), m.own[:]...)
	if m.addr.Is4() {
		binary.BigEndian.PutUint16(message[2:], ^Sum(0, message))
		return appendIGMP(f, m.addr.As4(), to.As4(), message)
	}
	src, dst := m.addr.As16(), to.As16()
	binary.BigEndian.PutUint16(message[2:], ^Sum(PseudoSum6(&src, &dst, protoICMPv6, len(message)), message))
	f = binary.BigEndian.AppendUint16(f, etherTypeIPv6)
	f = append(f, 0x6c, 0, 0, 0) // traffic class 0xc0
	f = binary.BigEndian.AppendUint16(f, uint16(hopByHopBytes+len(message)))
	f = append(f, 0, 1) // a hop-by-hop header; one hop
	f = append(append(f, src[:]...), dst[:]...)
	f = append(f, protoICMPv6, 0, 5, 2, 0, 0, 1, 0) // router alert: MLD (RFC 2711 §2.1); padding
	return append(f, message...)
}

// appendIGMP appends a packet whose header has the option of RFC 2113 §2.1.
func appendIGMP(f []byte, src, dst [4]byte, message []byte) []byte {
	const header = ipv4Bytes + 4
	f = binary.BigEndian.AppendUint16(f, etherTypeIPv4)
	at := len(f)
	f = append(f, 4<<4|header/4, 0xc0)
	f = binary.BigEndian.AppendUint16(f, uint16(header+len(message)))
	f = append(f, 0, 0, dontFragment>>8, 0, 1, protoIGMP, 0, 0)
	f = append(append(f, src[:]...), dst[:]...)
	f = append(f, 148, 4, 0, 0)
	binary.BigEndian.PutUint16(f[at+10:], ^Sum(0, f[at:]))
	return append(f, message...)
}
