package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"onevoice/admin"
	"onevoice/cluster"
	"onevoice/config"
	"onevoice/control"
	"onevoice/internal/boottime"
	"onevoice/internal/sealed"
)

func newWitnessCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "witness",
		Short: "Vote for a cluster from a third box",
		Long: `Vote for a cluster from a third box, so that two nodes can tell a dead peer from
a cut cable.

It takes the same file and key as the nodes, which name this box in [cluster]
witness. It needs no VIP, no interface on the nodes' LAN and no right to raw
sockets: one UDP port, and a state directory that survives a restart.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runWitness(file, newLog(cmd.ErrOrStderr()))
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", configFromEnvironment(), "configuration `file`")
	return cmd
}

func runWitness(file string, log *slog.Logger) (err error) {
	cfg, err := config.Load(file)
	if err != nil {
		return err
	}
	if !cfg.Cluster.Witness.IsValid() {
		return fmt.Errorf("%s: [cluster] names no witness; write the address of this box there, in the file of every node", file)
	}
	control.UseOneProcessor()
	control.RaiseProcess()
	kept, err := takeWitnessRights(cfg, file)
	if err != nil {
		return err
	}
	d := &daemon{cfg: cfg, log: log, self: cfg.Cluster.Witness.Addr(), began: boottime.Now(), held: kept}
	defer func() { err = errors.Join(err, d.close()) }()
	local, err := witnessAddress(cfg)
	if err != nil {
		return err
	}
	if err := d.openWitness(local); err != nil {
		return err
	}
	l, err := admin.Listen(cfg.Admin.Socket)
	if err != nil {
		return err
	}
	server := admin.Serve(l, admin.Daemon{Status: d.witnessStatus, Wish: d.wish, Change: refuseChange, Changed: func() admin.ChangeStatus { return admin.ChangeStatus{} },
		Version: version(), Log: auditOf(d.log)})
	d.opened(server.Close)
	return d.witness()
}

var errWitnessStays = errors.New("a witness takes neither another file nor another version while it runs; stop it and start it, which ends no session")

// refuseChange answers an upgrade or a reload of a witness.
func refuseChange(admin.Change) (admin.ChangeStatus, error) {
	return admin.ChangeStatus{}, errWitnessStays
}

// witnessAddress is where a witness listens: at its own address, or at all where
// that is a translated one.
func witnessAddress(cfg *config.Config) (netip.Addr, error) {
	have, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	local := netip.IPv4Unspecified()
	for _, a := range have {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		if slices.Contains(cfg.Cluster.Peers, prefix.Addr()) {
			return local, fmt.Errorf("this host is the node %s, and a node cannot be its own witness; run the witness on a third box", prefix.Addr())
		}
		if prefix.Addr() == cfg.Cluster.Witness.Addr() {
			local = prefix.Addr()
		}
	}
	return local, nil
}

// openWitness opens the loop of a core that has neither paths nor workers.
func (d *daemon) openWitness(local netip.Addr) error {
	key, err := config.ReadKey(d.cfg.Cluster.KeyFile)
	if err != nil {
		return err
	}
	options, err := d.clusterOptions()
	if err != nil {
		return err
	}
	options.Role, options.Paths, options.Services, options.Votes = cluster.Witness, nil, nil, ""
	t := d.transportConfig()
	t.Local, t.Port = []netip.Addr{local}, d.cfg.Cluster.Witness.Port()
	cfg, err := d.openCore(key, &options, t, false)
	if err != nil {
		return err
	}
	cfg.Card = d.witnessCard
	d.loop, err = control.NewLoop(cfg)
	return err
}

// keyring are the keys of the file; key is the one in use.
func keyring(cfg *config.Config, key []byte) (sealed.Keyring, error) {
	keys := sealed.Keyring{Current: sealed.Key(key)}
	if f := cfg.Cluster.OtherKeyFile; f != "" {
		other, err := config.ReadKey(f)
		if err != nil {
			return keys, err
		}
		keys.Other = sealed.Key(other)
	}
	return keys, nil
}

// witness runs the loop until a signal ends it, or the core has failed.
func (d *daemon) witness() error {
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(stop)
	ended := make(chan error, 1)
	go d.runLoop(ended)
	d.held.tell(d.log)
	d.log.Info("started", "witness", d.cfg.Node.Name, "address", d.cfg.Cluster.Witness, "cluster", d.cfg.Cluster.Name)
	for {
		select {
		case err := <-ended:
			return err
		case s := <-stop:
			if s == syscall.SIGHUP {
				d.log.Warn("nothing was changed: " + errWitnessStays.Error())
				continue
			}
			d.log.Info("stopping", "signal", s.String())
			d.loop.Stop()
			return <-ended
		}
	}
}

// witnessStatus is the admin.Source of a witness: what the core knows.
func (d *daemon) witnessStatus(want admin.Wanted) (*admin.Status, error) {
	s := &admin.Status{
		Node: d.cfg.Node.Name, Cluster: d.cfg.Cluster.Name, Version: version(), Uptime: (boottime.Now() - d.began).Seconds(),
		Rights: d.held.status(),
	}
	c, err := d.clusterStatus(s)
	if err != nil {
		return nil, err
	}
	d.fillCluster(s, &c, want.Table)
	d.fillSpoke(s, &c)
	d.fillTold(s)
	s.Sum()
	return s, nil
}
