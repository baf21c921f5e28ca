package lab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"
)

// MaxFaultTime is how long a fault with an end may last.
const MaxFaultTime = time.Hour

// each kills, stops or starts the daemon of a node, or of all nodes at once.
func (l *Lab) each(req *Request) error {
	do := map[string]func(*Daemon) error{
		"kill":  (*Daemon).Kill,
		"stop":  func(d *Daemon) error { return d.Signal(syscall.SIGTERM) },
		"start": (*Daemon).Start,
	}[req.Verb]
	if req.Control {
		do = (*Daemon).KillControl
	}
	if req.Host != AllNodes {
		d, err := l.Daemon(req.Host)
		if err != nil {
			return err
		}
		return do(d)
	}
	return l.atOnce(do)
}

// atOnce does something to all daemons at the same time.
func (l *Lab) atOnce(do func(*Daemon) error) error {
	errs := make([]error, len(l.Daemons))
	var wg sync.WaitGroup
	for i, d := range l.Daemons {
		wg.Go(func() { errs[i] = do(d) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// fault makes a fault, and undoes it when its time is over or the lab ends.
func (l *Lab) fault(ctx context.Context, req *Request) error {
	if req.For < 0 || req.For > MaxFaultTime {
		return fmt.Errorf("--for is %v; write up to %v", req.For, MaxFaultTime)
	}
	undo, err := l.makeFault(req)
	if err != nil || req.For == 0 || undo == nil {
		return err
	}
	timer := time.NewTimer(req.For)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return undo()
}

// makeFault makes a fault and tells how to undo it.
func (l *Lab) makeFault(req *Request) (undo func() error, err error) {
	switch req.Verb {
	case "heal":
		return nil, errors.Join(l.LAN.Heal(), l.atOnce((*Daemon).Resume))
	case "split":
		sides, err := l.LAN.Sides(req.Host)
		if err != nil {
			return nil, err
		}
		return l.LAN.Join, l.LAN.Split(sides)
	}
	d, err := l.Daemon(req.Host)
	if err != nil {
		return nil, err
	}
	if req.Verb != "stall" {
		if err := d.onLAN(); err != nil {
			return nil, err
		}
	}
	switch req.Verb {
	case "deafen":
		return func() error { return l.LAN.Deafen(d.Host, false) }, l.LAN.Deafen(d.Host, true)
	case "mute":
		return func() error { return l.LAN.Mute(d.Host, false) }, l.LAN.Mute(d.Host, true)
	}
	return d.Resume, d.Stall()
}
