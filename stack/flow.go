package stack

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"

	"onevoice/internal/poller"
	"onevoice/proxy"
)

type flowState uint8

const (
	flowConnecting flowState = iota
	flowCopying
	flowEnded
)

// flow is one accepted connection with its connection to the backend.
type flow struct {
	id      uint64
	peer    netip.AddrPort
	service *service
	began   time.Duration

	client stream
	queue  *waiter.Queue
	entry  waiter.Entry

	backend   Local
	connectBy time.Duration
	pump      *proxy.Pump
	state     flowState

	ready  *readyQueue
	queued atomic.Bool
}

// NotifyEvent implements waiter.EventListener. Netstack calls it from its own
// goroutines.
func (f *flow) NotifyEvent(waiter.EventMask) { f.ready.put(f) }

// begin takes an accepted connection and dials its backend.
func (s *Stack) begin(at *listener, ep tcpip.Endpoint, queue *waiter.Queue, peer netip.AddrPort, now time.Duration) {
	svc := at.service
	s.counters.Accepted++
	s.lastID++
	f := &flow{
		id: s.lastID, peer: peer, service: svc, began: now,
		client: stream{ep, &s.hands}, queue: queue, ready: &s.ready,
		connectBy: now + connectTimeout,
	}
	setKeepalive(ep)
	if s.bounds.memory != Ample {
		f.client.squeeze()
	}
	spoken := ep.Readiness(waiter.ReadableEvents) != 0
	conn, err := svc.dial(peer, at.port, spoken)
	if err == nil {
		f.backend = conn
		err = s.poller.AddEdge(conn.FD(), f.id)
	}
	if err == nil && spoken {
		err = f.passOn(s, now)
	}
	if err != nil {
		f.refuse(s, now, err)
		return
	}
	svc.flows++
	s.flows[f.id] = f
	s.bounds.count(peer.Addr(), 1)
	if f.state == flowConnecting {
		s.connecting = append(s.connecting, f)
	}
	f.entry.Init(f, waiter.ReadableEvents|waiter.WritableEvents|waiter.EventErr|waiter.EventHUp)
	f.queue.EventRegister(&f.entry)
}

// passOn gives a backend that is still connecting what the client has said already:
// on loopback it has mostly connected by the time that dialling returns. What it does
// not take yet goes when the poller says so. The error is the backend's.
func (f *flow) passOn(s *Stack, now time.Duration) error {
	n, _, err := f.client.Drain(f.backend, len(s.scratch))
	if n == 0 {
		return unlessAgain(err)
	}
	f.connected(s, now)
	f.pump.Passed(n)
	return nil
}

func unlessAgain(err error) error {
	if errors.Is(err, proxy.ErrAgain) {
		return nil
	}
	return err
}

// connected begins the copying.
func (f *flow) connected(s *Stack, now time.Duration) {
	f.state = flowCopying
	f.pump = proxy.NewPump(&f.client, f.backend)
	f.service.connected(s, now)
}

func setKeepalive(ep tcpip.Endpoint) {
	// Nagle is off: bytes are passed on as the backend writes them.
	ep.SocketOptions().SetDelayOption(false)
	ep.SocketOptions().SetKeepAlive(true)
	idle := tcpip.KeepaliveIdleOption(keepaliveIdle)
	interval := tcpip.KeepaliveIntervalOption(keepaliveInterval)
	// These options exist for every TCP endpoint and take every value.
	_ = ep.SetSockOpt(&idle)
	_ = ep.SetSockOpt(&interval)
	_ = ep.SetSockOptInt(tcpip.KeepaliveCountOption, keepaliveCount)
}

// Ready tells the stack what the poller has seen.
func (s *Stack) Ready(ev *poller.Event, now time.Duration) {
	if ev.Token < firstFlowToken {
		if i := int(ev.Token - firstProbe); i < len(s.services) && s.services[i].probe != nil {
			svc := s.services[i]
			svc.endProbe(s, now, svc.probe.Connected())
		}
		return
	}
	f := s.flows[ev.Token]
	if f == nil {
		// It ended earlier in this turn.
		return
	}
	if ev.Urgent {
		f.backend.Urgent()
	}
	f.backend.Ready(ev.Readable, ev.Writable, ev.PeerClosed)
	if f.state == flowConnecting {
		if !ev.Writable {
			return
		}
		if err := f.backend.Connected(); err != nil {
			f.refuse(s, now, err)
			return
		}
		f.connected(s, now)
	}
	f.step(s)
	f.flush(s)
}

// flush lets the backend know who the client is, once what the client has said has
// been passed on with it, or there was nothing to pass on.
func (f *flow) flush(s *Stack) {
	if f.state != flowCopying {
		return
	}
	if err := f.backend.Flush(); err != nil && !errors.Is(err, proxy.ErrAgain) {
		s.counters.Broken++
		f.abort(s)
	}
}

// step moves bytes.
func (f *flow) step(s *Stack) {
	if f.state != flowCopying {
		return
	}
	switch f.pump.Step(s.scratch) {
	case proxy.More:
		s.ready.put(f)
	case proxy.Done:
		s.counters.Finished++
		f.end(s)
	case proxy.Broken:
		s.counters.Broken++
		f.end(s)
	}
}

// refuse ends a flow whose backend did not accept: the client gets a reset, for
// a FIN would say that the service had been reached.
func (f *flow) refuse(s *Stack, now time.Duration, err error) {
	s.counters.Refused++
	if !errors.Is(err, proxy.ErrBusy) && !exhausted(err) {
		f.service.refused(s, now)
	}
	f.abort(s)
}

// abort resets both sides.
func (f *flow) abort(s *Stack) {
	f.client.Abort()
	if f.backend != nil {
		f.backend.Abort()
	}
	f.end(s)
}

// end forgets a flow whose streams have been let go of. Netstack finishes the
// closing handshake by itself.
func (f *flow) end(s *Stack) {
	if f.state == flowEnded {
		return
	}
	f.state = flowEnded
	f.queue.EventUnregister(&f.entry)
	if _, held := s.flows[f.id]; held {
		delete(s.flows, f.id)
		f.service.flows--
		s.bounds.count(f.peer.Addr(), -1)
	}
	if f.pump != nil {
		up, down := f.pump.Bytes()
		s.counters.BytesUp += up
		s.counters.BytesDown += down
	}
	s.counters.Glutted += f.client.glutted()
}

// FlowStatus describes one running flow.
type FlowStatus struct {
	Client  string `json:"client"`
	Service string `json:"service"`
	// State is "connecting" or "open", or which side has finished.
	State string `json:"state"`
	// Seconds that it has been there, negative where only the kernel knows.
	Seconds   float64 `json:"seconds"`
	BytesUp   uint64  `json:"bytes_up"`
	BytesDown uint64  `json:"bytes_down"`
}

// Flows lists at most limit running flows, oldest first.
func (s *Stack) Flows(now time.Duration, limit int) []FlowStatus {
	all := make([]*flow, 0, len(s.flows))
	for _, f := range s.flows {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b *flow) int { return cmp.Compare(a.id, b.id) })
	out := make([]FlowStatus, 0, min(len(all), limit))
	for _, f := range all[:min(len(all), limit)] {
		out = append(out, f.status(now))
	}
	return out
}

func (f *flow) status(now time.Duration) FlowStatus {
	st := FlowStatus{Client: f.peer.String(), Service: f.service.Name, State: "connecting", Seconds: (now - f.began).Seconds()}
	if f.pump != nil {
		st.State = "open"
		st.BytesUp, st.BytesDown = f.pump.Bytes()
		switch client, backend := f.pump.HalfClosed(); {
		case client:
			st.State = "client finished"
		case backend:
			st.State = "service finished"
		}
	}
	return st
}

// FlowCount is the number of running flows.
func (s *Stack) FlowCount() int { return len(s.flows) }

// Kill resets the running flows that are meant, and reports how many there were.
func (s *Stack) Kill(meant func(client netip.AddrPort, service string) bool) (n int) {
	for _, f := range s.flows {
		if meant(f.peer, f.service.Name) {
			f.abort(s)
			n++
		}
	}
	return n
}

// AbortFlows resets every running flow; used when their time at a stop is over.
func (s *Stack) AbortFlows() {
	for _, f := range s.flows {
		f.abort(s)
	}
}
