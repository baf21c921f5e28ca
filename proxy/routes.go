package proxy

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

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
// so nothing else on the host is touched. Another address of this host has, and
// is told apart by a mark: see installMarks. For IPv6 the same is done with ::1 and
// ::/0, and nothing with marks.
//
// The same table leads this host's own connections to a VIP that is no address of the host
// to loopback, see OwnHost, with the host's address as their source:
//
//	ip rule add priority 7078 to VIP iif lo lookup TABLE
//	ip route add local VIP dev lo src HOST table TABLE
//
// Packets that come in from the network have another "iif" and see none of it:
// the kernel does not answer for the VIP.
type Routes struct {
	table int
	froms []netip.Addr
	// marked: there are backends that need installMarks.
	marked bool
	vips   []netip.Addr
	hosts  []netip.Addr // at most one of each family
	// there is the error of an addition that is no error, nil where all are.
	there error
}

// RulePriority is that of our rules. It lies behind the local table (0) and before main (32766).
const RulePriority = 7078

// routeProtocol marks our rules and routes as ours (RTPROT_*, 4 to 255 are
// free for programs; see include/uapi/linux/rtnetlink.h).
const routeProtocol = 178

// TableFor is the number of the table that belongs to the daemon of a VIP: one
// for each, so that two daemons on a host do not take each other's away. It
// lies above the numbers people choose by hand.
func TableFor(vip netip.Addr) int {
	a, base := vip.As16(), 0x6f760000
	if vip.Is6() {
		base = 0x6f770000
	}
	return base | int(a[14])<<8 | int(a[15])
}

// InstallRoutes sets the rules and routes for the addresses of transparent
// backends, and for this host's own connections to the VIPs from its address of
// their family; where it has none, the kernel chooses. It
// takes away what a daemon that crashed has left in the same table, unless that is
// what is needed: flows that have outlived the crash go through it. It fails, and
// changes nothing, when the table holds a route that is not ours.
func InstallRoutes(table int, backends, vips, hosts []netip.Addr) (*Routes, error) {
	return installRoutes(table, backends, vips, hosts, false)
}

// ExtendRoutes is InstallRoutes beside a process that needs what is there: it adds
// what is missing, and takes nothing away.
func ExtendRoutes(table int, backends, vips, hosts []netip.Addr) (*Routes, error) {
	return installRoutes(table, backends, vips, hosts, true)
}

func installRoutes(table int, backends, vips, hosts []netip.Addr, extend bool) (*Routes, error) {
	r := &Routes{table: table, vips: vips, hosts: hosts}
	seen := map[netip.Addr]bool{}
	for _, b := range backends {
		switch {
		case !b.IsLoopback():
			r.marked = true
		case !seen[b]:
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
	there, err := r.inForce()
	if there || err != nil {
		return r, err
	}
	if extend {
		r.there = unix.EEXIST
		return r, r.install()
	}
	if err := r.Remove(); err != nil {
		return nil, err
	}
	if err := r.install(); err != nil {
		return nil, errors.Join(err, r.Remove())
	}
	return r, nil
}

// added is the error of an addition; what is there already may be no error.
func (r *Routes) added(err error) error {
	if r.there != nil && errors.Is(err, r.there) {
		return nil
	}
	return err
}

// inForce reports whether the table and the rules that lead to it are what they
// should be.
func (r *Routes) inForce() (bool, error) {
	want, have := map[string]bool{}, map[string]bool{}
	for _, everywhere := range r.everywhere() {
		want[fmt.Sprintf("route %s", everywhere)] = true
	}
	for _, from := range r.froms {
		want[fmt.Sprintf("rule %d %s <nil> lo", RulePriority, alone(from))] = true
	}
	for _, vip := range r.vips {
		want[fmt.Sprintf("route %s %s", alone(vip), sourceText(r.host(vip)))] = true
		want[fmt.Sprintf("rule %d <nil> %s lo", RulePriority, alone(vip))] = true
	}
	if r.marked {
		want[fmt.Sprintf("mark %#x lo", r.mark())] = true
	}
	rules, err := r.rules()
	if err != nil {
		return false, err
	}
	for i := range rules {
		if isMark(&rules[i]) {
			have[fmt.Sprintf("mark %#x %s", rules[i].Mark, rules[i].IifName)] = true
			continue
		}
		have[fmt.Sprintf("rule %d %v %v %s", rules[i].Priority, rules[i].Src, rules[i].Dst, rules[i].IifName)] = true
	}
	routes, err := r.routes()
	if err != nil {
		return false, err
	}
	for i := range routes {
		text := fmt.Sprintf("route %v %v", routes[i].Dst, routes[i].Src)
		switch dst := routes[i].Dst; {
		case dst == nil && routes[i].Family == unix.AF_INET6:
			text = "route ::/0"
		case dst == nil:
			text = "route 0.0.0.0/0"
		case dst.IP.IsUnspecified():
			text = fmt.Sprintf("route %v", dst)
		}
		have[text] = routes[i].Type == unix.RTN_LOCAL && routes[i].LinkIndex == loopbackIndex
	}
	return len(rules)+len(routes) == len(want) && maps.Equal(want, have), nil
}

func (r *Routes) install() error {
	if r.marked {
		if err := r.installMarks(); err != nil {
			return err
		}
	}
	for _, everywhere := range r.everywhere() {
		if err := r.addRoute(everywhere, netip.Addr{}); err != nil {
			return err
		}
	}
	for _, from := range r.froms {
		rule := r.rule(from)
		rule.Src = prefix(alone(from))
		if err := r.added(netlink.RuleAdd(rule)); err != nil {
			return fmt.Errorf("proxy: add rule from %s: %w", from, err)
		}
	}
	for _, vip := range r.vips {
		if err := r.addRoute(alone(vip), r.host(vip)); err != nil {
			return err
		}
		rule := r.rule(vip)
		rule.Dst = prefix(alone(vip))
		if err := r.added(netlink.RuleAdd(rule)); err != nil {
			return fmt.Errorf("proxy: add rule to %s: %w", vip, err)
		}
	}
	return nil
}

// everywhere are the routes to all addresses of the backends' families.
func (r *Routes) everywhere() (out []netip.Prefix) {
	for _, all := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if r.marked && all.Is4() || slices.ContainsFunc(r.froms, func(a netip.Addr) bool { return a.Is4() == all.Is4() }) {
			out = append(out, netip.PrefixFrom(all, 0))
		}
	}
	return out
}

// host is this host's own address of a VIP's family; the zero Addr when there is
// none.
func (r *Routes) host(vip netip.Addr) netip.Addr {
	for _, h := range r.hosts {
		if h.Is4() == vip.Is4() {
			return h
		}
	}
	return netip.Addr{}
}

// alone is an address as a prefix.
func alone(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// sourceText is an address as the library prints it.
func sourceText(a netip.Addr) string { return fmt.Sprint(net.IP(a.AsSlice())) }

func (r *Routes) rule(of netip.Addr) *netlink.Rule {
	rule := netlink.NewRule()
	rule.Family = int(family(of))
	rule.Priority = RulePriority
	rule.IifName = "lo"
	rule.Table = r.table
	rule.Protocol = routeProtocol
	return rule
}

// loopbackIndex is the index of lo in every network namespace.
const loopbackIndex = 1

func (r *Routes) addRoute(dst netip.Prefix, src netip.Addr) error {
	route := &netlink.Route{
		LinkIndex: loopbackIndex,
		Dst:       prefix(dst),
		Type:      unix.RTN_LOCAL,
		Scope:     unix.RT_SCOPE_HOST,
		Table:     r.table,
		Protocol:  routeProtocol,
	}
	if src.IsValid() {
		route.Src = src.AsSlice()
	}
	if err := r.added(netlink.RouteAdd(route)); err != nil {
		return fmt.Errorf("proxy: add route to %s in table %d: %w", dst, r.table, err)
	}
	return nil
}

func prefix(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// RemoveRoutes takes away what InstallRoutes has set for the daemon of a table,
// by whichever process.
func RemoveRoutes(table int) error { return (&Routes{table: table}).Remove() }

// Remove takes away the rules and routes of the table that are ours. It may be
// called when none are there.
func (r *Routes) Remove() error {
	rules, err := r.rules()
	if err != nil {
		return err
	}
	var errs []error
	for i := range rules {
		switch {
		case isMark(&rules[i]):
			errs = append(errs, r.removeMark(&rules[i]))
		case rules[i].Protocol == routeProtocol:
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

func (r *Routes) rules() ([]netlink.Rule, error) {
	var out []netlink.Rule
	for _, family := range families() {
		rules, err := netlink.RuleListFiltered(family, &netlink.Rule{Table: r.table}, netlink.RT_FILTER_TABLE)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("proxy: list rules: %w", err)
		}
		for i := range rules {
			rules[i].Family = family
		}
		out = append(out, rules...)
	}
	return out, nil
}

func (r *Routes) routes() ([]netlink.Route, error) {
	var out []netlink.Route
	for _, family := range families() {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: r.table}, netlink.RT_FILTER_TABLE)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("proxy: list routes of table %d: %w", r.table, err)
		}
		for i := range routes {
			routes[i].Family = family
		}
		out = append(out, routes...)
	}
	return out, nil
}

// families are those whose rules and routes are looked at.
func families() []int { return []int{unix.AF_INET, unix.AF_INET6} }

func (r *Routes) foreign() (bool, error) {
	routes, err := r.routes()
	for _, rt := range routes {
		if rt.Protocol != routeProtocol {
			return true, nil
		}
	}
	return false, err
}
