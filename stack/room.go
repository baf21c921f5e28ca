package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// roomForConnections is for how many connections of a family netstack's table has room from
// the start: twice as many as may be half-open at one listener; where several are flooded, the
// table grows for the others. With what fills it by half each flood has some part of it grow
// for good, some floods later: the marks of what was deleted fill it too (pruneTombstones in
// internal/runtime/maps/table.go).
const roomForConnections = 2 * ListenBacklog

// takeRoom has netstack's table of connections to a service's address get its room.
func (s *Stack) takeRoom(to *Service) {
	family := []tcpip.NetworkProtocolNumber{header.IPv4ProtocolNumber}
	if to.Listen.Addr().Is6() {
		family[0] = header.IPv6ProtocolNumber
	}
	id := netstack.TransportEndpointID{
		LocalAddress: tcpip.AddrFromSlice(to.Listen.Addr().AsSlice()), LocalPort: to.Listen.Port(),
		RemoteAddress: tcpip.AddrFromSlice(to.Listen.Addr().AsSlice()),
	}
	var nobody placeholder
	taken := 0
	for ; taken < roomForConnections; taken++ {
		id.RemotePort = uint16(taken + 1)
		if s.net.RegisterTransportEndpoint(family, tcp.ProtocolNumber, id, nobody, ports.Flags{}, 0) != nil {
			break
		}
	}
	for i := range taken {
		id.RemotePort = uint16(i + 1)
		s.net.UnregisterTransportEndpoint(family, tcp.ProtocolNumber, id, nobody, ports.Flags{}, 0)
	}
}

// placeholder is a connection that is none. No frame comes while it is there.
type placeholder struct{}

var _ netstack.TransportEndpoint = placeholder{}

// HandlePacket implements stack.TransportEndpoint.
func (placeholder) HandlePacket(netstack.TransportEndpointID, *netstack.PacketBuffer) {}

// HandleError implements stack.TransportEndpoint.
func (placeholder) HandleError(netstack.TransportError, *netstack.PacketBuffer) {}

// Abort implements stack.TransportEndpoint.
func (placeholder) Abort() {}

// Wait implements stack.TransportEndpoint.
func (placeholder) Wait() {}
