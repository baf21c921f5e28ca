package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Addresses are the IP addresses of the named interface.
func Addresses(name string) ([]netip.Addr, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("link: interface %s: %w", name, err)
	}
	return addresses(ifi)
}

func addresses(ifi *net.Interface) ([]netip.Addr, error) {
	list, err := ifi.Addrs()
	if err != nil {
		return nil, fmt.Errorf("link: addresses of %s: %w", ifi.Name, err)
	}
	var out []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out, nil
}

// IGMPVersion is the version that the administrator wants this host to speak on
// the named interface, 0 when none is set (Documentation/networking/ip-sysctl.rst,
// force_igmp_version).
func IGMPVersion(name string) int {
	version := 0
	for _, where := range []string{"all", name} {
		b, err := os.ReadFile(filepath.Join("/proc/sys/net/ipv4/conf", where, "force_igmp_version"))
		if err != nil {
			continue
		}
		if v, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && v > 0 && (version == 0 || v < version) {
			version = v
		}
	}
	return version
}

// LinkLocal is the named interface's link-local IPv6 address, the zero Addr when
// it has none.
func LinkLocal(name string) (netip.Addr, error) {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("link: interface %s: %w", name, err)
	}
	list, err := netlink.AddrList(dev, unix.AF_INET6)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return netip.Addr{}, fmt.Errorf("link: addresses of %s: %w", name, err)
	}
	for i := range list {
		// One that is still looked for elsewhere may not be a source (RFC 4862 §5.4).
		if a, ok := netip.AddrFromSlice(list[i].IP); ok && a.Is6() && a.IsLinkLocalUnicast() && list[i].Flags&unix.IFA_F_TENTATIVE == 0 {
			return a, nil
		}
	}
	return netip.Addr{}, nil
}

// Address6 is the IPv6 address with which the host itself speaks on the named
// interface: one of lans, else another, and a link-local one only where it has no
// other; the zero Addr when it has none. One that is still being looked for on the
// LAN (RFC 4862 §5.4) is none yet.
func Address6(name string, lans []netip.Prefix) (best netip.Addr, err error) {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("link: interface %s: %w", name, err)
	}
	all, err := netlink.AddrList(dev, unix.AF_INET6)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return netip.Addr{}, fmt.Errorf("link: addresses of %s: %w", name, err)
	}
	rank := func(a netip.Addr) int {
		switch {
		case !a.Is6():
			return 0
		case slices.ContainsFunc(lans, func(p netip.Prefix) bool { return p.Contains(a) }):
			return 3
		case a.IsLinkLocalUnicast():
			return 1
		}
		return 2
	}
	for _, have := range all {
		a, _ := netip.AddrFromSlice(have.IP)
		if have.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 && rank(a) > rank(best) {
			best = a
		}
	}
	return best, nil
}

// Holder is the name of the interface that has the address, or "".
func Holder(a netip.Addr) (string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return "", fmt.Errorf("link: list interfaces: %w", err)
	}
	for i := range all {
		// An interface may go away between the two calls.
		have, err := addresses(&all[i])
		if err != nil {
			continue
		}
		for _, h := range have {
			if h == a {
				return all[i].Name, nil
			}
		}
	}
	return "", nil
}

// Gateway is the next hop of the IPv4 default route over the named interface, the
// zero Addr when there is none.
func Gateway(name string) (netip.Addr, error) { return gateway(name, unix.AF_INET) }

// Gateway6 is Gateway for IPv6. Where a router advertises itself, it is link-local.
func Gateway6(name string) (netip.Addr, error) { return gateway(name, unix.AF_INET6) }

func gateway(name string, family int) (netip.Addr, error) {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("link: interface %s: %w", name, err)
	}
	routes, err := netlink.RouteList(dev, family)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return netip.Addr{}, nil // a kernel without IPv6
	}
	if err != nil {
		return netip.Addr{}, fmt.Errorf("link: routes of %s: %w", name, err)
	}
	for _, r := range routes {
		if r.Gw == nil || r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if gw, ok := netip.AddrFromSlice(r.Gw); ok {
			return gw.Unmap(), nil
		}
	}
	return netip.Addr{}, nil
}

// MTU6 is what the kernel takes for the largest IPv6 packet of the named interface
// in bytes, since a router may have told it of one that is smaller than the
// interface's (RFC 4861 §6.3.4); 0 without IPv6.
func MTU6(name string) int {
	text, err := os.ReadFile(filepath.Join("/proc/sys/net/ipv6/conf", name, "mtu"))
	if err != nil {
		return 0
	}
	mtu, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return mtu
}

// ErrClaimed says that another daemon of this network namespace answers for
// the same VIP.
var ErrClaimed = errors.New("link: another daemon has it")

// Claim makes sure that one daemon at most answers for a VIP in this network
// namespace: it binds a name that the kernel frees when the process ends,
// however it ends. Close the claim to give it up.
func Claim(vip netip.Addr) (net.Listener, error) {
	// A name that starts with @ is abstract, see unix(7): no file is left, and
	// it belongs to the network namespace.
	l, err := net.Listen("unix", "@onevoice/vip/"+vip.String())
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, ErrClaimed
	}
	if err != nil {
		return nil, fmt.Errorf("link: claim %s: %w", vip, err)
	}
	return l, nil
}
