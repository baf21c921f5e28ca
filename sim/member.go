package sim

import (
	"fmt"
	"net/netip"
	"time"
)

// MaxMemberships bounds the groups of one Member.
const MaxMemberships = 64

// Member is the part of a host's kernel that joins groups: it reports them by
// itself and when it is asked, by IGMPv2 (RFC 2236 §3) and MLDv1 (RFC 2710 §4). It
// does not keep its report back when it hears another's, as a switch that snoops
// wants it (RFC 4541 §2.1.1 (1)), and as kernels with version 3 do.
type Member struct {
	// Silent: it answers no queries, as a host whose kernel never hears them.
	Silent bool
	// Reports counts those that it sent.
	Reports uint64

	w      *World
	port   *Port
	mac    MAC
	ip4    netip.Addr
	ip6    netip.Addr
	groups []*joined
}

type joined struct {
	group netip.Addr
	timer Timer
}

// unsolicited is the gap between a join's two reports (RFC 2236 §8.10).
const unsolicited = 10 * time.Second

// NewMember makes one for a host's port. Of the addresses that it reports from,
// 0.0.0.0 and :: are possible.
func NewMember(p *Port, mac MAC, ip4, ip6 netip.Addr) *Member {
	return &Member{w: p.lan.w, port: p, mac: mac, ip4: ip4, ip6: ip6}
}

// Join joins a group and says so, twice.
func (m *Member) Join(group netip.Addr) error {
	if !group.IsMulticast() {
		return fmt.Errorf("%s cannot join %v, which is no group", m.port.Name, group)
	}
	if len(m.groups) >= MaxMemberships {
		return fmt.Errorf("%s has joined %d groups already", m.port.Name, MaxMemberships)
	}
	if group.Is4() && !m.ip4.Is4() || group.Is6() && !m.ip6.Is6() {
		return fmt.Errorf("%s has no address to join %v from", m.port.Name, group)
	}
	j := &joined{group: group}
	m.groups = append(m.groups, j)
	m.report(j)
	j.timer = m.w.After(m.w.between(0, unsolicited), func() { m.report(j) })
	return nil
}

// Leave leaves a group and says so.
func (m *Member) Leave(group netip.Addr) {
	for i, j := range m.groups {
		if j.group == group {
			j.timer.Stop()
			m.groups = append(m.groups[:i:i], m.groups[i+1:]...)
			if group.Is4() {
				m.port.Send(igmpFrame(m.mac, m.ip4, allRouters4(), igmpLeave, 0, group))
			} else {
				m.port.Send(mldFrame(m.mac, m.ip6, allRouters(), mldDone, 0, group))
			}
			return
		}
	}
}

func (m *Member) report(j *joined) {
	m.Reports++
	if j.group.Is4() {
		m.port.Send(igmpFrame(m.mac, m.ip4, j.group, igmpReportV2, 0, j.group))
	} else {
		m.port.Send(mldFrame(m.mac, m.ip6, j.group, mldReport, 0, j.group))
	}
}

// Hear takes a frame that came to the host and says whether it was a query. The
// answers come within the time that the query gives.
func (m *Member) Hear(frame []byte) bool {
	q, ok := parseMembership(frame)
	if !ok || q.kind != membershipQuery {
		return false
	}
	if m.Silent {
		return true
	}
	for _, j := range m.groups {
		if j.group.Is4() != q.source.Is4() || len(q.groups) > 0 && q.groups[0] != j.group {
			continue
		}
		j.timer.Stop()
		j.timer = m.w.After(m.w.between(0, q.response), func() { m.report(j) })
	}
	return true
}
