package datagram

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"onevoice/hashing"
	"onevoice/internal/poller"
	"onevoice/proxy"
	"onevoice/responder"
)

// Service is a UDP service of a VIP, on one port or several, and the backend behind
// it.
type Service struct {
	Name    string
	Listen  netip.AddrPort
	Backend proxy.Backend
	// EachPort: Backend is for the port of Listen, and the next port's is the next.
	EachPort bool
	// Idle is how long a flow lasts that nothing is said in; 0 for DefaultIdle.
	Idle time.Duration
	// Dial, if set, opens a socket in Backend's place. It is how a simulation puts a
	// backend of its own behind a service.
	Dial func(client netip.AddrPort) (Local, error)
}

// Local is a socket to a backend, as the loop uses it. A *proxy.Datagrams is the
// host's; a simulation has its own.
type Local interface {
	// FD is what the poller knows it by.
	FD() int
	Send(p []byte) error
	Receive(b *proxy.DatagramBatch) (int, error)
	Close()
}

var _ Local = (*proxy.Datagrams)(nil)

// Poller is what a relay needs of its loop's poller.
type Poller interface {
	// AddLevel makes the loop call Ready with that token for as long as fd is
	// readable.
	AddLevel(fd int, token uint64) error
}

// Config is what a relay needs from its caller.
type Config struct {
	// MTU of the interface in bytes.
	MTU      int
	Services []Service
	Poller   Poller
	// Random makes the identifications of fragments. It has to be one that nobody
	// can foresee.
	Random io.Reader
	// MaxFlows and MaxFlowsOfSource are bounds below the package's; 0 for those.
	MaxFlows, MaxFlowsOfSource int
	// BackendChanged is called when the program at a backend's port is gone, or is
	// back; err is why. Nil to ignore.
	BackendChanged func(service string, up bool, err error)
}

// Bounds of a relay.
const (
	// maxTurnBytes bounds the answers that are taken in before they are sent; the
	// rest waits in its sockets.
	maxTurnBytes = 4 << 20
	// keptBytes is how much of that is kept for the next turn.
	keptBytes = 1 << 20
	// maxQuoteBytes is what is kept of a flow's last datagram, to quote it: the
	// longest IPv4 header, or that of IPv6 with some more, and the UDP header.
	maxQuoteBytes = 68
	// Errors answer datagrams whose source may be forged (RFC 1812 §4.3.2.8).
	errorsPerSecond = 1000
	errorBurst      = 100
	// answerTime is how long an answer is waited for at a stop.
	answerTime = time.Second
)

// Relay is the UDP flows of a node. Its methods are for the owner of the event loop
// only.
type Relay struct {
	table     *Table
	services  []*service
	sockets   []socket // by slot of the table
	hosts     []hostSocket
	poller    Poller
	random    io.Reader
	mtu, mtu6 int
	changed   func(string, bool, error)
	errors    *responder.Limit
	paths     map[netip.Addr]path
	lastUp    time.Duration
	counters  Counters
	batch     *proxy.DatagramBatch
	arena     []byte
	spans     []span
	packets   []Packet
}

// service is a service and what is known of its backend.
type service struct {
	Service
	down  bool
	flows int
}

// socket is what a flow has besides its entry in the table.
type socket struct {
	local Local
	// quote is the head of the last datagram that the client sent.
	quote  [maxQuoteBytes]byte
	quoted uint8
	// host is the number of the host socket that the client uses, and one more; 0 for
	// one on the network.
	host int32
	// up and down are bytes.
	up, down uint64
}

// span is a packet in the arena.
type span struct {
	to         netip.Addr
	begin, end int
}

// Counters are what happened to flows and datagrams since the relay was made.
type Counters struct {
	Begun uint64 `json:"begun"`
	// Idle flows ended because nothing was said in them; LetGo ones made room for
	// others.
	Idle  uint64 `json:"idle"`
	LetGo uint64 `json:"let_go"`
	// NoSocket flows could not begin, for the host gave no socket.
	NoSocket uint64 `json:"no_socket"`
	// Refused datagrams found no program at the backend's port; for Unreachable of
	// them the client was told.
	Refused     uint64 `json:"refused"`
	Unreachable uint64 `json:"unreachable"`
	// ClientGone flows ended because the client's host said that its port is closed.
	ClientGone    uint64 `json:"client_gone"`
	DatagramsUp   uint64 `json:"datagrams_up"`
	DatagramsDown uint64 `json:"datagrams_down"`
	BytesUp       uint64 `json:"bytes_up"`
	BytesDown     uint64 `json:"bytes_down"`
	// Fragmented answers left in several packets.
	Fragmented uint64 `json:"fragmented"`
	// LostUp datagrams met a full socket; LostDown answers were longer than the
	// client's family can carry.
	LostUp   uint64 `json:"lost_up"`
	LostDown uint64 `json:"lost_down"`
}

// New makes a relay without flows.
func New(cfg Config) *Relay {
	r := &Relay{
		poller: cfg.Poller, random: cfg.Random, mtu: cfg.MTU, mtu6: cfg.MTU, changed: cfg.BackendChanged,
		errors: responder.NewLimit(errorsPerSecond, errorBurst), lastUp: -answerTime,
		batch: proxy.NewDatagramBatch(), paths: map[netip.Addr]path{},
	}
	if r.changed == nil {
		r.changed = func(string, bool, error) {}
	}
	var idle []time.Duration
	for _, s := range cfg.Services {
		if s.Idle == 0 {
			s.Idle = DefaultIdle
		}
		r.services = append(r.services, &service{Service: s})
		idle = append(idle, s.Idle)
	}
	b := tableBounds{MaxFlows, MaxFlowsOfSource}
	if cfg.MaxFlows > 0 {
		b.flows = min(b.flows, cfg.MaxFlows)
	}
	if cfg.MaxFlowsOfSource > 0 {
		b.ofSource = min(b.ofSource, cfg.MaxFlowsOfSource)
	}
	r.table = newTable(idle, b)
	return r
}

// tokenMark tells the tokens of a relay from others in the poller.
const tokenMark = 1 << 62

func tokenOf(id FlowID) uint64 { return tokenMark | uint64(id) }

// Owns reports whether a token of the poller belongs to a relay.
func Owns(token uint64) bool { return token>>62 == 1 }

// Has reports whether a client's flow has begun.
func (r *Relay) Has(f *hashing.Flow) bool {
	_, ok := r.table.Find(f)
	return ok
}

// Take asks for room for a client's datagram of a service, and makes it a flow if it
// has none. The datagram itself comes with Deliver.
func (r *Relay) Take(now time.Duration, service int, f *hashing.Flow) Outcome {
	if id, ok := r.table.Find(f); ok {
		r.table.Use(now, id)
		return Goes
	}
	o, gone, went := r.table.Room(now, f)
	if o != Begins {
		return o
	}
	if went {
		r.counters.LetGo++
		r.end(gone)
	}
	id := r.table.Begin(now, service, f)
	for int(id.slot()) >= len(r.sockets) {
		r.sockets = append(r.sockets, socket{})
	}
	r.sockets[id.slot()] = socket{}
	r.services[service].flows++
	r.counters.Begun++
	return o
}

// end ends a flow.
func (r *Relay) end(id FlowID) {
	s := &r.sockets[id.slot()]
	r.services[r.table.Service(id)].flows--
	if s.local != nil {
		s.local.Close()
	}
	*s = socket{}
	r.table.End(id)
}

// Deliver hands a datagram to its backend, for which Take has found room. packet is
// the whole IP packet, payload is what the datagram carries; with segment above 0 it is
// several, each of so many bytes but the last, which the sender's or this host's
// kernel has left together (virtio-net header).
func (r *Relay) Deliver(now time.Duration, f *hashing.Flow, packet, payload []byte, segment int) {
	id, ok := r.table.Find(f)
	if !ok {
		return
	}
	s := &r.sockets[id.slot()]
	if s.local == nil && !r.open(now, id) {
		return
	}
	s.quoted = uint8(copy(s.quote[:], packet[:max(len(packet)-len(payload), 0)]))
	r.lastUp = now
	for first := true; first || len(payload) > 0; first = false {
		one := payload
		if segment > 0 {
			one = payload[:min(segment, len(payload))]
		}
		payload = payload[len(one):]
		r.sendUp(now, id, s, one)
	}
}

// sendUp sends one datagram to the backend.
func (r *Relay) sendUp(now time.Duration, id FlowID, s *socket, p []byte) {
	err := s.local.Send(p)
	if errors.Is(err, proxy.ErrRefused) {
		// It is the one before that met nobody; this one has not been sent yet.
		r.refused(now, id)
		err = s.local.Send(p)
	}
	if err != nil {
		r.counters.LostUp++
		return
	}
	s.up += uint64(len(p))
	r.counters.DatagramsUp++
	r.counters.BytesUp += uint64(len(p))
}

// open dials the backend of a new flow.
func (r *Relay) open(now time.Duration, id FlowID) bool {
	f := r.table.Flow(id)
	local, err := r.services[r.table.Service(id)].dial(&f)
	if err == nil {
		if err = r.poller.AddLevel(local.FD(), tokenOf(id)); err != nil {
			local.Close()
		}
	}
	if err != nil {
		r.counters.NoSocket++
		r.end(id)
		return false
	}
	r.sockets[id.slot()].local = local
	return true
}

// dial opens a socket for a flow.
func (s *service) dial(f *hashing.Flow) (Local, error) {
	client := netip.AddrPortFrom(f.Src, f.SrcPort)
	if s.Dial != nil {
		return s.Dial(client)
	}
	to := s.Backend
	if s.EachPort {
		to.Addr = netip.AddrPortFrom(to.Addr.Addr(), to.Addr.Port()+f.DstPort-s.Listen.Port())
	}
	d, err := to.DialDatagrams(client)
	if err != nil {
		return nil, err // and no *proxy.Datagrams that is nil in a Local that is not
	}
	return d, nil
}

// Ready takes in the answers of a flow that the poller calls readable.
func (r *Relay) Ready(ev *poller.Event, now time.Duration) {
	if ev.Token&hostMark != 0 {
		r.readyHost(now, ev.Token&^(tokenMark|hostMark))
		return
	}
	id := FlowID(ev.Token &^ tokenMark)
	if len(r.arena) >= maxTurnBytes || !r.table.Live(id) || r.sockets[id.slot()].local == nil {
		return
	}
	s := &r.sockets[id.slot()]
	n, err := s.local.Receive(r.batch)
	switch {
	case errors.Is(err, proxy.ErrAgain):
		return
	case errors.Is(err, proxy.ErrRefused):
		r.refused(now, id)
		return
	case err != nil:
		r.end(id)
		return
	}
	for i := range n {
		r.answer(now, id, s, r.batch.Datagram(i))
	}
}

// answer packs one datagram of the backend.
func (r *Relay) answer(now time.Duration, id FlowID, s *socket, p []byte) {
	f := r.table.Flow(id)
	r.table.Answered(now, id)
	svc := r.services[r.table.Service(id)]
	if svc.down {
		svc.down = false
		r.changed(svc.Name, true, nil)
	}
	if len(p) > MaxPayloadBytes(f.Src) {
		r.counters.LostDown++
		return
	}
	s.down += uint64(len(p))
	r.counters.DatagramsDown++
	r.counters.BytesDown += uint64(len(p))
	if s.host != 0 {
		r.answerHost(&r.hosts[s.host-1], netip.AddrPortFrom(f.Src, f.SrcPort), p)
		return
	}
	out := datagramOut{
		from: netip.AddrPortFrom(f.Dst, f.DstPort), to: netip.AddrPortFrom(f.Src, f.SrcPort),
		payload: p, mtu: r.pathMTU(now, f.Src), id: r.identification(),
	}
	packets := 0
	r.arena = out.pack(r.arena, func(begin, end int) {
		packets++
		r.spans = append(r.spans, span{f.Src, begin, end})
	})
	if packets > 1 {
		r.counters.Fragmented++
	}
}

// identification is one that nobody foresees (RFC 7739 §4).
func (r *Relay) identification() uint32 {
	var b [4]byte
	// A source that fails is a mistake of ours, as netstack takes it too.
	if _, err := io.ReadFull(r.random, b[:]); err != nil {
		panic(fmt.Sprintf("datagram: no random bytes: %v", err))
	}
	return binary.LittleEndian.Uint32(b[:])
}

// refused is what happens when no program has the backend's port: the client is
// told, as it would be by the backend's own host.
func (r *Relay) refused(now time.Duration, id FlowID) {
	s := &r.sockets[id.slot()]
	svc := r.services[r.table.Service(id)]
	r.counters.Refused++
	if !svc.down {
		svc.down = true
		r.changed(svc.Name, false, proxy.ErrRefused)
	}
	if s.quoted == 0 || !r.errors.Allow(now) {
		return
	}
	begin := len(r.arena)
	arena := append(r.arena, make([]byte, EthernetBytes)...)
	arena, ok := responder.AppendPortUnreachable(arena, s.quote[:s.quoted])
	if !ok {
		return
	}
	r.arena = arena
	r.spans = append(r.spans, span{r.table.Flow(id).Src, begin, len(arena)})
	r.counters.Unreachable++
}

// Turn ends the flows whose time is over.
func (r *Relay) Turn(now time.Duration) {
	for {
		id, ok := r.table.Expired(now)
		if !ok {
			return
		}
		r.counters.Idle++
		r.end(id)
	}
}

// Next is when Turn is to be called again even if nothing happens.
func (r *Relay) Next() (time.Duration, bool) { return r.table.Next() }

// Egress is what is to leave. The packets are valid until Release, which must be
// called before the next Egress.
func (r *Relay) Egress() []Packet {
	r.packets = r.packets[:0]
	for _, s := range r.spans {
		r.packets = append(r.packets, Packet{To: s.to, Bytes: r.arena[s.begin:s.end:s.end]})
	}
	return r.packets
}

// Release takes the packets of Egress back.
func (r *Relay) Release() {
	r.spans, r.arena = r.spans[:0], r.arena[:0]
	if cap(r.arena) > keptBytes {
		r.arena = nil
	}
}

// Close closes the sockets.
func (r *Relay) Close() {
	r.LeaveHost()
	r.table.Flows(func(id FlowID) bool {
		if s := &r.sockets[id.slot()]; s.local != nil {
			s.local.Close()
			s.local = nil
		}
		return true
	})
}
