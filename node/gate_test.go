package node

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
	"onevoice/link"
	"onevoice/responder"
)

// modelFlows is a TCP behind the gate, as far as the gate asks: what it has of
// each flow is what the test says.
type modelFlows struct {
	states map[hashing.Flow]flowstate.State
	// forgotten and ended are the flows that the gate has let go of, in order.
	forgotten, ended []hashing.Flow
	full, down       bool
	crowded          netip.Addr
}

func (m *modelFlows) State(f *hashing.Flow) flowstate.State { return m.states[*f] }
func (m *modelFlows) Full() bool                            { return m.full }
func (m *modelFlows) Up(int) bool                           { return !m.down }
func (m *modelFlows) Crowded(from netip.Addr) bool          { return m.crowded == from }

func (m *modelFlows) Forget(f *hashing.Flow) {
	m.forgotten = append(m.forgotten, *f)
	delete(m.states, *f)
}

func (m *modelFlows) End(f *hashing.Flow) {
	m.ended = append(m.ended, *f)
	delete(m.states, *f)
}

var key = hashing.DeriveKey([]byte("a key for the tests of the gate."))

func newNode(t testing.TB) (*Node, *modelFlows) {
	t.Helper()
	flows := &modelFlows{states: map[hashing.Flow]flowstate.State{}}
	n, err := New(Config{
		Own: ownMAC, Address: ownAddr, MTU: 1500,
		VIPs:     []VIP{{VIP: responder.VIP{Addr: vipAddr, MAC: clusterMAC}, LAN: lan}},
		Services: []Service{{Proto: TCP, Listen: netip.AddrPortFrom(vipAddr, 22)}},
		Hasher:   hashing.NewHasher(key), Flows: flows,
	})
	if err != nil {
		t.Fatal(err)
	}
	own(t, n, allBuckets(), Forever)
	return n, flows
}

func allBuckets() Bitmap {
	var b Bitmap
	for i := range hashing.Buckets {
		b.Set(uint8(i))
	}
	return b
}

// own puts an ownership in force that is the same for the VIP and the service, as of a
// minute ago.
func own(t testing.TB, n *Node, buckets Bitmap, until time.Duration) {
	t.Helper()
	if err := n.SetOwnership(&Ownership{Generation: 1, VIPs: []Rows{{Accept: buckets}}, Services: []Rows{{Accept: buckets}}, LeaseEnd: until}); err != nil {
		t.Fatal(err)
	}
	longAgo(n)
}

// longAgo makes the ownership that is fresh one of a minute ago.
func longAgo(n *Node) {
	now := n.last
	n.settle(now - time.Minute)
	n.last = now
}

func handle(n *Node, f *link.Frame) Verdict { return n.Handle(0, f).Verdict }

// handleLast handles a frame at the node's latest time.
func handleLast(n *Node, frame []byte) Verdict {
	return n.Handle(n.last, &link.Frame{Data: frame}).Verdict
}

// Sequence numbers of the tests' flows.
const (
	clientISN = 1_000_000
	ownISN    = 0xfffffff0 // wraps soon
)

// in is a client's segment for the service in an IPv4 packet.
func in(port uint16, flags uint8, seq, ack uint32, payload []byte) []byte {
	return numbered(tcp(asker, port, 22, flags, payload), seq, ack)
}

// out is a segment of the service for a client in an IPv4 packet.
func out(port uint16, flags uint8, seq, ack uint32, payload []byte) []byte {
	b := tcp(asker, port, 22, flags, payload)
	copy(b[12:], vipAddr.AsSlice())
	copy(b[16:], asker.AsSlice())
	binary.BigEndian.PutUint16(b[20:], 22)
	binary.BigEndian.PutUint16(b[22:], port)
	binary.BigEndian.PutUint16(b[34:], 0xffff)
	fixIP(b)
	return numbered(b, seq, ack)
}

func numbered(b []byte, seq, ack uint32) []byte {
	binary.BigEndian.PutUint32(b[24:], seq)
	binary.BigEndian.PutUint32(b[28:], ack)
	fixTransport(b)
	return b
}

// hold gives the node a flow in a state, by the way that a flow takes: its
// SYN-ACK leaves.
func hold(t testing.TB, n *Node, flows *modelFlows, port uint16, state flowstate.State) {
	t.Helper()
	flows.states[toFlow(port)] = flowstate.HalfOpen
	if v := n.MayLeave(n.last, out(port, flagSYN|flagACK, ownISN, clientISN+1, nil)); v != Undecided {
		t.Fatalf("the SYN-ACK for port %d: %v", port, v)
	}
	if state == flowstate.HalfOpen {
		return
	}
	if v := n.Handle(n.last, frame(etherTypeIPv4, in(port, flagACK, clientISN+1, ownISN+1, nil))).Verdict; v != DeliverHeld {
		t.Fatalf("the ACK for port %d: %v", port, v)
	}
	flows.states[toFlow(port)] = state
}

func toFlow(port uint16) hashing.Flow {
	return hashing.Flow{Src: asker, Dst: vipAddr, SrcPort: port, DstPort: 22, Proto: protoTCP}
}

func TestHandleJudgesEthernetAddresses(t *testing.T) {
	n, _ := newNode(t)
	syn := func(to, from responder.MAC) *link.Frame {
		f := frame(etherTypeIPv4, good())
		copy(f.Data, to[:])
		copy(f.Data[6:], from[:])
		return f
	}
	group := responder.MAC{0x01, 0, 0x5e, 0, 0, 1}
	for _, c := range []struct {
		name     string
		to, from responder.MAC
		want     Verdict
	}{
		{"from a client to the cluster MAC", clusterMAC, clientMAC, DeliverSYN},
		{"from a client to our own MAC", ownMAC, clientMAC, DeliverSYN},
		{"from our own MAC", clusterMAC, ownMAC, OwnMAC},
		{"from the cluster MAC", clusterMAC, clusterMAC, ClusterMACSource},
		{"from a group", clusterMAC, group, ClusterMACSource},
		{"to another host", peerMAC, clientMAC, OtherMAC},
		{"to another group", group, clientMAC, OtherMAC},
		{"IPv4 by broadcast", responder.Broadcast(), clientMAC, OtherMAC},
	} {
		if got := handle(n, syn(c.to, c.from)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	bad := syn(clusterMAC, ownMAC)
	bad.Data[24] ^= 1 // the IP checksum
	if got := handle(n, bad); got != OwnMAC {
		t.Errorf("a damaged frame of our own: %v", got)
	}
}

func TestHandleCountsEveryBadPacketAndDeliversNone(t *testing.T) {
	n, _ := newNode(t)
	want := map[Verdict]uint64{}
	for _, c := range badPackets() {
		h := n.Handle(0, frame(etherTypeIPv4, c.packet()))
		if h.Verdict != c.want || h.Packet != nil || h.Reply != nil {
			t.Errorf("%s: %+v", c.name, h)
		}
		want[c.want]++
	}
	counts := n.Counts()
	for v := range VerdictCount {
		if counts[v] != want[v] {
			t.Errorf("%v counted %d times, want %d", v, counts[v], want[v])
		}
	}
}

// The gate's rules, OWNERSHIP.md R12 to R14, as far as they need no drainers.
func TestGateLetsInWhatIsOurs(t *testing.T) {
	const port = 40000
	kinds := map[string][]byte{
		"SYN":       tcp(asker, port, 22, flagSYN, nil),
		"ACK":       in(port, flagACK, clientISN+1, ownISN+1, []byte("data")),
		"FIN":       in(port, flagFIN|flagACK, clientISN+1, ownISN+1, nil),
		"RST":       in(port, flagRST, clientISN+1, 0, nil),
		"SYN-ACK":   in(port, flagSYN|flagACK, clientISN+1, ownISN+1, nil),
		"HTTP port": tcp(asker, port, 80, flagSYN, nil),
	}
	for _, c := range []struct {
		name             string
		owned, held      bool
		lease            time.Duration
		full, down, stop bool
		want             map[string]Verdict
	}{
		{name: "owned, new", owned: true, lease: Forever, want: map[string]Verdict{
			"SYN": DeliverSYN, "ACK": StrayAnswered, "FIN": StrayAnswered, "RST": StrayReset, "SYN-ACK": StrayAnswered, "HTTP port": ClosedPort}},
		{name: "owned, held", owned: true, held: true, lease: Forever, want: map[string]Verdict{
			"SYN": DeliverHeld, "ACK": DeliverHeld, "FIN": DeliverHeld, "RST": DeliverHeld, "SYN-ACK": DeliverHeld}},
		{name: "another's, new", lease: Forever, want: map[string]Verdict{
			"SYN": NotOwner, "ACK": NotOwner, "FIN": NotOwner, "RST": NotOwner, "SYN-ACK": NotOwner, "HTTP port": NotOwner}},
		// Never a SYN for a bucket that is not ours, whatever we still hold (R13).
		{name: "another's, held", held: true, lease: Forever, want: map[string]Verdict{
			"SYN": NotOwner, "ACK": DeliverHeld, "FIN": DeliverHeld, "RST": DeliverHeld}},
		{name: "owned, lease over", owned: true, lease: 0, want: map[string]Verdict{
			"SYN": NoLease, "ACK": NoLease, "HTTP port": NoLease}},
		// A node without a lease serves the flows it holds (R18).
		{name: "owned, lease over, held", owned: true, held: true, lease: 0, want: map[string]Verdict{
			"SYN": NoLease, "ACK": DeliverHeld}},
		{name: "stopping", owned: true, lease: Forever, stop: true, want: map[string]Verdict{"SYN": Stopping, "ACK": Stopping}},
		{name: "stopping, held", owned: true, held: true, lease: Forever, stop: true, want: map[string]Verdict{"SYN": Stopping, "ACK": DeliverHeld}},
		{name: "flows full", owned: true, lease: Forever, full: true, want: map[string]Verdict{"SYN": FlowsFull}},
		{name: "flows full, held", owned: true, held: true, lease: Forever, full: true, want: map[string]Verdict{"ACK": DeliverHeld}},
		{name: "backend down", owned: true, lease: Forever, down: true, want: map[string]Verdict{"SYN": RefusedSYN}},
		{name: "backend down, held", owned: true, held: true, lease: Forever, down: true, want: map[string]Verdict{"ACK": DeliverHeld}},
		{name: "backend down, another's", lease: Forever, down: true, want: map[string]Verdict{"SYN": NotOwner}},
	} {
		n, flows := newNode(t)
		if c.held {
			hold(t, n, flows, port, flowstate.Open)
		}
		flows.full, flows.down = c.full, c.down
		buckets := Bitmap{}
		if c.owned {
			buckets = allBuckets()
		}
		own(t, n, buckets, c.lease)
		if c.stop {
			n.Stop()
		}
		for kind, want := range c.want {
			if got := handle(n, frame(etherTypeIPv4, kinds[kind])); got != want {
				t.Errorf("%s, %s: %v, want %v", c.name, kind, got, want)
			}
		}
	}
}

func TestLeaseIsComparedWhenAFrameComesIn(t *testing.T) {
	n, _ := newNode(t)
	own(t, n, allBuckets(), 10*time.Second)
	f := frame(etherTypeIPv4, good())
	if v := n.Handle(10*time.Second-1, f).Verdict; v != DeliverSYN {
		t.Errorf("before the lease's end: %v", v)
	}
	if v := n.Handle(10*time.Second, f).Verdict; v != NoLease {
		t.Errorf("at the lease's end: %v", v)
	}
}

// Exactly one of the nodes of a table takes a client's SYN, answers its ARP
// request and its ping.
func TestEveryAskerHasExactlyOneAnswer(t *testing.T) {
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
		all[i], _ = newNode(t)
		own(t, all[i], OwnedBy(&table, hashing.NodeID(i+1)), Forever)
	}
	answered := make([]int, nodes)
	for host := range 200 {
		a := netip.AddrFrom4([4]byte{10, 77, 0, byte(20 + host)})
		for kind, f := range map[string]*link.Frame{
			"SYN":  frame(etherTypeIPv4, tcp(a, 40000, 22, flagSYN, nil)),
			"ARP":  arpRequest(a, vipAddr),
			"echo": frame(etherTypeIPv4, icmp(a, icmpEcho, []byte("ping"))),
			"port": frame(etherTypeIPv4, tcp(a, 40000, 80, flagSYN, nil)),
		} {
			answers := 0
			for i, n := range all {
				if h := n.Handle(0, f); h.Packet != nil || h.Reply != nil {
					answers++
					answered[i]++
				}
			}
			if answers != 1 {
				t.Errorf("%s from %v: %d answers", kind, a, answers)
			}
		}
	}
	for i, a := range answered {
		if a == 0 {
			t.Errorf("node %d answered nobody", i+1)
		}
	}
}

func TestICMPErrorsGoToTheHolderWhoeverOwnsTheBucket(t *testing.T) {
	n, flows := newNode(t)
	hold(t, n, flows, 40000, flowstate.Open)
	own(t, n, Bitmap{}, Forever)
	router := netip.MustParseAddr("10.77.0.1")
	about := func(kind uint8, q []byte) *link.Frame { return frame(etherTypeIPv4, icmp(router, kind, q)) }
	foreign := quote(asker, 22, 40000)
	copy(foreign[12:], []byte{10, 77, 0, 3})
	flows.states[hashing.Flow{Src: asker, Dst: netip.MustParseAddr("10.77.0.3"), SrcPort: 40000, DstPort: 22, Proto: protoTCP}] = flowstate.Open
	for _, c := range []struct {
		name  string
		frame *link.Frame
		want  Verdict
	}{
		{"unreachable about a held flow", about(icmpUnreachable, quote(asker, 22, 40000)), DeliverError},
		{"time exceeded about a held flow", about(icmpTimeExceeded, quote(asker, 22, 40000)), DeliverError},
		{"unreachable about another flow", about(icmpUnreachable, quote(asker, 22, 40001)), UnknownQuote},
		{"unreachable that quotes too little", about(icmpUnreachable, quote(asker, 22, 40000)[:20]), UnknownQuote},
		{"unreachable about another address's flow", about(icmpUnreachable, foreign), UnknownQuote},
		{"redirect", about(5, quote(asker, 22, 40000)), OtherICMP},
		{"echo reply", about(0, nil), OtherICMP},
	} {
		if got := handle(n, c.frame); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	// Whoever forges the router's address moves nobody's next hop.
	if n.Address(n.last, router, make([]byte, ethernetBytes)) {
		t.Error("an ICMP error has taught where its sender is")
	}
}

func TestOtherDestinationsAndProtocols(t *testing.T) {
	n, _ := newNode(t)
	elsewhere := good()
	elsewhere[19] = 9
	fixIP(elsewhere)
	fixTransport(elsewhere)
	for _, c := range []struct {
		name   string
		packet []byte
		want   Verdict
	}{
		{"another address", elsewhere, OtherAddress},
		{"UDP", udp(asker, 40000, 53, nil), PortUnreachable},
		{"VRRP", ip(asker, 112, make([]byte, 20)), NoService},
		{"from the LAN's broadcast address", tcp(netip.MustParseAddr("10.77.0.255"), 1, 22, flagSYN, nil), MartianSource},
		{"from the LAN's network address", tcp(netip.MustParseAddr("10.77.0.0"), 1, 22, flagSYN, nil), MartianSource},
		{"from outside the LAN, ending in 255", tcp(netip.MustParseAddr("192.0.2.255"), 1, 22, flagSYN, nil), DeliverSYN},
	} {
		if got := handle(n, frame(etherTypeIPv4, c.packet)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestARPVerdicts(t *testing.T) {
	n, _ := newNode(t)
	announce := arpRequest(vipAddr, vipAddr)
	short := arpRequest(asker, vipAddr)
	short.Data = short.Data[:30]
	for _, c := range []struct {
		name  string
		frame *link.Frame
		want  Verdict
	}{
		{"request for the VIP", arpRequest(asker, vipAddr), AnsweredARP},
		{"probe for the VIP", arpRequest(netip.IPv4Unspecified(), vipAddr), AnsweredARP},
		{"request for another host", arpRequest(asker, netip.MustParseAddr("10.77.0.9")), OtherARP},
		{"a stranger announces the VIP", announce, StrangerClaim},
		{"truncated", short, BadARP},
	} {
		if got := handle(n, c.frame); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if s := n.LastStranger(); s.Address != vipAddr || s.MAC != clientMAC || s.From != clientMAC {
		t.Errorf("stranger %+v", s)
	}
	own(t, n, Bitmap{}, Forever)
	if got := handle(n, arpRequest(asker, vipAddr)); got != NotOwner {
		t.Errorf("request for another node's bucket: %v", got)
	}
	own(t, n, allBuckets(), 0)
	if got := handle(n, arpRequest(asker, vipAddr)); got != NoLease {
		t.Errorf("request after the lease: %v", got)
	}
}

// What a node sends comes from its own MAC, goes back to where the question
// came from, and never has the cluster MAC as its source.
func TestRepliesGoBackToTheAsker(t *testing.T) {
	n, flows := newNode(t)
	flows.down = true
	for name, f := range map[string]*link.Frame{
		"ARP":         arpRequest(asker, vipAddr),
		"echo":        frame(etherTypeIPv4, icmp(asker, icmpEcho, []byte("ping"))),
		"refused":     frame(etherTypeIPv4, tcp(asker, 40000, 22, flagSYN, nil)),
		"closed port": frame(etherTypeIPv4, tcp(asker, 40000, 80, flagACK, nil)),
	} {
		r := n.Handle(0, f).Reply
		if r == nil {
			t.Errorf("%s: no reply", name)
			continue
		}
		if to, from := responder.MAC(r[:6]), responder.MAC(r[6:12]); to != clientMAC || from != ownMAC {
			t.Errorf("%s: from %v to %v", name, from, to)
		}
	}
}

func TestResetsAreLimited(t *testing.T) {
	n, _ := newNode(t)
	f := frame(etherTypeIPv4, tcp(asker, 40000, 80, flagSYN, nil))
	sent := 0
	for range 3 * resetBurst {
		if n.Handle(time.Second, f).Reply != nil {
			sent++
		}
	}
	if got := handle(n, frame(etherTypeIPv4, tcp(asker, 40000, 80, flagRST, nil))); got != StrayReset {
		t.Errorf("a reset for a closed port: %v", got)
	}
	if sent != resetBurst || n.Counts()[ResetLimited] != 2*resetBurst {
		t.Errorf("%d resets sent, %d held back, want %d and %d", sent, n.Counts()[ResetLimited], resetBurst, 2*resetBurst)
	}
}

func TestAddressKnowsWhereClientsAre(t *testing.T) {
	n, _ := newNode(t)
	header := make([]byte, 14)
	if n.Address(0, asker, header) {
		t.Error("a client that was never heard has an address")
	}
	ask := n.Ask(0, asker)
	if ask == nil || netip.AddrFrom4([4]byte(ask[28:32])) != ownAddr {
		t.Errorf("the request for it is %x", ask)
	}
	handle(n, frame(etherTypeIPv4, good()))
	if !n.Address(0, asker, header) {
		t.Fatal("a client that was heard has none")
	}
	if to, from := responder.MAC(header[:6]), responder.MAC(header[6:12]); to != clientMAC || from != ownMAC || binary.BigEndian.Uint16(header[12:]) != etherTypeIPv4 {
		t.Errorf("header %x", header)
	}
	// A frame that is not let in teaches nothing.
	stranger := netip.MustParseAddr("10.77.0.77")
	own(t, n, Bitmap{}, Forever)
	handle(n, frame(etherTypeIPv4, tcp(stranger, 1, 22, flagSYN, nil)))
	if n.Address(0, stranger, header) {
		t.Error("a frame for another node taught an address")
	}
}

func TestNewRefusesWhatCannotBe(t *testing.T) {
	flows := &modelFlows{}
	ok := Config{Own: ownMAC, Address: ownAddr, MTU: 1500, VIPs: []VIP{{VIP: responder.VIP{Addr: vipAddr, MAC: clusterMAC}, LAN: lan}}, Flows: flows}
	if _, err := New(ok); err != nil {
		t.Fatal(err)
	}
	none := ok
	none.VIPs = nil
	stray := ok
	stray.Services = []Service{{Listen: netip.MustParseAddrPort("10.77.0.3:22")}}
	for name, c := range map[string]Config{"no VIP": none, "service without VIP": stray} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	n, _ := New(ok)
	if n.SetOwnership(&Ownership{}) == nil {
		t.Error("an ownership of no VIPs was taken")
	}
}

// Neither a frame of another node nor one of ours, nor what leaves, costs an
// allocation.
func TestFramesAllocateNothing(t *testing.T) {
	n, flows := newNode(t)
	hold(t, n, flows, 40000, flowstate.Open)
	held := frame(etherTypeIPv4, in(40000, flagACK, clientISN+1, ownISN+1, make([]byte, 100)))
	stray := frame(etherTypeIPv4, tcp(asker, 40001, 22, flagACK, make([]byte, 100)))
	leaves := out(40000, flagACK, ownISN+1, clientISN+1, make([]byte, 100))
	for _, owned := range []Bitmap{allBuckets(), {}} {
		own(t, n, owned, Forever)
		for name, fn := range map[string]func(){
			"held":   func() { n.Handle(0, held) },
			"stray":  func() { n.Handle(0, stray) },
			"leaves": func() { n.MayLeave(0, leaves) },
			"turn":   func() { n.Tick(0) },
		} {
			if a := testing.AllocsPerRun(1000, fn); a != 0 {
				t.Errorf("%v allocations, %s, owned is %v", a, name, owned.Has(0))
			}
		}
	}
}

func TestVerdictsHaveNames(t *testing.T) {
	seen := map[string]Verdict{}
	for v := range VerdictCount {
		name := v.String()
		if name == "" || name == "unknown" {
			t.Errorf("verdict %d has no name", v)
		}
		if other, twice := seen[name]; twice {
			t.Errorf("verdicts %d and %d are both %s", v, other, name)
		}
		seen[name] = v
	}
	if VerdictCount.String() != "unknown" {
		t.Error("a number beyond the verdicts has a name")
	}
}

func BenchmarkHandleForeign(b *testing.B) {
	for name, beside := range map[string]int{"alone": 0, "beside 10000 flows": 10_000} {
		b.Run(name, func(b *testing.B) {
			n, flows := newNode(b)
			for i := range beside {
				hold(b, n, flows, uint16(2000+i), flowstate.Open)
			}
			own(b, n, Bitmap{}, Forever)
			f := frame(etherTypeIPv4, tcp(asker.Next(), 40000, 22, flagACK, nil))
			f.Offload.Validated = true
			b.ReportAllocs()
			for b.Loop() {
				n.Handle(0, f)
			}
		})
	}
}

func BenchmarkMayLeave(b *testing.B) {
	n, flows := newNode(b)
	for i := range 10_000 {
		hold(b, n, flows, uint16(2000+i), flowstate.Open)
	}
	p := out(9000, flagACK, ownISN+1, clientISN+1, make([]byte, 1000))
	b.ReportAllocs()
	for b.Loop() {
		n.MayLeave(0, p)
	}
}

func BenchmarkDecode(b *testing.B) {
	var d Decoded
	f := frame(etherTypeIPv4, tcp(asker, 40000, 22, flagACK, nil))
	f.Offload.Validated = true
	b.ReportAllocs()
	for b.Loop() {
		d.Decode(f)
	}
}

func BenchmarkChecksum1460(b *testing.B) {
	p := make([]byte, 1460)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		responder.Sum(0, p)
	}
}
