package control

import (
	"net/netip"
	"time"

	"onevoice/responder"
)

// GroupsStatus are the groups of a family that a worker is a member of, in
// mac_mode igmp.
type GroupsStatus struct {
	Groups []netip.Addr `json:"groups"`
	// Querier is who asked last, nil when nobody has.
	Querier *QuerierStatus `json:"querier,omitempty"`
	responder.MembershipCounts
}

// QuerierStatus is who asks for members of groups.
type QuerierStatus struct {
	Address netip.Addr `json:"address"`
	// Version of IGMP or MLD.
	Version int     `json:"version"`
	Seconds float64 `json:"seconds_ago"`
}

func groupsStatus(now time.Duration, members []*responder.Membership) (out []GroupsStatus) {
	for _, m := range members {
		s := GroupsStatus{Groups: m.Groups(), MembershipCounts: m.Counts()}
		if q := m.Querier(); q.Address.IsValid() {
			s.Querier = &QuerierStatus{Address: q.Address, Version: q.Version, Seconds: (now - q.At).Seconds()}
		}
		out = append(out, s)
	}
	return out
}
