package local

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeProtocol marks routes of this program, as package proxy's do.
const routeProtocol = 178

// loopback is the index of lo in every network namespace.
const loopback = 1

// routesTo are the routes to a VIP in the table of local addresses.
func routesTo(vip netip.Addr) ([]netlink.Route, error) {
	filter := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Dst: alone(vip)}
	routes, err := netlink.RouteListFiltered(familyOf(vip), filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
	if err != nil {
		return nil, fmt.Errorf("local: routes to %s: %w", vip, err)
	}
	return routes, nil
}

// foreignRoute is an error where another program has made a VIP local.
func foreignRoute(vip netip.Addr) error {
	routes, err := routesTo(vip)
	for i := range routes {
		if routes[i].Protocol != routeProtocol {
			return fmt.Errorf("%s is a local address of this host already, by a route of another program (protocol %d); remove it: ip route del local %s table local", vip, routes[i].Protocol, vip)
		}
	}
	return err
}

// addRoute makes a VIP local. This host's own connections to it come from self.
func addRoute(vip, self netip.Addr) error {
	r := &netlink.Route{
		LinkIndex: loopback, Dst: alone(vip), Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST, Table: unix.RT_TABLE_LOCAL, Protocol: routeProtocol,
	}
	if self.IsValid() && self.Is4() == vip.Is4() {
		r.Src = self.AsSlice()
	}
	if err := netlink.RouteReplace(r); err != nil {
		return fmt.Errorf("local: make %s an address of this host: %w", vip, err)
	}
	return nil
}

func removeRoute(vip netip.Addr) error {
	routes, err := routesTo(vip)
	errs := []error{err}
	for i := range routes {
		if routes[i].Protocol == routeProtocol {
			errs = append(errs, netlink.RouteDel(&routes[i]))
		}
	}
	return errors.Join(errs...)
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

func alone(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

// hear has an interface take frames to a MAC, without a socket that wants them: by
// SIOCADDMULTI for a group, as `ip maddress` does, and by an entry of its own table for
// another, as `bridge fdb add ... self` does.
func hear(name string, mac net.HardwareAddr) error {
	var err error
	if isGroup(mac) {
		err = group(name, mac, unix.SIOCADDMULTI)
	} else {
		err = entry(name, mac, netlink.NeighAppend)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("local: have %s hear %s: %w", name, mac, err)
	}
	return nil
}

// unhear ends that. An interface that is gone, or that hears it no more, is no error.
func unhear(name string, mac net.HardwareAddr) error {
	var err error
	if isGroup(mac) {
		err = group(name, mac, unix.SIOCDELMULTI)
	} else {
		err = entry(name, mac, netlink.NeighDel)
	}
	if err == nil || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) || errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	return fmt.Errorf("local: have %s not hear %s: %w", name, mac, err)
}

func isGroup(mac net.HardwareAddr) bool { return mac[0]&1 != 0 }

// entry changes the interface's own table of MACs (RTM_NEWNEIGH with NTF_SELF).
func entry(name string, mac net.HardwareAddr, change func(*netlink.Neigh) error) error {
	device, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return change(&netlink.Neigh{
		LinkIndex: device.Attrs().Index, Family: unix.AF_BRIDGE, State: unix.NUD_PERMANENT, Flags: netlink.NTF_SELF, HardwareAddr: mac,
	})
}
