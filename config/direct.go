package config

import "slices"

// How a service is served, in the file's words.
const (
	pathNetstack = "netstack"
	pathDirect   = "direct"
)

// DirectBackend stands where a service of the direct path has no backend.
const DirectBackend = "the kernel"

// servedBy reads the path of a service, and its backend, which the direct path has none
// of: the kernel hands the clients to whatever listens on the VIP's port.
func (p *problems) servedBy(key string, raw *rawService, c *Config, s *Service) {
	switch path := or(raw.Path, pathNetstack); path {
	case pathNetstack:
		p.backend(key+".backend", raw.Backend, s)
	case pathDirect:
		s.Direct = true
		p.direct(key, raw, c, s)
	default:
		p.at(key+".path", "%s is not a path; write %q, this program's own TCP, or %q, the host's", shown(path), pathNetstack, pathDirect)
	}
}

// direct refuses what the host's own TCP and UDP do not do for us. A check without a
// target asks at the VIP itself, as a client does.
func (p *problems) direct(key string, raw *rawService, c *Config, s *Service) {
	const with = "with path = \"direct\" "
	if raw.Backend != nil {
		p.at(key+".backend", with+"the kernel hands the clients to the program that listens on the port of listen, at all addresses or at the VIP; leave backend out")
	}
	if raw.Source != nil && s.Source != SourceTransparent {
		p.at(key+".source", with+"the program sees the clients' own addresses; leave source out")
	}
	for _, k := range []struct {
		key string
		is  bool
	}{{"allow", raw.Allow != nil}, {"deny", raw.Deny != nil}, {"allow_file", raw.AllowFile != nil}, {"deny_file", raw.DenyFile != nil}, {"deny_action", raw.DenyAction != nil}, {"limit", raw.Limit != nil}} {
		if k.is {
			p.at(key+"."+k.key, with+"clients are not counted or turned away by this program; use the host's firewall, which sees them, or path = \"netstack\"")
		}
	}
	if c.Access.Any() {
		p.at(key+".path", "[access] is for all services, and "+with+"this program turns nobody away; write allow and deny in the other services, or path = \"netstack\"")
	}
	if raw.Idle != nil {
		p.at(key+".idle_timeout", with+"the kernel keeps no flows of UDP; leave it out")
	}
	i := slices.IndexFunc(c.VIPs, func(v VIP) bool { return v.Address.Addr() == s.Listen.Addr() })
	if i >= 0 && c.VIPs[i].Uplink.VLAN != 0 {
		p.at(key+".path", with+"the kernel has to have the VLAN as a device of its own; make one (ip link add link %s name %s.%d type vlan id %d) and name it as the interface, without vlan",
			c.VIPs[i].Uplink.Interface, c.VIPs[i].Uplink.Interface, c.VIPs[i].Uplink.VLAN, c.VIPs[i].Uplink.VLAN)
	}
	s.Backend, s.BackendLast = s.Listen, s.LastPort
}

// HasDirect reports whether a service is of the direct path.
func (c *Config) HasDirect() bool {
	return slices.ContainsFunc(c.Services, func(s Service) bool { return s.Direct })
}

// DirectVIPs are the VIPs with services of the direct path.
func (c *Config) DirectVIPs() (out []VIP) {
	for _, v := range c.VIPs {
		if slices.ContainsFunc(c.Services, func(s Service) bool { return s.Direct && s.Listen.Addr() == v.Address.Addr() }) {
			out = append(out, v)
		}
	}
	return out
}
