package responder

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func newTestNeighbours(t testing.TB, bound int) *Neighbours {
	t.Helper()
	n, err := NewNeighbours(ownMAC, ownAddr, lan, gatewayAddr, vips(), bound)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func expectNext(t *testing.T, n *Neighbours, now time.Duration, dst netip.Addr, want MAC) {
	t.Helper()
	got, ok := n.Next(now, dst)
	if ok != !want.IsZero() || got != want {
		t.Errorf("Next(%v, %v) = %v, %v, want %v", now, dst, got, ok, want)
	}
}

func TestAskGolden(t *testing.T) {
	got := newTestNeighbours(t, 8).Ask(0, farAddr)
	if want := unhex(t, goldenAsk); !bytes.Equal(got, want) {
		t.Errorf("request\n%x\nwant\n%x", got, want)
	}
	checkEmitted(t, got)
}

func TestNextIsWhereTheFramesCameFrom(t *testing.T) {
	n := newTestNeighbours(t, 8)
	expectNext(t, n, 0, clientAddr, MAC{})
	n.Learn(0, clientAddr, clientMAC)
	expectNext(t, n, 0, clientAddr, clientMAC)
	n.Learn(1, clientAddr, peerMAC)
	expectNext(t, n, 1, clientAddr, peerMAC)

	// Off the LAN: the router by which the question came, else the gateway, and
	// on the LAN never the gateway.
	n.Learn(1, farAddr, peerMAC)
	n.Learn(1, gatewayAddr, gatewayMAC)
	expectNext(t, n, 1, farAddr, peerMAC)
	expectNext(t, n, 1, addr("192.0.2.8"), gatewayMAC)
	expectNext(t, n, 1, addr("10.77.0.102"), MAC{})
}

func TestNeighboursAge(t *testing.T) {
	n := newTestNeighbours(t, 8)
	n.Learn(0, clientAddr, clientMAC)
	n.Learn(0, farAddr, peerMAC)
	expectNext(t, n, NeighbourAge, clientAddr, clientMAC)
	// To be asked about does not make an entry younger.
	expectNext(t, n, NeighbourAge+1, clientAddr, MAC{})
	n.Learn(NeighbourAge+1, gatewayAddr, gatewayMAC)
	expectNext(t, n, NeighbourAge+1, farAddr, gatewayMAC)
	if c := n.Counters(); c.Known != 1 {
		t.Errorf("%d addresses are known, want the gateway alone", c.Known)
	}
}

func TestSeenAgainIsYoungAgain(t *testing.T) {
	n := newTestNeighbours(t, 8)
	n.Learn(0, clientAddr, clientMAC)
	n.Learn(NeighbourAge, clientAddr, clientMAC)
	expectNext(t, n, 2*NeighbourAge, clientAddr, clientMAC)
	expectNext(t, n, 2*NeighbourAge+1, clientAddr, MAC{})
}

func TestNeighboursShrinkWithUse(t *testing.T) {
	n := newTestNeighbours(t, 100)
	base := addr("198.51.100.0").As4()
	for i := range 100 {
		base[3] = byte(i)
		n.Learn(0, netip.AddrFrom4(base), gatewayMAC)
	}
	for i := range 100 {
		n.Learn(NeighbourAge+1, clientAddr, clientMAC)
		base[3] = byte(100 + i)
		n.Learn(NeighbourAge+1, netip.AddrFrom4(base), gatewayMAC)
	}
	if c := n.Counters(); c.Evicted > 1 {
		t.Errorf("%d live addresses were evicted beside aged ones", c.Evicted)
	}
	expectNext(t, n, NeighbourAge+1, clientAddr, clientMAC)
}

func TestNeighboursBoundTakesTheLeastRecentlyUsed(t *testing.T) {
	n := newTestNeighbours(t, 3)
	a, b, c, d := addr("10.77.0.101"), addr("10.77.0.102"), addr("10.77.0.103"), addr("10.77.0.104")
	for _, x := range []netip.Addr{a, b, c} {
		n.Learn(0, x, clientMAC)
	}
	expectNext(t, n, 0, a, clientMAC) // b is now the least recently used
	n.Learn(0, d, clientMAC)
	expectNext(t, n, 0, b, MAC{})
	for _, x := range []netip.Addr{a, c, d} {
		expectNext(t, n, 0, x, clientMAC)
	}
	if got := n.Counters(); got.Evicted != 1 || got.Known != 3 {
		t.Errorf("counters %+v", got)
	}
}

// The table has at most so many addresses, and the room for them from the start: one that
// fills is no heap that grows.
func TestMaxNeighbours(t *testing.T) {
	n := newTestNeighbours(t, MaxNeighbours)
	place, chain := &n.known.entries[:1][0], &n.known.heads[0]
	for i := range MaxNeighbours + 10 {
		n.Learn(0, netip.AddrFrom4([4]byte{172, byte(16 + i>>16), byte(i >> 8), byte(i)}), gatewayMAC)
	}
	if c := n.Counters(); c.Known != MaxNeighbours || c.Evicted != 10 {
		t.Errorf("counters %+v", c)
	}
	for i := range MaxNeighbours + 10 {
		_, ok := n.lookup(0, netip.AddrFrom4([4]byte{172, byte(16 + i>>16), byte(i >> 8), byte(i)}))
		if ok != (i >= 10) {
			t.Fatalf("address %d of %d is known: %v", i, MaxNeighbours+10, ok)
		}
	}
	if places, chains := len(n.known.entries), len(n.known.heads); places != MaxNeighbours || chains != MaxNeighbours {
		t.Errorf("%d places and %d hash chains for %d addresses", places, chains, MaxNeighbours)
	}
	if place != &n.known.entries[0] || chain != &n.known.heads[0] {
		t.Error("it grew")
	}
}

func TestNeighboursRefuse(t *testing.T) {
	for _, tc := range []struct {
		name string
		addr netip.Addr
		mac  MAC
	}{
		{"group MAC", clientAddr, clusterMAC},
		{"broadcast MAC", clientAddr, Broadcast()},
		{"zero MAC", clientAddr, MAC{}},
		{"our own MAC", clientAddr, ownMAC},
		{"a cluster MAC", clientAddr, unicastMAC},
		{"a VIP", vipAddr, clientMAC},
		{"our own address", ownAddr, clientMAC},
		{"the LAN's broadcast", addr("10.77.0.255"), clientMAC},
		{"the LAN's own address", addr("10.77.0.0"), clientMAC},
		{"everybody", addr("255.255.255.255"), clientMAC},
		{"multicast", addr("239.1.2.3"), clientMAC},
		{"nobody", netip.IPv4Unspecified(), clientMAC},
		{"invalid", netip.Addr{}, clientMAC},
		{"IPv6", addr("2001:db8::1"), clientMAC},
		{"IPv4 in IPv6", addr("::ffff:10.77.0.101"), clientMAC},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newTestNeighbours(t, 8)
			if n.Learn(0, tc.addr, tc.mac) {
				t.Error("learned")
			}
			expectNext(t, n, 0, tc.addr, MAC{})
			n.Ask(0, tc.addr)
			if n.Answer(0, tc.addr, tc.mac) {
				t.Error("believed")
			}
			// A good entry is not lost to a bad mapping.
			n.Learn(0, clientAddr, clientMAC)
			n.Learn(1, tc.addr, tc.mac)
			expectNext(t, n, 1, clientAddr, clientMAC)
		})
	}
}

func TestAnswerOnlyToAQuestion(t *testing.T) {
	n := newTestNeighbours(t, 8)
	if n.Answer(0, gatewayAddr, gatewayMAC) {
		t.Error("an answer to no question was believed")
	}
	if n.Ask(0, farAddr) == nil {
		t.Fatal("not asked")
	}
	if n.Answer(1, farAddr, gatewayMAC) {
		t.Error("an answer was believed for another address than was asked for")
	}
	if !n.Answer(AnswerWithin, gatewayAddr, gatewayMAC) {
		t.Error("an answer in time was not believed")
	}
	if n.Answer(AnswerWithin, gatewayAddr, peerMAC) {
		t.Error("a second answer was believed")
	}
	expectNext(t, n, AnswerWithin, farAddr, gatewayMAC)
	if n.Ask(AnswerWithin, farAddr) != nil {
		t.Error("asked for what is known")
	}
	if c := n.Counters(); c.Asked != 1 || c.Answered != 1 || c.Unasked != 3 || c.Asking != 0 {
		t.Errorf("counters %+v", c)
	}
}

func TestAnswerTooLate(t *testing.T) {
	n := newTestNeighbours(t, 8)
	n.Ask(0, farAddr)
	if n.Answer(AnswerWithin+1, gatewayAddr, gatewayMAC) {
		t.Error("an answer was believed too late")
	}
}

func TestAskAtMostOnceASecond(t *testing.T) {
	n := newTestNeighbours(t, 8)
	var sent []time.Duration
	for now := time.Duration(0); now < 3*time.Second; now += 100 * time.Millisecond {
		// Two addresses behind one gateway are one question.
		for _, dst := range []netip.Addr{farAddr, addr("198.51.100.1")} {
			if n.Ask(now, dst) != nil {
				sent = append(sent, now)
			}
		}
	}
	if len(sent) != 3 || sent[1] != time.Second || sent[2] != 2*time.Second {
		t.Errorf("asked at %v", sent)
	}
}

func TestMaxAsking(t *testing.T) {
	n, err := NewNeighbours(ownMAC, ownAddr, netip.MustParsePrefix("10.77.0.0/16"), netip.Addr{}, vips(), 8)
	if err != nil {
		t.Fatal(err)
	}
	dst := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, byte(1 + i>>8), byte(i)}) }
	for i := range MaxAsking {
		if n.Ask(0, dst(i)) == nil {
			t.Fatalf("request %d was held back", i)
		}
	}
	if n.Ask(AnswerWithin, dst(MaxAsking)) != nil {
		t.Error("asked beyond the bound")
	}
	if n.Ask(AnswerWithin+1, dst(MaxAsking)) == nil {
		t.Error("a question that nobody answered keeps its place for ever")
	}
	if c := n.Counters(); c.Asking != MaxAsking || c.AskingFull != 1 || c.Asked != MaxAsking+1 {
		t.Errorf("counters %+v", c)
	}
	if n.Ask(0, farAddr) != nil {
		t.Error("asked for an address off the LAN without a gateway")
	}
}

func TestNewNeighboursRefuses(t *testing.T) {
	for _, tc := range []struct {
		name    string
		lan     netip.Prefix
		gateway netip.Addr
		bound   int
		want    string
	}{
		{"no network", netip.Prefix{}, gatewayAddr, 1, "not an IPv4 prefix"},
		{"IPv6 network", netip.MustParsePrefix("2001:db8::/64"), gatewayAddr, 1, "not an IPv4 prefix"},
		{"gateway is a VIP", lan, vipAddr, 1, "gateway"},
		{"gateway is this node", lan, ownAddr, 1, "gateway"},
		{"gateway is the broadcast", lan, addr("10.77.0.255"), 1, "gateway"},
		{"no room", lan, gatewayAddr, 0, "bound"},
		{"too much room", lan, gatewayAddr, maxTable + 1, "bound"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := NewNeighbours(ownMAC, ownAddr, tc.lan, tc.gateway, vips(), tc.bound)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestDirectedBroadcast(t *testing.T) {
	for prefix, want := range map[string]string{
		"10.77.0.9/24": "10.77.0.255", "10.77.0.0/15": "10.77.255.255", "10.0.0.0/30": "10.0.0.3", "0.0.0.0/0": "255.255.255.255",
	} {
		if got := directedBroadcast(netip.MustParsePrefix(prefix)); got != addr(want) {
			t.Errorf("%s: %v, want %s", prefix, got, want)
		}
	}
	for _, prefix := range []string{"10.0.0.0/31", "10.0.0.1/32"} {
		if got := directedBroadcast(netip.MustParsePrefix(prefix)); got.IsValid() {
			t.Errorf("%s: %v, want none", prefix, got)
		}
	}
}

func TestNeighboursAllocateNothing(t *testing.T) {
	n := newTestNeighbours(t, 64)
	a := [4]byte{172, 16, 0, 0}
	for i := range 256 {
		a[3] = byte(i)
		n.Learn(0, netip.AddrFrom4(a), gatewayMAC)
	}
	// Over the bound: every address is a new one, and one is evicted for it.
	if got := testing.AllocsPerRun(2000, func() {
		a[3]++
		n.Learn(1, netip.AddrFrom4(a), gatewayMAC)
		n.Next(1, netip.AddrFrom4(a))
	}); got != 0 {
		t.Errorf("%v allocations for a frame and its answer", got)
	}
}

func BenchmarkLearnNext(b *testing.B) {
	for _, tc := range []struct {
		name    string
		clients int
	}{{"one-client", 1}, {"1000-clients", 1000}, {"60000-clients", 60000}} {
		b.Run(tc.name, func(b *testing.B) {
			n := newTestNeighbours(b, MaxNeighbours)
			addrs := make([]netip.Addr, tc.clients)
			for i := range addrs {
				addrs[i] = netip.AddrFrom4([4]byte{172, byte(16 + i>>16), byte(i >> 8), byte(i)})
				n.Learn(0, addrs[i], gatewayMAC)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				n.Learn(1, addrs[i], gatewayMAC)
				if _, ok := n.Next(1, addrs[i]); !ok {
					b.Fatal("forgotten")
				}
				if i++; i == len(addrs) {
					i = 0
				}
			}
		})
	}
}

// BenchmarkLearnEvicts is the table at its bound with only new clients.
func BenchmarkLearnEvicts(b *testing.B) {
	n := newTestNeighbours(b, MaxNeighbours)
	next := uint32(0)
	learn := func() {
		next++
		n.Learn(1, netip.AddrFrom4([4]byte{172, byte(next >> 16), byte(next >> 8), byte(next)}), gatewayMAC)
	}
	for range 2 * MaxNeighbours {
		learn()
	}
	b.ReportAllocs()
	for b.Loop() {
		learn()
	}
}
