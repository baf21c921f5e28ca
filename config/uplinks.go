package config

import (
	"fmt"
	"slices"
)

// Uplink is a way to clients: an interface, or a VLAN of it.
type Uplink struct {
	Interface string
	VLAN      uint16 // 0 for what has no tag
}

// String is the uplink in logs and status.
func (u Uplink) String() string {
	if u.VLAN == 0 {
		return u.Interface
	}
	return fmt.Sprintf("%s VLAN %d", u.Interface, u.VLAN)
}

// Path names the path of a VIP, over which heartbeats for it go: VIPs that share a
// cluster MAC on an uplink share one.
func (c *Config) Path(v *VIP) string {
	if v.Uplink == (Uplink{Interface: c.Cluster.Interface}) {
		return v.MAC.String()
	}
	return fmt.Sprintf("%s %s", v.Uplink, v.MAC)
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

// Uplinks are those that have VIPs, in the order of the file.
func (c *Config) Uplinks() (out []Uplink) {
	for i := range c.VIPs {
		if !slices.Contains(out, c.VIPs[i].Uplink) {
			out = append(out, c.VIPs[i].Uplink)
		}
	}
	return out
}

// On is the part of the configuration that is about one uplink, as if it were the
// only one.
func (c *Config) On(u Uplink) *Config {
	part := *c
	part.Cluster.Interface = u.Interface
	part.VIPs = slices.DeleteFunc(slices.Clone(c.VIPs), func(v VIP) bool { return v.Uplink != u })
	part.Services = slices.DeleteFunc(slices.Clone(c.Services), func(s Service) bool { return c.UplinkOf(&s) != u })
	return &part
}

// UplinkOf is that of a service's VIP.
func (c *Config) UplinkOf(s *Service) Uplink {
	for i := range c.VIPs {
		if c.VIPs[i].Address.Addr() == s.Listen.Addr() {
			return c.VIPs[i].Uplink
		}
	}
	return Uplink{}
}
