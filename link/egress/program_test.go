package egress

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// vip and vip2 are guarded; other is not. The bytes of vip are above 127, which
// a comparison must not take for a sign.
func vips() []netip.Addr { return []netip.Addr{addr("203.0.113.254"), addr("10.77.0.2")} }

const (
	vip   = "203.0.113.254"
	vip2  = "10.77.0.2"
	other = "203.0.113.1"
)

const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
	_
	ece
	cwr
)

// ethernet is a frame of a type, behind VLAN tags of the types given.
func ethernet(kind uint16, payload []byte, tags ...uint16) []byte {
	b := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}
	for _, t := range tags {
		b = binary.BigEndian.AppendUint16(b, t)
		b = append(b, 0, 7)
	}
	b = binary.BigEndian.AppendUint16(b, kind)
	return append(b, payload...)
}

// packet is IPv4 with so many bytes of options.
func packet(src string, proto byte, options int, payload []byte) []byte {
	b := make([]byte, 20+options)
	b[0] = 0x40 | byte(len(b)/4)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)+len(payload)))
	b[8], b[9] = 64, proto
	from := addr(src).As4()
	copy(b[12:], from[:])
	copy(b[16:], []byte{203, 0, 113, 77})
	for i := range options {
		b[20+i] = 1 // no operation
	}
	return append(b, payload...)
}

// segment is TCP with so many bytes of data.
func segment(flags byte, data int) []byte {
	b := make([]byte, 20+data)
	binary.BigEndian.PutUint16(b, 22)
	binary.BigEndian.PutUint16(b[2:], 40000)
	b[12], b[13] = 5<<4, flags
	return b
}

func tcp(src string, flags byte) []byte {
	return ethernet(typeIPv4, packet(src, 6, 0, segment(flags, 0)))
}

func icmp(src string, kind byte) []byte {
	return ethernet(typeIPv4, packet(src, 1, 0, []byte{kind, 0, 0, 0, 0, 1, 0, 1, 'x'}))
}

// arpFrame is ARP with an operation and a sender protocol address.
func arpFrame(op uint16, sender string, tags ...uint16) []byte {
	b := []byte{0, 1, 8, 0, 6, 4}
	b = binary.BigEndian.AppendUint16(b, op)
	from := addr(sender).As4()
	b = append(b, 1, 0, 0x5e, 1, 2, 3)
	b = append(b, from[:]...)
	b = append(b, 2, 0, 0, 0, 0, 2)
	b = append(b, 203, 0, 113, 77)
	return ethernet(typeARP, b, tags...)
}

// edit returns a copy of a frame with a byte changed.
func edit(frame []byte, at int, to byte) []byte {
	out := slices.Clone(frame)
	out[at] = to
	return out
}

// frames are what may leave, and the row of what may not after the lease.
func frames() map[string]struct {
	frame []byte
	row   int
} {
	const pass = -1
	type f = struct {
		frame []byte
		row   int
	}
	return map[string]f{
		"SYN-ACK":                       {tcp(vip, syn|ack), dropSYNACK},
		"SYN-ACK of the second VIP":     {tcp(vip2, syn|ack), dropSYNACK},
		"SYN-ACK with ECE":              {tcp(vip, syn|ack|ece), dropSYNACK},
		"SYN-ACK with all flags":        {tcp(vip, 0xff), dropSYNACK},
		"SYN-ACK with data":             {ethernet(typeIPv4, packet(vip, 6, 0, segment(syn|ack, 1000))), dropSYNACK},
		"SYN-ACK with IP options":       {ethernet(typeIPv4, packet(vip, 6, 40, segment(syn|ack, 0))), dropSYNACK},
		"SYN-ACK, tagged":               {ethernet(typeIPv4, packet(vip, 6, 0, segment(syn|ack, 0)), typeVLAN), dropSYNACK},
		"SYN-ACK, tagged 802.1ad":       {ethernet(typeIPv4, packet(vip, 6, 0, segment(syn|ack, 0)), typeQinQ), dropSYNACK},
		"SYN-ACK, tagged twice":         {ethernet(typeIPv4, packet(vip, 6, 0, segment(syn|ack, 0)), typeQinQ, typeVLAN), dropSYNACK},
		"SYN-ACK, tagged three times":   {ethernet(typeIPv4, packet(vip, 6, 0, segment(syn|ack, 0)), typeQinQ, typeVLAN, typeVLAN), pass},
		"SYN-ACK, first fragment":       {edit(tcp(vip, syn|ack), 14+6, 0x20), dropSYNACK},
		"a later fragment":              {edit(tcp(vip, syn|ack), 14+7, 1), pass},
		"a later fragment, high bits":   {edit(tcp(vip, syn|ack), 14+6, 0x10), pass},
		"SYN-ACK of another":            {tcp(other, syn|ack), pass},
		"SYN":                           {tcp(vip, syn), pass},
		"ACK":                           {tcp(vip, ack), pass},
		"data":                          {ethernet(typeIPv4, packet(vip, 6, 0, segment(psh|ack, 1000))), pass},
		"FIN":                           {tcp(vip, fin|ack), pass},
		"RST":                           {tcp(vip, rst), pass},
		"RST-ACK":                       {tcp(vip, rst|ack), pass},
		"no flags":                      {tcp(vip, 0), pass},
		"UDP like a SYN-ACK":            {edit(tcp(vip, syn|ack), 14+9, 17), pass},
		"version 5":                     {edit(tcp(vip, syn|ack), 14, 0x55), pass},
		"header of 16 bytes":            {edit(edit(tcp(vip, syn|ack), 14, 0x44), 14+16+13, syn|ack), pass},
		"echo reply":                    {icmp(vip, 0), dropEchoReply},
		"echo reply of the second VIP":  {icmp(vip2, 0), dropEchoReply},
		"echo reply of another":         {icmp(other, 0), pass},
		"echo request":                  {icmp(vip, 8), pass},
		"fragmentation needed":          {icmp(vip, 3), pass},
		"ARP reply":                     {arpFrame(2, vip), dropARPReply},
		"ARP reply of the second VIP":   {arpFrame(2, vip2), dropARPReply},
		"ARP reply, tagged":             {arpFrame(2, vip, typeVLAN), dropARPReply},
		"ARP reply of another":          {arpFrame(2, other), pass},
		"ARP request":                   {arpFrame(1, vip), pass},
		"ARP of another protocol":       {edit(arpFrame(2, vip), 14+2, 9), pass},
		"ARP of other lengths":          {edit(arpFrame(2, vip), 14+4, 8), pass},
		"IPv6":                          {ethernet(0x86dd, packet(vip, 6, 0, segment(syn|ack, 0))), pass},
		"SYN-ACK, cut before its flags": {tcp(vip, syn|ack)[:14+20+13], pass},
		"ARP reply, cut":                {arpFrame(2, vip)[:14+27], pass},
		// Tagged, for BPF_PROG_TEST_RUN refuses it as plain IPv4.
		"IPv4, tagged, without its whole header": {ethernet(typeIPv4, packet(vip, 6, 0, nil)[:19], typeVLAN), pass},
		"echo reply without a type":              {icmp(vip, 0)[:14+20], pass},
		"IP options that are not in there":       {edit(tcp(vip, syn|ack), 14, 0x4f)[:14+30], pass},
	}
}

func root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to load programs (CAP_BPF, CAP_NET_ADMIN)")
	}
}

func now(t testing.TB) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// loaded is the program with its maps, on no interface.
func loaded(t testing.TB, addrs []netip.Addr) *Guard {
	t.Helper()
	root(t)
	g, err := load(addrs)
	if err != nil {
		var v *ebpf.VerifierError
		if errors.As(err, &v) {
			t.Fatalf("%+v", v)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

func set(t testing.TB, g *Guard, end time.Duration) {
	t.Helper()
	if err := g.SetLease(end); err != nil {
		t.Fatal(err)
	}
}

// verdict runs the program over a frame and checks that it is left as it was.
func verdict(t *testing.T, g *Guard, frame []byte) int32 {
	t.Helper()
	out := make([]byte, len(frame)+256)
	run := &ebpf.RunOptions{Data: frame, DataOut: out}
	v, err := g.program.Run(run)
	if err != nil {
		t.Fatalf("%x: %v", frame, err)
	}
	if !slices.Equal(run.DataOut, frame) {
		t.Error("the frame was changed")
	}
	return int32(v)
}

func rows(t testing.TB, g *Guard) [dropRows]uint64 {
	t.Helper()
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return [dropRows]uint64{s.SYNACKs, s.ARPReplies, s.EchoReplies}
}

func TestProgram(t *testing.T) {
	g := loaded(t, vips())
	for _, lease := range []struct {
		name  string
		end   time.Duration
		valid bool
	}{
		{"none", 0, false},
		{"negative", -1, false},
		{"over", now(t) - 1, false},
		{"valid", now(t) + time.Hour, true},
		{"for ever", 1<<63 - 1, true},
	} {
		set(t, g, lease.end)
		for name, f := range frames() {
			before, want := rows(t, g), int32(tcxNext)
			if f.row >= 0 && !lease.valid {
				want = tcxDrop
			}
			if got := verdict(t, g, f.frame); got != want {
				t.Errorf("lease %s: %s: %d, want %d", lease.name, name, got, want)
			}
			after := rows(t, g)
			if want == tcxDrop {
				before[f.row]++
			}
			if after != before {
				t.Errorf("lease %s: %s: counters %v, want %v", lease.name, name, after, before)
			}
		}
	}
}

// The lease ends by itself: nobody needs to say so.
func TestLeaseRunsOut(t *testing.T) {
	g := loaded(t, vips())
	end := now(t) + 200*time.Millisecond
	set(t, g, end)
	frame := tcp(vip, syn|ack)
	for passed := 0; ; {
		begin := now(t)
		v := verdict(t, g, frame)
		switch ended := now(t); {
		case v == tcxNext && begin >= end:
			t.Fatalf("passed at %v after the lease", begin-end)
		case v == tcxDrop && ended < end:
			t.Fatalf("dropped at %v before the end of the lease", end-ended)
		case v == tcxNext:
			passed++
		case passed == 0:
			t.Skip("the machine was away for the whole lease")
		default:
			return
		}
	}
}

// Each of the most VIPs is guarded, and one more is refused.
func TestMostVIPs(t *testing.T) {
	var most []netip.Addr
	for i := range MaxVIPs {
		most = append(most, netip.AddrFrom4([4]byte{byte(i * 16), 255, byte(255 - i), 128}))
	}
	g := loaded(t, most)
	for _, v := range most {
		if verdict(t, g, tcp(v.String(), syn|ack)) != tcxDrop || verdict(t, g, arpFrame(2, v.String())) != tcxDrop {
			t.Errorf("%v is not guarded", v)
		}
		// One bit beside it is another.
		b := v.As4()
		for i := range b {
			near := b
			near[i] ^= 1 << (i * 2)
			if at := netip.AddrFrom4(near); verdict(t, g, tcp(at.String(), syn|ack)) != tcxNext {
				t.Errorf("%v is guarded", at)
			}
		}
	}
	for name, bad := range map[string][]netip.Addr{
		"none":     nil,
		"too many": append(slices.Clone(most), addr(other)),
		"a zone":   {addr("fe80::1%1")},
		"mapped":   {addr("::ffff:10.0.0.1")},
		"zero":     {{}},
	} {
		if g, err := Attach(1, bad, 0); err == nil {
			g.Close()
			t.Errorf("%s is taken", name)
		}
	}
}

// Without the shared page the same is said by a system call.
func TestLeaseBySystemCall(t *testing.T) {
	g := loaded(t, vips())
	if g.page == nil {
		t.Fatal("the map is not shared on this kernel")
	}
	if err := unix.Munmap(g.page); err != nil {
		t.Fatal(err)
	}
	g.page = nil
	frame := tcp(vip, syn|ack)
	set(t, g, now(t)+time.Hour)
	if verdict(t, g, frame) != tcxNext {
		t.Error("dropped under a lease")
	}
	set(t, g, 0)
	if verdict(t, g, frame) != tcxDrop {
		t.Error("passed without a lease")
	}
}

func BenchmarkProgram(b *testing.B) {
	g := loaded(b, vips())
	for name, end := range map[string]time.Duration{"lease": 1<<63 - 1, "none": 0} {
		for what, frame := range map[string][]byte{"data": tcp(vip, ack), "SYN-ACK": tcp(vip, syn|ack)} {
			b.Run(name+"/"+what, func(b *testing.B) {
				set(b, g, end)
				_, each, err := g.program.Benchmark(frame, 1_000_000, b.ResetTimer)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(each.Nanoseconds()), "ns/frame")
			})
		}
	}
}

func BenchmarkSetLease(b *testing.B) {
	g := loaded(b, vips())
	for b.Loop() {
		set(b, g, 1)
	}
}
