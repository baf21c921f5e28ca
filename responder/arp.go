package responder

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
)

// The ARP packet of RFC 826 behind its Ethernet header, for Ethernet and IPv4,
// offsets from the frame's first byte:
//
//	0            6            12        14       16       18   19   20
//	| destination | source     | 0x0806  | htype  | ptype  |hlen|plen| operation |
//	22           28           32           38           42           60
//	| sender MAC  | sender IPv4 | target MAC | target IPv4 | padding … |
const (
	arpBytes = 28

	// arpReadBytes is how much of a frame is looked at. What lies behind the
	// packet is padding; a longer frame than this costs no more to judge.
	arpReadBytes = 64
)

// ARP answers for the VIPs. It holds no state but its addresses.
type ARP struct {
	own     MAC
	ownAddr netip.Addr
	vips    []VIP
}

// ARPResult is what ARP.Handle decided. Where the frame was too malformed to
// be read, the addresses are zero.
type ARPResult struct {
	Outcome ARPOutcome
	// Reply is the frame to send, padded to 60 bytes, or nil. It is the caller's.
	Reply []byte
	// VIP is the address that was asked for or claimed; invalid when none was.
	VIP netip.Addr
	// Peer and MAC are the sender's addresses inside the ARP packet.
	Peer netip.Addr
	MAC  MAC
	// From is the Ethernet source: the station that sent this frame, and the one
	// to look for in the switch's tables when MAC is a stranger's.
	From MAC
}

// SourceDiffers reports whether the sender named another MAC inside the ARP
// packet than the one it sent from.
//
// That is no ground to stay silent. RFC 826 and RFC 5227 do not look at the
// Ethernet header, and honest stations differ: VRRP routers, CLUSTERIP, NLB and
// our own nodes put a shared MAC inside and their own outside. A proxy ARP
// router does not differ, since it names its own MAC. A liar loses nothing by
// making the two agree, so dropping would only keep honest ones out; a LAN that
// wants the check has Dynamic ARP Inspection in its switches. What is sent in
// answer is true whoever reads it, and one frame for one.
func (r *ARPResult) SourceDiffers() bool { return r.MAC != r.From }

// NewARP returns a responder for vips on the interface with MAC own and address
// ownAddr. The error is one sentence for the user: an address that can be no
// station's, or an own address that is also a cluster's.
func NewARP(own MAC, ownAddr netip.Addr, vips []VIP) (*ARP, error) {
	if err := checkAddresses(own, ownAddr, vips); err != nil {
		return nil, err
	}
	return &ARP{own: own, ownAddr: ownAddr, vips: slices.Clone(vips)}, nil
}

// Handle judges a whole Ethernet frame. A request for a VIP is answered only if
// owns says that the VIP's askers at this address are ours; it is asked with
// 0.0.0.0 for an RFC 5227 probe. The frame is not kept. Nothing here depends on
// now; it is an argument as for every handler.
func (a *ARP) Handle(_ time.Duration, frame []byte, owns func(vip, asker netip.Addr) bool) ARPResult {
	p, r := readARP(frame)
	if r.Outcome != ARPUndecided {
		return r
	}
	if r.Outcome = a.judgeSender(p, &r); r.Outcome != ARPUndecided {
		return r
	}
	if p.Operation == arp.OperationReply {
		r.Outcome = ARPIgnored
		if p.TargetIP == a.ownAddr {
			r.Outcome = ARPLearned
		}
		return r
	}
	v, ok := a.vip(p.TargetIP)
	if !ok {
		r.Outcome = ARPIgnored
		return r
	}
	r.VIP = v.Addr
	mine, probe := owns(v.Addr, r.Peer), r.Peer.IsUnspecified()
	switch {
	case mine && probe:
		r.Outcome = ARPProbeAnswered
	case mine:
		r.Outcome = ARPAnswered
	case probe:
		r.Outcome = ARPProbeNotOurs
	default:
		r.Outcome = ARPNotOurs
	}
	if mine {
		r.Reply = a.reply(v, &r)
	}
	return r
}

// readARP takes the frame apart and refuses what is not ARP for IPv4 on
// Ethernet. The result's addresses are filled in when it leaves the outcome
// undecided.
func readARP(frame []byte) (*arp.Packet, ARPResult) {
	bad := func(o ARPOutcome) (*arp.Packet, ARPResult) { return nil, ARPResult{Outcome: o} }
	var f ethernet.Frame
	if err := f.UnmarshalBinary(frame[:min(len(frame), arpReadBytes)]); err != nil {
		if errors.Is(err, ethernet.ErrInvalidVLAN) {
			return bad(ARPVLANTag)
		}
		return bad(ARPTruncated)
	}
	switch {
	case f.VLAN != nil || f.ServiceVLAN != nil:
		return bad(ARPVLANTag)
	case f.EtherType != ethernet.EtherTypeARP:
		return bad(ARPOtherEtherType)
	case len(f.Payload) < arpBytes:
		return bad(ARPTruncated)
	}
	// The library fills the fixed fields before it can fail, and it fails here
	// only on lengths other than 6 and 4.
	p := new(arp.Packet)
	err := p.UnmarshalBinary(f.Payload)
	switch {
	case p.HardwareType != 1:
		return bad(ARPBadHardwareType)
	case p.ProtocolType != etherTypeIPv4:
		return bad(ARPBadProtocolType)
	case p.HardwareAddrLength != 6 || p.IPLength != 4 || err != nil:
		return bad(ARPBadLengths)
	case p.Operation != arp.OperationRequest && p.Operation != arp.OperationReply:
		return bad(ARPBadOperation)
	}
	return p, ARPResult{Peer: p.SenderIP, MAC: MAC(p.SenderHardwareAddr), From: MAC(f.Source)}
}

// judgeSender looks at who sends, ARPUndecided being well. The claims come
// before the faults of the sender's MAC: another node's answer names the cluster
// MAC, which may be a group, and a stranger's claim is reported however odd the
// MAC is that goes with it.
func (a *ARP) judgeSender(p *arp.Packet, r *ARPResult) ARPOutcome {
	switch {
	case r.From == a.own || r.MAC == a.own:
		return ARPOwnMAC
	case !r.From.isStation() || a.isClusterMAC(r.From):
		return ARPBadSource
	}
	if v, ok := a.vip(r.Peer); ok {
		r.VIP = v.Addr
		if r.MAC == v.MAC {
			return ARPOurs
		}
		return ARPStranger
	}
	switch {
	case !r.MAC.isStation() || a.isClusterMAC(r.MAC):
		// RFC 1812 §3.3.2 says it of routers: believe no answer that names a
		// broadcast or multicast address. Nor may an answer be sent to one.
		return ARPBadSenderMAC
	case r.Peer == a.ownAddr:
		return ARPOwnAddressClaim
	case r.Peer.IsUnspecified() && p.Operation == arp.OperationRequest:
		return ARPUndecided
	case !isHost4(r.Peer):
		return ARPBadSenderAddress
	}
	return ARPUndecided
}

// reply tells the asker that v is at its cluster MAC. RFC 826: the addresses
// swap sides. The cluster MAC stands inside the packet only; outside stands our
// own, or the switch would learn the cluster MAC at our port.
func (a *ARP) reply(v VIP, r *ARPResult) []byte {
	return arpFrame(arp.OperationReply, a.own, r.MAC, v.MAC, v.Addr, r.MAC, r.Peer)
}

func (a *ARP) vip(addr netip.Addr) (VIP, bool) {
	for _, v := range a.vips {
		if v.Addr == addr {
			return v, true
		}
	}
	return VIP{}, false
}

func (a *ARP) isClusterMAC(m MAC) bool { return isClusterMAC(a.vips, m) }

func isClusterMAC(vips []VIP, m MAC) bool {
	for i := range vips {
		if vips[i].MAC == m {
			return true
		}
	}
	return false
}

// arpFrame is an ARP packet in an Ethernet frame, padded to the shortest frame
// that Ethernet allows. All protocol addresses must be IPv4.
func arpFrame(op arp.Operation, from, to, sender MAC, senderAddr netip.Addr, target MAC, targetAddr netip.Addr) []byte {
	p, err := arp.NewPacket(op, sender.hardwareAddr(), senderAddr, target.hardwareAddr(), targetAddr)
	if err != nil {
		panic("responder: ARP between addresses that were checked to be IPv4: " + err.Error())
	}
	// The marshallers fail on VLAN tags only, of which there are none.
	payload, _ := p.MarshalBinary()
	f := ethernet.Frame{
		Destination: to.hardwareAddr(), Source: from.hardwareAddr(),
		EtherType: ethernet.EtherTypeARP, Payload: payload,
	}
	b, _ := f.MarshalBinary()
	return b
}
