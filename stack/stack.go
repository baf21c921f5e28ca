package stack

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	mathrand "math/rand"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"onevoice/proxy"
)

// Service is a TCP port of a VIP, or a range of them, and the backend behind it.
type Service struct {
	Name   string
	Listen netip.AddrPort
	// LastPort ends a range that begins with Listen's port, 0 for one port.
	LastPort uint16
	Backend  proxy.Backend
	// EachPort: the backend has a range as long, whose first port is Backend's, and
	// each of its ports serves the one in the same place. One that does not accept
	// says nothing of the others.
	EachPort bool
	// Dial, if set, connects in Backend's place, for a client or, when that is
	// the zero AddrPort, for a probe. It is how a simulation puts a backend of its
	// own behind a service.
	Dial func(client netip.AddrPort) (Local, error)
}

// Local is a connection to a backend, as the loop uses it: non-blocking, and at
// first connecting. A *proxy.Conn is the host's; a simulation has its own.
type Local interface {
	proxy.Stream
	// FD is what the poller knows it by.
	FD() int
	// Connected reports how connecting has ended, once the poller has said that
	// it is writable.
	Connected() error
	// Ready records an edge of the poller.
	Ready(readable, writable, peerClosed bool)
	// Urgent is called before Ready when what is readable has bytes that their sender
	// has marked as urgent.
	Urgent()
	// Flush sends what comes before the client's first byte, when that has not
	// come yet.
	Flush() error
}

var _ Local = (*proxy.Conn)(nil)

// Poller is what a stack needs of its loop's poller.
type Poller interface {
	// AddEdge makes the loop call Ready with that token at each change of fd.
	AddEdge(fd int, token uint64) error
	// Wake makes the loop turn, from any goroutine.
	Wake()
}

// Config is what a stack needs from its caller.
type Config struct {
	// MTU of the interface in bytes; the MSS follows from it.
	MTU int
	// Addresses are the VIPs.
	Addresses []netip.Addr
	Services  []Service
	// MaxFlows is how many flows there may be, when that is below the package's.
	MaxFlows int
	// Backlog is how many half-open connections a service may have, one less, when
	// that is below ListenBacklog; 0 for that.
	Backlog int
	// Poller is the loop's: the stack adds its local sockets to it and wakes it.
	Poller Poller
	// Clock is netstack's, and Random the source of its sequence numbers, ports
	// and hashes. Nil for the system's; a simulation has its own.
	Clock  tcpip.Clock
	Random io.Reader
	// BackendChanged is called from Turn when a backend stops or starts to take
	// connections; err is what the last dial met. Nil to ignore.
	BackendChanged func(service string, up bool, err error)
}

// Stack is netstack with a listening endpoint for each service. Its methods
// are for the owner of the event loop only.
type Stack struct {
	net      *netstack.Stack
	clock    *turnClock
	system   *systemClock // nil in a simulation
	link     *linkEndpoint
	poller   Poller
	changed  func(string, bool, error)
	services []*service
	flows    map[uint64]*flow
	lastID   uint64
	scratch  []byte
	hands    hands
	counters Counters
	// connecting holds the flows whose backend has not accepted yet, oldest
	// first; all have the same timeout.
	connecting []*flow
	bounds     bounds
	// secrets is where netstack has its secrets from, stamps one of them. cookies
	// counts the SYN cookies that were made in its place.
	secrets *overheard
	stamps  stampKey
	cookies uint64
	// backlog is of each listener.
	backlog int

	gathering gathering
	ready     readyQueue
	known     [knownFlows]knownFlow
}

// Counters are what happened to flows since the stack was made.
type Counters struct {
	Accepted uint64 `json:"accepted"`
	Finished uint64 `json:"finished"`
	// Broken flows ended by a reset of either side.
	Broken uint64 `json:"broken"`
	// Refused flows met a backend that did not accept.
	Refused uint64 `json:"refused"`
	// OverLimit flows were let go of because there may be no more, at all or of their
	// source.
	OverLimit uint64 `json:"over_limit"`
	// Glutted segments found a full buffer: their backend had not taken what came
	// before, and buffers have got smaller than the window that the client was told of.
	// Clients send them again. These and the bytes are of flows that have ended.
	Glutted   uint64 `json:"glutted"`
	BytesUp   uint64 `json:"bytes_up"`
	BytesDown uint64 `json:"bytes_down"`
	// EgressDropped packets did not fit into the egress queue.
	EgressDropped uint64 `json:"egress_dropped"`
	// SparedACKs need no packet of their own, JoinedFINs left with the data before
	// them, and JoinedSegments came to netstack as a part of another.
	SparedACKs     uint64 `json:"spared_acks"`
	JoinedFINs     uint64 `json:"joined_fins"`
	JoinedSegments uint64 `json:"joined_segments"`
	// Of netstack.
	Retransmitted uint64 `json:"retransmitted"`
	ResetsSent    uint64 `json:"resets_sent"`
	CookiesSent   uint64 `json:"cookies_sent"`
	CookiesTaken  uint64 `json:"cookies_taken"`
}

// nicID and nicID6 are netstack's interfaces, one for each family.
const (
	nicID  = 1
	nicID6 = 2
)

// New makes a stack and its listeners.
func New(cfg Config) (*Stack, error) {
	s := &Stack{
		link:    newLinkEndpoint(uint32(cfg.MTU), cfg.Poller.Wake),
		poller:  cfg.Poller,
		changed: cfg.BackendChanged,
		flows:   map[uint64]*flow{},
		bounds:  newBounds(cfg.MaxFlows),
		lastID:  firstFlowToken,
		scratch: make([]byte, portion(cfg.MTU)),
		clock:   &turnClock{Clock: cfg.Clock},
		secrets: &overheard{Reader: cfg.Random},
		backlog: ListenBacklog,
	}
	if cfg.Backlog > 0 {
		s.backlog = min(cfg.Backlog, ListenBacklog)
	}
	if cfg.Random == nil {
		s.secrets.Reader = rand.Reader
	}
	if cfg.Clock == nil {
		s.system = newSystemClock()
		s.clock.Clock = s.system
	}
	if s.changed == nil {
		s.changed = func(string, bool, error) {}
	}
	s.ready.wake = cfg.Poller.Wake
	options := netstack.Options{
		NetworkProtocols:   []netstack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []netstack.TransportProtocolFactory{s.newTCP},
		Clock:              s.clock,
		SecureRNG:          s.secrets,
	}
	if cfg.Random != nil {
		options.RandSource = source{cfg.Random}
	}
	s.net = netstack.New(options)
	if err := s.configure(&cfg); err != nil {
		s.Close()
		return nil, err
	}
	has := map[bool]bool{}
	for i := range cfg.Services {
		if err := s.listen(cfg.Services[i]); err != nil {
			s.Close()
			return nil, err
		}
		if is6 := cfg.Services[i].Listen.Addr().Is6(); s.system != nil && !has[is6] {
			has[is6] = true
			s.takeRoom(&cfg.Services[i])
		}
	}
	return s, nil
}

// newTCP makes netstack's TCP.
func (s *Stack) newTCP(net *netstack.Stack) (p netstack.TransportProtocol) {
	s.stamps = newStampKey(s.secrets.during(func() { p = tcp.NewProtocol(net) }))
	return p
}

// source is a mathrand.Source, which netstack wants, over the bytes of a reader.
type source struct{ r io.Reader }

var _ mathrand.Source = source{}

// Int63 implements mathrand.Source.
func (s source) Int63() int64 {
	var b [8]byte
	// Netstack takes a SecureRNG that fails for a mistake of ours, too.
	if _, err := io.ReadFull(s.r, b[:]); err != nil {
		panic(fmt.Sprintf("stack: no random bytes: %v", err))
	}
	return int64(binary.LittleEndian.Uint64(b[:]) >> 1)
}

// Seed implements mathrand.Source: the reader has its own.
func (source) Seed(int64) {}

// portion is how much is read of a backend at a time: as many full segments as
// netstack hands over in one piece, so that no short one follows each. Clients
// mostly ask for time stamps, which take 12 bytes of each segment.
func portion(mtu int) int {
	const timestamps = 12
	segment := mtu - headerBytes - timestamps
	most := min(maxSegmentBytes-header.TCPTotalHeaderMaximumSize-1, proxy.ScratchBytes)
	return max(most/segment, 1) * segment
}

func (s *Stack) configure(cfg *Config) error {
	if err := s.tcpOptions(); err != nil {
		return err
	}
	if err := s.net.CreateNIC(nicID, s.link); err != nil {
		return fmt.Errorf("stack: make the interface: %s", err)
	}
	if err := s.net.CreateNIC(nicID6, s.link.six); err != nil {
		return fmt.Errorf("stack: make the interface for IPv6: %s", err)
	}
	for _, a := range cfg.Addresses {
		protocol, nic := familyOf(a)
		addr := tcpip.ProtocolAddress{Protocol: protocol, AddressWithPrefix: toAddress(a).WithPrefix()}
		if err := s.net.AddProtocolAddress(nic, addr, netstack.AddressProperties{}); err != nil {
			return fmt.Errorf("stack: add address %s: %s", a, err)
		}
	}
	s.net.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nicID}, {Destination: header.IPv6EmptySubnet, NIC: nicID6},
	})
	return nil
}

// familyOf is the protocol of an address, and netstack's interface for it.
func familyOf(a netip.Addr) (tcpip.NetworkProtocolNumber, tcpip.NICID) {
	if a.Is4() {
		return ipv4.ProtocolNumber, nicID
	}
	return ipv6.ProtocolNumber, nicID6
}

// tcpOptions sets what differs from netstack's defaults.
func (s *Stack) tcpOptions() error {
	// SACK is on, for a lost segment should not cost the whole window.
	sack := tcpip.TCPSACKEnabled(true)
	// Reno is netstack's faster one: 9.0 Gb/s where its cubic reaches 3.0 on a clean
	// LAN, 175 Mb/s where it reaches 104 over 40 ms, and no path's median is lower.
	// docs/performance.md has the table; make tcp-choice measures it.
	congestion := tcpip.CongestionControlOption("reno")
	// RACK sends a third of what it repeats for nothing when a router's queue runs
	// over, and stood at 1 Mb/s where duplicate ACKs and SACK reach 175. It is
	// better on a LAN that loses 1 % and more, and nowhere else.
	recovery := tcpip.TCPRecovery(0)
	// A client that reuses its port within TIME-WAIT is served at once.
	reuse := tcpip.TCPTimeWaitReuseOption(tcpip.TCPTimeWaitReuseGlobal)
	wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: minBufferBytes, Default: defaultBufferBytes, Max: maxBufferBytes}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: minBufferBytes, Default: defaultBufferBytes, Max: maxBufferBytes}
	// The window of a client whose backend reads grows with what it takes.
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &congestion, &recovery, &reuse, &wait, &receive, &send, &moderate} {
		if err := s.net.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("stack: set %T: %s", o, err)
		}
	}
	return nil
}

// Deliver hands an IP packet to netstack, which copies it. The packet is
// whole, checked (header and transport checksums) and let through by the gate.
func (s *Stack) Deliver(ip []byte) { s.link.deliver(ip) }

// Counters reports what happened since the stack was made.
func (s *Stack) Counters() Counters {
	c := s.counters
	c.EgressDropped = s.link.dropped.Load()
	c.SparedACKs, c.JoinedFINs, c.JoinedSegments = s.link.delayed.sparedACKs, s.link.delayed.joinedFINs, s.Joined()
	t := s.net.Stats().TCP
	c.Retransmitted = t.Retransmits.Value()
	c.ResetsSent = t.ResetsSent.Value()
	c.CookiesSent = t.ListenOverflowSynCookieSent.Value() + s.cookies
	c.CookiesTaken = t.ListenOverflowSynCookieRcvd.Value()
	return c
}

// Close resets what still runs and ends netstack's goroutines.
func (s *Stack) Close() {
	for _, f := range s.flows {
		f.abort(s)
	}
	for _, svc := range s.services {
		svc.close()
	}
	s.net.Destroy()
	s.link.discard()
	if s.system != nil {
		s.system.close()
	}
}

func toAddress(a netip.Addr) tcpip.Address {
	if a.Is4() {
		return tcpip.AddrFrom4(a.As4())
	}
	return tcpip.AddrFrom16(a.As16())
}

func fromAddress(a tcpip.FullAddress) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(a.Addr.AsSlice())
	return netip.AddrPortFrom(ip, a.Port)
}

// readyQueue is where netstack's goroutines put flows and listeners that have
// something to do.
type readyQueue struct {
	mu    sync.Mutex
	flows []*flow
	spare []*flow
	wake  func()
}

func (q *readyQueue) put(f *flow) {
	if f.queued.CompareAndSwap(false, true) {
		q.mu.Lock()
		q.flows = append(q.flows, f)
		q.mu.Unlock()
		q.wake()
	}
}

// take empties the queue. The slice is valid until the next call.
func (q *readyQueue) take() []*flow {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.spare)
	q.flows, q.spare = q.spare[:0], q.flows
	return q.spare
}

func (q *readyQueue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.flows) == 0
}

// Idle reports whether neither flows nor listeners nor egress packets wait for
// the loop.
func (s *Stack) Idle() bool {
	if !s.ready.empty() || !s.link.empty() {
		return false
	}
	for _, svc := range s.services {
		if svc.pending.Load() {
			return false
		}
	}
	return true
}

// Turn accepts new connections and moves bytes of the flows that have become
// ready. The caller then sends what Egress holds.
func (s *Stack) Turn(now time.Duration) {
	for _, svc := range s.services {
		svc.turn(s, now)
	}
	for _, f := range s.ready.take() {
		f.queued.Store(false)
		f.step(s)
	}
	s.expire(now)
	s.squeeze()
	s.relax(now)
}

// expire lets go of flows whose backend did not accept in time.
func (s *Stack) expire(now time.Duration) {
	for len(s.connecting) > 0 {
		f := s.connecting[0]
		if f.state == flowConnecting {
			if now < f.connectBy {
				return
			}
			f.refuse(s, now, errConnectTimeout)
		}
		s.connecting[0] = nil
		s.connecting = s.connecting[1:]
	}
}

// Next is when Turn is to be called again even if nothing happens.
func (s *Stack) Next() (at time.Duration, ok bool) {
	if len(s.connecting) > 0 {
		at, ok = s.connecting[0].connectBy, true
	}
	if t, due := s.link.delayed.next(); due && (!ok || t < at) {
		at, ok = t, true
	}
	for _, svc := range s.services {
		if t, due := svc.next(); due && (!ok || t < at) {
			at, ok = t, true
		}
	}
	return at, ok
}
