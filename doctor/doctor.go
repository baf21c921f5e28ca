package doctor

import (
	"net/netip"
	"slices"
	"time"

	"onevoice/control"
)

// Finding is something that was found.
type Finding struct {
	// Code is its name in JSON and in searches: lower case, words joined by hyphens.
	Code string `json:"code"`
	// Harms: users notice, or nodes do. Otherwise it may come to that. Unseen: it
	// could not be looked at.
	Harms  bool `json:"harms"`
	Unseen bool `json:"unseen,omitempty"`
	// Text says what was found, and Mend what to do about it: a sentence each, without
	// a full stop.
	Text string `json:"text"`
	Mend string `json:"mend"`
	// Note: it is told in a status though it does not harm; as news where it is Unseen.
	Note bool `json:"-"`
}

// Facts are what is known of this host, its LAN, and its daemon. What is not known is
// zero, and nothing is found by it.
type Facts struct {
	// File is what is wrong with the configuration file, and Warnings what it warns of.
	File     string
	Warnings []string
	// Forbidden are things that the one who asks has no right to look at.
	Forbidden []string
	// Interface is the cluster's, and OwnMAC that of it.
	Interface string
	OwnMAC    string
	VIPs      []VIP
	// Direct are the services that this host's own stack serves, and Netstack the others.
	Direct, Netstack []string
	// Gateways are the routers of the VIPs' LANs.
	Gateways []netip.Addr
	// SnoopingBridge is a bridge of this host that the interface is, or belongs to, and
	// that snoops.
	SnoopingBridge string
	// NotRunning is why the daemon did not answer. Told are the warnings of its status
	// that nothing else here finds.
	NotRunning string
	Told       []string
	// Uptime is the daemon's.
	Uptime  time.Duration
	Peers   []Peer
	Workers []Worker
	// Groups are those that the daemon has joined.
	Groups []Group
	// Unbelievers are who did not believe the answers in ARP.
	Unbelievers []Unbeliever
	// FromClusterMAC is how many frames came from a cluster MAC or a group.
	FromClusterMAC uint64
	// ID is this node's, and Own what it tells the others of itself.
	ID  uint64
	Own *control.Card
	// Asked: the others were asked for what is true now, and to send.
	Asked bool
	// Host is what its kernel tells, nil where nobody has looked.
	Host *Host
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
	// ID is what it is called by on cards. Witness: it is none of the LAN.
	ID      uint64
	Witness bool
	// Heard is how long ago its last frame to the shared MAC came in, and Spoke its last
	// datagram to this host alone; negative for never.
	Heard, Spoke time.Duration
	// Card is what it has told, nil for nothing; Silent: it was asked and has not
	// answered. Probes are what came of the frames that it sent.
	Card   *control.HeardCard
	Silent bool
	Probes []control.Probe
}

// Worker is what the worker of an interface tells.
type Worker struct {
	Uplink string
	// Changed says what is no longer so of the interface.
	Changed string
	// NotReached are services that this host itself does not reach.
	NotReached []netip.AddrPort
	// Filter is why the kernel does not drop other nodes' frames before they wake the
	// worker, or does so only in part; Guard why it does not keep back answers after
	// the lease; both "" when it does.
	Filter, Guard string
	// HostSees: the host's own stack sees the frames for the VIPs as well.
	HostSees bool
	// KeptOut: of services that the host's own stack serves it takes no client.
	KeptOut  bool
	Stranger *control.StrangerStatus
	// Files is how many files the worker may have open, 0 for unknown.
	Files int
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

// Examine makes findings of facts: those that harm come first, and last what could not
// be looked at.
func Examine(f *Facts) []Finding {
	out := []Finding{}
	for _, e := range Examinations() {
		out = append(out, e.look(f)...)
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return a.rank() - b.rank() })
	return out
}

func (f *Finding) rank() int {
	switch {
	case f.Harms:
		return 0
	case f.Unseen:
		return 2
	}
	return 1
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
