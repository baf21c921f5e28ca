package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"

	"github.com/vishvananda/netlink"

	"onevoice/internal/netns"
)

// Kind is what connects the hosts of a lab.
type Kind string

// Kinds.
const (
	// Switch learns where MACs are, and floods groups and what it does not know.
	Switch Kind = "switch"
	// Hub repeats every frame to every port.
	Hub Kind = "hub"
)

// Bounds of a lab: addresses .11 to .42 are nodes, .101 up clients.
const (
	MaxNodes              = 32
	MaxClients            = 8
	MaxAddressesPerClient = 16
)

// Spec says what to build.
type Spec struct {
	Nodes   int
	Clients int
	// Addresses of each client.
	Addresses int
	LAN       Kind
}

// Check refuses what cannot be built.
func (s *Spec) Check() error {
	for _, b := range []struct {
		name      string
		have, max int
	}{{"nodes", s.Nodes, MaxNodes}, {"clients", s.Clients, MaxClients}, {"addresses", s.Addresses, MaxAddressesPerClient}} {
		if b.have < 1 || b.have > b.max {
			return fmt.Errorf("--%s is %d; write 1 to %d", b.name, b.have, b.max)
		}
	}
	if s.LAN != Switch && s.LAN != Hub {
		return fmt.Errorf("--lan is %q; write switch or hub", s.LAN)
	}
	return nil
}

// VIP is the address that the lab's cluster answers for.
func VIP() netip.Addr { return netip.MustParseAddr("10.77.0.2") }

// ClusterMAC is the VIP's, by the rule of mode multicast.
func ClusterMAC() net.HardwareAddr { return net.HardwareAddr{0x01, 0x00, 0x5e, 0x4d, 0x00, 0x02} }

const (
	lanName    = "ov-lan"
	bridgeName = "br0"
	hostDevice = "eth0"
	prefixBits = 24
)

// Host is a machine on the LAN.
type Host struct {
	// Name is n1… or client1….
	Name  string
	Addrs []netip.Addr
	MAC   net.HardwareAddr
	Node  bool
	// Port is the host's interface on the bridge, by its index in ov-lan.
	Port int

	ns *netns.NS
}

// Do runs fn on a thread of the host.
func (h *Host) Do(fn func() error) error { return h.ns.Do(fn) }

// Start starts a program on the host.
func (h *Host) Start(cmd *exec.Cmd) error { return h.ns.Start(cmd) }

// LAN is the bridge and the hosts on it.
type LAN struct {
	Spec  Spec
	Hosts []*Host
	ns    *netns.NS
}

// BuildLAN makes the namespaces and connects them. Needs CAP_NET_ADMIN and
// CAP_SYS_ADMIN, in a user namespace of one's own or outside.
func BuildLAN(spec Spec) (*LAN, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	l := &LAN{Spec: spec}
	if err := l.build(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *LAN) build() (err error) {
	if l.ns, err = netns.New(); err != nil {
		return err
	}
	if err := l.ns.Do(addBridge); err != nil {
		return fmt.Errorf("lab: make the bridge: %w", err)
	}
	for i := range l.Spec.Nodes {
		h := &Host{Name: fmt.Sprintf("n%d", i+1), Node: true, MAC: net.HardwareAddr{0x02, 0x4f, 0x56, 0, 0, byte(11 + i)}}
		h.Addrs = []netip.Addr{address(11 + i)}
		if err := l.addHost(h); err != nil {
			return err
		}
	}
	for c := range l.Spec.Clients {
		h := &Host{Name: fmt.Sprintf("client%d", c+1), MAC: net.HardwareAddr{0x02, 0x4f, 0x56, 0, 1, byte(1 + c)}}
		for a := range l.Spec.Addresses {
			h.Addrs = append(h.Addrs, address(101+c*l.Spec.Addresses+a))
		}
		if err := l.addHost(h); err != nil {
			return err
		}
	}
	return nil
}

func address(last int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(last)}) }

func addBridge() error {
	if err := quiet(); err != nil {
		return err
	}
	no := false
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}, MulticastSnooping: &no}
	if err := netlink.LinkAdd(br); err != nil {
		return err
	}
	return netlink.LinkSetUp(br)
}

// quiet keeps the namespace from sending IPv6 of its own.
func quiet() error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) {
		// A kernel without IPv6 is quiet already.
		return nil
	}
	return err
}

// addHost makes a host's namespace and plugs it into the bridge.
func (l *LAN) addHost(h *Host) error {
	ns, err := netns.New()
	if err != nil {
		return err
	}
	h.ns = ns
	l.Hosts = append(l.Hosts, h)
	if err := ns.Do(quiet); err != nil {
		return fmt.Errorf("lab: host %s: %w", h.Name, err)
	}
	if err := l.ns.Do(func() error { return l.plug(h) }); err != nil {
		return fmt.Errorf("lab: connect %s: %w", h.Name, err)
	}
	if err := ns.Do(h.configure); err != nil {
		return fmt.Errorf("lab: host %s: %w", h.Name, err)
	}
	return nil
}

// plug makes the cable; it runs in the LAN's namespace.
func (l *LAN) plug(h *Host) error {
	br, err := netlink.LinkByName(bridgeName)
	if err != nil {
		return err
	}
	veth := &netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: h.Name, MasterIndex: br.Attrs().Index},
		PeerName:         hostDevice,
		PeerHardwareAddr: h.MAC,
		PeerNamespace:    netlink.NsFd(h.ns.FD()),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	port, err := netlink.LinkByName(h.Name)
	if err != nil {
		return err
	}
	h.Port = port.Attrs().Index
	if l.Spec.LAN == Hub {
		// What is not learned is flooded.
		if err := netlink.LinkSetLearning(port, false); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(port)
}

// configure sets the host's own interface; it runs in the host's namespace.
func (h *Host) configure() error {
	for _, name := range []string{"lo", hostDevice} {
		dev, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(dev); err != nil {
			return err
		}
		if name == "lo" {
			continue
		}
		for _, a := range h.Addrs {
			addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(prefixBits, 32)}}
			if err := netlink.AddrAdd(dev, addr); err != nil {
				return err
			}
		}
	}
	return nil
}

// Host finds a host by its name, with or without "ov-".
func (l *LAN) Host(name string) (*Host, bool) {
	for _, h := range l.Hosts {
		if h.Name == name || "ov-"+h.Name == name {
			return h, true
		}
	}
	return nil, false
}

// Nodes are the hosts that run the daemon.
func (l *LAN) Nodes() []*Host { return l.only(true) }

// Clients are the others.
func (l *LAN) Clients() []*Host { return l.only(false) }

func (l *LAN) only(node bool) []*Host {
	var out []*Host
	for _, h := range l.Hosts {
		if h.Node == node {
			out = append(out, h)
		}
	}
	return out
}

// Close lets go of the namespaces; they end with the programs in them.
func (l *LAN) Close() error {
	var errs []error
	for _, h := range l.Hosts {
		errs = append(errs, h.ns.Close())
	}
	if l.ns != nil {
		errs = append(errs, l.ns.Close())
	}
	return errors.Join(errs...)
}
