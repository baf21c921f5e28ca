package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

// Lab is a running cluster: the LAN, a daemon and an SSH service on each node.
// It exists inside the namespaces that Enter makes.
type Lab struct {
	LAN     *LAN
	Daemons []*Daemon
	// Witness is nil when there is none.
	Witness *Daemon
	SSH     *SSH
	beats   []*exec.Cmd
	names   []*exec.Cmd

	// commands counts the execs that run.
	commands atomic.Int32
}

// New builds the LAN and starts everything. progress gets a line for each step.
func New(spec Spec, progress io.Writer) (*Lab, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	fmt.Fprintf(progress, "building a %s with %s and %s\n", spec.LAN, count(spec.Nodes, "node"), count(spec.Clients, "client"))
	lan, err := BuildLAN(spec)
	if err != nil {
		return nil, err
	}
	l := &Lab{LAN: lan}
	if err := l.start(progress); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// count is a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func (l *Lab) start(progress io.Writer) (err error) {
	if err := l.nameNamespaces(); err != nil {
		return err
	}
	if l.SSH, err = NewSSH(&l.LAN.Spec); err != nil {
		return err
	}
	fmt.Fprintf(progress, "starting %s and onevoice on each node\n", l.SSH.Kind())
	key := NewKey()
	var dirs []string
	for _, h := range l.LAN.Nodes() {
		d, err := newDaemon(l.LAN, h, key)
		if err != nil {
			return err
		}
		l.Daemons = append(l.Daemons, d)
		if err := l.SSH.Start(h, d.Dir); err != nil {
			return err
		}
		dirs = append(dirs, d.Dir)
	}
	if err := errors.Join(l.startBeats(), l.startNames()); err != nil {
		return err
	}
	if err := l.SSH.UntilListening(l.LAN.Nodes(), dirs); err != nil {
		return err
	}
	for _, d := range l.Daemons {
		if err := d.launch(); err != nil {
			return err
		}
	}
	if err := l.startWitness(key); err != nil {
		return err
	}
	for _, d := range l.everyDaemon() {
		if err := d.untilItAnswers(); err != nil {
			return err
		}
	}
	return l.untilAllSay(context.Background(), shared, "every bucket has an owner")
}

// nameNamespaces lets `ip netns` know the namespaces, inside the lab only.
func (l *Lab) nameNamespaces() error {
	names := map[string]interface{ Do(func() error) error }{lanName: l.LAN.ns}
	for _, h := range l.LAN.Hosts {
		names["ov-"+h.Name] = h.ns
	}
	for name, ns := range names {
		if err := ns.Do(func() error { return bindFile("/proc/thread-self/ns/net", filepath.Join("/run/netns", name)) }); err != nil {
			return fmt.Errorf("lab: name %s: %w", name, err)
		}
	}
	return nil
}

// Daemon finds a node's daemon by the node's name.
func (l *Lab) Daemon(name string) (*Daemon, error) {
	for _, d := range l.everyDaemon() {
		if d.Host.Name == name || "ov-"+d.Host.Name == name {
			return d, nil
		}
	}
	return nil, fmt.Errorf("there is no node %q in the lab; its nodes are n1 to n%d", name, len(l.Daemons))
}

// Close stops the daemons and services, and lets go of the LAN.
func (l *Lab) Close() error {
	errs := []error{StopDaemons(l.everyDaemon())}
	if l.SSH != nil {
		errs = append(errs, l.SSH.Close())
	}
	l.endBeats()
	l.endNames()
	return errors.Join(append(errs, l.LAN.Close())...)
}

func (l *Lab) endBeats() {
	for i := range l.beats {
		l.endBeat(i)
	}
	l.beats = nil
}

// stopTimeout bounds how long daemons may take to stop: the time that running
// flows get, and some.
const stopTimeout = 15 * time.Second

// StopDaemons stops those that run, at the same time.
func StopDaemons(daemons []*Daemon) error {
	var errs []error
	var ends []<-chan struct{}
	for _, d := range daemons {
		if done, err := d.send(syscall.SIGTERM); err == nil {
			ends = append(ends, done)
		}
	}
	late := time.After(stopTimeout)
	for _, done := range ends {
		select {
		case <-done:
			continue
		case <-late:
		}
		for _, d := range daemons {
			if _, err := d.send(syscall.SIGKILL); err == nil {
				errs = append(errs, fmt.Errorf("the daemon of %s had not stopped within %v and was killed", d.Host.Name, stopTimeout))
			}
		}
		break
	}
	return errors.Join(errs...)
}

// answers reports whether the daemon's socket takes a connection.
func (d *Daemon) answers() bool {
	c, err := net.Dial("unix", d.Socket())
	if err != nil {
		return false
	}
	c.Close()
	return true
}
