package node

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"onevoice/datagram"
	"onevoice/hashing"
	"onevoice/internal/flowstate"
	"onevoice/link"
	"onevoice/responder"
)

// modelDatagrams are UDP flows that a test sets.
type modelDatagrams struct {
	flows   map[hashing.Flow]int // by which service
	outcome datagram.Outcome
	told    []datagram.Trouble
	mtu     int
}

func (m *modelDatagrams) Has(f *hashing.Flow) bool {
	_, held := m.flows[*f]
	return held
}

func (m *modelDatagrams) Take(_ time.Duration, service int, f *hashing.Flow) datagram.Outcome {
	if m.outcome == datagram.Goes || m.outcome == datagram.Begins {
		m.flows[*f] = service
	}
	return m.outcome
}

func (m *modelDatagrams) Quoted(_ time.Duration, f *hashing.Flow, what datagram.Trouble, mtu int) bool {
	_, held := m.flows[*f]
	if held {
		m.told, m.mtu = append(m.told, what), mtu
	}
	return held
}

// newUDPNode is a node with services of both protocols and both families: SSH on port
// 22, DNS on port 53 by the affinity given, NTP on 123 by source address.
func newUDPNode(t testing.TB, dns hashing.Affinity) (*Node, *modelDatagrams) {
	t.Helper()
	m := &modelDatagrams{flows: map[hashing.Flow]int{}, outcome: datagram.Begins}
	n, err := New(Config{
		Own: ownMAC, Address: ownAddr, Address6: own6Addr, Gateway6: router6Addr, MTU: 1500,
		VIPs: []VIP{
			{VIP: responder.VIP{Addr: vipAddr, MAC: clusterMAC}, LAN: lan},
			{VIP: responder.VIP{Addr: vip6Addr, MAC: cluster6MAC}, LAN: lan6},
		},
		Services: []Service{
			{Proto: TCP, Listen: netip.AddrPortFrom(vipAddr, 22)},
			{Proto: UDP, Listen: netip.AddrPortFrom(vipAddr, 123)},
			{Proto: UDP, Listen: netip.AddrPortFrom(vipAddr, 53), Affinity: dns},
			{Proto: UDP, Listen: netip.AddrPortFrom(vip6Addr, 53), Affinity: dns},
		},
		Hasher: hashing.NewHasher(key), ControlPort: 7177,
		Flows: &modelFlows{states: map[hashing.Flow]flowstate.State{}}, Datagrams: m,
	})
	if err != nil {
		t.Fatal(err)
	}
	ownUDP(t, n, allBuckets(), allBuckets(), Forever)
	return n, m
}

// ownUDP gives a node buckets of the VIPs and of the services.
func ownUDP(t testing.TB, n *Node, vips, services Bitmap, end time.Duration) {
	t.Helper()
	o := &Ownership{Generation: n.Generation() + 1, LeaseEnd: end}
	for range n.vips {
		o.VIPs = append(o.VIPs, Rows{Accept: vips})
	}
	for range n.services {
		o.Services = append(o.Services, Rows{Accept: services})
	}
	if err := n.SetOwnership(o); err != nil {
		t.Fatal(err)
	}
}

func TestDatagramsOfAServiceAreLetIn(t *testing.T) {
	n, m := newUDPNode(t, hashing.SourceIP)
	h := n.Handle(0, frame(etherTypeIPv4, udp(asker, 40000, 53, []byte("question"))))
	want := hashing.Flow{Src: asker, Dst: vipAddr, SrcPort: 40000, DstPort: 53, Proto: UDP}
	if h.Verdict != DeliverDatagram || h.Packet != nil || h.Datagram == nil || h.Datagram.Flow != want ||
		string(h.Datagram.Payload) != "question" || len(h.Datagram.Packet) != 36 || h.Datagram.SegmentBytes != 0 {
		t.Fatalf("%+v %+v", h, h.Datagram)
	}
	if s, there := m.flows[want]; !there || s != 1 {
		t.Errorf("the flow is of UDP service %d, want 1", s)
	}
	if h := n.Handle(0, frame6(udp6(asker6, 40000, 53, []byte("question")))); h.Verdict != DeliverDatagram || string(h.Datagram.Payload) != "question" {
		t.Errorf("IPv6: %+v", h)
	}
	// The answer goes back the way that the question came.
	if header := make([]byte, 14); !n.Address(0, asker, header) || responder.MAC(header) != clientMAC {
		t.Error("where the client is was not learned")
	}
	several := frame(etherTypeIPv4, udp(asker, 40000, 53, make([]byte, 2500)))
	several.Offload = link.Offload{Segmentation: link.SegmentationUDPL4, SegmentBytes: 1000}
	if h := n.Handle(0, several); h.Datagram == nil || h.Datagram.SegmentBytes != 1000 {
		t.Errorf("several datagrams in a frame: %+v", h.Datagram)
	}
	if h := n.Handle(0, frame(etherTypeIPv4, udp(asker, 40000, 53, nil))); h.Datagram == nil || h.Datagram.SegmentBytes != 0 || len(h.Datagram.Payload) != 0 {
		t.Errorf("an empty datagram: %+v", h)
	}
	for name, c := range map[string]struct {
		outcome datagram.Outcome
		frame   *link.Frame
		want    Verdict
	}{
		"no room":                     {datagram.Full, frame(etherTypeIPv4, udp(asker, 40001, 53, nil)), FlowsFull},
		"no room for the source":      {datagram.SourceFull, frame(etherTypeIPv4, udp(asker, 40001, 53, nil)), SourceFull},
		"from port 0":                 {datagram.Begins, frame(etherTypeIPv4, udp(asker, 0, 53, nil)), BadUDP},
		"to the port of TCP":          {datagram.Begins, frame(etherTypeIPv4, udp(asker, 40001, 22, nil)), PortUnreachable},
		"a segment to a port of UDP":  {datagram.Begins, frame(etherTypeIPv4, tcp(asker, 40001, 53, flagSYN, nil)), ClosedPort},
		"a heartbeat":                 {datagram.Begins, frame(etherTypeIPv4, udp(asker, 7177, 7177, nil)), NoService},
		"from the broadcast address":  {datagram.Begins, frame(etherTypeIPv4, udp(netip.MustParseAddr("10.77.0.255"), 40000, 99, nil)), MartianSource},
		"to a closed port of IPv6":    {datagram.Begins, frame6(udp6(asker6, 40001, 99, nil)), PortUnreachable},
		"from a group, to a bad port": {datagram.Begins, frame(etherTypeIPv4, udp(netip.MustParseAddr("224.0.0.9"), 40000, 99, nil)), MartianSource},
	} {
		m.outcome = c.outcome
		h := n.Handle(0, c.frame)
		if h.Verdict != c.want || h.Datagram != nil || (h.Reply != nil) != (c.want == PortUnreachable || c.want == ClosedPort) {
			t.Errorf("%s: %+v, want %v", name, h, c.want)
		}
	}
}

// Of several nodes one takes a datagram, and one answers for a closed port, whatever
// is hashed and whether it comes whole or in parts.
func TestEveryDatagramHasExactlyOneTaker(t *testing.T) {
	const nodes = 4
	var shares []hashing.Share
	for id := range nodes {
		shares = append(shares, hashing.Share{Node: hashing.NodeID(id + 1), Weight: 100})
	}
	services, err := hashing.First(shares)
	if err != nil {
		t.Fatal(err)
	}
	// The VIPs' own tables differ from the services'.
	vips := services
	slices.Reverse(vips[:])
	for _, dns := range []hashing.Affinity{hashing.SourceIP, hashing.SourceNet, hashing.SourceIPPort, hashing.SourceIPPortDestPort} {
		all := make([]*Node, nodes)
		for i := range all {
			all[i], _ = newUDPNode(t, dns)
			ownUDP(t, all[i], OwnedBy(&vips, hashing.NodeID(i+1)), OwnedBy(&services, hashing.NodeID(i+1)), Forever)
		}
		spread := map[int]bool{}
		for i := range 60 {
			a, port := netip.AddrFrom4([4]byte{10, 77, 0, byte(20 + i)}), uint16(40000+i)
			b := asker6.As16()
			b[15], b[6] = byte(i), byte(i)
			for to, want := range map[uint16]Verdict{53: DeliverDatagram, 123: DeliverDatagram, 99: PortUnreachable} {
				whole, six := udp(a, port, to, make([]byte, 3000)), udp6(netip.AddrFrom16(b), port, to, make([]byte, 3000))
				forms := [][]*link.Frame{{frame(etherTypeIPv4, whole)}, cut4(whole, 1480, 2960), {frame6(six)}, cut6(six, 1448)}
				if to == 123 {
					forms = forms[:2]
				}
				for k, frames := range forms {
					takers := 0
					for j, n := range all {
						for _, f := range frames {
							switch v := n.Handle(0, f).Verdict; v {
							case want:
								takers++
								spread[j] = true
							case NotOwner, FragmentHeld:
							default:
								t.Fatalf("%v to port %d, form %d: %v", dns, to, k, v)
							}
						}
					}
					if takers != 1 {
						t.Errorf("%v to port %d, form %d, client %d: %d takers", dns, to, k, i, takers)
					}
				}
			}
		}
		if len(spread) != nodes {
			t.Errorf("%v: only %d nodes took anything", dns, len(spread))
		}
		for i, n := range all {
			if c := n.FragmentCounters(); dns == hashing.SourceIP && c.Waiting != 0 {
				t.Errorf("node %d keeps %d datagrams that are another's by their address", i, c.Waiting)
			}
		}
	}
}

// A fragment that is another node's whatever the ports are takes no memory; one that
// may be ours is kept, and so are those of TCP, whose flows stay where they are.
func TestForeignFragmentsAreNotKept(t *testing.T) {
	part := cut4(udp(asker, 40000, 53, make([]byte, 3000)), 1480)[1]
	segment := cut4(tcp(asker, 40000, 22, flagACK, make([]byte, 3000)), 1480)[1]
	for _, c := range []struct {
		name           string
		dns            hashing.Affinity
		vips, services Bitmap
		want           Verdict
	}{
		{"nothing is ours", hashing.SourceIP, Bitmap{}, Bitmap{}, NotOwner},
		{"the services are", hashing.SourceNet, Bitmap{}, allBuckets(), FragmentHeld},
		{"closed ports are", hashing.SourceIP, allBuckets(), Bitmap{}, FragmentHeld},
		{"ports are hashed", hashing.SourceIPPort, Bitmap{}, Bitmap{}, FragmentHeld},
	} {
		n, _ := newUDPNode(t, c.dns)
		ownUDP(t, n, c.vips, c.services, Forever)
		if got := handle(n, part); got != c.want || (n.FragmentCounters().Waiting == 0) != (c.want == NotOwner) {
			t.Errorf("%s: %v, want %v; %+v", c.name, got, c.want, n.FragmentCounters())
		}
		if got := handle(n, segment); got != FragmentHeld {
			t.Errorf("%s, of TCP: %v", c.name, got)
		}
	}
}

// cut4 is an IPv4 packet in fragments that begin at those offsets of its data.
func cut4(whole []byte, at ...int) (out []*link.Frame) {
	data := whole[20:]
	begin := 0
	for _, end := range append(at, len(data)) {
		p := append(slices.Clone(whole[:20]), data[begin:end]...)
		field := uint16(begin / 8)
		if end < len(data) {
			field |= 0x2000
		}
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		p[4], p[5] = 77, byte(whole[21])
		binary.BigEndian.PutUint16(p[6:], field)
		fixIP(p)
		out = append(out, frame(etherTypeIPv4, p))
		begin = end
	}
	return out
}

// cut6 is an IPv6 packet without extension headers in fragments.
func cut6(whole []byte, at ...int) (out []*link.Frame) {
	data := whole[40:]
	begin := 0
	for _, end := range append(at, len(data)) {
		field := uint16(begin)
		if end < len(data) {
			field |= 1
		}
		p := append(slices.Clone(whole[:40]), whole[6], 0, byte(field>>8), byte(field), 7, 7, 7, whole[41])
		p = append(p, data[begin:end]...)
		p[6] = nextFragment
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
		out = append(out, frame6(p))
		begin = end
	}
	return out
}

func TestDatagramsWaitForTheRightToAnswer(t *testing.T) {
	n, _ := newUDPNode(t, hashing.SourceIP)
	question, closed := frame(etherTypeIPv4, udp(asker, 40000, 53, nil)), frame(etherTypeIPv4, udp(asker, 40000, 99, nil))
	for _, c := range []struct {
		vips, services Bitmap
		end            time.Duration
		question, port Verdict
	}{
		{allBuckets(), Bitmap{}, Forever, NotOwner, PortUnreachable},
		{Bitmap{}, allBuckets(), Forever, DeliverDatagram, NotOwner},
		{allBuckets(), allBuckets(), 0, NoLease, NoLease},
	} {
		ownUDP(t, n, c.vips, c.services, c.end)
		if q, p := handle(n, question), handle(n, closed); q != c.question || p != c.port {
			t.Errorf("%v and %v, want %v and %v", q, p, c.question, c.port)
		}
	}
}

// An unreachable says what it is about, and not too often.
func TestClosedUDPPortsAreTold(t *testing.T) {
	n, _ := newUDPNode(t, hashing.SourceIP)
	asked := udp(asker, 40000, 99, []byte("anybody there?"))
	r := n.Handle(0, frame(etherTypeIPv4, asked)).Reply
	if responder.MAC(r) != clientMAC || responder.MAC(r[6:]) != ownMAC || slowSum(r[14:34]) != 0xffff || slowSum(r[34:]) != 0xffff ||
		r[34] != icmpUnreachable || r[35] != 3 || !slices.Equal(r[42:], asked) || netip.AddrFrom4([4]byte(r[26:30])) != vipAddr {
		t.Errorf("the reply is %x", r)
	}
	long := udp(asker, 40000, 99, make([]byte, 1400))
	if r := n.Handle(0, frame(etherTypeIPv4, long)).Reply; len(r) != 14+576 {
		t.Errorf("a long datagram's reply has %d bytes", len(r))
	}
	six := udp6(asker6, 40000, 99, make([]byte, 1400))
	r = n.Handle(0, frame6(six)).Reply
	var d Decoded
	if v := d.Decode(&link.Frame{Data: r}); v != Undecided || len(r) != 14+1280 || d.Segment[0] != 1 || d.Segment[1] != 4 || !slices.Equal(d.Segment[8:], six[:1232]) {
		t.Errorf("IPv6: %v, %d bytes, %x", v, len(r), r[:70])
	}
	sent := 0
	for range 3 * errorBurst {
		if n.Handle(time.Hour, frame(etherTypeIPv4, asked)).Reply != nil {
			sent++
		}
	}
	if sent != errorBurst || n.Counts()[ErrorLimited] != 2*errorBurst {
		t.Errorf("%d sent and %d held back", sent, n.Counts()[ErrorLimited])
	}
}

// answer is the start of a UDP answer of the VIP, for an error to quote.
func answer(client netip.Addr, port uint16) []byte {
	q := quote(client, 53, port)
	q[9] = UDP
	return q
}

// An ICMP error about an answer goes to who has the flow, whoever owns the bucket
// now; a forged one changes nothing.
func TestErrorsAboutAnswersGoToTheHolder(t *testing.T) {
	n, m := newUDPNode(t, hashing.SourceIP)
	handle(n, frame(etherTypeIPv4, udp(asker, 40000, 53, nil)))
	handle(n, frame6(udp6(asker6, 40000, 53, nil)))
	ownUDP(t, n, Bitmap{}, Bitmap{}, 0)
	router := netip.MustParseAddr("10.77.0.1")
	about := func(kind, code uint8, rest []byte) *link.Frame {
		p := icmp(router, kind, rest)
		p[21], p[22], p[23] = code, 0, 0
		binary.BigEndian.PutUint16(p[22:], ^slowSum(p[20:]))
		return frame(etherTypeIPv4, p)
	}
	part := answer(asker, 40000)
	part[7] = 9 // not the first of its fragments
	six := append(udp6(vip6Addr, 53, 40000, nil)[:40:40], 0, 53, 0x9c, 0x40, 0, 8, 0, 0)
	src, dst := vip6Addr.As16(), asker6.As16()
	copy(six[8:], src[:])
	copy(six[24:], dst[:])
	fragment := append(slices.Clone(six[:40]), UDP, 0, 0, 1, 1, 2, 3, 4, 0, 53, 0x9c, 0x40)
	fragment[6] = nextFragment
	for _, c := range []struct {
		name  string
		frame *link.Frame
		want  Verdict
		what  datagram.Trouble
	}{
		{"port unreachable", about(icmpUnreachable, 3, answer(asker, 40000)), NotedError, datagram.PortClosed},
		{"host unreachable", about(icmpUnreachable, 1, answer(asker, 40000)), NotedError, datagram.Passing},
		{"fragmentation needed", about(icmpUnreachable, 4, answer(asker, 40000)), NotedError, datagram.TooBig},
		{"time exceeded", about(icmpTimeExceeded, 1, answer(asker, 40000)), NotedError, datagram.Passing},
		{"about another flow", about(icmpUnreachable, 3, answer(asker, 40001)), UnknownQuote, 0},
		{"about a later fragment", about(icmpUnreachable, 3, part), UnknownQuote, 0},
		{"packet too big", frame6(icmp6(router6Host, icmp6PacketTooBig, six)), NotedError, datagram.TooBig},
		{"about a first fragment of IPv6", frame6(icmp6(router6Host, icmp6TimeExceeded, fragment)), NotedError, datagram.Passing},
	} {
		m.told = nil
		if got := handle(n, c.frame); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if c.want == NotedError && (len(m.told) != 1 || m.told[0] != c.what) {
			t.Errorf("%s: told %v, want %v", c.name, m.told, c.what)
		}
	}
}

// router6Host is a router beyond the LAN.
var router6Host = netip.MustParseAddr("2001:db8:5::1")

// Fragments of a segment and of an echo request are judged as the whole is.
func TestFragmentsOfAllProtocols(t *testing.T) {
	n, _ := newUDPNode(t, hashing.SourceIP)
	last := func(frames []*link.Frame) (h Handled) {
		for _, f := range frames {
			h = n.Handle(0, f)
		}
		return h
	}
	syn := tcp(asker, 40000, 22, flagSYN, nil)
	if h := last(cut4(tcp(asker, 40000, 22, flagSYN, make([]byte, 100)), 24)); h.Verdict != DeliverSYN || len(h.Packet) != len(syn)+100 {
		t.Errorf("a SYN in parts: %+v", h)
	}
	ping := icmp(asker, icmpEcho, make([]byte, 3000))
	h := last(cut4(ping, 1480, 2960))
	if h.Verdict != AnsweredEcho || len(h.Rest) != 2 {
		t.Fatalf("an echo request in parts: %v with %d more frames", h.Verdict, len(h.Rest))
	}
	// The answer comes in parts, too, which are the same bytes.
	other, _ := newUDPNode(t, hashing.SourceIP)
	var back []byte
	for _, r := range append([][]byte{h.Reply}, h.Rest...) {
		if len(r) > 14+1500 {
			t.Errorf("a reply of %d bytes", len(r))
		}
		// It goes to the asker, whom the other node takes for the VIP.
		copy(r[0:], clusterMAC[:])
		copy(r[6:], clientMAC[:])
		src := asker.As4()
		copy(r[26:], src[:])
		copy(r[30:], vipAddr.AsSlice())
		fixIP(r[14:])
		if v := other.Handle(0, &link.Frame{Data: r}).Verdict; v == OtherICMP {
			back = other.decoded.Segment
		}
	}
	if len(back) != 3008 || slowSum(back) != 0xffff {
		t.Errorf("%d bytes came back", len(back))
	}
	if h := last(cut6(icmp6(asker6, icmp6Echo, make([]byte, 3000)), 1448, 2896)); h.Verdict != AnsweredEcho || len(h.Rest) != 2 {
		t.Errorf("IPv6: %v with %d more frames", h.Verdict, len(h.Rest))
	}
	for _, r := range h.Rest {
		if len(r) > 14+1500 {
			t.Errorf("a reply of %d bytes", len(r))
		}
	}
	atomic := chained(tcp6(asker6, 40000, 22, flagSYN, nil), []uint8{nextHopByHop, nextFragment}, padding(), make([]byte, 8))
	if got := handle(n, frame6(atomic)); got != ClosedPort {
		t.Errorf("an atomic fragment: %v", got)
	}
	overlapping := cut4(udp(asker, 40000, 53, make([]byte, 3000)), 1480)
	n.Handle(0, overlapping[0])
	overlapping = append(cut4(udp(asker, 40000, 53, make([]byte, 3000)), 1472), overlapping[1])
	for i, want := range []Verdict{FragmentOverlap, FragmentOverlap, FragmentOverlap} {
		if got := handle(n, overlapping[i]); got != want {
			t.Errorf("overlapping fragment %d: %v", i, got)
		}
	}
	tiny := cut4(tcp(asker, 40000, 22, flagSYN, make([]byte, 100)), 8)
	if got := handle(n, tiny[0]); got != Fragment {
		t.Errorf("a tiny fragment: %v", got)
	}
	// Neighbour discovery never comes in parts.
	if h := last(cut6(neighbour(t, asker6, vip6Addr, &ndp.NeighborSolicitation{TargetAddress: vip6Addr}), 16)); h.Verdict != BadNDP || h.Reply != nil {
		t.Errorf("a solicitation in parts: %v, %x", h.Verdict, h.Reply)
	}
}

// A datagram whose first fragment came when the bucket was another's is left alone:
// who had it may have completed it.
func TestFragmentsFromBeforeAMove(t *testing.T) {
	for _, c := range []struct {
		name  string
		first time.Duration
		want  Verdict
	}{
		{"after the move", 11 * time.Second, DeliverDatagram},
		{"across the move", 9 * time.Second, Stale},
	} {
		n, _ := newUDPNode(t, hashing.SourceIPPort)
		ownUDP(t, n, Bitmap{}, Bitmap{}, Forever)
		parts := cut4(udp(asker, 40000, 53, make([]byte, 3000)), 1480)
		at := func(when time.Duration, f *link.Frame) Verdict {
			n.SetReal(realOffset + when)
			f.Stamp = realOffset + when
			return n.Handle(when, f).Verdict
		}
		if c.first < 10*time.Second {
			at(c.first, parts[0])
		}
		ownUDP(t, n, allBuckets(), allBuckets(), Forever)
		n.Tick(10 * time.Second)
		if c.first > 10*time.Second {
			at(c.first, parts[0])
		}
		if got := at(12*time.Second, parts[1]); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestFragmentsThatAreMissedAreCounted(t *testing.T) {
	n, _ := newUDPNode(t, hashing.SourceIP)
	n.Handle(time.Second, cut4(udp(asker, 40000, 53, make([]byte, 3000)), 1480)[0])
	n.Tick(30 * time.Second)
	if n.Counts()[FragmentTimeout] != 0 {
		t.Error("given up too soon")
	}
	n.Tick(2 * time.Minute)
	if n.Counts()[FragmentTimeout] != 1 || n.FragmentCounters().Waiting != 0 {
		t.Errorf("%d given up, %+v", n.Counts()[FragmentTimeout], n.FragmentCounters())
	}
}

// Neither a datagram of another node nor one of ours costs an allocation.
func TestDatagramsAllocateNothing(t *testing.T) {
	n, _ := newUDPNode(t, hashing.SourceIP)
	f := frame(etherTypeIPv4, udp(asker, 40000, 53, make([]byte, 100)))
	for _, owned := range []Bitmap{allBuckets(), {}} {
		ownUDP(t, n, owned, owned, Forever)
		if a := testing.AllocsPerRun(1000, func() { n.Handle(0, f) }); a != 0 {
			t.Errorf("%v allocations, owned is %v", a, owned.Has(0))
		}
	}
}
