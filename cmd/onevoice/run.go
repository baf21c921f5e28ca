package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"onevoice/admin"
	"onevoice/config"
	"onevoice/hashing"
	"onevoice/internal/poller"
	"onevoice/link"
	"onevoice/node"
	"onevoice/proxy"
	"onevoice/responder"
	"onevoice/stack"
)

const defaultConfig = "/etc/onevoice/onevoice.toml"

func newRunCommand() *cobra.Command {
	var file, capture string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Answer for the cluster's addresses on this host",
		Long: `Answer for the cluster's addresses on this host.

Runs in the foreground and logs to standard error. SIGTERM or SIGINT makes it
accept nothing new; running connections get [node] stop_timeout to end.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			return run(file, capture, log)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", defaultConfig, "configuration `file`")
	cmd.Flags().StringVar(&capture, "pcap", "", "write the frames that pass the filter, and those sent, to this `file`")
	return cmd
}

// daemon is everything that run opens, in the order in which it is closed
// again: last opened first.
type daemon struct {
	cfg     *config.Config
	log     *slog.Logger
	self    netip.Addr
	closers []func() error
	began   time.Duration

	device link.Device
	stack  *stack.Stack
	node   *node.Node
	loop   *node.Loop
	table  hashing.Table
}

func (d *daemon) opened(closer func() error) { d.closers = append(d.closers, closer) }

func (d *daemon) close() error {
	var errs []error
	for _, c := range slices.Backward(d.closers) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

func run(file, capture string, log *slog.Logger) (err error) {
	cfg, err := config.Load(file)
	if err != nil {
		return err
	}
	for _, w := range cfg.Warnings {
		log.Warn(w)
	}
	d := &daemon{cfg: cfg, log: log, began: boottime()}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.open(capture); err != nil {
		return err
	}
	return d.start()
}

// start runs the loop until a signal, or the interface, ends it.
func (d *daemon) start() error {
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(stop)
	ended := make(chan struct{})
	defer close(ended)
	go d.waitForSignal(stop, ended)

	d.log.Info("answering", "node", d.cfg.Node.Name, "address", d.self, "vips", addressesOf(d.cfg.VIPs), "buckets", d.table.Count(nodeID(d.self)))
	if err := d.loop.Run(); err != nil {
		return fmt.Errorf("interface %s: %w", d.cfg.Cluster.Interface, err)
	}
	d.log.Info("stopped")
	return nil
}

// waitForSignal is the goroutine `main.waitForSignal`; it ends with run.
func (d *daemon) waitForSignal(stop <-chan os.Signal, ended <-chan struct{}) {
	grace := d.cfg.Node.StopTimeout
	for {
		select {
		case <-ended:
			return
		case s := <-stop:
			d.log.Info("stopping", "signal", s.String(), "flows_get", grace.String())
			d.loop.Stop(grace)
			// A second signal does not wait.
			grace = 0
		}
	}
}

// open opens everything; what it opened is closed by d.close.
func (d *daemon) open(capture string) error {
	if err := d.checkHost(); err != nil {
		return err
	}
	key, err := config.ReadKey(d.cfg.Cluster.KeyFile)
	if err != nil {
		return err
	}
	for _, v := range d.cfg.VIPs {
		claim, err := link.Claim(v.Address.Addr())
		if errors.Is(err, link.ErrClaimed) {
			return fmt.Errorf("another onevoice on this host already answers for %s; stop it first", v.Address.Addr())
		}
		if err != nil {
			return err
		}
		d.opened(claim.Close)
	}
	if err := d.openDevice(capture); err != nil {
		return err
	}
	if err := d.installRoutes(); err != nil {
		return err
	}
	if err := d.openPipeline(key); err != nil {
		return err
	}
	return d.openAdmin()
}

// checkHost finds out which peer this host is, and that no kernel answers for a
// VIP beside us.
func (d *daemon) checkHost() error {
	name := d.cfg.Cluster.Interface
	have, err := link.Addresses(name)
	if err != nil {
		return fmt.Errorf("there is no interface %s on this host; set [cluster] interface to one of: %s", name, interfaceNames())
	}
	for _, p := range d.cfg.Cluster.Peers {
		if slices.Contains(have, p) {
			d.self = p
		}
	}
	if !d.self.IsValid() {
		return fmt.Errorf("none of the addresses of %s (%s) is in [cluster] peers, so this host does not know which peer it is; add its address there, on all nodes", name, join(have))
	}
	for _, v := range d.cfg.VIPs {
		holder, err := link.Holder(v.Address.Addr())
		if err != nil {
			return err
		}
		if holder != "" {
			return fmt.Errorf("%s is configured on %s, so this host's kernel would answer for it too; remove it there: ip address del %s dev %s", v.Address.Addr(), holder, v.Address, holder)
		}
	}
	return nil
}

func interfaceNames() string {
	all, _ := net.Interfaces()
	var names []string
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 {
			names = append(names, i.Name)
		}
	}
	return strings.Join(names, ", ")
}

func join[T fmt.Stringer](list []T) string {
	var out []string
	for _, v := range list {
		out = append(out, v.String())
	}
	return strings.Join(out, ", ")
}

func addressesOf(vips []config.VIP) string {
	var out []netip.Addr
	for _, v := range vips {
		out = append(out, v.Address.Addr())
	}
	return join(out)
}

// rights turns a missing right into a sentence.
func rights(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("no right to open raw sockets; run as root, or give the program CAP_NET_RAW and CAP_NET_ADMIN (%w)", err)
	}
	return err
}

func (d *daemon) openDevice(capture string) error {
	filter := &link.Filter{}
	for _, v := range d.cfg.VIPs {
		filter.Addresses = append(filter.Addresses, v.Address.Addr())
		if !slices.ContainsFunc(filter.Groups, func(g net.HardwareAddr) bool { return g.String() == v.MAC.String() }) {
			filter.Groups = append(filter.Groups, v.MAC)
		}
	}
	dev, err := link.Open(d.cfg.Cluster.Interface, filter)
	if err != nil {
		return rights(err)
	}
	d.opened(dev.Close)
	d.device = dev
	if capture == "" {
		return nil
	}
	f, err := os.OpenFile(capture, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	tap := link.NewTap(dev, f, time.Now)
	d.opened(func() error { return errors.Join(tap.Err(), f.Close()) })
	d.device = tap
	return nil
}

// installRoutes sets the host settings of transparent connections and of this
// host's own way to the VIPs.
func (d *daemon) installRoutes() error {
	var backends, vips []netip.Addr
	services := map[netip.AddrPort]proxy.Backend{}
	for _, s := range d.cfg.Services {
		if s.Source == config.SourceTransparent {
			backends = append(backends, s.Backend.Addr())
		}
		services[s.Listen] = backendOf(&s)
	}
	for _, v := range d.cfg.VIPs {
		vips = append(vips, v.Address.Addr())
	}
	routes, err := proxy.InstallRoutes(proxy.TableFor(vips[0]), backends, vips, d.self)
	if err != nil {
		return rights(err)
	}
	d.opened(routes.Remove)
	own, err := proxy.ServeOwnHost(services)
	if err != nil {
		return rights(err)
	}
	d.opened(own.Close)
	return nil
}

func backendOf(s *config.Service) proxy.Backend {
	return proxy.Backend{Addr: s.Backend, Transparent: s.Source == config.SourceTransparent}
}

// openPipeline makes stack, node and loop, and puts the ownership that follows
// from the file's peers in force.
func (d *daemon) openPipeline(key []byte) error {
	wait, err := poller.New()
	if err != nil {
		return err
	}
	d.opened(wait.Close)
	if d.stack, err = stack.New(d.stackConfig(wait)); err != nil {
		return err
	}
	d.opened(func() error { d.stack.Close(); return nil })
	nodeConfig, err := d.nodeConfig(key)
	if err != nil {
		return err
	}
	if d.node, err = node.New(nodeConfig); err != nil {
		return err
	}
	if err := d.setStaticOwnership(); err != nil {
		return err
	}
	d.loop, err = node.NewLoop(node.LoopConfig{
		Node: d.node, Stack: d.stack, Device: d.device, Poller: wait, Clock: boottime, Log: d.log,
	})
	return err
}

func (d *daemon) stackConfig(wait *poller.Poller) stack.Config {
	c := stack.Config{MTU: d.device.MTU(), Poller: wait, BackendChanged: d.backendChanged}
	for _, v := range d.cfg.VIPs {
		c.Addresses = append(c.Addresses, v.Address.Addr())
	}
	for _, s := range d.cfg.Services {
		c.Services = append(c.Services, stack.Service{Name: s.Name, Listen: s.Listen, Backend: backendOf(&s)})
	}
	return c
}

func (d *daemon) backendChanged(service string, up bool, err error) {
	if up {
		d.log.Info("backend is back", "service", service)
		return
	}
	d.log.Warn("backend does not accept; clients are reset until it does", "service", service, "error", err)
}

func (d *daemon) nodeConfig(key []byte) (node.Config, error) {
	gateway, err := link.Gateway(d.cfg.Cluster.Interface)
	if err != nil {
		return node.Config{}, err
	}
	c := node.Config{
		Own:     responder.MAC(d.device.HardwareAddr()),
		Address: d.self,
		Gateway: gateway,
		MTU:     d.device.MTU(),
		Hasher:  hashing.NewHasher(hashing.DeriveKey(key)),
		Flows:   d.stack,
	}
	for _, v := range d.cfg.VIPs {
		c.VIPs = append(c.VIPs, node.VIP{
			VIP: responder.VIP{Addr: v.Address.Addr(), MAC: responder.MAC(v.MAC)},
			LAN: v.Address.Masked(),
		})
	}
	for _, s := range d.cfg.Services {
		affinity, err := hashing.ParseAffinity(string(s.Affinity))
		if err != nil {
			return node.Config{}, err
		}
		c.Services = append(c.Services, node.Service{Listen: s.Listen, Affinity: affinity})
	}
	return c, nil
}

// nodeID is a peer's number in the static table, equal on all nodes.
func nodeID(a netip.Addr) hashing.NodeID {
	b := a.As4()
	return hashing.NodeID(b[0])<<24 | hashing.NodeID(b[1])<<16 | hashing.NodeID(b[2])<<8 | hashing.NodeID(b[3])
}

// setStaticOwnership gives every peer of the file its share, for ever.
func (d *daemon) setStaticOwnership() error {
	shares := make([]hashing.Share, len(d.cfg.Cluster.Peers))
	for i, p := range d.cfg.Cluster.Peers {
		shares[i] = hashing.Share{Node: nodeID(p), Weight: 100}
	}
	table, err := hashing.First(shares)
	if err != nil {
		return err
	}
	d.table = table
	mine := node.Rows{Accept: node.OwnedBy(&d.table, nodeID(d.self))}
	o := &node.Ownership{Generation: 1, LeaseEnd: node.Forever}
	for range d.cfg.VIPs {
		o.VIPs = append(o.VIPs, mine)
	}
	for range d.cfg.Services {
		o.Services = append(o.Services, mine)
	}
	return d.node.SetOwnership(o)
}

func (d *daemon) openAdmin() error {
	l, err := admin.Listen(d.cfg.Admin.Socket)
	if err != nil {
		return err
	}
	server := admin.Serve(l, d.status)
	d.opened(server.Close)
	return nil
}

// status is the admin.Source of the daemon.
func (d *daemon) status(withTable bool) (*admin.Status, error) {
	s := &admin.Status{Node: d.cfg.Node.Name, Cluster: d.cfg.Cluster.Name, Version: version(), Verdicts: map[string]uint64{}}
	if err := d.loop.Call(func(now time.Duration) { d.fill(s, now, withTable) }); err != nil {
		return nil, errors.New("the daemon is stopping")
	}
	for _, v := range d.cfg.VIPs {
		s.VIPs = append(s.VIPs, admin.VIPStatus{Address: v.Address.Addr().String(), MAC: v.MAC.String(), MACMode: string(v.MACMode)})
	}
	for _, p := range d.cfg.Cluster.Peers {
		s.Nodes = append(s.Nodes, admin.NodeStatus{Address: p.String(), Self: p == d.self, Buckets: d.table.Count(nodeID(p))})
	}
	if withTable {
		s.Table = map[string][]string{"vip": d.owners()}
	}
	return s, nil
}

func (d *daemon) owners() []string {
	out := make([]string, hashing.Buckets)
	for _, p := range d.cfg.Cluster.Peers {
		for b, owner := range d.table {
			if owner == nodeID(p) {
				out[b] = p.String()
			}
		}
	}
	return out
}

// fill runs on the loop's goroutine.
func (d *daemon) fill(s *admin.Status, now time.Duration, withFlows bool) {
	s.Uptime = (now - d.began).Seconds()
	counts := d.node.Counts()
	for v := node.Undecided + 1; v < node.VerdictCount; v++ {
		s.Verdicts[v.String()] = counts[v]
	}
	for i, svc := range d.stack.Services() {
		s.Services = append(s.Services, admin.ServiceStatus{
			ServiceStatus: svc,
			Affinity:      string(d.cfg.Services[i].Affinity),
			Buckets:       d.table.Count(nodeID(d.self)),
		})
		if !svc.Up {
			s.Warnings = append(s.Warnings, fmt.Sprintf("service %s: the backend %s does not accept; clients are reset", svc.Name, svc.Backend))
		}
	}
	if m := d.node.LastStranger(); m.Address.IsValid() {
		s.Warnings = append(s.Warnings, fmt.Sprintf("somebody claimed %s in ARP %s ago, as being at %s; the frame came from %s", m.Address, (now-m.At).Truncate(time.Second), m.MAC, m.From))
	}
	s.Flows = admin.FlowsStatus{Running: d.stack.FlowCount(), Limit: stack.MaxFlows, Counters: d.stack.Counters()}
	s.Device = d.device.Stats()
	s.Loop = d.loop.Stats()
	if withFlows {
		s.Running = d.stack.Flows(now, stack.MaxFlows)
	}
}

// boottime is the daemon's clock: it does not go back, and goes on while the
// host is suspended.
func boottime() time.Duration {
	var ts unix.Timespec
	// CLOCK_BOOTTIME exists on every kernel that this program runs on.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}
