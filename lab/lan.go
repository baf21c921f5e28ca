package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

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

// Bounds of a lab.
const (
	MaxNodes              = 32
	MaxClients            = 16
	MaxAddressesPerClient = 64
	// MaxClientAddresses is how many all clients have together.
	MaxClientAddresses = lastAddress - firstClient + 1
)

// The last bytes of the hosts' addresses in 10.77.0.0/24.
const (
	firstNode   = 11
	firstClient = 101
	lastAddress = 254
)

// Spec says what to build.
type Spec struct {
	Nodes   int
	Clients int
	// Addresses of each client.
	Addresses int
	LAN       Kind
	// Beat: each node has the service of ServeBeat beside SSH.
	Beat bool
	// Witness: there is one, on another LAN behind a router.
	Witness bool
	// Timing is [cluster] timing of the nodes, "" for the default.
	Timing string
	// MACMode is the VIP's mac_mode, "" for the default.
	MACMode string
	// Path is that of the services ssh and beat, "" for the default.
	Path string
	// IPv6: the hosts have it, and the cluster answers for VIP6 too.
	IPv6 bool
	// Names: each node has the service of ServeNames beside SSH.
	Names bool
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
	if all := s.Clients * s.Addresses; all > MaxClientAddresses {
		return fmt.Errorf("%d clients with %d addresses each need %d, and the LAN has room for %d; write --addresses=%d or fewer clients",
			s.Clients, s.Addresses, all, MaxClientAddresses, MaxClientAddresses/s.Clients)
	}
	if s.Witness && s.Nodes%2 != 0 {
		return fmt.Errorf("--witness is for an even number of nodes, and there are %d, who decide alone", s.Nodes)
	}
	if !slices.Contains([]string{"", "fast", "lan", "calm"}, s.Timing) {
		return fmt.Errorf("--timing is %q; write fast, lan or calm", s.Timing)
	}
	if !slices.Contains([]string{"", "multicast", "igmp", "unicast"}, s.MACMode) {
		return fmt.Errorf("--mac-mode is %q; write multicast, igmp or unicast", s.MACMode)
	}
	if !slices.Contains([]string{"", pathNetstack, pathDirect}, s.Path) {
		return fmt.Errorf("--path is %q; write netstack or direct", s.Path)
	}
	if s.Path == pathDirect && !RealRoot() {
		return errors.New("--path direct needs root, for its programs are loaded into this machine's kernel; run the lab as root, or leave it out")
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

// ClusterMAC is the VIP's in the mode that the lab is in.
func (s *Spec) ClusterMAC() net.HardwareAddr {
	if s.MACMode == "unicast" {
		return net.HardwareAddr{0x02, 0xbf, 0x0a, 0x4d, 0x00, 0x02}
	}
	return ClusterMAC()
}

const (
	lanName    = "ov-lan"
	bridgeName = "br0"
	hostDevice = "eth0"
	prefixBits = 24
	mtuBytes   = 1500
)

// Host is a machine on the LAN.
type Host struct {
	// Name is n1… or client1…, router or witness.
	Name  string
	Addrs []netip.Addr
	MAC   net.HardwareAddr
	Node  bool
	// Aside: it is neither node nor client.
	Aside bool
	// Port is the host's interface on the bridge, by its index in ov-lan; 0 for a
	// host that is not on it.
	Port int

	ns *netns.NS
	// cluster is the VIP's MAC.
	cluster net.HardwareAddr
	ipv6    bool
}

// Do runs fn on a thread of the host.
func (h *Host) Do(fn func() error) error { return h.ns.Do(fn) }

// Start starts a program on the host.
func (h *Host) Start(cmd *exec.Cmd) error { return h.ns.Start(cmd) }

// LAN is the bridge and the hosts on it.
type LAN struct {
	Spec  Spec
	Hosts []*Host

	ns     *netns.NS
	faults faults
	// stackless keeps the bridge's own IP stack away; nil where that is not possible.
	stackless io.Closer
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
	if err := l.ns.Do(l.addBridge); err != nil {
		return fmt.Errorf("lab: make the bridge: %w", err)
	}
	for i := range l.Spec.Nodes {
		h := &Host{Name: fmt.Sprintf("n%d", i+1), Node: true, MAC: hardware(macNode, firstNode+i)}
		h.Addrs = []netip.Addr{address(firstNode + i)}
		if err := l.addHost(h); err != nil {
			return err
		}
	}
	for c := range l.Spec.Clients {
		h := &Host{Name: fmt.Sprintf("client%d", c+1), MAC: hardware(macClient, 1+c)}
		for a := range l.Spec.Addresses {
			h.Addrs = append(h.Addrs, address(firstClient+c*l.Spec.Addresses+a))
		}
		if err := l.addHost(h); err != nil {
			return err
		}
	}
	if l.Spec.Witness {
		return l.addWitness()
	}
	return nil
}

func address(last int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(last)}) }

// What a MAC of the lab belongs to.
const (
	macNode byte = iota
	macClient
	macBridge
	macPort
	macRouter
)

// hardware is a locally administered MAC, the same in every lab.
func hardware(kind byte, number int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 'O', 'V', 0, kind, byte(number)}
}

// onlyForward keeps the bridge from looking into packets, as bridge netfilter
// does where the kernel has it: it drops those with a bad IP header and puts
// fragments together, which no switch does. It runs in the LAN's namespace.
func onlyForward() error {
	for _, family := range []string{"iptables", "ip6tables", "arptables"} {
		err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+family, []byte("0"), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// addBridge runs in the LAN's namespace.
func (l *LAN) addBridge() error {
	if err := errors.Join(quiet(), onlyForward()); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = bridgeName, hardware(macBridge, 0)
	br := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: new(bool)}
	if l.Spec.LAN == Hub {
		// A hub remembers nothing.
		br.AgeingTime = new(uint32)
	}
	if err := netlink.LinkAdd(br); err != nil {
		return err
	}
	var err error
	if l.stackless, err = withoutStack(bridgeName); err != nil {
		return err
	}
	return netlink.LinkSetUp(br)
}

// sysctl sets a setting of the namespace that the thread is in.
func sysctl(name, value string) error {
	return os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0)
}

// quiet keeps the namespace from sending IPv6 of its own.
func quiet() error {
	err := sysctl("ipv6/conf/all/disable_ipv6", "1")
	if errors.Is(err, os.ErrNotExist) {
		// A kernel without IPv6 is quiet already.
		return nil
	}
	return err
}

// setDefaults gives a host what distributions set at start, the strictest of
// them, instead of what the machine below happens to have.
func setDefaults() error {
	for _, where := range []string{"all", "default"} {
		for _, s := range [][2]string{{"rp_filter", "1"}, {"accept_source_route", "0"}, {"arp_ignore", "0"}, {"arp_announce", "0"}} {
			if err := sysctl(filepath.Join("ipv4/conf", where, s[0]), s[1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// addHost makes a host's namespace and plugs it into the bridge.
func (l *LAN) addHost(h *Host) error {
	ns, err := netns.New()
	if err != nil {
		return err
	}
	h.ns, h.cluster, h.ipv6 = ns, l.Spec.ClusterMAC(), l.Spec.IPv6
	l.Hosts = append(l.Hosts, h)
	family := quiet
	if h.ipv6 {
		family = setDefaults6
	}
	for _, step := range []step{
		{ns, family}, {ns, setDefaults}, {l.ns, func() error { return l.plug(h) }},
		// The host's end comes up first, so that the port has a carrier when it
		// does.
		{ns, h.configure}, {l.ns, h.raisePort}, {ns, untilCarrier}, {l.ns, h.untilForwarding},
	} {
		if err := step.in.Do(step.do); err != nil {
			return fmt.Errorf("lab: host %s: %w", h.Name, err)
		}
	}
	return nil
}

// plug makes the cable; it runs in the LAN's namespace.
func (l *LAN) plug(h *Host) error {
	br, err := netlink.LinkByName(bridgeName)
	if err != nil {
		return err
	}
	// NewLinkAttrs and NewVeth leave to the kernel what is not set here.
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex, attrs.MTU = h.Name, br.Attrs().Index, mtuBytes
	attrs.HardwareAddr = hardware(macPort, len(l.Hosts))
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerMTU = hostDevice, h.MAC, mtuBytes
	veth.PeerNamespace = netlink.NsFd(h.ns.FD())
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
		return netlink.LinkSetLearning(port, false)
	}
	return nil
}

// raisePort runs in the LAN's namespace.
func (h *Host) raisePort() error {
	port, err := netlink.LinkByIndex(h.Port)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(port)
}

// carrierTimeout bounds how long the kernel may take to see a cable.
const carrierTimeout = 5 * time.Second

// untilUp waits until an interface of the thread's namespace sends, for the
// kernel notices the other end in its own time.
func untilUp(find func() (netlink.Link, error)) error {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); ; <-ticker.C {
		dev, err := find()
		if err != nil || dev.Attrs().OperState == netlink.OperUp {
			return err
		}
		if time.Since(began) > carrierTimeout {
			return fmt.Errorf("%s has no carrier after %v", dev.Attrs().Name, carrierTimeout)
		}
	}
}

// untilCarrier is untilUp for the host's interface, in the host's namespace.
func untilCarrier() error {
	return untilUp(func() (netlink.Link, error) { return netlink.LinkByName(hostDevice) })
}

// untilForwarding is untilUp for the host's port, in the LAN's namespace: the
// bridge drops what comes in by a port until the kernel has told it.
func (h *Host) untilForwarding() error {
	return untilUp(func() (netlink.Link, error) { return netlink.LinkByIndex(h.Port) })
}

// configure sets the host's own interfaces; it runs in the host's namespace.
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
		if h.ipv6 {
			return h.addAddresses6(dev)
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
		if h.Node == node && !h.Aside {
			out = append(out, h)
		}
	}
	return out
}

// Do runs fn on a thread of the LAN itself: each host's port on the bridge has
// the host's name.
func (l *LAN) Do(fn func() error) error { return l.ns.Do(fn) }

// Close lets go of the namespaces; they end with the programs in them.
func (l *LAN) Close() error {
	var errs []error
	for _, h := range l.Hosts {
		errs = append(errs, h.ns.Close())
	}
	if l.stackless != nil {
		errs = append(errs, l.stackless.Close())
	}
	if l.ns != nil {
		errs = append(errs, l.ns.Close())
	}
	return errors.Join(errs...)
}
