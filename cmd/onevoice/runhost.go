package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"

	"onevoice/config"
	"onevoice/link"
)

// checkHost finds out which peer this host is, and that no kernel answers for a
// VIP beside us.
func (d *daemon) checkHost() error {
	name := d.cfg.Cluster.Interface
	have, err := link.Addresses(name)
	if err != nil {
		return fmt.Errorf("there is no interface %s on this host; set [cluster] interface to one of: %s", name, interfaceNames())
	}
	for _, p := range d.cfg.Cluster.Peers {
		if slices.Contains(have, p) {
			d.self = p
		}
	}
	if !d.self.IsValid() {
		return fmt.Errorf("none of the addresses of %s (%s) is in [cluster] peers, so this host does not know which peer it is; add its address there, on all nodes", name, join(have))
	}
	if err := d.findSelves(); err != nil {
		return err
	}
	for _, v := range d.cfg.VIPs {
		holder, err := link.Holder(v.Address.Addr())
		if err != nil {
			return err
		}
		if holder != "" {
			return fmt.Errorf("%s is configured on %s, so this host's kernel would answer for it too; remove it there: ip address del %s dev %s", v.Address.Addr(), holder, v.Address, holder)
		}
	}
	return d.checkBackends()
}

// findSelves finds this host's own address on each uplink that has VIPs: in the
// network of one of them, so that routers and peers there can be asked from it. In a
// VLAN that the kernel knows nothing of it has none, and asks from the one by which
// its peers know it.
func (d *daemon) findSelves() error {
	d.selves = map[config.Uplink]netip.Addr{{Interface: d.cfg.Cluster.Interface}: d.self}
	for _, v := range d.cfg.VIPs {
		if d.selves[v.Uplink].IsValid() || v.Address.Addr().Is6() {
			continue
		}
		have, err := link.Addresses(v.Uplink.Interface)
		if err != nil {
			return fmt.Errorf("there is no interface %s on this host, on which VIP %s is; the others are: %s", v.Uplink.Interface, v.Address.Addr(), interfaceNames())
		}
		at := slices.IndexFunc(have, v.Address.Contains)
		switch {
		case at >= 0:
			d.selves[v.Uplink] = have[at]
		case v.Uplink.VLAN == 0:
			return fmt.Errorf("%s has no address of this host's own in %s, the network of VIP %s; give it one", v.Uplink.Interface, v.Address.Masked(), v.Address.Addr())
		}
	}
	for _, u := range d.cfg.Uplinks() {
		if !d.selves[u].IsValid() {
			d.selves[u] = d.self
		}
	}
	return nil
}

// checkBackends refuses what would connect and never hear an answer: a backend on
// another host, from the client's own address.
func (d *daemon) checkBackends() error {
	for i := range d.cfg.Services {
		s := &d.cfg.Services[i]
		if s.Direct || s.Source != config.SourceTransparent || s.Backend.Addr().IsLoopback() {
			continue
		}
		holder, err := link.Holder(s.Backend.Addr())
		if err != nil {
			return err
		}
		if holder == "" {
			return fmt.Errorf("service %s: the backend %s is not an address of this host, and with source = %q it would answer the clients past this host; write source = %q or %q, if the service reads that, or %q",
				s.Name, s.Backend, config.SourceTransparent, config.SourceProxyV2, config.SourceProxyV1, config.SourcePlain)
		}
	}
	return nil
}

func interfaceNames() string {
	all, _ := net.Interfaces()
	var names []string
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 {
			names = append(names, i.Name)
		}
	}
	return strings.Join(names, ", ")
}

func join[T fmt.Stringer](list []T) string {
	var out []string
	for _, v := range list {
		out = append(out, v.String())
	}
	return strings.Join(out, ", ")
}

func addressesOf(vips []config.VIP) string {
	var out []netip.Addr
	for _, v := range vips {
		out = append(out, v.Address.Addr())
	}
	return join(out)
}

// missingRight turns a missing right into a sentence.
func missingRight(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("no right to open raw sockets; run as root, or give the program CAP_NET_RAW and CAP_NET_ADMIN (%w)", err)
	}
	return err
}
