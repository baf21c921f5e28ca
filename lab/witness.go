package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"

	"github.com/vishvananda/netlink"

	"onevoice/internal/netns"
)

// The witness of a lab is on another LAN than the nodes, behind a router, so
// that no fault of the nodes' cables touches it.

const (
	routerName  = "router"
	witnessName = "witness"
)

// Addresses of the router, on the nodes' LAN and on the other, and of the witness.
func routerAddress() netip.Addr    { return address(1) }
func awayAddress(last byte) string { return netip.AddrFrom4([4]byte{10, 88, 0, last}).String() }
func witnessAddress() netip.Addr   { return netip.MustParseAddr(awayAddress(9)) }

// addWitness adds the router to the LAN, and the witness's host behind it.
func (l *LAN) addWitness() error {
	router := &Host{Name: routerName, Aside: true, MAC: hardware(macRouter, 1), Addrs: []netip.Addr{routerAddress()}}
	if err := l.addHost(router); err != nil {
		return err
	}
	ns, err := netns.New()
	if err != nil {
		return err
	}
	w := &Host{Name: witnessName, Aside: true, MAC: hardware(macRouter, 3), Addrs: []netip.Addr{witnessAddress()}, ns: ns}
	l.Hosts = append(l.Hosts, w)
	steps := []step{
		{ns, quiet}, {ns, setDefaults}, {router.ns, func() error { return w.plugBehind() }},
		{ns, func() error {
			return errors.Join(addAddress(hostDevice, awayAddress(9)), addGateway(awayAddress(1)))
		}},
	}
	for _, h := range l.Nodes() {
		steps = append(steps, step{h.ns, func() error { return addGateway(routerAddress().String()) }})
	}
	for _, s := range steps {
		if err := s.in.Do(s.do); err != nil {
			return fmt.Errorf("lab: the witness: %w", err)
		}
	}
	return nil
}

// plugBehind makes the cable from the router to the witness; it runs in the
// router's namespace.
func (h *Host) plugBehind() error {
	const device = "eth1"
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = device, mtuBytes, hardware(macRouter, 2)
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerMTU = hostDevice, h.MAC, mtuBytes
	veth.PeerNamespace = netlink.NsFd(h.ns.FD())
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	return errors.Join(addAddress(device, awayAddress(1)), sysctl("ipv4/ip_forward", "1"))
}

// addAddress gives an interface of the thread's namespace an address, and takes
// it up.
func addAddress(device, address string) error {
	dev, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	ip := &net.IPNet{IP: net.ParseIP(address), Mask: net.CIDRMask(prefixBits, 32)}
	return errors.Join(netlink.AddrAdd(dev, &netlink.Addr{IPNet: ip}), netlink.LinkSetUp(dev))
}

// addGateway gives the thread's namespace a default route.
func addGateway(gateway string) error {
	return netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gateway)})
}

// step is done in a namespace.
type step struct {
	in *netns.NS
	do func() error
}

// startWitness prepares the witness, if the lab is to have one, and starts it.
func (l *Lab) startWitness(key string) error {
	h, ok := l.LAN.Host(witnessName)
	if !ok {
		return nil
	}
	d, err := newDaemon(l.LAN, h, key)
	if err != nil {
		return err
	}
	l.Witness = d
	return d.launch()
}

// everyDaemon are those of the nodes and the witness.
func (l *Lab) everyDaemon() []*Daemon {
	if l.Witness == nil {
		return l.Daemons
	}
	return append(append([]*Daemon(nil), l.Daemons...), l.Witness)
}

// command is the daemon's program.
func (d *Daemon) command() *exec.Cmd {
	verb := "run"
	if d.Host.Name == witnessName {
		verb = "witness"
	}
	return exec.Command(program, verb, "--config", d.Config())
}

// onLAN refuses faults of cables for a daemon that has none on the nodes' LAN.
func (d *Daemon) onLAN() error {
	if d.Host.Port == 0 {
		return fmt.Errorf("%s is not on the nodes' LAN; kill, stop or stall it", d.Host.Name)
	}
	return nil
}
