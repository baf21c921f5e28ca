package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What an operator does to a node, and what happens to what is behind it. No flow
// of another node may notice, and of its own only those that must end.

// order begins a round of one kind and tells how to undo it.
type order func(Round, *Daemon) (undo func() error, err error)

// orderTimeout bounds how long a command may take; an upgrade takes longest.
const orderTimeout = time.Minute

// usualWeight is every node's but in rounds of TortureWeight.
const usualWeight = 100

// orders are the kinds that are no faults of nodes or cables.
func (t *torture) orders() map[TortureKind]order {
	return map[TortureKind]order{
		TortureStop: t.stop, TortureDrain: t.drain, TortureWeight: t.weigh, TortureUpgrade: t.upgrade, TortureBackend: t.backend,
	}
}

// stop stops a node, which gives its flows ten seconds and then ends them.
func (t *torture) stop(_ Round, d *Daemon) (func() error, error) {
	if err := errors.Join(d.Signal(syscall.SIGTERM), t.fates((*Judge).Dead, d.Host.Name)); err != nil {
		return nil, err
	}
	if how := d.Status().Ended; how != "exit 0" {
		t.breach("%s was stopped and ended with %s", d.Host.Name, how)
	}
	return func() error { return errors.Join(t.fates((*Judge).Alive, d.Host.Name), d.launch()) }, nil
}

func (t *torture) drain(_ Round, d *Daemon) (func() error, error) {
	return func() error { return t.insist(d, "undrain", d.Host.Name) }, t.insist(d, "drain", d.Host.Name)
}

func (t *torture) weigh(r Round, d *Daemon) (func() error, error) {
	undo := func() error { return t.insist(d, "weight", d.Host.Name, strconv.Itoa(usualWeight)) }
	return undo, t.insist(d, "weight", d.Host.Name, strconv.Itoa(r.Weight))
}

// insist runs a command again until it is obeyed: while the machine stands still there
// may be no leader who could.
func (t *torture) insist(d *Daemon, args ...string) error {
	for began := time.Now(); ; {
		err := d.order(args...)
		if err == nil || time.Since(began) > longestPatience || !t.stoodStill(began) {
			return err
		}
	}
}

// upgrade is over when the new process serves. One that is refused because old
// workers still have flows is no fault.
func (t *torture) upgrade(_ Round, d *Daemon) (func() error, error) {
	nothing := func() error { return nil }
	began := time.Now()
	if err := d.order("upgrade"); err != nil && !strings.Contains(err.Error(), "old workers still serve flows") && !t.stoodStill(began) {
		t.breach("%s was not upgraded: %v", d.Host.Name, err)
	}
	return nothing, nil
}

// backend kills what is behind a node. The judge is told that SYNs may be refused
// until the round is judged.
func (t *torture) backend(_ Round, d *Daemon) (func() error, error) {
	i := slices.Index(t.Daemons, d)
	if err := t.serving(false); err != nil {
		return nil, err
	}
	t.endBeat(i)
	return func() error {
		if err := errors.Join(t.startBeat(i, d.Host), untilListening(d.Host, beatPort)); err != nil {
			return err
		}
		return sleep(context.Background(), foundAgain)
	}, nil
}

// serving tells the judge whether every node has its backend.
func (t *torture) serving(yes bool) error {
	return t.sniffer.Ask(func(j *Judge) { j.Serving(beatService(), yes) })
}

// order runs a command at the daemon, as an operator would.
func (d *Daemon) order(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), orderTimeout)
	defer cancel()
	text, err := exec.CommandContext(ctx, program, append(args, "--socket", d.Socket())...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("onevoice %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(text)))
	}
	return nil
}
