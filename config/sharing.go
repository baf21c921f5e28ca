package config

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Hash is how a service's clients are led to buckets, by its name in the file.
type Hash string

// Hashes. All but the first are other systems', whose nodes can then be moved over one
// by one.
const (
	HashSipHash   Hash = "siphash"
	HashClusterIP Hash = "clusterip"
	HashXTCluster Hash = "xt_cluster"
	HashNFT       Hash = "nft"
	HashNetmask   Hash = "netmask"
	HashCARP      Hash = "carp"
)

// Sharing is how a service's clients are shared as another system does it. The zero
// Sharing is our own way.
type Sharing struct {
	// Hash is "" where it is our own.
	Hash Hash
	Seed uint32
	// Nodes is how many share the clients: there are as many buckets.
	Nodes int
	// Homes are, by bucket, the names of the nodes whom it belongs to. Without any the
	// nodes deal the buckets among themselves.
	Homes []string
}

// Bounds of shared services. CLUSTERIP_MAX_NODES of ipt_CLUSTERIP.h and
// XT_CLUSTER_NODES_MAX of xt_cluster.h, the kernel's; carp's is the most of OpenBSD's
// carpnodes; and a table has 256 buckets.
const (
	maxClusterIPNodes = 16
	maxXTClusterNodes = 32
	maxCARPNodes      = 32
	maxSharedNodes    = 256
	// MaxHomes is how many names all services together may give buckets to.
	MaxHomes = 32
)

// First is the number of the first bucket, as the other system counts its nodes: from 1
// CLUSTERIP (--local-node) and xt_cluster (--cluster-local-node), and the others from 0.
func (s *Sharing) First() int {
	if s.Hash == HashClusterIP || s.Hash == HashXTCluster {
		return 1
	}
	return 0
}

// Other reports whether the hash is another system's.
func (s *Sharing) Other() bool { return s.Hash != "" }

// Takes reports whether a service is on a port of an IP protocol.
func (s *Service) Takes(proto uint8, port uint16) bool {
	const tcp, udp = 6, 17
	mine := uint8(tcp)
	if s.UDP {
		mine = udp
	}
	return proto == mine && port >= s.Listen.Port() && port <= max(s.LastPort, s.Listen.Port())
}

// seeded: the system has a seed.
func (h Hash) seeded() bool { return h == HashClusterIP || h == HashXTCluster || h == HashNFT }

// most is how many nodes share by a hash at most.
func (h Hash) most() int {
	switch h {
	case HashClusterIP:
		return maxClusterIPNodes
	case HashXTCluster:
		return maxXTClusterNodes
	case HashCARP:
		return maxCARPNodes
	}
	return maxSharedNodes
}

// sharing reads hash, hash_seed, total_nodes and local of a service.
func (p *problems) sharing(key string, raw *rawService, s *Service) {
	hash := Hash(or(raw.Hash, string(HashSipHash)))
	switch {
	case !slices.Contains([]Hash{HashSipHash, HashClusterIP, HashXTCluster, HashNFT, HashNetmask, HashCARP}, hash):
		p.at(key+".hash", "%s is not a hash; write siphash (our own), clusterip, xt_cluster, nft, netmask or carp", shown(string(hash)))
		return
	case hash == HashSipHash:
		p.sharingAlone(key, raw)
		return
	}
	s.Sharing.Hash = hash
	p.hashedFields(key, s)
	if seed := or(raw.HashSeed, 0); raw.HashSeed != nil && !hash.seeded() {
		p.at(key+".hash_seed", "%s has no seed; leave it out", hash)
	} else if seed < 0 || seed > math.MaxUint32 {
		p.at(key+".hash_seed", "%d is no seed; write a number from 0 to %d", seed, uint32(math.MaxUint32))
	} else {
		s.Sharing.Seed = uint32(seed)
	}
	if p.totalNodes(key+".total_nodes", raw.TotalNodes, &s.Sharing) {
		p.local(key+".local", raw.Local, &s.Sharing)
	}
}

// sharingAlone refuses what goes with another system's hash, where there is none.
func (p *problems) sharingAlone(key string, raw *rawService) {
	for _, k := range []struct {
		name    string
		written bool
	}{{"hash_seed", raw.HashSeed != nil}, {"total_nodes", raw.TotalNodes != nil}, {"local", raw.Local != nil}} {
		if k.written {
			p.at(key+"."+k.name, "goes with the hash of another system; write that beside it, such as hash = \"xt_cluster\", or leave it out")
		}
	}
}

// hashedFields refuses what the other system does not look at.
func (p *problems) hashedFields(key string, s *Service) {
	switch {
	case s.Sharing.Hash == HashClusterIP && s.Affinity == SourceNet:
		p.at(key+".affinity", "CLUSTERIP has no such hashmode; write source-ip, source-ip-port or source-ip-port-dest-port")
	case s.Sharing.Hash != HashClusterIP && s.Affinity != SourceIP && s.Affinity.known():
		p.at(key+".affinity", "%s looks at addresses alone, and only clusterip has modes with ports; leave affinity out", s.Sharing.Hash)
	}
	if s.Sharing.Hash == HashClusterIP && s.Listen.Addr().Is6() {
		p.at(key+".hash", "CLUSTERIP has no IPv6; write xt_cluster or nft, or siphash")
	}
}

func (a Affinity) known() bool {
	return slices.Contains([]Affinity{SourceIP, SourceNet, SourceIPPort, SourceIPPortDestPort}, a)
}

func (p *problems) totalNodes(key string, raw *int64, s *Sharing) bool {
	most := s.Hash.most()
	switch {
	case raw == nil:
		p.at(key, "is missing; write how many nodes share the clients by %s, ours and others', as the others' own rules say it", s.Hash)
	case *raw < 1 || *raw > int64(most):
		p.at(key, "%d nodes cannot share by %s; write a number from 1 to %d", *raw, s.Hash, most)
	case s.Hash == HashNetmask && *raw&(*raw-1) != 0:
		p.at(key, "%d is no power of two, and a netmask takes whole bits of an address; write 1, 2, 4, 8 and so on, up to %d", *raw, most)
	default:
		s.Nodes = int(*raw)
		return true
	}
	return false
}

// local gives each bucket a name. A number that nobody is named for would be ours to
// answer, while a node that was forgotten here answers it too.
func (p *problems) local(key string, raw map[string][]int64, s *Sharing) {
	if raw == nil {
		return
	}
	first := s.First()
	last, homes := first+s.Nodes-1, make([]string, s.Nodes)
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		at := join(key, keyPart(name))
		if !isName(name) || strings.HasPrefix(name, "kernel:") {
			p.at(at, "%s is no name of a node; write one without spaces, of at most %d bytes, such as unix1", shown(name), maxNameBytes)
			continue
		}
		if len(raw[name]) == 0 {
			p.at(at, "has no number; write those that it answers for, such as [%d], or leave the name out", first)
		}
		for i, n := range raw[name] {
			one := fmt.Sprintf("%s[%d]", at, i)
			switch {
			case n < int64(first) || n > int64(last):
				p.at(one, "%d is no node's number; %s counts from %d, so write one from %d to %d", n, s.Hash, first, first, last)
			case homes[n-int64(first)] != "":
				p.at(one, "%d is %s's already; write each number once", n, homes[n-int64(first)])
			default:
				homes[n-int64(first)] = name
			}
		}
	}
	if i := slices.Index(homes, ""); i >= 0 && !p.toldIn(key) {
		p.at(key, "number %d is nobody's, so this cluster would answer for it, and perhaps another node too; write whose it is, or leave local out where no other system's node is left", first+i)
		return
	}
	s.Homes = homes
}

// sharedAlike wants all services of a VIP shared alike: other systems share an address,
// and what has no port, such as echo requests, goes by it too.
func (p *problems) sharedAlike(c *Config) {
	names := map[string]bool{}
	for i := range c.Services {
		s := &c.Services[i]
		for _, name := range s.Sharing.Homes {
			names[name] = true
		}
		for j := range c.Services[:i] {
			o := &c.Services[j]
			if !s.Listen.IsValid() || o.Listen.Addr() != s.Listen.Addr() || !s.Sharing.Other() && !o.Sharing.Other() {
				continue
			}
			if s.Sharing.Hash != o.Sharing.Hash || s.Sharing.Seed != o.Sharing.Seed || s.Sharing.Nodes != o.Sharing.Nodes ||
				!slices.Equal(s.Sharing.Homes, o.Sharing.Homes) || s.Affinity != o.Affinity {
				p.at(fmt.Sprintf("service[%d].hash", i), "service %s of the same VIP is shared in another way, and other systems share a whole address; write the same hash, hash_seed, total_nodes, local and affinity for both", o.Name)
				break
			}
		}
	}
	if len(names) > MaxHomes {
		p.at("service", "local names %d nodes in all; at most %d are possible", len(names), MaxHomes)
	}
}
