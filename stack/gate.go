package stack

import (
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
	}
}

// endpoint is the flow's own endpoint, nil when there is none but a listener's.
func (s *Stack) endpoint(f *hashing.Flow) *tcp.Endpoint {
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
