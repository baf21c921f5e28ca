package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"onevoice/lab"
)

// xtNodes is how many nodes the kernel's cluster match counts at least. Which of
// them a client belongs to, the kernel says.
const xtNodes = 4

// xtMAC is the group MAC of the shared address (RFC 1112, section 6.4).
func xtMAC() net.HardwareAddr { return net.HardwareAddr{0x01, 0x00, 0x5e, 0x4d, 0x00, 0x03} }

// newXTCluster is the kernel's own TCP behind xt_cluster: every node has the
// address and hears the group, and rules drop what is another node's.
func newXTCluster() *path {
	p := &path{Name: XTCluster, Title: "xt_cluster", needs: []string{"iptables-restore"},
		http: at(sharedByKernel(), portHTTP), bulk: at(sharedByKernel(), portBulk), dns: at(sharedByKernel(), portDNS),
		host: true, mac: func(*bed) net.HardwareAddr { return xtMAC() }}
	p.on = func(ctx context.Context, b *bed) error {
		if err := b.client.Do(func() error { return setNeighbour(netlink.NeighSet) }); err != nil {
			return err
		}
		// The first node takes the number that has the client, as the client's
		// address alone decides.
		for first := range xtTotal(b) {
			if err := b.xtRules(ctx, first); err != nil {
				return err
			}
			if b.try(p.http) == nil {
				return nil
			}
		}
		return errors.New("no node of the kernel's cluster match answers the client")
	}
	p.off = func(b *bed) error {
		errs := []error{b.client.Do(func() error { return setNeighbour(netlink.NeighDel) })}
		for _, h := range b.lan.Nodes() {
			errs = append(errs, h.Do(xtLeave))
			_, err := output(context.Background(), h, iptablesTimeout, "iptables", "-t", "mangle", "-F", "PREROUTING")
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
	return p
}

// xtTotal is how many nodes the rules count.
func xtTotal(b *bed) int { return max(xtNodes, len(b.lan.Nodes())) }

// iptablesTimeout bounds one call of it.
const iptablesTimeout = 10 * time.Second

// xtRules gives every node the address, the group and its rules. first is the
// number of the first node, from 0.
func (b *bed) xtRules(ctx context.Context, first int) error {
	total := xtTotal(b)
	for i, h := range b.lan.Nodes() {
		rules, err := peerFile("xt_cluster.rules", struct{ Total, Local int }{total, (first+i)%total + 1})
		if err != nil {
			return err
		}
		if err := h.Do(xtJoin); err != nil {
			return err
		}
		if err := restore(ctx, h, rules); err != nil {
			return err
		}
	}
	return nil
}

// restore loads rules on a host in the place of those before.
func restore(ctx context.Context, h *lab.Host, rules string) error {
	file, err := os.CreateTemp(runDir(), "rules")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(rules)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	_, err = output(ctx, h, iptablesTimeout, "iptables-restore", file.Name())
	return err
}

// sharedOn is the shared address on an interface of the thread's namespace.
func sharedOn() (netlink.Link, *netlink.Addr, error) {
	dev, err := netlink.LinkByName(hostDevice)
	if err != nil {
		return nil, nil, err
	}
	return dev, &netlink.Addr{IPNet: &net.IPNet{IP: sharedByKernel().AsSlice(), Mask: net.CIDRMask(32, 32)}}, nil
}

// xtJoin runs in the host's namespace.
func xtJoin() error {
	dev, addr, err := sharedOn()
	if err != nil {
		return err
	}
	if err := netlink.AddrReplace(dev, addr); err != nil {
		return err
	}
	return hearGroup(xtMAC(), true)
}

// xtLeave runs in the host's namespace.
func xtLeave() error {
	dev, addr, err := sharedOn()
	if err != nil {
		return err
	}
	if err := netlink.AddrDel(dev, addr); err != nil && !strings.Contains(err.Error(), "cannot assign") {
		return err
	}
	return hearGroup(xtMAC(), false)
}

// setNeighbour gives the client the MAC of the shared address, or takes it.
func setNeighbour(set func(*netlink.Neigh) error) error {
	dev, err := netlink.LinkByName(hostDevice)
	if err != nil {
		return err
	}
	err = set(&netlink.Neigh{LinkIndex: dev.Attrs().Index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT,
		IP: sharedByKernel().AsSlice(), HardwareAddr: xtMAC()})
	if err != nil {
		return fmt.Errorf("neighbour %s: %w", sharedByKernel(), err)
	}
	return nil
}
