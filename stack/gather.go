package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// maxGathered bounds the flows whose segments are being gathered at a time; one
// more has the oldest delivered.
const maxGathered = 16

// maxPacketBytes is the longest IPv4 packet, RFC 791 §3.1.
const maxPacketBytes = 65_535

// plainHeader is the first byte of an IPv4 packet without options.
const plainHeader = 0x45

// gathering joins segments of a flow that follow each other into one, as the
// kernel's GRO does (net/ipv4/tcp_offload.c), for netstack's cost is by the
// segment. What it is given has to stay until flush.
type gathering struct {
	open []gathered
	// joined counts segments that went in as a part of another.
	joined uint64
}

// gathered is a run of segments that differ in nothing but what must differ.
type gathered struct {
	head    []byte // the first packet
	ip      int    // bytes of its IP header, which tell its family
	headers int    // bytes of all its headers
	segment int    // bytes of data in each but the last
	next    uint32 // the number that follows
	total   int    // bytes of the joined packet
	rest    [][]byte
	// ended: nothing may follow, for the last was pushed or short.
	ended bool
	push  uint8
}

// Gather hands an IP packet to netstack as Deliver does, at the latest with
// the next Flush, until which the caller leaves the packet's bytes alone.
func (s *Stack) Gather(ip []byte) {
	g := &s.gathering
	ipBytes, headers, ok := joinable(ip)
	for i := range g.open {
		if !g.open[i].sameFlow(ip) {
			continue
		}
		if ok && g.open[i].join(ip, headers) {
			g.joined++
			return
		}
		s.deliverOpen(i)
		break
	}
	if !ok {
		if !plain(ip) {
			// Whose it is was not looked at.
			s.Flush()
		}
		s.Deliver(ip)
		return
	}
	if len(g.open) == maxGathered {
		s.deliverOpen(0)
	}
	g.begin(ip, ipBytes, headers)
}

// Joined counts the segments that came to netstack as a part of another.
func (s *Stack) Joined() uint64 { return s.gathering.joined }

// Flush delivers what Gather still has.
func (s *Stack) Flush() {
	for i := range s.gathering.open {
		s.link.deliverGathered(&s.gathering.open[i])
	}
	s.gathering.open = s.gathering.open[:0]
}

// deliverOpen delivers one run and keeps the order of the others. Its array of
// parts goes to the end, to be used again.
func (s *Stack) deliverOpen(i int) {
	open := s.gathering.open
	g := open[i]
	s.link.deliverGathered(&g)
	copy(open[i:], open[i+1:])
	open[len(open)-1] = gathered{rest: g.rest[:0]}
	s.gathering.open = open[:len(open)-1]
}

func (g *gathering) begin(ip []byte, ipBytes, headers int) {
	if len(g.open) < cap(g.open) {
		g.open = g.open[:len(g.open)+1]
	} else {
		g.open = append(g.open, gathered{})
	}
	size, tcp := len(ip)-headers, ip[ipBytes:]
	o := &g.open[len(g.open)-1]
	*o = gathered{
		head: ip, ip: ipBytes, headers: headers, segment: size, total: len(ip), rest: o.rest[:0],
		next: binary.BigEndian.Uint32(tcp[4:]) + uint32(size), push: tcp[13] & uint8(header.TCPFlagPsh),
	}
	o.ended = o.push != 0
}

// plain reports whether a packet has its ports where joinable and sameFlow look for
// them: it has no IP options, and no extension headers in front of TCP.
func plain(ip []byte) bool {
	switch {
	case len(ip) == 0 || ip[0] == plainHeader:
		return true
	case ip[0]>>4 == header.IPv6Version:
		return len(ip) > 6 && ip[6] == uint8(header.TCPProtocolNumber)
	}
	return false
}

// joinable reports whether a packet may be a part of a run, and how long its IP
// header and all its headers are: data with ACK and at most PSH.
func joinable(ip []byte) (ipBytes, headers int, ok bool) {
	switch {
	case len(ip) >= headerBytes && ip[0] == plainHeader && ip[9] == uint8(header.TCPProtocolNumber):
		ipBytes = header.IPv4MinimumSize
	case len(ip) >= headerBytes6 && ip[0]>>4 == header.IPv6Version && ip[6] == uint8(header.TCPProtocolNumber):
		ipBytes = header.IPv6MinimumSize
	default:
		return 0, 0, false
	}
	tcp := ip[ipBytes:]
	headers = ipBytes + int(tcp[12]>>4)*4
	flags := header.TCPFlags(tcp[13])
	return ipBytes, headers, headers < len(ip) && flags|header.TCPFlagPsh == header.TCPFlagAck|header.TCPFlagPsh
}

// sameFlow compares addresses and ports of a packet with those of the run.
func (g *gathered) sameFlow(b []byte) bool {
	a := g.head
	if g.ip == header.IPv6MinimumSize {
		return len(b) >= 44 && b[0]>>4 == header.IPv6Version && [36]byte(a[8:]) == [36]byte(b[8:])
	}
	return len(b) >= 24 && [12]byte(a[12:]) == [12]byte(b[12:]) && b[0]>>4 == header.IPv4Version
}

// join takes a packet of its flow as the next of the run, if it is: the numbers
// follow, and what the IP header says beside them, acknowledgment, length of the
// header, window and options are the same.
func (g *gathered) join(ip []byte, headers int) bool {
	a, b, size := g.head[g.ip:], ip[g.ip:], len(ip)-headers
	switch {
	case g.ended, size > g.segment, g.total+size > maxPacketBytes,
		binary.BigEndian.Uint32(b[4:]) != g.next,
		!g.sameHeader(ip),
		[5]byte(a[8:]) != [5]byte(b[8:]), [2]byte(a[14:]) != [2]byte(b[14:]),
		string(a[header.TCPMinimumSize:g.headers-g.ip]) != string(b[header.TCPMinimumSize:headers-g.ip]):
		return false
	}
	g.rest = append(g.rest, ip[headers:])
	g.total += size
	g.next += uint32(size)
	g.push |= b[13] & uint8(header.TCPFlagPsh)
	g.ended = g.push != 0 || size < g.segment
	return true
}

// sameHeader compares what else the IP headers say: of IPv4 type of service, flags
// of fragments and time to live, of IPv6 class, flow label and hop limit.
func (g *gathered) sameHeader(ip []byte) bool {
	a := g.head
	if g.ip == header.IPv6MinimumSize {
		return [4]byte(a) == [4]byte(ip) && a[7] == ip[7]
	}
	return a[1] == ip[1] && [2]byte(a[6:]) == [2]byte(ip[6:]) && a[8] == ip[8]
}

// deliverGathered hands a run to netstack as one packet.
func (l *linkEndpoint) deliverGathered(g *gathered) {
	if len(g.rest) == 0 {
		l.deliver(g.head)
		return
	}
	v := buffer.NewViewSize(g.total)
	b := v.AsSlice()
	at := copy(b, g.head)
	for i, part := range g.rest {
		at += copy(b[at:], part)
		g.rest[i] = nil
	}
	b[g.ip+13] |= g.push
	if g.ip == header.IPv6MinimumSize {
		header.IPv6(b).SetPayloadLength(uint16(g.total - g.ip))
		l.deliverView(v)
		return
	}
	ip := header.IPv4(b)
	ip.SetTotalLength(uint16(g.total))
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	l.deliverView(v)
}
