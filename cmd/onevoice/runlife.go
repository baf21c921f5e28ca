package main

import (
	"errors"
	"os"
	"syscall"
	"time"

	"onevoice/cluster"
	"onevoice/control"
	"onevoice/internal/boottime"
)

// Times of a stop, and of a start beside another process.
const (
	// leaveFor is how long this node gets to give its buckets to the others.
	leaveFor = 2 * time.Second
	// leaveLook is how often it looks whether it has, and whether it serves yet.
	leaveLook = 20 * time.Millisecond
)

// life is what a daemon waits for while its loop runs.
type life struct {
	*daemon
	// stopped is told by the workers, and ended by the loop; it is nil then.
	stopped, ended chan error
	failure        error
	// begun is when its loop began.
	begun  time.Duration
	notify *notifier
	look   *time.Ticker

	// asked: a signal has asked for the end. While leaving this node gives its
	// buckets to the others, until leaveBy.
	asked, leaving bool
	leaveBy        time.Time
	grace          time.Duration

	// next is the process that prepares to take over, nil for none.
	next     *control.Successor
	prepared chan preparation
	// serving is false for a successor that its predecessor still waits for.
	serving bool
	// over: there is nothing more to wait for.
	over bool
}

// start runs the cluster's loop until a signal, or a failure of the core, ends
// it. At a signal the others get this node's buckets first; then its running
// flows have their time, while it goes on holding its lease for them. It returns
// the next process when that is to take over; then nothing runs any more.
func (d *daemon) start() (next *control.Successor, err error) {
	l := &life{
		daemon: d, stopped: make(chan error, 1), ended: make(chan error, 1), begun: boottime.Now(),
		grace: d.cfg.Node.StopTimeout, look: time.NewTicker(leaveLook), serving: true,
	}
	defer l.look.Stop()
	go d.waitForWorkers(l.stopped)
	go d.runLoop(l.ended)
	if err := d.openHealth(); err != nil {
		d.loop.Stop()
		return nil, errors.Join(err, <-l.ended)
	}
	d.watched.Store(d.health)
	d.keepDirect = true
	if p := d.runner.predecessor; p != nil {
		l.serving, d.runner.free = false, p.Free()
	} else {
		d.socket.SetUnlinkOnClose(true)
		if err := l.tellSystemd(); err != nil {
			d.loop.Stop()
			return nil, errors.Join(err, <-l.ended)
		}
	}
	defer func() { _ = l.notify.close() }()
	d.held.tell(d.log)
	d.log.Info("started", "node", d.cfg.Node.Name, "address", d.self, "vips", addressesOf(d.cfg.VIPs))
	for !l.over {
		l.wait()
	}
	if l.next != nil {
		return l.next, l.failure
	}
	return nil, l.failure
}

// tellSystemd begins to tell systemd how this host is.
func (l *life) tellSystemd() (err error) {
	l.notify, err = startNotifier(l.how)
	return err
}

// wait waits for one thing and does what it asks for.
func (l *life) wait() {
	look := l.look.C
	if !l.leaving && l.serving {
		look = nil
	}
	select {
	case err := <-l.stopped:
		l.loop.Stop()
		if l.ended != nil {
			l.failure = errors.Join(l.failure, <-l.ended)
		}
		l.log.Info("stopped")
		l.failure, l.over = errors.Join(l.failure, err), true
	case err := <-l.ended:
		l.ended = nil
		l.coreEnded(err)
	case r := <-l.workers.Reports():
		// Workers log by themselves what they report. What they hold and have
		// written back is what a move waits for.
		if r.Holding {
			l.loop.Tell(nil)
		}
	case s := <-l.runner.signals:
		l.signalled(s)
	case <-look:
		l.looked()
	case o := <-l.runner.orders:
		l.ordered(o)
	case p := <-l.prepared:
		l.prepared = nil
		l.passOrGoOn(p)
	case err := <-l.runner.free:
		l.runner.free = nil
		l.freed(err)
	}
}

// coreEnded: the loop has ended by itself, which only a failure makes it do.
func (l *life) coreEnded(err error) {
	l.failure = err
	if !l.serving {
		// The process before this one goes on where it was.
		l.abandon(err)
		return
	}
	if err != nil {
		l.log.Error("ownership has failed; running flows get their time", "error", err, "flows_get", l.grace.String())
	}
	l.workers.Stop(l.grace)
}

// signalled obeys a signal.
func (l *life) signalled(s os.Signal) {
	switch {
	case s == syscall.SIGHUP:
		l.hangUp()
	case l.asked:
		// A second signal does not wait.
		l.leaving, l.grace = false, 0
		l.workers.Stop(l.grace)
	default:
		l.asked, l.keepDirect = true, false
		l.notify.stopping(leaveFor + l.grace)
		l.log.Info("stopping", "signal", s.String(), "flows_get", l.grace.String())
		l.callOff("this node stops")
		l.loop.Tell(cluster.Leave{})
		l.leaving, l.leaveBy = true, time.Now().Add(leaveFor)
	}
}

// looked is what is looked at now and then.
func (l *life) looked() {
	if !l.serving {
		l.serveInPlace()
	}
	if l.leaving && (l.left() || time.Now().After(l.leaveBy)) {
		l.leaving = false
		l.workers.Stop(l.grace)
	}
}
