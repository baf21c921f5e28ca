package sim

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// SnoopKey is by what a snooping switch knows groups apart.
type SnoopKey int

const (
	// ByMAC: by the frame's destination, whatever is in it. RFC 4541 §2.1.2 (5)
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
	// the query interval, and 10 s for the response.
	DefaultMembership = 260 * time.Second
	queryResponse     = 10 * time.Second // RFC 2236 §8.3
	startupQueries    = 2                // RFC 2236 §8.7, a quarter of the interval apart (§8.6)
	lastMemberGap     = time.Second      // RFC 2236 §8.8
	lastMemberCount   = 2                // RFC 2236 §8.9
)

// Snooping is how a switch treats groups that IP hosts join by IGMP (RFC 2236,
// RFC 3376) or MLD (RFC 2710, RFC 3810), after RFC 4541. The zero value is a
// MAC-keyed switch that sends what nobody has joined to multicast routers only.
// A group that is not of IP (RFC 4541 §2.1.2 (4)), or one of 224.0.0.x or of the
// link's IPv6 ones that everybody is in ((2) there), is flooded in any case.
type Snooping struct {
	Key SnoopKey
	// FloodUnregistered sends what nobody has joined to all ports (RFC 4541
	// §2.1.2 (3)); otherwise it goes only to where a multicast router was heard.
	FloodUnregistered bool
	// FloodWithoutQuerier floods every group while no querier has been heard
	// within the membership interval, as Linux's bridge does
	// (br_multicast_querier_exists).
	FloodWithoutQuerier bool
	// Querier lets the switch ask by itself, every QueryInterval, from QuerierIP.
	// Without that the queries come from 0.0.0.0, as a Linux bridge's do, and no
	// other switch takes this one for a multicast router: members behind another
	// switch are then unknown here (RFC 4541 §2.1.1 (1b)).
	Querier   bool
	QuerierIP netip.Addr
	// QueryInterval and Membership; 0 for the defaults.
	QueryInterval, Membership time.Duration
	// FastLeave takes a port out of a group at the first leave, without asking
	// whether somebody else is behind it.
	FastLeave bool
}

// LinuxSnooping is a Linux bridge's, as it is by default.
func LinuxSnooping() *Snooping { return &Snooping{Key: ByIP, FloodWithoutQuerier: true} }

func (o *Snooping) check() error {
	if o.Key != ByMAC && o.Key != ByIP {
		return fmt.Errorf("snooping is by MAC or by IP, not by %d", o.Key)
	}
	if o.QuerierIP.IsValid() && !o.QuerierIP.Is4() {
		return fmt.Errorf("snooping: a querier's address is an IPv4 one, not %v", o.QuerierIP)
	}
	if o.QueryInterval < 0 || o.Membership < 0 {
		return fmt.Errorf("snooping: query interval %v and membership interval %v are above 0", o.QueryInterval, o.Membership)
	}
	if s := o.filled(); s.Querier && s.Membership <= s.QueryInterval+queryResponse {
		return fmt.Errorf("snooping: a membership interval of %v ends before the answers to the next query, %v and up to %v later; make it more than twice as long", s.Membership, s.QueryInterval, queryResponse)
	}
	return nil
}

func (o Snooping) filled() Snooping {
	if o.QueryInterval == 0 {
		o.QueryInterval = DefaultQueryInterval
	}
	if o.Membership == 0 {
		o.Membership = 2*o.QueryInterval + queryResponse
	}
	return o
}

// groupID is what a group is known by: an address, or a MAC.
type groupID struct {
	ip  netip.Addr
	mac MAC
}

// snooper is the state of snooping.
type snooper struct {
	o       Snooping
	s       *Switch
	groups  map[groupID][]*membership // looked up, never ranged over where order shows
	routers []*membership             // ports with a multicast router behind them
	// heard is when a querier last was, for IPv4 and for IPv6; asked says whether
	// one ever was.
	heard [2]time.Duration
	asked [2]bool
}

// membership is one port's, until a time.
type membership struct {
	at    *outlet
	until time.Duration
}

func newSnooper(s *Switch, o Snooping) *snooper {
	return &snooper{o: o.filled(), s: s, groups: map[groupID][]*membership{}}
}

func (n *snooper) forget() {
	clear(n.groups)
	n.routers, n.asked = nil, [2]bool{}
}

func (n *snooper) now() time.Duration { return n.s.lan.w.now }

// ports are where a frame to a group goes; pruned is false if it is flooded.
func (n *snooper) ports(in *outlet, frame []byte) (to []*outlet, pruned bool) {
	if m, ok := parseMembership(frame); ok {
		n.hear(in, m)
		if m.kind == membershipQuery || n.o.FloodWithoutQuerier && !n.querier(m.source.Is6()) {
			return nil, false
		}
		// Reports go to routers only, so that no host's keeps back another's (RFC
		// 4541 §2.1.1 (1)).
		return n.append(nil, n.routers), true
	}
	id, ipv6, keyed := n.key(frame)
	if !keyed || n.o.FloodWithoutQuerier && !n.querier(ipv6) {
		return nil, false
	}
	members, known := n.groups[id]
	if !known && n.o.FloodUnregistered {
		return nil, false
	}
	to = n.append(nil, members)
	return n.append(to, n.routers), true
}

// key is what a frame's group is known by; keyed is false if the frame is for
// everybody.
func (n *snooper) key(frame []byte) (id groupID, ipv6, keyed bool) {
	mac := MAC(frame)
	ipv6 = mac[0] == 0x33 && mac[1] == 0x33
	if n.o.Key == ByMAC {
		isIP := mac[0] == 1 && mac[1] == 0 && mac[2] == 0x5e && mac[3] < 0x80
		return groupID{mac: mac}, ipv6, (isIP && [3]byte(mac[3:]) != [3]byte{0, 0, mac[5]}) || ipv6 && !everybodyMAC(mac)
	}
	ip, ok := destination(frame)
	if !ok {
		// Linux knows such groups by MAC, but nobody can join them by IGMP.
		return groupID{}, false, false
	}
	return groupID{ip: ip}, ip.Is6(), !everybody(ip)
}

// destination is where an IP packet is for, whatever its frame says.
func destination(frame []byte) (ip netip.Addr, ok bool) {
	switch b := frame[MinFrame:]; {
	case binary.BigEndian.Uint16(frame[12:]) == etherIPv4 && len(b) >= ipBytes:
		return netip.AddrFrom4([4]byte(b[16:])), true
	case binary.BigEndian.Uint16(frame[12:]) == etherIPv6 && len(b) >= ip6Bytes:
		return netip.AddrFrom16([16]byte(b[24:])), true
	}
	return ip, false
}

// everybody says whether a group is one that no host joins by a report that counts:
// 224.0.0.x and, of IPv6, all nodes (net/ipv4: ipv4_is_local_multicast;
// net/ipv6: ipv6_addr_is_ll_all_nodes).
func everybody(ip netip.Addr) bool {
	if ip.Is4() {
		b := ip.As4()
		return b[0] == 224 && b[1] == 0 && b[2] == 0
	}
	return ip == allNodes()
}

func everybodyMAC(mac MAC) bool { return mac == groupMAC(allNodes()) }

// querier says whether one was heard within the membership interval.
func (n *snooper) querier(ipv6 bool) bool {
	i := family(ipv6)
	return n.asked[i] && n.now()-n.heard[i] < n.o.Membership
}

func family(ipv6 bool) int {
	if ipv6 {
		return 1
	}
	return 0
}

// append adds the ports of memberships, none twice.
func (n *snooper) append(out []*outlet, of []*membership) []*outlet {
	for _, m := range of {
		if n.now() < m.until && !slices.Contains(out, m.at) {
			out = append(out, m.at)
		}
	}
	return out
}

// hear takes in what an IGMP or MLD message says (RFC 4541 §2.1.1). Queries from
// 0.0.0.0 tell of no router (§2.1.1 (1b)).
func (n *snooper) hear(in *outlet, m membershipMessage) {
	switch m.kind {
	case membershipQuery:
		i := family(m.source.Is6())
		n.heard[i], n.asked[i] = n.now(), true
		if !m.source.IsUnspecified() {
			n.routers = refresh(n.routers, in, n.now()+n.o.Membership)
		}
		if len(m.groups) > 0 && in.trunk != nil {
			n.lastMembers(m.groups[0])
		}
	case membershipReport:
		for _, g := range m.groups {
			n.join(in, g)
		}
	case membershipLeave:
		for _, g := range m.groups {
			n.leave(in, g)
		}
	}
}

func (n *snooper) id(group netip.Addr) groupID {
	if n.o.Key == ByMAC {
		return groupID{mac: groupMAC(group)}
	}
	return groupID{ip: group}
}

// join keeps a port in a group for the membership interval.
func (n *snooper) join(in *outlet, group netip.Addr) {
	if everybody(group) {
		return
	}
	id := n.id(group)
	if _, known := n.groups[id]; !known && len(n.groups) >= MaxGroups {
		n.s.lan.report(TableFull, n.s.name, "it knows %d groups, no more: %v is not kept", MaxGroups, group)
		return
	}
	n.groups[id] = refresh(n.groups[id], in, n.now()+n.o.Membership)
	n.expireLater(id, group)
}

// refresh sets until when a port is in a list.
func refresh(list []*membership, at *outlet, until time.Duration) []*membership {
	for _, m := range list {
		if m.at == at {
			m.until = until
			return list
		}
	}
	return append(list, &membership{at, until})
}

// expireLater looks at a group when a membership may have run out.
func (n *snooper) expireLater(id groupID, group netip.Addr) {
	n.s.lan.w.After(n.o.Membership, func() { n.expire(id, group, true) })
}

// expire drops the memberships of a group that have run out: the ports are deaf to
// it from now on. A group without any is unregistered.
func (n *snooper) expire(id groupID, group netip.Addr, silent bool) {
	list := n.groups[id]
	kept := list[:0]
	for _, m := range list {
		if n.now() < m.until {
			kept = append(kept, m)
			continue
		}
		if silent {
			why := "no querier asks: run one in the switch or the router, or switch snooping off"
			if n.querier(group.Is6()) {
				why = "though it was asked"
			}
			n.s.lan.report(Pruned, n.s.name+" "+m.at.name(), "%s has not reported %v for %v, %s. The switch keeps the group's frames from it", m.at.name(), group, n.o.Membership, why)
		}
	}
	if len(kept) == 0 {
		delete(n.groups, id)
	} else {
		n.groups[id] = kept
	}
}

// leave takes a port out of a group, at once or when nobody else behind it has
// answered (RFC 2236 §3).
func (n *snooper) leave(in *outlet, group netip.Addr) {
	id := n.id(group)
	i := slices.IndexFunc(n.groups[id], func(m *membership) bool { return m.at == in })
	if i < 0 {
		return
	}
	if n.o.FastLeave {
		n.groups[id][i].until = n.now()
		n.expire(id, group, false)
		return
	}
	if n.o.Querier {
		for k := range lastMemberCount {
			n.s.lan.w.After(time.Duration(k)*lastMemberGap, func() { n.ask(group) })
		}
		n.shorten(id, group, in)
	}
}

// lastMembers is for a switch that hears the querier ask for one group.
func (n *snooper) lastMembers(group netip.Addr) {
	id := n.id(group)
	for _, m := range n.groups[id] {
		n.shorten(id, group, m.at)
	}
}

// shorten lets a port's membership end soon, unless a report comes.
func (n *snooper) shorten(id groupID, group netip.Addr, at *outlet) {
	end := n.now() + lastMemberCount*lastMemberGap
	for _, m := range n.groups[id] {
		if m.at == at && m.until > end {
			m.until = end
		}
	}
	n.s.lan.w.At(end, func() { n.expire(id, group, false) })
}

// Members are the names of the ports and trunks that the switch has in a group, in
// the order in which they joined.
func (s *Switch) Members(group netip.Addr) (names []string) {
	if s.snoop == nil {
		return nil
	}
	for _, m := range s.snoop.groups[s.snoop.id(group)] {
		if s.lan.w.now < m.until {
			names = append(names, m.at.name())
		}
	}
	return names
}

// startQueriers lets switches ask that are queriers: soon at first, then every
// interval (RFC 2236 §3).
func (l *LAN) startQueriers() {
	for _, s := range l.switches {
		if s.snoop != nil && s.snoop.o.Querier {
			s.snoop.startup(0)
		}
	}
}

func (n *snooper) startup(asked int) {
	gap := n.o.QueryInterval
	if asked < startupQueries-1 {
		gap /= 4
	}
	n.s.lan.w.After(0, func() {
		n.askAll()
		n.s.lan.w.After(gap, func() { n.startup(asked + 1) })
	})
}

// askAll asks for all groups.
func (n *snooper) askAll() { n.ask(netip.Addr{}) }

// ask sends queries out of every port, for one group or, of no address, for all.
func (n *snooper) ask(group netip.Addr) {
	l := n.s.lan
	for i, q := range queries(group, n.s.mac(), n.o.QuerierIP, response(group)) {
		if q == nil {
			continue
		}
		n.heard[i], n.asked[i] = n.now(), true
		if l.Tap != nil {
			l.Tap(n.s.self, q)
		}
		for _, o := range n.s.outlets {
			if o.forwards() {
				n.s.emitOwn(o, q)
			}
		}
	}
}

func response(group netip.Addr) time.Duration {
	if group.IsValid() {
		return lastMemberGap
	}
	return queryResponse
}

// mac is the switch's own, for what it sends itself.
func (s *Switch) mac() MAC { return MAC{0x02, 0xb1, 0xd9, 0, 0, byte(s.number)} }
