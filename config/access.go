package config

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Access says by prefixes who may connect. Of all that contain a client the longest
// counts, and of two that are equal the service's. When there is any in Allow, who
// is in none may not.
type Access struct {
	Allow, Deny []netip.Prefix
	// AllowFile and DenyFile are files with more of each, see ReadPrefixes; "" for
	// none. They are read anew when they change.
	AllowFile, DenyFile string
}

// Any reports whether it says anything.
func (a *Access) Any() bool {
	return len(a.Allow)+len(a.Deny) > 0 || a.AllowFile != "" || a.DenyFile != ""
}

// Action is what somebody meets who is not let in, by its name in the file.
type Action string

// Actions.
const (
	// ActionReject is an ICMP error, "administratively prohibited".
	ActionReject Action = "reject"
	// ActionReset is a TCP reset, as from a port where nobody listens.
	ActionReset Action = "reset"
	// ActionDrop is silence.
	ActionDrop Action = "drop"
)

// Limit is how much one source may begin. A number that is 0 is no limit.
type Limit struct {
	// New connections within any time of the length Per.
	New int
	Per time.Duration
	// Flows is how many connections a source may have at once, FlowsPerNode how many
	// all have together on each node.
	Flows, FlowsPerNode int
	// IPv4Prefix and IPv6Prefix are how much of an address makes a source, in bits.
	IPv4Prefix, IPv6Prefix int
	Action                 Action
	// Exempt are not limited.
	Exempt []netip.Prefix
}

// Any reports whether it limits anything.
func (l *Limit) Any() bool { return l.New > 0 || l.Flows > 0 || l.FlowsPerNode > 0 }

// Bounds and defaults of access and limits.
const (
	// MaxPrefixes bounds each list of prefixes.
	MaxPrefixes = 1024
	// MaxLimitNew is what the kernel's `recent` remembers of a source.
	MaxLimitNew   = 255
	MinLimitPer   = 100 * time.Millisecond
	MaxLimitPer   = time.Hour
	MaxLimitFlows = 1 << 18

	DefaultLimitPer   = 7 * time.Second
	DefaultIPv4Prefix = 32
	DefaultIPv6Prefix = 64
	minIPv4Prefix     = 8
	minIPv6Prefix     = 32
)

func (p *problems) access(key string, raw *rawAccess) Access {
	a := Access{
		Allow: p.prefixes(key+".allow", raw.Allow), Deny: p.prefixes(key+".deny", raw.Deny),
		AllowFile: p.prefixFile(key+".allow_file", raw.AllowFile), DenyFile: p.prefixFile(key+".deny_file", raw.DenyFile),
	}
	if a.AllowFile != "" && a.AllowFile == a.DenyFile {
		p.at(key+".deny_file", "%s is allow_file, too; write a file of its own", a.DenyFile)
	}
	for i, d := range a.Deny {
		if slices.Contains(a.Allow, d) {
			p.at(fmt.Sprintf("%s.deny[%d]", key, i), "%s is in allow, too; write it in one of them", d)
		}
	}
	return a
}

// prefixes reads a list; an address stands for itself alone.
func (p *problems) prefixes(key string, raw []string) (out []netip.Prefix) {
	if len(raw) > MaxPrefixes {
		p.at(key, "there are %d; write at most %d prefixes", len(raw), MaxPrefixes)
		return nil
	}
	for i, text := range raw {
		at := fmt.Sprintf("%s[%d]", key, i)
		prefix, wrong := parsePrefix(text)
		switch {
		case wrong != "":
			p.at(at, "%s", wrong)
		case slices.Contains(out, prefix):
			p.at(at, "%s is there twice; write each once", prefix)
		default:
			out = append(out, prefix)
		}
	}
	return out
}

func (p *problems) action(key string, raw *string, byDefault Action) Action {
	a := Action(or(raw, string(byDefault)))
	if !slices.Contains([]Action{ActionReject, ActionReset, ActionDrop}, a) {
		p.at(key, "%s is not an action; write %q (an ICMP error), %q or %q", shown(string(a)), ActionReject, ActionReset, ActionDrop)
	}
	return a
}

func (p *problems) limit(key string, raw *rawLimit) Limit {
	if raw == nil {
		return Limit{}
	}
	l := Limit{
		New: p.atMost(key+".new", raw.New, MaxLimitNew), Flows: p.atMost(key+".flows", raw.Flows, MaxLimitFlows),
		FlowsPerNode: p.atMost(key+".flows_per_node", raw.FlowsPerNode, MaxLimitFlows),
		Per:          p.duration(key+".per", raw.Per, 0, MinLimitPer, MaxLimitPer),
		IPv4Prefix:   p.number(key+".ipv4_prefix", raw.IPv4Prefix, DefaultIPv4Prefix, minIPv4Prefix, 32),
		IPv6Prefix:   p.number(key+".ipv6_prefix", raw.IPv6Prefix, DefaultIPv6Prefix, minIPv6Prefix, 128),
		Action:       p.action(key+".action", raw.Action, ActionReject),
		Exempt:       p.prefixes(key+".exempt", raw.Exempt),
	}
	switch {
	case p.toldIn(key):
	case (raw.New == nil) != (raw.Per == nil):
		p.at(key, "new and per belong together: so many new connections within so long a time; write both, such as new = 2, per = %q", inFile(DefaultLimitPer))
	case !l.Any():
		p.at(key, "it limits nothing; write new and per, flows, or flows_per_node")
	}
	return l
}

// atMost is a number that is 0 when it is not written.
func (p *problems) atMost(key string, raw *int64, most int) int {
	if raw == nil {
		return 0
	}
	return p.number(key, raw, 2, 1, most)
}

// spread warns of limits that count on each node apart, for the affinity does not
// keep a source on one.
func spread(c *Config) (out []string) {
	for i := range c.Services {
		s := &c.Services[i]
		if s.Limit.New == 0 && s.Limit.Flows == 0 || len(c.Cluster.Peers) < 2 || s.together() {
			continue
		}
		out = append(out, fmt.Sprintf("service %s: its limit counts on each node apart, for affinity %s spreads a source over them, and one gets up to %d times as much; write %s",
			s.Name, s.Affinity, len(c.Cluster.Peers), s.keptBy()))
	}
	return out
}

// together reports whether the affinity keeps each source of the limit on one node.
func (s *Service) together() bool {
	switch a := s.Listen.Addr(); {
	case s.Sharing.Hash == HashXTCluster && a.Is6():
		// It hashes the first 32 bits alone.
		return s.sourceBits() >= 32
	case s.Affinity == SourceIP:
		return s.sourceBits() == a.BitLen()
	case s.Affinity == SourceNet:
		return s.sourceBits() >= netBits(a)
	}
	return false
}

// netBits is what source-net hashes of an address.
func netBits(a netip.Addr) int {
	if a.Is4() {
		return 24
	}
	return 64
}

func (s *Service) sourceBits() int {
	if s.Listen.Addr().Is4() {
		return s.Limit.IPv4Prefix
	}
	return s.Limit.IPv6Prefix
}

// keptBy is what would keep each source of the limit on one node.
func (s *Service) keptBy() string {
	a, key := s.Listen.Addr(), "ipv6_prefix"
	if a.Is4() {
		key = "ipv4_prefix"
	}
	switch bits := s.sourceBits(); {
	case s.Sharing.Other() && s.Affinity == SourceIP:
		return fmt.Sprintf("in the limit %s = %d", key, a.BitLen())
	case bits == a.BitLen():
		return fmt.Sprintf("affinity = %q", SourceIP)
	case bits >= netBits(a):
		return fmt.Sprintf("affinity = %q", SourceNet)
	}
	return fmt.Sprintf("affinity = %q and in the limit %s = %d", SourceNet, key, netBits(a))
}
