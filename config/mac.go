package config

import (
	"fmt"
	"net"
	"net/netip"
)

func (m MACMode) known() bool { return m == MACMulticast || m == MACIGMP || m == MACUnicast }

// Group is the group that the nodes join in mode igmp, so that a switch that
// snoops knows where the cluster MAC's frames are wanted; the zero Addr in the
// other modes. It is a group of the VIP's family whose MAC is the cluster MAC.
func (v *VIP) Group() netip.Addr {
	if v.MACMode != MACIGMP {
		return netip.Addr{}
	}
	if v.Address.Addr().Is4() {
		return group4(v.MAC)
	}
	return group6(v.MAC)
}

// group4 is 239 and the low 23 bits: of the 32 groups that have the MAC (RFC 1112
// §6.4) one of RFC 2365's administratively scoped ones.
func group4(m net.HardwareAddr) netip.Addr {
	return netip.AddrFrom4([4]byte{239, m[3] & 0x7f, m[4], m[5]})
}

// group6 is ff12:: and the MAC's low 32 bits (RFC 2464 §7): of the link, and not
// assigned for good (RFC 4291 §2.7).
func group6(m net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x12, 12: m[2], 13: m[3], 14: m[4], 15: m[5]})
}

// vipMAC is the cluster MAC: the file's, or derived from the address.
func (p *problems) vipMAC(key string, raw *string, v *VIP) bool {
	if raw == nil {
		v.MAC = derivedMAC(v.MACMode, v.Address.Addr())
		if why, instead := misfit(v); why != "" {
			p.at(key+".address", "gives the cluster MAC %s, which %s; write mac = \"%s\" beside it, or another address", v.MAC, why, instead)
			return false
		}
		return true
	}
	mac, err := net.ParseMAC(*raw)
	if err != nil || len(mac) != 6 {
		p.at(key+".mac", "%s is not a MAC; write one like \"%s\"", shown(*raw), derivedMAC(v.MACMode, v.Address.Addr()))
		return false
	}
	v.MAC = mac
	if why, instead := misfit(v); why != "" && !(p.otherHash && control4(mac)) {
		p.at(key+".mac", "%s %s; write one like \"%s\"", mac, why, instead)
		return false
	}
	return true
}

// derivedMAC is the cluster MAC of an address when the file says none.
//
// A group's, of IPv4, is 01:00:5e and the low 23 bits (RFC 1112 §6.4). Of IPv6 it
// is 33:33 and the low 32 bits of a group, of which the first two are 10: RFC 3307
// §4.3 has the first set in groups that nobody assigned, and 33:33:ff is for
// neighbours. A single one, which no
// interface has, is 02:bf and the low 32 bits: 02 says that it was given locally
// (IEEE 802, the U/L bit), and bf is what Microsoft's NLB writes.
func derivedMAC(mode MACMode, a netip.Addr) net.HardwareAddr {
	b := a.As16()
	switch {
	case mode == MACUnicast:
		return net.HardwareAddr{0x02, 0xbf, b[12], b[13], b[14], b[15]}
	case a.Is4():
		return net.HardwareAddr{0x01, 0x00, 0x5e, b[13] & 0x7f, b[14], b[15]}
	}
	return net.HardwareAddr{0x33, 0x33, 0x80 | b[12]&0x3f, b[13], b[14], b[15]}
}

// misfit says why a VIP's cluster MAC cannot be one in its mode, and one that can;
// "" when nothing is wrong with it.
func misfit(v *VIP) (why, instead string) {
	m, mode := v.MAC, v.MACMode
	instead = derivedMAC(mode, v.Address.Addr()).String()
	if mode != MACUnicast && reserved(derivedMAC(mode, v.Address.Addr())) {
		a := v.Address.Addr().As4()
		instead = fmt.Sprintf("01:00:5e:40:%02x:%02x", a[2], a[3])
	}
	switch {
	case m.String() == "ff:ff:ff:ff:ff:ff":
		return "is everybody's", instead
	case mode == MACUnicast && m[0]&1 != 0:
		return "is a group address, and mode unicast needs a single one", instead
	case mode == MACUnicast && m[0]&2 == 0:
		// Somebody's card may have it.
		return "is a maker's, for the second bit of its first byte is not set", instead
	case mode == MACUnicast:
		return "", ""
	case m[0]&1 == 0:
		return fmt.Sprintf("is not a group address, which mode %s needs", mode), instead
	case reserved(m):
		return "belongs to a protocol", instead
	case mode == MACIGMP && !hasGroup(m, v.Address.Addr()):
		return "is no group's of IP, which mode igmp has to join", instead
	}
	return "", ""
}

// hasGroup reports whether groups of an address' family have that MAC.
func hasGroup(m net.HardwareAddr, a netip.Addr) bool {
	if a.Is4() {
		return m[0] == 0x01 && m[1] == 0x00 && m[2] == 0x5e && m[3] < 0x80
	}
	return m[0] == 0x33 && m[1] == 0x33
}

// reserved reports the groups of local network control (RFC 5771 §4), those of
// IPv6 that are assigned for good or belong to neighbours (RFC 4291 §2.7.1), and
// those of bridges (IEEE 802.1D, table 7-10), which switches treat in their own
// way.
func reserved(m net.HardwareAddr) bool {
	control6 := m[0] == 0x33 && m[1] == 0x33 && (m[2] < 0x80 || m[2] == 0xff)
	bridges := m[0] == 0x01 && m[1] == 0x80 && m[2] == 0xc2 && m[3] == 0 && m[4] == 0
	return control4(m) || control6 || bridges
}

// control4 reports the groups of local network control of IPv4. CLUSTERIP's manuals
// have one of them, 01:00:5e:00:00:20, for an example, so that clusters use it: beside
// nodes of other systems it is taken, with a warning.
func control4(m net.HardwareAddr) bool {
	return m[0] == 0x01 && m[1] == 0x00 && m[2] == 0x5e && m[3] == 0 && m[4] == 0
}
