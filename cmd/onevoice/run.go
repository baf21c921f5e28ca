package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"onevoice/admin"
	"onevoice/admin/web"
	"onevoice/cluster"
	"onevoice/config"
	"onevoice/control"
	"onevoice/internal/boottime"
	"onevoice/internal/rights"
	"onevoice/proxy"
)

const defaultConfig = "/etc/onevoice/onevoice.toml"

func newRunCommand() *cobra.Command {
	var file, capture string
	var succeeds bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Answer for the cluster's addresses on this host",
		Long: `Answer for the cluster's addresses on this host.

Runs in the foreground and logs to standard error, as JSON where the environment
has ONEVOICE_LOG=json. SIGTERM or SIGINT makes it
accept nothing new; running connections get [node] stop_timeout to end.
SIGHUP makes it read its file again, as ` + "`onevoice reload`" + ` does.

The connections are served by a process of their own, which goes on when this
one is killed, and is taken up again when it is started anew.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := newLog(cmd.ErrOrStderr())
			if succeeds {
				return succeed(file, log)
			}
			return run(file, capture, founding{}, log)
		},
	}
	cmd.Flags().BoolVar(&succeeds, succeedsFlag, false, "take over from the process that has started this one")
	_ = cmd.Flags().MarkHidden(succeedsFlag)
	cmd.Flags().StringVarP(&file, "config", "c", configFromEnvironment(), "configuration `file`")
	cmd.Flags().StringVar(&capture, "pcap", "", "write the frames that come in and go out to this `file`")
	return cmd
}

// daemon is everything that the control process opens, in the order in which it
// is closed again: last opened first.
type daemon struct {
	cfg      *config.Config
	log      *slog.Logger
	self     netip.Addr
	founding founding
	held     *held
	closers  []func() error
	// fronts are closed before the closers: what asks the rest.
	fronts []func() error
	began  time.Duration

	// runner is what this daemon runs in; nil for a witness. claims and socket are
	// what another would have to take.
	runner *runner
	claims map[netip.Addr]*net.UnixListener
	socket *net.UnixListener
	// page is nil without one.
	page *web.Server

	// directBefore: an earlier run, or the process before this one, has left the direct
	// path in force. keepDirect: it stays when this daemon is closed.
	directBefore, keepDirect bool

	workers *control.Uplinks
	// prefixes are the files of prefixes.
	prefixes *control.PrefixFiles
	// selves are this host's addresses, by uplink.
	selves    map[config.Uplink]netip.Addr
	settings  control.WorkerSettings
	core      *cluster.Core
	loop      *control.Loop
	transport *control.Transport
	state     *control.State
	health    *control.Health
	// watched is health, once it is there, for those who ask for the status.
	watched atomic.Pointer[control.Health]
	// gateway: it answers, as a witness wants to know.
	gateway  atomic.Bool
	hostKeys hostKeys
}

func (d *daemon) opened(closer func() error) { d.closers = append(d.closers, closer) }

func (d *daemon) close() error {
	errs := []error{d.closeFronts()}
	for _, c := range slices.Backward(d.closers) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

func run(file, capture string, f founding, log *slog.Logger) error {
	cfg, text, err := config.Read(file)
	if err != nil {
		return err
	}
	return newRunner(&runner{file: file, capture: capture, founding: f, log: log, cfg: cfg, text: text}).run()
}

// left reports whether the others have this node's buckets, or there are no
// others.
func (d *daemon) left() (left bool) {
	err := d.loop.Call(func(time.Duration) {
		mine, others := d.core.Mine()
		left = mine == 0 || !others
	})
	return left || err != nil
}

// waitForWorkers is the goroutine `main.waitForWorkers`; it ends with them.
func (d *daemon) waitForWorkers(stopped chan<- error) { stopped <- d.workers.Wait() }

// open opens everything; what it opened is closed by d.close. A successor takes over
// in the midst of it.
func (d *daemon) open() error {
	if err := d.checkHost(); err != nil {
		return err
	}
	if _, err := d.founding.leftOut(d.cfg, d.self); err != nil {
		return err
	}
	key, err := config.ReadKey(d.cfg.Cluster.KeyFile)
	if err != nil {
		return err
	}
	if d.settings, err = control.NewWorkerSettings(d.cfg, d.self, key, d.runner.capture); err != nil {
		return err
	}
	d.settings.Program = version()
	if d.runner.predecessor != nil {
		err = d.openBeside()
	} else {
		err = d.openAlone()
	}
	if err != nil {
		return err
	}
	if err := d.findDirect(); err != nil {
		return err
	}
	if err := d.openCluster(key); err != nil {
		return err
	}
	if err := d.installDirect(); err != nil {
		return missingRight(err)
	}
	server := admin.Serve(d.socket, d.asked())
	d.fronts = append(d.fronts, server.Close)
	return d.openPage()
}

// openAlone takes this node's place and opens what serves it.
func (d *daemon) openAlone() error {
	if err := d.takePlace(); err != nil {
		return err
	}
	if err := d.installRoutes(proxy.InstallRoutes); err != nil {
		return err
	}
	return d.openWorkers()
}

// asked is the daemon for those who ask.
func (d *daemon) asked() admin.Daemon {
	return admin.Daemon{Change: d.change, Changed: d.runner.changed, Status: d.status, Wish: d.wish, Explain: d.explain, Examine: d.examine, Kill: d.workers.Kill,
		Version: version(), Log: auditOf(d.log)}
}

// openPage serves the page where the file says so.
func (d *daemon) openPage() error {
	c := d.cfg.Admin
	if !c.Listen.IsValid() {
		return nil
	}
	var token []byte
	if c.TokenFile != "" {
		var err error
		if token, err = config.ReadToken(c.TokenFile); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", c.Listen.String())
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("[admin] listen: another program has %s; write another port", c.Listen)
	}
	if err != nil {
		return fmt.Errorf("[admin] listen: %w", err)
	}
	cfg := web.Config{Listener: l, Token: token, Daemon: d.asked(), Version: version(), Log: d.log}
	if heir := d.runner.heir; heir != nil {
		cfg.Before = heir.History
	}
	d.page = web.Serve(cfg)
	d.fronts = append(d.fronts, d.page.Close)
	d.log.Info("the page is served", "at", "http://"+c.Listen.String(), "token", c.TokenFile != "")
	return nil
}

// installRoutes sets the host settings of transparent connections and of this
// host's own way to the VIPs. They stay while an earlier run's workers have
// flows, and a worker that is left alone takes them away.
func (d *daemon) installRoutes(install func(table int, backends, vips, hosts []netip.Addr) (*proxy.Routes, error)) error {
	var backends []netip.Addr
	for _, s := range d.cfg.Services {
		if s.Source == config.SourceTransparent && !s.Direct {
			backends = append(backends, s.Backend.Addr())
		}
	}
	own6, err := ownAddress6(d.cfg)
	if err != nil {
		return err
	}
	routes, err := install(proxy.TableFor(d.cfg.VIPs[0].Address.Addr()), backends, ruledVIPs(d.cfg), append(own6, d.self))
	if err != nil {
		return missingRight(err)
	}
	d.opened(func() error {
		// After a start that failed, the workers of an earlier run are still there.
		if left, err := control.FindWorkers(d.settings.Daemon...); err != nil || len(left) > 0 {
			return err
		}
		return routes.Remove()
	})
	return nil
}

// ruledVIPs are those to which a rule leads this host's own connections. Those with services
// of the direct path are addresses of this host. A rule for them would do nothing but have the
// kernel walk all rules for each route that it looks for (fib_lookup in
// include/net/ip_fib.h).
func ruledVIPs(c *config.Config) (out []netip.Addr) {
	direct := c.DirectVIPs()
	for _, v := range c.VIPs {
		a := v.Address.Addr()
		if !slices.ContainsFunc(direct, func(d config.VIP) bool { return d.Address.Addr() == a }) {
			out = append(out, a)
		}
	}
	return out
}

// openWorkers starts the workers, or takes up those of an earlier run. They
// accept nothing new before the cluster lets them.
func (d *daemon) openWorkers() (err error) {
	if d.prefixes, err = control.ReadPrefixFiles(d.cfg, boottime.Now, d.log); err != nil {
		return err
	}
	d.workers, err = control.StartUplinks(control.WorkersConfig{
		Settings: d.settings, Prefixes: d.prefixes.Lists(),
		Command: workerProcess,
		Clock:   boottime.Now,
		Log:     d.log,
		Beside:  d.runner.predecessor != nil,
	}, d.selves)
	if err != nil {
		return err
	}
	d.opened(d.workers.Close)
	d.prefixes.Watch(d.workers.SetPrefixes)
	d.opened(d.prefixes.Close)
	return nil
}

// workerProcess is this program as a worker. What it logs goes where this
// process logs.
func workerProcess() *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", workerCommand)
	// That is what a list of processes shows.
	cmd.Args[0] = "onevoice"
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	rights.Pass(cmd, passed())
	return cmd
}
