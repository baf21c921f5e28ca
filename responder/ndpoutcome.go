package responder

// NDPOutcome is what was decided about a message of neighbour discovery, and why.
type NDPOutcome uint8

// Outcomes of NDP.Handle. Only NDPAnswered and NDPProbeAnswered carry a reply.
const (
	// NDPUndecided is never the outcome of a handled message.
	NDPUndecided NDPOutcome = iota

	// NDPAnswered: a solicitation for a VIP from an asker of ours.
	NDPAnswered
	// NDPProbeAnswered: duplicate address detection for a VIP, ours to answer:
	// somebody considers taking the address, and is told that it is in use.
	NDPProbeAnswered
	// NDPNotOurs: a solicitation for a VIP that another node answers.
	NDPNotOurs
	// NDPProbeNotOurs: duplicate address detection that another node answers.
	NDPProbeNotOurs
	// NDPStranger: somebody says that a VIP is at another MAC than its cluster MAC.
	NDPStranger
	// NDPOurs: somebody says that a VIP is at its cluster MAC: another node.
	NDPOurs
	// NDPOwnAddressClaim: somebody says that this node's own address is elsewhere.
	NDPOwnAddressClaim
	// NDPLearned: an advertisement to our own address. Neighbours.Answer decides
	// whether it was asked for.
	NDPLearned
	// NDPRouterMTU: the router tells the link's MTU.
	NDPRouterMTU
	// NDPStrangeRouter: a router advertisement of another than the LAN's router.
	NDPStrangeRouter
	// NDPRedirect: a redirect. Next hops are learned from clients' frames; none is
	// obeyed.
	NDPRedirect
	// NDPIgnored: nothing in it concerns us.
	NDPIgnored

	// NDPTruncated: shorter than its type is, or of no type of neighbour discovery.
	NDPTruncated
	// NDPBadHopLimit: it has passed a router.
	NDPBadHopLimit
	// NDPBadCode: not 0.
	NDPBadCode
	// NDPBadOptions: an option of no length or one that overruns, or with one that
	// has no place there.
	NDPBadOptions
	// NDPBadSource: sent from our own MAC, from a group, a cluster MAC, or zero.
	NDPBadSource
	// NDPBadAddress: with an address that cannot be where it is.
	NDPBadAddress
	// NDPBadMTU: the router's MTU is below 1,280 bytes or above the interface's.
	NDPBadMTU

	// NDPOutcomeCount is the number of outcomes.
	NDPOutcomeCount
)

// String is the outcome's name: lower case, words joined by hyphens.
func (o NDPOutcome) String() string {
	names := [NDPOutcomeCount]string{
		NDPUndecided: "undecided", NDPAnswered: "answered", NDPProbeAnswered: "probe-answered",
		NDPNotOurs: "not-ours", NDPProbeNotOurs: "probe-not-ours", NDPStranger: "stranger", NDPOurs: "ours",
		NDPOwnAddressClaim: "own-address-claim", NDPLearned: "learned", NDPRouterMTU: "router-mtu",
		NDPStrangeRouter: "strange-router", NDPRedirect: "redirect", NDPIgnored: "ignored",
		NDPTruncated: "truncated", NDPBadHopLimit: "bad-hop-limit", NDPBadCode: "bad-code",
		NDPBadOptions: "bad-options", NDPBadSource: "bad-source", NDPBadAddress: "bad-address", NDPBadMTU: "bad-mtu",
	}
	if o < NDPOutcomeCount {
		return names[o]
	}
	return "unknown"
}
