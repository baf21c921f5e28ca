package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
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
	p.cluster(&raw.Cluster, &c.Cluster)
	p.node(&raw.Node, &c.Node, host)
	c.Admin.Socket = or(raw.Admin.Socket, DefaultSocket)
	if len(c.Admin.Socket) > maxSocketPathBytes || !isPath(c.Admin.Socket) {
		p.at("admin.socket", "%s is no place for a socket; write an absolute path of at most %d bytes", shown(c.Admin.Socket), maxSocketPathBytes)
	}
	p.vips(raw.VIP, c)
	p.services(raw.Service, c)
	c.Warnings = warnings(c)
	return c
}

// required is a text that must be written.
func (p *problems) required(key string, v *string, example string) (string, bool) {
	if v == nil {
		p.at(key, "is missing; write one, such as %q", example)
		return "", false
	}
	return *v, true
}

// isName tells what tables, logs and terminals can show.
func isName(s string) bool {
	strange := func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' }
	return s != "" && len(s) <= maxNameBytes && !strings.ContainsFunc(s, strange)
}

func isPath(s string) bool {
	return filepath.IsAbs(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// isInterface follows the kernel's dev_valid_name (net/core/dev.c).
func isInterface(s string) bool {
	return isName(s) && len(s) <= maxInterfaceBytes && s != "." && s != ".." && !strings.ContainsAny(s, "/:")
}

func isHost(a netip.Addr) bool {
	return a.Is4() && a.As4()[0] != 0 && !a.IsLoopback() && a.As4()[0] < 224
}

func (p *problems) cluster(raw *rawCluster, c *Cluster) {
	if v, ok := p.required("cluster.name", raw.Name, "campus-ssh"); ok && !isName(v) {
		p.at("cluster.name", "%s is no name; write one without spaces, of at most %d bytes", shown(v), maxNameBytes)
	}
	if v, ok := p.required("cluster.interface", raw.Interface, "eth0"); ok && !isInterface(v) {
		p.at("cluster.interface", "%s is no interface; write the one on the clients' LAN, such as \"eth0\"", shown(v))
	}
	if v, ok := p.required("cluster.key_file", raw.KeyFile, "/etc/onevoice/cluster.key"); ok && !isPath(v) {
		p.at("cluster.key_file", "%s is not an absolute path; write one, such as \"/etc/onevoice/cluster.key\", and make the file with `onevoice keygen`", shown(v))
	}
	*c = Cluster{Name: or(raw.Name, ""), Interface: or(raw.Interface, ""), KeyFile: or(raw.KeyFile, ""), TwoNodes: or(raw.TwoNodes, "")}
	p.peers(raw, c)
	p.twoNodes(raw)
}

func (p *problems) peers(raw *rawCluster, c *Cluster) {
	const key = "cluster.peers"
	if n := len(raw.Peers); n == 0 || n > MaxPeers {
		p.at(key, "there are %d; write the 1 to %d addresses of the nodes", n, MaxPeers)
		return
	}
	for i, s := range raw.Peers {
		key := fmt.Sprintf("%s[%d]", key, i)
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			p.at(key, "%s is not an address; write one like \"10.77.0.11\"", shown(s))
		case !isHost(a):
			p.at(key, "%s is not the IPv4 address of a host; write one like \"10.77.0.11\"", a)
		case slices.Contains(c.Peers, a):
			p.at(key, "%s is there twice; write each node once", a)
		default:
			c.Peers = append(c.Peers, a)
		}
	}
}

func (p *problems) twoNodes(raw *rawCluster) {
	const key = "cluster.two_nodes"
	two := raw.TwoNodes
	switch n := len(raw.Peers); {
	case two != nil && *two != "witness" && *two != "preferred":
		p.at(key, "%s is not a choice; write \"witness\" or \"preferred\"", shown(*two))
	case two != nil && n != 2 && !p.toldIn("cluster.peers"):
		p.at(key, "is for two peers, and there are %d; leave it out", n)
	case two == nil && n == 2:
		p.at(key, "is missing, and two nodes alone cannot tell a dead peer from a cut cable; write \"witness\" (safe: any third box decides) or \"preferred\" (safe too, but service stops while the preferred node, the first peer, is away)")
	}
}

func (p *problems) node(raw *rawNode, n *Node, host string) {
	*n = Node{Name: or(raw.Name, host), StateDir: or(raw.StateDir, DefaultStateDir), StopTimeout: DefaultStopTimeout}
	if !isName(n.Name) {
		p.at("node.name", "%s is no name; write one without spaces, of at most %d bytes", shown(n.Name), maxNameBytes)
	}
	if !isPath(n.StateDir) {
		p.at("node.state_dir", "%s is not an absolute path; write one, such as %q", shown(n.StateDir), DefaultStateDir)
	}
	if raw.StopTimeout == nil {
		return
	}
	d, err := time.ParseDuration(*raw.StopTimeout)
	if err != nil || d < 0 || d > MaxStopTimeout {
		p.at("node.stop_timeout", "%s is not a time from \"0s\" to \"10m\"; write one like \"10s\"", shown(*raw.StopTimeout))
	}
	n.StopTimeout = d
}

func (p *problems) services(raw []rawService, c *Config) {
	if n := len(raw); n == 0 || n > MaxServices {
		p.at("service", "there are %d; write 1 to %d tables [[service]], each with name, listen and backend", n, MaxServices)
		return
	}
	for i := range raw {
		p.service(fmt.Sprintf("service[%d]", i), &raw[i], c)
	}
}

func (p *problems) service(key string, raw *rawService, c *Config) {
	s := Service{Name: or(raw.Name, ""), Affinity: Affinity(or(raw.Affinity, string(SourceIP))), Source: Source(or(raw.Source, string(SourceTransparent)))}
	if _, ok := p.required(key+".name", raw.Name, "ssh"); ok {
		switch {
		case !isName(s.Name):
			p.at(key+".name", "%s is no name; write one without spaces, of at most %d bytes, such as \"ssh\"", shown(s.Name), maxNameBytes)
		case slices.ContainsFunc(c.Services, func(o Service) bool { return o.Name == s.Name }):
			p.at(key+".name", "%q is there twice; give each service its own", s.Name)
		}
	}
	if !slices.Contains([]Affinity{SourceIP, SourceNet, SourceIPPort, SourceIPPortDestPort}, s.Affinity) {
		p.at(key+".affinity", "%s is not an affinity; write one of source-ip, source-net, source-ip-port, source-ip-port-dest-port", shown(string(s.Affinity)))
	}
	if s.Source != SourceTransparent && s.Source != SourcePlain {
		p.at(key+".source", "%s is not a source; write %q or %q", shown(string(s.Source)), SourceTransparent, SourcePlain)
	}
	if v := or(raw.Check, "tcp"); v != "tcp" {
		p.at(key+".check", "%s is not a check; write \"tcp\"", shown(v))
	}
	p.listen(key+".listen", raw.Listen, c, &s)
	p.backend(key+".backend", raw.Backend, &s)
	c.Services = append(c.Services, s)
}

func (p *problems) listen(key string, raw *string, c *Config, s *Service) {
	text, ok := p.required(key, raw, "10.77.0.2:22")
	if !ok {
		return
	}
	at, err := netip.ParseAddrPort(text)
	switch {
	case err != nil || at.Port() == 0:
		p.at(key, "%s is not an address with a port; write a VIP and port, such as \"10.77.0.2:22\"", shown(text))
	case !slices.ContainsFunc(c.VIPs, func(v VIP) bool { return v.Address.Addr() == at.Addr() }):
		// It cannot be told beside a VIP with a problem of its own.
		if !p.toldIn("vip") {
			p.at(key, "%s is not a VIP of this file; write the address of a [[vip]]", at.Addr())
		}
	case slices.ContainsFunc(c.Services, func(o Service) bool { return o.Listen == at }):
		p.at(key, "%s is another service's already; write another port, or another VIP", at)
	default:
		s.Listen = at
	}
}

func (p *problems) backend(key string, raw *string, s *Service) {
	text, ok := p.required(key, raw, "127.0.0.1:22")
	if !ok {
		return
	}
	at, err := netip.ParseAddrPort(text)
	switch {
	case err != nil || at.Port() == 0:
		p.at(key, "%s is not an address with a port; write one like \"127.0.0.1:22\", an address and no name", shown(text))
	case !isHost(at.Addr()) && !at.Addr().IsLoopback():
		p.at(key, "%s is not an address to connect to; write a host's, such as \"127.0.0.1:22\"", at.Addr())
	case s.Source == SourceTransparent && !at.Addr().IsLoopback():
		p.at(key, "%s is not on loopback, which with source = \"transparent\" %s: the answers to its other sessions would be led astray; write a loopback address, or source = \"plain\"", at.Addr(), later)
	default:
		s.Backend = at
	}
}
