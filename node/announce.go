package node

import (
	"net/netip"
	"time"
)

// announcements is which IPv6 VIPs are still to be announced: each once, by the node
// that answers duplicate address detection for it (:: asks), when it first may.
// Neighbours that knew the address at another MAC, of what had it before, learn at
// once (RFC 4861 §7.2.6).
type announcements struct {
	open []int
	// look: the ownership may have brought the right to one.
	look bool
}

func newAnnouncements(vips []VIP) (a announcements) {
	for i := range vips {
		if vips[i].Addr.Is6() {
			a.open = append(a.open, i)
		}
	}
	return a
}

// announce calls send for what is to be announced now. The frame is send's.
func (n *Node) announce(now time.Duration, send func(vip int, frame []byte)) {
	a := &n.announcements
	if !a.look || len(a.open) == 0 {
		return
	}
	a.look = false
	// No frame asks.
	n.stamp = 0
	left := a.open[:0]
	for _, vip := range a.open {
		switch n.answersFor(now, vip, netip.IPv6Unspecified()) {
		case Undecided:
			send(vip, n.ndp.Advertisement(n.vips[vip].VIP))
			continue
		case NoLease, Stale:
			a.look = true
		}
		left = append(left, vip)
	}
	a.open = left
}
