package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"onevoice/lab"
)

// startDaemons starts ours on every node of the bed.
func (b *bed) startDaemons(ctx context.Context) error {
	if b.daemons == nil {
		if err := b.prepareDaemons(); err != nil {
			return err
		}
	}
	for _, d := range b.daemons {
		if err := errors.Join(ctx.Err(), d.Start()); err != nil {
			return err
		}
	}
	return nil
}

// prepareDaemons writes their files.
func (b *bed) prepareDaemons() error {
	key := lab.NewKey()
	var peers []string
	for _, h := range b.lan.Nodes() {
		peers = append(peers, fmt.Sprintf("%q", h.Addrs[0]))
	}
	for _, h := range b.lan.Nodes() {
		dir := filepath.Join(b.dir, h.Name)
		config, err := peerFile("onevoice.toml", struct {
			Dir, Peers string
			Nodes      int
		}{dir, strings.Join(peers, ", "), len(peers)})
		if err != nil {
			return err
		}
		d, err := lab.NewDaemon(h, dir, key, config)
		if err != nil {
			return err
		}
		b.daemons = append(b.daemons, d)
	}
	return nil
}

// stopDaemons ends those that run.
func (b *bed) stopDaemons() error {
	var errs []error
	for _, d := range b.daemons {
		if d.Status().Running {
			errs = append(errs, d.Signal(unix.SIGTERM))
		}
	}
	return errors.Join(errs...)
}

// daemonEnded is the end of a daemon's log when it has ended by itself, else nil.
func (b *bed) daemonEnded() error {
	for _, d := range b.daemons {
		if s := d.Status(); !s.Running {
			text, _ := os.ReadFile(d.Log())
			return fmt.Errorf("onevoice on %s has ended: %s", d.Host.Name, lastLines(string(text)))
		}
	}
	return nil
}
