package main

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"onevoice/config"
	"onevoice/control"
	"onevoice/link"
	"onevoice/link/ingress"
	"onevoice/link/local"
	"onevoice/proxy"
)

// directRecord is the file in which is written what the direct path has changed on this
// host.
func directRecord(c *config.Config) string { return filepath.Join(c.Node.StateDir, "direct.json") }

// findDirect finds out whether an earlier run has left connections that the host's own
// TCP serves. They are this node's as those of a worker are.
func (d *daemon) findDirect() (err error) {
	d.directBefore, err = local.Installed(directRecord(d.cfg))
	d.keepDirect = d.directBefore
	return err
}

// installDirect makes the VIPs of the direct path addresses of this host, once the
// programs stand at the interface. What is set outlives a crash and goes over to the next
// process; it is taken back when this node stops, or when its first start fails.
func (d *daemon) installDirect() error {
	record := directRecord(d.cfg)
	if !d.cfg.HasDirect() && !d.directBefore {
		return nil
	}
	on, err := d.directInterfaces()
	if err != nil {
		return err
	}
	d.opened(func() error {
		if d.keepDirect {
			return nil
		}
		return local.Remove(record, ingress.Detach)
	})
	return local.Install(local.Config{Record: record, On: on, Detach: ingress.Detach})
}

// directInterfaces are those with VIPs of the direct path.
func (d *daemon) directInterfaces() (out []local.Interface, err error) {
	for _, name := range d.cfg.Uplinks() {
		part := d.cfg.On(name)
		if !part.HasDirect() {
			continue
		}
		pins, err := directPins(part)
		if err != nil {
			return nil, err
		}
		one := local.Interface{Name: name.Interface, Self: d.selves[name], Pins: ingress.PinPath(pins)}
		for _, v := range part.DirectVIPs() {
			one.VIPs = append(one.VIPs, v.Address.Addr())
			if !slices.ContainsFunc(one.MACs, func(m net.HardwareAddr) bool { return m.String() == v.MAC.String() }) {
				one.MACs = append(one.MACs, v.MAC)
			}
		}
		out = append(out, one)
	}
	return out, nil
}

// heartbeatOpener is how heartbeats are heard on an interface: where the direct path's
// frames go on to the host's own stack, by a program in the kernel, for a packet socket would
// cost something for each of them. Without that, by the socket.
func (d *daemon) heartbeatOpener(on config.Uplink) control.Opener {
	part := d.cfg.On(on)
	if !part.HasDirect() {
		return control.OpenSocket
	}
	pins, err := directPins(part)
	if err != nil {
		return func(string, *link.Filter) (link.Device, error) { return nil, err }
	}
	return control.HeardOpener(ingress.PinPath(pins), func(name string, err error) {
		d.log.Info("heartbeats are heard by a packet socket, which every frame of the direct path passes by", "interface", name, "error", err)
	})
}

func newDetachCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "detach",
		Short: "Take from this host what path = \"direct\" has left on it",
		Long: `Take from this host what path = "direct" has left on it.

When onevoice run is killed, the connections that the host's own TCP serves go
on: its programs stay at the interface, and the VIPs are addresses of this host.
The next onevoice run takes that up. This ends it instead: programs, addresses
and settings are taken back, and the connections break.

A running daemon does so by itself when it is stopped.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(file)
			if err != nil {
				return err
			}
			return detach(cmd, cfg)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", configFromEnvironment(), "configuration `file`")
	return cmd
}

func detach(cmd *cobra.Command, cfg *config.Config) error {
	claim, err := link.Claim(cfg.VIPs[0].Address.Addr())
	if errors.Is(err, link.ErrClaimed) {
		return fmt.Errorf("onevoice answers for %s on this host; stop it first, which takes everything back", cfg.VIPs[0].Address.Addr())
	}
	if err != nil {
		return err
	}
	defer claim.Close()
	for _, name := range cfg.Uplinks() {
		workers, err := control.FindWorkers(cfg.On(name).VIPs[0].Address.Addr())
		if err != nil {
			return err
		}
		if len(workers) > 0 {
			return fmt.Errorf("a worker of an earlier onevoice run still serves connections on %s; start onevoice run and stop it, or wait until they have ended", name)
		}
	}
	record := directRecord(cfg)
	was, err := local.Installed(record)
	if err != nil {
		return err
	}
	// Whoever was killed has left the routes of connections to its own backends, too.
	if err := missingRight(errors.Join(local.Remove(record, ingress.Detach), proxy.RemoveRoutes(proxy.TableFor(cfg.VIPs[0].Address.Addr())))); err != nil {
		return err
	}
	if was {
		fmt.Fprintln(cmd.OutOrStdout(), "taken back: programs, addresses and settings of path = \"direct\"")
	} else {
		fmt.Fprintln(cmd.OutOrStdout(), "there is nothing of path = \"direct\" on this host")
	}
	return nil
}
