package main

import (
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"onevoice/admin"
	"onevoice/cluster"
	"onevoice/config"
	"onevoice/control"
	"onevoice/internal/boottime"
	"onevoice/internal/poller"
	"onevoice/internal/sealed"
	"onevoice/link"
)

// openCore opens what every member has: the state directory, the core, and the
// sockets of its datagrams. It returns what a loop is made of.
func (d *daemon) openCore(key []byte, options *cluster.Options, t control.TransportConfig, flows bool) (cfg control.LoopConfig, err error) {
	cfg.Clock, cfg.WallClock, cfg.TTL, cfg.Log = boottime.Now, wallClock, options.Timing.TTL, d.log
	keys, err := keyring(d.cfg, key)
	if err != nil {
		return cfg, err
	}
	if cfg.Poller, err = poller.New(poller.ByRuntime); err != nil {
		return cfg, err
	}
	d.opened(cfg.Poller.Close)
	state, saved, err := control.OpenState(d.cfg.Node.StateDir, d.lock(), cfg.Poller.Wake, d.log)
	if err != nil {
		return cfg, err
	}
	d.opened(state.Close)
	d.state, cfg.State = state, state
	if d.core, err = cluster.New(*options, saved, boottime.Now(), flows); err != nil {
		return cfg, err
	}
	cfg.Core = d.core
	cfg.Sealer = sealed.NewSealer(keys, d.core.ID(), sealed.UUID{}, sealed.Salt(randomBytes(16)))
	t.Sealer = cfg.Sealer
	if d.transport, err = control.OpenTransport(t); err != nil {
		return cfg, err
	}
	d.opened(d.transport.Close)
	cfg.Transport = d.transport
	return cfg, nil
}

// openCluster opens a node's loop: the core, the paths of the heartbeats, and the
// workers that it grants rights to.
func (d *daemon) openCluster(key []byte) error {
	options, err := d.clusterOptions()
	if err != nil {
		return err
	}
	cfg, err := d.openCore(key, &options, d.transportConfig(), d.workers.Survived() || d.directBefore)
	if err != nil {
		return err
	}
	if cfg.LANs, err = d.openLANs(); err != nil {
		return err
	}
	cfg.Servers, cfg.Flows, cfg.Card = d.workers, d.workers, d.card
	for i := range options.Services {
		cfg.ServiceNames = append(cfg.ServiceNames, options.Services[i].Name)
	}
	cfg.ListKey = d.workers.ListKey()
	cfg.Evidence = func() control.Evidence {
		return control.Evidence{Clients: d.workers.Frames(), Gateway: d.gateway.Load(), Unsent: d.workers.Unsent(), Flows: d.workers.Flows()}
	}
	d.loop, err = control.NewLoop(cfg)
	return err
}

// openHealth begins to watch whether this host can serve. The loop has to run
// for it to be heard.
func (d *daemon) openHealth() error {
	gateway, err := link.Gateway(d.cfg.Cluster.Interface)
	if err != nil {
		return err
	}
	cfg := *d.cfg
	if !gateway.IsValid() && cfg.Node.GatewayCheck {
		d.log.Info("no default gateway leads over the interface, so there is none to check", "interface", cfg.Cluster.Interface)
		cfg.Node.GatewayCheck = false
	}
	d.health, err = control.StartHealth(control.HealthConfig{
		Config: &cfg, Gateway: gateway, Tell: d.loop.Tell, Answers: d.gateway.Store, Log: d.log,
	})
	if err != nil {
		return err
	}
	d.fronts = append(d.fronts, d.health.Close)
	return nil
}

// randomBytes are n that nobody can guess.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	// It does not fail: it ends the program instead.
	_, _ = crand.Read(b)
	return b
}

// clusterOptions is the file in the core's terms.
func (d *daemon) clusterOptions() (cluster.Options, error) {
	timing, err := cluster.TimingOf(string(d.cfg.Cluster.Timing))
	if err != nil {
		return cluster.Options{}, err
	}
	o := cluster.Options{
		Cluster: d.cfg.Cluster.Name, Name: d.cfg.Node.Name, Address: d.self, Timing: timing, Weight: uint32(d.cfg.Node.Weight),
		Preferred: d.cfg.Cluster.TwoNodes == config.TwoNodesPreferred, Votes: votes(d.cfg.Node.Voter),
		NewCluster: [16]byte(randomBytes(16)), NewKey: cluster.Key(randomBytes(16)),
		Random: rand.New(rand.NewPCG(binary.LittleEndian.Uint64(randomBytes(8)), binary.LittleEndian.Uint64(randomBytes(8)))),
	}
	for _, p := range d.cfg.Cluster.Peers {
		o.Peers = append(o.Peers, cluster.Peer{Address: p})
	}
	if w := d.cfg.Cluster.Witness; w.IsValid() {
		o.Peers = append(o.Peers, cluster.Peer{Address: w.Addr(), Witness: true})
	}
	for _, v := range d.cfg.PathVIPs() {
		o.Paths = append(o.Paths, d.cfg.Path(&v))
	}
	if o.Services, err = clusterServices(d.cfg, o.Paths); err != nil {
		return o, err
	}
	o.Forced = d.founding.forced
	o.Without, err = d.founding.leftOut(d.cfg, d.self)
	return o, err
}

// votes is [node] voter in the core's terms.
func votes(v *bool) string {
	switch {
	case v == nil:
		return ""
	case *v:
		return "yes"
	}
	return "no"
}

// clusterServices are the rows that the table needs: one for each VIP, which
// decides who answers for its address, and one for each service.
func clusterServices(cfg *config.Config, paths []string) ([]cluster.ServiceSpec, error) {
	var out []cluster.ServiceSpec
	for i := range cfg.VIPs {
		v := &cfg.VIPs[i]
		a, path := v.Address.Addr(), cfg.Path(v)
		out = append(out, cluster.ServiceSpec{Name: vipService(a), Path: slices.Index(paths, path), Digest: digestOf("vip", a.String(), path)})
	}
	for i := range cfg.Services {
		s := &cfg.Services[i]
		vip := slices.IndexFunc(cfg.VIPs, func(v config.VIP) bool { return v.Address.Addr() == s.Listen.Addr() })
		out = append(out, cluster.ServiceSpec{
			Name: s.Name, Path: out[vip].Path, Digest: digestOf(append([]string{protocolOf(s), s.ListenText()}, mappingOf(cfg, s)...)...), Sharing: sharingOf(cfg, s),
		})
	}
	return out, nil
}

// vipService is the name of a VIP's own rows. No service of a file can have it.
func vipService(a netip.Addr) string { return vipPrefix + a.String() }

// vipPrefix begins the names of the services that VIPs are by themselves.
const vipPrefix = "vip "

// protocolOf is the service's, for its digest.
func protocolOf(s *config.Service) string {
	if s.UDP {
		return "udp"
	}
	return "tcp"
}

// digestOf tells two definitions of a service apart. Each part ends with a zero
// byte, which none contains.
func digestOf(parts ...string) cluster.Digest {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%s\x00", p)
	}
	return cluster.Digest(h.Sum(nil)[:16])
}

func (d *daemon) transportConfig() control.TransportConfig {
	c := d.cfg.Cluster
	t := control.TransportConfig{Local: []netip.Addr{d.self}, Port: c.ControlPort}
	for i, p := range c.Peers {
		peer := control.PeerAddress{Address: p, Port: c.ControlPort}
		if i < len(c.Controls) {
			peer.Control = c.Controls[i]
		}
		if p == d.self && peer.Control.IsValid() {
			t.Local = append(t.Local, peer.Control)
		}
		t.Peers = append(t.Peers, peer)
	}
	if c.Witness.IsValid() {
		t.Peers = append(t.Peers, control.PeerAddress{Address: c.Witness.Addr(), Port: c.Witness.Port()})
	}
	return t
}

func (d *daemon) openLANs() ([]*control.LAN, error) {
	var out []*control.LAN
	for _, v := range d.cfg.PathVIPs() {
		l, err := control.OpenLAN(v.Uplink, v.Address.Addr(), d.selves[v.Uplink], v.MAC, d.cfg.Cluster.ControlPort, d.heartbeatOpener(v.Uplink))
		if err != nil {
			return nil, missingRight(err)
		}
		d.opened(l.Close)
		out = append(out, l)
	}
	return out, nil
}

// runLoop is the goroutine `main.runLoop`; it ends with Loop.Stop, or when the
// core has failed.
func (d *daemon) runLoop(ended chan<- error) { ended <- d.loop.Run() }

// clusterStatus asks the core, and fills in what its loop did.
func (d *daemon) clusterStatus(out *admin.Status) (s cluster.Status, err error) {
	if d.loop == nil {
		return s, errors.New("the daemon is starting")
	}
	err = d.loop.Call(func(now time.Duration) {
		s, out.Control, out.Lists = d.core.Status(now), d.loop.Stats(), d.loop.Lists()
	})
	return s, err
}

// wish is the admin.Wisher of the daemon.
func (d *daemon) wish(w admin.Wish) error {
	first := vipService(d.cfg.VIPs[0].Address.Addr())
	if len(d.cfg.Services) > 0 {
		first = d.cfg.Services[0].Name
	}
	wish, err := d.remap(w.Service)
	if w.Do != admin.DoRemap {
		wish, err = w.Cluster(first)
	}
	if err != nil {
		return err
	}
	return d.loop.Ask(wish)
}
