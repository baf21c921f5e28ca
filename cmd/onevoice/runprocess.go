package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"onevoice/admin"
	"onevoice/config"
	"onevoice/control"
	"onevoice/internal/boottime"
	"onevoice/link"
)

// runner is what a control process is beyond one daemon. There is a second daemon in
// it only when a successor has failed to take over from the first.
type runner struct {
	file, capture string
	founding      founding
	log           *slog.Logger
	cfg           *config.Config
	// text is the file as it was read, and secrets are what it names, see secretsOf.
	text    []byte
	secrets [3][]byte
	signals chan os.Signal
	orders  chan order
	// predecessor is nil but in a process that takes over, and heir is what a
	// predecessor, or the daemon before in this process, has left.
	predecessor *control.Predecessor
	heir        *control.Handed
	// free tells a successor that its predecessor lets go of it, nil when it has.
	free <-chan error

	mu     sync.Mutex
	change admin.ChangeStatus
	// began is when the change was asked for.
	began time.Duration
}

func newRunner(p *runner) *runner {
	p.signals, p.orders = make(chan os.Signal, 4), make(chan order, 1)
	p.secrets = secretsOf(p.cfg)
	signal.Notify(p.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	for _, w := range p.cfg.Warnings {
		p.log.Warn(w)
	}
	return p
}

// run runs a daemon, and another one in its place as often as a successor has not
// taken over. It returns at the end of the service, or of this process's part in it.
func (p *runner) run() error {
	defer signal.Stop(p.signals)
	control.UseOneProcessor()
	control.RaiseProcess()
	kept, err := takeRights(p.cfg, p.file, p.capture)
	if err != nil {
		return (&daemon{runner: p}).refused(err)
	}
	for {
		d := &daemon{runner: p, held: kept, cfg: p.cfg, log: p.log, began: boottime.Now(), founding: p.founding}
		next, err := d.live()
		if next == nil {
			return err
		}
		if err == nil {
			err = p.pass(next)
		}
		if err == nil {
			return p.outlive(next)
		}
		next.Kill()
		p.predecessor = nil
		p.failed(fmt.Errorf("%w; the process before it serves again", err))
	}
}

// live is a daemon from its beginning to its end. With a next process the error is why
// that cannot take over.
func (d *daemon) live() (next *control.Successor, err error) {
	if err := d.open(); err != nil {
		return nil, errors.Join(d.refused(err), d.close())
	}
	if next, err = d.start(); next != nil {
		return next, errors.Join(err, d.hand())
	}
	return nil, errors.Join(err, d.close())
}

// takePlace makes this process the one that answers for the VIPs, and for who asks on
// the admin socket: with what a process before it has left, where that fits.
func (d *daemon) takePlace() error {
	heir := d.runner.heir
	if heir == nil {
		heir = &control.Handed{}
	}
	defer heir.CloseNames()
	d.claims = map[netip.Addr]*net.UnixListener{}
	for _, v := range d.cfg.VIPs {
		vip := v.Address.Addr()
		claim, err := claimOf(vip, heir.Claims[vip])
		if err != nil {
			return err
		}
		d.claims[vip] = claim
		d.opened(claim.Close)
	}
	listener, err := d.adminSocket(heir)
	if err != nil {
		return err
	}
	d.opened(func() error { listener.Close(); return nil })
	d.socket = listener
	return nil
}

func claimOf(vip netip.Addr, handed *os.File) (*net.UnixListener, error) {
	if handed != nil {
		return listenerOf(handed)
	}
	claim, err := link.Claim(vip)
	if errors.Is(err, link.ErrClaimed) {
		return nil, fmt.Errorf("another onevoice on this host already answers for %s; stop it first", vip)
	}
	if err != nil {
		return nil, err
	}
	return unixListener(claim)
}

func (d *daemon) adminSocket(heir *control.Handed) (*net.UnixListener, error) {
	if heir.Socket != nil && heir.Path == d.cfg.Admin.Socket {
		return listenerOf(heir.Socket)
	}
	l, err := admin.Listen(d.cfg.Admin.Socket)
	if err != nil {
		return nil, err
	}
	return unixListener(l)
}

// listenerOf is a listener of a descriptor, which stays the caller's. Its file is not
// removed with it.
func listenerOf(file *os.File) (*net.UnixListener, error) {
	l, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	return unixListener(l)
}

func unixListener(l net.Listener) (*net.UnixListener, error) {
	if u, ok := l.(*net.UnixListener); ok {
		return u, nil
	}
	return nil, errors.Join(errors.New("a unix socket was expected"), l.Close())
}

// lock is the state directory's, where a process before this one has left it.
func (d *daemon) lock() *os.File {
	if d.runner == nil || d.runner.heir == nil {
		return nil
	}
	lock := d.runner.heir.Lock
	d.runner.heir.Lock = nil
	return lock
}

// closeFronts ends what asks the rest of this daemon.
func (d *daemon) closeFronts() error {
	var errs []error
	for _, c := range d.fronts {
		errs = append(errs, c())
	}
	d.fronts = nil
	return errors.Join(errs...)
}

// keep begins what the next process, or daemon, gets: the names of this one, so that
// they stay when it closes its own.
func (d *daemon) keep(h *control.Handed) error {
	d.runner.heir = h
	h.Path, h.Claims = d.cfg.Admin.Socket, map[netip.Addr]*os.File{}
	for vip, c := range d.claims {
		file, err := c.File()
		if err != nil {
			return err
		}
		h.Claims[vip] = file
	}
	file, err := d.socket.File()
	if err != nil {
		return err
	}
	h.Socket = file
	if d.page != nil {
		h.History = d.page.Remembered()
	}
	d.socket.SetUnlinkOnClose(false)
	return nil
}

// hand closes everything that was not kept. The loop has ended, and the workers were
// left.
func (d *daemon) hand() error {
	lock, err := d.state.Pass()
	d.runner.heir.Lock = lock
	return errors.Join(err, d.close())
}

// Times of a handover. While a successor prepares nothing is at stake.
const (
	prepareWithin = 30 * time.Second
	// holdWithin is how long a successor may take from when it was handed everything
	// until it serves. Others may reset this host's flows 3 s after its lease was taken
	// from it (OWNERSHIP.md R18), and this process has to come back before that.
	holdWithin = 2 * time.Second
)

// pass hands everything to the next process, and waits until it serves.
func (p *runner) pass(next *control.Successor) error {
	if err := next.Pass(p.heir); err != nil {
		return err
	}
	if err := next.Serving(holdWithin); err != nil {
		return err
	}
	return p.heir.Close()
}

// outlive is the end of this process's part. Where systemd has started it the next one
// is the service from now on. Who else has started it waits for this process and sends
// signals to it, so it stays as the next one's deputy.
func (p *runner) outlive(next *control.Successor) error {
	there, err := mainProcess(next.PID())
	if err != nil {
		p.log.Warn("systemd could not be told of the new process", "error", err)
	}
	if there {
		p.log.Info("the new process serves; this one ends", "pid", next.PID())
		return next.Free()
	}
	p.log.Info("the new process serves; this one stays for who has started it, and passes signals on", "pid", next.PID())
	p.cfg, p.text, p.heir = nil, nil, nil
	debug.FreeOSMemory()
	for {
		select {
		case s := <-p.signals:
			next.Signal(s)
		case err := <-p.free:
			// The process before this one has ended: so does this one, and the next.
			if p.free = nil; err != nil {
				return err
			}
		case <-next.Ended():
			return exitOf(next.Wait())
		}
	}
}

// exitOf is the exit code of a process that has said why by itself.
func exitOf(err error) error {
	var e *exec.ExitError
	if errors.As(err, &e) {
		return exitCode(max(e.ExitCode(), exitFailed))
	}
	return err
}
