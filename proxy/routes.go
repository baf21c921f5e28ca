package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Routes are the host settings of transparent connections. An answer from a
// backend goes to the client's address, which is not this host's, and would
// leave by the network. For answers of local sockets ("iif lo") from a
// backend's address, a rule looks into a table of ours in which every address
// is local:
//
//	ip rule add priority 7078 from 127.0.0.1 iif lo lookup TABLE
//	ip route add local 0.0.0.0/0 dev lo table TABLE
//
// A loopback address never has another reason to speak to a foreign address,
// so nothing else on the host is touched.
type Routes struct {
	table int
	froms []netip.Addr
}

// rulePriority lies behind the local table (0) and before main (32766).
const rulePriority = 7078

// routeProtocol marks our rules and routes as ours (RTPROT_*, 4 to 255 are
// free for programs; see include/uapi/linux/rtnetlink.h).
const routeProtocol = 178

// TableFor is the number of the table that belongs to the daemon of a VIP: one
// for each, so that two daemons on a host do not take each other's away. It
// lies above the numbers people choose by hand.
func TableFor(vip netip.Addr) int {
	a := vip.As4()
	return 0x6f760000 | int(a[2])<<8 | int(a[3])
}

// InstallRoutes sets the rules and the route for the backends' addresses,
// after taking away what a daemon that crashed has left in the same table. It
// fails, and changes nothing, when the table holds a route that is not ours.
func InstallRoutes(table int, backends []netip.Addr) (*Routes, error) {
	r := &Routes{table: table}
	seen := map[netip.Addr]bool{}
	for _, b := range backends {
		if !seen[b] {
			seen[b] = true
			r.froms = append(r.froms, b)
		}
	}
	foreign, err := r.foreign()
	if err != nil {
		return nil, err
	}
	if foreign {
		return nil, fmt.Errorf("proxy: routing table %d is in use by another program; onevoice needs it for answers to clients", table)
	}
	if err := r.Remove(); err != nil {
		return nil, err
	}
	if err := r.install(); err != nil {
		return nil, errors.Join(err, r.Remove())
	}
	return r, nil
}

func (r *Routes) install() error {
	if len(r.froms) == 0 {
		return nil
	}
	if err := netlink.RouteAdd(r.route()); err != nil {
		return fmt.Errorf("proxy: add route to table %d: %w", r.table, err)
	}
	for _, from := range r.froms {
		rule := netlink.NewRule()
		rule.Family = unix.AF_INET
		rule.Priority = rulePriority
		rule.Src = &net.IPNet{IP: from.AsSlice(), Mask: net.CIDRMask(32, 32)}
		rule.IifName = "lo"
		rule.Table = r.table
		rule.Protocol = routeProtocol
		if err := netlink.RuleAdd(rule); err != nil {
			return fmt.Errorf("proxy: add rule from %s: %w", from, err)
		}
	}
	return nil
}

// loopbackIndex is the index of lo in every network namespace.
const loopbackIndex = 1

func (r *Routes) route() *netlink.Route {
	return &netlink.Route{
		LinkIndex: loopbackIndex,
		Dst:       &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
		Type:      unix.RTN_LOCAL,
		Scope:     unix.RT_SCOPE_HOST,
		Table:     r.table,
		Protocol:  routeProtocol,
	}
}

// Remove takes away the rules and routes of the table that are ours. It may be
// called when none are there.
func (r *Routes) Remove() error {
	rules, err := netlink.RuleListFiltered(unix.AF_INET, &netlink.Rule{Table: r.table}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("proxy: list rules: %w", err)
	}
	var errs []error
	for i := range rules {
		if rules[i].Protocol == routeProtocol {
			errs = append(errs, netlink.RuleDel(&rules[i]))
		}
	}
	routes, err := r.routes()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for i := range routes {
		if routes[i].Protocol == routeProtocol {
			errs = append(errs, netlink.RouteDel(&routes[i]))
		}
	}
	return errors.Join(errs...)
}

func (r *Routes) routes() ([]netlink.Route, error) {
	routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: r.table}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("proxy: list routes of table %d: %w", r.table, err)
	}
	return routes, nil
}

func (r *Routes) foreign() (bool, error) {
	routes, err := r.routes()
	for _, rt := range routes {
		if rt.Protocol != routeProtocol {
			return true, nil
		}
	}
	return false, err
}
