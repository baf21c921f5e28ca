package config

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

// Each case is written into the good file's [[vip]]; a MAC and its group, or an
// error, is wanted.
func TestClusterMACs(t *testing.T) {
	const address = `address = "10.77.0.2/24"`
	for _, c := range []struct{ write, want string }{
		{address, "01:00:5e:4d:00:02"},
		{`address = "129.65.158.160/24"`, "01:00:5e:41:9e:a0"},
		{address + "\nmac_mode = \"multicast\"\nmac = \"03:00:5e:00:00:02\"", "03:00:5e:00:00:02"},
		{address + "\nmac_mode = \"unicast\"", "02:bf:0a:4d:00:02"},
		{address + "\nmac_mode = \"unicast\"\nmac = \"a6:00:00:00:00:01\"", "a6:00:00:00:00:01"},
		{"address = \"10.0.0.2/24\"\nmac_mode = \"unicast\"", "02:bf:0a:00:00:02"},

		{address + "\nmac_mode = \"unicast\"\nmac = \"01:00:5e:4d:00:02\"",
			`vip[0].mac: 01:00:5e:4d:00:02 is a group address, and mode unicast needs a single one; write one like "02:bf:0a:4d:00:02"`},
		{address + "\nmac_mode = \"unicast\"\nmac = \"00:16:3e:4d:00:02\"",
			`vip[0].mac: 00:16:3e:4d:00:02 is a maker's, for the second bit of its first byte is not set; write one like "02:bf:0a:4d:00:02"`},
		{address + "\nmac_mode = \"unicast\"\nmac = \"ff:ff:ff:ff:ff:ff\"",
			`vip[0].mac: ff:ff:ff:ff:ff:ff is everybody's; write one like "02:bf:0a:4d:00:02"`},
		{address + "\nmac_mode = \"unicast\"\nmac = \"02:bf:0a\"",
			`vip[0].mac: "02:bf:0a" is not a MAC; write one like "02:bf:0a:4d:00:02"`},
		{address + "\nmac = \"ff:ff:ff:ff:ff:ff\"",
			`vip[0].mac: ff:ff:ff:ff:ff:ff is everybody's; write one like "01:00:5e:4d:00:02"`},
		{address + "\nmac = \"01:80:c2:00:00:0e\"",
			`vip[0].mac: 01:80:c2:00:00:0e belongs to a protocol; write one like "01:00:5e:4d:00:02"`},
		{address + "\nmac = \"33:33:00:00:00:01\"",
			`vip[0].mac: 33:33:00:00:00:01 belongs to a protocol; write one like "01:00:5e:4d:00:02"`},
		{"address = \"10.0.0.2/24\"\nmac = \"01:00:5e:00:00:02\"",
			`vip[0].mac: 01:00:5e:00:00:02 belongs to a protocol; write one like "01:00:5e:40:00:02"`},
		{address + "\nmac_mode = \"Unicast\"",
			`vip[0].mac_mode: "Unicast" is not a mode; write "multicast", "igmp" or "unicast"`},
	} {
		vip, _, _ := strings.Cut(strings.TrimPrefix(c.write, "address = \""), "/")
		text := strings.ReplaceAll(strings.Replace(good, address, c.write, 1), "10.77.0.2:22", vip+":22")
		config, err := Parse("f", []byte(text), "h")
		if err != nil {
			_, text, _ := strings.Cut(strings.TrimSpace(err.Error()), ": ")
			if text != c.want {
				t.Errorf("%s\nsays %s\nwant %s", c.write, text, c.want)
			}
			continue
		}
		if got := config.VIPs[0].MAC.String(); got != c.want {
			t.Errorf("%s\nhas the MAC %s, want %s", c.write, got, c.want)
		}
	}
}

// What is derived is never one that a protocol has, and its group has that MAC.
func TestDerivedMACsFit(t *testing.T) {
	for _, mode := range []MACMode{MACMulticast, MACIGMP, MACUnicast} {
		for _, a := range []string{"10.77.0.2", "10.128.1.2", "255.255.255.255", "2001:db8::1", "2001:db8::7fff:ffff", "2001:db8::ffff:ffff", "fe80::"} {
			v := VIP{Address: netip.PrefixFrom(netip.MustParseAddr(a), 8), MACMode: mode}
			v.MAC = derivedMAC(mode, v.Address.Addr())
			if why, _ := misfit(&v); why != "" {
				t.Errorf("%s in mode %s: %s %s", a, mode, v.MAC, why)
			}
			g := v.Group()
			if g.IsValid() != (mode == MACIGMP) {
				t.Errorf("%s in mode %s: group %v", a, mode, g)
			}
			if g.IsValid() && (!g.IsMulticast() || g.Is4() != v.Address.Addr().Is4() || groupMAC(g) != v.MAC.String()) {
				t.Errorf("%s: the group %s has the MAC %s, want %s", a, g, groupMAC(g), v.MAC)
			}
		}
	}
}

// groupMAC is the MAC of a group, by RFC 1112 §6.4 and RFC 2464 §7.
func groupMAC(g netip.Addr) string {
	b := g.As16()
	if g.Is4() {
		return net.HardwareAddr{0x01, 0x00, 0x5e, b[13] & 0x7f, b[14], b[15]}.String()
	}
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}.String()
}
