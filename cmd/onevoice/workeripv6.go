package main

import (
	"errors"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"onevoice/config"
	"onevoice/link"
	"onevoice/responder"
)

// lans6 are the networks of the IPv6 VIPs.
func lans6(c *config.Config) (out []netip.Prefix) {
	for _, v := range c.VIPs {
		if v.Address.Addr().Is6() {
			out = append(out, v.Address.Masked())
		}
	}
	return out
}

// ownAddress6 is the IPv6 address from which this host reaches the VIPs, or none.
func ownAddress6(c *config.Config) ([]netip.Addr, error) {
	for _, v := range c.VIPs {
		if !v.Address.Addr().Is6() {
			continue
		}
		own, err := link.Address6(v.Uplink.Interface, lans6(c))
		if err != nil {
			return nil, err
		}
		if own.IsValid() && !own.IsLinkLocalUnicast() {
			return []netip.Addr{own}, nil
		}
	}
	return nil, nil
}

// ipv6 is this host's own IPv6 address on the interface, and its router. Without an
// address the worker answers who asks, and can ask nobody.
func (s *serving) ipv6() (own, gateway netip.Addr, err error) {
	name, lans := s.settings.Config.Cluster.Interface, lans6(s.settings.Config)
	if lans == nil {
		return own, gateway, nil
	}
	if own, err = link.Address6(name, lans); err != nil {
		return own, gateway, err
	}
	if !own.IsValid() {
		s.log.Warn("this interface has no IPv6 address, so the next hop of IPv6 clients is known only from their own frames; give it one, a link-local one is enough", "interface", name)
	}
	gateway, err = link.Gateway6(name)
	return own, gateway, err
}

// mtu6 is the largest IPv6 packet: the interface's MTU, or less when a router has
// said so before this worker began.
func (s *serving) mtu6() int {
	most := s.parts.Device.MTU()
	if told := link.MTU6(s.settings.Config.Cluster.Interface); told >= responder.MinIPv6MTU && told < most {
		return told
	}
	return most
}

// joinSolicited makes the host a member of the groups in which its neighbours ask
// for the IPv6 VIPs, by a socket of the host's: the kernel then tells switches that
// snoop (RFC 4861 section 7.2.1, RFC 3810). Frames come without it too, where no
// switch keeps them back.
func (s *serving) joinSolicited() error {
	lans := lans6(s.settings.Config)
	if lans == nil {
		return nil
	}
	device, err := net.InterfaceByName(s.settings.Config.Cluster.Interface)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		s.opened(func() error { return unix.Close(fd) })
		err = s.join(fd, device.Index)
	}
	if err != nil {
		s.log.Warn("switches that snoop may keep questions for the IPv6 VIPs from this host; let the interface have IPv6", "error", err)
	}
	return nil
}

func (s *serving) join(fd, index int) error {
	var errs []error
	for _, v := range s.settings.Config.VIPs {
		if a := v.Address.Addr(); a.Is6() {
			group := responder.SolicitedNode(a).As16()
			err := unix.SetsockoptIPv6Mreq(fd, unix.SOL_IPV6, unix.IPV6_ADD_MEMBERSHIP, &unix.IPv6Mreq{Multiaddr: group, Interface: uint32(index)})
			if err != nil && !errors.Is(err, unix.EADDRINUSE) {
				errs = append(errs, os.NewSyscallError("setsockopt IPV6_ADD_MEMBERSHIP", err))
			}
		}
	}
	return errors.Join(errs...)
}
