package responder

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/mdlayher/ndp"
)

// network6 is what Neighbours knows of the LAN's IPv6.
type network6 struct {
	served  bool       // there is an IPv6 VIP, so its clients are learned
	addr    netip.Addr // the sender of solicitations; invalid without IPv6
	lans    []netip.Prefix
	gateway netip.Addr // invalid where there is none
}

// SetIPv6 makes the table know IPv6 next hops too. addr is the sender of every
// solicitation; hosts in lans, and link-local ones, are reached without a router,
// others through gateway, which is invalid where there is none. The error is one
// sentence for the user.
func (n *Neighbours) SetIPv6(addr netip.Addr, lans []netip.Prefix, gateway netip.Addr) error {
	if !isHost6(addr) {
		return fmt.Errorf("the interface's address %v is not an IPv6 address of a host; give the interface one", addr)
	}
	for _, v := range n.vips {
		if v.Addr == addr {
			return fmt.Errorf("the VIP %v is the interface's own address; take it off the interface", addr)
		}
		if v.Addr == gateway {
			return fmt.Errorf("the gateway %v is a VIP; name the router", gateway)
		}
	}
	n.six = network6{true, addr, slices.Clone(lans), gateway}
	return nil
}

// target is whom to ask about an IPv6 address.
func (s *network6) target(dst netip.Addr) (netip.Addr, bool) {
	if !s.addr.IsValid() {
		return netip.Addr{}, false
	}
	if dst.IsLinkLocalUnicast() || slices.ContainsFunc(s.lans, func(p netip.Prefix) bool { return p.Contains(dst) }) {
		return dst, true
	}
	return s.gateway, s.gateway.IsValid()
}

// solicitation asks who has an address, RFC 4861 §7.2.2: in the address's
// solicited-node group, from this node's own address and with its own MAC.
func (n *Neighbours) solicitation(target netip.Addr) []byte {
	group := SolicitedNode(target)
	return ndpFrame(n.own, GroupMAC(group), n.six.addr, group, &ndp.NeighborSolicitation{
		TargetAddress: target,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: n.own.hardwareAddr()}},
	})
}
