package node

// Verdict is what was decided about a frame, and why.
type Verdict uint8

// Verdicts. The first group lets a frame in, the second answers or notes it
// here, the rest drop it.
const (
	// Undecided is never the verdict of a handled frame.
	Undecided Verdict = iota

	// DeliverSYN: opens a connection in a bucket that this node owns.
	DeliverSYN
	// DeliverHeld: belongs to a flow that netstack has.
	DeliverHeld
	// DeliverUnsent: the same, but acknowledges what this node has never sent. The
	// TCP answers that by itself (RFC 9293 §3.10.7.4).
	DeliverUnsent
	// DeliverStray: belongs to no flow that netstack has, while SYN cookies of
	// ours may come back: it completes one, or earns a reset, which is judged on
	// its way out.
	DeliverStray
	// DeliverError: an ICMP error that quotes a flow that netstack has.
	DeliverError
	// DeliverDatagram: of a UDP service, in a bucket that this node owns.
	DeliverDatagram

	// AnsweredSYN: opens a connection in a bucket of ours, while netstack has as many
	// half-open flows as it may have: answered here with netstack's SYN cookie.
	AnsweredSYN
	// AnsweredARP: an ARP request for a VIP from an asker of ours.
	AnsweredARP
	// AnsweredNDP: a neighbour solicitation for a VIP from an asker of ours.
	AnsweredNDP
	// AnsweredEcho: an echo request from an asker of ours.
	AnsweredEcho
	// RefusedSYN: a SYN for a service whose backend is down, reset here.
	RefusedSYN
	// Denied: from a client that may begin nothing with the service. This and the
	// next three are answered as the service wants it, or not at all.
	Denied
	// RateLimited: from a source that has begun too much lately.
	RateLimited
	// SourceLimited: from a source that has as many flows as it may have.
	SourceLimited
	// ServiceLimited: of a service that has as many flows as it may have here.
	ServiceLimited
	// ClosedPort: a segment for a port of the VIP without a service, reset here.
	ClosedPort
	// StrayAnswered: a segment of a flow that nobody holds, in a bucket of ours,
	// reset here.
	StrayAnswered
	// ResetLimited: a reset was owed and held back by the rate limit.
	ResetLimited
	// StrayReset: a reset, or another segment that earns no answer, for a port
	// or service that would have been reset.
	StrayReset
	// PortUnreachable: a UDP datagram for a port of the VIP without a service,
	// answered here with an ICMP error.
	PortUnreachable
	// ErrorLimited: an ICMP error was owed and held back by the rate limit.
	ErrorLimited
	// NotedError: an ICMP error that quotes an answer of a UDP flow of this node.
	NotedError
	// FragmentHeld: a part of a datagram of which others lack.
	FragmentHeld
	// LearnedNeighbour: an answer to an ARP request, or to a neighbour solicitation,
	// of ours.
	LearnedNeighbour
	// OtherARP: ARP that does not concern us, or another node of the cluster.
	OtherARP
	// OtherNDP: neighbour discovery that does not concern us, or another node of the
	// cluster.
	OtherNDP
	// LearnedMTU: the router says what the LAN's MTU for IPv6 is.
	LearnedMTU
	// StrangeRouter: a router advertisement of another than the LAN's router, or a
	// redirect. Neither is believed.
	StrangeRouter
	// StrangerClaim: somebody says in ARP or neighbour discovery that a VIP, or our
	// own address, is at a MAC of theirs.
	StrangerClaim

	// MembershipQuery: asks for the groups that this node has joined.
	MembershipQuery
	// OtherMembership: IGMP or MLD that asks this node for nothing.
	OtherMembership

	// NotOwner: another node answers this one.
	NotOwner
	// ForgotFlow: a SYN for another node's bucket; what we had of its tuple,
	// half-open or closed, was forgotten in silence.
	ForgotFlow
	// NoLease: the bucket is ours, but the right to answer has run out.
	NoLease
	// Stale: came in before this node had the right to answer it, or with a stamp
	// from the future.
	Stale
	// Stopping: this node accepts nothing new any more.
	Stopping
	// SecondSYN: a SYN with another sequence number into a half-open flow.
	SecondSYN
	// BadHandshakeACK: a segment into a half-open flow that does not complete its
	// handshake.
	BadHandshakeACK
	// UnsentACK: into a half-open flow; it acknowledges a SYN-ACK that this node has
	// never sent, where its own is to be acknowledged.
	UnsentACK
	// OutsideWindows: belongs to the tuple of a flow that we hold in another
	// node's bucket, and cannot be that flow's.
	OutsideWindows
	// Unstamped: belongs to a flow that agreed on time stamps, and has none (RFC 7323
	// §3.2).
	Unstamped
	// StrayInGrace: belongs to no flow of ours, in a bucket of ours whose flows a
	// node may hold that is not known to be dead.
	StrayInGrace
	// StrayShared: belongs to no flow of ours, in a bucket of ours whose flows a
	// drainer may hold; or goes to a port that has no service here, and may have one
	// elsewhere.
	StrayShared
	// StrayListed: belongs to a flow that is on a drainer's list.
	StrayListed
	// FlowsFull: the bound on flows is reached.
	FlowsFull
	// SourceFull: the bound on the flows of one source is reached.
	SourceFull
	// HostServes: of a service of the direct path. The kernel has steered it to this
	// host's own stack, or dropped it there.
	HostServes
	// OtherAddress: for an address that is not a VIP.
	OtherAddress
	// NoService: a protocol that nothing here takes, or a heartbeat.
	NoService
	// OtherICMP: an ICMP message that asks for nothing.
	OtherICMP
	// UnknownQuote: an ICMP error about a flow that this node does not have.
	UnknownQuote

	// LateSYNACK: netstack wanted to send a SYN-ACK for a bucket that is not, or
	// no longer, this node's to answer.
	LateSYNACK
	// UnearnedReset: netstack wanted to reset a flow that is not known to have
	// been this node's, and that others may hold.
	UnearnedReset
	// EarlyACK: netstack wanted to say something in a flow whose handshake is not
	// complete: its answer to a SYN that was sent again, which no SYN-ACK may have
	// gone before.
	EarlyACK
	// Muted: netstack wanted to say something about a flow that was forgotten.
	Muted

	// Runt: too short for the header it must have.
	Runt
	// OwnMAC: sent from our own MAC: a loop, or somebody pretends to be us.
	OwnMAC
	// ClusterMACSource: sent from a group or cluster MAC, which is never a source.
	ClusterMACSource
	// OtherMAC: for a MAC that is not ours, or IPv4 for a VIP by broadcast.
	OtherMAC
	// VLANTag: carries another VLAN tag than what is served here, or one where none
	// is, or none where one is.
	VLANTag
	// OtherEtherType: neither IPv4 nor ARP nor IPv6.
	OtherEtherType
	// BadARP: malformed, or with addresses nobody can have.
	BadARP
	// BadNDP: malformed, or with addresses or an MTU that cannot be.
	BadNDP
	// BadHopLimit: neighbour discovery that has passed a router.
	BadHopLimit
	// BadIPVersion: an EtherType of IPv4 or IPv6 and another version.
	BadIPVersion
	// BadIPHeaderLength: shorter than 20 bytes or longer than the packet.
	BadIPHeaderLength
	// BadIPLength: total length below the header's or beyond the frame; of IPv6 also
	// a payload of 0 bytes, as a jumbogram has.
	BadIPLength
	// BadIPChecksum: of the IPv4 header.
	BadIPChecksum
	// BadIPOptions: an option that overruns the header or has a bad length.
	BadIPOptions
	// SourceRoute: a loose or strict source route.
	SourceRoute
	// RoutingHeader: an IPv6 routing header of type 0, or with segments left.
	RoutingHeader
	// BadExtension: an IPv6 extension header that overruns, hop-by-hop options that
	// are not the first, or an option that must be known and is not.
	BadExtension
	// ExtensionsFull: more IPv6 extension headers than are walked.
	ExtensionsFull
	// MartianSource: a source address that no client can have.
	MartianSource
	// Fragment: a part of a datagram, whose others are not waited for: it is too
	// short to tell the transport's ports and flags, or no part of any datagram.
	Fragment
	// FragmentDuplicate: was there before.
	FragmentDuplicate
	// FragmentOverlap: of a datagram whose fragments overlap, or contradict each
	// other about its end. Nothing of it is taken.
	FragmentOverlap
	// FragmentsFull: of a datagram in too many pieces; and, once for each, datagrams
	// that were given up to make room.
	FragmentsFull
	// FragmentTimeout: counts datagrams whose last fragment did not come in time.
	FragmentTimeout
	// BadTCPOffset: a data offset below 20 bytes or beyond the segment.
	BadTCPOffset
	// BadTCPOptions: an option that overruns the header or has a bad length.
	BadTCPOptions
	// BadTCPFlags: SYN with FIN or RST, no flags at all, or FIN without ACK.
	BadTCPFlags
	// BadTCPPort: port 0.
	BadTCPPort
	// BadTCPChecksum: of the segment, where the kernel has not vouched for it.
	BadTCPChecksum
	// BadUDP: a UDP length or checksum that cannot be.
	BadUDP
	// BadICMP: truncated, with a wrong checksum, or about a path that carries less
	// than every path does.
	BadICMP
	// MembershipLimited: a query for groups, too soon after others to be answered.
	MembershipLimited
	// BadMembership: malformed IGMP or MLD, or from where no querier is.
	BadMembership
	// BadOffload: the kernel's header does not fit the frame.
	BadOffload

	// VerdictCount is the number of verdicts.
	VerdictCount
)

// String is the verdict's name in counters, logs and explain: lower case, words
// joined by hyphens.
func (v Verdict) String() string {
	names := [VerdictCount]string{
		DeliverDatagram:   "deliver-datagram",
		PortUnreachable:   "port-unreachable",
		ErrorLimited:      "error-limited",
		NotedError:        "noted-error",
		FragmentHeld:      "fragment-held",
		SourceFull:        "source-full",
		FragmentDuplicate: "fragment-duplicate",
		FragmentOverlap:   "fragment-overlap",
		FragmentsFull:     "fragments-full",
		FragmentTimeout:   "fragment-timeout",
		Undecided:         "undecided",
		DeliverSYN:        "deliver-syn",
		DeliverHeld:       "deliver-held",
		DeliverUnsent:     "deliver-unsent",
		DeliverStray:      "deliver-stray",
		DeliverError:      "deliver-error",
		AnsweredSYN:       "answered-syn",
		AnsweredARP:       "answered-arp",
		AnsweredNDP:       "answered-ndp",
		AnsweredEcho:      "answered-echo",
		RefusedSYN:        "refused-syn",
		Denied:            "denied",
		RateLimited:       "rate-limited",
		SourceLimited:     "source-limited",
		ServiceLimited:    "service-limited",
		ClosedPort:        "closed-port",
		StrayAnswered:     "stray-answered",
		ResetLimited:      "reset-limited",
		StrayReset:        "stray-reset",
		LearnedNeighbour:  "learned-neighbour",
		OtherARP:          "other-arp",
		OtherNDP:          "other-ndp",
		LearnedMTU:        "learned-mtu",
		StrangeRouter:     "strange-router",
		StrangerClaim:     "stranger-claim",
		MembershipQuery:   "membership-query",
		OtherMembership:   "other-membership",
		NotOwner:          "not-owner",
		ForgotFlow:        "forgot-flow",
		NoLease:           "no-lease",
		Stale:             "stale",
		Stopping:          "stopping",
		SecondSYN:         "second-syn",
		BadHandshakeACK:   "bad-handshake-ack",
		UnsentACK:         "unsent-ack",
		OutsideWindows:    "outside-windows",
		Unstamped:         "unstamped",
		StrayInGrace:      "stray-in-grace",
		StrayShared:       "stray-shared",
		StrayListed:       "stray-listed",
		FlowsFull:         "flows-full",
		HostServes:        "host-serves",
		OtherAddress:      "other-address",
		NoService:         "no-service",
		OtherICMP:         "other-icmp",
		UnknownQuote:      "unknown-quote",
		LateSYNACK:        "late-syn-ack",
		EarlyACK:          "early-ack",
		UnearnedReset:     "unearned-reset",
		Muted:             "muted",
		Runt:              "runt",
		OwnMAC:            "own-mac",
		ClusterMACSource:  "cluster-mac-source",
		OtherMAC:          "other-mac",
		VLANTag:           "vlan-tag",
		OtherEtherType:    "other-ether-type",
		BadARP:            "bad-arp",
		BadNDP:            "bad-ndp",
		BadHopLimit:       "bad-hop-limit",
		BadIPVersion:      "bad-ip-version",
		BadIPHeaderLength: "bad-ip-header-length",
		BadIPLength:       "bad-ip-length",
		BadIPChecksum:     "bad-ip-checksum",
		BadIPOptions:      "bad-ip-options",
		SourceRoute:       "source-route",
		RoutingHeader:     "routing-header",
		BadExtension:      "bad-extension",
		ExtensionsFull:    "extensions-full",
		MartianSource:     "martian-source",
		Fragment:          "fragment",
		BadTCPOffset:      "bad-tcp-offset",
		BadTCPOptions:     "bad-tcp-options",
		BadTCPFlags:       "bad-tcp-flags",
		BadTCPPort:        "bad-tcp-port",
		BadTCPChecksum:    "bad-tcp-checksum",
		BadUDP:            "bad-udp",
		BadICMP:           "bad-icmp",
		MembershipLimited: "membership-limited",
		BadMembership:     "bad-membership",
		BadOffload:        "bad-offload",
	}
	if v < VerdictCount {
		return names[v]
	}
	return "unknown"
}
