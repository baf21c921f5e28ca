package ingress

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// wire is a veth pair in a namespace: what is sent on its far end is heard at its
// near one, by packet sockets and by the host's own stack.
type wire struct {
	t   testing.TB
	far int
	// host is a socket of protocol IPv4, which stands where the host's stack does:
	// behind TCX.
	host int
	// mark is what everybody hears.
	mark []byte
}

// newWire runs the rest of the test on a thread in a network namespace of its own.
// The thread is never given back to the runtime.
func newWire(t testing.TB) *wire {
	t.Helper()
	root(t)
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near", HardwareAddr: own}, PeerName: "far", PeerHardwareAddr: client}
	if err := netlink.LinkAdd(cable); err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{"near", "far"} {
		l, err := netlink.LinkByName(end)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		if l, err := netlink.LinkByName("near"); err != nil || time.Now().After(deadline) {
			t.Fatalf("no carrier: %v", err)
		} else if l.Attrs().OperState == netlink.OperUp {
			break
		}
	}
	return &wire{t, packetSocket(t, "far", 0), packetSocket(t, "near", typeIPv4), mark()}
}

// packetSocket is a socket on an interface that hears a protocol, 0 for none, until
// the test ends.
func packetSocket(t testing.TB, name string, protocol uint16) int {
	t.Helper()
	fd := boundSocket(t, name, protocol)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// boundSocket is the same, for the caller to close.
func boundSocket(t testing.TB, name string, protocol uint16) int {
	t.Helper()
	at, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	timeout := unix.Timeval{Sec: 10}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: at.Index, Protocol: uint16(be16(protocol))}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// mark is a datagram to our own MAC: everybody hears it.
func mark() []byte {
	ip := make([]byte, ipv4Bytes+8)
	ip[0], ip[9] = 0x45, protoUDP
	copy(ip[16:], vip.AsSlice())
	return ethernet(own, typeIPv4, ip)
}

// hears sends a frame, and a mark behind it, and reports who heard the frame.
func (w *wire) hears(frame []byte, sockets ...int) (out []bool) {
	w.t.Helper()
	mark := w.mark
	for _, b := range [][]byte{frame, mark} {
		if err := unix.Send(w.far, b, 0); err != nil {
			w.t.Fatal(err)
		}
	}
	buf := make([]byte, 4096)
	for _, fd := range sockets {
		heard := false
		for {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				w.t.Fatal(err)
			}
			if bytes.Equal(buf[:n], mark) {
				break
			}
			heard = heard || bytes.Equal(buf[:n], frame)
		}
		out = append(out, heard)
	}
	return out
}

// worker is a socket with a filter, as a worker has it.
func (w *wire) worker(pass *[4]uint64) (*Filter, int) {
	w.t.Helper()
	f := loaded(w.t, every())
	for k := range every().Services {
		f.Pass(k, pass)
	}
	fd := packetSocket(w.t, "near", unix.ETH_P_ALL)
	if err := f.AttachSocket(fd); err != nil {
		w.t.Fatal(err)
	}
	err := f.AttachHost("near")
	if errors.Is(err, ErrUnsupported) {
		w.t.Skip(err)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return f, fd
}

// Two workers on an interface, each with its own buckets, and a third socket that
// hears everything: each of the workers hears what is its own, the third hears all,
// and the host's own stack nothing that is for the cluster.
func TestTwoWorkersAndAThird(t *testing.T) {
	w := newWire(t)
	third := packetSocket(t, "near", unix.ETH_P_ALL)
	src := netip.MustParseAddrPort("198.51.100.7:40000")
	at := netip.AddrPortFrom(vip, 22)
	mine := bit(bucketOf([16]byte{}, Hashed{}, src, at))
	theirs := not(mine)
	f1, s1 := w.worker(&mine)
	f2, s2 := w.worker(&theirs)
	all := []int{s1, s2, third, w.host}
	var other netip.AddrPort
	for i := byte(1); ; i++ {
		other = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, i}), 40000)
		if b := bucketOf([16]byte{}, Hashed{}, other, at); bit(b) != mine {
			break
		}
	}
	udp := edit(segment(src, at, syn, 0), ethernetBytes+9, protoUDP)
	heartbeat := slices.Clone(udp)
	copy(heartbeat[ethernetBytes+ipv4Bytes+2:], []byte{7176 >> 8, 7176 & 0xff})
	check := func(what string, frame []byte, want ...bool) {
		t.Helper()
		if got := w.hears(frame, all...); !slices.Equal(got, want) {
			t.Errorf("%s: heard by first, second, third, host: %v, want %v", what, got, want)
		}
	}
	check("the first's", segment(src, at, syn, 0), true, false, true, false)
	check("the second's", segment(other, at, syn, 0), false, true, true, false)
	f1.Hold(Flow{0, other, at.Port()})
	check("held by the first", segment(other, at, ack, 7), true, true, true, false)
	f1.Release(Flow{0, other, at.Port()})
	check("the second's again", segment(other, at, ack, 7), false, true, true, false)
	check("a datagram", udp, true, true, true, false)
	check("a datagram for another port", heartbeat, false, false, true, false)
	check("a heartbeat", edit(heartbeat, ethernetBytes+8, 1), false, false, true, true)
	check("to our own MAC", slices.Concat(own, segment(other, at, ack, 0)[6:]), false, true, true, true)
	check("to the group and another address", segment(src, netip.MustParseAddrPort("10.77.0.11:22"), syn, 0), false, false, true, true)
	check("to our own address", slices.Concat(own, segment(src, netip.MustParseAddrPort("10.77.0.11:22"), syn, 0)[6:]), false, false, true, true)
	check("half a header", segment(other, at, ack, 0)[:50], true, true, true, false)
	check("no whole IPv4 header", segment(other, at, ack, 0)[:30], false, false, true, true)
	if s := f1.Stats(); s.Foreign != 3 || s.ForHost != 0 || f2.Stats().Foreign != 1 || f2.Stats().ForHost == 0 {
		t.Errorf("the first dropped %+v, the second %+v", s, f2.Stats())
	}
	// Each goes by itself, and with the last one the host hears all.
	if err := f1.Close(); err != nil {
		t.Fatal(err)
	}
	check("the first is closed", segment(src, at, syn, 0), true, false, true, false)
	if err := f2.Close(); err != nil {
		t.Fatal(err)
	}
	check("both are closed", segment(src, at, syn, 0), true, false, true, true)
	if err := errors.Join(f1.Close(), f2.Close()); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// The TCX program drops what is for a VIP and came to a cluster MAC, and nothing else.
func TestHostGuard(t *testing.T) {
	f := loaded(t, every())
	if err := f.loadHost(&f.config); err != nil {
		t.Fatal(err)
	}
	src, src6 := netip.MustParseAddrPort("198.51.100.7:40000"), netip.MustParseAddrPort("[2001:db8:1::7]:40000")
	seg, seg6 := segment(src, netip.AddrPortFrom(vip, 80), syn, 0), segment(src6, netip.AddrPortFrom(vip6, 80), syn, 9)
	const ip = ethernetBytes
	for name, c := range map[string]struct {
		frame []byte
		drop  bool
	}{
		"TCP":                      {seg, true},
		"UDP":                      {edit(seg, ip+9, protoUDP), true},
		"UDP on the LAN alone":     {edit(edit(seg, ip+9, protoUDP), ip+8, 1), false},
		"TCP on the LAN alone":     {edit(seg, ip+8, 1), true},
		"a fragment":               {edit(seg, ip+7, 9), true},
		"IPv4 alone":               {seg[:ip+ipv4Bytes], true},
		"to the other group":       {slices.Concat(group6, seg[6:]), true},
		"to our own MAC":           {slices.Concat(own, seg[6:]), false},
		"by broadcast":             {slices.Concat([]byte{255, 255, 255, 255, 255, 255}, seg[6:]), false},
		"to another address":       {edit(seg, ip+19, 3), false},
		"ARP":                      {ethernet(group, typeARP, make([]byte, 28)), false},
		"a VLAN tag in the data":   {ethernet(group, 0x8100, append([]byte{0, 7, 8, 0}, seg[14:]...)), false},
		"IPv6":                     {seg6, true},
		"IPv6 UDP":                 {edit(seg6, ip+6, protoUDP), true},
		"IPv6 UDP on the LAN":      {edit(edit(seg6, ip+6, protoUDP), ip+7, 1), false},
		"IPv6 TCP on the LAN":      {edit(seg6, ip+7, 1), true},
		"IPv6 alone":               {seg6[:ip+ipv6Bytes], true},
		"IPv6 to another address":  {edit(seg6, ip+39, 3), false},
		"IPv6 to another network":  {edit(seg6, ip+24, 3), false},
		"IPv6 to another's MAC":    {slices.Concat(client, seg6[6:]), false},
		"a part of an IPv6 header": {slices.Concat(seg6[:12], []byte{0x86, 0xdd}, seg6[14:ip+39]), false},
	} {
		before := f.Stats().ForHost
		v, err := f.host.Run(&ebpf.RunOptions{Data: c.frame})
		if err != nil {
			if strings.HasPrefix(name, "a part") {
				continue // this kernel does not try such a frame
			}
			t.Fatalf("%s: %v", name, err)
		}
		want := int32(tcxNext)
		if c.drop {
			want = tcxDrop
		}
		if int32(v) != want || (f.Stats().ForHost > before) != c.drop {
			t.Errorf("%s: %d, want %d; %d counted", name, int32(v), want, f.Stats().ForHost-before)
		}
	}
}

// A tagged frame passes, so that it can be counted, and is left to VLAN devices.
func TestTagBesideTheData(t *testing.T) {
	w := newWire(t)
	var none [4]uint64
	_, socket := w.worker(&none)
	src := netip.MustParseAddrPort("198.51.100.7:40000")
	plain := segment(src, netip.AddrPortFrom(vip, 22), syn, 0)
	tagged := slices.Concat(plain[:12], []byte{0x81, 0, 0, 7}, plain[12:])
	mark := mark()
	for _, b := range [][]byte{plain, tagged, mark} {
		if err := unix.Send(w.far, b, 0); err != nil {
			t.Fatal(err)
		}
	}
	buf, heard := make([]byte, 4096), 0
	for {
		n, _, err := unix.Recvfrom(socket, buf, 0)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(buf[:n], mark) {
			break
		}
		heard++
	}
	if heard != 1 {
		t.Errorf("of a plain and a tagged frame %d are heard, want 1", heard)
	}
}

// What stands behind ours at the interface runs for what is not dropped.
func TestProgramsOfOthersRun(t *testing.T) {
	w := newWire(t)
	var none [4]uint64
	w.worker(&none)
	near, err := net.InterfaceByName("near")
	if err != nil {
		t.Fatal(err)
	}
	q, err := link.QueryPrograms(link.QueryOptions{Target: near.Index, Attach: ebpf.AttachTCXIngress})
	if err != nil || len(q.Programs) != 1 {
		t.Fatalf("%+v, %v", q, err)
	}
	if got := w.hears(slices.Concat(own, segment(netip.MustParseAddrPort("198.51.100.7:40000"), netip.MustParseAddrPort("10.77.0.11:22"), syn, 0)[6:]), w.host); !got[0] {
		t.Error("the host does not hear its own frames")
	}
}

// Whatever fails leaves nothing open.
func TestFailuresLeaveNothing(t *testing.T) {
	root(t)
	before := open(t)
	f := loaded(t, every())
	if err := f.AttachHost("no-such-device"); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("attached to no interface: %v", err)
	}
	if err := f.AttachSocket(-1); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("attached to no socket: %v", err)
	}
	if len(open(t)) == len(before) {
		t.Error("nothing is open")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if after := open(t); !slices.Equal(after, before) {
		t.Errorf("open %v, before %v", after, before)
	}
}

// open is what the process has open and mapped of BPF.
func open(t *testing.T) (out []string) {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range dir {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.Contains(to, "bpf") {
			out = append(out, to)
		}
	}
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return append(out, strings.Repeat("mapped ", strings.Count(string(text), "bpf-map")))
}

// Without the right the error says which one is missing, in one line.
func TestNotPermitted(t *testing.T) {
	root(t)
	before := open(t)
	// The capabilities of a thread that is never given back to the runtime.
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		t.Fatal(err)
	}
	f, err := Load(every())
	if err == nil {
		// A kernel that lets everybody load socket filters.
		err = f.AttachHost("lo")
		f.Close()
	}
	if !errors.Is(err, ErrNotPermitted) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	if after := open(t); !slices.Equal(after, before) {
		t.Errorf("open %v, before %v", after, before)
	}
}
