package datagram

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/hashing"
	"onevoice/internal/poller"
	"onevoice/proxy"
)

// fakeLocal is a backend's socket whose answers a test puts there.
type fakeLocal struct {
	fd     int
	sent   []string
	refuse int // so many calls meet ErrRefused
	full   bool
	closed bool
}

func (l *fakeLocal) FD() int { return l.fd }
func (l *fakeLocal) Send(p []byte) error {
	if l.refuse > 0 {
		l.refuse--
		return proxy.ErrRefused
	}
	if l.full {
		return proxy.ErrAgain
	}
	l.sent = append(l.sent, string(p))
	return nil
}

func (l *fakeLocal) Receive(*proxy.DatagramBatch) (int, error) {
	if l.refuse > 0 {
		l.refuse--
		return 0, proxy.ErrRefused
	}
	return 0, proxy.ErrAgain
}
func (l *fakeLocal) Close() { l.closed = true }

// bench is a relay with sockets that the test has.
type bench struct {
	*Relay
	locals []*fakeLocal
	tokens map[int]uint64
	fail   error
	told   []string
}

func (b *bench) AddLevel(fd int, token uint64) error {
	b.tokens[fd] = token
	return nil
}

func newBench(cfg Config) *bench {
	b := &bench{tokens: map[int]uint64{}}
	cfg.MTU, cfg.Poller, cfg.Random = 1500, b, strings.NewReader(strings.Repeat("random", 1000))
	cfg.BackendChanged = func(service string, up bool, _ error) {
		b.told = append(b.told, service+map[bool]string{true: " up", false: " down"}[up])
	}
	cfg.Services = []Service{{Name: "dns", Listen: netip.MustParseAddrPort("10.77.0.2:53"), Dial: func(netip.AddrPort) (Local, error) {
		if b.fail != nil {
			return nil, b.fail
		}
		b.locals = append(b.locals, &fakeLocal{fd: 100 + len(b.locals)})
		return b.locals[len(b.locals)-1], nil
	}}}
	b.Relay = New(cfg)
	return b
}

func v6Flow() *hashing.Flow {
	return &hashing.Flow{Src: netip.MustParseAddr("2001:db8::7"), Dst: netip.MustParseAddr("2001:db8::2"), SrcPort: 40000, DstPort: 53, Proto: protoUDP}
}

// question is a client's datagram in an IPv4 packet.
func question(f *hashing.Flow, payload string) []byte {
	o := datagramOut{from: netip.AddrPortFrom(f.Src, f.SrcPort), to: netip.AddrPortFrom(f.Dst, f.DstPort), payload: []byte(payload), mtu: 65535}
	return o.pack(nil, func(int, int) {})[EthernetBytes:]
}

// say brings a client's datagram.
func (b *bench) say(now time.Duration, f *hashing.Flow, payload string, segment int) Outcome {
	o := b.Take(now, 0, f)
	if o == Goes || o == Begins {
		b.Deliver(now, f, question(f, payload), []byte(payload), segment)
	}
	return o
}

// answers has the backend answer in a flow.
func (b *bench) answers(now time.Duration, f *hashing.Flow, payload []byte) {
	id, _ := b.table.Find(f)
	b.answer(now, id, &b.sockets[id.slot()], payload)
}

func TestRelayCarriesBothWays(t *testing.T) {
	b := newBench(Config{})
	f := flowOf(1, 40000)
	if o := b.say(0, f, "question", 0); o != Begins {
		t.Fatalf("outcome %d", o)
	}
	b.say(time.Second, f, "aaaabbbbcc", 4)
	b.say(time.Second, f, "", 0)
	if got := strings.Join(b.locals[0].sent, "|"); got != "question|aaaa|bbbb|cc|" || len(b.locals) != 1 {
		t.Errorf("the backend of %d sockets got %q", len(b.locals), got)
	}
	b.answers(2*time.Second, f, []byte("answer"))
	out := b.Egress()
	if len(out) != 1 || out[0].To != f.Src || !bytes.HasSuffix(out[0].Bytes, []byte("answer")) || len(out[0].Bytes) != EthernetBytes+20+8+6 {
		t.Errorf("%+v leaves", out)
	}
	b.Release()
	if len(b.Egress()) != 0 {
		t.Error("it leaves twice")
	}
	if c := b.Counters(); c.DatagramsUp != 5 || c.BytesUp != 18 || c.DatagramsDown != 1 || c.BytesDown != 6 || c.Begun != 1 {
		t.Errorf("%+v", c)
	}
	if !b.Waiting(time.Second) || b.Waiting(3*time.Second) {
		t.Error("a stop does not wait for an answer, or waits on")
	}
	if at, ok := b.Next(); !ok || at != 2*time.Second+DefaultIdle {
		t.Errorf("the flow ends at %v", at)
	}
	b.Turn(2*time.Second + DefaultIdle)
	if b.FlowCount() != 0 || !b.locals[0].closed || b.Services()[0].Flows != 0 {
		t.Error("the flow has not ended")
	}
	// Its socket's last events come to nothing.
	b.Ready(&poller.Event{Token: b.tokens[100], Readable: true}, time.Hour)
	if o := b.say(time.Hour, f, "again", 0); o != Begins {
		t.Errorf("outcome %d", o)
	}
	b.Ready(&poller.Event{Token: b.tokens[100], Readable: true}, time.Hour)
	if !Owns(b.tokens[101]) || b.tokens[101] == b.tokens[100] || Owns(1<<16) || Owns(^uint64(0)-1) {
		t.Errorf("tokens %x and %x", b.tokens[100], b.tokens[101])
	}
}

// A backend's closed port is told to the client, who quoted what, and not more often
// than it may be.
func TestRelayTellsOfClosedPorts(t *testing.T) {
	b := newBench(Config{})
	f := flowOf(1, 40000)
	b.say(0, f, "question", 0)
	b.locals[0].refuse = 1
	b.Ready(&poller.Event{Token: b.tokens[100], Readable: true}, 0)
	out := b.Egress()
	if len(out) != 1 || out[0].To != f.Src {
		t.Fatalf("%+v leaves", out)
	}
	icmp := out[0].Bytes[EthernetBytes:]
	if icmp[9] != 1 || icmp[20] != 3 || icmp[21] != 3 || slowSum(icmp[20:]) != 0xffff || slowSum(icmp[:20]) != 0xffff ||
		!bytes.Equal(icmp[28:], question(f, "question")[:28]) || netip.AddrFrom4([4]byte(icmp[12:16])) != f.Dst {
		t.Errorf("%x", icmp)
	}
	b.Release()
	// One that is sent meets the word about the one before, and goes itself.
	b.locals[0].refuse = 1
	b.say(0, f, "once more", 0)
	if got := b.locals[0].sent; got[len(got)-1] != "once more" || len(b.Egress()) != 1 {
		t.Errorf("the backend got %q", got)
	}
	b.answers(0, f, []byte("here"))
	if got := strings.Join(b.told, ", "); got != "dns down, dns up" {
		t.Errorf("told: %s", got)
	}
	six := v6Flow()
	b.say(0, six, "question", 0)
	b.Release()
	b.locals[1].refuse = 1
	b.Ready(&poller.Event{Token: b.tokens[101], Readable: true}, 0)
	if icmp := b.Egress()[0].Bytes[EthernetBytes:]; icmp[6] != 58 || icmp[40] != 1 || icmp[41] != 4 || !bytes.Equal(icmp[48:], question(six, "question")[:48]) {
		t.Errorf("IPv6: %x", icmp)
	}
	for range 1000 {
		b.locals[0].refuse = 1
		b.Ready(&poller.Event{Token: b.tokens[100], Readable: true}, 0)
	}
	if c := b.Counters(); c.Unreachable != errorBurst || c.Refused != 1003 {
		t.Errorf("%d of %d were told", c.Unreachable, c.Refused)
	}
}

// What routers and clients say about answers.
func TestRelayHearsOfErrors(t *testing.T) {
	b := newBench(Config{})
	f, six := flowOf(1, 40000), v6Flow()
	b.say(0, f, "question", 0)
	b.say(0, six, "question", 0)
	longest := func(now time.Duration, f *hashing.Flow) (n int) {
		b.answers(now, f, make([]byte, 4000))
		for _, p := range b.Egress() {
			n = max(n, len(p.Bytes)-EthernetBytes)
		}
		b.Release()
		return n
	}
	if b.Quoted(0, flowOf(2, 40000), TooBig, 1300) {
		t.Error("an error about a flow of nobody is taken")
	}
	for _, c := range []struct {
		say, four, six int
		now            time.Duration
	}{{1400, 1500, 1400, 0}, {1300, 1500, 1296, 0}, {1450, 1500, 1296, 0}, {600, 1500, 1280, 0}, {0, 1500, 1280, pathMTUTime - 1}, {0, 1500, 1496, pathMTUTime}} {
		if c.say > 0 && (!b.Quoted(c.now, f, TooBig, c.say) || !b.Quoted(c.now, six, TooBig, c.say)) {
			t.Error("an error about a flow that is here is not taken")
		}
		// Fragments end at multiples of 8.
		if four, other := longest(c.now, f), longest(c.now, six); four > c.four || four < c.four-7 || other > c.six || other < c.six-7 {
			t.Errorf("after %d: packets of %d and %d bytes, want %d and %d", c.say, four, other, c.four, c.six)
		}
	}
	// It is the path's, whatever the port.
	b.Quoted(time.Hour, six, TooBig, 1280)
	other := *six
	other.SrcPort++
	b.say(time.Hour, &other, "question", 0)
	if n := longest(time.Hour, &other); n > 1280 {
		t.Errorf("a packet of %d bytes to the same client", n)
	}
	b.SetMTU6(1400)
	for i := range maxPaths + 100 {
		client := v6Flow()
		client.Src = netip.AddrFrom16([16]byte{0x20, 1, 5: byte(i >> 8), 6: byte(i), 15: 1})
		b.say(time.Hour, client, "question", 0)
		b.Quoted(time.Hour, client, TooBig, 1300)
	}
	if len(b.paths) > maxPaths {
		t.Errorf("%d paths are known", len(b.paths))
	}
	if !b.Quoted(time.Hour, f, Passing, 0) || !b.Quoted(time.Hour, f, PortClosed, 0) || b.Quoted(time.Hour, f, PortClosed, 0) || !b.locals[0].closed {
		t.Error("a client that is gone still has its flow")
	}
}

func TestRelayWithoutRoom(t *testing.T) {
	b := newBench(Config{MaxFlows: 3, MaxFlowsOfSource: 2})
	for i, want := range []Outcome{Begins, Begins, SourceFull} {
		if o := b.say(0, flowOf(1, uint16(i+1)), "q", 0); o != want {
			t.Errorf("flow %d of a source: %d", i, o)
		}
	}
	if o := b.say(0, flowOf(2, 1), "q", 0); o != Begins {
		t.Errorf("another source: %d", o)
	}
	if o := b.say(0, flowOf(3, 1), "q", 0); o != Full {
		t.Errorf("one too many: %d", o)
	}
	if o := b.say(MinSpare, flowOf(3, 1), "q", 0); o != Begins || b.Counters().LetGo != 1 || !b.locals[0].closed || b.FlowCount() != 3 {
		t.Errorf("one for another: %d, %+v", o, b.Counters())
	}
	b.locals[1].full = true
	b.say(MinSpare, flowOf(1, 2), "q", 0)
	b.fail = errors.New("no descriptor is left")
	b.say(2*MinSpare, flowOf(4, 1), "q", 0)
	if c := b.Counters(); c.LostUp != 1 || c.NoSocket != 1 || b.FlowCount() != 2 || b.Services()[0].Flows != 2 {
		t.Errorf("%+v with %d flows", c, b.FlowCount())
	}
	b.Close()
	if !b.locals[1].closed {
		t.Error("a socket is left open")
	}
}

// Real sockets: an answer of each length comes back to its own flow, and none to
// another's.
func TestRelayWithSockets(t *testing.T) {
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	p, err := poller.New(poller.ByKernel)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	at := server.LocalAddr().(*net.UDPAddr).AddrPort()
	r := New(Config{
		MTU: 1500, Poller: p, Random: strings.NewReader(strings.Repeat("random", 1000)),
		Services: []Service{{Name: "dns", Listen: netip.MustParseAddrPort("10.77.0.2:53"), Backend: proxy.Backend{Addr: at}}},
	})
	defer r.Close()
	b := make([]byte, 1<<16)
	for i := range 20 {
		f := flowOf(i%3, uint16(1+i%5))
		ask := binary.BigEndian.AppendUint32(nil, uint32(i*500))
		r.Take(0, 0, f)
		r.Deliver(0, f, question(f, string(ask)), ask, 0)
		n, from, err := server.ReadFrom(b)
		if err != nil || n != 4 {
			t.Fatal(n, err)
		}
		answer := append(ask, make([]byte, i*500)...)
		if _, err := server.WriteTo(answer, from); err != nil {
			t.Fatal(err)
		}
		events, err := p.Wait(5 * time.Second)
		if err != nil || len(events) != 1 || !Owns(events[0].Token) {
			t.Fatalf("%v, %v", events, err)
		}
		r.Ready(&events[0], 0)
		out := r.Egress()
		if want := (8+len(answer)-1)/1480 + 1; len(out) != want || out[0].To != f.Src || !bytes.Equal(out[0].Bytes[EthernetBytes+28:EthernetBytes+32], ask) ||
			binary.BigEndian.Uint16(out[0].Bytes[EthernetBytes+22:]) != f.SrcPort {
			t.Fatalf("answer %d: %d packets, want %d", i, len(out), want)
		}
		r.Release()
	}
	if r.FlowCount() != 15 {
		t.Errorf("%d flows", r.FlowCount())
	}
	server.Close()
	f := flowOf(0, 1)
	r.Deliver(0, f, question(f, "q"), []byte("q"), 0)
	events, err := p.Wait(5 * time.Second)
	if err != nil || len(events) != 1 {
		t.Fatalf("%v, %v", events, err)
	}
	r.Ready(&events[0], 0)
	if out := r.Egress(); len(out) != 1 || out[0].Bytes[EthernetBytes+9] != unix.IPPROTO_ICMP {
		t.Errorf("a closed port: %d packets", len(out))
	}
}

// An operator ends the flows of one client, and of nobody else.
func TestRelayKills(t *testing.T) {
	b := newBench(Config{})
	mine, other := flowOf(1, 40000), flowOf(2, 40000)
	b.say(0, mine, "question", 0)
	b.say(0, flowOf(1, 40001), "question", 0)
	b.say(0, other, "question", 0)
	if n := b.Kill(func(c netip.AddrPort, service string) bool { return c.Addr() == mine.Src && service == "dns" }); n != 2 {
		t.Errorf("%d ended", n)
	}
	if b.Has(mine) || !b.Has(other) || b.FlowCount() != 1 || !b.locals[0].closed || !b.locals[1].closed || b.locals[2].closed {
		t.Error("others were ended, or not those")
	}
	if n := b.Kill(func(netip.AddrPort, string) bool { return false }); n != 0 {
		t.Errorf("of nobody %d ended", n)
	}
	if o := b.say(time.Second, mine, "again", 0); o != Begins {
		t.Errorf("outcome %d", o)
	}
}
