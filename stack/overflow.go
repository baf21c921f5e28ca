package stack

import (
	"encoding/binary"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"onevoice/link/ingress"
)

const (
	// askInterval is how often a listener whose half-open flows are as many as may be
	// is shown a SYN, to see whether it has room again.
	askInterval = 20 * time.Millisecond
	// maxAsked bounds the SYNs that it is shown and has not answered yet. It has
	// room again when it keeps so many.
	maxAsked = 16
)

// overflow is whether a listener answers SYNs with cookies, as far as its answers tell,
// and what such an answer looks like. A flood's SYNs cost netstack 10 µs each, and
// their answers follow from the SYN: they are made here, from the last one that
// netstack has made. It is asked again and again, so that clients get what cookies
// cannot carry (window scale, selective acknowledgments) as soon as there is room.
type overflow struct {
	key cookieKey
	// on: it answers with cookies, as it did when it was asked last.
	on bool
	// askAt is when it is to be asked again. room is how many may be shown to it
	// before, for it has just kept some.
	askAt time.Duration
	room  int
	// asked are the SYNs that it has been shown since it was on, by key, the newest
	// last: one that comes twice must not have two answers.
	asked []uint64
	// waits: it has not answered since it was asked.
	waits bool
	// plain and stamped are its last answers with a cookie, without and with time
	// stamps; nil where there was none.
	plain, stamped []byte
	// made is when AppendCookie last made one in its place.
	made time.Duration
}

// asks reports whether the listener is to answer a SYN itself.
func (o *overflow) asks(now time.Duration, syn uint64) bool {
	if !o.on || slices.Contains(o.asked, syn) {
		return true
	}
	switch {
	case o.room > 0:
		o.room--
	case now < o.askAt:
		return false
	case o.waits:
		// What it has been shown it drops without a word: it has more to say than
		// cookies.
		o.on = false
		return true
	}
	if len(o.asked) == maxAsked {
		o.asked = append(o.asked[:0], o.asked[1:]...)
	}
	o.asked = append(o.asked, syn)
	o.waits, o.askAt = true, now+askInterval
	return true
}

// kept notes that it has made a half-open flow: it may be shown twice as many.
func (o *overflow) kept() {
	o.waits = false
	if o.room += 2; o.room >= maxAsked {
		o.on, o.room = false, 0
	}
}

// refused notes that it has answered with a cookie.
func (o *overflow) refused(now time.Duration) {
	if !o.on {
		o.asked = o.asked[:0]
	}
	o.on, o.waits, o.room, o.askAt = true, false, 0, now+askInterval
}

// learn takes an answer with a cookie as the form of those that follow, if it is the
// one that would have been made here.
func (o *overflow) learn(k stampKey, clock tcpip.Clock, packet []byte, p *opening) {
	stamped, ok := p.isCookie(packet)
	if !ok || o.key == nil {
		return
	}
	since := clock.NowMonotonic().Sub(tcpip.MonotonicTime{})
	same := o.key.made(p, uint32(since.Seconds()), binary.BigEndian.Uint32(p.tcp[4:]))
	if !stamped {
		o.plain = sample(o.plain, packet, same)
		return
	}
	// It was made some turns ago at most.
	ago := time.Duration(k.stamp(p, uint32(since.Milliseconds()))-binary.BigEndian.Uint32(p.tcp[cookieStamp:])) * time.Millisecond
	o.stamped = sample(o.stamped, packet, same && k != nil && ago <= askInterval+time.Second)
}

// sample keeps a packet, or none.
func sample(old, packet []byte, same bool) []byte {
	if !same {
		return nil
	}
	return append(old[:0], packet...)
}

// AppendCookie appends to dst the IP packet with which netstack would answer a SYN, an
// IP packet that the gate has let through, if it would answer with a cookie; else the
// SYN is to be delivered, and dst is returned as it was. Netstack takes the cookie for
// its own when it comes back.
func (s *Stack) AppendCookie(now time.Duration, dst []byte, service int, syn []byte) ([]byte, bool) {
	p, ok := readOpening(syn, false)
	if !ok {
		return dst, false
	}
	l := s.services[service].at(binary.BigEndian.Uint16(p.toPort))
	if l == nil || !l.overflow.on {
		return dst, false
	}
	options := header.ParseSynOptions(p.options(), false)
	form := l.overflow.plain
	if options.TS {
		form = l.overflow.stamped
	}
	if form == nil || l.overflow.asks(now, p.key()) {
		return dst, false
	}
	at := len(dst)
	dst = append(dst, form...)
	s.writeCookie(dst[at:], &p, &l.overflow, &options)
	s.cookies++
	l.overflow.made = now
	return dst, true
}

// writeCookie makes the answer to another SYN of one to a SYN.
func (s *Stack) writeCookie(packet []byte, p *opening, o *overflow, options *header.TCPSynOptions) {
	if p.ip == header.IPv6MinimumSize {
		copy(packet[24:], p.from)
	} else {
		copy(packet[16:], p.from)
	}
	since := s.clock.NowMonotonic().Sub(tcpip.MonotonicTime{})
	tcp := packet[p.ip:]
	copy(tcp[2:], p.fromPort)
	binary.BigEndian.PutUint32(tcp[4:], o.key.cookie(p, uint32(since.Seconds()), options.MSS))
	binary.BigEndian.PutUint32(tcp[8:], p.number+1)
	if options.TS {
		binary.BigEndian.PutUint32(tcp[cookieStamp:], s.stamps.stamp(p, uint32(since.Milliseconds())))
		binary.BigEndian.PutUint32(tcp[cookieEcho:], options.TSVal)
	}
	finish(packet, p.ip)
}

// KernelCookies is what a service's cookies are made from, for somebody who answers SYNs
// of IPv4 to one of its ports, that for which AppendCookie has made the last, in its place:
// while its listener answers with cookies, as far as is known, and no source has its share
// of the flows. What is in it is valid until the next packet.
func (s *Stack) KernelCookies(service int) (c ingress.Cookies, ok bool) {
	if (generous+1)*len(s.flows) >= generous*s.bounds.limit || s.bounds.memory != Ample || s.stamps == nil {
		return c, false
	}
	var latest *listener
	for _, l := range s.services[service].listeners {
		o := &l.overflow
		if o.on && o.key != nil && (o.plain != nil || o.stamped != nil) && (latest == nil || o.made > latest.overflow.made) {
			latest = l
		}
	}
	if latest == nil {
		return c, false
	}
	o := &latest.overflow
	c.Port, c.Plain, c.Stamped = latest.port, o.plain, o.stamped
	copy(c.Nonces[:], o.key)
	copy(c.StampKey[:], s.stamps)
	return c, true
}

// Since is how long netstack's clock has gone.
func (s *Stack) Since() time.Duration { return s.clock.NowMonotonic().Sub(tcpip.MonotonicTime{}) }

// Sent tells of cookies that were sent in netstack's place, and not made here.
func (s *Stack) Sent(cookies uint64) { s.cookies += cookies }

// Made reports whether a SYN-ACK of netstack's that leaves, an IP packet, has a cookie.
// Where that cannot be told it has.
func (s *Stack) Made(service int, packet []byte) bool {
	p, ok := readOpening(packet, true)
	if !ok {
		return true
	}
	l := s.services[service].at(binary.BigEndian.Uint16(p.toPort))
	return l == nil || l.overflow.key == nil || l.overflow.key.made(&p, uint32(s.Since().Seconds()), binary.BigEndian.Uint32(p.tcp[4:]))
}

// Answered tells of a SYN-ACK of netstack's that leaves, an IP packet. kept: netstack
// has a half-open flow for it, and else the SYN-ACK has a cookie.
func (s *Stack) Answered(now time.Duration, service int, packet []byte, kept bool) {
	p, ok := readOpening(packet, true)
	if !ok {
		return
	}
	l := s.services[service].at(binary.BigEndian.Uint16(p.toPort))
	switch {
	case l == nil:
	case kept:
		l.overflow.kept()
	default:
		l.overflow.learn(s.stamps, s.clock, packet, &p)
		l.overflow.refused(now)
	}
}
