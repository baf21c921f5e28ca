package lab

import (
	"container/list"
	"fmt"
	"net/netip"
	"time"

	"onevoice/responder"
)

// Judge looks at every frame that the hosts of a LAN send and checks what must
// hold of a cluster, as far as frames show it. It is a pure state machine: no
// socket, no clock, no goroutine. It belongs to one goroutine.
//
// The order of the frames is that of their causes: a question is fed before its
// answer. It shares no code with the daemon's frame path, or one mistake would
// be made twice and never found.
type Judge struct {
	addresses []JudgedAddress
	serving   map[netip.AddrPort]bool

	flows      map[flowKey]*judgedFlow
	flowsByUse *list.List
	asks       map[askKey]*judgedAsk
	asksByUse  *list.List
	asked      map[askerKey]*Asked

	fates map[string]fate
	// beats are when nodes sent their last heartbeats.
	beats map[string]time.Duration
	// moving: owners may change. Else they have not changed since settled.
	moving  bool
	settled time.Duration

	at       time.Duration
	counts   JudgeCounts
	nodes    map[string]*NodeCounts
	breaches []Breach
	byRule   map[Rule]int
}

// JudgedAddress is a VIP and the only MAC that it may be claimed with.
type JudgedAddress struct {
	Addr netip.Addr
	MAC  responder.MAC
}

// Bounds of a judge. What is pushed out by a bound is counted as forgotten, for
// a rule cannot be checked against what is not known any more.
const (
	// MaxJudgedFlows is how many flows are remembered at a time: 400 new ones a
	// second, each for flowMemory, and a flood; at most 128 MiB.
	MaxJudgedFlows = 131072
	// MaxJudgedAsks is how many ARP and echo questions are remembered.
	MaxJudgedAsks = 8192
	// MaxJudgedAskers is how many askers are counted one by one.
	MaxJudgedAskers = 4096
	// MaxBreaches is how many breaches are kept with their frames; further ones
	// are only counted.
	MaxBreaches = 1000
	// strayMemory is how many segments of a client in a flow, and questions of
	// an asker, are remembered as reasons for an answer.
	strayMemory = 8
)

// How long something is remembered after its last frame.
const (
	// flowMemory outlasts TIME-WAIT (60 s), in which late segments still come.
	// Flows that are established are remembered until they end.
	flowMemory = 2 * time.Minute
	// askMemory is how late an answer to an ARP or echo request may come.
	askMemory = 10 * time.Second
)

// JudgeCounts are what a judge has seen.
type JudgeCounts struct {
	Frames       uint64 `json:"frames"`
	Bytes        uint64 `json:"bytes"`
	SYNs         uint64 `json:"syns"`
	RepeatedSYNs uint64 `json:"repeated_syns"`
	// AnsweredSYNs are those of SYNs that were accepted or refused.
	AnsweredSYNs uint64 `json:"answered_syns"`
	// UnsettledSYNs are those that came while owners changed; of them some may
	// be answered by nobody.
	UnsettledSYNs         uint64 `json:"unsettled_syns"`
	AnsweredUnsettledSYNs uint64 `json:"answered_unsettled_syns"`
	Handshakes            uint64 `json:"handshakes"`
	ARPRequests           uint64 `json:"arp_requests"`
	EchoRequests          uint64 `json:"echo_requests"`
	// Malformed frames of hosts that are no nodes ask for nothing.
	Malformed uint64 `json:"malformed"`
	// Fragments are not judged.
	Fragments uint64 `json:"fragments"`
	// Unchecked segments were cut by the capture, so that their checksum could
	// not be computed.
	Unchecked uint64 `json:"unchecked"`
	// Adopted flows were running already when the judge first saw them.
	Adopted uint64 `json:"adopted"`
	// Forgotten flows, questions and askers were pushed out by a bound.
	Forgotten uint64 `json:"forgotten"`
}

// NodeCounts are what one node has sent in the name of the cluster.
type NodeCounts struct {
	Frames      uint64 `json:"frames"`
	Bytes       uint64 `json:"bytes"`
	SYNACKs     uint64 `json:"syn_acks"`
	Flows       uint64 `json:"flows"`
	Resets      uint64 `json:"resets"`
	ARPReplies  uint64 `json:"arp_replies"`
	EchoReplies uint64 `json:"echo_replies"`
	// Heartbeats are the cluster's own, to a VIP and a cluster MAC, and
	// HeartbeatGap is the longest time between two of them.
	Heartbeats   uint64        `json:"heartbeats"`
	HeartbeatGap time.Duration `json:"heartbeat_gap_ns"`
	// Control are datagrams from node to node.
	Control uint64 `json:"control"`
}

// NewJudge makes a judge for these VIPs. services are the ports of VIPs that
// accept connections; a SYN to one of them may not be answered by a reset.
func NewJudge(addresses []JudgedAddress, services []netip.AddrPort) *Judge {
	j := &Judge{
		addresses:  addresses,
		serving:    map[netip.AddrPort]bool{},
		flows:      map[flowKey]*judgedFlow{},
		flowsByUse: list.New(),
		asks:       map[askKey]*judgedAsk{},
		asksByUse:  list.New(),
		asked:      map[askerKey]*Asked{},
		fates:      map[string]fate{},
		beats:      map[string]time.Duration{},
		nodes:      map[string]*NodeCounts{},
		byRule:     map[Rule]int{},
	}
	for _, s := range services {
		j.serving[s] = true
	}
	return j
}

// Serving tells the judge that a service has begun or ceased to have a backend
// that accepts. While it has none, a SYN to it earns a reset.
func (j *Judge) Serving(service netip.AddrPort, yes bool) { j.serving[service] = yes }

// Sender is the host whose port of the LAN a frame came in by.
type Sender struct {
	Host string
	Node bool
}

// Capture is a frame as the sniffer has it.
type Capture struct {
	// Data is the frame from the Ethernet header on; it may be cut.
	Data []byte
	// Bytes is its whole length.
	Bytes int
	// Vouched: the transport checksum is not computed yet, or was checked by
	// the kernel (virtio-net header).
	Vouched bool
	// Tagged: the kernel has taken a VLAN tag out of the frame.
	Tagged bool
}

// Frame judges one frame. now may not go back.
func (j *Judge) Frame(now time.Duration, from Sender, c *Capture) {
	j.at = max(j.at, now)
	j.counts.Frames++
	j.counts.Bytes += uint64(c.Bytes)
	if from.Node {
		n := j.node(from.Host)
		n.Frames++
		n.Bytes += uint64(c.Bytes)
	}
	p := packet{Sight: Sight{At: j.at, Host: from.Host}, from: from}
	fault := p.read(c)
	j.judgeSource(&p, c)
	switch {
	case fault == faultFragment:
		j.counts.Fragments++
	case fault == faultUnchecked:
		j.counts.Unchecked++
		j.dispatch(&p)
	case fault != "" && from.Node:
		j.breach(RuleMalformed, fmt.Sprintf("%s sent a frame that is wrong in this: %s", from.Host, fault), p.Sight)
	case fault != "":
		// It asks for nothing, so that an answer to it is one without a question.
		j.counts.Malformed++
	default:
		j.dispatch(&p)
	}
	j.expire()
}

// judgeSource checks the Ethernet source, which the frames of all hosts have.
func (j *Judge) judgeSource(p *packet, c *Capture) {
	if len(c.Data) < ethernetBytes {
		return
	}
	if j.clusterMAC(p.from48) {
		j.breach(RuleClusterSource, fmt.Sprintf("%s sent a frame from the cluster MAC %s", p.Host, p.from48), p.Sight)
	} else if p.from48.IsGroup() {
		j.breach(RuleGroupSource, fmt.Sprintf("%s sent a frame from the group MAC %s", p.Host, p.from48), p.Sight)
	}
}

func (j *Judge) dispatch(p *packet) {
	switch p.Kind {
	case SightARPRequest, SightARPReply:
		j.judgeARP(p)
	case SightEchoRequest:
		if j.isVIP(p.Dst.Addr()) && !j.isVIP(p.Src.Addr()) {
			j.counts.EchoRequests++
			j.ask(askKey{kind: p.Kind, asker: p.Src.Addr(), vip: p.Dst.Addr(), id: p.Seq}, p)
		}
	case SightEchoReply:
		if j.speaks(p) {
			j.node(p.Host).EchoReplies++
			j.answer(askKey{kind: SightEchoRequest, asker: p.Dst.Addr(), vip: p.Src.Addr(), id: p.Seq}, p)
		}
	case SightTCP:
		j.judgeTCP(p)
	case SightUDP:
		j.noteUDP(p)
	}
}

// controlPort is the UDP port on which nodes talk to each other.
const controlPort = 7177

// noteUDP counts the cluster's own datagrams. They ask a node for nothing.
func (j *Judge) noteUDP(p *packet) {
	n := j.nodes[p.Host]
	switch {
	case !p.from.Node || j.isVIP(p.Src.Addr()):
	case j.isVIP(p.Dst.Addr()) && j.clusterMAC(p.to48):
		if n.Heartbeats++; n.Heartbeats > 1 {
			n.HeartbeatGap = max(n.HeartbeatGap, j.at-j.beats[p.Host])
		}
		j.beats[p.Host] = j.at
	case p.Src.port == controlPort || p.Dst.port == controlPort:
		n.Control++
	}
}

// speaks reports whether a packet comes from a VIP and from a node. One from
// elsewhere is a breach.
func (j *Judge) speaks(p *packet) bool {
	if !j.isVIP(p.Src.Addr()) {
		return false
	}
	if !p.from.Node {
		j.breach(RuleImpostor, fmt.Sprintf("%s, which is no node, sent a packet from %s", p.Host, p.Src.Addr()), p.Sight)
		return false
	}
	return true
}

func (j *Judge) isVIP(a netip.Addr) bool {
	for i := range j.addresses {
		if j.addresses[i].Addr == a {
			return true
		}
	}
	return false
}

func (j *Judge) clusterMAC(m responder.MAC) bool {
	for i := range j.addresses {
		if j.addresses[i].MAC == m {
			return true
		}
	}
	return false
}

func (j *Judge) node(name string) *NodeCounts {
	n := j.nodes[name]
	if n == nil {
		n = &NodeCounts{}
		j.nodes[name] = n
	}
	return n
}

// expire forgets what is old, a little with every frame.
func (j *Judge) expire() {
	for range 2 {
		e := j.flowsByUse.Front()
		if e == nil {
			break
		}
		f := e.Value.(*judgedFlow)
		if j.at-f.used < flowMemory {
			break
		}
		if f.living() {
			// Its turn comes again; only the bound forgets it.
			j.flowsByUse.MoveToBack(e)
			continue
		}
		j.forgetFlow(e)
	}
	for range 2 {
		e := j.asksByUse.Front()
		if e == nil || j.at-e.Value.(*judgedAsk).used < askMemory {
			break
		}
		j.forgetAsk(e)
	}
}
