package node

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"onevoice/link"
	"onevoice/responder"
)

func seeds6(t testing.TB, add func([]byte)) {
	for _, c := range badPackets6() {
		add(frame6(c.packet).Data)
	}
	for _, p := range [][]byte{
		tcp6(asker6, 40000, 22, flagSYN, nil), tcp6(asker6, 40000, 80, flagSYN, []byte("data")), in6(40000, flagACK, clientISN+1, ownISN+1),
		chained(tcp6(asker6, 40000, 22, flagSYN, nil), []uint8{nextHopByHop, nextDestination}, padding(), padding()),
		udp6(asker6, 40000, 53, []byte("question")), icmp6(asker6, icmp6Echo, []byte("ping")),
		icmp6(asker6, icmp6PacketTooBig, out6(40000, flagACK, 1, 1)),
		solicitation(t, asker6),
		neighbour(t, netip.IPv6Unspecified(), responder.SolicitedNode(vip6Addr), &ndp.NeighborSolicitation{TargetAddress: vip6Addr}),
		neighbour(t, asker6, responder.AllNodes(), &ndp.NeighborAdvertisement{TargetAddress: vip6Addr}),
		neighbour(t, router6Addr, responder.AllNodes(), &ndp.RouterAdvertisement{Options: []ndp.Option{ndp.NewMTU(1400)}}),
	} {
		add(frame6(p).Data)
	}
}

// FuzzHandleIPv6: whatever comes over IPv6, there is one counted verdict, and a reply
// is from our own MAC and the VIP, well formed, and not much longer than what it
// answers.
func FuzzHandleIPv6(f *testing.F) {
	seeds6(f, func(b []byte) { f.Add(b, false); f.Add(b, true) })
	f.Fuzz(func(t *testing.T, data []byte, vouched bool) {
		n, flows := newNode6(t)
		hold6(t, n, flows, 40000)
		before := n.Counts()
		h := n.Handle(n.last, &link.Frame{Data: append([]byte{}, data...), Offload: link.Offload{Validated: vouched}})
		if counts := n.Counts(); h.Verdict == Undecided || h.Verdict >= VerdictCount || counts[h.Verdict] != before[h.Verdict]+1 {
			t.Fatalf("verdict %v is not counted once", h.Verdict)
		}
		if delivers := h.Verdict >= DeliverSYN && h.Verdict <= DeliverError; delivers != (h.Packet != nil) {
			t.Errorf("%v with a packet of %d bytes", h.Verdict, len(h.Packet))
		}
		if mtu := n.MTU6(); mtu < 1280 || mtu > 1500 {
			t.Errorf("an MTU of %d", mtu)
		}
		n.Tick(n.last + time.Second)
		if r := h.Reply; r != nil && binary.BigEndian.Uint16(r[12:]) == etherTypeIPv6 {
			checkReply6(t, data, &h)
		}
	})
}

func checkReply6(t *testing.T, asked []byte, h *Handled) {
	r := h.Reply
	if responder.MAC(r[6:12]) != ownMAC || netip.AddrFrom16([16]byte(r[22:38])) != vip6Addr {
		t.Errorf("%v: a reply from %x at %x", h.Verdict, r[22:38], r[6:12])
	}
	if group := responder.MAC(r[:6]).IsGroup(); group && (h.Verdict != AnsweredNDP || netip.AddrFrom16([16]byte(r[38:54])) != responder.AllNodes()) {
		t.Errorf("%v: a reply to the group %x", h.Verdict, r[:6])
	}
	if ndp := h.Verdict == AnsweredNDP; ndp != (r[54] == 136) && r[20] == protoICMPv6 || ndp && r[21] != 255 {
		t.Errorf("%v: type %d with hop limit %d", h.Verdict, r[54], r[21])
	}
	longest := max(len(asked)+8, 86)
	if h.Verdict == PortUnreachable {
		longest = len(asked) + ipv6Bytes + 8
	}
	if len(r) > longest {
		t.Errorf("%v: a reply of %d bytes to %d", h.Verdict, len(r), len(asked))
	}
	var d Decoded
	if v := d.Decode(&link.Frame{Data: r}); v != Undecided {
		t.Errorf("%v: our own reply is %v", h.Verdict, v)
	}
}
