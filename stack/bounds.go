package stack

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"onevoice/hashing"
)

// generous is how many flows one source may have for each that is left free: one
// alone gets 8/9 of all, two get 8/17 each, and room for others is always left. It is
// the dynamic threshold of buffers that queues share (Choudhury and Hahne, 1998).
const generous = 8

// Memory is how much of its memory a stack's process has used up.
type Memory uint8

// Memories.
const (
	// Ample: flows have the buffers that serve them best.
	Ample Memory = iota
	// Tight: no flow's buffers grow any more, and what they hold beyond tightBytes is
	// only sent, or read by the backend.
	Tight
	// Full: besides, no further flow begins.
	Full
)

// String is the word in status.
func (m Memory) String() string { return [...]string{"ample", "tight", "full"}[m] }

// tightBytes is a flow's buffer in each direction while memory is tight.
const tightBytes = 32 << 10

// tightPerTurn bounds the flows whose buffers one turn changes.
const tightPerTurn = 1024

// bounds are what new flows are measured by, and the buffers of all.
type bounds struct {
	limit int
	// sources is how many flows each has, an IPv6 /64 counting as one.
	sources map[netip.Addr]int
	memory  Memory
	// squeeze are the flows whose buffers are to be changed, in this turn or a later.
	squeeze []*flow
}

func newBounds(limit int) bounds {
	if limit <= 0 || limit > MaxFlows {
		limit = MaxFlows
	}
	return bounds{limit: limit, sources: map[netip.Addr]int{}}
}

// sourceOf is what flows are counted by.
func sourceOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return a
	}
	// The length is right for the address, so it is no error.
	p, _ := a.Prefix(64)
	return p.Addr()
}

func (b *bounds) count(from netip.Addr, by int) {
	source := sourceOf(from)
	if n := b.sources[source] + by; n > 0 {
		b.sources[source] = n
	} else {
		delete(b.sources, source)
	}
}

// Limit is how many flows there may be.
func (s *Stack) Limit() int { return s.bounds.limit }

// Memory is what SetMemory has said.
func (s *Stack) Memory() Memory { return s.bounds.memory }

// Full reports whether no further flow may begin: Limit is reached, or memory is
// full.
func (s *Stack) Full() bool {
	return len(s.flows) >= s.bounds.limit || s.bounds.memory == Full
}

// Crowded reports whether a source has its share of what is left: flows that run go
// on, and others may still begin some.
func (s *Stack) Crowded(from netip.Addr) bool {
	has := s.bounds.sources[sourceOf(from)]
	if has >= generous*(s.bounds.limit-len(s.flows)) {
		return true
	}
	// Memory does not say how many flows it has room for: who has more than others
	// waits.
	return s.bounds.memory == Tight && has*len(s.bounds.sources) > 2*len(s.flows)
}

// SetMemory says how much of the process's memory is used up. When it gets tight all
// flows get small buffers; those that begin when it is ample again have usual ones.
func (s *Stack) SetMemory(m Memory) {
	if was := s.bounds.memory; was == Ample && m != Ample {
		s.bounds.squeeze = s.bounds.squeeze[:0]
		for _, f := range s.flows {
			s.bounds.squeeze = append(s.bounds.squeeze, f)
		}
	}
	s.bounds.memory = m
}

// squeeze makes the buffers of some flows small. What is in them stays.
func (s *Stack) squeeze() {
	b := &s.bounds
	n := min(len(b.squeeze), tightPerTurn)
	for i, f := range b.squeeze[:n] {
		if f.state != flowEnded {
			f.client.squeeze()
		}
		b.squeeze[i] = nil
	}
	if b.squeeze = b.squeeze[n:]; len(b.squeeze) > 0 {
		s.poller.Wake()
	}
}

// glutted reports whether a segment with data, whose IP header is so long, is of a
// flow whose backend has not taken tightBytes that came before. The client may have
// been told of a window that is much wider, while memory was ample.
func (s *Stack) glutted(ip []byte, ipBytes int) bool {
	src, dst := ip[12:16], ip[16:20]
	if ipBytes == header.IPv6MinimumSize {
		src, dst = ip[8:24], ip[24:40]
	}
	f := hashing.Flow{
		SrcPort: binary.BigEndian.Uint16(ip[ipBytes:]), DstPort: binary.BigEndian.Uint16(ip[ipBytes+2:]), Proto: uint8(header.TCPProtocolNumber),
	}
	// They are of the right length.
	f.Src, _ = netip.AddrFromSlice(src)
	f.Dst, _ = netip.AddrFromSlice(dst)
	ep := s.endpoint(&f)
	if ep == nil {
		return false
	}
	n, err := ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	return err == nil && n > tightBytes
}

// squeeze makes the buffers small. A window that the client was told of is kept.
func (s *stream) squeeze() {
	s.ep.SocketOptions().SetSendBufferSize(tightBytes, true)
	s.ep.SocketOptions().SetReceiveBufferSize(tightBytes, true)
}

// exhausted reports an error that is of this process or host, and says nothing about
// a backend: descriptors or memory are used up.
func exhausted(err error) bool {
	for _, e := range []unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
