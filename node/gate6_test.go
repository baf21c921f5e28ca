package node

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
	"onevoice/link"
	"onevoice/responder"
)

// Exactly one of the nodes of a table takes an IPv6 client's SYN, and answers its
// solicitation, its duplicate address detection, its ping and its closed port.
func TestEveryIPv6AskerHasExactlyOneAnswer(t *testing.T) {
	const nodes = 4
	var shares []hashing.Share
	for id := range nodes {
		shares = append(shares, hashing.Share{Node: hashing.NodeID(id + 1), Weight: 100})
	}
	table, err := hashing.First(shares)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]*Node, nodes)
	for i := range all {
		all[i], _ = newNode6(t)
		own6(t, all[i], OwnedBy(&table, hashing.NodeID(i+1)))
	}
	probe := neighbour(t, netip.IPv6Unspecified(), responder.SolicitedNode(vip6Addr), &ndp.NeighborSolicitation{TargetAddress: vip6Addr})
	answered := make([]int, nodes)
	for host := range 100 {
		a := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 9: byte(host), 15: byte(20 + host)})
		for kind, f := range map[string]*link.Frame{
			"SYN":          frame6(tcp6(a, 40000, 22, flagSYN, nil)),
			"solicitation": frame6(solicitation(t, a)),
			"probe":        frame6(probe),
			"echo":         frame6(icmp6(a, icmp6Echo, []byte("ping"))),
			"port":         frame6(tcp6(a, 40000, 80, flagSYN, nil)),
		} {
			who := 0
			for i, n := range all {
				switch v := n.Handle(0, f).Verdict; v {
				case DeliverSYN, AnsweredNDP, AnsweredEcho, ClosedPort:
					who++
					answered[i]++
				case NotOwner:
				default:
					t.Fatalf("%s from %s: %v", kind, a, v)
				}
			}
			if who != 1 {
				t.Errorf("%s from %s: %d answers", kind, a, who)
			}
		}
	}
	for i, n := range answered {
		if n == 0 {
			t.Errorf("node %d never answers", i+1)
		}
	}
}

// What IPv6 and neighbour discovery may say to a node, and what becomes of it.
func TestGateForIPv6(t *testing.T) {
	stranger := responder.MAC{0x02, 0, 0, 0, 9, 9}
	advertise := func(target netip.Addr, at responder.MAC, dst netip.Addr) []byte {
		return neighbour(t, asker6, dst, &ndp.NeighborAdvertisement{
			Override: true, TargetAddress: target, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: at[:]}},
		})
	}
	routerMTU := func(from netip.Addr, mtu uint32) []byte {
		return neighbour(t, from, responder.AllNodes(), &ndp.RouterAdvertisement{Options: []ndp.Option{ndp.NewMTU(mtu)}})
	}
	routed := solicitation(t, asker6)
	routed[7] = 254
	redirect := ip6(router6Addr, vip6Addr, protoICMPv6, make([]byte, 40))
	redirect[7], redirect[40] = 255, 137
	byGroup := frame6(tcp6(asker6, 40000, 22, flagSYN, nil))
	copy(byGroup.Data, []byte{0x33, 0x33, 0, 0, 0, 1})
	elsewhere := frame6(tcp6(asker6, 40000, 22, flagSYN, nil))
	copy(elsewhere.Data, []byte{0x33, 0x33, 0, 0, 0, 2})
	other := tcp6(asker6, 40000, 22, flagSYN, nil)
	other[39] = 3
	for _, c := range []struct {
		name  string
		frame *link.Frame
		want  Verdict
	}{
		{"a SYN", frame6(tcp6(asker6, 40000, 22, flagSYN, nil)), DeliverSYN},
		{"a SYN behind options", frame6(chained(tcp6(asker6, 40000, 22, flagSYN, nil), []uint8{nextDestination}, padding())), DeliverSYN},
		{"a closed port", frame6(tcp6(asker6, 40000, 80, flagSYN, nil)), ClosedPort},
		{"a stray", frame6(tcp6(asker6, 40000, 22, flagACK, nil)), StrayAnswered},
		{"a datagram", frame6(udp6(asker6, 40000, 53, nil)), PortUnreachable},
		{"another protocol", frame6(ip6(asker6, vip6Addr, 59, []byte{1})), NoService},
		{"another address", frame6(seal6(other, protoTCP, 40, 16)), OtherAddress},
		{"a packet for the VIP to all nodes", byGroup, OtherMAC},
		{"a group that is nobody's", elsewhere, OtherMAC},
		{"an echo request to all nodes", frame6(seal6(func() []byte {
			b := icmp6(asker6, icmp6Echo, nil)
			copy(b[24:], responder.AllNodes().AsSlice())
			return b
		}(), protoICMPv6, 40, 2)), OtherAddress},
		{"an echo reply", frame6(icmp6(asker6, 129, nil)), OtherICMP},
		{"a solicitation", frame6(solicitation(t, asker6)), AnsweredNDP},
		{"a solicitation through a router", frame6(routed), BadHopLimit},
		{"a solicitation for another", frame6(neighbour(t, asker6, responder.SolicitedNode(vip6Addr), &ndp.NeighborSolicitation{TargetAddress: own6Addr})), OtherNDP},
		{"duplicate address detection", frame6(neighbour(t, netip.IPv6Unspecified(), responder.SolicitedNode(vip6Addr), &ndp.NeighborSolicitation{TargetAddress: vip6Addr})), AnsweredNDP},
		{"the same with a MAC", frame6(neighbour(t, netip.IPv6Unspecified(), responder.SolicitedNode(vip6Addr),
			&ndp.NeighborSolicitation{TargetAddress: vip6Addr, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: clientMAC[:]}}})), BadNDP},
		{"a forged advertisement", frame6(advertise(vip6Addr, stranger, responder.AllNodes())), StrangerClaim},
		{"another node's advertisement", frame6(advertise(vip6Addr, cluster6MAC, responder.AllNodes())), OtherNDP},
		{"a claim of our own address", frame6(advertise(own6Addr, stranger, responder.AllNodes())), StrangerClaim},
		{"an answer that nobody asked for", frame6(advertise(asker6, clientMAC, own6Addr)), OtherNDP},
		{"who asks from the VIP", frame6(neighbour(t, vip6Addr, responder.SolicitedNode(asker6), &ndp.NeighborSolicitation{TargetAddress: asker6})), OtherMAC},
		{"the router's MTU", frame6(routerMTU(router6Addr, 1400)), LearnedMTU},
		{"an MTU below 1,280", frame6(routerMTU(router6Addr, 1279)), BadNDP},
		{"an MTU above the interface's", frame6(routerMTU(router6Addr, 1501)), BadNDP},
		{"a strange router", frame6(routerMTU(netip.MustParseAddr("fe80::bad"), 1280)), StrangeRouter},
		{"a router without link-local address", frame6(routerMTU(asker6, 1280)), BadNDP},
		{"a redirect", frame6(seal6(redirect, protoICMPv6, 40, 2)), StrangeRouter},
	} {
		n, _ := newNode6(t)
		h := n.Handle(0, c.frame)
		if h.Verdict != c.want {
			t.Errorf("%s: %v, want %v", c.name, h.Verdict, c.want)
		}
		if mtu := n.MTU6(); mtu != 1500 && h.Verdict != LearnedMTU || h.Verdict == LearnedMTU && mtu != 1400 {
			t.Errorf("%s: an MTU of %d", c.name, mtu)
		}
	}
}

// The advertisement in answer to a solicitation, as an independent reader finds it.
func TestAdvertisement(t *testing.T) {
	for _, c := range []struct {
		name      string
		question  []byte
		to        responder.MAC
		dst       netip.Addr
		solicited bool
	}{
		{"a neighbour's", solicitation(t, asker6), clientMAC, asker6, true},
		{"duplicate address detection's", neighbour(t, netip.IPv6Unspecified(), responder.SolicitedNode(vip6Addr), &ndp.NeighborSolicitation{TargetAddress: vip6Addr}),
			responder.MAC{0x33, 0x33, 0, 0, 0, 1}, responder.AllNodes(), false},
	} {
		n, _ := newNode6(t)
		b := n.Handle(0, frame6(c.question)).Reply
		if len(b) != 14+40+32 || responder.MAC(b[0:6]) != c.to || responder.MAC(b[6:12]) != ownMAC || binary.BigEndian.Uint16(b[12:]) != etherTypeIPv6 {
			t.Fatalf("%s: %x", c.name, b)
		}
		p := b[14:]
		if p[7] != 255 || netip.AddrFrom16([16]byte(p[8:24])) != vip6Addr || netip.AddrFrom16([16]byte(p[24:40])) != c.dst {
			t.Errorf("%s: hop limit %d, header %x", c.name, p[7], p[:40])
		}
		if sum := binary.BigEndian.Uint16(p[42:]); binary.BigEndian.Uint16(seal6(p, protoICMPv6, 40, 2)[42:]) != sum {
			t.Errorf("%s: a wrong checksum", c.name)
		}
		m, err := ndp.ParseMessage(p[40:])
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		a, ok := m.(*ndp.NeighborAdvertisement)
		if !ok || a.TargetAddress != vip6Addr || a.Router || !a.Override || a.Solicited != c.solicited || len(a.Options) != 1 {
			t.Fatalf("%s: %+v", c.name, m)
		}
		if o, ok := a.Options[0].(*ndp.LinkLayerAddress); !ok || o.Direction != ndp.Target || o.Addr.String() != cluster6MAC.String() {
			t.Errorf("%s: option %+v", c.name, a.Options[0])
		}
	}
}

// An ICMPv6 error goes to the node that has the flow that it quotes, whoever sent
// it, and to no other.
func TestICMPv6ErrorsGoToTheHolder(t *testing.T) {
	const port = 40000
	n, flows := newNode6(t)
	hold6(t, n, flows, port)
	own6(t, n, Bitmap{})
	on := netip.MustParseAddr("2001:db8:1::1")
	tooBig := func(quoted []byte) *link.Frame {
		b := icmp6(on, icmp6PacketTooBig, quoted)
		binary.BigEndian.PutUint32(b[44:], 1280)
		return frame6(seal6(b, protoICMPv6, 40, 2))
	}
	if h := n.Handle(0, tooBig(out6(port, flagACK, ownISN+1, clientISN+1))); h.Verdict != DeliverError || h.Packet == nil {
		t.Errorf("about our flow: %+v", h.Verdict)
	}
	narrow := tooBig(out6(port, flagACK, ownISN+1, clientISN+1))
	binary.BigEndian.PutUint32(narrow.Data[58:], 1279)
	seal6(narrow.Data[14:], protoICMPv6, 40, 2)
	if v := n.Handle(0, narrow).Verdict; v != BadICMP {
		t.Errorf("a path of 1,279 bytes: %v", v)
	}
	for name, f := range map[string]*link.Frame{
		"about another flow":     tooBig(out6(port+1, flagACK, ownISN+1, clientISN+1)),
		"cut off":                tooBig(out6(port, flagACK, ownISN+1, clientISN+1)[:43]),
		"from the client's side": tooBig(in6(port, flagACK, ownISN+1, clientISN+1)),
	} {
		if v := n.Handle(0, f).Verdict; v != UnknownQuote {
			t.Errorf("%s: %v", name, v)
		}
	}
	if _, ok := n.neighbours.Next(0, on); ok {
		t.Error("the router was learned as a neighbour")
	}
	if flows.states[toFlow6(port)] != flowstate.Open {
		t.Error("the flow is not open any more")
	}
}

// A client over IPv6 that another flow of the same ports has over IPv4 is another.
func TestFlowsOfBothFamilies(t *testing.T) {
	const port = 40000
	n, flows := newNode6(t)
	hold(t, n, flows, port, flowstate.Open)
	if v := n.Handle(0, frame6(in6(port, flagACK, clientISN+1, ownISN+1))).Verdict; v != StrayAnswered {
		t.Errorf("before it was opened: %v", v)
	}
	hold6(t, n, flows, port)
	four, six := toFlow(port), toFlow6(port)
	if n.FlowHash(&four) == n.FlowHash(&six) {
		t.Error("the same hash for both")
	}
	n.table.remove(n.table.find(&four))
	if e := n.table.find(&six); e == nil || e.flow != six {
		t.Errorf("the IPv6 flow went with the IPv4 one: %+v", e)
	} else if n.table.remove(e); n.table.find(&six) != nil {
		t.Error("the IPv6 flow is still there")
	}
}

// The answer to a client leaves for the MAC that it came from, with IPv6 announced;
// whoever is not known is asked for in its solicited-node group.
func TestIPv6NextHop(t *testing.T) {
	n, _ := newNode6(t)
	n.Handle(0, frame6(tcp6(asker6, 40000, 22, flagSYN, nil)))
	var h [14]byte
	if !n.Address(0, asker6, h[:]) || responder.MAC(h[0:6]) != clientMAC || binary.BigEndian.Uint16(h[12:]) != etherTypeIPv6 {
		t.Errorf("the client's: %x", h)
	}
	for name, c := range map[string]struct{ to, asks netip.Addr }{
		"on the LAN":  {netip.MustParseAddr("2001:db8::102"), netip.MustParseAddr("2001:db8::102")},
		"off the LAN": {netip.MustParseAddr("2001:db8:5::1"), router6Addr},
	} {
		ask := n.Ask(0, c.to)
		if len(ask) == 0 || n.Address(0, c.to, h[:]) {
			t.Fatalf("%s: nobody is asked", name)
		}
		group := responder.SolicitedNode(c.asks)
		if responder.MAC(ask[0:6]) != responder.GroupMAC(group) || netip.AddrFrom16([16]byte(ask[38:54])) != group ||
			netip.AddrFrom16([16]byte(ask[22:38])) != own6Addr || ask[21] != 255 {
			t.Errorf("%s: %x", name, ask)
		}
		answer := neighbour(t, c.asks, own6Addr, &ndp.NeighborAdvertisement{
			Solicited: true, Override: true, TargetAddress: c.asks,
			Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: routerMAC[:]}},
		})
		f := frame6(answer)
		copy(f.Data, ownMAC[:])
		if v := n.Handle(0, f).Verdict; v != LearnedNeighbour {
			t.Errorf("%s: the answer is %v", name, v)
		}
		if !n.Address(0, c.to, h[:]) || responder.MAC(h[0:6]) != routerMAC {
			t.Errorf("%s: the packet goes to %x", name, h[:6])
		}
	}
}

// A reset over IPv6 is one that the client believes: right numbers and checksum.
func TestResetOverIPv6(t *testing.T) {
	n, _ := newNode6(t)
	h := n.Handle(0, frame6(tcp6(asker6, 40000, 80, flagSYN, nil)))
	if h.Verdict != ClosedPort || len(h.Reply) != 74 {
		t.Fatalf("%v, %x", h.Verdict, h.Reply)
	}
	p := h.Reply[14:]
	if responder.MAC(h.Reply[6:12]) != ownMAC || netip.AddrFrom16([16]byte(p[8:24])) != vip6Addr || p[53] != flagRST|flagACK ||
		binary.BigEndian.Uint32(p[48:]) != clientISN+1 {
		t.Errorf("%x", p)
	}
	if sum := binary.BigEndian.Uint16(p[56:]); binary.BigEndian.Uint16(seal6(p, protoTCP, 40, 16)[56:]) != sum {
		t.Error("a wrong checksum")
	}
}

// A VIP is announced once, by the node that answers for ::, when it first has the
// lease.
func TestAnnouncement(t *testing.T) {
	n, _ := newNode6(t)
	var sent [][]byte
	announce := func(now time.Duration) {
		n.announce(now, func(vip int, frame []byte) {
			if vip != 1 {
				t.Errorf("under the lease of VIP %d", vip)
			}
			sent = append(sent, frame)
		})
	}
	give := func(buckets Bitmap, until time.Duration) {
		rows := []Rows{{Accept: buckets}, {Accept: buckets}}
		if err := n.SetOwnership(&Ownership{VIPs: rows, Services: rows, LeaseBegin: time.Second, LeaseEnd: until}); err != nil {
			t.Fatal(err)
		}
		n.Tick(time.Second)
	}
	give(Bitmap{}, Forever)
	announce(2 * time.Second)
	give(allBuckets(), 3*time.Second)
	announce(4 * time.Second) // the lease is over
	if len(sent) != 0 {
		t.Fatalf("announced without the right: %x", sent)
	}
	for i := range n.leases {
		n.SetLease(i, 4*time.Second, Forever)
	}
	announce(5 * time.Second)
	if len(sent) != 1 {
		t.Fatalf("announced %d times when the lease is there", len(sent))
	}
	announce(6 * time.Second)
	give(allBuckets(), Forever)
	announce(7 * time.Second)
	if len(sent) != 1 {
		t.Fatalf("announced %d times", len(sent))
	}
	m, err := ndp.ParseMessage(sent[0][54:])
	if a, ok := m.(*ndp.NeighborAdvertisement); err != nil || !ok || a.TargetAddress != vip6Addr || a.Solicited || !a.Override ||
		responder.MAC(sent[0][0:6]) != responder.GroupMAC(responder.AllNodes()) {
		t.Errorf("announced %+v, %v", m, err)
	}
}

// A path that is said to carry less than 68 bytes over IPv4 is nobody's.
func TestNarrowPathsAreNotBelieved(t *testing.T) {
	for mtu, want := range map[uint16]Verdict{0: BadICMP, 67: BadICMP, 68: DeliverError, 1280: DeliverError} {
		n, flows := newNode6(t)
		hold(t, n, flows, 40000, flowstate.Open)
		const cannotFragment = 4
		b := icmp(netip.MustParseAddr("10.77.0.1"), icmpUnreachable, quote(asker, 22, 40000))
		b[21] = cannotFragment
		binary.BigEndian.PutUint16(b[26:], mtu)
		b[22], b[23] = 0, 0
		binary.BigEndian.PutUint16(b[22:], ^slowSum(b[20:]))
		if v := n.Handle(0, frame(etherTypeIPv4, b)).Verdict; v != want {
			t.Errorf("a path of %d bytes: %v, want %v", mtu, v, want)
		}
	}
}

// A packet from a VIP, another than it is for, comes from no wire: over IPv6 as over
// IPv4.
func TestVIPIsNoSource(t *testing.T) {
	vip2, vip62 := netip.MustParseAddr("10.77.0.3"), netip.MustParseAddr("2001:db8::3")
	var vips []VIP
	for _, a := range []netip.Addr{vipAddr, vip2} {
		vips = append(vips, VIP{VIP: responder.VIP{Addr: a, MAC: clusterMAC}, LAN: lan})
	}
	for _, a := range []netip.Addr{vip6Addr, vip62} {
		vips = append(vips, VIP{VIP: responder.VIP{Addr: a, MAC: cluster6MAC}, LAN: lan6})
	}
	n, err := New(Config{
		Own: ownMAC, Address: ownAddr, Address6: own6Addr, MTU: 1500, VIPs: vips,
		Hasher: hashing.NewHasher(key), Flows: &modelFlows{states: map[hashing.Flow]flowstate.State{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]*link.Frame{
		"IPv4": frame(etherTypeIPv4, tcp(vip2, 40000, 22, flagSYN, nil)),
		"IPv6": frame6(tcp6(vip62, 40000, 22, flagSYN, nil)),
	} {
		if v := n.Handle(0, f).Verdict; v != MartianSource {
			t.Errorf("%s: %v", name, v)
		}
	}
}
