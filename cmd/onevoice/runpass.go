package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"onevoice/admin"
	"onevoice/config"
	"onevoice/control"
	"onevoice/internal/boottime"
	"onevoice/internal/rights"
)

// succeedsFlag is the hidden flag of a process that takes over.
const succeedsFlag = "succeed"

// order is a change that has begun: somebody waits for its end.
type order struct{ reload bool }

// preparation is how a successor's has ended.
type preparation struct {
	control.Prepared
	err error
}

// change is admin.Daemon's: it begins a change, if it can be begun.
func (d *daemon) change(c admin.Change) (admin.ChangeStatus, error) {
	var changes []config.Change
	switch c.Do {
	case admin.DoReload:
		var err error
		if changes, err = d.runner.fileChanges(); err != nil {
			return admin.ChangeStatus{}, fmt.Errorf("nothing was changed: %w", err)
		}
	case admin.DoUpgrade:
	default:
		return admin.ChangeStatus{}, fmt.Errorf("%q is no change; it is %q or %q", c.Do, admin.DoUpgrade, admin.DoReload)
	}
	p := d.runner
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.change.State == admin.ChangeRunning {
		return admin.ChangeStatus{}, fmt.Errorf("another change is under way, an %s; wait for its end", p.change.Do)
	}
	s := admin.ChangeStatus{ID: uint64(boottime.Now()), Do: c.Do, From: version(), Changes: changes}
	if c.Do == admin.DoReload && len(changes) == 0 {
		s.State = admin.ChangeDone
		p.change = s
		return s, nil
	}
	if n := d.workers.MostRetired(); n >= control.MaxRetired {
		return admin.ChangeStatus{}, fmt.Errorf("%d old workers still serve flows, and no more than %d may; nothing was changed; wait for their flows, or end some with `onevoice flows --kill`", n, control.MaxRetired)
	}
	s.State = admin.ChangeRunning
	p.change, p.began = s, boottime.Now()
	p.orders <- order{reload: c.Do == admin.DoReload}
	return s, nil
}

// changed is admin.Daemon's: the last change.
func (p *runner) changed() admin.ChangeStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.change
}

// fileChanges reads the file again, and says what has changed in it since this process
// has read it. The error says why this process cannot go on with it.
func (p *runner) fileChanges() ([]config.Change, error) {
	cfg, text, err := config.Read(p.file)
	if err != nil {
		return nil, err
	}
	if err := cfg.Continues(p.cfg); err != nil {
		return nil, err
	}
	changes, err := config.Changes(p.text, text)
	if err != nil {
		return nil, err
	}
	was, is := p.secrets, secretsOf(cfg)
	for i, name := range []string{"cluster.key_file", "cluster.other_key_file", "admin.token_file"} {
		known := slices.ContainsFunc(changes, func(c config.Change) bool { return c.Key == name })
		if !known && !bytes.Equal(was[i], is[i]) {
			changes = append(changes, config.Change{Key: name, Before: "other content", After: "new content"})
		}
	}
	return changes, nil
}

// failed ends a change that has changed nothing.
func (p *runner) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.change.State, p.change.Error = admin.ChangeFailed, err.Error()
	p.change.Seconds = (boottime.Now() - p.began).Seconds()
	p.log.Error("the change has failed", "change", p.change.Do, "error", err)
}

// hangUp is SIGHUP: a reload that nobody waits for.
func (l *life) hangUp() {
	s, err := l.change(admin.Change{Do: admin.DoReload})
	switch {
	case err != nil:
		l.log.Error("the file was not taken; this node goes on as it is", "error", err)
	case s.State == admin.ChangeDone:
		l.log.Info("nothing has changed in the file", "file", l.runner.file)
	}
}

// ordered starts the process that is to take over.
func (l *life) ordered(o order) {
	if l.asked || !l.serving {
		l.runner.failed(errors.New("this node stops"))
		return
	}
	p := l.runner
	cmd := successorProcess(p.file, o.reload)
	next, err := control.StartSuccessor(cmd, control.Begin{
		Version: version(), ID: p.changed().ID, Reload: o.reload, At: p.began, File: p.text, Capture: p.capture,
	})
	if err != nil {
		p.failed(fmt.Errorf("%s does not start: %w", cmd.Path, err))
		return
	}
	l.log.Info("a new process prepares to take over", "pid", next.PID(), "program", cmd.Path, "reload", o.reload)
	l.next, l.prepared = next, make(chan preparation, 1)
	go l.awaitSuccessor(next, l.prepared)
}

// awaitSuccessor is the goroutine `main.awaitSuccessor`; it ends when the successor is
// prepared or has failed, after prepareWithin at the latest.
func (l *life) awaitSuccessor(next *control.Successor, prepared chan<- preparation) {
	p, err := next.Prepared(prepareWithin)
	prepared <- preparation{p, err}
}

// successorProcess is the program on disk, or for a reload the one that runs, as the
// next control process.
func successorProcess(file string, reload bool) *exec.Cmd {
	program := "/proc/self/exe"
	if path, err := os.Executable(); err == nil && !reload {
		program = path
	}
	cmd := exec.Command(program, "run", "--config", file, "--"+succeedsFlag)
	cmd.Args[0] = "onevoice"
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// What a terminal sends to all of a group comes once, by this process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	rights.Pass(cmd, passed())
	return cmd
}

// callOff gives a preparation up.
func (l *life) callOff(why string) {
	if l.next == nil {
		return
	}
	l.next.Kill()
	l.next, l.prepared = nil, nil
	l.runner.failed(errors.New(why))
}

// passOrGoOn lets go of everything for a successor that is prepared.
func (l *life) passOrGoOn(p preparation) {
	if p.err != nil {
		l.callOff(p.err.Error())
		return
	}
	l.runner.prepared(p.Prepared)
	l.log.Info("the new process is ready and takes over", "pid", l.next.PID(), "version", p.Version)
	h := &control.Handed{Leased: l.leased()}
	err := l.keep(h)
	// Who asks meanwhile waits for the next process.
	err = errors.Join(err, l.closeFronts(), l.notify.close())
	h.At = boottime.Now()
	err = errors.Join(err, l.workers.Retire())
	l.loop.Stop()
	if l.ended != nil {
		err = errors.Join(err, <-l.ended)
		l.ended = nil
	}
	l.failure, l.over = errors.Join(err, l.workers.Leave(), <-l.stopped), true
}

// prepared takes in what a successor says of itself.
func (p *runner) prepared(by control.Prepared) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.change.To = by.Version
	if p.change.Do == admin.DoUpgrade {
		p.change.Changes = by.Changes
	}
}

// leased reports whether this node holds a lease on any path.
func (d *daemon) leased() (held bool) {
	// A loop that has ended holds none.
	_ = d.loop.Call(func(now time.Duration) {
		for path := range d.cfg.PathVIPs() {
			held = held || d.core.Leased(path, now)
		}
	})
	return held
}

// secretsOf are what files hold that the configuration names; nothing of one that
// cannot be read.
func secretsOf(cfg *config.Config) (out [3][]byte) {
	out[0], _ = config.ReadKey(cfg.Cluster.KeyFile)
	if f := cfg.Cluster.OtherKeyFile; f != "" {
		out[1], _ = config.ReadKey(f)
	}
	if f := cfg.Admin.TokenFile; f != "" {
		out[2], _ = config.ReadToken(f)
	}
	return out
}
