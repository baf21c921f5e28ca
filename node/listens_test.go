package node

import (
	"net/netip"
	"testing"
)

// Every port of two VIPs, of either protocol, is found to be the service's that the
// plain reading of the list gives it.
func TestListens(t *testing.T) {
	other := netip.MustParseAddr("2001:db8::2")
	vips := make([]VIP, 2)
	vips[0].Addr, vips[1].Addr = vipAddr, other
	services := []Service{
		{Proto: TCP, Listen: netip.AddrPortFrom(other, 22)},
		{Proto: UDP, Listen: netip.AddrPortFrom(vipAddr, 53)},
		{Proto: TCP, Listen: netip.AddrPortFrom(vipAddr, 8000), LastPort: 8099},
		{Proto: TCP, Listen: netip.AddrPortFrom(vipAddr, 53)},
		{Proto: TCP, Listen: netip.AddrPortFrom(vipAddr, 8100)},
		{Proto: TCP, Listen: netip.AddrPortFrom(vipAddr, 65535)},
		{Proto: UDP, Listen: netip.AddrPortFrom(vipAddr, 1), LastPort: 9},
	}
	l, err := newListens(vips, services)
	if err != nil {
		t.Fatal(err)
	}
	for vip := range vips {
		for _, proto := range []uint8{TCP, UDP, 132} {
			for port := range 1 << 16 {
				want := -1
				for i, s := range services {
					if s.Proto == proto && s.Listen.Addr() == vips[vip].Addr &&
						port >= int(s.Listen.Port()) && port <= max(int(s.LastPort), int(s.Listen.Port())) {
						want = i
					}
				}
				if got, ok := l.find(vip, proto, uint16(port)); ok != (want >= 0) || ok && got != want {
					t.Fatalf("VIP %d, protocol %d, port %d: service %d %v, want %d", vip, proto, port, got, ok, want)
				}
			}
		}
	}
	if _, ok := l.find(-1, TCP, 22); ok {
		t.Error("an address that is no VIP has a service")
	}
}

// No port has two services.
func TestListensTwice(t *testing.T) {
	vips := make([]VIP, 1)
	vips[0].Addr = vipAddr
	at := func(first, last uint16) Service {
		return Service{Proto: TCP, Listen: netip.AddrPortFrom(vipAddr, first), LastPort: last}
	}
	for _, s := range [][]Service{{at(22, 0), at(22, 0)}, {at(80, 90), at(90, 0)}, {at(85, 0), at(80, 90)}, {at(80, 90), at(70, 99)}} {
		if _, err := newListens(vips, s); err == nil {
			t.Errorf("%v: taken", s)
		}
	}
}
