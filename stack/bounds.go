package stack

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
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
	// squeezed are those that have been, and had room for more before.
	squeezed []squeezed
	relaxAt  time.Duration
}

// squeezed is a flow whose receive buffer had so many bytes.
type squeezed struct {
	flow *flow
	had  int64
}

// relaxInterval is how often squeezed flows are looked at.
const relaxInterval = time.Second

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
			b.squeezed = append(b.squeezed, squeezed{f, f.client.squeeze()})
		}
		b.squeeze[i] = nil
	}
	if b.squeeze = b.squeeze[n:]; len(b.squeeze) > 0 {
		s.poller.Wake()
	}
}

// relax gives flows back what they had for receiving that could never go on without
// it: what came out of order, before they were squeezed, fills the buffer, and the
// segment that all of it waits for finds no room.
func (s *Stack) relax(now time.Duration) {
	b := &s.bounds
	if len(b.squeezed) == 0 || now < b.relaxAt {
		return
	}
	b.relaxAt = now + relaxInterval
	b.squeezed = slices.DeleteFunc(b.squeezed, func(q squeezed) bool {
		if q.flow.state == flowEnded {
			return true
		}
		waits := q.flow.client.glutted() > 0 && q.flow.client.unread() == 0
		if waits {
			q.flow.client.widen(q.had)
		}
		return waits
	})
}

// squeeze makes the buffers small, and returns how many bytes that for receiving had. A
// window that the client was told of is kept.
func (s *stream) squeeze() (had int64) {
	o := s.ep.SocketOptions()
	had = o.GetReceiveBufferSize()
	o.SetSendBufferSize(tightBytes, true)
	o.SetReceiveBufferSize(tightBytes, true)
	return had
}

func (s *stream) widen(bytes int64) { s.ep.SocketOptions().SetReceiveBufferSize(bytes, true) }

// unread is how many bytes have come in order and wait for the backend.
func (s *stream) unread() int {
	// Netstack has this option for every TCP endpoint.
	n, _ := s.ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	return n
}

// glutted counts the segments that netstack had no room for: it takes one more while
// what it holds is within the buffer, and so bounds what a client sends into a window
// that it was told of before.
func (s *stream) glutted() uint64 {
	stats, ok := s.ep.Stats().(*tcp.Stats)
	if !ok {
		return 0
	}
	return stats.ReceiveErrors.SegmentQueueDropped.Value()
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
