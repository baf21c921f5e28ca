package stack

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// listener is a listening endpoint of netstack: netstack knows no ranges, so a
// service has one for each of its ports.
type listener struct {
	service *service
	port    uint16
	ep      tcpip.Endpoint
	queue   waiter.Queue
	entry   waiter.Entry
	pending atomic.Bool
	// overflow is the loop's.
	overflow overflow
}

func (l *listener) open(s *Stack) error {
	protocol, nic := familyOf(l.service.Listen.Addr())
	ep, err := s.net.NewEndpoint(tcp.ProtocolNumber, protocol, &l.queue)
	if err != nil {
		return fmt.Errorf("%s", err)
	}
	at := netip.AddrPortFrom(l.service.Listen.Addr(), l.port)
	if err := ep.Bind(tcpip.FullAddress{NIC: nic, Addr: toAddress(at.Addr()), Port: at.Port()}); err != nil {
		ep.Close()
		return fmt.Errorf("bind %s: %s", at, err)
	}
	l.ep = ep
	l.entry.Init(l, waiter.ReadableEvents)
	l.queue.EventRegister(&l.entry)
	l.overflow.key = newCookieKey(s.secrets.during(func() { err = ep.Listen(s.backlog) }))
	if err != nil {
		l.close()
		return fmt.Errorf("listen on %s: %s", at, err)
	}
	return nil
}

// NotifyEvent implements waiter.EventListener. Netstack calls it from its own
// goroutines.
func (l *listener) NotifyEvent(waiter.EventMask) {
	l.pending.Store(true)
	l.service.pending.Store(true)
	l.service.wake()
}

func (l *listener) close() {
	l.queue.EventUnregister(&l.entry)
	l.ep.Close()
}

// accept takes the connections that wait.
func (l *listener) accept(s *Stack, now time.Duration) {
	if !l.pending.Swap(false) {
		return
	}
	for range acceptsPerTurn {
		var peer tcpip.FullAddress
		ep, queue, err := l.ep.Accept(&peer)
		if err != nil {
			return
		}
		from := fromAddress(peer)
		if s.Full() || s.Crowded(from.Addr()) {
			s.counters.OverLimit++
			ep.Abort()
			ep.Close()
			continue
		}
		s.begin(l, ep, queue, from, now)
	}
	l.pending.Store(true)
	l.service.pending.Store(true)
}
