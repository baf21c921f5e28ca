package node

import (
	"net/netip"
	"time"

	"onevoice/responder"
)

// Times of telling of groups though nobody has asked.
const (
	// announceInterval is how often they are told of while there is no lease: a
	// switch that was started anew has forgotten them, and the cable of this node
	// may have been out.
	announceInterval = 10 * time.Second
	// announceGap is the least time between two tellings when leases come and go.
	announceGap = time.Second
	// unaskedTime is how long a querier takes at most (RFC 3376 §8.2, §8.3: an
	// interval of 125 s, and 10 s for the answers). Where none has asked for so long
	// there is none, and a switch would forget the groups after 260 s (§8.4), so that
	// they are told of every keepInterval.
	unaskedTime  = 135 * time.Second
	keepInterval = time.Minute
)

// announcing is when groups were and will be told of.
type announcing struct {
	began, told time.Duration
	leased      bool
}

// due reports whether to tell of the groups now. asked is when the last query was.
func (a *announcing) due(now, asked time.Duration, leased bool) bool {
	if a.began == 0 {
		a.began, a.told = max(now, 1), now
	}
	wait := time.Duration(announceInterval)
	switch {
	case leased && now-max(asked, a.began) > unaskedTime:
		wait = keepInterval
	case leased:
		wait = responder.Forever
	case a.leased:
		wait = announceGap
	}
	a.leased = leased || a.leased && now-a.told < wait
	if now-a.told < wait {
		return false
	}
	a.told = now
	return true
}

// join makes the members of the configured groups, one for each family.
func (n *Node) join(cfg *Config) error {
	for _, from := range []netip.Addr{cfg.Address, cfg.LinkLocal} {
		var groups []netip.Addr
		for _, g := range cfg.Groups {
			if g.Is4() == from.Is4() {
				groups = append(groups, g)
			}
		}
		if len(groups) == 0 {
			continue
		}
		if !from.IsValid() {
			from = netip.IPv6Unspecified()
		}
		m, err := responder.NewMembership(cfg.Own, from, groups, cfg.Random)
		if err != nil {
			return err
		}
		if from.Is4() {
			m.SetVersion(cfg.IGMP)
		}
		n.members = append(n.members, m)
	}
	return nil
}

// handleMembership judges IGMP and MLD. Each node answers for its own port, so
// that no lease is needed.
func (n *Node) handleMembership(now time.Duration, frame []byte) Verdict {
	best := responder.MembershipNotOurs
	for _, m := range n.members {
		if o := m.Handle(now, frame); o != responder.MembershipNotOurs {
			best = o
		}
	}
	switch best {
	case responder.MembershipAsked:
		return MembershipQuery
	case responder.MembershipLimited:
		return MembershipLimited
	case responder.MembershipBad:
		return BadMembership
	}
	return OtherMembership
}

// Reports are the frames that tell of the groups and are due now. They are the
// caller's to send; no lease is asked for.
func (n *Node) Reports(now time.Duration) (frames [][]byte) {
	if len(n.members) == 0 {
		return nil
	}
	asked := time.Duration(0)
	for _, m := range n.members {
		asked = max(asked, m.Querier().At)
	}
	if n.announcing.due(now, asked, n.leased(now)) {
		for _, m := range n.members {
			m.Announce(now)
		}
	}
	for _, m := range n.members {
		if at, ok := m.Next(); ok && now >= at {
			frames = append(frames, m.Due(now)...)
		}
	}
	return frames
}

// leased reports whether the leases of all VIPs are valid.
func (n *Node) leased(now time.Duration) bool {
	for i := range n.leases {
		if !n.leases[i].covers(now) {
			return false
		}
	}
	return true
}

// nextReport is when the next report is due.
func (n *Node) nextReport() (at time.Duration, ok bool) {
	for _, m := range n.members {
		if next, waits := m.Next(); waits && (!ok || next < at) {
			at, ok = next, true
		}
	}
	return at, ok
}

// LeaveGroups are the frames that leave the groups.
func (n *Node) LeaveGroups(now time.Duration) (frames [][]byte) {
	for _, m := range n.members {
		frames = append(frames, m.Leave(now)...)
	}
	return frames
}

// Members are the memberships of groups, for those who tell of them.
func (n *Node) Members() []*responder.Membership { return n.members }
