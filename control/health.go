package control

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"onevoice/cluster"
	"onevoice/config"
	"onevoice/health"
	"onevoice/proxy"
)

// How uplinks and the gateway are asked. The file has no say in it.
const (
	uplinkInterval  = time.Second
	gatewayInterval = time.Second
	gatewayRise     = 2
	gatewayFall     = 3
	gatewayHoldDown = 5 * time.Second
)

// HealthConfig is what this host's health is made of, and who is told.
type HealthConfig struct {
	Config *config.Config
	// Gateway is the LAN's, as link.Gateway has it; not valid when there is none.
	Gateway netip.Addr
	// Tell takes events for the core, Answers whether the gateway answers. Both
	// are called on the monitor's goroutine and must not block.
	Tell    func(cluster.Event)
	Answers func(bool)
	Log     *slog.Logger
}

// Health watches whether this host can serve, and tells the core.
type Health struct {
	cfg     HealthConfig
	monitor *health.Monitor
	load    load
}

// load is how much of its weight this host can take: what agents and uplinks
// say, and nothing while a gateway that was asked for is away.
type load struct {
	percent int
	away    bool
}

func (l load) event() cluster.Loaded {
	if l.away {
		return cluster.Loaded{Percent: 0}
	}
	return cluster.Loaded{Percent: uint8(l.percent)}
}

// StartHealth begins to watch.
func StartHealth(cfg HealthConfig) (*Health, error) {
	node := &cfg.Config.Node
	if node.GatewayCheck && !cfg.Gateway.IsValid() {
		return nil, fmt.Errorf("[node] gateway_check is set, and %s has no default gateway; add the route, or leave gateway_check out", cfg.Config.Cluster.Interface)
	}
	h := &Health{cfg: cfg, load: load{percent: health.FullWeight}}
	o := health.Options{OnChange: h.service, OnWeight: h.weight, OnGateway: h.gateway, OnWarning: func(text string) { cfg.Log.Warn(text) }}
	for i := range cfg.Config.Services {
		s := &cfg.Config.Services[i]
		o.Services = append(o.Services, health.Service{Name: s.Name, Check: checkOf(s)})
	}
	if a := node.Agent; a.Program != "" || a.File != "" {
		o.Agents = []health.Source{{Program: a.Program, Args: a.Args, File: a.File, Interval: node.AgentInterval, Timeout: node.AgentInterval}}
	}
	o.Uplinks = health.Uplinks{Hosts: node.Ping, Interval: uplinkInterval, Timeout: uplinkInterval}
	// A witness judges by the gateway, whether or not the node goes by it.
	if node.GatewayCheck || cfg.Config.Cluster.Witness.IsValid() {
		o.Gateway = health.Gateway{
			Addr: cfg.Gateway, Interval: gatewayInterval, Timeout: gatewayInterval,
			Rise: gatewayRise, Fall: gatewayFall, HoldDown: gatewayHoldDown,
		}
	}
	var err error
	h.monitor, err = health.Start(o)
	return h, err
}

// Close ends the watching; nobody is told anything afterwards.
func (h *Health) Close() error {
	h.monitor.Close()
	return nil
}

// Report is the state of everything that is watched.
func (h *Health) Report() []health.Status { return h.monitor.Report() }

// HeaderOf is in which form a service's backend is told who the client is.
func HeaderOf(s *config.Service) proxy.Header {
	switch s.Source {
	case config.SourceProxyV1:
		return proxy.HeaderV1
	case config.SourceProxyV2:
		return proxy.HeaderV2
	}
	return proxy.NoHeader
}

// checkOf is a check of the file in the words of package health.
func checkOf(s *config.Service) health.Check {
	c := &s.Check
	kinds := map[config.CheckKind]health.Kind{
		config.CheckTCP: health.TCP, config.CheckUDP: health.UDP, config.CheckSSHBanner: health.SSHBanner, config.CheckHTTP: health.HTTP, config.CheckExec: health.Exec,
	}
	out := health.Check{
		Kind: kinds[c.Kind], Target: c.Target, Args: c.Args, Interval: c.Interval, Timeout: c.Timeout,
		Rise: c.Rise, Fall: c.Fall, HoldDown: c.HoldDown,
	}
	if c.Backend {
		out.Socket, out.Preface = s.BackendPath, HeaderOf(s).Own()
	}
	return out
}

func (h *Health) service(c health.Change) {
	if c.Up {
		h.cfg.Log.Info("service is up", "service", c.Service)
	} else {
		h.cfg.Log.Warn("service is down on this node; the others get its buckets, and its flows go on", "service", c.Service, "reason", c.Reason)
	}
	h.cfg.Tell(cluster.Checked{Service: c.Service, Up: c.Up})
}

func (h *Health) weight(w health.Weight) {
	h.cfg.Log.Info("this node can take another part of its weight", "percent", w.Percent, "reason", w.Reason)
	h.load.percent = w.Percent
	h.cfg.Tell(h.load.event())
}

func (h *Health) gateway(c health.Change) {
	h.cfg.Answers(c.Up)
	if !h.cfg.Config.Node.GatewayCheck {
		return
	}
	if h.load.away == !c.Up {
		return // it answers from the beginning
	}
	h.load.away = !c.Up
	if c.Up {
		h.cfg.Log.Info("the gateway answers again", "gateway", c.Service)
	} else {
		h.cfg.Log.Warn("the gateway does not answer; this node takes nothing new until it does", "gateway", c.Service, "reason", c.Reason)
	}
	h.cfg.Tell(h.load.event())
}

// DownEverywhere are the services that every node that could serve calls down.
// Their rows stay as they are (R20), so nobody else will say it.
func DownEverywhere(s *cluster.Status) []string {
	down, nodes := map[string]int{}, 0
	for i := range s.Hosts {
		if !s.Hosts[i].In || s.Hosts[i].Witness || s.Hosts[i].Foreign {
			continue
		}
		nodes++
		for _, one := range s.Hosts[i].Health {
			if !one.Up {
				down[one.Service]++
			}
		}
	}
	var out []string
	for name, n := range down {
		if n == nodes {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Outage notices when a service goes down on the last node and when it is back.
type Outage struct{ down []string }

// Look compares with the last look and returns what to say, for a log.
func (o *Outage) Look(s *cluster.Status) (warn, info string) {
	now := DownEverywhere(s)
	was := o.down
	o.down = now
	gone := slices.DeleteFunc(slices.Clone(now), func(n string) bool { return slices.Contains(was, n) })
	back := slices.DeleteFunc(slices.Clone(was), func(n string) bool { return slices.Contains(now, n) })
	if len(gone) > 0 {
		warn = fmt.Sprintf("down on all nodes: %s; nobody can serve it, and its buckets stay where they are", strings.Join(gone, ", "))
	}
	if len(back) > 0 {
		info = fmt.Sprintf("up again on one node at least: %s", strings.Join(back, ", "))
	}
	return warn, info
}
