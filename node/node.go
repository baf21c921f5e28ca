package node

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"onevoice/admission"
	"onevoice/hashing"
	"onevoice/internal/flowstate"
	"onevoice/link"
	"onevoice/reassembly"
	"onevoice/responder"
)

// Service is a port of a VIP, or several that follow each other, as the gate needs it.
type Service struct {
	// Proto is TCP or UDP.
	Proto  uint8
	Listen netip.AddrPort
	// LastPort is the last port of several, 0 where there is only Listen's.
	LastPort uint16
	Affinity hashing.Affinity
	// Compatible is another system's hash, which counts instead of Affinity; nil is none.
	// All services of a VIP are to have the same.
	Compatible *hashing.Compatible
	// Pins are clients whose bucket is fixed, whatever they hash to.
	Pins []Pin
	// Direct: this host's own TCP or UDP serves it, and the kernel steers its frames by
	// SteerIn. Here they are nobody's.
	Direct bool
	// Admits is what the service admits of what is new, nil for all; OnDenied and
	// OnLimit are what becomes of the rest.
	Admits            *admission.Service
	OnDenied, OnLimit Refusal
}

// VIP is an address that the cluster answers for.
type VIP struct {
	responder.VIP
	// LAN is the prefix that the VIP belongs to.
	LAN netip.Prefix
}

// Config is what a node needs from its caller.
type Config struct {
	// Own and Address are this node's MAC and IPv4 address on the interface.
	Own     responder.MAC
	Address netip.Addr
	// Gateway is the LAN's router, the zero Addr when there is none.
	Gateway netip.Addr
	// Address6 and Gateway6 are the same for IPv6, each the zero Addr when there is
	// none.
	Address6, Gateway6 netip.Addr
	// Groups are joined, by IGMP from Address and by MLD from LinkLocal, which is ::
	// when there is none. IGMP is the version to speak, 0 for the newest that the
	// querier knows. Random chooses when to answer queries; nil where there are no
	// groups.
	Groups    []netip.Addr
	LinkLocal netip.Addr
	IGMP      int
	Random    *rand.Rand
	// ProbeGateway has the gateway pinged from a VIP, to see whether it believes where
	// that is.
	ProbeGateway bool
	// MTU6 is what the router has said that the LAN carries of IPv6, 0 where it has
	// said nothing.
	MTU6 int
	// MTU of the interface in bytes; no reply is longer.
	MTU      int
	VIPs     []VIP
	Services []Service
	Hasher   hashing.Hasher
	// ListKey is the key of FlowHash, the same on all nodes.
	ListKey hashing.Key
	// AdmissionKey is a secret of this node's own, see admission.New.
	AdmissionKey [16]byte
	// Flows is asked what netstack has and can take.
	Flows Flows
	// Cookies answers SYNs in Flows' place while those are answered with cookies; nil
	// for nobody.
	Cookies Cookies
	// Datagrams are the UDP flows, nil where no service is of UDP.
	Datagrams Datagrams
	// ControlPort is the UDP port of heartbeats, which are nobody's question. 0 for
	// none.
	ControlPort uint16
}

// Flows is the part of the TCP behind the gate that the gate asks: a
// stack.Stack, or a model of one.
type Flows interface {
	// State is where a flow stands.
	State(*hashing.Flow) flowstate.State
	// Forget removes a flow. What the TCP says about it all the same, MayLeave
	// keeps back.
	Forget(*hashing.Flow)
	// End ends an open flow with a reset.
	End(*hashing.Flow)
	// Full reports whether no further flow may begin, Crowded whether none of that
	// source.
	Full() bool
	Crowded(from netip.Addr) bool
	// Up reports whether the backend of a service took the last dial: that with so
	// many TCP services before it.
	Up(service int) bool
}

// Resets of ports without a service and of services without a backend are
// bounded in their rate: they answer packets whose source may be forged.
const (
	resetsPerSecond = 1000
	resetBurst      = 1000
	// Strays are the users of a node that died, who all deserve theirs soon.
	strayResetsPerSecond = 20_000
	strayResetBurst      = 20_000
)

// Node is the pipeline from frame to verdict. It belongs to one goroutine.
type Node struct {
	own                   responder.MAC
	address, address6     netip.Addr
	mtu                   int
	vips                  []VIP
	lans                  []subnet // by VIP
	services              []Service
	byListen              listens
	hasher                hashing.Hasher
	mappings, vipMappings []mapping
	// compatible are the first services with another system's hash, by VIP, or -1.
	compatible    []int
	flows         Flows
	answers       Cookies // nil for nobody
	datagrams     Datagrams
	places        []int // by service: how many of its protocol are before it
	controlPort   uint16
	fragments     *reassembly.Table
	arp           *responder.ARP
	ndp           *responder.NDP
	groups        []responder.MAC
	mtu6          int
	announcements announcements
	neighbours    *responder.Neighbours
	resets        *responder.Limit
	strays        *responder.Limit
	errors        *responder.Limit
	ownership     *Ownership
	leases        []lease // by VIP
	members       []*responder.Membership
	announcing    announcing
	doubts        doubts
	probe         gatewayProbe
	stopping      bool

	// rights and vipRights are the ownership's Accept with times; fresh: some of
	// them wait for settle.
	rights, vipRights []right
	fresh             bool
	asked             []askedSlot
	// last is the latest `now`.
	last time.Duration

	table table
	// admission is nil when no service has rules for what is new.
	admission *admission.Gate
	// cookies is when a service last sent a SYN cookie, cookiesOf when it did so
	// in a bucket. lost is when a half-open flow of the bucket was last lost.
	cookies         []time.Duration
	cookiesOf, lost [][hashing.Buckets]time.Duration
	listKey         [2]uint64
	lists           [][hashing.Buckets]*flowList
	kernel          kernelAnswers
	filter          Filter
	passing         []Bitmap
	retryBy         time.Duration

	// real belongs to the `now` of the present batch, stamp is that of the frame
	// being handled; see stale.
	real, stamp time.Duration
	// emptying: the queue of frames from before a gap is being emptied, and a
	// frame without a stamp may be one of them.
	emptying bool

	decoded Decoded
	// handled is of the present frame, if more: it has more than a verdict.
	handled  Handled
	more     bool
	datagram Datagram
	// identified is how many datagrams of this node have got an identification.
	identified uint64
	leaving    outgoing
	reply      []byte
	stranger   Stranger
	counts     [VerdictCount]uint64
}

// Stranger is somebody who claims, in ARP or neighbour discovery, a VIP or this
// node's own address.
type Stranger struct {
	Address netip.Addr
	// MAC is what it claims the address is at, and From the MAC that it sent
	// from, which switches know.
	MAC, From responder.MAC
	At        time.Duration
}

// New makes a node that owns nothing yet.
func New(cfg Config) (*Node, error) {
	if len(cfg.VIPs) == 0 {
		return nil, errors.New("node: no VIP")
	}
	gate := newAdmission(&cfg)
	services := slices.Clone(cfg.Services)
	for i := range services {
		services[i].Pins = longestFirst(services[i].Pins)
	}
	n := &Node{
		admission: gate,
		own:       cfg.Own,
		address:   cfg.Address,
		address6:  cfg.Address6,
		mtu:       cfg.MTU,
		mtu6:      cmp.Or(cfg.MTU6, cfg.MTU),
		groups:    groups6(cfg.VIPs),

		announcements: newAnnouncements(cfg.VIPs),

		vips:        cfg.VIPs,
		services:    services,
		hasher:      cfg.Hasher,
		mappings:    make([]mapping, len(cfg.Services)),
		vipMappings: make([]mapping, len(cfg.VIPs)),
		flows:       cfg.Flows,
		answers:     cfg.Cookies,
		datagrams:   cfg.Datagrams,
		places:      placesOf(cfg.Services),
		controlPort: cfg.ControlPort,
		fragments:   reassembly.New(reassembly.Bounds{}),
		resets:      responder.NewLimit(resetsPerSecond, resetBurst),
		strays:      responder.NewLimit(strayResetsPerSecond, strayResetBurst),
		errors:      responder.NewLimit(errorsPerSecond, errorBurst),
		leases:      make([]lease, len(cfg.VIPs)),
		ownership:   &Ownership{VIPs: make([]Rows, len(cfg.VIPs)), Services: make([]Rows, len(cfg.Services))},
		rights:      make([]right, len(cfg.Services)),
		vipRights:   make([]right, len(cfg.VIPs)),
		table:       newTable(len(cfg.Services), gate),
		cookies:     make([]time.Duration, len(cfg.Services)),
		cookiesOf:   make([][hashing.Buckets]time.Duration, len(cfg.Services)),
		lost:        make([][hashing.Buckets]time.Duration, len(cfg.Services)),
		listKey:     [2]uint64{binary.LittleEndian.Uint64(cfg.ListKey[:8]), binary.LittleEndian.Uint64(cfg.ListKey[8:])},
		lists:       make([][hashing.Buckets]*flowList, len(cfg.Services)),
	}
	for i := range n.vipMappings {
		n.leases[i].seen = never
		n.vipMappings[i].hasher, n.vipRights[i].lease = cfg.Hasher, &n.leases[i]
		n.lans = append(n.lans, subnetOf(cfg.VIPs[i].LAN))
	}
	for i := range cfg.Services {
		n.mappings[i].hasher = cfg.Hasher
		n.cookies[i] = never
		for b := range hashing.Buckets {
			n.cookiesOf[i][b], n.lost[i][b] = never, never
		}
	}
	vips := make([]responder.VIP, len(cfg.VIPs))
	for i, v := range cfg.VIPs {
		vips[i] = v.VIP
	}
	var err error
	if n.byListen, err = newListens(cfg.VIPs, cfg.Services); err != nil {
		return nil, err
	}
	if n.compatible, err = compatibleOf(cfg.VIPs, cfg.Services); err != nil {
		return nil, err
	}
	if n.arp, err = responder.NewARP(cfg.Own, cfg.Address, vips); err != nil {
		return nil, err
	}
	if n.ndp, err = responder.NewNDP(cfg.Own, cfg.Address6, cfg.Gateway6, cfg.MTU, vips); err != nil {
		return nil, err
	}
	if n.neighbours, err = newNeighbours(&cfg, vips); err != nil {
		return nil, err
	}
	for i, s := range cfg.Services {
		n.rights[i].lease = &n.leases[n.vip(s.Listen.Addr())]
	}
	n.probe = newGatewayProbe(&cfg)
	return n, n.join(&cfg)
}

// newNeighbours knows the LANs of the VIPs. Where none is of IPv4, nobody there is a
// neighbour.
func newNeighbours(cfg *Config, vips []responder.VIP) (*responder.Neighbours, error) {
	lan, lans6 := netip.PrefixFrom(cfg.Address, 32), []netip.Prefix(nil)
	for i := len(cfg.VIPs) - 1; i >= 0; i-- {
		if v := &cfg.VIPs[i]; v.Addr.Is4() {
			lan = v.LAN
		} else {
			lans6 = append(lans6, v.LAN)
		}
	}
	n, err := responder.NewNeighbours(cfg.Own, cfg.Address, lan, cfg.Gateway, vips, responder.MaxNeighbours)
	if err == nil && lans6 != nil && cfg.Address6.IsValid() {
		err = n.SetIPv6(cfg.Address6, lans6, cfg.Gateway6)
	}
	return n, err
}

// SetOwnership puts another ownership in force from the next frame on, and its
// lease with it, for all VIPs.
func (n *Node) SetOwnership(o *Ownership) error {
	if len(o.VIPs) != len(n.vips) || len(o.Services) != len(n.services) {
		return fmt.Errorf("node: ownership of %d VIPs and %d services given to a node with %d and %d",
			len(o.VIPs), len(o.Services), len(n.vips), len(n.services))
	}
	n.AnswerAlone()
	n.remap(o)
	for i := range o.VIPs {
		n.vipRights[i].set(&o.VIPs[i].Accept)
	}
	for i := range o.Services {
		n.rights[i].set(&o.Services[i].Accept)
		n.forgetLists(i)
	}
	n.fresh, n.announcements.look = true, true
	n.ownership = o
	for i := range n.leases {
		n.SetLease(i, o.LeaseBegin, o.LeaseEnd)
	}
	n.refilter()
	return nil
}

// Handled is what became of a frame.
type Handled struct {
	Verdict Verdict
	// Packet is the IP packet to deliver to netstack, nil when there is none.
	// It points into the frame.
	Packet []byte
	// Reply is a frame to send, nil when there is none. It is valid until the
	// next frame is handled. Rest are those that follow it.
	Reply []byte
	Rest  [][]byte
	// Datagram is one to deliver to the UDP flows, nil when there is none. It is
	// valid until the next frame is handled.
	Datagram *Datagram
	// vip is under whose lease the reply may leave.
	vip int
}

// Handle decides about one frame and counts the verdict. It allocates nothing
// for a frame that is another node's.
func (n *Node) Handle(now time.Duration, f *link.Frame) (h Handled) {
	v := n.handle(now, f)
	n.counts[v]++
	if n.more {
		h, n.more = n.handled, false
	}
	h.Verdict = v
	return h
}

// also notes what became of the frame besides the verdict, which it returns. The
// gate's functions return nothing but verdicts: what most frames do not have would
// else be copied from each to its caller, a third of what a foreign frame costs.
func (n *Node) also(h Handled) Verdict {
	n.handled, n.more = h, true
	return h.Verdict
}

func (n *Node) handle(now time.Duration, f *link.Frame) Verdict {
	n.settle(now)
	d := &n.decoded
	n.stamp = f.Stamp
	if len(n.members) > 0 && !f.Tagged && responder.IsMembership(f.Data) {
		return n.handleMembership(now, f.Data)
	}
	v := d.Decode(f)
	if v != Undecided && v != Fragment {
		return n.sender(v)
	}
	if v := n.addressed(); v != Undecided {
		return v
	}
	if v == Fragment {
		return n.handleFragment(now, f)
	}
	return n.handleWhole(now, f)
}

// handleWhole judges what is no fragment, or no more.
func (n *Node) handleWhole(now time.Duration, f *link.Frame) Verdict {
	d := &n.decoded
	d.segmentBytes = 0
	if f.Offload.Segmentation == link.SegmentationUDPL4 {
		d.segmentBytes = int(f.Offload.SegmentBytes)
	}
	if d.EtherType == etherTypeARP {
		return n.handleARP(now, f.Data)
	}
	if d.EtherType == etherTypeIPv6 {
		return n.handleIPv6(now, f.Data)
	}
	return n.handleIPv4(now, f.Data)
}

// sender refines the verdict on a bad frame: one from our own MAC is a loop,
// whatever else is wrong with it.
func (n *Node) sender(v Verdict) Verdict {
	if v != Runt && n.decoded.From == n.own {
		return OwnMAC
	}
	return v
}

// addressed judges the Ethernet addresses.
func (n *Node) addressed() Verdict {
	d := &n.decoded
	switch {
	case d.From == n.own:
		return OwnMAC
	case d.From.IsGroup() || n.isCluster(d.From):
		return ClusterMACSource
	case d.To == n.own || n.isCluster(d.To):
		return Undecided
	case d.EtherType == etherTypeARP && d.To == responder.Broadcast():
		return Undecided
	case d.EtherType == etherTypeIPv6 && slices.Contains(n.groups, d.To):
		return Undecided
	}
	// An IPv4 packet for one host in a broadcast frame is dropped, RFC 1122
	// §3.3.6.
	return OtherMAC
}

func (n *Node) isCluster(m responder.MAC) bool {
	for i := range n.vips {
		if n.vips[i].MAC == m {
			return true
		}
	}
	return false
}

// vip is the index of a VIP, -1 when the address is none.
func (n *Node) vip(a netip.Addr) int {
	for i := range n.vips {
		if n.vips[i].Addr == a {
			return i
		}
	}
	return -1
}

// answersFor reports whether this node answers an asker for a VIP: the owner
// of the asker's bucket in the VIP's own table, under a valid lease.
func (n *Node) answersFor(now time.Duration, vip int, asker netip.Addr) Verdict {
	bucket := n.vipMappings[vip].hasher.Bucket(hashing.SourceIP, &hashing.Flow{Src: asker})
	return n.mayAccept(now, &n.vipRights[vip], bucket)
}

// mayAccept is the rule for everything new: Undecided when this node may take
// it (OWNERSHIP.md R12).
func (n *Node) mayAccept(now time.Duration, r *right, bucket uint8) Verdict {
	switch {
	case !r.accept.Has(bucket):
		return NotOwner
	case !r.lease.covers(now):
		return NoLease
	case n.stopping:
		return Stopping
	case n.stale(now, r.lease, r.since[bucket]):
		return Stale
	}
	return Undecided
}

// Counts are how many frames met each verdict.
func (n *Node) Counts() [VerdictCount]uint64 { return n.counts }

// Unsent is how often a client has acknowledged what this node has never sent, in
// a bucket that was this node's: somebody forges, or another node answers for the
// bucket too (OWNERSHIP.md R22).
func (n *Node) Unsent() uint64 { return n.counts[DeliverUnsent] + n.counts[UnsentACK] }

// Neighbours is what is known of where clients are.
func (n *Node) Neighbours() responder.NeighbourCounters { return n.neighbours.Counters() }

// LastStranger is who last claimed an address of ours; the zero value when nobody did.
func (n *Node) LastStranger() Stranger { return n.stranger }
