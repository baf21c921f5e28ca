package control

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/cluster"
	"onevoice/internal/sealed"
)

// station is a host with a Transport, on loopback.
type station struct {
	*Transport
	sealer *sealed.Sealer
	id     uint64
	got    []cluster.Received
}

// freePort is a UDP port that nobody uses on the loopback addresses of a test.
func freePort(t *testing.T) uint16 {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{}); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(at.(*unix.SockaddrInet4).Port)
}

func loopback(last byte) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 7, last}) }

// stations are hosts 1 to n at 127.0.7.1 to n; hosts of nets 2 have a management
// address 127.0.7.101 to 100+n too.
func stations(t *testing.T, n, nets int) []*station {
	t.Helper()
	port := freePort(t)
	var peers []PeerAddress
	for i := range n {
		p := PeerAddress{Address: loopback(byte(i + 1)), Port: port}
		if nets > 1 {
			p.Control = loopback(byte(i + 101))
		}
		peers = append(peers, p)
	}
	var out []*station
	for i, p := range peers {
		local := []netip.Addr{p.Address}
		if nets > 1 {
			local = append(local, p.Control)
		}
		out = append(out, openStation(t, uint64(i+1), sealed.UUID{7}, byte(i+1), TransportConfig{Local: local, Port: port, Peers: peers}))
	}
	return out
}

func openStation(t *testing.T, id uint64, uuid sealed.UUID, salt byte, cfg TransportConfig) *station {
	t.Helper()
	cfg.Sealer = sealed.NewSealer(sealed.Keyring{Current: sealed.Key{1}}, id, uuid, sealed.Salt{salt})
	tr, err := OpenTransport(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return &station{Transport: tr, sealer: cfg.Sealer, id: id}
}

// settle lets all stations receive until nothing is under way.
func settle(t *testing.T, now time.Duration, all []*station) {
	t.Helper()
	for quiet := false; !quiet; {
		quiet = true
		for _, s := range all {
			for i, fd := range s.FDs() {
				// On loopback a datagram waits at its receiver when send returns.
				if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); n == 0 {
					continue
				}
				quiet = false
				if _, err := s.Receive(now, i, func(r cluster.Received) {
					r.Data = bytes.Clone(r.Data)
					s.got = append(s.got, r)
				}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// meet makes all stations known to each other.
func meet(t *testing.T, now time.Duration, all []*station) {
	t.Helper()
	for range 2 {
		for _, a := range all {
			for i := range all {
				if b := all[i]; a != b {
					send(t, now, a, cluster.Datagram{Address: loopback(byte(b.id)), Data: []byte("hello")})
				}
			}
		}
		settle(t, now, all)
	}
	for _, s := range all {
		if len(s.got) == 0 {
			t.Fatalf("station %d heard nobody: %v", s.id, s.Counts().Verdicts)
		}
		s.got = nil
	}
}

func send(t *testing.T, now time.Duration, s *station, d cluster.Datagram) {
	t.Helper()
	if err := s.Send(now, d); err != nil {
		t.Fatal(err)
	}
}

func TestMessagesArriveOnceWithTheirSender(t *testing.T) {
	all := stations(t, 3, 1)
	meet(t, 0, all)
	for _, n := range []int{1, 3000, 300_000} {
		data := bytes.Repeat([]byte("x"), n)
		send(t, 0, all[0], cluster.Datagram{To: 2, Data: data})
		settle(t, 0, all)
		if got := all[1].got; len(got) != 1 || got[0].From != loopback(1) || got[0].Blank || !bytes.Equal(got[0].Data, data) {
			t.Errorf("%d bytes: %d messages arrived", n, len(got))
		}
		if len(all[2].got) != 0 {
			t.Error("a third host got it too")
		}
		all[1].got = nil
	}
	if err := all[0].Send(0, cluster.Datagram{To: 2, Data: make([]byte, sealed.MaxMessage+1)}); err == nil {
		t.Error("a message too long was no error")
	}
	if c := all[1].Counts(); c.Verdicts[sealed.Replayed] != 0 || c.WrongWay != 0 {
		t.Errorf("%+v", c)
	}
}

func TestBlankMessagesAreTold(t *testing.T) {
	all := stations(t, 2, 1)
	meet(t, 0, all)
	send(t, 0, all[0], cluster.Datagram{Address: loopback(2), Blank: true, Data: []byte("welcome")})
	settle(t, 0, all)
	if got := all[1].got; len(got) != 1 || !got[0].Blank {
		t.Errorf("%+v", got)
	}
}

// A message for nobody known is dropped and counted; one to a host that is not
// there is of no consequence.
func TestNobodyThere(t *testing.T) {
	s := stations(t, 1, 1)[0]
	send(t, 0, s, cluster.Datagram{To: 9, Data: []byte("x")})
	send(t, 0, s, cluster.Datagram{Data: []byte("x")})
	if c := s.Counts(); c.NoAddress != 2 || c.Unsent != 0 {
		t.Errorf("%+v", c)
	}
	s.Know(map[uint64]netip.Addr{9: loopback(99)})
	send(t, 0, s, cluster.Datagram{To: 9, Data: []byte("x")})
	settle(t, 0, []*station{s})
	s.Know(map[uint64]netip.Addr{9: netip.MustParseAddr("255.255.255.255")}) // not allowed without SO_BROADCAST
	send(t, 0, s, cluster.Datagram{To: 9, Data: []byte("x")})
	if c := s.Counts(); c.NoAddress != 2 || c.Unsent != 1 {
		t.Errorf("%+v", c)
	}
}

// Members that were not heard are tried at both of their networks; the answer
// comes from the address that was asked, under the name of the host.
func TestEitherNetwork(t *testing.T) {
	all := stations(t, 2, 2)
	a, b := all[0], all[1]
	a.Know(map[uint64]netip.Addr{2: loopback(2)})
	ways := map[netip.AddrPort]bool{}
	for range 4 {
		ways[a.ways(0, cluster.Datagram{To: 2})[0]] = true
	}
	if len(ways) != 2 || !ways[netip.AddrPortFrom(loopback(102), a.port)] {
		t.Errorf("ways %v", ways)
	}
	// The LAN of b is gone: only the management network is left.
	b.sockets[0].close()
	b.sockets = b.sockets[1:]
	for range 8 {
		send(t, 0, a, cluster.Datagram{To: 2, Data: []byte("x")})
		settle(t, 0, all)
	}
	if len(b.got) == 0 || b.got[0].From != loopback(1) {
		t.Fatalf("%+v", b.got)
	}
	if from := b.addresses.members[1].heard.Addr(); from != loopback(101) {
		t.Errorf("the management network was used from %s", from)
	}
	// Now b answers to where it heard a, and a goes on with what it heard.
	b.got = nil
	for range 3 {
		send(t, 0, b, cluster.Datagram{To: 1, Data: []byte("y")})
		settle(t, 0, all)
	}
	for range 4 {
		send(t, heardFresh-1, a, cluster.Datagram{To: 2, Data: []byte("x")})
		settle(t, heardFresh-1, all)
	}
	if len(b.got) != 4 || len(a.got) == 0 {
		t.Errorf("%d of 4 messages went to the address that was heard; %d came back", len(b.got), len(a.got))
	}
	b.got = nil
	for range 4 {
		send(t, heardFresh, a, cluster.Datagram{To: 2, Data: []byte("x")})
		settle(t, heardFresh, all)
	}
	if len(b.got) != 2 {
		t.Errorf("%d of 4 messages arrived; after a silence each address is tried in turn", len(b.got))
	}
}

// A member that moves is followed once it is heard, and not before.
func TestMovedMemberIsFollowed(t *testing.T) {
	all := stations(t, 2, 1)
	a, b := all[0], all[1]
	meet(t, 0, all)
	b.Close()
	moved := openStation(t, 2, sealed.UUID{7}, 22, TransportConfig{Local: []netip.Addr{loopback(50)}, Port: a.port})
	all[1] = moved
	for _, word := range []string{"not proved", "here"} {
		send(t, 0, moved, cluster.Datagram{Address: loopback(1), Data: []byte(word)})
		settle(t, 0, all)
	}
	send(t, 0, a, cluster.Datagram{To: 2, Data: []byte("not proved")})
	settle(t, 0, all)
	send(t, 0, a, cluster.Datagram{To: 2, Data: []byte("there")})
	settle(t, 0, all)
	if got := moved.got; len(got) != 1 || string(got[0].Data) != "there" {
		t.Errorf("%d messages", len(got))
	}
}

// What is forged moves nobody's address.
func TestForgedDatagramMovesNobody(t *testing.T) {
	all := stations(t, 2, 1)
	a, b := all[0], all[1]
	meet(t, 0, all)
	forger := openStation(t, 2, sealed.UUID{7}, 2, TransportConfig{Local: []netip.Addr{loopback(66)}, Port: a.port})
	forger.sealer.SetKeys(sealed.Keyring{Current: sealed.Key{9}})
	send(t, 0, forger, cluster.Datagram{Address: loopback(1), Data: []byte("I am 2")})
	if err := forger.sockets[0].send(netip.AddrPortFrom(loopback(1), a.port), append([]byte("1v\x01"), make([]byte, sealed.MaxDatagram-2)...)); err != nil {
		t.Fatal(err)
	}
	settle(t, 0, all)
	send(t, 0, a, cluster.Datagram{To: 2, Data: []byte("x")})
	settle(t, 0, append(all, forger))
	if len(forger.got) != 0 || len(b.got) != 1 {
		t.Error("the forger got what was for another")
	}
	c := a.Counts()
	if c.Verdicts[sealed.WrongKey] != 1 || c.Verdicts[sealed.Long] != 1 {
		t.Errorf("%v", c.Verdicts)
	}
	got := a.Complaints()
	if len(got) != 1 || got[0].From != loopback(66) || got[0].Count != 1 || !strings.Contains(got[0].Sentence, "same key file") {
		t.Errorf("complaints %+v", got)
	}
}

// A heartbeat counts only where it came as one.
func TestHeartbeatsCountOnTheirPathOnly(t *testing.T) {
	all := stations(t, 2, 1)
	a, b := all[0], all[1]
	beat := func() []byte {
		t.Helper()
		d, err := a.SealHeartbeat(nil, []byte("beat"))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if _, ok := b.Heartbeat(0, loopback(1), beat()); ok {
		t.Error("a boot that was not proved was taken")
	}
	settle(t, 0, all)
	if data, ok := b.Heartbeat(0, loopback(1), beat()); !ok || string(data) != "beat" {
		t.Errorf("%q, %v after the proof", data, ok)
	}
	// b has learned where a is.
	send(t, 0, b, cluster.Datagram{To: 1, Data: []byte("x")})
	settle(t, 0, all)
	send(t, 0, b, cluster.Datagram{To: 1, Data: []byte("x")})
	settle(t, 0, all)
	if len(a.got) != 1 {
		t.Errorf("%d messages", len(a.got))
	}
	// By the control socket it is no heartbeat and no message.
	if err := a.sockets[0].send(netip.AddrPortFrom(loopback(2), a.port), beat()); err != nil {
		t.Fatal(err)
	}
	settle(t, 0, all)
	// And a message is none on the path, nor is what a blank host says.
	message, blank := []byte(nil), openStation(t, 3, sealed.UUID{}, 3, TransportConfig{Local: []netip.Addr{loopback(3)}, Port: a.port})
	if err := a.sealer.SealMessage(kindMessage, []byte("x"), func(d []byte) error { message = bytes.Clone(d); return nil }); err != nil {
		t.Fatal(err)
	}
	if _, ok := b.Heartbeat(0, loopback(1), message); ok || len(b.got) != 0 || b.Counts().WrongWay != 2 {
		t.Errorf("%d messages, %+v", len(b.got), b.Counts())
	}
	for range 2 {
		d, err := blank.SealHeartbeat(nil, []byte("beat"))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := b.Heartbeat(0, loopback(3), d); ok {
			t.Error("a blank host's heartbeat was taken")
		}
		settle(t, 0, append(all, blank))
	}
	if b.Counts().Verdicts[sealed.OK] == 0 {
		t.Error("nothing was accepted")
	}
}

// One call takes a bounded number of datagrams, so that heartbeats get their turn.
func TestReceiveIsBounded(t *testing.T) {
	all := stations(t, 2, 1)
	meet(t, 0, all)
	for range maxReceive + 1 {
		send(t, 0, all[0], cluster.Datagram{To: 2, Data: []byte("x")})
	}
	n := 0
	count := func(cluster.Received) { n++ }
	if more, err := all[1].Receive(0, 0, count); !more || err != nil || n != maxReceive {
		t.Errorf("%d messages, more: %v, %v", n, more, err)
	}
	if more, err := all[1].Receive(0, 0, count); more || err != nil || n != maxReceive+1 {
		t.Errorf("%d messages, more: %v, %v", n, more, err)
	}
}

func TestSocketErrors(t *testing.T) {
	s := stations(t, 1, 1)[0]
	before := openDescriptors(t)
	cfg := TransportConfig{Sealer: s.sealer, Local: []netip.Addr{loopback(1)}, Port: s.port}
	for _, c := range []struct {
		local netip.Addr
		want  string
	}{
		{loopback(1), fmt.Sprintf("UDP port %d of 127.0.7.1 is in use", s.port)},
		{netip.MustParseAddr("192.0.2.1"), "not an address of this host"},
		{netip.MustParseAddr("::1"), "only IPv4"},
	} {
		cfg.Local = []netip.Addr{loopback(77), c.local}
		if _, err := OpenTransport(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
		if after := openDescriptors(t); after != before {
			t.Errorf("%d descriptors, were %d", after, before)
		}
	}
	if _, err := OpenTransport(TransportConfig{Sealer: s.sealer}); err == nil {
		t.Error("no address is no error")
	}
	unix.Close(s.sockets[0].fd)
	if _, err := s.Receive(0, 0, nil); err == nil {
		t.Error("a closed socket can be read")
	}
	s.sockets = nil
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// The book is bounded, and members of the table always have a page.
func TestAddressBookIsBounded(t *testing.T) {
	b := newAddresses(7, nil)
	for id := range uint64(2 * maxKnown) {
		b.hear(0, id+1, netip.AddrPortFrom(loopback(1), 7))
	}
	if len(b.members) != maxKnown {
		t.Errorf("%d pages", len(b.members))
	}
	table := map[uint64]netip.Addr{}
	for id := range uint64(cluster.MaxHosts) {
		table[1000+id] = loopback(byte(id + 1))
	}
	b.know(table)
	if len(b.members) != cluster.MaxHosts {
		t.Errorf("%d pages", len(b.members))
	}
	for id, a := range table {
		if got := b.to(0, id); got != netip.AddrPortFrom(a, 7) {
			t.Errorf("%d is at %v", id, got)
		}
	}
}
