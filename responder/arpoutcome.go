package responder

// ARPOutcome is what was decided about an ARP frame, and why.
type ARPOutcome uint8

// Outcomes of ARP.Handle. Only ARPAnswered and ARPProbeAnswered carry a reply.
const (
	// ARPUndecided is never the outcome of a handled frame.
	ARPUndecided ARPOutcome = iota

	// ARPAnswered: a request for a VIP from an asker of ours.
	ARPAnswered
	// ARPProbeAnswered: an RFC 5227 probe for a VIP, which is ours to answer:
	// somebody considers taking the address, and is told that it is in use.
	ARPProbeAnswered
	// ARPNotOurs: a request for a VIP that another node answers.
	ARPNotOurs
	// ARPProbeNotOurs: a probe for a VIP that another node answers.
	ARPProbeNotOurs
	// ARPStranger: the sender says that a VIP is at another MAC than the
	// VIP's cluster MAC. Nothing is sent.
	ARPStranger
	// ARPOurs: the sender says that a VIP is at its cluster MAC: another
	// node's answer.
	ARPOurs
	// ARPOwnAddressClaim: the sender says that this node's own address is at
	// another MAC. The kernel holds that address; nothing is sent.
	ARPOwnAddressClaim
	// ARPLearned: a reply to our own address. Neighbours.Answer decides whether
	// it was asked for.
	ARPLearned
	// ARPIgnored: a request for an address that is not a VIP, or a reply to
	// somebody else.
	ARPIgnored

	// ARPTruncated: shorter than an Ethernet header with its ARP packet.
	ARPTruncated
	// ARPVLANTag: carries a VLAN tag.
	ARPVLANTag
	// ARPOtherEtherType: not ARP.
	ARPOtherEtherType
	// ARPBadHardwareType: not Ethernet (1).
	ARPBadHardwareType
	// ARPBadProtocolType: not IPv4 (0x0800).
	ARPBadProtocolType
	// ARPBadLengths: hardware addresses not of 6 or protocol addresses not of 4
	// bytes.
	ARPBadLengths
	// ARPBadOperation: neither request (1) nor reply (2).
	ARPBadOperation
	// ARPOwnMAC: sent from our own MAC, or naming it as the sender's: a loop, or
	// somebody pretends to be us.
	ARPOwnMAC
	// ARPBadSource: the Ethernet source is a group, a cluster MAC, or zero.
	ARPBadSource
	// ARPBadSenderMAC: the sender hardware address is a group, a cluster MAC, or
	// zero, which no station can have.
	ARPBadSenderMAC
	// ARPBadSenderAddress: the sender protocol address is no host's; 0.0.0.0 is
	// in place in a request only.
	ARPBadSenderAddress

	// ARPOutcomeCount is the number of outcomes.
	ARPOutcomeCount
)

// String is the outcome's name: lower case, words joined by hyphens.
func (o ARPOutcome) String() string {
	switch o {
	case ARPUndecided:
		return "undecided"
	case ARPAnswered:
		return "answered"
	case ARPProbeAnswered:
		return "probe-answered"
	case ARPNotOurs:
		return "not-ours"
	case ARPProbeNotOurs:
		return "probe-not-ours"
	case ARPStranger:
		return "stranger"
	case ARPOurs:
		return "ours"
	case ARPOwnAddressClaim:
		return "own-address-claim"
	case ARPLearned:
		return "learned"
	case ARPIgnored:
		return "ignored"
	}
	return o.fault()
}

// fault names the outcomes of malformed frames.
func (o ARPOutcome) fault() string {
	switch o {
	case ARPTruncated:
		return "truncated"
	case ARPVLANTag:
		return "vlan-tag"
	case ARPOtherEtherType:
		return "other-ether-type"
	case ARPBadHardwareType:
		return "bad-hardware-type"
	case ARPBadProtocolType:
		return "bad-protocol-type"
	case ARPBadLengths:
		return "bad-lengths"
	case ARPBadOperation:
		return "bad-operation"
	case ARPOwnMAC:
		return "own-mac"
	case ARPBadSource:
		return "bad-source"
	case ARPBadSenderMAC:
		return "bad-sender-mac"
	case ARPBadSenderAddress:
		return "bad-sender-address"
	}
	return "unknown"
}
