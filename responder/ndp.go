package responder

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/mdlayher/ndp"
)

// ICMPv6 types of neighbour discovery, RFC 4861 §4.
const (
	typeRouterSolicitation     = 133
	typeRouterAdvertisement    = 134
	typeNeighbourSolicitation  = 135
	typeNeighbourAdvertisement = 136
	typeRedirect               = 137
)

// Options of neighbour discovery, RFC 4861 §4.6.
const (
	optionSourceMAC = 1
	optionTargetMAC = 2
	optionMTU       = 5
)

// IsNDP reports whether an ICMPv6 type is one of neighbour discovery.
func IsNDP(icmpType byte) bool {
	return icmpType >= typeRouterSolicitation && icmpType <= typeRedirect
}

// NDP answers neighbour solicitations for the VIPs and judges what else is said
// in neighbour discovery (RFC 4861, RFC 4862). It keeps nothing but its
// addresses.
type NDP struct {
	own     MAC
	ownAddr netip.Addr
	gateway netip.Addr
	vips    []VIP
	mtu     int
}

// NewNDP returns a responder for the IPv6 addresses among vips on the interface
// with MAC own and the largest packet mtu. ownAddr is the interface's own IPv6
// address, and gateway the LAN's router; each may be invalid, when there is none.
func NewNDP(own MAC, ownAddr, gateway netip.Addr, mtu int, vips []VIP) (*NDP, error) {
	if !own.isStation() {
		return nil, fmt.Errorf("the interface's MAC %v cannot be a source address; give the interface a unicast MAC", own)
	}
	n := &NDP{own: own, ownAddr: ownAddr, gateway: gateway, mtu: mtu}
	for _, v := range vips {
		if v.Addr.Is6() {
			n.vips = append(n.vips, v)
		}
	}
	return n, nil
}

// NDPMessage is an ICMPv6 message of neighbour discovery, as it came: the
// checksum has been judged, and nothing else.
type NDPMessage struct {
	// From and To are the frame's MACs.
	From, To MAC
	Src, Dst netip.Addr
	HopLimit byte
	// Body is the ICMPv6 message, to the packet's end.
	Body []byte
}

// NDPResult is what NDP.Handle decided.
type NDPResult struct {
	Outcome NDPOutcome
	// Reply is the frame to send, or nil. It is the caller's.
	Reply []byte
	// VIP is the address that was asked for or claimed; invalid when none was.
	VIP netip.Addr
	// Peer is at MAC, as the message says; From is the MAC that sent it.
	Peer      netip.Addr
	MAC, From MAC
	// MTU is the link's in bytes, as the router says (NDPRouterMTU).
	MTU int
}

// Handle judges a message. A solicitation for a VIP is answered only if owns says
// that the VIP's askers at this address are ours; it is asked with :: for one of
// duplicate address detection.
func (n *NDP) Handle(_ time.Duration, m *NDPMessage, owns func(vip, asker netip.Addr) bool) NDPResult {
	r := NDPResult{Peer: m.Src, MAC: m.From, From: m.From}
	if r.Outcome = n.judge(m); r.Outcome != NDPUndecided {
		return r
	}
	switch m.Body[0] {
	case typeNeighbourSolicitation:
		n.solicited(m, &r, owns)
	case typeNeighbourAdvertisement:
		n.advertised(m, &r)
	case typeRouterAdvertisement:
		n.routerSays(m, &r)
	case typeRedirect:
		r.Outcome = NDPRedirect
	default:
		// We are no router, RFC 4861 §6.2.6.
		r.Outcome = NDPIgnored
	}
	return r
}

// fixedBytes is how long a message is without its options, RFC 4861 §4.
func fixedBytes(icmpType byte) int {
	switch icmpType {
	case typeRouterSolicitation:
		return 8
	case typeRouterAdvertisement:
		return 16
	case typeRedirect:
		return 40
	}
	return 24
}

// judge is what the validation of all messages has in common: RFC 4861 §6.1.1,
// §6.1.2, §7.1.1, §7.1.2 and §8.1.
func (n *NDP) judge(m *NDPMessage) NDPOutcome {
	switch {
	case m.From == n.own || m.From == (MAC{}) || m.From.IsGroup() || isClusterMAC(n.vips, m.From):
		return NDPBadSource
	case m.HopLimit != ndpHopLimit:
		return NDPBadHopLimit
	case len(m.Body) == 0 || !IsNDP(m.Body[0]) || len(m.Body) < fixedBytes(m.Body[0]):
		return NDPTruncated
	case m.Body[1] != 0:
		return NDPBadCode
	case !validOptions(m.options()):
		return NDPBadOptions
	}
	switch m.Body[0] {
	case typeNeighbourSolicitation, typeNeighbourAdvertisement:
		return m.judgeTarget()
	case typeRouterAdvertisement, typeRedirect:
		if !m.Src.IsLinkLocalUnicast() {
			return NDPBadAddress
		}
	}
	return NDPUndecided
}

// judgeTarget is what RFC 4861 §7.1.1 and §7.1.2 say of addresses.
func (m *NDPMessage) judgeTarget() NDPOutcome {
	const solicited = 0x40
	probe := m.Src.IsUnspecified()
	switch {
	case m.target().IsMulticast():
		return NDPBadAddress
	case m.Body[0] == typeNeighbourSolicitation && probe && m.Dst != SolicitedNode(m.target()):
		return NDPBadAddress
	case m.Body[0] == typeNeighbourSolicitation && probe && option(m.options(), optionSourceMAC) != nil:
		return NDPBadOptions
	case m.Body[0] == typeNeighbourAdvertisement && (probe || m.Dst.IsMulticast() && m.Body[4]&solicited != 0):
		return NDPBadAddress
	}
	return NDPUndecided
}

func (m *NDPMessage) target() netip.Addr { return netip.AddrFrom16([16]byte(m.Body[8:24])) }

func (m *NDPMessage) options() []byte { return m.Body[fixedBytes(m.Body[0]):] }

// validOptions walks options of RFC 4861 §4.6: a type, a length in units of 8
// bytes, which is never 0, and so many bytes.
func validOptions(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 8 || b[1] == 0 || int(b[1])*8 > len(b) {
			return false
		}
		b = b[int(b[1])*8:]
	}
	return true
}

// option is the first option of a type and 8 bytes, nil when there is none.
func option(b []byte, kind byte) []byte {
	for len(b) > 0 {
		if b[0] == kind && b[1] == 1 {
			return b[:8]
		}
		b = b[int(b[1])*8:]
	}
	return nil
}

// says is the MAC that the message names for its sender or target: an option's,
// or when it has none the frame's.
func (m *NDPMessage) says(kind byte) MAC {
	if o := option(m.options(), kind); o != nil {
		return MAC(o[2:8])
	}
	return m.From
}

// solicited handles a neighbour solicitation.
func (n *NDP) solicited(m *NDPMessage, r *NDPResult, owns func(vip, asker netip.Addr) bool) {
	r.MAC = m.says(optionSourceMAC)
	probe := m.Src.IsUnspecified()
	if v, ok := n.vip(m.Src); ok {
		// Whoever asks from a VIP says where the VIP is.
		r.VIP = v.Addr
		if r.Outcome = NDPStranger; r.MAC == v.MAC {
			r.Outcome = NDPOurs
		}
		return
	}
	v, ok := n.vip(m.target())
	switch {
	case !probe && (!isHost6(m.Src) || !r.MAC.isStation() || r.MAC == n.own || isClusterMAC(n.vips, r.MAC)):
		r.Outcome = NDPBadAddress
		return
	case !ok:
		r.Outcome = NDPIgnored
		return
	}
	r.VIP = v.Addr
	mine := owns(v.Addr, m.Src)
	switch {
	case mine && probe:
		r.Outcome, r.Reply = NDPProbeAnswered, n.Advertisement(v)
	case mine:
		r.Outcome, r.Reply = NDPAnswered, n.advertisement(v, m.Src, r.MAC)
	case probe:
		r.Outcome = NDPProbeNotOurs
	default:
		r.Outcome = NDPNotOurs
	}
}

// advertised handles a neighbour advertisement.
func (n *NDP) advertised(m *NDPMessage, r *NDPResult) {
	r.Peer, r.MAC = m.target(), m.says(optionTargetMAC)
	v, ok := n.vip(r.Peer)
	switch {
	case ok && r.MAC == v.MAC:
		r.VIP, r.Outcome = v.Addr, NDPOurs
	case ok:
		r.VIP, r.Outcome = v.Addr, NDPStranger
	case r.Peer == n.ownAddr && r.MAC != n.own:
		r.Outcome = NDPOwnAddressClaim
	case m.Dst == n.ownAddr && r.MAC.isStation() && isHost6(r.Peer):
		r.Outcome = NDPLearned
	default:
		r.Outcome = NDPIgnored
	}
}

// routerSays handles a router advertisement: of what the LAN's router says, the
// MTU alone is believed (RFC 4861 §4.6.4), and only as §6.3.4 allows: not below
// what every IPv6 link has, nor above the interface's own.
func (n *NDP) routerSays(m *NDPMessage, r *NDPResult) {
	r.Outcome = NDPStrangeRouter
	if n.gateway.IsValid() && m.Src != n.gateway {
		return
	}
	r.Outcome = NDPIgnored
	o := option(m.options(), optionMTU)
	if o == nil {
		return
	}
	mtu := binary.BigEndian.Uint32(o[4:])
	if mtu < MinIPv6MTU || int64(mtu) > int64(n.mtu) {
		r.Outcome = NDPBadMTU
		return
	}
	r.Outcome, r.MTU = NDPRouterMTU, int(mtu)
}

func (n *NDP) vip(a netip.Addr) (VIP, bool) {
	for _, v := range n.vips {
		if v.Addr == a {
			return v, true
		}
	}
	return VIP{}, false
}

// Advertisement is the unsolicited advertisement of a VIP to all nodes (RFC 4861
// §7.2.6), and the answer to duplicate address detection, which has no address
// that could be written to (§7.2.4).
func (n *NDP) Advertisement(v VIP) []byte {
	return n.advertise(v, AllNodes(), GroupMAC(AllNodes()), false)
}

func (n *NDP) advertisement(v VIP, to netip.Addr, at MAC) []byte {
	return n.advertise(v, to, at, true)
}

// advertise tells that v is at its cluster MAC, which stands inside the message
// only. RFC 4861 §4.4: the router flag is clear, for no node forwards; override is
// set, as §7.2.4 asks of an address that is neither anycast nor proxied.
func (n *NDP) advertise(v VIP, to netip.Addr, at MAC, solicited bool) []byte {
	return n.frame(at, v.Addr, to, &ndp.NeighborAdvertisement{
		Solicited: solicited, Override: true, TargetAddress: v.Addr,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: v.MAC.hardwareAddr()}},
	})
}

func (n *NDP) frame(at MAC, from, to netip.Addr, m ndp.Message) []byte {
	return ndpFrame(n.own, at, from, to, m)
}

// ndpFrame is a message of neighbour discovery in its frame.
func ndpFrame(own, at MAC, from, to netip.Addr, m ndp.Message) []byte {
	body, err := ndp.MarshalMessageChecksum(m, from, to)
	if err != nil {
		panic("responder: neighbour discovery between addresses that were checked to be IPv6: " + err.Error())
	}
	src, dst := from.As16(), to.As16()
	return append(appendHeaders6(nil, own, at, &src, &dst, 0, protoICMPv6, ndpHopLimit, len(body)), body...)
}
