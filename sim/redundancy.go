package sim

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// RedundancyProtocol is how routers agree who has an address.
type RedundancyProtocol int

const (
	VRRP RedundancyProtocol = iota // RFC 5798, version 3
	HSRP                           // RFC 2281, version 1
)

func (p RedundancyProtocol) String() string {
	if p == HSRP {
		return "HSRP"
	}
	return "VRRP"
}

// Redundancy is an address that several routers of one LAN share; one of them, the
// master, answers for it.
type Redundancy struct {
	Protocol RedundancyProtocol
	Number   byte       // of the group: VRID 1 to 255, or HSRP's 0 to 255
	Address  netip.Addr // that is shared
	// Priority is 1 to 254, the highest becomes master; 0 means 100.
	Priority int
	// Preempt: it takes over from a master of lower priority. VRRP's default is on
	// (RFC 5798 §6.1), HSRP leaves it open (RFC 2281 §5.2).
	Preempt bool
	// Advertise is how often the master speaks; 0 means 1 s for VRRP, 3 s for HSRP.
	Advertise time.Duration
}

// Times of the protocols.
const (
	vrrpAdvertise = time.Second // RFC 5798 §6.1
	hsrpHello     = 3 * time.Second
	defaultRouter = 100 // priority, of both
)

func (g *Redundancy) check(subnet netip.Prefix) error {
	switch {
	case g.Protocol != VRRP && g.Protocol != HSRP:
		return fmt.Errorf("a shared address is by VRRP or HSRP, not by protocol %d", g.Protocol)
	case g.Protocol == VRRP && g.Number == 0:
		return fmt.Errorf("a VRRP group has a number from 1 to 255")
	case !subnet.Contains(g.Address):
		return fmt.Errorf("the shared address %v is not in the leg's subnet %v", g.Address, subnet.Masked())
	case g.Address == subnet.Addr():
		return fmt.Errorf("the shared address %v is the leg's own; give the group one that no router has", g.Address)
	case g.Priority < 0 || g.Priority > 254:
		return fmt.Errorf("a router's priority is from 1 to 254, not %d", g.Priority)
	case g.Advertise < 0 || g.Advertise > 40*time.Second:
		return fmt.Errorf("a master speaks every 10ms to 40s, not every %v", g.Advertise)
	}
	return nil
}

// mac is the group's own.
func (g *Redundancy) mac() MAC {
	if g.Protocol == HSRP {
		return MAC{0, 0, 0x0c, 0x07, 0xac, g.Number} // RFC 2281 §6.1
	}
	return MAC{0, 0, 0x5e, 0, 1, g.Number} // RFC 5798 §7.3
}

// groupMember is a leg's part in its group. It sends and hears packets as the
// protocol has them on the wire; of HSRP it leaves out the standby's own election,
// which decides nothing with two routers.
type groupMember struct {
	Redundancy
	l      *leg
	mac    MAC
	master bool
	timer  Timer // for the next advertisement, or the end of the master's
}

func newGroupMember(l *leg, o Redundancy) *groupMember {
	if o.Priority == 0 {
		o.Priority = defaultRouter
	}
	if o.Advertise == 0 {
		o.Advertise = map[RedundancyProtocol]time.Duration{VRRP: vrrpAdvertise, HSRP: hsrpHello}[o.Protocol]
	}
	g := &groupMember{Redundancy: o, l: l, mac: o.mac()}
	g.wait()
	return g
}

// Master says whether the router is the master of the address that it shares on a
// LAN.
func (r *Router) Master(l *LAN) bool {
	leg := r.on(l)
	return leg != nil && leg.group != nil && leg.group.master
}

// down is after what silence the master is dead: three advertisements and a skew
// that is less for higher priorities (RFC 5798 §6.1), or the hold time and such a
// skew, which stands for HSRP's way through Speak and Standby.
func (g *groupMember) down() time.Duration {
	skew := time.Duration(256-g.Priority) * g.Advertise / 256
	if g.Protocol == HSRP {
		return g.hold() + skew
	}
	return 3*g.Advertise + skew
}

// wait is a backup's state.
func (g *groupMember) wait() {
	g.timer.Stop()
	g.timer = g.l.r.w.After(g.down(), g.takeOver)
}

// hold is HSRP's hold time: 10 s for a hello time of 3 s, and more than three times
// that (RFC 2281 §5.1).
func (g *groupMember) hold() time.Duration { return g.Advertise * 10 / 3 }

// takeOver makes the router the master: it says so, and tells all where the
// address is now (RFC 5798 §6.4.2).
func (g *groupMember) takeOver() {
	g.master = true
	g.l.r.w.Record(g.l.r.Name, fmt.Sprintf("is master of %v", g.Address))
	g.advertise()
	a := arpPacket{operation: arpRequest, senderMAC: g.mac, sender: g.Address, target: g.Address}
	g.l.port.Send(a.frame(broadcast(), g.mac))
}

func (g *groupMember) advertise() {
	if !g.master {
		return
	}
	g.l.port.Send(g.frame())
	g.timer.Stop()
	g.timer = g.l.r.w.After(g.Advertise, g.advertise)
}

// yield makes a master a backup.
func (g *groupMember) yield() {
	if g.master {
		g.master = false
		g.l.r.w.Record(g.l.r.Name, fmt.Sprintf("is no longer master of %v", g.Address))
	}
	g.wait()
}

// hears takes an advertisement in and says whether the packet was one.
func (g *groupMember) hears(src, dst netip.Addr, proto byte, frame, body []byte) bool {
	priority, ok := g.parse(src, dst, proto, frame, body)
	if !ok {
		return false
	}
	higher := priority > g.Priority || priority == g.Priority && g.l.Address.Addr().Less(src)
	switch {
	case g.master && higher: // RFC 5798 §6.4.3
		g.yield()
	case g.master:
		g.advertise()
	case higher || !g.Preempt:
		g.wait()
	case g.Protocol == HSRP: // preempts at once, by a Coup (RFC 2281 §5.1)
		g.takeOver()
	}
	return true
}

// The advertisement of RFC 5798 §5.1 and the hello of RFC 2281 §5.1:
//
//	VRRP: | 3, 1 | VRID | priority | 1 | 0, interval in 1/100 s | checksum | address |
//	HSRP: | 0 | 0 hello | 16 active | hellotime s | holdtime s | priority | group | 0 | "cisco" 0 0 0 | address |
const (
	protoVRRP  = 112
	hsrpPort   = 1985
	vrrpBytes  = 12
	hsrpBytes  = 20
	udpBytes   = 8
	hsrpActive = 16
)

func vrrpGroup() netip.Addr { return netip.AddrFrom4([4]byte{224, 0, 0, 18}) }
func hsrpGroup() netip.Addr { return netip.AddrFrom4([4]byte{224, 0, 0, 2}) }

// frame is an advertisement, from the group's own MAC, so that switches learn
// where the master is (RFC 5798 §7.2).
func (g *groupMember) frame() []byte {
	own := g.l.Address.Addr()
	if g.Protocol == HSRP {
		body := []byte{0, 0, hsrpActive, byte(g.Advertise / time.Second), byte(g.hold() / time.Second), byte(g.Priority), g.Number, 0, 'c', 'i', 's', 'c', 'o', 0, 0, 0}
		return udpFrame(groupMAC(hsrpGroup()), g.mac, netip.AddrPortFrom(own, hsrpPort), netip.AddrPortFrom(hsrpGroup(), hsrpPort), append(body, g.Address.AsSlice()...))
	}
	body := []byte{3<<4 | 1, g.Number, byte(g.Priority), 1}
	body = binary.BigEndian.AppendUint16(body, uint16(g.Advertise/(10*time.Millisecond)))
	body = append(append(body, 0, 0), g.Address.AsSlice()...)
	binary.BigEndian.PutUint16(body[6:], ^onesSum(pseudoSum(own, vrrpGroup(), protoVRRP, len(body)), body))
	return groupFrame(g.mac, own, vrrpGroup(), protoVRRP, 255, body)
}

// parse is the priority in an advertisement of this group.
func (g *groupMember) parse(src, dst netip.Addr, proto byte, frame, body []byte) (priority int, ok bool) {
	if g.Protocol == HSRP {
		if proto != protoUDP || dst != hsrpGroup() || len(body) < udpBytes+hsrpBytes || binary.BigEndian.Uint16(body[2:]) != hsrpPort {
			return 0, false
		}
		b := body[udpBytes:]
		return int(b[5]), b[0] == 0 && b[2] == hsrpActive && b[6] == g.Number
	}
	if proto != protoVRRP || dst != vrrpGroup() || len(body) < vrrpBytes || frame[MinFrame+8] != 255 ||
		onesSum(pseudoSum(src, dst, protoVRRP, len(body)), body) != 0xffff { // RFC 5798 §7.1
		return 0, false
	}
	return int(body[2]), body[0] == 3<<4|1 && body[1] == g.Number
}
