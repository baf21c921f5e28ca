package node

import (
	"fmt"
	"slices"
	"time"

	"onevoice/hashing"
	"onevoice/link/ingress"
)

// compatibleOf finds, for each VIP, the first service with another system's hash, or
// -1, and refuses what that system does not have.
func compatibleOf(vips []VIP, services []Service) ([]int, error) {
	out := slices.Repeat([]int{-1}, len(vips))
	for i := range services {
		s := &services[i]
		if s.Compatible == nil {
			continue
		}
		if err := s.Compatible.Check(); err != nil {
			return nil, err
		}
		if _, ok := s.Compatible.Bucket(&hashing.Flow{Src: s.Listen.Addr(), Dst: s.Listen.Addr()}); !ok {
			return nil, fmt.Errorf("node: service on %s by the hash of %s, which does not know such addresses", s.Listen, s.Compatible.System)
		}
		if vip := slices.IndexFunc(vips, func(v VIP) bool { return v.Addr == s.Listen.Addr() }); vip >= 0 && out[vip] < 0 {
			out[vip] = i
		}
	}
	return out, nil
}

// speaksFor reports whether this node answers what goes to a VIP and to no service of
// it: echo requests and closed ports. That is the owner of the asker's bucket in the
// VIP's own table. Where the VIP is shared as another system does it, that system's
// nodes answer by their hash, so the bucket in a service decides, and a bucket of
// theirs is met with silence here (OWNERSHIP.md R21). Flows of ICMP have no ports.
//
// Not so for ARP, of which answersFor decides: all nodes give the same answer, those
// of other systems answer everybody, and a station whom they do not answer must not be
// without the address.
func (n *Node) speaksFor(now time.Duration, vip int, f *hashing.Flow) Verdict {
	service := n.compatible[vip]
	if service < 0 {
		return n.answersFor(now, vip, f.Src)
	}
	return n.mayAccept(now, &n.rights[service], n.bucketOf(service, f))
}

// otherHash is another system's hash for the filter in the kernel, and whether its
// ports count.
func otherHash(c *hashing.Compatible) (h ingress.Hashed) {
	if c == nil {
		return h
	}
	h.Seed, h.Nodes = c.Seed, uint32(c.Nodes)
	switch c.System {
	case hashing.ClusterIPSource, hashing.ClusterIPSourcePort, hashing.ClusterIPBothPorts:
		h.System = ingress.ClusterIP
		h.SourcePort = c.System != hashing.ClusterIPSource
		h.DestPort = c.System == hashing.ClusterIPBothPorts
	case hashing.XTCluster:
		h.System = ingress.XTCluster
	case hashing.NFTHash:
		h.System = ingress.NFTHash
	case hashing.Netmask:
		h.System = ingress.Netmask
	case hashing.CARP:
		h.System = ingress.CARP
	}
	return h
}
