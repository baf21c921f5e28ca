package library

import (
	"fmt"
	"net/netip"

	"onevoice/sim"
	"onevoice/sim/scenario"
)

// lans are the kinds of LAN.
func lans() []string {
	return []string{"switch", "hub", "snooping", "snooping-querier", "snooping-by-ip", "dual", "dual-tree", "dual-loop", "isolated", "inspecting"}
}

// routers are what may be between clients and nodes.
func routers() []string {
	return []string{"none", "believes", "rfc1812", "static", "validates", "pair", "pair-circles"}
}

// checkNetwork says what cannot be about the network.
func (s *Spec) checkNetwork() error {
	switch {
	case s.has(groupFloods) && s.LAN == "hub":
		return fmt.Errorf("a hub cannot do without group-flooding: it repeats every frame; write lan switch")
	case s.has(groupFloods) && s.MACMode == "unicast":
		return fmt.Errorf("mac-mode unicast sends no frames to groups, so that it cannot do without group-flooding; leave one of them out")
	case s.Router == "pair-circles" && s.MACMode == "unicast":
		return fmt.Errorf("routers send only frames to a group in circles, and mac-mode unicast sends none; write router pair")
	}
	return nil
}

// Switches and trunks, by name.
const (
	firstSwitch, secondSwitch = "sw1", "sw2"
	firstTrunk, secondTrunk   = "t1", "t2"
)

// topology is the nodes' LAN.
func (s *Spec) topology() sim.Topology {
	first := sim.SwitchOptions{Name: firstSwitch, Ports: s.Nodes + s.Late + s.Clients + 8}
	var t sim.Topology
	switch s.LAN {
	case "hub":
		first.Repeats = true
	case "snooping":
		first.Snooping = &sim.Snooping{Key: sim.ByMAC}
	case "snooping-querier":
		first.Snooping = &sim.Snooping{Key: sim.ByMAC, Querier: true}
	case "snooping-by-ip":
		first.Snooping = sim.LinuxSnooping()
		first.Snooping.Querier = true
	case "isolated":
		first.Isolated = true
	case "inspecting":
		first.InspectARP = true
	case "dual-tree":
		first.Tree = &sim.SpanningTree{Rapid: true}
	}
	if first.Snooping != nil {
		// RFC 2236 §8.4: twice the query interval and the response interval.
		first.Snooping.Membership = s.Membership
		first.Snooping.QueryInterval = (s.Membership - responseInterval) / 2
	}
	first.BlockGroups = s.has(groupFloods)
	t.Switches = []sim.SwitchOptions{first}
	if s.trunks() > 0 {
		second := first
		second.Name = secondSwitch
		t.Switches = append(t.Switches, second)
	}
	for _, name := range []string{firstTrunk, secondTrunk}[:s.trunks()] {
		t.Trunks = append(t.Trunks, sim.TrunkOptions{Name: name, A: firstSwitch, B: secondSwitch})
	}
	return t
}

// trunks is how many there are between two switches.
func (s *Spec) trunks() int {
	switch s.LAN {
	case "dual":
		return 1
	case "dual-tree", "dual-loop":
		return 2
	}
	return 0
}

// trunkNames are those that steps may use.
func (s *Spec) trunkNames() []string { return []string{firstTrunk, secondTrunk}[:s.trunks()] }

// routerNames are those that steps may use.
func (s *Spec) routerNames() []string {
	switch s.Router {
	case "none":
		return nil
	case "pair", "pair-circles":
		return []string{"r1", "r2"}
	}
	return []string{"r1"}
}

// switchOf is where a station is plugged in: every second one into the second
// switch, if there is one.
func (s *Spec) switchOf(i int) string {
	if s.trunks() > 0 && i%2 == 1 {
		return secondSwitch
	}
	return firstSwitch
}

// Addresses of the networks.
const (
	nodesNet   = 77 // 10.77.0.0/16, where the nodes are
	outsideNet = 99 // 10.99.0.0/16, behind the router
	homeNet    = 88 // 10.88.0.0/16, behind the box that translates
	lanBits    = 16
	homeHosts  = 7 // the fourth number of the translating box
)

func routerAddress(net, host byte) netip.Addr { return netip.AddrFrom4([4]byte{10, net, 0, host}) }

// network is what is beside the nodes.
type network struct {
	lan, outside, home *sim.LAN
	routers            map[string]*sim.Router
}

// newLAN builds the nodes' LAN.
func (s *Spec) newLAN(w *sim.World) *sim.LAN {
	l, err := w.NewLAN(s.topology())
	if err != nil {
		panic(fmt.Sprintf("library: %v", err)) // Check has looked
	}
	return l
}

// gateway is the nodes' router, if there is one.
func (s *Spec) gateway() netip.Addr {
	if s.Router == "none" {
		return netip.Addr{}
	}
	return routerAddress(nodesNet, gatewayHost)
}

// newNetwork builds what is around the nodes' LAN.
func (s *Spec) newNetwork(c *scenario.Cluster) (*network, error) {
	n := &network{lan: c.LANs[0], routers: map[string]*sim.Router{}}
	if s.Router != "none" {
		n.outside, _ = c.World.NewSwitch()
	}
	if s.NAT > 0 {
		n.home, _ = c.World.NewSwitch()
	}
	for i, name := range s.routerNames() {
		if err := n.addRouter(s, c, name, i); err != nil {
			return nil, err
		}
	}
	if s.NAT == 0 {
		return n, nil
	}
	return n, n.add(sim.RouterOptions{Name: "nat", Legs: []sim.Leg{
		{LAN: n.lan, MAC: sim.MAC{2, 0, 0, 9, nodesNet, homeHosts}, Address: netip.PrefixFrom(routerAddress(nodesNet, homeHosts), lanBits), Masquerade: true},
		{LAN: n.home, MAC: sim.MAC{2, 0, 0, 9, homeNet, homeHosts}, Address: netip.PrefixFrom(routerAddress(homeNet, homeHosts), lanBits)},
	}})
}

func (n *network) add(o sim.RouterOptions) error {
	r, err := sim.NewRouter(o)
	if err == nil {
		n.routers[o.Name] = r
		if p := r.Port(n.lan); p != nil {
			p.Isolated = false // the uplink is what an isolated port may speak to
		}
	}
	return err
}

// addRouter adds the i-th router between outside and nodes. A single one has the
// gateway's addresses, of two each its own beside the shared ones.
func (n *network) addRouter(s *Spec, c *scenario.Cluster, name string, i int) error {
	o := sim.RouterOptions{
		Name: name, RefusesGroups: s.Router == "rfc1812", ValidatesARP: s.Router == "validates", ForwardsGroupFrames: s.Router == "pair-circles",
	}
	pair := len(s.routerNames()) > 1
	for _, net := range []byte{nodesNet, outsideNet} {
		lan, sw := n.lan, s.switchOf(i)
		if net == outsideNet {
			lan, sw = n.outside, ""
		}
		leg := sim.Leg{LAN: lan, Switch: sw, MAC: sim.MAC{2, 0, 0, 8, net, byte(i)}, Address: netip.PrefixFrom(routerAddress(net, gatewayHost), lanBits)}
		if pair {
			leg.Address = netip.PrefixFrom(routerAddress(net, byte(8+i)), lanBits)
			leg.Group = &sim.Redundancy{Protocol: sim.VRRP, Number: 1, Address: routerAddress(net, gatewayHost), Priority: 200 - 100*i, Preempt: true}
			if s.Router == "pair-circles" {
				leg.Group.Protocol = sim.HSRP
				leg.Group.Advertise = 300 * hsrpUnit
			}
		}
		o.Legs = append(o.Legs, leg)
	}
	if s.Router == "static" {
		o.Static = map[netip.Addr]sim.MAC{scenario.VIP(): c.ClusterMAC()}
	}
	return n.add(o)
}

// gatewayHost is the fourth number of the gateway's addresses. hsrpUnit: its timers
// are set to 300 ms, as HSRP version 2 allows, so that a run need not wait.
const (
	gatewayHost = 1
	hsrpUnit    = 1_000_000 // ns
)

// client adds the i-th client where it belongs.
func (n *network) client(s *Spec, i int) (*sim.Client, error) {
	o := sim.ClientOptions{Name: clientName(i), MAC: clientMAC(i), VIP: scenario.VIP()}
	lan, sw := n.lan, s.switchOf(i)
	switch {
	case i < s.NAT:
		o.IP, o.Gateway = clientAddress(homeNet, i), routerAddress(homeNet, homeHosts)
		lan, sw = n.home, ""
	case s.Router != "none":
		o.IP, o.Gateway = clientAddress(outsideNet, i), routerAddress(outsideNet, gatewayHost)
		lan, sw = n.outside, ""
	default:
		o.IP = clientAddress(nodesNet, i)
	}
	c, err := lan.AddClient(sw, o)
	if err == nil {
		c.Port().Isolated = false
	}
	return c, err
}

// clusterMAC is the shared MAC of a mode; zero means the group MAC of the VIP.
func (s *Spec) clusterMAC() sim.MAC {
	if s.MACMode == "unicast" {
		return sim.MAC{0x02, 0xbf, 10, 77, 0, 2}
	}
	return sim.MAC{}
}

// groups are what the nodes join: the group whose MAC the cluster's is.
func (s *Spec) groups() []netip.Addr {
	if s.MACMode == "igmp" {
		return []netip.Addr{netip.AddrFrom4([4]byte{239, nodesNet, 0, 2})}
	}
	return nil
}

// useUnicast is the advice to use that mode.
const useUnicast = "use mac_mode = \"unicast\""
