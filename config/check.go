package config

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Bounds of texts, in bytes: sun_path of unix(7) and IFNAMSIZ of the kernel,
// each less its closing zero, and what a table still shows.
const (
	maxSocketPathBytes = 107
	maxInterfaceBytes  = 15
	maxNameBytes       = 64
)

// check makes typed values of the raw file and reports what is impossible.
func (p *problems) check(raw *rawFile, host string) *Config {
	c := &Config{}
	p.unsupported(raw)
	p.cluster(&raw.Cluster, &c.Cluster)
	p.node(&raw.Node, &c.Node, host)
	c.Admin.Socket = cmp.Or(raw.Admin.Socket, DefaultSocket)
	if len(c.Admin.Socket) > maxSocketPathBytes || !filepath.IsAbs(c.Admin.Socket) {
		p.at("admin.socket", "%q is no place for a socket; write an absolute path of at most %d bytes", c.Admin.Socket, maxSocketPathBytes)
	}
	p.vips(raw.VIP, c)
	p.services(raw.Service, c)
	c.Warnings = append(c.Warnings, warnings(c)...)
	return c
}

// unsupported refuses what the file may say and this version cannot do yet, so
// that nobody relies on it.
func (p *problems) unsupported(raw *rawFile) {
	const later = "is not supported by this version yet; leave it out"
	for _, u := range []struct {
		key string
		set bool
	}{
		{"cluster.timing", raw.Cluster.Timing != ""},
		{"cluster.witness", raw.Cluster.Witness != ""},
		{"node.weight", raw.Node.Weight != nil},
		{"node.voter", raw.Node.Voter != nil},
		{"admin.listen", raw.Admin.Listen != ""},
	} {
		if u.set {
			p.at(u.key, "%s", later)
		}
	}
	for i, v := range raw.VIP {
		if m := MACMode(v.MACMode); m == MACIGMP || m == MACUnicast {
			p.at(fmt.Sprintf("vip[%d].mac_mode", i), "%q is not supported by this version yet; write %q", m, MACMulticast)
		}
	}
	for i, s := range raw.Service {
		key := fmt.Sprintf("service[%d]", i)
		if v := Source(s.Source); v == SourceProxyV1 || v == SourceProxyV2 {
			p.at(key+".source", "%q is not supported by this version yet; write %q or %q", v, SourceTransparent, SourcePlain)
		}
		if s.Check != "" && s.Check != "tcp" {
			p.at(key+".check", "%q is not supported by this version yet; write \"tcp\"", s.Check)
		}
	}
}

func (p *problems) cluster(raw *rawCluster, c *Cluster) {
	*c = Cluster{Name: raw.Name, Interface: raw.Interface, KeyFile: raw.KeyFile, TwoNodes: raw.TwoNodes}
	if c.Name == "" {
		p.at("cluster.name", "is missing; write a name for the cluster, such as \"campus-ssh\"")
	}
	if c.Interface == "" || len(c.Interface) > maxInterfaceBytes || strings.ContainsAny(c.Interface, "/ \t\n") {
		p.at("cluster.interface", "%q is no interface; write the one on the clients' LAN, such as \"eth0\"", c.Interface)
	}
	if !filepath.IsAbs(c.KeyFile) {
		p.at("cluster.key_file", "%q is not an absolute path; write one, such as \"/etc/onevoice/cluster.key\", and make the file with `onevoice keygen`", c.KeyFile)
	}
	p.peers(raw, c)
}

func (p *problems) peers(raw *rawCluster, c *Cluster) {
	const key = "cluster.peers"
	if n := len(raw.Peers); n == 0 || n > MaxPeers {
		p.at(key, "has %d addresses; write the 1 to %d addresses of the nodes", n, MaxPeers)
	}
	for _, s := range raw.Peers {
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			p.at(key, "%q is not an address; write one like \"10.77.0.11\"", s)
		case !isHost(a):
			p.at(key, "%s is not the IPv4 address of a host", a)
		case slices.Contains(c.Peers, a):
			p.at(key, "%s is there twice", a)
		default:
			c.Peers = append(c.Peers, a)
		}
	}
	switch two := c.TwoNodes; {
	case two != "" && two != "witness" && two != "preferred":
		p.at("cluster.two_nodes", "%q is not a choice; write \"witness\" or \"preferred\"", two)
	case two != "" && len(raw.Peers) != 2:
		p.at("cluster.two_nodes", "is for two peers, and there are %d; leave it out", len(raw.Peers))
	case two == "" && len(raw.Peers) == 2:
		p.at("cluster.two_nodes", "is missing, and two nodes alone cannot tell a dead peer from a cut cable; write \"witness\" (safe: a third box decides) or \"preferred\" (safe: service stops while the first peer is away)")
	}
}

func isHost(a netip.Addr) bool {
	return a.Is4() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && a.As4()[0] < 224
}

func (p *problems) node(raw *rawNode, n *Node, host string) {
	*n = Node{Name: cmp.Or(raw.Name, host), StateDir: cmp.Or(raw.StateDir, DefaultStateDir), StopTimeout: DefaultStopTimeout}
	if len(n.Name) > maxNameBytes || strings.ContainsAny(n.Name, " \t\n") {
		p.at("node.name", "%q is no name; write one without spaces, of at most %d bytes", n.Name, maxNameBytes)
	}
	if raw.StopTimeout != "" {
		d, err := time.ParseDuration(raw.StopTimeout)
		if err != nil || d < 0 || d > MaxStopTimeout {
			p.at("node.stop_timeout", "%q is not a time from \"0s\" to \"%v\"; write one like \"10s\"", raw.StopTimeout, MaxStopTimeout)
		}
		n.StopTimeout = d
	}
}

func (p *problems) vips(raw []rawVIP, c *Config) {
	if n := len(raw); n == 0 || n > MaxVIPs {
		p.at("vip", "there are %d; write 1 to %d tables [[vip]], each with an address", n, MaxVIPs)
	}
	for i := range raw {
		key := fmt.Sprintf("vip[%d]", i)
		v := VIP{MACMode: MACMode(cmp.Or(raw[i].MACMode, string(MACMulticast)))}
		if !slices.Contains([]MACMode{MACMulticast, MACIGMP, MACUnicast}, v.MACMode) {
			p.at(key+".mac_mode", "%q is not a mode; write %q", v.MACMode, MACMulticast)
		}
		if p.vipAddress(key+".address", raw[i].Address, c, &v) && p.vipMAC(key, raw[i].MAC, &v) {
			c.VIPs = append(c.VIPs, v)
		} else {
			p.badVIP = true
		}
	}
}

func (p *problems) vipAddress(key, text string, c *Config, v *VIP) bool {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		p.at(key, "%q is not an address with its network's length; write one like \"10.77.0.2/24\"", text)
		return false
	}
	a := prefix.Addr()
	last := lastAddr(prefix)
	switch {
	case a.Is6():
		p.at(key, "%s is an IPv6 address, which is not supported by this version yet", a)
	case !isHost(a):
		p.at(key, "%s is not an address that a host can have", a)
	case prefix.Bits() < 31 && (a == prefix.Masked().Addr() || a == last):
		p.at(key, "%s is the network's own or its broadcast address; write a host's", prefix)
	case slices.Contains(c.Cluster.Peers, a):
		p.at(key, "%s is also in cluster.peers; a VIP must be no node's own address", a)
	case slices.ContainsFunc(c.VIPs, func(o VIP) bool { return o.Address.Addr() == a }):
		p.at(key, "%s is there twice", a)
	default:
		v.Address = prefix
		return true
	}
	return false
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// vipMAC derives the cluster MAC as RFC 1112 §6.4 derives a group's: 01:00:5e
// and the low 23 bits of the address.
func (p *problems) vipMAC(key, text string, v *VIP) bool {
	if text == "" {
		a := v.Address.Addr().As4()
		v.MAC = net.HardwareAddr{0x01, 0x00, 0x5e, a[1] & 0x7f, a[2], a[3]}
		if reserved(v.MAC) {
			p.at(key+".address", "gives the cluster MAC %s, which belongs to a protocol of routers (224.0.0.x); write mac = \"03:00:5e:%02x:%02x:%02x\" beside it, or another address", v.MAC, a[1], a[2], a[3])
			return false
		}
		return true
	}
	mac, err := net.ParseMAC(text)
	switch {
	case err != nil || len(mac) != 6:
		p.at(key+".mac", "%q is not a MAC; write one like \"01:00:5e:4d:00:02\"", text)
	case mac[0]&1 == 0:
		p.at(key+".mac", "%s is not a group address, which mode multicast needs; write one whose first byte is odd", mac)
	case mac.String() == "ff:ff:ff:ff:ff:ff":
		p.at(key+".mac", "%s is everybody's; write a group address", mac)
	case reserved(mac):
		p.at(key+".mac", "%s belongs to a protocol; write another", mac)
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

func (p *problems) services(raw []rawService, c *Config) {
	if n := len(raw); n == 0 || n > MaxServices {
		p.at("service", "there are %d; write 1 to %d tables [[service]], each with name, listen and backend", n, MaxServices)
	}
	for i := range raw {
		p.service(fmt.Sprintf("service[%d]", i), &raw[i], c)
	}
}

func (p *problems) service(key string, raw *rawService, c *Config) {
	s := Service{Name: raw.Name, Affinity: Affinity(cmp.Or(raw.Affinity, string(SourceIP))), Source: Source(cmp.Or(raw.Source, string(SourceTransparent)))}
	switch {
	case s.Name == "" || strings.ContainsAny(s.Name, " \t\n"):
		p.at(key+".name", "%q is no name; write one without spaces, such as \"ssh\"", s.Name)
	case slices.ContainsFunc(c.Services, func(o Service) bool { return o.Name == s.Name }):
		p.at(key+".name", "%q is there twice; give each service its own", s.Name)
	}
	if !slices.Contains([]Affinity{SourceIP, SourceNet, SourceIPPort, SourceIPPortDestPort}, s.Affinity) {
		p.at(key+".affinity", "%q is not an affinity; write one of source-ip, source-net, source-ip-port, source-ip-port-dest-port", s.Affinity)
	}
	if !slices.Contains([]Source{SourceTransparent, SourcePlain, SourceProxyV1, SourceProxyV2}, s.Source) {
		p.at(key+".source", "%q is not a source; write %q or %q", s.Source, SourceTransparent, SourcePlain)
	}
	p.listen(key+".listen", raw.Listen, c, &s)
	p.backend(key+".backend", raw.Backend, &s)
	c.Services = append(c.Services, s)
}

func (p *problems) listen(key, text string, c *Config, s *Service) {
	if strings.HasPrefix(text, "udp://") {
		p.at(key, "UDP is not supported by this version yet; write a TCP address and port, such as \"10.77.0.2:22\"")
		return
	}
	at, err := netip.ParseAddrPort(text)
	switch {
	case err != nil || at.Port() == 0:
		p.at(key, "%q is not an address with a port; write a VIP and port, such as \"10.77.0.2:22\"", text)
	case p.badVIP:
		// Whether it is a VIP cannot be told.
		s.Listen = at
	case !slices.ContainsFunc(c.VIPs, func(v VIP) bool { return v.Address.Addr() == at.Addr() }):
		p.at(key, "%s is not a VIP of this file; write the address of a [[vip]]", at.Addr())
	case slices.ContainsFunc(c.Services, func(o Service) bool { return o.Listen == at }):
		p.at(key, "%s is another service's already", at)
	default:
		s.Listen = at
	}
}

func (p *problems) backend(key, text string, s *Service) {
	at, err := netip.ParseAddrPort(text)
	switch {
	case err != nil || at.Port() == 0:
		p.at(key, "%q is not an address with a port; write one like \"127.0.0.1:22\", an address and no name", text)
	case !at.Addr().Is4() || at.Addr().IsUnspecified() || at.Addr().IsMulticast():
		p.at(key, "%s is not an IPv4 address to connect to", at.Addr())
	case s.Source == SourceTransparent && !at.Addr().IsLoopback():
		p.at(key, "%s is not on loopback, and with source = \"transparent\" the answers to its other sessions would be led astray; write a loopback address, or source = \"plain\"", at.Addr())
	default:
		s.Backend = at
	}
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
