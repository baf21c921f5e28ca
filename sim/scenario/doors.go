package scenario

import (
	"net/netip"
	"time"

	"onevoice/cluster"
	"onevoice/sim"
)

// ServicePort is where the first service listens on the VIP.
const ServicePort = servicePort

// Host is the host of that name, nil if there is none.
func (c *Cluster) Host(name string) *Host {
	for _, h := range c.Hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// ClusterMAC is the first path's.
func (c *Cluster) ClusterMAC() sim.MAC { return c.clusterMAC(0) }

// Tell calls fn with each line of each host's log.
func (c *Cluster) Tell(fn func(h *Host, n cluster.Note)) {
	for _, h := range c.Hosts {
		h.story = fn
	}
}

// Site is where the plans of sim strike this cluster: its first LAN, its
// management network and its hosts. Kill ends all of onevoice on a host, its
// workers too; see Host.Crash. On the direct path the kernel goes on then.
func (c *Cluster) Site() *sim.Site {
	site := sim.NewSite(c.LANs[0], c.Net)
	off := c.World.NewHub() // a witness is on another LAN
	for _, h := range c.Hosts {
		port := h.Port()
		if port == nil {
			port = off.Attach(h.Name, h.clock, nil)
		}
		site.Host(port, h.net, h.clock, h.disk)
	}
	site.Down = func(f sim.Fault) {
		switch h := c.Host(f.Hosts[0]); {
		case f.Kind == sim.Wipe:
			h.wipe()
		case f.Kind == sim.Kill && c.o.Direct:
			h.crashDaemon()
		default:
			h.crash()
		}
	}
	site.Up = func(f sim.Fault) { c.Host(f.Hosts[0]).restart() }
	return site
}

// Ask gives an operator's wish to a host that runs.
func (c *Cluster) Ask(w cluster.Wish) {
	for _, h := range c.Hosts {
		if h.up && h.role == cluster.Node {
			h.ask(w)
			return
		}
	}
}

// Port is the host's on the first LAN; a witness has none.
func (h *Host) Port() *sim.Port {
	if len(h.ports) == 0 {
		return nil
	}
	return h.ports[0]
}

// MAC and Address are the host's own on the first LAN.
func (h *Host) MAC() sim.MAC { return sim.MAC(h.mac(0)) }

// Address is the host's own.
func (h *Host) Address() netip.Addr { return h.addr }

// Alive tells whether its workers run.
func (h *Host) Alive() bool { return h.worker.alive }

// Answers are the buckets of a service that the host's worker answers for now.
// Service 0 is the VIP's own.
func (h *Host) Answers(service int) [4]uint64 {
	if g := h.worker.gate; h.c.fixed && g != nil && g.inForce() != nil {
		return g.inForce().Services[service].Accept
	}
	return h.accepts(service, 0)
}

// Count is how many buckets are in a set.
func Count(buckets [4]uint64) int { return count(buckets) }

// Crash ends all of onevoice on the host at once.
func (h *Host) Crash() { h.crash() }

// Stop ends the control process alone, as an upgrade does: the worker goes on.
func (h *Host) Stop() { h.kill() }

// Start brings the control process back, and a worker if there is none.
func (h *Host) Start() { h.restart() }

// Stall lets the whole host stand still, control and workers.
func (h *Host) Stall(d time.Duration) {
	h.clock.Pause(d)
	h.workers.Pause(d)
}

// StallWorkers lets only its workers stand still.
func (h *Host) StallWorkers(d time.Duration) { h.workers.Pause(d) }

// Check tells the host that its service is up or down.
func (h *Host) Check(service int, up bool) {
	h.step(cluster.Checked{Service: h.services[service].Name, Up: up})
}

// Status is what the host's core knows; ok is false before its first start.
func (h *Host) Status() (s cluster.Status, ok bool) {
	if h.core == nil {
		return s, false
	}
	return h.core.Status(h.clock.Now()), true
}

// Rehash gives the first service another hash key, so that nearly every client
// goes to another node.
func (c *Cluster) Rehash() {
	s := c.services[1]
	c.Ask(cluster.Remap{Service: s.Name, Mapping: cluster.Mapping{Digest: s.Digest, Key: cluster.Key{0xaa, byte(c.World.Rand().Uint32())}}})
}
