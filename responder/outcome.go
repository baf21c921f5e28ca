package responder

// Outcome is what became of a packet that was handed to AppendEchoReply or
// AppendReset, and why.
type Outcome uint8

// Outcomes. Only EchoAnswered and ResetSent come with a reply.
const (
	// Unjudged is never the outcome of a handled packet.
	Unjudged Outcome = iota

	// EchoAnswered: a reply was appended.
	EchoAnswered
	// ResetSent: a reset was appended.
	ResetSent

	// Unsendable: no frame can go out between the MACs given by the caller: one
	// of them is a group or zero, both are the same, or the MTU is below 68.
	Unsendable

	// Runt: too short for an Ethernet header and an IPv4 header.
	Runt
	// OtherEtherType: not IPv4, or with a VLAN tag.
	OtherEtherType
	// OwnMAC: sent from our own MAC: a loop, or somebody pretends to be us.
	OwnMAC
	// BadSourceMAC: sent from a group address or from zero.
	BadSourceMAC
	// BroadcastMAC: sent to every station, RFC 1122 §3.3.6.
	BroadcastMAC
	// BadIPHeader: another version, or lengths that cannot be.
	BadIPHeader
	// BadIPChecksum: of the IPv4 header.
	BadIPChecksum
	// BadIPOptions: an option that overruns the header or has a bad length.
	BadIPOptions
	// SourceRoute: a loose or strict source route.
	SourceRoute
	// MartianAddress: a source that no client can have, or a destination that
	// is no host's.
	MartianAddress
	// Fragment: a part of a datagram.
	Fragment
	// OtherProtocol: not ICMP where an echo request was expected, not TCP where
	// a segment was.
	OtherProtocol

	// BadICMP: shorter than an echo header.
	BadICMP
	// NotEchoRequest: another ICMP type.
	NotEchoRequest
	// BadICMPCode: an echo request with a code other than 0.
	BadICMPCode
	// BadICMPChecksum: of the ICMP message.
	BadICMPChecksum

	// BadTCPHeader: shorter than a TCP header, a data offset that cannot be, or
	// port 0.
	BadTCPHeader
	// BadTCPChecksum: of the segment, where nobody has vouched for it.
	BadTCPChecksum
	// AnswersReset: a reset, which is never answered with another.
	AnswersReset

	// OutcomeCount is the number of outcomes.
	OutcomeCount
)

// String is the outcome's name: lower case, words joined by hyphens.
func (o Outcome) String() string {
	switch o {
	case Unjudged:
		return "unjudged"
	case EchoAnswered:
		return "echo-answered"
	case ResetSent:
		return "reset-sent"
	case Unsendable:
		return "unsendable"
	case Runt:
		return "runt"
	case OtherEtherType:
		return "other-ether-type"
	case OwnMAC:
		return "own-mac"
	case BadSourceMAC:
		return "bad-source-mac"
	case BroadcastMAC:
		return "broadcast-mac"
	}
	return o.packetName()
}

// packetName names the outcomes of what is wrong inside the packet.
func (o Outcome) packetName() string {
	switch o {
	case BadIPHeader:
		return "bad-ip-header"
	case BadIPChecksum:
		return "bad-ip-checksum"
	case BadIPOptions:
		return "bad-ip-options"
	case SourceRoute:
		return "source-route"
	case MartianAddress:
		return "martian-address"
	case Fragment:
		return "fragment"
	case OtherProtocol:
		return "other-protocol"
	case BadICMP:
		return "bad-icmp"
	case NotEchoRequest:
		return "not-echo-request"
	case BadICMPCode:
		return "bad-icmp-code"
	case BadICMPChecksum:
		return "bad-icmp-checksum"
	case BadTCPHeader:
		return "bad-tcp-header"
	case BadTCPChecksum:
		return "bad-tcp-checksum"
	case AnswersReset:
		return "answers-reset"
	}
	return "unknown"
}
