package stack

import (
	"encoding/binary"

	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
)

// State is where a flow stands in netstack, which registers an endpoint of its
// own for each flow from the SYN on: also for half-open ones, but not for those
// that it has answered with a SYN cookie.
func (s *Stack) State(f *hashing.Flow) flowstate.State {
	if ep := s.endpoint(f); ep != nil {
		return stateOf(ep.EndpointState())
	}
	return flowstate.None
}

// Holds reports whether netstack has an endpoint of its own for the flow.
func (s *Stack) Holds(f *hashing.Flow) bool { return s.State(f) != flowstate.None }

// Forget removes a flow without a word to the client. Netstack says nothing when
// a half-open flow ends; for any other it emits a reset, which the gate must not
// let leave. The connection to the backend, where there is one, is reset in the
// next Turn.
func (s *Stack) Forget(f *hashing.Flow) { s.End(f) }

// End ends a flow at once: an open one with a reset, a half-open one in silence.
func (s *Stack) End(f *hashing.Flow) {
	if ep := s.endpoint(f); ep != nil {
		ep.Abort()
		// Nobody may ask for it again.
		s.known[knownSlot(f)].ep = nil
	}
}

// endpoint is the flow's own endpoint, nil when there is none but a listener's.
// Asking netstack takes the locks of four tables, and the gate asks for each frame,
// so the last answers are remembered for as long as they are true.
func (s *Stack) endpoint(f *hashing.Flow) *tcp.Endpoint {
	known := &s.known[knownSlot(f)]
	if known.ep != nil && known.flow == *f {
		if stateOf(known.ep.EndpointState()) != flowstate.None {
			return known.ep
		}
		known.ep = nil
	}
	ep := s.find(f)
	if ep != nil && stateOf(ep.EndpointState()) != flowstate.None {
		known.flow, known.ep = *f, ep
	}
	return ep
}

// knownFlows bounds the endpoints that are remembered. One that netstack has let go
// of by itself stays in memory until it is asked for again, which node's sweep does.
const knownFlows = 1 << 12

// knownFlow is a flow and its endpoint. Netstack gives up an endpoint by taking it to
// a state in which it is nobody's, before the tuple can have another.
type knownFlow struct {
	flow hashing.Flow
	ep   *tcp.Endpoint
}

// knownSlot is where a flow is remembered.
func knownSlot(f *hashing.Flow) uint64 {
	a := f.Src.As16()
	h := binary.LittleEndian.Uint64(a[8:])*0x9e3779b97f4a7c15 ^ binary.LittleEndian.Uint64(a[:8])
	h = (h ^ uint64(f.SrcPort)<<16 ^ uint64(f.DstPort)) * 0xc2b2ae3d27d4eb4f
	return h >> 52 % knownFlows
}

// find asks netstack for the flow's endpoint.
func (s *Stack) find(f *hashing.Flow) *tcp.Endpoint {
	protocol, nic := familyOf(f.Dst)
	ep := s.net.FindTransportEndpoint(protocol, tcp.ProtocolNumber, netstack.TransportEndpointID{
		LocalAddress:  toAddress(f.Dst),
		LocalPort:     f.DstPort,
		RemoteAddress: toAddress(f.Src),
		RemotePort:    f.SrcPort,
	}, nic)
	t, ok := ep.(*tcp.Endpoint)
	if !ok || t.EndpointState() == tcp.StateListen {
		return nil
	}
	return t
}

func stateOf(s tcp.EndpointState) flowstate.State {
	switch s {
	case tcp.StateConnecting, tcp.StateSynRecv:
		return flowstate.HalfOpen
	case tcp.StateEstablished, tcp.StateFinWait1, tcp.StateFinWait2, tcp.StateCloseWait:
		return flowstate.Open
	case tcp.StateClosing, tcp.StateLastAck:
		return flowstate.Closing
	case tcp.StateTimeWait:
		return flowstate.TimeWait
	}
	return flowstate.None
}
