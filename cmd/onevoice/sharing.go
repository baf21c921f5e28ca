package main

import (
	"fmt"

	"onevoice/cluster"
	"onevoice/config"
	"onevoice/hashing"
)

// compatibleOf is the hash of another system by which a service is shared, nil where
// it is our own.
func compatibleOf(s *config.Service) *hashing.Compatible {
	if !s.Sharing.Other() {
		return nil
	}
	c := &hashing.Compatible{Seed: s.Sharing.Seed, Nodes: s.Sharing.Nodes}
	switch s.Sharing.Hash {
	case config.HashClusterIP:
		c.System = hashing.ClusterIPSource
		switch s.Affinity {
		case config.SourceIPPort:
			c.System = hashing.ClusterIPSourcePort
		case config.SourceIPPortDestPort:
			c.System = hashing.ClusterIPBothPorts
		}
	case config.HashXTCluster:
		c.System = hashing.XTCluster
	case config.HashNFT:
		c.System = hashing.NFTHash
	case config.HashNetmask:
		c.System = hashing.Netmask
	case config.HashCARP:
		c.System = hashing.CARP
	}
	return c
}

// sharingOf is how its buckets are shared, in the core's terms: as another system
// does it, or with some that pins give to nodes; nil where the nodes deal all.
func sharingOf(c *config.Config, s *config.Service) *cluster.Sharing {
	if _, homes := c.PinsOf(s.Name); len(homes) > 0 {
		return &cluster.Sharing{Buckets: hashing.Buckets, Homes: homes, Ours: true}
	}
	if !s.Sharing.Other() {
		return nil
	}
	return &cluster.Sharing{Buckets: uint16(s.Sharing.Nodes), Homes: s.Sharing.Homes}
}

// mappingOf are the parts of a service's digest that say how its clients are mapped.
// Whom the buckets belong to is the table's, and may change; not so those of pins.
func mappingOf(c *config.Config, s *config.Service) []string {
	out := []string{string(s.Affinity)}
	pins, homes := c.PinsOf(s.Name)
	for _, p := range pins {
		out = append(out, "pin", p.Clients.String(), homes[p.Bucket])
	}
	if s.Sharing.Other() {
		out = append(out, string(s.Sharing.Hash), fmt.Sprint(s.Sharing.Seed), fmt.Sprint(s.Sharing.Nodes))
	}
	return out
}

// hashText is how a service's clients are shared, for people.
func hashText(s *config.Service) string {
	c := &s.Sharing
	if !c.Other() {
		return ""
	}
	text := fmt.Sprintf("hash %s of %d nodes", c.Hash, c.Nodes)
	if c.Seed != 0 {
		text += fmt.Sprintf(" with seed %d", c.Seed)
	}
	for b, name := range c.Homes {
		text += fmt.Sprintf(", %d is %s's", b+c.First(), name)
	}
	return text
}
