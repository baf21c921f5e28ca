package main

import (
	"errors"
	"log/slog"
	"os"
	"strconv"
	"time"

	"onevoice/admin"
	"onevoice/config"
	"onevoice/control"
	"onevoice/internal/boottime"
	"onevoice/proxy"
)

// succeed is `onevoice run` of a process that takes over from the one that has started
// it: it opens all that can be open beside that, is handed the rest, and serves.
func succeed(file string, log *slog.Logger) error {
	before, err := control.InheritPredecessor()
	if err != nil {
		return err
	}
	defer before.Close()
	if os.Getenv("WATCHDOG_PID") != "" {
		// systemd has set it for the process before; sd_watchdog_enabled(3).
		os.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	}
	cfg, text, err := config.Read(file)
	if err != nil {
		return before.Fail(err)
	}
	p := &runner{file: file, capture: before.Begin.Capture, log: log, cfg: cfg, text: text, predecessor: before}
	if p.change, err = p.follows(); err != nil {
		return before.Fail(err)
	}
	p.began = before.Begin.At
	return newRunner(p).run()
}

// follows compares the file with the one of the process before. One that this program
// cannot read is followed as well.
func (p *runner) follows() (s admin.ChangeStatus, err error) {
	b := &p.predecessor.Begin
	s = admin.ChangeStatus{ID: b.ID, Do: admin.DoUpgrade, State: admin.ChangeRunning, From: b.Version, To: version()}
	if b.Reload {
		s.Do = admin.DoReload
	}
	host, err := os.Hostname()
	if err != nil {
		return s, err
	}
	was, err := config.Parse(p.file, b.File, host)
	if err != nil {
		p.log.Warn("this program does not read the file as the one before it did, so nothing is compared", "error", err)
		return s, nil
	}
	if s.Changes, err = config.Changes(b.File, p.text); err != nil {
		return s, err
	}
	return s, p.cfg.Continues(was)
}

// openBeside opens what serves this node beside the process before, and then takes its
// place.
func (d *daemon) openBeside() error {
	if err := d.installRoutes(proxy.ExtendRoutes); err != nil {
		return err
	}
	if err := d.openWorkers(); err != nil {
		return err
	}
	heir, err := d.runner.predecessor.Take(control.Prepared{Version: version(), Changes: d.runner.changed().Changes})
	if err != nil {
		return err
	}
	d.runner.heir = heir
	d.began = boottime.Now()
	if err := d.takePlace(); err != nil {
		return err
	}
	return d.workers.TakeUp()
}

// refused tells the process before why this one cannot take over.
func (d *daemon) refused(err error) error {
	if d.runner.predecessor == nil {
		return err
	}
	if d.runner.heir != nil {
		// The flows are all that counts now.
		err = errors.Join(err, d.workers.Leave())
	}
	return d.runner.predecessor.Fail(err)
}

// serveInPlace tells the process before that this one serves as well as it did.
func (l *life) serveInPlace() {
	p := l.runner
	if p.heir.Leased && !l.leased() {
		return
	}
	l.serving = true
	l.socket.SetUnlinkOnClose(true)
	now := boottime.Now()
	p.mu.Lock()
	p.change.State = admin.ChangeDone
	p.change.Seconds, p.change.Unserved = (now - p.began).Seconds(), (now - p.heir.At).Seconds()
	s := p.change
	p.mu.Unlock()
	if err := p.predecessor.Serving(); err != nil {
		l.abandon(err)
		return
	}
	// Of the time in which nothing new was accepted the first part was the process before's,
	// the second this one's until its loop began, the third until it had a lease again.
	l.log.Info("this process has taken over", "change", s.Do, "from", s.From, "to", s.To, "nothing_new_was_accepted_for", (now - p.heir.At).Round(time.Millisecond).String(),
		"handed_after", (l.began - p.heir.At).Round(time.Millisecond).String(), "opened_after", (l.begun - l.began).Round(time.Millisecond).String(), "serves_after", (now - l.begun).Round(time.Millisecond).String())
	for _, c := range s.Changes {
		l.log.Info("changed in the file: " + c.String())
	}
}

// freed: the process before has let this one live alone, or has ended. Then this one
// does, too, for whoever watches over that one starts it again.
func (l *life) freed(err error) {
	if err != nil {
		l.abandon(err)
		return
	}
	if err := l.tellSystemd(); err != nil {
		l.log.Warn("systemd is not told how this node is", "error", err)
	}
}

// abandon ends this process and leaves its workers to the next one, as a crash would.
func (l *life) abandon(err error) {
	l.log.Error("this process ends, and its workers serve their flows", "error", err)
	l.callOff("the process that was to be followed has ended")
	l.loop.Stop()
	if l.ended != nil {
		err = errors.Join(err, <-l.ended)
		l.ended = nil
	}
	l.failure, l.over = errors.Join(err, l.workers.Leave(), <-l.stopped), true
}
