package node

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"onevoice/link"
	"onevoice/responder"
)

// asking is a node that answers everybody, with a gateway that it knows.
func asking(t *testing.T, probe bool) *Node {
	t.Helper()
	n, err := New(Config{
		Own: ownMAC, Address: ownAddr, Gateway: gatewayAddr, ProbeGateway: probe, MTU: 1500,
		VIPs: []VIP{{VIP: responder.VIP{Addr: vipAddr, MAC: clusterMAC}, LAN: lan}},
	})
	if err != nil {
		t.Fatal(err)
	}
	all := Rows{Accept: Bitmap{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}}
	if err := n.SetOwnership(&Ownership{VIPs: []Rows{all}, Services: []Rows{}, LeaseEnd: Forever}); err != nil {
		t.Fatal(err)
	}
	return n
}

var (
	gatewayAddr = netip.MustParseAddr("10.77.0.1")
	gatewayMAC  = responder.MAC{0x02, 0, 0, 0, 9, 0x01}
)

// question is an ARP request for the VIP.
func question(to, mac responder.MAC, from netip.Addr) []byte {
	b := append(append([]byte{}, to[:]...), mac[:]...)
	b = append(b, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1)
	b = append(append(b, mac[:]...), from.AsSlice()...)
	return append(append(b, 0, 0, 0, 0, 0, 0), vipAddr.AsSlice()...)
}

func ask(t *testing.T, n *Node, at time.Duration, f []byte) {
	t.Helper()
	n.Tick(at)
	if h := n.Handle(at, &link.Frame{Data: f}); h.Verdict != AnsweredARP {
		t.Fatalf("at %v: %v", at, h.Verdict)
	}
}

// A station that asks by broadcast again and again, though it was answered, and sends
// nothing does not believe the answers.
func TestUnbeliever(t *testing.T) {
	all := responder.Broadcast()
	for name, c := range map[string]struct {
		gap   time.Duration
		times int
		to    responder.MAC
		sends bool
		want  int
	}{
		"asks each second":         {time.Second, 7, all, false, 7},
		"asks often enough":        {time.Second, doubtTimes, all, false, doubtTimes},
		"asks not often enough":    {time.Second, doubtTimes - 1, all, false, 0},
		"asks at the longest gap":  {doubtTime, doubtTimes, all, false, doubtTimes},
		"its entry grows old":      {doubtTime + 1, 20, all, false, 0},
		"asks in one burst":        {doubtGap - 1, 2, all, false, 0},
		"asks by unicast":          {time.Second, 20, clusterMAC, false, 0},
		"asks, and sends, at once": {time.Second, 20, all, true, 0},
	} {
		n := asking(t, false)
		for i := range c.times {
			at := time.Duration(i+1) * c.gap
			ask(t, n, at, question(c.to, gatewayMAC, gatewayAddr))
			if c.sends {
				f := frame(etherTypeIPv4, tcp(asker, 1234, 22, flagSYN, nil))
				copy(f.Data[6:12], gatewayMAC[:])
				n.Handle(at, f)
			}
		}
		u := n.LastUnbeliever()
		if u.Times != c.want || c.want > 0 && (u.Address != gatewayAddr || u.MAC != gatewayMAC || u.VIP != vipAddr) {
			t.Errorf("%s: %+v, want %d times", name, u, c.want)
		}
	}
}

// Somebody who sends after all believes; and questions that another node answers
// count for nothing here.
func TestUnbelieverComesToBelieve(t *testing.T) {
	n := asking(t, false)
	for i := range doubtTimes {
		ask(t, n, time.Duration(i)*time.Second, question(responder.Broadcast(), gatewayMAC, gatewayAddr))
	}
	if !n.LastUnbeliever().Address.IsValid() {
		t.Fatal("nobody is in doubt")
	}
	f := frame(etherTypeIPv4, tcp(asker, 1234, 22, flagSYN, nil))
	copy(f.Data[6:12], gatewayMAC[:])
	n.Handle(time.Minute, f)
	if u := n.LastUnbeliever(); u.Address.IsValid() {
		t.Errorf("still in doubt: %+v", u)
	}
	n.Stop()
	for i := range 2 * doubtTimes {
		n.Handle(time.Duration(i)*time.Second, &link.Frame{Data: question(responder.Broadcast(), gatewayMAC, gatewayAddr)})
	}
	if u := n.LastUnbeliever(); u.Address.IsValid() || len(n.doubts.open) > 0 {
		t.Errorf("in doubt though nobody answered: %+v", u)
	}
}

func TestDoubtsAreBounded(t *testing.T) {
	n := asking(t, false)
	for i := range 3 * maxDoubts {
		ask(t, n, time.Duration(i), question(responder.Broadcast(), responder.MAC{2, 0, 0, 0, 8, byte(i)}, netip.AddrFrom4([4]byte{10, 77, 0, byte(100 + i)})))
	}
	if len(n.doubts.open) != maxDoubts || n.doubts.open[0].Address == netip.MustParseAddr("10.77.0.100") {
		t.Errorf("%d stations are looked at, the first %v", len(n.doubts.open), n.doubts.open[0].Address)
	}
	n.Tick(2 * doubtTime)
	if len(n.doubts.open) != 0 {
		t.Errorf("%d stations are looked at after a long time", len(n.doubts.open))
	}
}

// The node that answers the gateway pings it from the VIP, under its lease, as often
// as it takes to find an unbeliever.
func TestGatewayIsPingedFromTheVIP(t *testing.T) {
	n := asking(t, true)
	run := func(from, to time.Duration) (out [][]byte) {
		for now := from; now < to; now += MaxIdle {
			n.probeGateway(now, func(_ int, f []byte) { out = append(out, append([]byte{}, f...)) })
		}
		return out
	}
	n.SetLease(0, 0, 0)
	if got := run(0, 10*time.Second); len(got) != 0 {
		t.Errorf("without a lease %d frames", len(got))
	}
	n.SetLease(0, 0, Forever)
	got := run(10*time.Second, 11*time.Second)
	if len(got) == 0 || binary.BigEndian.Uint16(got[0][12:]) != etherTypeARP {
		t.Fatalf("the node does not ask where the gateway is: %x", got)
	}
	reply := question(ownMAC, gatewayMAC, gatewayAddr)
	reply[21] = 2
	copy(reply[32:], ownMAC[:])
	copy(reply[38:], ownAddr.AsSlice())
	if h := n.Handle(11*time.Second, &link.Frame{Data: reply}); h.Verdict != LearnedNeighbour {
		t.Fatalf("the gateway's answer: %v", h.Verdict)
	}
	got = run(12*time.Second, time.Minute)
	if len(got) != probes {
		t.Fatalf("%d pings, want %d", len(got), probes)
	}
	for _, f := range got {
		if responder.MAC(f[:6]) != gatewayMAC || responder.MAC(f[6:12]) != ownMAC || netip.AddrFrom4([4]byte(f[26:30])) != vipAddr ||
			netip.AddrFrom4([4]byte(f[30:34])) != gatewayAddr || f[34] != 8 || responder.Sum(0, f[14:34]) != 0xffff || responder.Sum(0, f[34:]) != 0xffff || len(f) != 42 {
			t.Errorf("a ping %x", f)
		}
	}
	if got := run(time.Minute, time.Hour); len(got) != 0 {
		t.Errorf("%d pings after that", len(got))
	}
	if n := asking(t, false); n.probe.gateway.IsValid() {
		t.Error("the gateway is pinged though nobody wants that")
	}
}
