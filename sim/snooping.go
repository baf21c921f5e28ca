package sim

import (
	"fmt"
	"time"
)

// SnoopKey is by what a snooping switch knows groups apart.
type SnoopKey int

const (
	// ByMAC: by the frame's destination, whatever is in it. RFC 4541 §2.1.2 (4)
	// names the trouble: 32 groups of IPv4 share a MAC.
	ByMAC SnoopKey = iota
	// ByIP: by the packet's IP destination, and by the MAC only if there is none,
	// as Linux's bridge (net/bridge/br_multicast.c, br_mdb_get). A frame to a
	// group's MAC with a single host's IP address in it is for no group then.
	ByIP
)

// Bounds and defaults of snooping.
const (
	MaxGroups            = 1024              // that a switch knows; the next are flooded
	DefaultQueryInterval = 125 * time.Second // RFC 2236 §8.2
	// DefaultMembership is the group membership interval of RFC 2236 §8.4: twice
	// the query interval and 10 s for the response.
	DefaultMembership = 260 * time.Second
)

// Snooping is how a switch treats groups that IP hosts join by IGMP (RFC 2236,
// RFC 3376) or MLD (RFC 2710, RFC 3810), after RFC 4541. The zero value is a
// MAC-keyed switch that sends what nobody has joined to multicast routers only.
type Snooping struct {
	Key SnoopKey
	// FloodUnregistered sends what nobody has joined to all ports (RFC 4541
	// §2.1.2 (3)); otherwise it goes only to where a multicast router was heard.
	FloodUnregistered bool
	// FloodWithoutQuerier floods every group while no querier has been heard
	// within the membership interval, as Linux's bridge does
	// (br_multicast_querier_exists).
	FloodWithoutQuerier bool
	// Querier lets the switch ask by itself, every QueryInterval.
	Querier bool
	// QueryInterval and Membership; 0 for the defaults.
	QueryInterval, Membership time.Duration
	// FastLeave takes a port out of a group at the first leave, without asking
	// whether somebody else is behind it.
	FastLeave bool
}

// LinuxSnooping is a Linux bridge's, as it is by default.
func LinuxSnooping() *Snooping {
	return &Snooping{Key: ByIP, FloodWithoutQuerier: true, FloodUnregistered: false}
}

func (o *Snooping) check() error {
	if o.Key != ByMAC && o.Key != ByIP {
		return fmt.Errorf("snooping is by MAC or by IP, not by %d", o.Key)
	}
	if o.QueryInterval < 0 || o.Membership < 0 {
		return fmt.Errorf("snooping: query interval %v and membership interval %v are above 0", o.QueryInterval, o.Membership)
	}
	query, membership := o.QueryInterval, o.Membership
	if query == 0 {
		query = DefaultQueryInterval
	}
	if membership == 0 {
		membership = DefaultMembership
	}
	if o.Querier && membership <= query {
		return fmt.Errorf("snooping: a membership interval of %v ends before the next query, after %v; make it more than twice as long", membership, query)
	}
	return nil
}

// snooper is the state of snooping.
type snooper struct {
	s *Switch
	o Snooping
}

func newSnooper(s *Switch, o Snooping) *snooper { return &snooper{s: s, o: o} }

func (n *snooper) forget() {}

// ports are where a frame to a group goes; pruned is false if it is flooded.
func (n *snooper) ports(*outlet, []byte) (to []*outlet, pruned bool) { return nil, false }

func (l *LAN) startQueriers() {}
