package stack

import (
	"sync/atomic"

	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// linkEndpoint6 is netstack's interface for IPv6. It is the other one but for the
// MTU, which a router may make smaller for IPv6 alone (RFC 4861 §4.6.4).
type linkEndpoint6 struct {
	*linkEndpoint
	mtu        atomic.Uint32
	dispatcher netstack.NetworkDispatcher
}

var (
	_ netstack.LinkEndpoint = (*linkEndpoint6)(nil)
	_ netstack.GSOEndpoint  = (*linkEndpoint6)(nil)
)

// MTU implements netstack.LinkEndpoint.
func (l *linkEndpoint6) MTU() uint32 { return l.mtu.Load() }

// SetMTU implements netstack.LinkEndpoint.
func (l *linkEndpoint6) SetMTU(mtu uint32) { l.mtu.Store(mtu) }

// Attach implements netstack.LinkEndpoint.
func (l *linkEndpoint6) Attach(d netstack.NetworkDispatcher) { l.dispatcher = d }

// IsAttached implements netstack.LinkEndpoint.
func (l *linkEndpoint6) IsAttached() bool { return l.dispatcher != nil }

// SetMTU6 makes the largest IPv6 packet that many bytes. Flows that have begun keep
// their segments' size until a router says that one was too big.
func (s *Stack) SetMTU6(mtu int) { s.link.six.SetMTU(uint32(mtu)) }
