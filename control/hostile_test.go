package control

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/cluster"
	"onevoice/internal/sealed"
	"onevoice/link"
)

// Somebody on the LAN who has not the key can send whatever he likes and whatever
// he has recorded, from any address. It changes a counter, and nothing else.

// stranger is a socket of his, whose address he chose.
type stranger struct {
	t  *testing.T
	fd int
}

func newStranger(t *testing.T) *stranger {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback(66).As4()}); err != nil {
		t.Fatal(err)
	}
	return &stranger{t, fd}
}

func (s *stranger) send(to *station, b []byte) {
	s.t.Helper()
	if err := unix.Sendto(s.fd, b, 0, &unix.SockaddrInet4{Addr: loopback(byte(to.id)).As4(), Port: int(to.port)}); err != nil {
		s.t.Fatal(err)
	}
}

// replies are what came back to the stranger.
func (s *stranger) replies() (datagrams, bytes int) {
	b := make([]byte, 2048)
	for {
		n, _, err := unix.Recvfrom(s.fd, b, 0)
		if err != nil {
			return datagrams, bytes
		}
		datagrams, bytes = datagrams+1, bytes+n
	}
}

// sealedBy is a message as another would seal it.
func sealedBy(t *testing.T, key byte, id uint64, uuid sealed.UUID, salt, kind byte) []byte {
	t.Helper()
	s := sealed.NewSealer(sealed.Keyring{Current: sealed.Key{key}}, id, uuid, sealed.Salt{salt})
	b, err := s.Seal(nil, kind, []byte("an order"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestForgedDatagrams(t *testing.T) {
	all := stations(t, 2, 1)
	meet(t, 0, all)
	victim, thief := all[1], newStranger(t)
	member := func(kind byte) []byte {
		b, err := all[0].sealer.Seal(nil, kind, []byte("an order"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	changed := func(at int, by byte) []byte {
		b := member(kindMessage)
		b[at] ^= by
		return b
	}
	taken := member(kindMessage)
	thief.send(victim, taken) // whoever brings it, it is the member's
	settle(t, 0, all)
	if len(victim.got) != 1 {
		t.Fatal("the control was not taken")
	}
	victim.got = nil
	meet(t, 0, all)

	for _, c := range []struct {
		name    string
		b       []byte
		verdict sealed.Verdict
	}{
		{"nothing", nil, sealed.Short},
		{"one byte", []byte("1"), sealed.Short},
		{"noise", bytes.Repeat([]byte{0xaa}, 500), sealed.Alien},
		{"nothing but the magic", []byte("1v\x01"), sealed.Short},
		{"a header alone", member(kindMessage)[:57], sealed.Short},
		{"cut by a byte", member(kindMessage)[:len(member(kindMessage))-1], sealed.Forged},
		{"longer by a byte", append(member(kindMessage), 0), sealed.Forged},
		{"a byte longer than can be", append(member(kindMessage), make([]byte, sealed.MaxDatagram)...), sealed.Long},
		{"as long as IP has it", append(member(kindMessage), make([]byte, 60_000)...), sealed.Long},
		{"the next version", changed(2, 3), sealed.WrongVersion},
		{"no form", changed(3, 0x10), sealed.BadForm},
		{"another form", changed(3, byte(1^3)), sealed.Forged},
		{"another member's", changed(12, 1), sealed.Forged},
		{"another boot's", changed(13, 1), sealed.WrongKey},
		{"of a blank node", append(append(bytes.Clone(member(kindMessage)[:29]), make([]byte, 16)...), member(kindMessage)[45:]...), sealed.Forged},
		{"another counter", changed(56, 0x40), sealed.Forged},
		{"a counter at the end", func() []byte { b := member(kindMessage); copy(b[49:], bytes.Repeat([]byte{0xff}, 8)); return b }(), sealed.Forged},
		{"another content", changed(60, 1), sealed.Forged},
		{"another seal", changed(len(member(kindMessage))-1, 1), sealed.Forged},
		{"of another cluster", sealedBy(t, 1, 1, sealed.UUID{8}, 1, kindMessage), sealed.WrongCluster},
		{"with another key", sealedBy(t, 2, 1, sealed.UUID{7}, 1, kindMessage), sealed.WrongKey},
		{"taken before", taken, sealed.Replayed},
		{"our own", func() []byte { b, _ := victim.sealer.Seal(nil, kindMessage, []byte("x")); return b }(), sealed.Own},
	} {
		before, to := victim.Counts(), victim.addresses.to(0, 1)
		thief.send(victim, c.b)
		settle(t, 0, all)
		after := victim.Counts()
		before.Verdicts[c.verdict]++
		if before != after {
			t.Errorf("%s: counted %v, want one more %v", c.name, after.Verdicts, c.verdict)
		}
		if n, _ := thief.replies(); n > 0 || len(victim.got) > 0 {
			t.Errorf("%s: %d answers, taken %v", c.name, n, victim.got)
		}
		if now := victim.addresses.to(0, 1); now != to {
			t.Errorf("%s: the member is sought at %v, was at %v", c.name, now, to)
		}
	}
}

// A recorded day of an earlier boot, played to a host that does not know that boot,
// earns one small answer for each datagram, from a budget, and is never taken.
func TestForgedReplayOfAnOldBoot(t *testing.T) {
	all := stations(t, 2, 1)
	meet(t, 0, all)
	victim, thief := all[1], newStranger(t)
	old := sealed.NewSealer(sealed.Keyring{Current: sealed.Key{1}}, 1, sealed.UUID{7}, sealed.Salt{99})
	sent, out, answers := 0, 0, 0
	before := victim.Counts().Verdicts
	const played = 5000
	for range played {
		b, err := old.Seal(nil, kindMessage, make([]byte, 100))
		if err != nil {
			t.Fatal(err)
		}
		sent += len(b)
		thief.send(victim, b)
		settle(t, 0, all)
		n, size := thief.replies()
		answers, out = answers+n, out+size
	}
	c := victim.Counts().Verdicts
	if len(victim.got) > 0 || out > sent || answers > sealed.UnknownPerSecond || c[sealed.Busy]-before[sealed.Busy] != uint64(played-answers) || c[sealed.Unproved]-before[sealed.Unproved] != uint64(answers) {
		t.Errorf("%d bytes of %d answers to %d bytes of %d datagrams; counted %v", out, answers, sent, played, c)
	}
	// Who is known goes on to be heard.
	send(t, 0, all[0], cluster.Datagram{To: 2, Data: []byte("still here")})
	settle(t, 0, all)
	if len(victim.got) != 1 {
		t.Error("a member was not heard besides")
	}
}

// Whoever brings a heartbeat to the control port before it comes over the LAN does
// not keep it from being heard there.
func TestForgedWayOfAHeartbeat(t *testing.T) {
	all := stations(t, 2, 1)
	meet(t, 0, all)
	victim, thief := all[1], newStranger(t)
	b, err := all[0].SealHeartbeat(nil, []byte("beat"))
	if err != nil {
		t.Fatal(err)
	}
	thief.send(victim, b)
	settle(t, 0, all)
	if c := victim.Counts(); c.WrongWay != 1 || len(victim.got) != 0 {
		t.Errorf("%+v", c)
	}
	if data, ok := victim.Heartbeat(0, loopback(1), b); !ok || string(data) != "beat" {
		t.Error("the heartbeat itself was not heard")
	}
	if _, ok := victim.Heartbeat(0, loopback(1), b); ok {
		t.Error("it was heard twice")
	}
	// And the other way round.
	m, err := all[0].sealer.Seal(nil, kindMessage, []byte("an order"))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := victim.Heartbeat(0, loopback(1), m); ok {
		t.Error("a message was heard as a heartbeat")
	}
	thief.send(victim, m)
	settle(t, 0, all)
	if len(victim.got) != 1 {
		t.Error("the message itself was not taken")
	}
}

// frames is a device that has these, again and again, or once.
type frames struct {
	list    [][]byte
	endless bool
	given   int
}

func (d *frames) Receive(out []link.Frame) (int, error) {
	for i := range out {
		if !d.endless && d.given >= len(d.list) {
			return i, nil
		}
		out[i] = link.Frame{Data: d.list[d.given%len(d.list)]}
		d.given++
	}
	return len(out), nil
}

func (d *frames) Send([]link.Vector) error       { return nil }
func (d *frames) Release()                       {}
func (d *frames) FD() int                        { return -1 }
func (d *frames) HardwareAddr() net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, 1} }
func (d *frames) MTU() int                       { return 1500 }
func (d *frames) Present() bool                  { return true }
func (d *frames) Stats() link.Stats              { return link.Stats{} }
func (d *frames) Close() error                   { return nil }

// What comes in a frame to our own MAC, or to any but the cluster MAC, would prove
// a path that clients do not use.
func TestForgedPathOfAHeartbeat(t *testing.T) {
	good := frameOf(t, []byte("sealed"))
	list := [][]byte{good}
	for _, to := range []net.HardwareAddr{{2, 0, 0, 0, 0, 1}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {1, 0, 0x5e, 0x4d, 0, 3}, {0, 0, 0x5e, 0x4d, 0, 2}} {
		list = append(list, append(bytes.Clone(to), good[6:]...))
	}
	list = append(list, good[:41], nil, bytes.Repeat([]byte{0xff}, 1514))
	heard := 0
	l := &LAN{device: &frames{list: list}, to: net.HardwareAddr{1, 0, 0x5e, 0x4d, 0, 2}}
	if err := l.receive(func(netip.Addr, []byte) { heard++ }); err != nil || heard != 1 || l.refused != uint64(len(list)-1) {
		t.Errorf("%d heard, %d refused of %d, %v", heard, l.refused, len(list), err)
	}
}

// A flood that does not end does not keep the loop from its turn.
func TestForgedFloodOfFrames(t *testing.T) {
	d := &frames{list: [][]byte{frameOf(t, []byte("noise"))}, endless: true}
	heard := 0
	l := &LAN{device: d, to: net.HardwareAddr{1, 0, 0x5e, 0x4d, 0, 2}}
	if err := l.receive(func(netip.Addr, []byte) { heard++ }); err != nil || heard != maxReceive {
		t.Errorf("%d frames in a turn, at most %d; %v", heard, maxReceive, err)
	}
}

// A loop whose thread stood still before it read what waits tells the core the time
// of the reading: a promise that counts from before its heartbeat was sent ends
// before the lease that it gives (S1).
func TestHeartbeatsAreHeardWhenTheyAreRead(t *testing.T) {
	w := newTown(t, 2)
	w.until("a cold start", all(0, 1))
	h := w.hosts[0]
	h.loop.Stop()
	h.ended <- <-h.ended // for the town to find
	const stood = 100 * time.Millisecond
	turn := bootNow()
	h.loop.Clock = func() time.Duration { return bootNow() + stood }
	// What waited all the while, and then one that is new.
	h.loop.receive(turn, lanToken)
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(h.device.in), Events: unix.POLLIN}}, 5000); n != 1 || err != nil {
		t.Fatalf("no heartbeat came: %v", err)
	}
	now := h.loop.Clock()
	h.loop.receive(turn, lanToken)
	h.SetLease(0, 0, 0)
	for _, o := range h.loop.Core.Status(now).Hosts {
		if !o.Self && o.Heard > 0 {
			t.Errorf("a heartbeat that was read just now was heard %v ago", o.Heard)
		}
	}
}

// Noise on the LAN and at the control port is counted, and nobody loses buckets.
// (A stall of the machine may cost a lease, so that is not judged here.)
func TestForgedFloodIsServedThrough(t *testing.T) {
	w := newTown(t, 3)
	each := func(owned map[int]int) bool { return covered(owned) && owned[0] > 0 && owned[1] > 0 && owned[2] > 0 }
	w.until("a cold start", each)
	device := w.hub.plug(t)
	defer device.Close()
	lan := &LAN{device: device, to: net.HardwareAddr{1, 0, 0x5e, 0, 0, 2}, self: loopback(66), vip: loopback(200), port: w.port}
	thief := newStranger(t)
	uuid := w.hosts[0].loop.Sealer.UUID()
	for n := range 3000 {
		b := sealedBy(t, 1, uint64(n%3+1), sealed.UUID{byte(n)}, byte(n), kindHeartbeat)
		if n%2 == 0 {
			copy(b[29:45], uuid[:]) // a boot that nobody knows, forged
		}
		if err := lan.send(b); err != nil {
			t.Fatal(err)
		}
		_ = unix.Sendto(thief.fd, b, 0, &unix.SockaddrInet4{Addr: loopback(byte(n%3 + 1)).As4(), Port: int(w.port)})
	}
	w.until("after the flood", each)
	if err := w.hosts[0].loop.Call(func(now time.Duration) {
		l := w.hosts[0].loop
		c := l.Transport.Counts()
		if c.Verdicts[sealed.Forged] == 0 || c.Verdicts[sealed.WrongCluster] == 0 || c.WrongWay == 0 {
			t.Errorf("counted %+v", c)
		}
		for _, h := range l.Core.Status(now).Hosts {
			if !h.In {
				t.Errorf("%s is out", h.Name)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
}
