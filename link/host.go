package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Addresses are the IPv4 addresses of the named interface.
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
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap().Is4() {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out, nil
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

// Gateway is the next hop of the default route over the named interface, the
// zero Addr when there is none.
func Gateway(name string) (netip.Addr, error) {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("link: interface %s: %w", name, err)
	}
	routes, err := netlink.RouteList(dev, unix.AF_INET)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("link: routes of %s: %w", name, err)
	}
	for _, r := range routes {
		if r.Gw == nil || r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if gw, ok := netip.AddrFromSlice(r.Gw.To4()); ok {
			return gw, nil
		}
	}
	return netip.Addr{}, nil
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
