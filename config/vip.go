package config

import (
	"fmt"
	"net/netip"
	"slices"
)

// The lengths of a LAN's prefix: shorter is no LAN's, and a longer one has no
// room for a VIP and a node.
const (
	minPrefixBits  = 8
	maxPrefixBits  = 30
	minPrefixBits6 = 16
	maxPrefixBits6 = 126
)

// prefixBits are the lengths that a VIP's prefix may have.
func prefixBits(a netip.Addr) (least, most int) {
	if a.Is4() {
		return minPrefixBits, maxPrefixBits
	}
	return minPrefixBits6, maxPrefixBits6
}

// maxVLAN is the last VLAN that there can be (IEEE 802.1Q §9.6).
const maxVLAN = 4094

func (p *problems) vips(raw []rawVIP, c *Config) {
	if n := len(raw); n == 0 || n > MaxVIPs {
		p.at("vip", "there are %d; write 1 to %d tables [[vip]], each with an address", n, MaxVIPs)
		return
	}
	for i := range raw {
		key := fmt.Sprintf("vip[%d]", i)
		v := VIP{MACMode: MACMode(or(raw[i].MACMode, string(MACMulticast))), Uplink: Uplink{Interface: or(raw[i].Interface, c.Cluster.Interface)}}
		if raw[i].Interface != nil && !isInterface(v.Uplink.Interface) {
			p.at(key+".interface", "%s is no name of an interface; write one like \"eth1\", or leave it out for cluster.interface", shown(v.Uplink.Interface))
		}
		if raw[i].VLAN != nil {
			v.Uplink.VLAN = uint16(p.number(key+".vlan", raw[i].VLAN, 10, 1, maxVLAN))
		}
		if !v.MACMode.known() {
			p.at(key+".mac_mode", "%s is not a mode; write %q, %q or %q", shown(string(v.MACMode)), MACMulticast, MACIGMP, MACUnicast)
			v.MACMode = MACMulticast
		}
		if p.vipAddress(key+".address", raw[i].Address, c, &v) && p.vipMAC(key, raw[i].MAC, &v) {
			if v.Uplink.VLAN != 0 && v.Address.Addr().Is6() {
				p.at(key+".vlan", "with a VIP of IPv6 it %s; write the VLAN's own interface instead, such as interface = \"eth0.10\"", later)
			}
			c.VIPs = append(c.VIPs, v)
		}
	}
}

func (p *problems) vipAddress(key string, raw *string, c *Config, v *VIP) bool {
	text, ok := p.required(key, raw, "10.77.0.2/24")
	if !ok {
		return false
	}
	prefix, err := netip.ParsePrefix(text)
	a := prefix.Addr()
	least, most := prefixBits(a)
	switch {
	case err != nil:
		p.at(key, "%s is not an address with its network's length; write one like \"10.77.0.2/24\"", shown(text))
	case !isHost(a) && !isHost6(a):
		p.at(key, "%s is not the address of a host that others can reach; write one like \"10.77.0.2/24\" or \"2001:db8::2/64\"", a)
	case prefix.Bits() < least || prefix.Bits() > most:
		p.at(key, "/%d is no LAN's length; write that of the clients' network, /%d to /%d, such as \"%s/%d\"", prefix.Bits(), least, most, a, usualBits(a))
	case a.Is6() && a == prefix.Masked().Addr():
		p.at(key, "%s is every router's of the network (RFC 4291, subnet-router anycast); write a host's", a)
	case a.Is4() && (a == prefix.Masked().Addr() || a == broadcast(prefix)):
		p.at(key, "%s is the network's own or its broadcast address; write a host's", prefix)
	case slices.Contains(c.Cluster.Peers, a):
		p.at(key, "%s is also in cluster.peers; write an address that no node has", a)
	case slices.Contains(c.Cluster.Controls, a):
		p.at(key, "%s is also a control address in cluster.peers; write an address that no node has", a)
	case c.Cluster.Witness.Addr() == a:
		p.at(key, "%s is also cluster.witness; write an address that nobody has", a)
	case slices.ContainsFunc(c.VIPs, func(o VIP) bool { return o.Address.Addr() == a }):
		p.at(key, "%s is there twice; write each VIP once", a)
	default:
		v.Address = prefix
		return true
	}
	return false
}

// usualBits is a prefix length for an example.
func usualBits(a netip.Addr) int {
	if a.Is4() {
		return 24
	}
	return 64
}

// broadcast is the last address of an IPv4 prefix.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}

// warnings are about what is allowed and may bite.
func warnings(c *Config) []string {
	var out []string
	for i, v := range c.VIPs {
		if control4(v.MAC) {
			out = append(out, fmt.Sprintf("the cluster MAC %s of %s belongs to a protocol of routers (224.0.0.x), whose packets wake every node; it is taken because another system's nodes have it: change it when the last of them is gone", v.MAC, v.Address.Addr()))
		}
		for _, o := range c.VIPs[:i] {
			if c.Path(&o) == c.Path(&v) {
				out = append(out, fmt.Sprintf("%s and %s share the cluster MAC %s: each wakes the nodes of the other", o.Address.Addr(), v.Address.Addr(), v.MAC))
			}
		}
		for _, peer := range c.Cluster.Peers {
			if v.Uplink == (Uplink{Interface: c.Cluster.Interface}) && v.Address.Addr().Is4() && !v.Address.Contains(peer) {
				out = append(out, fmt.Sprintf("peer %s is outside %s, the network of VIP %s: is it on the same LAN?", peer, v.Address.Masked(), v.Address.Addr()))
			}
		}
	}
	return append(out, spread(c)...)
}
