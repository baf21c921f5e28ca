package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Pin sends clients to a node while that can serve.
type Pin struct {
	Clients []netip.Prefix
	// Node is a node's name, or one of the peers' addresses.
	Node string
	// Services are names of services, none for all.
	Services []string
}

// MaxPins bounds the prefixes of all pins together.
const MaxPins = 64

func (p *problems) pins(raw []rawPin, c *Config) {
	all := 0
	for i := range raw {
		key := fmt.Sprintf("pin[%d]", i)
		pin := Pin{Clients: p.prefixes(key+".clients", raw[i].Clients), Services: raw[i].Services}
		node, ok := p.required(key+".node", raw[i].Node, "unix1")
		if pin.Node = node; ok {
			p.pinNode(key+".node", node, c)
		}
		if len(raw[i].Clients) == 0 {
			p.at(key+".clients", "there are none; write a list such as [\"198.51.100.0/24\"]")
		}
		if all += len(pin.Clients); all > MaxPins {
			p.at(key+".clients", "with these the pins have %d prefixes, of %d that are possible; write fewer", all, MaxPins)
		}
		p.pinServices(key+".services", pin.Services, c)
		c.Pins = append(c.Pins, pin)
	}
	p.pinsTwice(c)
	p.pinsShared(c)
}

func (p *problems) pinNode(key, node string, c *Config) {
	a, err := parseAddr(node)
	switch {
	case err == nil && !slices.Contains(c.Cluster.Peers, a):
		p.at(key, "%s is not in cluster.peers; write the name or the address of one of them", a)
	case err != nil && !isName(node):
		p.at(key, "%s is no name of a node; write one, such as \"unix1\", or one of the peers' addresses", shown(node))
	}
}

func (p *problems) pinServices(key string, names []string, c *Config) {
	for i, name := range names {
		if !slices.ContainsFunc(c.Services, func(s Service) bool { return s.Name == name }) && !p.toldIn("service") {
			p.at(fmt.Sprintf("%s[%d]", key, i), "there is no service %s; write the name of a [[service]]", shown(name))
		}
	}
}

// pinsTwice refuses a prefix that has two pins for one service.
func (p *problems) pinsTwice(c *Config) {
	for i := range c.Pins {
		for j := range i {
			for k, prefix := range c.Pins[i].Clients {
				if slices.Contains(c.Pins[j].Clients, prefix) && c.Pins[i].meets(&c.Pins[j]) {
					p.at(fmt.Sprintf("pin[%d].clients[%d]", i, k), "%s has a pin already; write it in one of them", prefix)
				}
			}
		}
	}
}

// pinsShared refuses pins of services whose clients another system's hash shares.
func (p *problems) pinsShared(c *Config) {
	for i := range c.Pins {
		for k := range c.Services {
			if s := &c.Services[k]; s.Sharing.Other() && c.Pins[i].of(s.Name) {
				p.at(fmt.Sprintf("pin[%d]", i), "service %s is shared by hash = %q, and the other system's nodes know no pins; leave them out, or write services without it", shown(s.Name), string(s.Sharing.Hash))
			}
		}
	}
}

// of reports whether a pin is of a service.
func (p *Pin) of(service string) bool {
	return len(p.Services) == 0 || slices.Contains(p.Services, service)
}

// meets reports whether two pins are of the same service.
func (p *Pin) meets(o *Pin) bool {
	return len(p.Services) == 0 || slices.ContainsFunc(p.Services, o.of)
}

// PinnedPrefix is a prefix whose clients have a bucket of a service of their own.
type PinnedPrefix struct {
	Clients netip.Prefix
	Bucket  uint8
}

// PinsOf are the pins of a service, the longest prefix first, and the nodes that the
// first buckets belong to: one for each node, in the order of their names, so that
// all nodes with the same file have the same.
func (c *Config) PinsOf(service string) (pins []PinnedPrefix, homes []string) {
	for i := range c.Pins {
		if p := &c.Pins[i]; p.of(service) && !slices.Contains(homes, p.Node) {
			homes = append(homes, p.Node)
		}
	}
	slices.Sort(homes)
	for i := range c.Pins {
		p := &c.Pins[i]
		if !p.of(service) {
			continue
		}
		for _, prefix := range p.Clients {
			pins = append(pins, PinnedPrefix{prefix, uint8(slices.Index(homes, p.Node))})
		}
	}
	slices.SortStableFunc(pins, func(a, b PinnedPrefix) int {
		return cmp.Or(cmp.Compare(b.Clients.Bits(), a.Clients.Bits()), a.Clients.Addr().Compare(b.Clients.Addr()))
	})
	return pins, homes
}
