package stack

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"onevoice/proxy"
)

// service is a listening endpoint and what is known of the backend behind it.
type service struct {
	Service
	index  int
	ep     tcpip.Endpoint
	queue  waiter.Queue
	entry  waiter.Entry
	wake   func()
	health proxy.Health
	probe  Local
	// probeBy is when the dial under way is given up.
	probeBy time.Duration
	// pending: connections may be waiting to be accepted.
	pending atomic.Bool
	flows   int
}

var errConnectTimeout = fmt.Errorf("no answer within %v", connectTimeout)

// dial starts to connect to the backend for a client, or for a probe when
// client is the zero AddrPort.
func (svc *service) dial(client netip.AddrPort) (Local, error) {
	if svc.Dial != nil {
		return svc.Dial(client)
	}
	to := svc.Backend
	to.Transparent = to.Transparent && client.IsValid()
	conn, err := to.Dial(client)
	if err != nil {
		return nil, err // and no *proxy.Conn that is nil in a Local that is not
	}
	return conn, nil
}

// listen adds a service.
func (s *Stack) listen(cfg Service) error {
	svc := &service{Service: cfg, index: len(s.services), wake: s.poller.Wake}
	protocol, nic := familyOf(cfg.Listen.Addr())
	ep, err := s.net.NewEndpoint(tcp.ProtocolNumber, protocol, &svc.queue)
	if err != nil {
		return fmt.Errorf("stack: service %s: %s", cfg.Name, err)
	}
	svc.ep = ep
	if err := ep.Bind(tcpip.FullAddress{NIC: nic, Addr: toAddress(cfg.Listen.Addr()), Port: cfg.Listen.Port()}); err != nil {
		ep.Close()
		return fmt.Errorf("stack: service %s: bind %s: %s", cfg.Name, cfg.Listen, err)
	}
	svc.entry.Init(svc, waiter.ReadableEvents)
	svc.queue.EventRegister(&svc.entry)
	if err := ep.Listen(ListenBacklog); err != nil {
		ep.Close()
		return fmt.Errorf("stack: service %s: listen on %s: %s", cfg.Name, cfg.Listen, err)
	}
	s.services = append(s.services, svc)
	return nil
}

// NotifyEvent implements waiter.EventListener. Netstack calls it from its own
// goroutines.
func (svc *service) NotifyEvent(waiter.EventMask) {
	svc.pending.Store(true)
	svc.wake()
}

func (svc *service) close() {
	svc.queue.EventUnregister(&svc.entry)
	svc.ep.Close()
	if svc.probe != nil {
		svc.probe.Close()
	}
}

// turn accepts what waits and dials the backend when that is due.
func (svc *service) turn(s *Stack, now time.Duration) {
	if svc.pending.Swap(false) {
		svc.accept(s, now)
	}
	if svc.probe != nil && now >= svc.probeBy {
		svc.endProbe(s, now, errConnectTimeout)
	}
	if at, due := svc.health.Next(); due && now >= at {
		svc.dialProbe(s, now)
	}
}

func (svc *service) next() (time.Duration, bool) {
	if svc.probe != nil {
		return svc.probeBy, true
	}
	return svc.health.Next()
}

func (svc *service) accept(s *Stack, now time.Duration) {
	for range acceptsPerTurn {
		var peer tcpip.FullAddress
		ep, queue, err := svc.ep.Accept(&peer)
		if err != nil {
			return
		}
		if s.Full() {
			s.counters.OverLimit++
			ep.Abort()
			continue
		}
		s.begin(svc, ep, queue, fromAddress(peer), now)
	}
	svc.pending.Store(true)
}

// dialProbe dials the backend without a client, to learn that it is back.
func (svc *service) dialProbe(s *Stack, now time.Duration) {
	svc.health.Probing()
	conn, err := svc.dial(netip.AddrPort{})
	if err == nil {
		err = s.poller.AddEdge(conn.FD(), probeToken(svc.index))
		if err != nil {
			conn.Close()
		}
	}
	if err != nil {
		svc.health.Refused(now)
		return
	}
	svc.probe, svc.probeBy = conn, now+probeTimeout
}

func (svc *service) endProbe(s *Stack, now time.Duration, err error) {
	svc.probe.Close()
	svc.probe = nil
	if err != nil {
		svc.health.Refused(now)
		return
	}
	svc.connected(s, now)
}

func (svc *service) connected(s *Stack, now time.Duration) {
	if svc.health.Connected(now) {
		s.changed(svc.Name, true, nil)
	}
}

func (svc *service) refused(s *Stack, now time.Duration, err error) {
	if svc.health.Refused(now) {
		s.changed(svc.Name, false, err)
	}
}

// ServiceStatus is what a stack knows of one service.
type ServiceStatus struct {
	Name    string `json:"name"`
	Listen  string `json:"listen"`
	Backend string `json:"backend"`
	Up      bool   `json:"up"`
	Flows   int    `json:"flows"`
}

// Services reports the services in the order of the configuration.
func (s *Stack) Services() []ServiceStatus {
	out := make([]ServiceStatus, len(s.services))
	for i, svc := range s.services {
		out[i] = ServiceStatus{
			Name:    svc.Name,
			Listen:  svc.Listen.String(),
			Backend: svc.Backend.Addr.String(),
			Up:      svc.health.Up(),
			Flows:   svc.flows,
		}
	}
	return out
}

// Up reports whether the backend of the service with that index took the last
// dial.
func (s *Stack) Up(service int) bool { return s.services[service].health.Up() }

// Tokens in the poller. Flows have the numbers from firstFlowToken on.
const (
	firstFlowToken = 1 << 16
	firstProbe     = 1 << 8
)

// MaxServices bounds the services of a stack.
const MaxServices = firstFlowToken - firstProbe

func probeToken(index int) uint64 { return uint64(firstProbe + index) }

// Owns reports whether a token of the poller belongs to the stack.
func (s *Stack) Owns(token uint64) bool { return token >= firstProbe }
