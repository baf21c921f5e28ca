package egress

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
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// wire is a veth pair in a namespace: what is sent on its first end is heard at
// its second.
type wire struct {
	t       *testing.T
	index   int // of the first end
	out, in int // packet sockets
}

// newWire runs the rest of the test on a thread in a network namespace of its
// own. The thread is never given back to the runtime.
func newWire(t *testing.T) *wire {
	t.Helper()
	root(t)
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "a"}, PeerName: "b"}); err != nil {
		t.Fatal(err)
	}
	a, b := up(t, "a"), up(t, "b")
	carrier(t, "a")
	carrier(t, "b")
	return &wire{t: t, index: a, out: socket(t, a, 0), in: socket(t, b, unix.ETH_P_ALL)}
}

// up sets an interface up and returns its index.
func up(t *testing.T, name string) int {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return l.Attrs().Index
}

// carrier waits until the kernel has begun to send on an interface that was set
// up: until then it drops in silence.
func carrier(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if l.Attrs().OperState == netlink.OperUp {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has no carrier", name)
		}
	}
}

func socket(t *testing.T, index int, protocol uint16) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	timeout := unix.Timeval{Sec: 10}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index, Protocol: uint16(be16(protocol))}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// passes sends a frame, and a mark behind it that always passes, and reports
// whether the frame was heard before the mark.
func (w *wire) passes(frame []byte) bool {
	w.t.Helper()
	// A drop is ENOBUFS to the sender.
	if err := unix.Send(w.out, frame, 0); err != nil && err != unix.ENOBUFS {
		w.t.Fatal(err)
	}
	mark := ethernet(0x88b5, []byte("mark")) // IEEE 802, for local experiments
	if err := unix.Send(w.out, mark, 0); err != nil {
		w.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for heard := false; ; {
		n, _, err := unix.Recvfrom(w.in, buf, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		switch {
		case bytes.Equal(buf[:n], mark):
			return heard
		case bytes.Equal(buf[:n], frame):
			heard = true
		}
	}
}

func (w *wire) attach(addrs []netip.Addr) *Guard {
	w.t.Helper()
	g, err := Attach(w.index, addrs, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { g.Close() })
	return g
}

// programs is how many TCX programs are at the interface's egress.
func (w *wire) programs() int {
	w.t.Helper()
	q, err := link.QueryPrograms(link.QueryOptions{Target: w.index, Attach: ebpf.AttachTCXEgress})
	if err != nil {
		w.t.Fatal(err)
	}
	return len(q.Programs)
}

func TestGuardOnTheWire(t *testing.T) {
	w := newWire(t)
	g := w.attach(vips())
	for _, lease := range []struct {
		name  string
		end   time.Duration
		valid bool
	}{
		{"not yet set", -1, false},
		{"valid", now(t) + time.Hour, true},
		{"over", now(t), false},
		{"renewed", now(t) + time.Hour, true},
	} {
		if lease.end >= 0 {
			set(t, g, lease.end)
		}
		for name, f := range frames() {
			// The receiver takes tags out of the data.
			if strings.Contains(name, "tagged") {
				continue
			}
			before := rows(t, g)
			want := lease.valid || f.row < 0
			if got := w.passes(f.frame); got != want {
				t.Errorf("lease %s: %s: passes %v, want %v", lease.name, name, got, want)
			}
			if !want {
				before[f.row]++
			}
			if after := rows(t, g); after != before {
				t.Errorf("lease %s: %s: counters %v, want %v", lease.name, name, after, before)
			}
		}
	}
}

// other attaches another's program at the interface's egress.
func (w *wire) other(where link.Anchor, instructions asm.Instructions) {
	w.t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXEgress, Instructions: instructions})
	if err != nil {
		w.t.Fatal(err)
	}
	defer p.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: w.index, Program: p, Attach: ebpf.AttachTCXEgress, Anchor: where})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
}

// A tag that is left to the hardware, as a VLAN device does, is not in the data.
func TestTagBesideTheData(t *testing.T) {
	w := newWire(t)
	g := w.attach(vips())
	w.other(link.Head(), asm.Instructions{
		asm.Mov.Imm(asm.R2, be16(typeVLAN)),
		asm.Mov.Imm(asm.R3, 7),
		asm.FnSkbVlanPush.Call(),
		asm.Mov.Imm(asm.R0, tcxNext),
		asm.Return(),
	})
	if w.passes(tcp(vip, syn|ack)) {
		t.Error("a tagged SYN-ACK passes without a lease")
	}
	if !w.passes(tcp(vip, ack)) {
		t.Error("a tagged ACK does not pass")
	}
	// With a tag in the data the kernel moves that one beside it, and ours in.
	if w.passes(ethernet(typeIPv4, packet(vip, 6, 0, segment(syn|ack, 0)), typeVLAN)); rows(t, g)[dropSYNACK] != 2 {
		t.Errorf("counters %v", rows(t, g))
	}
	set(t, g, now(t)+time.Hour)
	if !w.passes(tcp(vip, syn|ack)) {
		t.Error("a tagged SYN-ACK does not pass under a lease")
	}
}

func TestCloseTakesTheProgramAway(t *testing.T) {
	w := newWire(t)
	g := w.attach(vips())
	if w.passes(tcp(vip, syn|ack)) || w.programs() != 1 || mappings(t) != 1 {
		t.Fatalf("not attached: %d programs, %d mappings", w.programs(), mappings(t))
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if !w.passes(tcp(vip, syn|ack)) || w.programs() != 0 || mappings(t) != 0 {
		t.Errorf("%d programs, %d mappings are left", w.programs(), mappings(t))
	}
	if err := g.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	set(t, g, 1)
	if _, err := g.Stats(); err == nil {
		t.Error("a closed Guard has counters")
	}
}

// Two Guards, as of an old and a new process: each must have a lease for what
// it guards, and each goes by itself.
func TestTwoGuards(t *testing.T) {
	w := newWire(t)
	first, second := w.attach(vips()), w.attach(vips()[:1])
	hour := now(t) + time.Hour
	for _, c := range []struct {
		first, second time.Duration
		one, two      bool // of the VIP that both guard, of the first's own
	}{
		{0, 0, false, false},
		{hour, 0, false, true},
		{0, hour, false, false},
		{hour, hour, true, true},
	} {
		set(t, first, c.first)
		set(t, second, c.second)
		if one, two := w.passes(tcp(vip, syn|ack)), w.passes(tcp(vip2, syn|ack)); one != c.one || two != c.two {
			t.Errorf("leases %v %v: %v %v, want %v %v", c.first, c.second, one, two, c.one, c.two)
		}
	}
	set(t, first, 0)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if n := w.programs(); n != 1 {
		t.Errorf("%d programs after one of two was closed", n)
	}
	if !w.passes(tcp(vip, syn|ack)) || !w.passes(tcp(vip2, syn|ack)) {
		t.Error("a closed Guard still drops")
	}
}

// What passes is seen by a program behind ours, and what is dropped is not.
func TestProgramsOfOthersRun(t *testing.T) {
	w := newWire(t)
	g := w.attach(vips())
	seen, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer seen.Close()
	w.other(link.Tail(), asm.Instructions{
		asm.LoadMapValue(asm.R1, seen.FD(), 0),
		asm.Mov.Imm(asm.R2, 1),
		asm.AddAtomic.Mem(asm.R1, asm.R2, asm.DWord, 0),
		asm.Mov.Imm(asm.R0, 0), // TCX_PASS
		asm.Return(),
	})
	count := func() (n uint64) {
		if err := seen.Lookup(uint32(0), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, c := range []struct {
		frame []byte
		end   time.Duration
		want  uint64 // the frame, and the mark
	}{
		{tcp(vip, syn|ack), now(t) + time.Hour, 2},
		{tcp(vip, ack), 0, 2},
		{tcp(vip, syn|ack), 0, 1},
	} {
		set(t, g, c.end)
		before := count()
		w.passes(c.frame)
		if got := count() - before; got < c.want || c.want == 1 && got != 1 {
			t.Errorf("the other program saw %d frames, want %d", got, c.want)
		}
	}
}

// A Guard that could not be made leaves nothing behind.
func TestAttachFails(t *testing.T) {
	root(t)
	before := descriptors(t)
	for range 3 {
		if g, err := Attach(1<<30, vips(), 0); err == nil {
			g.Close()
			t.Fatal("attached to no interface")
		} else if strings.Contains(err.Error(), "\n") || errors.Is(err, ErrUnsupported) || errors.Is(err, ErrNotPermitted) {
			t.Errorf("%v", err)
		}
	}
	if after := descriptors(t); !slices.Equal(after, before) {
		t.Errorf("descriptors %v, before %v", after, before)
	}
	if n := mappings(t); n != 0 {
		t.Errorf("%d mappings are left", n)
	}
}

// mappings is how many maps of BPF the process shares with the kernel.
func mappings(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), "bpf-map")
}

// descriptors are what the process has open of BPF.
func descriptors(t *testing.T) (out []string) {
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
	return out
}

// Without the right the error says which one is missing.
func TestNotPermitted(t *testing.T) {
	root(t)
	// The capabilities of a thread that is never given back to the runtime.
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		t.Fatal(err)
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Attach(lo.Index, vips(), 0); !errors.Is(err, ErrNotPermitted) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
}
