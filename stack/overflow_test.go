package stack

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
)

// cookieBench is a stack whose listeners answer everything with a cookie.
type cookieBench struct {
	*Stack
	t   *testing.T
	now time.Duration
}

type noPoller struct{}

func (noPoller) AddEdge(int, uint64) error { return nil }
func (noPoller) Wake()                     {}

func newCookieBench(t *testing.T) *cookieBench {
	t.Helper()
	s, err := New(Config{MTU: mtu, Addresses: []netip.Addr{vip, vip6}, Poller: noPoller{}, Services: []Service{
		{Name: "one", Listen: netip.AddrPortFrom(vip, 22)},
		{Name: "range", Listen: netip.AddrPortFrom(vip, 8000), LastPort: 8003},
		{Name: "six", Listen: netip.AddrPortFrom(vip6, 22)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	always := tcpip.TCPAlwaysUseSynCookies(true)
	if err := s.net.SetTransportProtocolOption(tcp.ProtocolNumber, &always); err != nil {
		t.Fatal(err)
	}
	// Time stamps of two answers to one SYN are the same.
	s.HoldTime()
	return &cookieBench{Stack: s, t: t, now: time.Hour}
}

// asked is what netstack itself answers.
func (b *cookieBench) asked(syn []byte) []byte {
	b.t.Helper()
	b.Deliver(syn)
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		if time.Now().After(deadline) {
			b.t.Fatal("netstack does not answer")
		}
		packets := b.Egress(b.now)
		if len(packets) > 0 {
			answer := slices.Concat(packets[0].Vector.Pieces...)[EthernetBytes:]
			b.Release()
			return answer
		}
	}
}

// openingSYN is a SYN from a client to a service, whose length and addresses are of
// one family.
func openingSYN(from, to netip.AddrPort, number uint32, options, data []byte) []byte {
	six := from.Addr().Is6()
	ip := header.IPv4MinimumSize
	if six {
		ip = header.IPv6MinimumSize
	}
	size := header.TCPMinimumSize + len(options)
	b := make([]byte, ip+size+len(data))
	if six {
		header.IPv6(b).Encode(&header.IPv6Fields{
			PayloadLength: uint16(len(b) - ip), TransportProtocol: tcp.ProtocolNumber, HopLimit: 64,
			SrcAddr: toAddress(from.Addr()), DstAddr: toAddress(to.Addr()),
		})
	} else {
		header.IPv4(b).Encode(&header.IPv4Fields{
			TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(tcp.ProtocolNumber),
			SrcAddr: toAddress(from.Addr()), DstAddr: toAddress(to.Addr()),
		})
	}
	header.TCP(b[ip:]).Encode(&header.TCPFields{
		SrcPort: from.Port(), DstPort: to.Port(), SeqNum: number, DataOffset: uint8(size), Flags: header.TCPFlagSyn, WindowSize: 65535,
	})
	copy(b[ip+header.TCPMinimumSize:], options)
	copy(b[ip+size:], data)
	finish(b, ip)
	return b
}

// Options that clients send, and such as nobody should.
func openingOptions() map[string][]byte {
	stamps := []byte{1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0}
	return map[string][]byte{
		"none":                     nil,
		"Linux":                    {2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0xfe, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7},
		"stamps alone":             stamps,
		"stamps before the size":   append(slices.Clone(stamps), 2, 4, 0x05, 0x14),
		"a size below the least":   {2, 4, 0, 1},
		"a size of nothing":        {2, 4, 0, 0},
		"a size of IPv6":           {2, 4, 0x05, 0xa0},
		"a size just below":        {2, 4, 0x05, 0x9f},
		"a size of jumbo frames":   {2, 4, 0x23, 0x00},
		"a size that is cut":       {2, 5, 0x05, 0xb4},
		"stamps of another size":   {8, 9, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0},
		"what nobody knows":        {200, 4, 1, 2, 2, 4, 0x05, 0xb4},
		"an end before the size":   {0, 0, 0, 0, 2, 4, 0x05, 0xb4},
		"a size after what is cut": {200, 60, 0, 0, 2, 4, 0x05, 0xb4},
	}
}

// The kernel is to answer at the port of a range that is being asked, and not at one where a
// listener answered with a cookie long ago.
func TestKernelCookiesAreOfThePortThatIsAsked(t *testing.T) {
	b := newCookieBench(t)
	const inRange = 1
	from := netip.MustParseAddrPort("10.0.0.9:4000")
	for _, port := range []uint16{8001, 8000, 8003} {
		to := netip.AddrPortFrom(vip, port)
		b.Answered(b.now, inRange, b.asked(openingSYN(from, to, 1, nil, nil)), false)
		b.now += time.Millisecond
		syn := openingSYN(from, to, 2, nil, nil)
		if _, ok := b.AppendCookie(b.now, nil, inRange, syn); !ok {
			t.Fatalf("no cookie at port %d", port)
		}
		if c, ok := b.KernelCookies(inRange); !ok || c.Port != port {
			t.Errorf("the kernel is to answer at port %d (%v) while %d is asked", c.Port, ok, port)
		}
	}
}

// A cookie that is made here is, byte for byte, what netstack answers: to whatever
// asks for one, over IPv4 and IPv6, at each port of a range, and also minutes later.
func TestCookiesAreNetstacksOwn(t *testing.T) {
	b := newCookieBench(t)
	random := rand.New(rand.NewPCG(1, 2))
	targets := []netip.AddrPort{netip.AddrPortFrom(vip, 22), netip.AddrPortFrom(vip, 8000), netip.AddrPortFrom(vip, 8003), netip.AddrPortFrom(vip6, 22)}
	for _, to := range targets {
		service := slices.IndexFunc(b.services, func(s *service) bool {
			return s.Listen.Addr() == to.Addr() && s.at(to.Port()) != nil
		})
		client := func() netip.AddrPort {
			if to.Addr().Is6() {
				var a [16]byte
				binary.BigEndian.PutUint64(a[8:], random.Uint64())
				copy(a[:], []byte{0x20, 0x01, 0x0d, 0xb8})
				return netip.AddrPortFrom(netip.AddrFrom16(a), uint16(random.Uint32N(60_000)+1))
			}
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32N(250) + 1)}), uint16(random.Uint32N(60_000)+1))
		}
		for name, options := range openingOptions() {
			// The time in a cookie is in units of 64 seconds.
			b.clock.held.Add(int64(50 * time.Second))
			b.Answered(b.now, service, b.asked(openingSYN(client(), to, random.Uint32(), options, nil)), false)
			for range 8 {
				syn := openingSYN(client(), to, random.Uint32(), options, []byte("data")[:random.IntN(5)])
				got, ok := b.AppendCookie(b.now, []byte("before"), service, syn)
				if want := b.asked(syn); !ok || !bytes.Equal(got, append([]byte("before"), want...)) {
					t.Fatalf("%s to %s: made here\n%x, %v\nby netstack\n%x", name, to, got, ok, want)
				}
			}
		}
	}
	if c, want := b.Counters(), uint64(len(targets)*len(openingOptions())*(1+2*8)); c.CookiesSent != want {
		t.Errorf("%d cookies are counted, want %d", c.CookiesSent, want)
	}
}

// Netstack takes a cookie that was made here for its own, with the segment size in it,
// and no other.
func TestCookiesMadeHereAreTaken(t *testing.T) {
	b := newCookieBench(t)
	to, from := netip.AddrPortFrom(vip, 22), netip.AddrPortFrom(client, 4000)
	linux := openingOptions()["Linux"]
	b.Answered(b.now, 0, b.asked(openingSYN(from, to, 1, linux, nil)), false)
	answer, ok := b.AppendCookie(b.now, nil, 0, openingSYN(from, to, 5_000_000, linux, nil))
	if !ok {
		t.Fatal("no cookie")
	}
	number := binary.BigEndian.Uint32(answer[24:])
	flow := hashing.Flow{Src: client, Dst: vip, SrcPort: 4000, DstPort: 22, Proto: 6}
	for _, wrong := range []uint32{1, 100, 1 << 24, 1 << 31} {
		reply := b.asked(ackOf(from, to, 5_000_001, number+1+wrong))
		if reply[33]&uint8(header.TCPFlagRst) == 0 {
			t.Errorf("a cookie that is %d away is answered with flags %x", wrong, reply[33])
		}
	}
	b.Deliver(ackOf(from, to, 5_000_001, number+1))
	for deadline := time.Now().Add(patience); b.State(&flow) != flowstate.Open; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("netstack does not take the cookie")
		}
	}
	if c := b.Counters(); c.CookiesTaken != 1 {
		t.Errorf("%d cookies count as taken", c.CookiesTaken)
	}
}

// ackOf is an acknowledgment.
func ackOf(from, to netip.AddrPort, number, ack uint32) []byte {
	b := openingSYN(from, to, number, nil, nil)
	binary.BigEndian.PutUint32(b[28:], ack)
	b[33] = uint8(header.TCPFlagAck)
	finish(b, header.IPv4MinimumSize)
	return b
}

// An answer that is not the one that would have been made here is no form of others:
// netstack answers by itself.
func TestCookiesOfAnotherKind(t *testing.T) {
	to, from := netip.AddrPortFrom(vip, 22), netip.AddrPortFrom(client, 4000)
	for name, spoil := range map[string]func(b *cookieBench, answer []byte){
		"another number":     func(_ *cookieBench, a []byte) { a[24]++ },
		"another client":     func(_ *cookieBench, a []byte) { a[19]++ },
		"another time stamp": func(_ *cookieBench, a []byte) { a[20+cookieStamp]++ },
		"other options":      func(_ *cookieBench, a []byte) { a[20+stampKindAt] = 5 },
		"to be cut":          func(_ *cookieBench, a []byte) { a[6] = 0 },
		"an unknown nonce":   func(b *cookieBench, _ []byte) { b.services[0].listeners[0].overflow.key = nil },
		"an unknown secret":  func(b *cookieBench, _ []byte) { b.stamps = nil },
	} {
		b := newCookieBench(t)
		linux := openingOptions()["Linux"]
		answer := b.asked(openingSYN(from, to, 1, linux, nil))
		spoil(b, answer)
		b.Answered(b.now, 0, answer, false)
		if got, ok := b.AppendCookie(b.now, nil, 0, openingSYN(from, to, 2, linux, nil)); ok || len(got) > 0 {
			t.Errorf("%s: a cookie was made all the same", name)
		}
	}
}

// An answer that waited for longer than netstack takes its cookie, three units of 64
// seconds, is no form of others.
func TestCookiesOfAnotherTime(t *testing.T) {
	to, from := netip.AddrPortFrom(vip, 22), netip.AddrPortFrom(client, 4000)
	for units, want := range []bool{true, true, true, false, false} {
		b := newCookieBench(t)
		answer := b.asked(openingSYN(from, to, 1, nil, nil))
		b.clock.held.Add(int64(units) * int64(64*time.Second))
		b.Answered(b.now, 0, answer, false)
		if _, ok := b.AppendCookie(b.now, nil, 0, openingSYN(from, to, 2, nil, nil)); ok != want {
			t.Errorf("after %d units: a cookie is made: %v, want %v", units, ok, want)
		}
	}
}

// A listener that overflows is asked again every askInterval, and twice as much each
// time that it had room, until it does not overflow any more.
func TestOverflowIsAskedAgain(t *testing.T) {
	var o overflow
	syn := uint64(0)
	shown := func(now time.Duration, of int) (n int) {
		for range of {
			if syn++; o.asks(now, syn) {
				n++
			}
		}
		return n
	}
	now := time.Second
	if got := shown(now, 100); got != 100 {
		t.Fatalf("%d of 100 SYNs are shown to a listener with room", got)
	}
	o.refused(now)
	if got := shown(now+askInterval-1, 100); got != 0 {
		t.Errorf("%d SYNs are shown before it is time", got)
	}
	now += askInterval
	if got := shown(now, 100); got != 1 {
		t.Errorf("%d SYNs are shown when it is time, want 1", got)
	}
	if !o.asks(now, syn-99) {
		t.Error("a SYN that is shown to the listener is answered here, when it comes twice")
	}
	o.refused(now)
	now += askInterval
	for want := 1; o.on; want = 2 * want {
		if got := shown(now, 100); got != want && got != 100 {
			t.Fatalf("%d SYNs are shown, want %d", got, want)
		}
		for range want {
			o.kept()
		}
		if want > maxAsked {
			t.Fatal("it has room for as many, and is not shown all")
		}
	}
	// What does not answer at all is left to itself.
	o.refused(now)
	if got := shown(now+askInterval, 100) + shown(now+2*askInterval, 100); got != 101 {
		t.Errorf("%d SYNs are shown to a listener that does not answer, want 101", got)
	}
	if len(o.asked) > maxAsked {
		t.Errorf("%d are remembered", len(o.asked))
	}
}
