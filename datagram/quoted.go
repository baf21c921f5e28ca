package datagram

import (
	"net/netip"
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
	// maxPaths bounds the clients of whose paths something is known; more have one
	// of the others forgotten.
	maxPaths = 4096
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
	switch {
	case what == PortClosed:
		r.counters.ClientGone++
		r.end(id)
	case what == TooBig && !f.Src.Is4() && mtu < r.pathMTU(now, f.Src):
		r.narrow(now, f.Src, max(mtu, minPathMTU))
	}
	return true
}

// path is what a router has said of the way to a client, believed until then.
type path struct {
	mtu   int
	until time.Duration
}

// narrow notes the MTU of the path to a client. It counts for all of his flows, for he
// asks again from another port.
func (r *Relay) narrow(now time.Duration, client netip.Addr, mtu int) {
	if _, known := r.paths[client]; !known && len(r.paths) >= maxPaths {
		for other := range r.paths {
			delete(r.paths, other)
			break
		}
	}
	r.paths[client] = path{mtu, now + pathMTUTime}
}

// SetMTU6 tells the longest IPv6 packet of the LAN, as its router says.
func (r *Relay) SetMTU6(bytes int) { r.mtu6 = bytes }

// pathMTU is the longest packet to a client.
func (r *Relay) pathMTU(now time.Duration, client netip.Addr) int {
	if client.Is4() {
		return r.mtu
	}
	p, known := r.paths[client]
	if known && now >= p.until {
		delete(r.paths, client)
		known = false
	}
	if known {
		return min(r.mtu6, p.mtu)
	}
	return r.mtu6
}
