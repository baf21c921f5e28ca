package control

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/cluster"
	"onevoice/internal/sealed"
)

// Kinds of sealed datagrams. A heartbeat proves that its path works, so one that
// came another way must not pass for one.
const (
	kindHeartbeat = 1
	kindMessage   = 2
	// Lists of flows are not the core's, and neither is what hosts tell of themselves.
	// Nodes of an older version refuse these two as having come the wrong way.
	kindLists = 3
	kindCards = 4
	// kindProbe goes the way of heartbeats, and says nothing.
	kindProbe = 5
)

// maxReceive bounds the datagrams of one Receive, so that a flood on one socket
// does not keep the loop from its heartbeats.
const maxReceive = 256

// TransportConfig is what a Transport is opened with.
type TransportConfig struct {
	Sealer *sealed.Sealer
	// Local are this host's own addresses, one socket each: the one that peers
	// know it by, and that of a management network.
	Local []netip.Addr
	Port  uint16
	Peers []PeerAddress
}

// TransportCounts count what Transport itself drops; what came in is counted by
// verdict.
type TransportCounts struct {
	Verdicts [sealed.Verdicts]uint64
	// WrongWay came as a datagram and was a heartbeat, or the reverse.
	WrongWay uint64
	// NoAddress: nobody knows where the member is. Unsent: the kernel refused.
	NoAddress, Unsent uint64
	Fragments         sealed.FragmentCounts
}

// Complaint is a verdict that an operator should hear of, as it was last met. It
// is a claim where the verdict says so.
type Complaint struct {
	Verdict  sealed.Verdict
	Sentence string
	From     netip.Addr
	Count    uint64
	At       time.Duration
}

// Transport carries the datagrams of a cluster: it seals, sends, receives and
// judges. It is for one goroutine, which polls the descriptors of FDs.
type Transport struct {
	sealer     *sealed.Sealer
	opener     *sealed.Opener
	port       uint16
	sockets    []*socket
	addresses  *addresses
	counts     TransportCounts
	complaints []Complaint
	lists      func(now time.Duration, from uint64, message []byte)
	cards      func(now time.Duration, from uint64, message []byte)
	probes     func(from uint64, payload []byte)
	// twin: another living host uses our id.
	twin error
	buf  []byte
}

// OpenTransport opens the control sockets.
func OpenTransport(cfg TransportConfig) (*Transport, error) {
	if len(cfg.Local) == 0 {
		return nil, errors.New("control: no address to listen on")
	}
	t := &Transport{
		sealer: cfg.Sealer, opener: sealed.NewOpener(cfg.Sealer), port: cfg.Port, addresses: newAddresses(cfg.Port, cfg.Peers),
		// One byte more, so that what is too long is not cut to fit.
		buf: make([]byte, sealed.MaxDatagram+1),
	}
	for _, a := range cfg.Local {
		s, err := openSocket(netip.AddrPortFrom(a, cfg.Port))
		if err != nil {
			t.Close()
			return nil, err
		}
		t.sockets = append(t.sockets, s)
	}
	return t, nil
}

// FDs are the sockets, in the order of TransportConfig.Local.
func (t *Transport) FDs() []int {
	var out []int
	for _, s := range t.sockets {
		out = append(out, s.fd)
	}
	return out
}

// Close closes the sockets.
func (t *Transport) Close() error {
	var err error
	for _, s := range t.sockets {
		err = errors.Join(err, s.close())
	}
	t.sockets = nil
	return err
}

// Know sets the members of the table, by id, with the addresses that name them.
func (t *Transport) Know(members map[uint64]netip.Addr) { t.addresses.know(members) }

// Receive hands the messages that wait at the i-th socket to take, at most
// maxReceive datagrams of them; more tells that others may wait. Received.Data is
// valid until take returns. The error is a socket that cannot be read any more.
func (t *Transport) Receive(now time.Duration, i int, take func(cluster.Received)) (more bool, err error) {
	s := t.sockets[i]
	for range maxReceive {
		n, from, err := s.receive(t.buf)
		switch err {
		case nil:
		case unix.EAGAIN:
			return false, nil
		case unix.EINTR:
			continue
		default:
			return false, fmt.Errorf("control socket of %s: %w", s.local, os.NewSyscallError("recvfrom", err))
		}
		m, ok := t.judge(now, s, from, t.buf[:n], kindMessage, kindLists, kindCards)
		switch {
		case !ok:
		case m.Kind == kindLists:
			if t.lists != nil && m.UUID != (sealed.UUID{}) {
				t.lists(now, m.From, m.Payload)
			}
		case m.Kind == kindCards:
			if t.cards != nil && m.UUID != (sealed.UUID{}) {
				t.cards(now, m.From, m.Payload)
			}
		default:
			take(cluster.Received{From: t.addresses.nameOf(from.Addr()), Blank: m.UUID == sealed.UUID{}, Data: m.Payload})
		}
	}
	return true, nil
}

// Heartbeat judges what came as a heartbeat on a path, from an IP address. Its
// data is valid until the next call of Transport. A probe is none.
func (t *Transport) Heartbeat(now time.Duration, from netip.Addr, datagram []byte) (data []byte, ok bool) {
	m, ok := t.judge(now, t.sockets[0], netip.AddrPortFrom(from, t.port), datagram, kindHeartbeat, kindProbe)
	// Who has no cluster has no leases to speak of.
	if !ok || m.UUID == (sealed.UUID{}) {
		return nil, false
	}
	if m.Kind == kindProbe {
		if t.probes != nil {
			t.probes(m.From, m.Payload)
		}
		return nil, false
	}
	return m.Payload, true
}

// SealHeartbeat appends a heartbeat's datagram to dst. It may be called on any
// goroutine.
func (t *Transport) SealHeartbeat(dst, data []byte) ([]byte, error) {
	return t.sealer.Seal(dst, kindHeartbeat, data)
}

func (t *Transport) judge(now time.Duration, s *socket, from netip.AddrPort, datagram []byte, kinds ...byte) (sealed.Message, bool) {
	if kind, ok := sealed.KindOf(datagram); ok && !slices.Contains(kinds, kind) {
		// Not opened, or it would be taken for a replay where it belongs.
		t.counts.WrongWay++
		return sealed.Message{}, false
	}
	m, v := t.opener.Open(now, datagram)
	if m.Reply != nil {
		t.put(s, from, m.Reply)
	}
	if text := sealed.Sentence(m, v); text != "" {
		t.complain(Complaint{Verdict: v, Sentence: text, From: from.Addr(), At: now})
	}
	if v == sealed.SameID {
		t.twin = fmt.Errorf("stopped, for two hosts must not answer as one: %s %s", from.Addr(), sealed.Sentence(m, v))
	}
	if !v.Accepted() {
		return m, false
	}
	t.addresses.hear(now, m.From, from)
	if !slices.Contains(kinds, kindHeartbeat) {
		t.addresses.spoke(now, m.From)
	}
	return m, true
}

// Spoke is when a member last sent a datagram to this host alone, by the time that
// Receive was told; false when it never has.
func (t *Transport) Spoke(member uint64) (time.Duration, bool) {
	if m := t.addresses.members[member]; m != nil && m.spoke {
		return m.spokeAt, true
	}
	return 0, false
}

// complain keeps the last complaint of each verdict.
func (t *Transport) complain(c Complaint) {
	i := slices.IndexFunc(t.complaints, func(o Complaint) bool { return o.Verdict == c.Verdict })
	if i < 0 {
		i = len(t.complaints)
		t.complaints = append(t.complaints, c)
	}
	c.Count = t.complaints[i].Count + 1
	t.complaints[i] = c
}

// Complaints are what an operator should hear of, one for each verdict.
func (t *Transport) Complaints() []Complaint { return slices.Clone(t.complaints) }

// Twin is not nil when another living host uses our own id. Promises to one of the
// two would be taken by both, so whoever sees that first may not go on.
func (t *Transport) Twin() error { return t.twin }

// Twins are ids that two hosts use at this time.
func (t *Transport) Twins(now time.Duration) []uint64 { return t.opener.Twins(now) }

// Counts are what came in and what was dropped.
func (t *Transport) Counts() TransportCounts {
	c := t.counts
	c.Verdicts, c.Fragments = t.opener.Counts(), t.opener.Fragments()
	return c
}

// Expire frees what took too long. Once a second is enough.
func (t *Transport) Expire(now time.Duration) { t.opener.Expire(now) }

// Send sends a message. Nobody is told when it does not arrive: the core repeats
// what matters. The error is a message that cannot be sent at all.
func (t *Transport) Send(now time.Duration, d cluster.Datagram) error {
	return t.send(now, d, kindMessage)
}

func (t *Transport) send(now time.Duration, d cluster.Datagram, kind byte) error {
	ways := t.ways(now, d)
	if len(ways) == 0 {
		t.counts.NoAddress++
		return nil
	}
	seal := t.sealer.SealMessage
	if d.Blank {
		seal = t.sealer.SealBlankMessage
	}
	for _, to := range ways {
		s := t.socketTo(to.Addr())
		if err := seal(kind, d.Data, func(b []byte) error { t.put(s, to, b); return nil }); err != nil {
			return fmt.Errorf("control: %w", err)
		}
	}
	return nil
}

// TakeLists sets what gets lists of flows, with the member that sent them. A
// message is valid until it returns.
func (t *Transport) TakeLists(take func(now time.Duration, from uint64, message []byte)) {
	t.lists = take
}

// SendLists sends lists of flows to a member. A loss is not noticed: the next
// ones come soon.
func (t *Transport) SendLists(now time.Duration, to uint64, message []byte) error {
	return t.send(now, cluster.Datagram{To: to, Data: message}, kindLists)
}

// ways are where a message goes: to a member, one address; to a host that is not
// known yet, each of its addresses, for there is nothing to choose by.
func (t *Transport) ways(now time.Duration, d cluster.Datagram) []netip.AddrPort {
	if d.To == 0 {
		if !d.Address.IsValid() {
			return nil
		}
		return t.addresses.of(d.Address)
	}
	if to := t.addresses.to(now, d.To); to.IsValid() {
		return []netip.AddrPort{to}
	}
	return nil
}

// socketTo is the socket whose address a peer expects: for a management address
// the second, where there is one.
func (t *Transport) socketTo(to netip.Addr) *socket {
	if len(t.sockets) > 1 && t.addresses.nameOf(to) != to {
		return t.sockets[1]
	}
	return t.sockets[0]
}

func (t *Transport) put(s *socket, to netip.AddrPort, b []byte) {
	if s.send(to, b) != nil {
		t.counts.Unsent++
	}
}
