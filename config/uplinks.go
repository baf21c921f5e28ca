package config

import (
	"fmt"
	"slices"
)

// Path names the path of a VIP, over which heartbeats for it go: VIPs that share a
// cluster MAC on an interface share one.
func (c *Config) Path(v *VIP) string {
	if v.Interface == c.Cluster.Interface {
		return v.MAC.String()
	}
	return fmt.Sprintf("%s %s", v.Interface, v.MAC)
}

// PathVIPs is the first VIP of each path, in the order of the file.
func (c *Config) PathVIPs() (out []VIP) {
	seen := map[string]bool{}
	for i := range c.VIPs {
		if path := c.Path(&c.VIPs[i]); !seen[path] {
			seen[path] = true
			out = append(out, c.VIPs[i])
		}
	}
	return out
}

// Uplinks are the interfaces that have VIPs, in the order of the file.
func (c *Config) Uplinks() (names []string) {
	for i := range c.VIPs {
		if !slices.Contains(names, c.VIPs[i].Interface) {
			names = append(names, c.VIPs[i].Interface)
		}
	}
	return names
}

// On is the part of the configuration that is about one interface, as if it were the
// only one.
func (c *Config) On(name string) *Config {
	part := *c
	part.Cluster.Interface = name
	part.VIPs = slices.DeleteFunc(slices.Clone(c.VIPs), func(v VIP) bool { return v.Interface != name })
	part.Services = slices.DeleteFunc(slices.Clone(c.Services), func(s Service) bool { return c.InterfaceOf(&s) != name })
	return &part
}

// InterfaceOf is the interface of a service's VIP.
func (c *Config) InterfaceOf(s *Service) string {
	for i := range c.VIPs {
		if c.VIPs[i].Address.Addr() == s.Listen.Addr() {
			return c.VIPs[i].Interface
		}
	}
	return ""
}
