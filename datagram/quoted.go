package datagram

import (
	"time"

	"onevoice/hashing"
)

// Trouble is what an ICMP error says about an answer.
type Trouble uint8

// Troubles.
const (
	// Passing: it may be over with the next packet, or nothing can be done.
	Passing Trouble = iota
	// PortClosed: nobody at the client takes answers any more.
	PortClosed
	// TooBig: a router could not pass it on, and did not cut it.
	TooBig
)

const (
	// minPathMTU is what every link of IPv6 carries (RFC 8200 §5).
	minPathMTU = 1280
	// pathMTUTime is how long a path's MTU is believed (RFC 8201 §4).
	pathMTUTime = 10 * time.Minute
)

// Quoted is told that an ICMP error has come that quotes an answer of the flow, whose
// destination is the client; mtu is what TooBig says. It reports whether the flow is
// here.
//
// A client's port that is closed ends the flow, as it would tell a connected socket.
// Of IPv4 a smaller MTU is not believed: its routers cut what we send, for DF is not
// set, and whoever forges such an error would have us send fragments.
func (r *Relay) Quoted(now time.Duration, f *hashing.Flow, what Trouble, mtu int) bool {
	id, ok := r.table.Find(f)
	if !ok {
		return false
	}
	switch s := &r.sockets[id.slot()]; {
	case what == PortClosed:
		r.counters.ClientGone++
		r.end(id)
	case what == TooBig && !f.Src.Is4() && mtu < r.pathMTU(now, f, s):
		s.mtu, s.until = uint16(max(mtu, minPathMTU)), now+pathMTUTime
	}
	return true
}

// SetMTU6 tells the longest IPv6 packet of the LAN, as its router says.
func (r *Relay) SetMTU6(bytes int) { r.mtu6 = bytes }

// pathMTU is the longest packet to the client of a flow.
func (r *Relay) pathMTU(now time.Duration, f *hashing.Flow, s *socket) int {
	switch {
	case f.Src.Is4():
		return r.mtu
	case s.mtu != 0 && now < s.until:
		return min(r.mtu6, int(s.mtu))
	}
	return r.mtu6
}
