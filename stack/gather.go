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
	headers int    // bytes of its headers
	segment int    // bytes of data in each but the last
	next    uint32 // the number that follows
	total   int    // bytes of the joined packet
	rest    [][]byte
	// ended: nothing may follow, for the last was pushed or short.
	ended bool
	push  uint8
}

// Gather hands an IPv4 packet to netstack as Deliver does, at the latest with
// the next Flush, until which the caller leaves the packet's bytes alone.
func (s *Stack) Gather(ip []byte) {
	g := &s.gathering
	headers, ok := joinable(ip)
	for i := range g.open {
		if !sameFlow(g.open[i].head, ip) {
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
		if len(ip) > 0 && ip[0] != plainHeader {
			// Whose it is was not looked at.
			s.Flush()
		}
		s.Deliver(ip)
		return
	}
	if len(g.open) == maxGathered {
		s.deliverOpen(0)
	}
	g.begin(ip, headers)
}

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

func (g *gathering) begin(ip []byte, headers int) {
	if len(g.open) < cap(g.open) {
		g.open = g.open[:len(g.open)+1]
	} else {
		g.open = append(g.open, gathered{})
	}
	size := len(ip) - headers
	o := &g.open[len(g.open)-1]
	*o = gathered{
		head: ip, headers: headers, segment: size, total: len(ip), rest: o.rest[:0],
		next: binary.BigEndian.Uint32(ip[24:]) + uint32(size), push: ip[33] & uint8(header.TCPFlagPsh),
	}
	o.ended = o.push != 0
}

// joinable reports whether a packet may be a part of a run, and how long its
// headers are: data with ACK and at most PSH, and no IP options.
func joinable(ip []byte) (headers int, ok bool) {
	if len(ip) < headerBytes || ip[0] != plainHeader || ip[9] != uint8(header.TCPProtocolNumber) {
		return 0, false
	}
	headers = header.IPv4MinimumSize + int(ip[32]>>4)*4
	flags := header.TCPFlags(ip[33])
	return headers, headers < len(ip) && flags|header.TCPFlagPsh == header.TCPFlagAck|header.TCPFlagPsh
}

// sameFlow compares addresses and ports of two packets; the first has no IP
// options and is TCP.
func sameFlow(a, b []byte) bool {
	return len(b) >= 24 && [12]byte(a[12:]) == [12]byte(b[12:])
}

// join takes a packet as the next of the run, if it is: the numbers follow, and
// type of service, flags of fragments, time to live, acknowledgment, length of
// the header, window and options are the same.
func (g *gathered) join(ip []byte, headers int) bool {
	a, size := g.head, len(ip)-headers
	switch {
	case g.ended, size > g.segment, g.total+size > maxPacketBytes,
		binary.BigEndian.Uint32(ip[24:]) != g.next,
		a[1] != ip[1], [2]byte(a[6:]) != [2]byte(ip[6:]), a[8] != ip[8],
		[5]byte(a[28:]) != [5]byte(ip[28:]), [2]byte(a[34:]) != [2]byte(ip[34:]),
		string(a[headerBytes:headers]) != string(ip[headerBytes:headers]):
		return false
	}
	g.rest = append(g.rest, ip[headers:])
	g.total += size
	g.next += uint32(size)
	g.push |= ip[33] & uint8(header.TCPFlagPsh)
	g.ended = g.push != 0 || size < g.segment
	return true
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
	b[33] |= g.push
	ip := header.IPv4(b)
	ip.SetTotalLength(uint16(g.total))
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	l.deliverView(v)
}
