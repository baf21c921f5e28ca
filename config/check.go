package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
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
	p.admin(&raw.Admin, &c.Admin)
	p.otherHash = slices.ContainsFunc(raw.Service, func(s rawService) bool { return s.Hash != nil && *s.Hash != string(HashSipHash) })
	p.vips(raw.VIP, c)
	p.pingsOwn(c)
	c.Access = p.access("access", &raw.Access)
	p.services(raw.Service, c)
	p.pins(raw.Pin, c)
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

// parseAddr takes no zone: no address of ours has one, and it could be anything
// that a terminal obeys.
func parseAddr(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err == nil && a.Zone() != "" {
		return netip.Addr{}, errZone
	}
	return a, err
}

func parseAddrPort(text string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(text)
	if err == nil && at.Addr().Zone() != "" {
		return netip.AddrPort{}, errZone
	}
	return at, err
}

var errZone = errors.New("an address with a zone")

func isHost(a netip.Addr) bool {
	return a.Is4() && a.As4()[0] != 0 && !a.IsLoopback() && a.As4()[0] < 224
}

// isHost6 reports whether a can be a VIP or a backend of IPv6: not ::, multicast,
// loopback or link-local, which holds on one link alone, and none that stands for an
// IPv4 address (RFC 4291 §2.5).
func isHost6(a netip.Addr) bool {
	top := a.As16()
	return a.Is6() && !a.Is4In6() && a.Zone() == "" && !a.IsMulticast() && !a.IsLinkLocalUnicast() && [12]byte(top[:]) != [12]byte{}
}

func (p *problems) services(raw []rawService, c *Config) {
	if n := len(raw); n == 0 || n > MaxServices {
		p.at("service", "there are %d; write 1 to %d tables [[service]], each with name, listen and backend", n, MaxServices)
		return
	}
	for i := range raw {
		p.service(fmt.Sprintf("service[%d]", i), &raw[i], c)
	}
	p.sharedAlike(c)
	p.prefixFiles(c)
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
	if !s.Affinity.known() {
		p.at(key+".affinity", "%s is not an affinity; write one of source-ip, source-net, source-ip-port, source-ip-port-dest-port", shown(string(s.Affinity)))
	}
	if !slices.Contains([]Source{SourceTransparent, SourceProxyV1, SourceProxyV2, SourcePlain}, s.Source) {
		p.at(key+".source", "%s is not a source; write one of transparent, proxy-v1, proxy-v2, plain", shown(string(s.Source)))
	}
	p.listen(key+".listen", raw.Listen, c, &s)
	p.servedBy(key, raw, c, &s)
	s.Access, s.DenyAction = p.access(key, &rawAccess{Allow: raw.Allow, Deny: raw.Deny, AllowFile: raw.AllowFile, DenyFile: raw.DenyFile}), p.action(key+".deny_action", raw.DenyAction, ActionDrop)
	s.Limit = p.limit(key+".limit", raw.Limit)
	p.datagrams(key, raw, &s)
	s.Check = p.serviceCheck(key, raw, &s)
	p.sharing(key, raw, &s)
	c.Services = append(c.Services, s)
}

func (p *problems) listen(key string, raw *string, c *Config, s *Service) {
	text, ok := p.required(key, raw, "10.77.0.2:22")
	if !ok {
		return
	}
	ports, udp := strings.CutPrefix(text, udpPrefix)
	at, last, err := parsePorts(strings.TrimPrefix(ports, tcpPrefix))
	wanted := Service{Listen: at, UDP: udp, LastPort: last}
	switch {
	case err == errRange:
		p.at(key, "%s has a range of ports that does not end behind where it begins; write one like \"10.77.0.2:8000-8099\"", shown(text))
	case err != nil || at.Port() == 0:
		p.at(key, "%s is not an address with a port; write a VIP and port, such as \"10.77.0.2:22\" or \"[2001:db8::2]:22\"", shown(text))
	case !slices.ContainsFunc(c.VIPs, func(v VIP) bool { return v.Address.Addr() == at.Addr() }):
		// It cannot be told beside a VIP with a problem of its own.
		if !p.toldIn("vip") {
			p.at(key, "%s is not a VIP of this file; write the address of a [[vip]]", at.Addr())
		}
	case slices.ContainsFunc(c.Services, func(o Service) bool { return wanted.overlaps(&o) }):
		p.at(key, "%s is another service's already; write another port, or another VIP", wanted.ListenText())
	case portsOf(append(c.Services, wanted)...) > MaxPorts:
		p.at(key, "with %s the services have %d ports together, of %d that are possible; write fewer", wanted.ListenText(), portsOf(append(c.Services, wanted)...), MaxPorts)
	default:
		s.Listen, s.UDP, s.LastPort = at, udp, last
	}
}

func (p *problems) backend(key string, raw *string, s *Service) {
	text, ok := p.required(key, raw, "127.0.0.1:22")
	if !ok {
		return
	}
	if path, ok := strings.CutPrefix(text, unixPrefix); ok {
		p.backendPath(key, path, s)
		return
	}
	at, last, err := parsePorts(text)
	switch {
	case err == errRange:
		p.at(key, "%s has a range of ports that does not end behind where it begins; write one like \"127.0.0.1:8000-8099\"", shown(text))
	case err != nil || at.Port() == 0:
		p.at(key, "%s is not an address with a port; write one like \"127.0.0.1:22\", an address and no name, or \"unix:/run/app.sock\"", shown(text))
	case !isHost(at.Addr()) && !isHost6(at.Addr()) && !at.Addr().IsLoopback():
		p.at(key, "%s is not an address to connect to; write a host's, such as \"127.0.0.1:22\"", at.Addr())
	case last != 0 && s.Listen.IsValid() && int(last-at.Port())+1 != s.Ports():
		p.at(key, "%s is a range of %d ports, and listen one of %d; write as many, or one port for all", shown(text), last-at.Port()+1, s.Ports())
	case s.Source == SourceTransparent && s.Listen.IsValid() && s.Listen.Addr().Is4() != at.Addr().Is4():
		p.at(key, "%s is of another family than %s, and with source = \"transparent\" the service sees the client's own address; write %s, or source = \"plain\"", at.Addr(), s.Listen.Addr(), loopbackOf(s.Listen.Addr(), at.Port()))
	case s.Source == SourceTransparent && at.Addr().Is6() && !at.Addr().IsLoopback():
		p.at(key, "%s is not on loopback, which with source = \"transparent\" IPv6 has to be; write %s, or source = \"proxy-v2\" or \"plain\"", at.Addr(), loopbackOf(at.Addr(), at.Port()))
	default:
		s.Backend, s.BackendLast = at, last
	}
}

// unixPrefix begins a backend that is a unix socket.
const unixPrefix = "unix:"

// backendPath takes a unix socket. A client's address cannot be the source of a
// connection to one.
func (p *problems) backendPath(key, path string, s *Service) {
	switch {
	case len(path) > maxSocketPathBytes || !isPath(path):
		p.at(key, "%s is no unix socket; write unix: and an absolute path of at most %d bytes, such as \"unix:/run/app.sock\"", shown(unixPrefix+path), maxSocketPathBytes)
	case s.Source == SourceTransparent:
		p.at(key, "a unix socket sees no client's address, which source = \"transparent\" means; write source = \"proxy-v2\" or \"proxy-v1\", if the service reads that, or \"plain\"")
	default:
		s.BackendPath = path
	}
}

// loopbackOf is a backend of an address' family, for an example.
func loopbackOf(a netip.Addr, port uint16) string {
	if a.Is4() {
		return fmt.Sprintf("\"127.0.0.1:%d\"", port)
	}
	return fmt.Sprintf("\"[::1]:%d\"", port)
}
