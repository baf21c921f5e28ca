package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"onevoice/config"
)

// Options are what no rule says.
type Options struct {
	// Cluster is its name, "" for the first VIP's.
	Cluster string
	// Peers are the hosts' own addresses.
	Peers []netip.Addr
	// VIP is the address, where the rules name none, with its network's length.
	VIP netip.Prefix
	// Ports are those of the services, in place of the rules'.
	Ports []Port
}

// Bounds of what is made of all inputs together.
const maxPorts = 64

// vip is an address as all inputs together have it.
type vip struct {
	Shared
	// homes are the names of whom the numbers belong to, by bucket.
	homes []string
}

// defaultBits is taken for a network whose length nothing says.
const defaultBits = 24

// merge puts together what all inputs say of each address.
func merge(shares []Shared, o Options) (out []*vip, left []Left, err error) {
	var errs []error
	for _, s := range shares {
		if !s.Address.IsValid() {
			if !o.VIP.IsValid() {
				left = append(left, Left{s.From, "the rule names no address; say which it is with --vip ADDRESS/LENGTH"})
				continue
			}
			s.Address = o.VIP.Addr()
		}
		i := slices.IndexFunc(out, func(v *vip) bool { return v.Address == s.Address })
		if i < 0 {
			first := first(&s)
			first.homes = make([]string, min(max(s.Sharing.Nodes, 0), 256))
			out, i = append(out, first), len(out)
		}
		errs = append(errs, out[i].add(&s))
	}
	for _, v := range out {
		if v.Address == o.VIP.Addr() {
			v.Bits = o.VIP.Bits()
		}
		v.ports(o)
		left = append(left, v.finish()...)
	}
	slices.SortStableFunc(out, func(a, b *vip) int { return a.Address.Compare(b.Address) })
	return out, left, errors.Join(errs...)
}

func first(s *Shared) *vip {
	v := &vip{Shared: *s}
	v.Ports, v.Affinity = nil, cmp.Or(s.Affinity, config.SourceIP)
	return v
}

// add takes another rule of the same address in.
func (v *vip) add(s *Shared) error {
	a, b := v.Sharing, s.Sharing
	if a.Hash != b.Hash || a.Seed != b.Seed || a.Nodes != b.Nodes || v.Affinity != cmp.Or(s.Affinity, config.SourceIP) {
		return fmt.Errorf("%s is shared in two ways: %s:%d has %s, and %s:%d has %s; onevoice takes one", v.Address,
			v.From.File, v.From.Number, wayOf(&v.Shared), s.From.File, s.From.Number, wayOf(s))
	}
	if v.MAC != "" && s.MAC != "" && v.MAC != s.MAC {
		return fmt.Errorf("%s has two MACs: %s in %s:%d, and %s in %s:%d", v.Address, v.MAC, v.From.File, v.From.Number, s.MAC, s.From.File, s.From.Number)
	}
	v.MAC, v.Interface, v.Bits = cmp.Or(v.MAC, s.MAC), cmp.Or(v.Interface, s.Interface), cmp.Or(v.Bits, s.Bits)
	for _, p := range s.Ports {
		if !slices.Contains(v.Ports, p) && len(v.Ports) < maxPorts {
			v.Ports = append(v.Ports, p)
		}
	}
	if len(v.Nodes) == 0 {
		v.Nodes = s.Nodes
	}
	for _, n := range s.Local {
		bucket := n - s.Sharing.First()
		if bucket < 0 || bucket >= len(v.homes) {
			return fmt.Errorf("%s:%d: %d is no number of %d nodes", s.From.File, s.From.Number, n, a.Nodes)
		}
		name := s.Node
		if name == "" {
			name = fmt.Sprintf("node%d", s.Local[0])
		}
		if old := v.homes[bucket]; old != "" && old != name {
			return fmt.Errorf("%s:%d: number %d of %s is %s's, and %s's as well", s.From.File, s.From.Number, n, v.Address, name, old)
		}
		v.homes[bucket] = name
	}
	return nil
}

// wayOf is how a rule shares, in short.
func wayOf(s *Shared) string {
	return fmt.Sprintf("%s of %d nodes, seed %d, %s", s.Sharing.Hash, s.Sharing.Nodes, s.Sharing.Seed, cmp.Or(s.Affinity, config.SourceIP))
}

// ports are what the caller says, or the rules, or an example.
func (v *vip) ports(o Options) {
	if len(o.Ports) > 0 {
		v.Ports = o.Ports
	}
}

// finish fills in what is not known, and says so.
func (v *vip) finish() (left []Left) {
	say := func(format string, args ...any) {
		left = append(left, Left{Line{File: v.From.File, Number: v.From.Number}, fmt.Sprintf(format, args...)})
	}
	if len(v.Ports) == 0 {
		v.Ports = []Port{{"tcp", 22}}
		say("all ports of %s are shared, and onevoice has a service for each that it serves; port 22 is written for an example: name them with --ports, such as --ports 22,443", v.Address)
	}
	if v.Bits == 0 {
		v.Bits = defaultBits
		if v.Address.Is6() {
			v.Bits = 64
		}
		say("the length of the network of %s is not said; /%d is written", v.Address, v.Bits)
	}
	if v.Interface == "" {
		v.Interface = "eth0"
		say("no interface is named; eth0 is written")
	}
	if v.MAC == "" {
		say("the MAC of %s is not said (`ip maddr show` on a host lists it); without mac it is made of the address, and all nodes have to use the same", v.Address)
	}
	unknown, example := 0, ""
	for i := range v.homes {
		if v.homes[i] != "" {
			continue
		}
		unknown++
		v.homes[i] = fmt.Sprintf("node%d", i+v.Sharing.First())
		example = cmp.Or(example, v.homes[i])
		if len(v.Nodes) == len(v.homes) {
			v.homes[i] = v.Nodes[i]
		}
	}
	switch {
	case unknown > 0 && len(v.Nodes) == len(v.homes):
		say("which host has which number is not said, for the instances of a clone may be anywhere; they are written in the order of the nodes: compare with /proc/net/ipt_CLUSTERIP/%s on each", v.Address)
	case unknown > 0:
		say("the hosts of %d of %d numbers are not known; names like %s stand for them in local: write theirs, or read the rules of all hosts at once, as NAME=FILE", unknown, len(v.homes), example)
	}
	return left
}
