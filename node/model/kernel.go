package model

import (
	"iter"
	"net/netip"
	"slices"
	"time"

	"onevoice/hashing"
	"onevoice/internal/inetdiag"
)

// States of a Kernel's sockets that package inetdiag does not name
// (include/net/tcp_states.h).
const (
	finWait1 inetdiag.State = 4
	finWait2 inetdiag.State = 5
	lastACK  inetdiag.State = 9
	closing  inetdiag.State = 11
)

// Times and bounds of Linux, at its defaults (ip-sysctl.rst).
const (
	kernelTimeWait   = 60 * time.Second // TCP_TIMEWAIT_LEN
	synACKTries      = 6                // tcp_synack_retries, and the first
	finTries         = 9                // tcp_orphan_retries, and the first
	leastRTO         = 200 * time.Millisecond
	kernelCookieTime = 120 * time.Second // TCP_SYNCOOKIE_VALID
)

// Kernel is a TCP with the manners of Linux, for simulations of the direct path: what
// package ingress's programs stand before. In what counts there it differs from TCP:
// it cannot be told to forget a flow in silence, a half-open connection resets what
// does not fit and goes on, and TIME-WAIT lasts for a minute and answers. A listening
// socket takes what no connection does. Its service takes what clients send and says
// nothing.
type Kernel struct {
	// Backlog bounds the half-open connections; beyond it SYNs are answered with
	// cookies (tcp_max_syn_backlog).
	Backlog int
	// CookiesSent counts them, and Begun what came to a connection or a cookie.
	CookiesSent, Begun uint64
	// Changes counts those of Sockets.
	Changes uint64

	isn     func() uint32
	sockets map[hashing.Flow]*socket
	half    int
	cookies map[hashing.Flow]handshake
	out     []Sent
	now     time.Duration
}

// Sent is an IPv4 packet that leaves. Open: a connection sends it, not a listening
// socket, and not the kernel in nobody's name.
type Sent struct {
	Packet []byte
	Open   bool
}

// Socket is one of a Kernel.
type Socket struct {
	Flow  hashing.Flow
	State inetdiag.State
	// Since is when its SYN came.
	Since time.Duration
	// Next is the sequence number that is expected, Sent that which is sent next.
	Next, Sent uint32
}

type socket struct {
	handshake
	state      inetdiag.State
	next, sent uint32
	// tries of what is repeated, at repeatAt, later each time; until is the end of
	// TIME-WAIT.
	tries                   int
	repeatAt, repeat, until time.Duration
	challenged              time.Duration
}

// NewKernel makes one whose initial sequence numbers come from isn.
func NewKernel(isn func() uint32) *Kernel {
	return &Kernel{Backlog: 4096, isn: isn, sockets: map[hashing.Flow]*socket{}, cookies: map[hashing.Flow]handshake{}}
}

// Socket is the one that takes a flow's segments, if it is not the listening one.
func (k *Kernel) Socket(f *hashing.Flow) (s Socket, ok bool) {
	c := k.sockets[*f]
	if c == nil {
		return s, false
	}
	return Socket{*f, c.state, c.at, c.next, c.sent}, true
}

// All are all sockets but the listening one, in no order.
func (k *Kernel) All() iter.Seq[Socket] {
	return func(yield func(Socket) bool) {
		for f := range k.sockets {
			if s, _ := k.Socket(&f); !yield(s) {
				return
			}
		}
	}
}

// Cookies are the SYN cookies that have not come back, in no order, and when each was sent.
func (k *Kernel) Cookies() iter.Seq2[hashing.Flow, time.Duration] {
	return func(yield func(hashing.Flow, time.Duration) bool) {
		for f, h := range k.cookies {
			if !yield(f, h.at) {
				return
			}
		}
	}
}

// Sockets are those of All, in order.
func (k *Kernel) Sockets() []Socket {
	out := slices.Collect(k.All())
	slices.SortFunc(out, func(a, b Socket) int { return inOrder(a.Flow, b.Flow) })
	return out
}

// Shut makes the service end its direction of a connection, and go on reading.
func (k *Kernel) Shut(now time.Duration, f *hashing.Flow) {
	k.now = now
	if c := k.sockets[*f]; c != nil && c.state == inetdiag.Established {
		k.finish(f, c, finWait1)
	}
}

// Destroy ends a socket as SOCK_DESTROY does (tcp_abort in net/ipv4/tcp.c).
func (k *Kernel) Destroy(f *hashing.Flow) {
	c := k.sockets[*f]
	if c == nil {
		return
	}
	switch c.state {
	case inetdiag.Established, finWait1, finWait2:
		k.send(f, true, flagRST|flagACK, c.sent, c.next)
	}
	k.remove(f, c)
}

// Take returns what was sent since the last call.
func (k *Kernel) Take() []Sent {
	out := k.out
	k.out = nil
	return out
}

// Tick repeats what was not acknowledged, and ends what has lived long enough.
func (k *Kernel) Tick(now time.Duration) {
	k.now = now
	var due []hashing.Flow
	for f, c := range k.sockets {
		switch {
		case c.state == inetdiag.TimeWait && now >= c.until:
			k.remove(&f, c)
		case c.tries > 0 && now >= c.repeatAt:
			due = append(due, f)
		}
	}
	slices.SortFunc(due, inOrder)
	for _, f := range due {
		k.again(&f, k.sockets[f])
	}
}

// again repeats a SYN-ACK or a FIN, or gives up.
func (k *Kernel) again(f *hashing.Flow, c *socket) {
	most := finTries
	if c.state == inetdiag.SYNRecv {
		most = synACKTries
	}
	if c.tries >= most {
		k.remove(f, c)
		return
	}
	c.tries++
	c.repeat *= 2
	c.repeatAt = k.now + c.repeat
	if c.state == inetdiag.SYNRecv {
		k.send(f, false, flagSYN|flagACK, c.own, c.client+1)
	} else {
		k.send(f, true, flagFIN|flagACK, c.sent-1, c.next)
	}
}

func (k *Kernel) remove(f *hashing.Flow, c *socket) {
	if c.state == inetdiag.SYNRecv {
		k.half--
	}
	delete(k.sockets, *f)
	k.Changes++
}

// Deliver takes in an IPv4 packet with a TCP segment.
func (k *Kernel) Deliver(now time.Duration, ip []byte) {
	k.now = now
	s := Parse(ip)
	f := hashing.Flow{Src: s.Src.Addr(), SrcPort: s.Src.Port(), Dst: s.Dst.Addr(), DstPort: s.Dst.Port(), Proto: protoTCP}
	c := k.sockets[f]
	switch {
	case c == nil:
		k.listen(&f, &s)
	case c.state == inetdiag.SYNRecv:
		k.request(&f, c, &s)
	case c.state == inetdiag.TimeWait:
		k.timeWait(&f, c, &s)
	default:
		k.connection(&f, c, &s)
	}
}

// listen is tcp_v4_do_rcv for a listening socket.
func (k *Kernel) listen(f *hashing.Flow, s *Segment) {
	switch {
	case s.Flags&flagRST != 0:
	case s.Flags&flagACK != 0:
		if s.Flags&flagSYN != 0 || !k.cookie(f, s) {
			k.send(f, false, flagRST, s.Ack, 0)
		}
	case s.Flags&(flagSYN|flagFIN) == flagSYN:
		k.answer(f, s)
	}
}

// answer answers a SYN, with a half-open connection or a cookie.
func (k *Kernel) answer(f *hashing.Flow, s *Segment) {
	k.Begun++
	h := handshake{s.Seq, k.isn(), k.now}
	if k.half >= k.Backlog {
		if was, ok := k.cookies[*f]; ok && was.client == s.Seq {
			h.own = was.own // a cookie is made of the SYN
		}
		k.cookies[*f] = h
		k.CookiesSent++
	} else {
		k.half++
		k.add(f, &socket{handshake: h, state: inetdiag.SYNRecv, next: s.Seq + 1, sent: h.own + 1, tries: 1, repeat: firstRepeat, repeatAt: k.now + firstRepeat})
	}
	k.send(f, false, flagSYN|flagACK, h.own, s.Seq+1)
}

func (k *Kernel) add(f *hashing.Flow, c *socket) {
	k.sockets[*f] = c
	k.Changes++
}

// cookie opens a connection whose segment completes a SYN cookie.
func (k *Kernel) cookie(f *hashing.Flow, s *Segment) bool {
	h, ok := k.cookies[*f]
	if !ok || s.Ack != h.own+1 || s.Seq != h.client+1 || k.now-h.at > kernelCookieTime {
		return false
	}
	delete(k.cookies, *f)
	c := &socket{handshake: h, state: inetdiag.Established, next: h.client + 1, sent: h.own + 1}
	k.add(f, c)
	k.connection(f, c, s)
	return true
}

// request is tcp_check_req of net/ipv4/tcp_minisocks.c.
func (k *Kernel) request(f *hashing.Flow, c *socket, s *Segment) {
	switch {
	case s.Flags&(flagSYN|flagACK|flagRST) == flagSYN && s.Seq == c.client:
		k.send(f, false, flagSYN|flagACK, c.own, c.client+1)
	case s.Flags&flagACK != 0 && s.Ack != c.sent:
		if s.Flags&flagRST == 0 {
			k.send(f, false, flagRST, s.Ack, 0) // the listening socket's
		}
	case s.Seq-c.next >= receiveWindow:
		if s.Flags&flagRST == 0 {
			k.challenge(f, c)
		}
	case s.Flags&(flagRST|flagSYN) != 0:
		if s.Flags&flagRST == 0 {
			k.send(f, false, flagRST|flagACK, 0, s.Seq+1)
		}
		k.remove(f, c)
	case s.Flags&flagACK != 0:
		k.half--
		c.state, c.tries = inetdiag.Established, 0
		k.Changes++
		k.connection(f, c, s)
	}
}

// challenge says where the connection stands, at a bounded rate
// (tcp_invalid_ratelimit).
func (k *Kernel) challenge(f *hashing.Flow, c *socket) {
	if k.now-c.challenged >= ChallengeInterval {
		c.challenged = k.now
		k.send(f, c.state != inetdiag.SYNRecv, flagACK, c.sent, c.next)
	}
}

// connection handles a segment of a connection, as RFC 9293 §3.10.7.4 and RFC 5961.
func (k *Kernel) connection(f *hashing.Flow, c *socket, s *Segment) {
	inside := s.Seq-c.next+receiveWindow < 2*receiveWindow
	switch {
	case s.Flags&flagRST != 0:
		if s.Seq == c.next {
			k.remove(f, c)
		} else if inside {
			k.challenge(f, c)
		}
		return
	case s.Flags&flagSYN != 0 || !inside || s.Ack-c.sent-1 < 1<<31:
		k.challenge(f, c)
		return
	case s.Flags&flagACK == 0:
		return
	case s.Seq != c.next:
		k.send(f, true, flagACK, c.sent, c.next)
		return
	}
	if c.tries > 0 && s.Ack == c.sent && !k.finished(f, c) {
		return
	}
	c.next += uint32(s.Payload)
	switch {
	case s.Flags&flagFIN != 0:
		c.next++
		k.ended(f, c)
	case s.Payload > 0:
		k.send(f, true, flagACK, c.sent, c.next)
	}
}

// finished is the acknowledgment of our FIN; it reports whether a connection is left.
func (k *Kernel) finished(f *hashing.Flow, c *socket) bool {
	c.tries = 0
	switch c.state {
	case finWait1:
		c.state = finWait2
	case closing:
		k.linger(c)
	case lastACK:
		k.remove(f, c)
		return false
	}
	return true
}

// ended is the client's FIN: the service ends its direction, too.
func (k *Kernel) ended(f *hashing.Flow, c *socket) {
	switch c.state {
	case inetdiag.Established:
		k.finish(f, c, lastACK)
		return
	case finWait1:
		c.state = closing
	case finWait2:
		k.linger(c)
	}
	k.send(f, true, flagACK, c.sent, c.next)
}

// finish sends our FIN.
func (k *Kernel) finish(f *hashing.Flow, c *socket, to inetdiag.State) {
	k.send(f, true, flagFIN|flagACK, c.sent, c.next)
	c.sent++
	c.state, c.tries, c.repeat, c.repeatAt = to, 1, leastRTO, k.now+leastRTO
}

func (k *Kernel) linger(c *socket) {
	c.state, c.tries, c.until = inetdiag.TimeWait, 0, k.now+kernelTimeWait
	k.Changes++
}

// timeWait is tcp_timewait_state_process of net/ipv4/tcp_minisocks.c.
func (k *Kernel) timeWait(f *hashing.Flow, c *socket, s *Segment) {
	switch {
	case s.Flags&flagRST != 0:
		if s.Seq == c.next {
			k.remove(f, c)
		}
	case s.Flags&(flagSYN|flagACK) == flagSYN && int32(s.Seq-c.next) > 0:
		k.remove(f, c)
		k.listen(f, s)
	case s.Flags&flagFIN != 0 || s.Seq != c.next || s.Payload > 0:
		k.send(f, false, flagACK, c.sent, c.next)
	}
}

// send makes a segment for the client.
func (k *Kernel) send(f *hashing.Flow, open bool, flags uint8, seq, ack uint32) {
	k.out = append(k.out, Sent{Packet(&Segment{
		Src: netip.AddrPortFrom(f.Dst, f.DstPort), Dst: netip.AddrPortFrom(f.Src, f.SrcPort), Flags: flags, Seq: seq, Ack: ack,
	}), open})
}
