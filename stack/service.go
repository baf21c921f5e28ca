package stack

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"onevoice/proxy"
)

// service is its listeners and what is known of the backend behind them.
type service struct {
	Service
	index     int
	listeners []*listener
	wake      func()
	health    proxy.Health
	probe     Local
	// probeBy is when the dial under way is given up.
	probeBy time.Duration
	// pending: connections may be waiting to be accepted, by a listener that says so
	// of itself.
	pending atomic.Bool
	flows   int
}

var errConnectTimeout = fmt.Errorf("no answer within %v", connectTimeout)

// dial starts to connect to the backend for a client that came to a port, or for a
// probe when client is the zero AddrPort. spoken: what the client has said already is
// written at once.
func (svc *service) dial(client netip.AddrPort, port uint16, spoken bool) (Local, error) {
	if svc.Dial != nil {
		return svc.Dial(client)
	}
	to := svc.Backend
	if svc.EachPort {
		to.Addr = netip.AddrPortFrom(to.Addr.Addr(), to.Addr.Port()+port-svc.Listen.Port())
	}
	to.Transparent = to.Transparent && client.IsValid()
	conn, err := to.Dial(client, netip.AddrPortFrom(svc.Listen.Addr(), port), spoken)
	if err != nil {
		return nil, err // and no *proxy.Conn that is nil in a Local that is not
	}
	return conn, nil
}

// listen adds a service.
func (s *Stack) listen(cfg Service) error {
	svc := &service{Service: cfg, index: len(s.services), wake: s.poller.Wake}
	// Who closes the stack closes what is open of it.
	s.services = append(s.services, svc)
	for port := int(cfg.Listen.Port()); port <= max(int(cfg.LastPort), int(cfg.Listen.Port())); port++ {
		l := &listener{service: svc, port: uint16(port)}
		if err := l.open(s); err != nil {
			return fmt.Errorf("stack: service %s: %w", cfg.Name, err)
		}
		svc.listeners = append(svc.listeners, l)
	}
	return nil
}

// at is the listener of a port, nil where there is none.
func (svc *service) at(port uint16) *listener {
	if i := int(port) - int(svc.Listen.Port()); i >= 0 && i < len(svc.listeners) {
		return svc.listeners[i]
	}
	return nil
}

func (svc *service) close() {
	for _, l := range svc.listeners {
		l.close()
	}
	if svc.probe != nil {
		svc.probe.Close()
	}
}

// turn accepts what waits and dials the backend when that is due.
func (svc *service) turn(s *Stack, now time.Duration) {
	if svc.pending.Swap(false) {
		for _, l := range svc.listeners {
			l.accept(s, now)
		}
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

// dialProbe dials the backend without a client, to learn whether it is there.
func (svc *service) dialProbe(s *Stack, now time.Duration) {
	if svc.probe != nil {
		return
	}
	svc.health.Probing(now)
	conn, err := svc.dial(netip.AddrPort{}, svc.Listen.Port(), false)
	if err == nil {
		err = s.poller.AddEdge(conn.FD(), probeToken(svc.index))
		if err != nil {
			conn.Close()
		}
	}
	if err != nil {
		svc.down(s, now, err)
		return
	}
	svc.probe, svc.probeBy = conn, now+probeTimeout
}

func (svc *service) endProbe(s *Stack, now time.Duration, err error) {
	svc.probe.Close()
	svc.probe = nil
	if err != nil {
		svc.down(s, now, err)
		return
	}
	svc.connected(s, now)
}

func (svc *service) connected(s *Stack, now time.Duration) {
	if svc.health.Connected(now) {
		s.changed(svc.Name, true, nil)
	}
}

// refused is told of a client's dial that nobody took. Whether that is the backend's doing
// or the client's, as where a packet filter bans its address, a dial without it tells.
func (svc *service) refused(s *Stack, now time.Duration) {
	if svc.EachPort {
		return
	}
	svc.health.Doubt(now)
	if at, due := svc.health.Next(); due && now >= at {
		svc.dialProbe(s, now)
	}
}

func (svc *service) down(s *Stack, now time.Duration, err error) {
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
			Backend: svc.Backend.String(),
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
