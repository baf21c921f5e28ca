package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// VIP6 is the address that the lab's cluster answers for over IPv6.
func VIP6() netip.Addr { return address6(2) }

// ClusterMAC6 is the MAC of VIP6, by the rule of mode multicast.
func ClusterMAC6() net.HardwareAddr { return net.HardwareAddr{0x33, 0x33, 0x80, 0x00, 0x00, 0x02} }

const prefixBits6 = 64

// address6 is beside address(last) in 2001:db8:77::/64, which is for documentation
// (RFC 3849). It is written as the other one's last byte is.
func address6(last int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("2001:db8:77::%d", last))
}

// beside is the IPv6 address of a host beside one of 10.77.0.0/24.
func beside(a netip.Addr) netip.Addr { return address6(int(a.As4()[3])) }

// setDefaults6 gives a host IPv6, and believes no router in its place.
func setDefaults6() error {
	for _, s := range [][2]string{{"disable_ipv6", "0"}, {"accept_ra", "0"}, {"accept_dad", "0"}, {"router_solicitations", "0"}} {
		for _, where := range []string{"all", "default"} {
			if err := sysctl(filepath.Join("ipv6/conf", where, s[0]), s[1]); err != nil {
				return fmt.Errorf("%w; this kernel has no IPv6", err)
			}
		}
	}
	return nil
}

// addAddresses6 gives a host's interface an address beside each of its others.
// Nobody else has them, so none is looked for on the LAN first.
func (h *Host) addAddresses6(dev netlink.Link) error {
	for _, a := range h.Addrs {
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: beside(a).AsSlice(), Mask: net.CIDRMask(prefixBits6, 128)}, Flags: unix.IFA_F_NODAD}
		if err := netlink.AddrAdd(dev, addr); err != nil {
			return err
		}
	}
	return nil
}

// settings6 is what a node's configuration has for IPv6.
func (s *Spec) settings6(mode string) string {
	if !s.IPv6 {
		return ""
	}
	text := fmt.Sprintf("\n[[vip]]\naddress = \"%s/%d\"\n%s\n[[service]]\nname = \"ssh6\"\nlisten = \"[%s]:22\"\nbackend = \"[::1]:22\"\n",
		VIP6(), prefixBits6, mode, VIP6())
	if s.Beat {
		text += fmt.Sprintf("\n[[service]]\nname = \"beat6\"\nlisten = \"[%s]:%d\"\nbackend = \"[::1]:%[2]d\"\n", VIP6(), beatPort)
	}
	return text
}

// start6 is the built-in server on ::1; sshd listens there by its configuration.
func (s *SSH) start6(h *Host) error {
	if !s.ipv6 || s.sshd != "" {
		return nil
	}
	cmd := s.builtIn(h, "[::1]:22")
	if err := h.Start(cmd); err != nil {
		return fmt.Errorf("lab: start %s on %s: %w", s.Kind(), h.Name, err)
	}
	s.servers6 = append(s.servers6, cmd)
	return nil
}

// builtIn is the built-in server at an address.
func (s *SSH) builtIn(h *Host, at string) *exec.Cmd {
	return exec.Command(filepath.Join(RunDir, "bin", "onevoice"), "lab", SSHCommand, s.hostKeyFile(), s.authorizedFile(), h.Name, at)
}
