package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"onevoice/config"
	"onevoice/control"
	"onevoice/hashing"
	"onevoice/internal/boottime"
	"onevoice/internal/poller"
	"onevoice/internal/rights"
	"onevoice/link"
	"onevoice/link/egress"
	"onevoice/link/ingress"
	"onevoice/link/tap"
	"onevoice/node"
	"onevoice/proxy"
	"onevoice/responder"
	"onevoice/stack"
)

// workerCommand is the hidden command that `onevoice run` starts for the frames.
const workerCommand = "worker"

func newWorkerCommand() *cobra.Command {
	return &cobra.Command{
		Use:    workerCommand,
		Short:  "Serve the frames of `onevoice run`, which starts it",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runWorker(newLog(cmd.ErrOrStderr()))
		},
	}
}

// serving is everything that a worker opens, in the order in which it is closed
// again: last opened first.
type serving struct {
	guest    *control.Guest
	settings *control.WorkerSettings
	log      *slog.Logger
	parts    control.WorkerParts
	bounds   workerBounds
	// direct are the programs of the direct path, and directs what they serve.
	direct  *ingress.Direct
	directs []control.DirectService
	// pins are their directory. awaits: another process's stand in their place.
	pins    string
	awaits  bool
	closers []func() error
}

func (s *serving) opened(closer func() error) { s.closers = append(s.closers, closer) }

func (s *serving) close() error {
	var errs []error
	for _, c := range slices.Backward(s.closers) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

func runWorker(log *slog.Logger) (err error) {
	// One processor: netstack's goroutines run when the loop yields to them, at the
	// end of each batch, and nothing is woken on another processor.
	runtime.GOMAXPROCS(1)
	// Whoever read the log of control may be gone with it; a reload is control's.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	guest, err := control.InheritGuest(log)
	if err != nil {
		return err
	}
	s := &serving{guest: guest, settings: guest.Settings(), log: log}
	defer func() { err = errors.Join(err, s.close()) }()
	err = s.open()
	if err == nil {
		err = s.giveUp()
	}
	if err != nil {
		// Control tells it to whoever started it.
		return errors.Join(guest.Fail(err), guest.Close(), exitCode(exitFailed))
	}
	return s.run()
}

// run serves until control says stop, or there is neither control nor a flow.
func (s *serving) run() error {
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(stop)
	ended := make(chan struct{})
	defer close(ended)
	if err := s.guest.Start(s.parts); err != nil {
		return errors.Join(err, s.guest.Close())
	}
	go s.waitForSignal(stop, ended)
	err := s.parts.Loop.Run()
	alone := s.guest.Orphaned()
	if err == nil && !alone && s.parts.Direct != nil {
		err = s.parts.Direct.EndAll()
	}
	if err := s.guest.Close(); err != nil {
		return err
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", s.settings.Config.Cluster.Interface, err)
	}
	s.leaveGroups()
	if alone {
		return s.tidy()
	}
	return nil
}

// leaveGroups tells the switch that no frames are wanted here any more, unless
// another worker of this host still wants them. This one is not in the kernel's
// list any more.
func (s *serving) leaveGroups() {
	others, err := control.FindWorkers(s.settings.Config.VIPs[0].Address.Addr())
	if err == nil && len(others) == 0 {
		s.parts.Loop.Leave()
	}
}

// waitForSignal is the goroutine `main.waitForSignal` of a worker. A signal to
// all processes of a group is for control to obey; a worker without control
// obeys by itself.
func (s *serving) waitForSignal(stop <-chan os.Signal, ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case <-stop:
			if s.guest.Orphaned() {
				s.parts.Loop.Stop(s.settings.Config.Node.StopTimeout)
			}
		}
	}
}

// tidy takes the host's settings back for a control process that can no longer
// do so, unless another one, or another worker, needs them.
func (s *serving) tidy() error {
	vip := s.settings.Daemon[0]
	claim, err := link.Claim(vip)
	if errors.Is(err, link.ErrClaimed) {
		return nil
	}
	if err != nil {
		return err
	}
	defer claim.Close()
	if others, err := control.FindWorkers(s.settings.Daemon...); err != nil || len(others) > 0 {
		return err
	}
	if err := rights.Use(rights.NetAdmin); err != nil {
		return err
	}
	return proxy.RemoveRoutes(proxy.TableFor(vip))
}

// open opens everything; what it opened is closed by close.
func (s *serving) open() error {
	if err := s.openDevice(); err != nil {
		return err
	}
	if err := s.joinSolicited(); err != nil {
		return err
	}
	wait, err := poller.New(poller.ByKernel)
	if err != nil {
		return err
	}
	s.opened(wait.Close)
	s.parts.Poller = wait
	if s.parts.OwnHost, err = proxy.ServeOwnHost(s.backends()); err != nil {
		return missingRight(err)
	}
	s.opened(s.parts.OwnHost.Close)
	s.tellTaken()
	s.openBounds()
	if s.parts.Stack, err = stack.New(s.stackConfig()); err != nil {
		return err
	}
	s.opened(func() error { s.parts.Stack.Close(); return nil })
	s.parts.Stack.SetMTU6(s.mtu6())
	if err := s.openDatagrams(); err != nil {
		return err
	}
	if err := s.openGuard(); err != nil {
		return err
	}
	nodeConfig, err := s.nodeConfig()
	if err != nil {
		return err
	}
	if s.parts.Node, err = node.New(nodeConfig); err != nil {
		return err
	}
	for file, list := range s.guest.PrefixLists() {
		s.parts.Node.SetPrefixList(file, list)
	}
	s.openFilter(nodeConfig.Services)
	if err := s.openDirect(nodeConfig.Services); err != nil {
		return err
	}
	s.parts.Loop, err = node.NewLoop(node.LoopConfig{
		Node: s.parts.Node, Stack: s.parts.Stack, Datagrams: s.parts.Datagrams, Device: s.parts.Device, Poller: wait, Clock: new(boottime.Clock).Now, Log: s.log,
		Rest: poller.Rest, Begin: s.guest.Begin, Turned: s.turned(s.openCollector()),
		Busy: func() bool { return s.parts.Direct != nil && s.parts.Direct.Running() > 0 },
	})
	if err == nil {
		s.followDirect()
	}
	return err
}

// openCollector makes the collector, and starts the goroutine that gives memory back:
// that takes as long as it takes to look through all that is in use, and the loop goes
// on meanwhile.
func (s *serving) openCollector() *collector {
	release := make(chan struct{}, 1)
	go releaseMemory(release)
	s.opened(func() error { close(release); return nil })
	return newCollector(release)
}

// turned is what happens at the end of each turn of the loop.
func (s *serving) turned(c *collector) func(time.Duration, uint64) {
	changed, memory := "", newMemoryWatch(s.bounds.memory, c.collect)
	return func(now time.Duration, generation uint64) {
		s.guest.Turned(now, generation)
		c.turn(now)
		if m := memory.turn(now, s.parts.Stack.Memory()); m != s.parts.Stack.Memory() {
			s.parts.Stack.SetMemory(m)
			s.tellMemory(m)
		}
		if what := s.parts.Watch.Changed(now); what != changed {
			changed = what
			if what != "" {
				s.log.Warn("the interface is not as it was when this node started; restart onevoice here", "changed", what)
			}
		}
	}
}

func (s *serving) openDevice() error {
	c := s.settings.Config
	dev, err := link.Open(c.Cluster.Interface, s.filter())
	if err != nil {
		return missingRight(err)
	}
	s.opened(dev.Close)
	s.parts.Device, s.parts.Watch = dev, dev.Watch()
	if vlan := c.VIPs[0].Uplink.VLAN; vlan != 0 {
		s.parts.Device = link.InVLAN(dev, vlan)
	}
	if s.settings.Capture == "" {
		return nil
	}
	f, err := os.OpenFile(s.settings.Capture, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	recorded := tap.New(s.parts.Device, f, time.Now)
	s.opened(func() error { return errors.Join(recorded.Err(), f.Close()) })
	s.parts.Device = recorded
	return nil
}

// filter is what the worker takes in.
func (s *serving) filter() *link.Filter {
	f := &link.Filter{Except: s.settings.Config.Cluster.ControlPort}
	for _, v := range s.settings.Config.VIPs {
		f.Addresses = append(f.Addresses, v.Address.Addr())
		addMAC(f, v.MAC)
		if g := v.Group(); g.IsValid() {
			f.Membership = true
			everybody := netip.AddrFrom4([4]byte{224, 0, 0, 1})
			if g.Is6() {
				everybody = responder.AllNodes()
			}
			mac := responder.GroupMAC(everybody)
			addMAC(f, mac[:])
		}
	}
	return f
}

// addMAC adds a MAC to a filter, once.
func addMAC(f *link.Filter, m net.HardwareAddr) {
	if !slices.ContainsFunc(f.Groups, func(g net.HardwareAddr) bool { return g.String() == m.String() }) {
		f.Groups = append(f.Groups, m)
	}
}

// openGuard has the kernel drop what would leave after the lease. Without it the
// worker's own looks at the clock count alone.
func (s *serving) openGuard() error {
	c := s.settings.Config
	device, err := net.InterfaceByName(c.Cluster.Interface)
	if err != nil {
		return err
	}
	paths := map[int][]netip.Addr{}
	for i, v := range c.VIPs {
		path := s.settings.Path(i)
		paths[path] = append(paths[path], v.Address.Addr())
	}
	for path := range len(paths) {
		// Before its first lease this worker says nothing, and one beside it may.
		guard, err := egress.Attach(device.Index, paths[path], node.Forever)
		if errors.Is(err, egress.ErrUnsupported) || errors.Is(err, egress.ErrNotPermitted) {
			s.parts.NoGuard = err.Error()
			s.log.Warn("the kernel does not guard the end of the lease; a worker that is stopped between its look at the clock and the send may answer late", "error", err)
			return nil
		}
		if err != nil {
			return err
		}
		s.parts.Guards = append(s.parts.Guards, guard)
		s.opened(guard.Close)
	}
	return nil
}

// backends are for this host's own connections to the VIPs.
func (s *serving) backends() map[netip.AddrPort]proxy.Backend {
	out := map[netip.AddrPort]proxy.Backend{}
	for i := range s.settings.Config.Services {
		svc := &s.settings.Config.Services[i]
		if svc.UDP || svc.Direct {
			continue
		}
		for i := range svc.Ports() {
			port := svc.Listen.Port() + uint16(i)
			// This host's own address is the client's, and is its own: no mark.
			backend := backendOf(svc, 0)
			backend.Addr = svc.BackendAt(port)
			out[netip.AddrPortFrom(svc.Listen.Addr(), port)] = backend
		}
	}
	return out
}

// tellTaken warns of services that this host itself does not reach, for another
// program has the port.
func (s *serving) tellTaken() {
	for _, at := range s.parts.OwnHost.Taken() {
		s.log.Warn("a program listens on this port of all of this host's addresses, so this host itself does not reach the service; clients do; have the program listen on 127.0.0.1 and this host's own address",
			"listen", at)
	}
}

// backendOf is a service's backend. mark tells the answers of one that is not on
// loopback from those to its other clients.
func backendOf(s *config.Service, mark uint32) proxy.Backend {
	if s.Backend.Addr().IsLoopback() {
		mark = 0
	}
	return proxy.Backend{
		Addr: s.Backend, Path: s.BackendPath, Header: control.HeaderOf(s),
		Transparent: s.Source == config.SourceTransparent, Mark: mark,
	}
}

func (s *serving) stackConfig() stack.Config {
	c := stack.Config{MTU: s.parts.Device.MTU(), MaxFlows: s.bounds.flows, Poller: s.parts.Poller, BackendChanged: s.backendChanged}
	for _, v := range s.settings.Config.VIPs {
		c.Addresses = append(c.Addresses, v.Address.Addr())
	}
	mark := proxy.MarkFor(s.settings.Daemon[0])
	for i := range s.settings.Config.Services {
		svc := &s.settings.Config.Services[i]
		if svc.UDP || svc.Direct {
			continue
		}
		c.Services = append(c.Services, stack.Service{
			Name: svc.Name, Listen: svc.Listen, LastPort: svc.LastPort, Backend: backendOf(svc, mark), EachPort: svc.BackendLast != 0,
		})
	}
	return c
}

func (s *serving) backendChanged(service string, up bool, err error) {
	s.guest.BackendChanged(service, up, err)
	if up {
		s.log.Info("backend is back", "service", service)
		return
	}
	s.log.Warn("backend does not accept; clients are reset until it does", "service", service, "error", err)
}

func (s *serving) nodeConfig() (node.Config, error) {
	conf := s.settings.Config
	gateway, err := link.Gateway(conf.Cluster.Interface)
	if err != nil {
		return node.Config{}, err
	}
	address6, gateway6, err := s.ipv6()
	if err != nil {
		return node.Config{}, err
	}
	c := node.Config{
		Own:          responder.MAC(s.parts.Device.HardwareAddr()),
		Address:      s.settings.Self,
		ProbeGateway: conf.Node.GatewayCheck,
		Gateway:      gateway, Address6: address6, Gateway6: gateway6, MTU6: s.mtu6(),
		MTU:     s.parts.Device.MTU(),
		Hasher:  hashing.NewHasher(s.settings.HashKey),
		ListKey: s.settings.ListKey, AdmissionKey: [16]byte(randomBytes(16)),
		Flows: s.parts.Stack, Cookies: s.parts.Stack,

		ControlPort: conf.Cluster.ControlPort,
	}
	if s.parts.Datagrams != nil {
		c.Datagrams = s.parts.Datagrams
	}
	for i := range conf.VIPs {
		if g := conf.VIPs[i].Group(); g.IsValid() {
			c.Groups = append(c.Groups, g)
		}
	}
	if len(c.Groups) > 0 {
		c.IGMP, c.Random = link.IGMPVersion(conf.Cluster.Interface), rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
		if c.LinkLocal, err = link.LinkLocal(conf.Cluster.Interface); err != nil {
			return node.Config{}, err
		}
	}
	for _, v := range conf.VIPs {
		c.VIPs = append(c.VIPs, node.VIP{
			VIP: responder.VIP{Addr: v.Address.Addr(), MAC: responder.MAC(v.MAC)},
			LAN: v.Address.Masked(),
		})
	}
	for _, svc := range conf.Services {
		affinity, err := hashing.ParseAffinity(string(svc.Affinity))
		if err != nil {
			return node.Config{}, err
		}
		to := node.Service{Proto: node.TCP, Listen: svc.Listen, LastPort: svc.LastPort, Affinity: affinity, Compatible: compatibleOf(&svc), Direct: svc.Direct}
		if svc.UDP {
			to.Proto = node.UDP
		}
		admitted(&to, &conf.Access, &svc)
		pins, _ := conf.PinsOf(svc.Name)
		for _, p := range pins {
			to.Pins = append(to.Pins, node.Pin(p))
		}
		c.Services = append(c.Services, to)
	}
	return c, nil
}
