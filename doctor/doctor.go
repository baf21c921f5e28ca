package doctor

import (
	"net/netip"
	"slices"
	"time"
)

// Finding is something that was found.
type Finding struct {
	// Code is its name in JSON and in searches: lower case, words joined by hyphens.
	Code string `json:"code"`
	// Harms: users notice, or nodes do. Otherwise it may come to that.
	Harms bool `json:"harms"`
	// Text says what was found, and Mend what to do about it: a sentence each, without
	// a full stop.
	Text string `json:"text"`
	Mend string `json:"mend"`
}

// Facts are what is known of this host, its LAN, and its daemon. What is not known is
// zero, and nothing is found by it.
type Facts struct {
	// File is what is wrong with the configuration file, and Warnings what it warns of.
	File     string
	Warnings []string
	// Interface is the cluster's, and OwnMAC that of it.
	Interface string
	OwnMAC    string
	VIPs      []VIP
	// Gateways are the routers of the VIPs' LANs.
	Gateways []netip.Addr
	// SnoopingBridge is a bridge of this host that the interface is, or belongs to, and
	// that snoops.
	SnoopingBridge string
	// NotRunning is why the daemon did not answer.
	NotRunning string
	// Uptime is the daemon's.
	Uptime time.Duration
	Peers  []Peer
	// Groups are those that the daemon has joined.
	Groups []Group
	// Unbelievers are who did not believe the answers in ARP.
	Unbelievers []Unbeliever
	// FromClusterMAC is how many frames came from a cluster MAC or a group.
	FromClusterMAC uint64
}

// VIP is an address that the nodes share.
type VIP struct {
	Address netip.Prefix
	MAC     string
	// Mode is mac_mode.
	Mode string
	// Holder is the interface of this host that has the address.
	Holder string
}

// Peer is another node of the cluster.
type Peer struct {
	Name    string
	Address string
	// Heard is how long ago its last frame to the shared MAC came in, and Spoke its last
	// datagram to this host alone; negative for never.
	Heard, Spoke time.Duration
}

// Group is a group that was joined, and who asks for its members.
type Group struct {
	Address netip.Addr
	// Querier is the zero Addr when nobody has asked.
	Querier netip.Addr
	Asked   time.Duration // how long ago
}

// Unbeliever is a station that was told where a VIP is, and asked again.
type Unbeliever struct {
	Address, VIP netip.Addr
	MAC          string
	Times        int
	Ago          time.Duration
}

// modeUnicast is the mac_mode that has no group.
const modeUnicast = "unicast"

// examinations are all there are, in the order in which they are told: what keeps the
// daemon from its work first.
func examinations() []func(*Facts) []Finding {
	return []func(*Facts) []Finding{file, running, addressHeld, protocolMAC, notHeard, refusedAnswers, sourceSeen, bridgeSnoops, noQuerier, fileWarns}
}

// Examine makes findings of facts; those that harm come first.
func Examine(f *Facts) []Finding {
	out := []Finding{}
	for _, look := range examinations() {
		out = append(out, look(f)...)
	}
	slices.SortStableFunc(out, func(a, b Finding) int {
		switch {
		case a.Harms == b.Harms:
			return 0
		case a.Harms:
			return -1
		}
		return 1
	})
	return out
}

// Harms reports whether any of the findings does.
func Harms(list []Finding) bool {
	return slices.ContainsFunc(list, func(f Finding) bool { return f.Harms })
}

// grouped are the VIPs at a group's MAC.
func (f *Facts) grouped() (out []VIP) {
	for _, v := range f.VIPs {
		if v.Mode != modeUnicast {
			out = append(out, v)
		}
	}
	return out
}

// mode is that of the VIP with an address.
func (f *Facts) mode(a netip.Addr) string {
	for _, v := range f.VIPs {
		if v.Address.Addr() == a {
			return v.Mode
		}
	}
	return ""
}
