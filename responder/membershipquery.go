package responder

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// MembershipOutcome is what was decided about an IGMP or MLD message.
type MembershipOutcome uint8

// Outcomes of Membership.Handle.
const (
	// MembershipAsked: a query, which is answered.
	MembershipAsked MembershipOutcome = iota
	// MembershipLimited: a query too soon after others.
	MembershipLimited
	// MembershipNotOurs: a query for other groups, or a message that is no query.
	MembershipNotOurs
	// MembershipBad: malformed, or from where no querier is.
	MembershipBad
)

// Messages of IGMP (RFC 3376 §4) and MLD (RFC 3810 §5).
const (
	protoIGMP     = 2
	hopByHopBytes = 8 // as MLD has it: a router alert and two bytes of padding

	igmpQuery    = 0x11
	igmpReport1  = 0x12
	igmpReport2  = 0x16
	igmpLeave    = 0x17
	igmpReport3  = 0x22
	mldQuery     = 130
	mldReport1   = 131
	mldDone      = 132
	mldReport2   = 143
	igmpBytes    = 8
	igmp3Bytes   = 12
	mldBytes     = 24
	mld2Bytes    = 28
	maxResp3     = 128
	maxRespMLD2  = 32768
	deciseconds  = 100 * time.Millisecond
	milliseconds = time.Millisecond
)

// IsMembership reports whether a frame carries IGMP, or MLD behind the header that
// it always has. It reads headers only.
func IsMembership(frame []byte) bool {
	if len(frame) < ethernetBytes+ipv4Bytes {
		return false
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherTypeIPv4:
		return frame[ethernetBytes+9] == protoIGMP
	case etherTypeIPv6:
		b := frame[ethernetBytes:]
		if len(b) < ipv6Bytes+hopByHopBytes+1 || b[6] != 0 || b[ipv6Bytes] != protoICMPv6 || b[ipv6Bytes+1] != 0 {
			return false
		}
		kind := b[ipv6Bytes+hopByHopBytes]
		return kind >= mldQuery && kind <= mldDone || kind == mldReport2
	}
	return false
}

// query is a membership query.
type query struct {
	from netip.Addr
	// group is the one asked for, the zero Addr for all.
	group netip.Addr
	// response is within which time answers are wanted.
	response time.Duration
	// version is IGMP's; MLDv1 is 2 and MLDv2 is 3.
	version int
	// robustness is the querier's, 0 when it does not say.
	robustness int
}

// concerns reports whether a group has to be answered for. A query that names
// sources, too, is one for its group: every source is wanted.
func (q *query) concerns(group netip.Addr) bool { return !q.group.IsValid() || q.group == group }

// readQuery takes a frame apart: MembershipAsked with a query, or why there is
// none.
func (m *Membership) readQuery(frame []byte) (query, MembershipOutcome) {
	if !IsMembership(frame) || m.addr.Is4() != (binary.BigEndian.Uint16(frame[12:]) == etherTypeIPv4) {
		return query{}, MembershipNotOurs
	}
	if from := MAC(frame[6:12]); from == m.own || !from.isStation() {
		return query{}, MembershipBad
	}
	if m.addr.Is4() {
		return readIGMP(frame[ethernetBytes:])
	}
	return readMLD(frame[ethernetBytes:])
}

// readIGMP reads a packet with a message of IGMP (RFC 3376 §4.1, RFC 2236 §2):
//
//	0      1          2          4               8            9      10        12
//	| type | response | checksum | group address | S, QRV     | QQIC | sources | …
//
// All have a time to live of 1: what comes from farther is nobody's of this LAN.
func readIGMP(b []byte) (q query, o MembershipOutcome) {
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if b[0]>>4 != 4 || header < ipv4Bytes || total < header+igmpBytes || total > len(b) ||
		Sum(0, b[:header]) != 0xffff || JudgeOptions(b[ipv4Bytes:header]) != Unjudged ||
		binary.BigEndian.Uint16(b[6:])&(moreFragments|offsetMask) != 0 || b[8] != 1 {
		return q, MembershipBad
	}
	q.from = netip.AddrFrom4([4]byte(b[12:16]))
	b = b[header:total]
	switch {
	case Sum(0, b) != 0xffff || q.from.IsMulticast() || q.from.IsLoopback():
		return q, MembershipBad
	case b[0] != igmpQuery:
		return q, MembershipNotOurs
	}
	// RFC 3376 §7.1: versions differ in length and response time, and a query of
	// another length is ignored.
	switch {
	case len(b) == igmpBytes && b[1] == 0:
		q.version, q.response = version1, version1Response
	case len(b) == igmpBytes:
		q.version, q.response = version2, time.Duration(b[1])*deciseconds
	case len(b) >= igmp3Bytes:
		q.version, q.response, q.robustness = version3, time.Duration(floating8(b[1]))*deciseconds, int(b[8]&7)
	default:
		return q, MembershipBad
	}
	return q, q.read(netip.AddrFrom4([4]byte(b[4:8])))
}

// readMLD reads a packet with a message of MLD (RFC 3810 §5.1, RFC 2710 §3) behind
// its hop-by-hop header:
//
//	0      1      2          4          6   8               24       25     26        28
//	| type | code | checksum | response | 0 | group address | S, QRV | QQIC | sources | …
//
// RFC 3810 §6.2: a query comes from a link-local address, with a hop limit of 1
// and a router alert.
func readMLD(b []byte) (q query, o MembershipOutcome) {
	end := ipv6Bytes + int(binary.BigEndian.Uint16(b[4:]))
	if b[0]>>4 != 6 || end > len(b) || end < ipv6Bytes+hopByHopBytes+mldBytes || b[7] != 1 || !hasRouterAlert(b[ipv6Bytes:ipv6Bytes+hopByHopBytes]) {
		return q, MembershipBad
	}
	src, dst := [16]byte(b[8:24]), [16]byte(b[24:40])
	q.from = netip.AddrFrom16(src)
	b = b[ipv6Bytes+hopByHopBytes : end]
	switch {
	case Sum(PseudoSum6(&src, &dst, protoICMPv6, len(b)), b) != 0xffff:
		return q, MembershipBad
	case b[0] != mldQuery:
		return q, MembershipNotOurs
	case !q.from.IsLinkLocalUnicast():
		return q, MembershipBad
	}
	// RFC 3810 §8.1.
	code := binary.BigEndian.Uint16(b[4:])
	switch {
	case len(b) == mldBytes:
		q.version, q.response = version2, time.Duration(code)*milliseconds
	case len(b) >= mld2Bytes:
		q.version, q.response, q.robustness = version3, time.Duration(floating16(code))*milliseconds, int(b[24]&7)
	default:
		return q, MembershipBad
	}
	return q, q.read(netip.AddrFrom16([16]byte(b[8:24])))
}

// read takes the group of a query in.
func (q *query) read(group netip.Addr) MembershipOutcome {
	switch {
	case group.IsUnspecified():
	case group.IsMulticast():
		q.group = group
	default:
		return MembershipBad
	}
	return MembershipAsked
}

// hasRouterAlert looks for the option of RFC 2711 §2.1 with the value that MLD has
// among the six bytes of options of a hop-by-hop header (RFC 8200 §4.2, §4.3).
func hasRouterAlert(header []byte) bool {
	const pad1, routerAlert = 0, 5
	for b := header[2:]; len(b) > 0; {
		if b[0] == pad1 {
			b = b[1:]
			continue
		}
		if len(b) < 2 || 2+int(b[1]) > len(b) {
			return false
		}
		if b[0] == routerAlert && b[1] == 2 && b[2] == 0 && b[3] == 0 {
			return true
		}
		b = b[2+int(b[1]):]
	}
	return false
}

// floating8 is the number of RFC 3376 §4.1.1: linear below 128, and above it three
// bits of exponent and four of mantissa.
func floating8(code byte) int {
	if code < maxResp3 {
		return int(code)
	}
	return int(code&0xf|0x10) << (code>>4&7 + 3)
}

// floating16 is the number of RFC 3810 §5.1.3, with twelve bits of mantissa.
func floating16(code uint16) int {
	if code < maxRespMLD2 {
		return int(code)
	}
	return int(code&0xfff|0x1000) << (code>>12&7 + 3)
}
