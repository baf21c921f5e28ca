package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Bounds and defaults of a Router.
const (
	MaxLegs       = 8
	MaxNeighbours = 16384 // that a router knows; of more it forgets the oldest answer
	// DefaultARPLife is for how long a router believes an answer: four hours, as
	// Cisco's IOS does.
	DefaultARPLife = 4 * time.Hour
	routerHops     = 1 // what forwarding takes of a packet's time to live
)

// RouterOptions say what a router is.
type RouterOptions struct {
	Name string
	Legs []Leg
	// RefusesGroups: it believes no ARP answer that names a group address, as RFC
	// 1812 §3.3.2 says it must not.
	RefusesGroups bool
	// ValidatesARP: it believes no ARP packet whose sender MAC is not the source of
	// its frame.
	ValidatesARP bool
	// Static are entries by hand; they are neither asked for nor changed.
	Static map[netip.Addr]MAC
	// ForwardsGroupFrames lets it route a packet for a single host that came in a
	// frame to a group, which RFC 1812 §5.3.4 forbids.
	ForwardsGroupFrames bool
	// ARPLife is for how long an answer is believed; 0 for the default.
	ARPLife time.Duration
}

// Leg is one interface of a router.
type Leg struct {
	LAN    *LAN
	Switch string // that it is plugged into; "" is the first
	MAC    MAC
	// Address is the router's own on this LAN, and how long its subnet's prefix is.
	Address netip.Prefix
	// Masquerade gives what leaves by this leg the leg's address and a port of its
	// own (RFC 3022 §2.2), and takes that back from what comes in for it.
	Masquerade bool
	// Querier lets the leg ask for members of groups, as a multicast router does
	// (RFC 2236 §3), every DefaultQueryInterval.
	Querier bool
	// Group is an address that this leg shares with other routers; nil: none.
	Group *Redundancy
}

// RouterCounts is what happened to packets and ARP in a router.
type RouterCounts struct {
	Forwarded, Echoes        uint64
	RefusedGroup             uint64 // ARP that names a group address
	RefusedInvalid           uint64 // ARP whose sender MAC is not its frame's source
	Unreachable              uint64 // nobody answered for the next hop, or too many packets waited for it
	NoRoute                  uint64 // no leg's subnet has the destination
	NoHops                   uint64 // time to live used up
	GroupFrames              uint64 // not routed, for they came in frames to a group
	Broken                   uint64 // no whole IPv4 packet
	Translated, Untranslated uint64 // by Masquerade; the latter met no entry, or a full table
}

// Router is a router between LANs: IPv4, subnets that it is in itself, no options
// and no fragments. It answers echo requests for itself and sends no ICMP errors.
type Router struct {
	RouterOptions
	Counts RouterCounts

	w    *World
	legs []*leg
}

// leg is the state of a Leg.
type leg struct {
	Leg
	r          *Router
	port       *Port
	neighbours map[netip.Addr]*neighbour
	oldest     []netip.Addr // of neighbours, by when they were made
	nat        *translator
	group      *groupMember
}

// neighbour is what a leg knows of an address on its LAN.
type neighbour struct {
	mac     MAC
	known   bool
	static  bool
	learned time.Duration
	tries   int
	asking  Timer
	waiting [][]byte // frames without a destination
}

// NewRouter plugs a router in, or says why it cannot be. An address that somebody
// else has on the LAN is refused.
func NewRouter(o RouterOptions) (*Router, error) {
	if o.Name == "" {
		return nil, errors.New("a router needs a name")
	}
	if len(o.Legs) < 1 || len(o.Legs) > MaxLegs {
		return nil, fmt.Errorf("router %s: it has 1 to %d legs, not %d", o.Name, MaxLegs, len(o.Legs))
	}
	if o.ARPLife < 0 {
		return nil, fmt.Errorf("router %s: answers are believed for more than no time, not for %v", o.Name, o.ARPLife)
	}
	if o.ARPLife == 0 {
		o.ARPLife = DefaultARPLife
	}
	for i := range o.Legs {
		if err := o.Legs[i].check(o.Legs[:i]); err != nil {
			return nil, fmt.Errorf("router %s: %w", o.Name, err)
		}
	}
	r := &Router{RouterOptions: o, w: o.Legs[0].LAN.w}
	for _, l := range o.Legs {
		if err := r.addLeg(l); err != nil {
			return nil, fmt.Errorf("router %s: %w", o.Name, err)
		}
	}
	for ip, mac := range o.Static {
		if err := r.SetStatic(ip, mac); err != nil {
			return nil, fmt.Errorf("router %s: %w", o.Name, err)
		}
	}
	return r, nil
}

func (l *Leg) check(others []Leg) error {
	switch {
	case l.LAN == nil:
		return errors.New("a leg needs a LAN")
	case !l.Address.IsValid() || !l.Address.Addr().Is4():
		return fmt.Errorf("a leg needs an IPv4 address with its prefix, such as 10.77.0.1/24, not %v", l.Address)
	case group(l.MAC) || l.MAC == MAC{}:
		return fmt.Errorf("a leg's MAC is that of a single station, not %s", macText(l.MAC[:]))
	}
	for _, o := range others {
		if o.LAN == l.LAN {
			return fmt.Errorf("two legs are on one LAN, %v and %v", o.Address, l.Address)
		}
		if o.Address.Overlaps(l.Address) {
			return fmt.Errorf("the subnets of its legs %v and %v overlap", o.Address, l.Address)
		}
	}
	if l.Group != nil {
		return l.Group.check(l.Address)
	}
	return nil
}

func (r *Router) addLeg(o Leg) error {
	if o.Switch == "" {
		o.Switch = o.LAN.switches[0].name
	}
	if err := o.LAN.claim(r.Name, o.MAC, o.Address.Addr()); err != nil {
		return err
	}
	l := &leg{Leg: o, r: r, neighbours: map[netip.Addr]*neighbour{}}
	p, err := o.LAN.AttachTo(o.Switch, r.Name, nil, l.receive)
	if err != nil {
		return err
	}
	l.port = p
	p.Wants = l.wants
	if g := o.Group; g != nil {
		name := fmt.Sprintf("%v group %d", g.Protocol, g.Number)
		if err := o.LAN.claimShared(name, g.mac(), g.Address); err != nil {
			return err
		}
	}
	if o.Masquerade {
		l.nat = newTranslator(o.Address.Addr())
	}
	r.legs = append(r.legs, l)
	if o.Group != nil {
		l.group = newGroupMember(l, *o.Group)
	}
	if o.Querier {
		r.w.After(0, l.query)
	}
	return nil
}

// Port is the router's port on a LAN, nil if it has none there.
func (r *Router) Port(l *LAN) *Port {
	if leg := r.on(l); leg != nil {
		return leg.port
	}
	return nil
}

func (r *Router) on(l *LAN) *leg {
	if i := slices.IndexFunc(r.legs, func(x *leg) bool { return x.LAN == l }); i >= 0 {
		return r.legs[i]
	}
	return nil
}

// Unplug pulls the router's cables, all legs at once: it is dead to everybody.
func (r *Router) Unplug(on bool) {
	for _, l := range r.legs {
		l.LAN.Unplug(l.port.Index, on)
	}
}

// MACOf is where the router believes an address to be.
func (r *Router) MACOf(ip netip.Addr) (MAC, bool) {
	if l := r.route(ip); l != nil {
		if n := l.neighbours[ip]; n != nil && n.known {
			return n.mac, true
		}
	}
	return MAC{}, false
}

// SetStatic enters an address by hand.
func (r *Router) SetStatic(ip netip.Addr, mac MAC) error {
	l := r.route(ip)
	if l == nil {
		return fmt.Errorf("%v is in no subnet of its legs, so that there can be no entry for it", ip)
	}
	n := l.neighbour(ip)
	n.static = true
	l.learn(n, mac)
	return nil
}

// route is the leg whose subnet has an address.
func (r *Router) route(ip netip.Addr) *leg {
	for _, l := range r.legs {
		if l.Address.Contains(ip) {
			return l
		}
	}
	return nil
}

// wants is the leg's network card: it takes what is for the leg's addresses, and
// groups, of which the leg hears all, as one does that routes multicast.
func (l *leg) wants(frame []byte) bool {
	to := MAC(frame)
	return to == l.MAC || group(to) || l.group != nil && l.group.master && to == l.group.mac
}

func (l *leg) receive(frame []byte) {
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherARP:
		if a, ok := parseARP(frame); ok {
			l.receiveARP(frame, a)
		}
	case etherIPv4:
		l.receiveIP(frame)
	}
}

// query asks for members of all groups, now and every interval.
func (l *leg) query() {
	for _, q := range queries(netip.Addr{}, l.MAC, l.Address.Addr(), queryResponse) {
		l.port.Send(q)
	}
	l.r.w.After(DefaultQueryInterval, l.query)
}

// own says whether an address is the leg's, alone or as the master of its group.
func (l *leg) own(ip netip.Addr) bool {
	return ip == l.Address.Addr() || l.group != nil && l.group.master && ip == l.group.Address
}

func (l *leg) receiveIP(frame []byte) {
	src, dst, proto, body, ok := parseIPv4(frame)
	switch {
	case !ok:
		l.r.Counts.Broken++
	case l.group != nil && l.group.hears(src, dst, proto, frame, body):
	case dst.IsMulticast() || dst == broadcastIP():
	case l.r.own(dst):
		l.toSelf(frame, src, dst, proto, body)
	case group(MAC(frame)) && !l.r.ForwardsGroupFrames:
		l.r.Counts.GroupFrames++ // RFC 1812 §5.3.4
	default:
		l.r.forward(l, frame, src, dst)
	}
}

// own says whether an address is any leg's.
func (r *Router) own(ip netip.Addr) bool {
	return slices.ContainsFunc(r.legs, func(l *leg) bool { return l.own(ip) })
}

func broadcastIP() netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

// toSelf is a packet for the router: an answer to somebody that it masks, or an
// echo request.
func (l *leg) toSelf(frame []byte, src, dst netip.Addr, proto byte, body []byte) {
	if l.nat != nil && dst == l.nat.address {
		if inside, ok := l.nat.back(frame, l.r.w.now); ok {
			l.r.Counts.Translated++
			l.r.forward(l, frame, src, inside)
			return
		}
	}
	back := l.r.route(src)
	if back != nil && proto == protoICMP && len(body) >= echoBytes && body[0] == echoRequest && onesSum(0, body) == 0xffff {
		l.r.Counts.Echoes++
		id, seq := binary.BigEndian.Uint16(body[4:]), binary.BigEndian.Uint16(body[6:])
		back.send(src, echoFrame(MAC{}, back.MAC, dst, src, echoReply, id, seq, body[echoBytes:]))
		return
	}
	if l.nat != nil {
		l.r.Counts.Untranslated++
	}
}

// forward routes a packet (RFC 1812 §5.2.1). The frame becomes the next hop's.
func (r *Router) forward(in *leg, frame []byte, src, dst netip.Addr) {
	out := r.route(dst)
	if out == nil {
		r.Counts.NoRoute++
		return
	}
	ip := frame[MinFrame:]
	if ip[8] <= routerHops {
		r.Counts.NoHops++
		if group(MAC(frame)) {
			in.LAN.report(RoutedInCircles, r.Name, "a packet for %v came back in frames to a group until its hops were used up; a router must not route such frames (RFC 1812, 5.3.4)", dst)
		}
		return
	}
	ip[8] -= routerHops
	setIPSum(ip)
	if out.nat != nil && out != in {
		if !out.nat.out(frame, r.w.now) {
			r.Counts.Untranslated++
			return
		}
		r.Counts.Translated++
	}
	r.Counts.Forwarded++
	copy(frame[6:], out.MAC[:])
	out.send(dst, frame)
}
