package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// The lengths of a LAN's prefix: shorter is no LAN's, and a longer one has no
// room for a VIP and a node.
const (
	minPrefixBits = 8
	maxPrefixBits = 30
)

func (p *problems) vips(raw []rawVIP, c *Config) {
	if n := len(raw); n == 0 || n > MaxVIPs {
		p.at("vip", "there are %d; write 1 to %d tables [[vip]], each with an address", n, MaxVIPs)
		return
	}
	for i := range raw {
		key := fmt.Sprintf("vip[%d]", i)
		v := VIP{MACMode: MACMode(or(raw[i].MACMode, string(MACMulticast)))}
		if v.MACMode != MACMulticast {
			p.at(key+".mac_mode", "%s is not a mode; write %q", shown(string(v.MACMode)), MACMulticast)
		}
		if p.vipAddress(key+".address", raw[i].Address, c, &v) && p.vipMAC(key, raw[i].MAC, &v) {
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
	switch {
	case err != nil:
		p.at(key, "%s is not an address with its network's length; write one like \"10.77.0.2/24\"", shown(text))
	case !isHost(a):
		p.at(key, "%s is not the IPv4 address of a host; write one like \"10.77.0.2/24\"", a)
	case prefix.Bits() < minPrefixBits || prefix.Bits() > maxPrefixBits:
		p.at(key, "/%d is no LAN's length; write that of the clients' network, /%d to /%d, such as \"%s/24\"", prefix.Bits(), minPrefixBits, maxPrefixBits, a)
	case a == prefix.Masked().Addr() || a == broadcast(prefix):
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

// broadcast is the last address of an IPv4 prefix.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}

// vipMAC derives the cluster MAC as RFC 1112 §6.4 derives a group's: 01:00:5e
// and the low 23 bits of the address. One in the file takes its place.
func (p *problems) vipMAC(key string, raw *string, v *VIP) bool {
	if raw == nil {
		a := v.Address.Addr().As4()
		v.MAC = net.HardwareAddr{0x01, 0x00, 0x5e, a[1] & 0x7f, a[2], a[3]}
		if reserved(v.MAC) {
			p.at(key+".address", "gives the cluster MAC %s, which belongs to a protocol of routers (224.0.0.x); write mac = \"03:00:5e:%02x:%02x:%02x\" beside it, or another address", v.MAC, a[1], a[2], a[3])
			return false
		}
		return true
	}
	mac, err := net.ParseMAC(*raw)
	switch key += ".mac"; {
	case err != nil || len(mac) != 6:
		p.at(key, "%s is not a MAC; write one like \"01:00:5e:4d:00:02\"", shown(*raw))
	case mac[0]&1 == 0:
		p.at(key, "%s is not a group address, which mode multicast needs; write one whose first byte is odd", mac)
	case mac.String() == "ff:ff:ff:ff:ff:ff":
		p.at(key, "%s is everybody's; write a group address", mac)
	case reserved(mac):
		p.at(key, "%s belongs to a protocol; write another", mac)
	default:
		v.MAC = mac
		return true
	}
	return false
}

// reserved reports the groups of local network control (RFC 5771 §4) and of
// bridges (IEEE 802.1D, table 7-10), which switches treat in their own way.
func reserved(m net.HardwareAddr) bool {
	control := m[0] == 0x01 && m[1] == 0x00 && m[2] == 0x5e && m[3] == 0 && m[4] == 0
	bridges := m[0] == 0x01 && m[1] == 0x80 && m[2] == 0xc2 && m[3] == 0 && m[4] == 0
	return control || bridges
}

// warnings are about what is allowed and may bite.
func warnings(c *Config) []string {
	var out []string
	for i, v := range c.VIPs {
		for _, o := range c.VIPs[:i] {
			if o.MAC.String() == v.MAC.String() {
				out = append(out, fmt.Sprintf("%s and %s share the cluster MAC %s: each wakes the nodes of the other", o.Address.Addr(), v.Address.Addr(), v.MAC))
			}
		}
		for _, peer := range c.Cluster.Peers {
			if !v.Address.Contains(peer) {
				out = append(out, fmt.Sprintf("peer %s is outside %s, the network of VIP %s: is it on the same LAN?", peer, v.Address.Masked(), v.Address.Addr()))
			}
		}
	}
	return out
}
