package node

import (
	"net/netip"
	"testing"
	"time"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
	"onevoice/responder"
)

// TestR6EachVIPHasItsLease: a path that is lost takes the VIPs on it away, and what
// is on the others is answered as before.
func TestR6EachVIPHasItsLease(t *testing.T) {
	other, otherMAC := netip.MustParseAddr("10.77.0.3"), responder.MAC{1, 0, 0x5e, 77, 0, 3}
	flows := &modelFlows{states: map[hashing.Flow]flowstate.State{}}
	n, err := New(Config{
		Own: ownMAC, Address: ownAddr, MTU: 1500, Hasher: hashing.NewHasher(key), Flows: flows,
		VIPs:     []VIP{{VIP: responder.VIP{Addr: vipAddr, MAC: clusterMAC}, LAN: lan}, {VIP: responder.VIP{Addr: other, MAC: otherMAC}, LAN: lan}},
		Services: []Service{{Proto: TCP, Listen: netip.AddrPortFrom(other, 22)}, {Proto: TCP, Listen: netip.AddrPortFrom(vipAddr, 22)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	rows := []Rows{{Accept: allBuckets()}, {Accept: allBuckets()}}
	if err := n.SetOwnership(&Ownership{Generation: 1, VIPs: rows, Services: rows, LeaseEnd: Forever}); err != nil {
		t.Fatal(err)
	}
	for lost := range 2 {
		n.SetLease(lost, 0, 0)
		n.SetLease(1-lost, 0, Forever)
		for vip, addr := range []netip.Addr{vipAddr, other} {
			to := func(b []byte) []byte {
				copy(b[16:], addr.AsSlice())
				fixIP(b)
				fixTransport(b)
				return b
			}
			syn, closed := frame(etherTypeIPv4, to(tcp(asker, 40000, 22, flagSYN, nil))), frame(etherTypeIPv4, to(tcp(asker, 40000, 23, flagSYN, nil)))
			want := map[Verdict]bool{DeliverSYN: true, AnsweredARP: true, ClosedPort: true}
			if vip == lost {
				want = map[Verdict]bool{NoLease: true}
			}
			for _, f := range []Handled{n.Handle(time.Second, syn), n.Handle(time.Second, closed), n.Handle(time.Second, arpRequest(asker, addr))} {
				if !want[f.Verdict] {
					t.Errorf("VIP %d, the lease of VIP %d lost: %v, want one of %v", vip, lost, f.Verdict, want)
				}
				if f.Reply != nil && f.vip != vip {
					t.Errorf("a reply for VIP %d is to leave under the lease of VIP %d", vip, f.vip)
				}
			}
			synACK := out(40000, flagSYN|flagACK, ownISN, 1001, nil)
			copy(synACK[12:], addr.AsSlice())
			fixIP(synACK)
			fixTransport(synACK)
			flows.states[hashing.Flow{Src: asker, Dst: addr, SrcPort: 40000, DstPort: 22, Proto: protoTCP}] = flowstate.HalfOpen
			if v := n.MayLeave(time.Second, synACK); (v == LateSYNACK) != (vip == lost) {
				t.Errorf("VIP %d, the lease of VIP %d lost: a SYN-ACK met %v", vip, lost, v)
			}
		}
	}
}

// What others may serve is nobody's to refuse: a port without a service is met with
// silence while other files may have one there.
func TestPortsOfOthersAreNotRefused(t *testing.T) {
	n, _ := newNode(t)
	for elsewhere, want := range map[bool]bool{false: true, true: false} {
		o := *n.ownership
		o.Elsewhere = elsewhere
		if err := n.SetOwnership(&o); err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{
			"SYN": tcp(asker, 40000, 4711, flagSYN, nil), "ACK": tcp(asker, 40000, 4711, flagACK, nil), "datagram": udp(asker, 40000, 4711, nil),
		} {
			h := n.Handle(time.Second, frame(etherTypeIPv4, b))
			if (h.Reply != nil) != want || (h.Verdict == StrayShared) == want {
				t.Errorf("%s, served elsewhere %v: %v with an answer %v", name, elsewhere, h.Verdict, h.Reply != nil)
			}
		}
	}
}
