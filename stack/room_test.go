package stack

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Floods of as many half-open connections as there may be, some of others among them, take
// no more memory after many times than before the first.
func TestFloodsLeaveNothing(t *testing.T) {
	for _, vip := range []string{"10.77.0.2", "2001:db8:77::2"} {
		s, err := New(Config{MTU: 1500, Poller: noPoller{}, Addresses: []netip.Addr{netip.MustParseAddr(vip)}, Services: []Service{{Name: "ssh", Listen: netip.AddrPortFrom(netip.MustParseAddr(vip), 22)}}})
		if err != nil {
			t.Fatal(err)
		}
		family := []tcpip.NetworkProtocolNumber{header.IPv4ProtocolNumber}
		if netip.MustParseAddr(vip).Is6() {
			family[0] = header.IPv6ProtocolNumber
		}
		rng := rand.New(rand.NewPCG(1, 2))
		local := tcpip.AddrFromSlice(netip.MustParseAddr(vip).AsSlice())
		open := func(n int) (out []netstack.TransportEndpointID) {
			for range n {
				from := netip.MustParseAddr(vip).AsSlice()
				for i := range 3 {
					from[len(from)-1-i] = byte(rng.Uint32())
				}
				id := netstack.TransportEndpointID{LocalAddress: local, LocalPort: 22, RemoteAddress: tcpip.AddrFromSlice(from), RemotePort: uint16(rng.Uint32())}
				if s.net.RegisterTransportEndpoint(family, tcp.ProtocolNumber, id, placeholder{}, ports.Flags{}, 0) == nil {
					out = append(out, id)
				}
			}
			return out
		}
		end := func(all []netstack.TransportEndpointID) {
			for _, id := range all {
				s.net.UnregisterTransportEndpoint(family, tcp.ProtocolNumber, id, placeholder{}, ports.Flags{}, 0)
			}
		}
		before := heapInUse()
		var live []netstack.TransportEndpointID
		for range 100 {
			old := live
			flood := open(ListenBacklog)
			live = open(50)
			end(flood)
			end(old)
		}
		if grown := heapInUse() - before; grown > 128<<10 {
			t.Errorf("%s: %d bytes more after 100 floods", vip, grown)
		}
		s.Close()
	}
}
