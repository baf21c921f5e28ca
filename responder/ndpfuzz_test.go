package responder

import (
	"net/netip"
	"testing"

	"github.com/mdlayher/ndp"
)

// FuzzNDP: whatever is said in neighbour discovery, an answer goes only to who asked
// for a VIP that is ours to answer for, from our own MAC, with hop limit 255 and the
// cluster MAC inside, and a library that is not ours can read it.
func FuzzNDP(f *testing.F) {
	own, cluster, asker := MAC{2, 0, 0, 0, 0, 1}, MAC{3, 0, 0, 0, 0, 2}, MAC{2, 0, 0, 0, 0, 3}
	vip, client, self, router := netip.MustParseAddr("2001:db8:77::2"), netip.MustParseAddr("2001:db8:77::65"), netip.MustParseAddr("2001:db8:77::11"), netip.MustParseAddr("fe80::1")
	for _, m := range []ndp.Message{
		&ndp.NeighborSolicitation{TargetAddress: vip, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: asker.hardwareAddr()}}},
		&ndp.NeighborSolicitation{TargetAddress: vip},
		&ndp.NeighborAdvertisement{TargetAddress: vip, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: asker.hardwareAddr()}}},
		&ndp.NeighborAdvertisement{TargetAddress: client, Solicited: true},
		&ndp.RouterAdvertisement{Options: []ndp.Option{ndp.NewMTU(1400)}}, &ndp.RouterSolicitation{},
	} {
		b, err := ndp.MarshalMessage(m)
		if err != nil {
			f.Fatal(err)
		}
		for from := range uint8(4) {
			f.Add(b, from, uint8(255), true)
		}
	}
	// Options that have no length, and that end behind the message.
	for _, option := range [][]byte{{1, 0, 2, 0, 0, 0, 0, 3}, {1, 2, 2, 0, 0, 0, 0, 3}} {
		b := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, vip.AsSlice()...)
		f.Add(append(b, option...), uint8(0), uint8(255), true)
	}
	f.Fuzz(func(t *testing.T, body []byte, from, hops uint8, owned bool) {
		n, err := NewNDP(own, self, router, 1500, []VIP{{Addr: vip, MAC: cluster}})
		if err != nil {
			t.Fatal(err)
		}
		src := []netip.Addr{client, netip.IPv6Unspecified(), vip, router}[from%4]
		dst := []netip.Addr{SolicitedNode(vip), vip, self, AllNodes()}[from/4%4]
		asked := 0
		r := n.Handle(0, &NDPMessage{From: asker, To: own, Src: src, Dst: dst, HopLimit: hops, Body: body}, func(a, _ netip.Addr) bool {
			asked++
			return owned && a == vip
		})
		if asked > 1 || r.MTU != 0 && (r.MTU < MinIPv6MTU || r.MTU > 1500) {
			t.Errorf("asked %d times, an MTU of %d", asked, r.MTU)
		}
		if r.Reply == nil {
			return
		}
		reply, err := ndp.ParseMessage(r.Reply[54:])
		na, ok := reply.(*ndp.NeighborAdvertisement)
		switch {
		case !owned || hops != 255 || len(body) < 24 || body[0] != 135 || netip.AddrFrom16([16]byte(body[8:24])) != vip || src == vip:
			t.Errorf("an answer to %v, % x", src, body)
		case err != nil || !ok || na.TargetAddress != vip || na.Router || len(na.Options) != 1:
			t.Errorf("the answer is %+v, %v", reply, err)
		case na.Options[0].(*ndp.LinkLayerAddress).Addr.String() != cluster.hardwareAddr().String():
			t.Errorf("the answer names %v", na.Options[0])
		case MAC(r.Reply[6:12]) != own || r.Reply[21] != 255 || netip.AddrFrom16([16]byte(r.Reply[22:38])) != vip:
			t.Errorf("the answer is from %x", r.Reply[6:38])
		case MAC(r.Reply[:6]).IsGroup() != src.IsUnspecified():
			t.Errorf("an answer to %x for %v", r.Reply[:6], src)
		}
	})
}
