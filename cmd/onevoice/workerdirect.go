package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"onevoice/config"
	"onevoice/control"
	"onevoice/internal/boottime"
	"onevoice/internal/rights"
	"onevoice/link/ingress"
	"onevoice/node"
)

// openDirect puts the programs of the direct path on the interface, where a service is of
// it, in the place of those of an earlier process. They accept nothing before they are
// given a lease.
func (s *serving) openDirect(services []node.Service) error {
	conf := s.settings.Config
	if !conf.HasDirect() {
		return nil
	}
	c := ingress.DirectConfig{ListKey: s.settings.ListKey, Config: ingress.Config{Own: s.parts.Device.HardwareAddr()}}
	for _, v := range conf.DirectVIPs() {
		c.Addresses = append(c.Addresses, v.Address.Addr())
		if !slices.ContainsFunc(c.Groups, func(g net.HardwareAddr) bool { return g.String() == v.MAC.String() }) {
			c.Groups = append(c.Groups, v.MAC)
		}
	}
	for i, one := range node.FilteredServices(services) {
		if !one.Direct {
			continue
		}
		svc := &conf.Services[i]
		one.Direct = false
		vip := slices.IndexFunc(conf.VIPs, func(v config.VIP) bool { return v.Address.Addr() == one.Listen.Addr() })
		c.Services, c.Paths = append(c.Services, one), append(c.Paths, s.settings.Path(vip))
		s.directs = append(s.directs, control.DirectService{Index: i, Name: svc.Name, Listen: svc.Listen, LastPort: svc.LastPort, UDP: svc.UDP})
	}
	var err error
	if s.direct, err = ingress.LoadDirect(c); err != nil {
		return withoutDirect(err)
	}
	s.opened(s.direct.Close)
	pins, err := directPins(conf)
	if err == nil {
		pins, err = ingress.PinDirectory(pins)
	}
	if err != nil {
		s.parts.NoPins = err.Error()
		s.log.Warn("the programs of the direct path end with this process, and connections stand still until it is back", "error", err)
	}
	s.pins = pins
	others, err := control.FindWorkers(conf.VIPs[0].Address.Addr())
	if err != nil {
		return err
	}
	// What another process has put there serves connections, and perhaps new clients.
	s.awaits = len(others) > 0 || ingress.Pinned(conf.Cluster.Interface, pins)
	if s.awaits {
		return nil
	}
	return s.attachDirect()
}

// attachDirect puts the programs on the interface.
func (s *serving) attachDirect() error {
	outlive, err := s.direct.Attach(s.settings.Config.Cluster.Interface, s.pins)
	if err != nil {
		return withoutDirect(err)
	}
	if !outlive && s.parts.NoPins == "" {
		s.parts.NoPins = "the programs could not be pinned"
	}
	return mayEnd(outlive, s.directs)
}

// mayEnd is an error where the programs would end with the process and something has to
// stand before a service of UDP: the kernel's TCP takes no frame to a group MAC that was
// not judged (tcp_v4_rcv in net/ipv4/tcp_ipv4.c), but its UDP does, whosever the client is.
func mayEnd(outlive bool, services []control.DirectService) error {
	i := slices.IndexFunc(services, func(s control.DirectService) bool { return s.UDP })
	if outlive || i < 0 {
		return nil
	}
	return fmt.Errorf("path = \"direct\" of the UDP service %q needs a BPF file system, or after a crash of onevoice this host would answer other nodes' clients; mount it: mount -t bpf bpf /sys/fs/bpf, or write path = \"netstack\" and a backend", services[i].Name)
}

// lockdownFile tells whether the kernel is locked down (kernel_lockdown(7)).
const lockdownFile = "/sys/kernel/security/lockdown"

// withoutDirect says what else there is.
func withoutDirect(err error) error {
	locked, _ := os.ReadFile(lockdownFile)
	return directRefused(err, rights.Missing([]rights.Capability{rights.BPF, rights.NetAdmin, rights.Perfmon}), string(locked))
}

// directRefused is withoutDirect for a process that lacks capabilities, on a kernel whose
// file of the lockdown says so.
func directRefused(err error, lacks []rights.Capability, lockdown string) error {
	const instead = `path = "direct" cannot be had on this host, write path = "netstack" and a backend`
	switch {
	case errors.Is(err, ingress.ErrUnsupported):
		return fmt.Errorf("%s: %w", instead, err)
	case !errors.Is(err, ingress.ErrNotPermitted):
		return err
	case len(lacks) > 0:
		return fmt.Errorf("%s, or give this process %s: %w", instead, strings.Join(rights.Names(lacks), " and "), err)
	case strings.Contains(lockdown, "[integrity]") || strings.Contains(lockdown, "[confidentiality]"):
		// The kernel's own lockdown lets programs of this kind pass, and so it may be another.
		return fmt.Errorf("%s: this process has the capabilities, but the kernel takes no programs from it; it is locked down, by which kernels of some distributions refuse all of them (kernel_lockdown(7)), or a container runtime or a security module does, look at the kernel's log: %w", instead, err)
	}
	return fmt.Errorf("%s: this process has the capabilities, but the kernel takes no programs from it; a container runtime or a security module refuses them, look at the kernel's log: %w", instead, err)
}

// followDirect keeps the programs to what this node owns. The loop has been made.
func (s *serving) followDirect() {
	if s.direct == nil {
		return
	}
	self := []netip.Addr{s.settings.Self}
	for _, v := range s.settings.Config.VIPs {
		self = append(self, v.Address.Addr())
	}
	attach := s.attachDirect
	if !s.awaits {
		attach = nil
	}
	s.parts.Direct = control.NewDirectPath(control.DirectConfig{
		Attach:   attach,
		Programs: s.direct, Services: s.directs, Self: self, Clock: boottime.Now, Log: s.log,
		Ask: func(fn func(*node.Node)) error {
			return s.parts.Loop.Call(func(time.Duration) { fn(s.parts.Node) })
		},
		Woken: s.parts.Loop.Wake,
		Listens: func(service string, up bool, err error) {
			if up {
				err = nil
				s.log.Info("a program listens for the service again", "service", service)
			} else {
				s.log.Warn("the kernel resets the service's clients; have a program listen on the VIP or at all addresses, or write path = \"netstack\" and a backend", "service", service, "error", err)
			}
			s.guest.BackendChanged(service, up, err)
		},
	})
}

// directPins names the directory of the pins of an interface: one for each daemon and
// network namespace.
func directPins(c *config.Config) (string, error) {
	ns, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return "", err
	}
	at := strings.NewReplacer(".", "_", ":", "_")
	return fmt.Sprintf("%s-%s-%s", strings.Trim(ns, "net:[]"), at.Replace(c.Cluster.Interface), at.Replace(c.VIPs[0].Address.Addr().String())), nil
}
