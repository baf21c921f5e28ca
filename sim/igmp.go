package sim

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Messages of IGMP (RFC 2236 §2, RFC 3376 §4) and MLD (RFC 2710 §3, RFC 3810 §5).
const (
	protoIGMP     = 2
	protoICMPv6   = 58
	protoHopByHop = 0
	etherIPv6     = 0x86dd
	ip6Bytes      = 40
	routerAlert6  = 8 // bytes of the hop-by-hop header that MLD comes with

	igmpQuery    = 0x11
	igmpReportV1 = 0x12
	igmpReportV2 = 0x16
	igmpLeave    = 0x17
	igmpReportV3 = 0x22
	mldQuery     = 130
	mldReport    = 131
	mldDone      = 132
	mldReportV2  = 143

	maxRecords = 64 // group records of a report that are looked at
)

type membershipKind int

const (
	membershipQuery membershipKind = iota + 1
	membershipReport
	membershipLeave
)

// membershipMessage is what an IGMP or MLD message says. Of a query the group is
// the one asked for, none for a general one; of a report of version 3 those groups
// are here that its kind is for.
type membershipMessage struct {
	kind     membershipKind
	source   netip.Addr
	groups   []netip.Addr
	response time.Duration // of a query: until when answers are wanted
}

func allNodes() netip.Addr   { return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 1}) }
func allRouters() netip.Addr { return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 2}) }
func allHosts4() netip.Addr  { return netip.AddrFrom4([4]byte{224, 0, 0, 1}) }
func allRouters4() netip.Addr {
	return netip.AddrFrom4([4]byte{224, 0, 0, 2})
}

// parseMembership reads a message with right checksums. Nothing else counts (RFC
// 4541 §2.1.1 (5)).
func parseMembership(frame []byte) (m membershipMessage, ok bool) {
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherIPv4:
		src, _, proto, body, whole := parseIPv4(frame)
		if !whole || proto != protoIGMP || len(body) < 8 || onesSum(0, body) != 0xffff {
			return m, false
		}
		m.source = src
		m.readIGMP(body)
	case etherIPv6:
		b := frame[MinFrame:]
		if len(b) < ip6Bytes+routerAlert6+24 || b[0]>>4 != 6 || b[6] != protoHopByHop || b[ip6Bytes] != protoICMPv6 || b[ip6Bytes+1] != 0 {
			return m, false
		}
		m.source = netip.AddrFrom16([16]byte(b[8:]))
		dst := netip.AddrFrom16([16]byte(b[24:]))
		end := ip6Bytes + int(binary.BigEndian.Uint16(b[4:]))
		if end > len(b) || end < ip6Bytes+routerAlert6+24 {
			return m, false
		}
		body := b[ip6Bytes+routerAlert6 : end]
		if onesSum(pseudoSum6(m.source, dst, protoICMPv6, len(body)), body) != 0xffff {
			return m, false
		}
		m.readMLD(body)
	}
	return m, m.kind != 0
}

func (m *membershipMessage) readIGMP(b []byte) {
	group := netip.AddrFrom4([4]byte(b[4:]))
	switch b[0] {
	case igmpQuery:
		m.kind, m.response = membershipQuery, time.Duration(b[1])*100*time.Millisecond
		if !group.IsUnspecified() {
			m.groups = append(m.groups, group)
		}
	case igmpReportV1, igmpReportV2:
		m.one(membershipReport, group)
	case igmpLeave:
		m.one(membershipLeave, group)
	case igmpReportV3:
		m.records(b[8:], int(binary.BigEndian.Uint16(b[6:])), 4)
	}
}

func (m *membershipMessage) readMLD(b []byte) {
	group := netip.AddrFrom16([16]byte(b[8:]))
	switch b[0] {
	case mldQuery:
		m.kind, m.response = membershipQuery, time.Duration(binary.BigEndian.Uint16(b[4:]))*time.Millisecond
		if !group.IsUnspecified() {
			m.groups = append(m.groups, group)
		}
	case mldReport:
		m.one(membershipReport, group)
	case mldDone:
		m.one(membershipLeave, group)
	case mldReportV2:
		m.records(b[8:], int(binary.BigEndian.Uint16(b[6:])), 16)
	}
}

func (m *membershipMessage) one(kind membershipKind, group netip.Addr) {
	if group.IsMulticast() {
		m.kind, m.groups = kind, append(m.groups, group)
	}
}

// records reads the group records of RFC 3376 §4.2.4 and RFC 3810 §5.2.4, whose
// addresses have size bytes. A record that includes no source leaves the group; all
// others join it, from whatever source (RFC 4541 §2.1.2 (3)). A message with both
// is read as a report: a leave is then found by the membership's end.
func (m *membershipMessage) records(b []byte, count, size int) {
	var left []netip.Addr
	for range min(count, maxRecords) {
		if len(b) < 4+size {
			break
		}
		kind, aux, sources := b[0], int(b[1]), int(binary.BigEndian.Uint16(b[2:]))
		group, _ := netip.AddrFromSlice(b[4 : 4+size])
		next := 4 + size + sources*size + 4*aux
		if next > len(b) {
			break
		}
		b = b[next:]
		switch including := kind == 1 || kind == 3; {
		case !group.IsMulticast() || kind < 1 || kind > 5:
		case including && sources == 0:
			left = append(left, group)
		default:
			m.kind, m.groups = membershipReport, append(m.groups, group)
		}
	}
	if m.kind == 0 && len(left) > 0 {
		m.kind, m.groups = membershipLeave, left
	}
}

// queries are those for a group, or for all if it is not valid: IGMPv2's and
// MLDv1's, nil for the family that the group is not of. The MLD one comes from ::
// or, if there is an IPv4 address, from a link-local one made of it.
func queries(group netip.Addr, mac MAC, from netip.Addr, response time.Duration) (out [2][]byte) {
	from4, from6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	if from.Is4() {
		b := from.As4()
		from4, from6 = from, netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 12: b[0], 13: b[1], 14: b[2], 15: b[3]})
	}
	to4, to6 := allHosts4(), allNodes()
	if group.IsValid() {
		to4, to6 = group, group
	}
	if !group.Is6() {
		out[0] = igmpFrame(mac, from4, to4, igmpQuery, byte(response/(100*time.Millisecond)), group)
	}
	if !group.Is4() {
		out[1] = mldFrame(mac, from6, to6, mldQuery, uint16(response/time.Millisecond), group)
	}
	return out
}

// igmpFrame is a message of RFC 2236 §2: type, response time, checksum, group. The
// router alert that real ones carry in their IP header is left out.
func igmpFrame(mac MAC, from, to netip.Addr, kind, response byte, group netip.Addr) []byte {
	b := make([]byte, 8)
	b[0], b[1] = kind, response
	if group.IsValid() {
		copy(b[4:], group.AsSlice())
	}
	binary.BigEndian.PutUint16(b[2:], ^onesSum(0, b))
	return groupFrame(mac, from, to, protoIGMP, 1, b)
}

// mldFrame is a message of RFC 2710 §3, behind the router alert of its §3: type,
// code, checksum, response delay, 0, group.
func mldFrame(mac MAC, from, to netip.Addr, kind byte, response uint16, group netip.Addr) []byte {
	b := make([]byte, 24)
	b[0] = kind
	binary.BigEndian.PutUint16(b[4:], response)
	if group.IsValid() {
		copy(b[8:], group.AsSlice())
	}
	binary.BigEndian.PutUint16(b[2:], ^onesSum(pseudoSum6(from, to, protoICMPv6, len(b)), b))
	f := appendEthernet(make([]byte, 0, MinFrame+ip6Bytes+routerAlert6+len(b)), groupMAC(to), mac, etherIPv6)
	f = append(f, 0x60, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(routerAlert6+len(b)))
	f = append(f, protoHopByHop, 1) // one hop
	f = append(append(f, from.AsSlice()...), to.AsSlice()...)
	f = append(f, protoICMPv6, 0, 5, 2, 0, 0, 1, 0) // router alert: MLD (RFC 2711), padding
	return append(f, b...)
}

// pseudoSum6 is the sum over the pseudo-header of RFC 8200 §8.1.
func pseudoSum6(src, dst netip.Addr, proto byte, length int) uint16 {
	var b [40]byte
	copy(b[0:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	binary.BigEndian.PutUint32(b[32:], uint32(length))
	b[39] = proto
	return onesSum(0, b[:])
}
