package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Lab is a running cluster: the LAN, a daemon and an SSH service on each node.
// It exists inside the namespaces that Enter makes.
type Lab struct {
	LAN     *LAN
	Daemons []*Daemon
	SSH     *SSH
}

// New builds the LAN and starts everything. progress gets a line for each step.
func New(spec Spec, progress io.Writer) (*Lab, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	fmt.Fprintf(progress, "building a %s with %d nodes and %d clients\n", spec.LAN, spec.Nodes, spec.Clients)
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

func (l *Lab) start(progress io.Writer) (err error) {
	if err := l.nameNamespaces(); err != nil {
		return err
	}
	if l.SSH, err = NewSSH(); err != nil {
		return err
	}
	fmt.Fprintf(progress, "starting %s and onevoice on each node\n", l.SSH.Kind())
	key := newKey()
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
	if err := l.SSH.UntilListening(l.LAN.Nodes(), dirs); err != nil {
		return err
	}
	for _, d := range l.Daemons {
		if err := d.Start(); err != nil {
			return err
		}
	}
	return nil
}

// nameNamespaces lets `ip netns` know the namespaces, inside the lab only.
func (l *Lab) nameNamespaces() error {
	names := map[string]interface{ Do(func() error) error }{lanName: l.LAN.ns}
	for _, h := range l.LAN.Hosts {
		names["ov-"+h.Name] = h.ns
	}
	for name, ns := range names {
		if err := ns.Do(func() error { return bindNamespace(filepath.Join("/run/netns", name)) }); err != nil {
			return fmt.Errorf("lab: name %s: %w", name, err)
		}
	}
	return nil
}

func bindNamespace(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	return os.NewSyscallError("mount", syscall.Mount("/proc/thread-self/ns/net", path, "", syscall.MS_BIND, ""))
}

// Daemon finds a node's daemon by the node's name.
func (l *Lab) Daemon(name string) (*Daemon, error) {
	for _, d := range l.Daemons {
		if d.Host.Name == name || "ov-"+d.Host.Name == name {
			return d, nil
		}
	}
	return nil, fmt.Errorf("there is no node %q in the lab; its nodes are n1 to n%d", name, len(l.Daemons))
}

// Command prepares a program to run on a host of the lab, or on the LAN itself.
func (l *Lab) Command(ctx context.Context, name string, argv []string) (*exec.Cmd, func(*exec.Cmd) error, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = os.Environ()
	if d, err := l.Daemon(name); err == nil {
		cmd.Env = append(cmd.Env, "ONEVOICE_SOCKET="+d.Socket())
	}
	if name == lanName {
		return cmd, l.LAN.ns.Start, nil
	}
	h, ok := l.LAN.Host(name)
	if !ok {
		return nil, nil, fmt.Errorf("there is no host %q in the lab; try ov-lan, ov-client1 or ov-n1", name)
	}
	return cmd, h.Start, nil
}

// Close stops the daemons and services, and lets go of the LAN.
func (l *Lab) Close() error {
	var errs []error
	for _, d := range l.Daemons {
		if d.Status().Running {
			errs = append(errs, d.Signal(syscall.SIGTERM))
		}
	}
	if l.SSH != nil {
		errs = append(errs, l.SSH.Close())
	}
	return errors.Join(append(errs, l.LAN.Close())...)
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
