package ingress

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

var foreignRounds = flag.Int("foreign-rounds", 0, "measure what a frame for another node costs, in so many rounds")

// Of one cell of the measurement.
const (
	framesPerCall = 64
	callEvery     = 640 * time.Microsecond // 100,000 frames a second
	cellTime      = 500 * time.Millisecond
	sources       = 4096
)

// cell is one way in which a host may meet frames, and what they are.
type cell struct {
	name string
	// to is whom the frames are for.
	to net.HardwareAddr
	// begin sets the host up, and returns what undoes it.
	begin func(w *wire) (end func())
}

// TestForeignFrameCost measures the processor time of the whole process at a fixed
// rate of frames: the sender, the kernel's work, which is done in the sender's calls,
// and a reader where there is one. Cells are interleaved; the first is what frames
// cost that nobody owns.
func TestForeignFrameCost(t *testing.T) {
	if *foreignRounds == 0 {
		t.Skip("only with -foreign-rounds")
	}
	w := newWire(t)
	unix.Close(w.host)
	near, err := netlink.LinkByName("near")
	if err != nil {
		t.Fatal(err)
	}
	address, err := netlink.ParseAddr("10.77.0.11/24")
	if err == nil {
		err = netlink.AddrAdd(near, address)
	}
	if err != nil {
		t.Fatal(err)
	}
	cells := foreignCells()
	results := make([][]float64, len(cells))
	for range *foreignRounds {
		for i := range cells {
			end := cells[i].begin(w)
			results[i] = append(results[i], w.cost(cells[i].to))
			end()
		}
	}
	// Each cell is judged against frames to nobody in the same round.
	t.Logf("%d rounds; ns of processor time a frame, all together and beyond a frame to nobody: median (least to most)", *foreignRounds)
	for i, c := range cells {
		var beyond []float64
		for round, ns := range results[i] {
			beyond = append(beyond, ns-results[0][round])
		}
		t.Logf("%-46s %s   %s", c.name, spread(results[i]), spread(beyond))
	}
}

func spread(v []float64) string {
	v = slices.Sorted(slices.Values(v))
	return fmt.Sprintf("%5.0f (%5.0f to %5.0f)", v[len(v)/2], v[0], v[len(v)-1])
}

func foreignCells() []cell {
	nobody := net.HardwareAddr{2, 0, 0, 0, 9, 9}
	var none [4]uint64
	all := not(none)
	return []cell{
		{"nobody's MAC, nothing installed", nobody, func(*wire) func() { return func() {} }},
		{"nobody's MAC, (a) installed", nobody, ours(&none, true)},
		{"foreign, nothing installed", group, func(*wire) func() { return func() {} }},
		{"foreign, xt_cluster of 4 nodes", group, xtCluster},
		{"foreign, user space decides", group, userSpace},
		{"foreign, socket filter alone", group, ours(&none, false)},
		{"foreign, (a) socket filter, TCX for the host", group, ours(&none, true)},
		{"foreign, (b) TCX, then the socket", group, before(&none)},
		{"own, user space decides", group, userSpace},
		{"own, socket filter alone", group, ours(&all, false)},
		{"own, (a) socket filter, TCX for the host", group, ours(&all, true)},
		{"own, (b) TCX, then the socket", group, before(&all)},
	}
}

// cost sends frames at the rate and reports the processor time of each.
func (w *wire) cost(to net.HardwareAddr) float64 {
	frames := foreignFrames(to)
	messages, vectors := make([]unixMessage, framesPerCall), make([]unix.Iovec, framesPerCall)
	var began, ended unix.Timespec
	n := 0
	clock := func(into *unix.Timespec) {
		if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, into); err != nil {
			w.t.Fatal(err)
		}
	}
	run := func(until time.Time) {
		next := time.Now()
		for ; time.Now().Before(until); next = next.Add(callEvery) {
			for i := range messages {
				b := frames[n%len(frames)]
				vectors[i] = unix.Iovec{Base: &b[0], Len: uint64(len(b))}
				messages[i].header.Iov, messages[i].header.Iovlen = &vectors[i], 1
				n++
			}
			if _, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(w.far), uintptr(unsafe.Pointer(&messages[0])), framesPerCall, 0, 0, 0); errno != 0 {
				w.t.Fatal(errno)
			}
			if rest := time.Until(next.Add(callEvery)); rest > 0 {
				pause := unix.NsecToTimespec(int64(rest))
				_ = unix.Nanosleep(&pause, nil)
			}
		}
	}
	run(time.Now().Add(cellTime / 5))
	n = 0
	clock(&began)
	run(time.Now().Add(cellTime))
	clock(&ended)
	return float64(ended.Nano()-began.Nano()) / float64(n)
}

// unixMessage is struct mmsghdr of sendmmsg(2).
type unixMessage struct {
	header unix.Msghdr
	_      uint32
	_      [4]byte
}

// foreignFrames are acknowledgments of clients who are not those of the first of four
// nodes by the hash of xt_cluster, with seed 0.
func foreignFrames(to net.HardwareAddr) (out [][]byte) {
	for i := uint32(0); len(out) < sources; i++ {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 0xc6330000+i*7)
		if h := jhashWord(binary.NativeEndian.Uint32(a[:])); uint64(h)*4>>32 == 0 {
			continue
		}
		b := segment(netip.AddrPortFrom(netip.AddrFrom4(a), uint16(1024+i)), netip.AddrPortFrom(vip, 22), ack, 0)
		copy(b, to)
		out = append(out, append(b, make([]byte, 6)...))
	}
	return out
}

// jhashWord is jhash_1word of include/linux/jhash.h with the seed 0.
func jhashWord(word uint32) uint32 {
	a, b, c := word+0xdeadbeef+4, uint32(0xdeadbeef+4), uint32(0xdeadbeef+4)
	mix := func(x *uint32, y uint32, n int) { *x = (*x ^ y) - bits.RotateLeft32(y, n) }
	mix(&c, b, 14)
	mix(&a, c, 11)
	mix(&b, a, 25)
	mix(&c, b, 16)
	mix(&a, c, 4)
	mix(&b, a, 14)
	mix(&c, b, 24)
	return c
}

// xtCluster is what users of the kernel's match have: what is not this node's is
// dropped before it is routed.
func xtCluster(w *wire) func() {
	rules := [][]string{
		{"-i", "near", "-d", vip.String(), "-m", "cluster", "--cluster-total-nodes", "4", "--cluster-local-node", "1", "--cluster-hash-seed", "0", "-j", "ACCEPT"},
		{"-i", "near", "-d", vip.String(), "-j", "DROP"},
	}
	for _, r := range rules {
		w.run("iptables", append([]string{"-t", "mangle", "-A", "PREROUTING"}, r...)...)
	}
	return func() {
		for _, r := range rules {
			w.run("iptables", append([]string{"-t", "mangle", "-D", "PREROUTING"}, r...)...)
		}
	}
}

func (w *wire) run(name string, args ...string) {
	w.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		w.t.Skipf("%s %v: %v: %s", name, args, err, out)
	}
}

// reader reads a socket as a worker does, up to 64 frames at a time, until it is
// closed; beside it there is the socket of the control process, which wants only
// datagrams and stands behind TCX.
func (w *wire) reader(fd int) func() {
	control := boundSocket(w.t, "near", typeIPv4)
	w.classic(control, []bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: typeIPv4, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: 2, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(group[2:]), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: 30, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(vip.AsSlice()), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: 23, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: protoUDP, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: accept},
	})
	var stop atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		messages, vectors := make([]unixMessage, framesPerCall), make([]unix.Iovec, framesPerCall)
		buffers := make([][2048]byte, framesPerCall)
		for i := range messages {
			vectors[i] = unix.Iovec{Base: &buffers[i][0], Len: 2048}
			messages[i].header.Iov, messages[i].header.Iovlen = &vectors[i], 1
		}
		for !stop.Load() {
			if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50); n > 0 {
				_, _, _ = unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages[0])), framesPerCall, unix.MSG_DONTWAIT, 0, 0)
			}
		}
	}()
	return func() {
		stop.Store(true)
		<-ended
		unix.Close(fd)
		unix.Close(control)
	}
}

func (w *wire) classic(fd int, p []bpf.Instruction) {
	w.t.Helper()
	raw, err := bpf.Assemble(p)
	if err != nil {
		w.t.Fatal(err)
	}
	f := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		f[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}); err != nil {
		w.t.Fatal(err)
	}
}

// userSpace is a worker without a filter of ours: every frame for the VIP is its.
func userSpace(w *wire) func() {
	fd := boundSocket(w.t, "near", unix.ETH_P_ALL)
	w.classic(fd, []bpf.Instruction{
		bpf.LoadAbsolute{Off: 2, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(group[2:]), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: 30, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(vip.AsSlice()), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: accept},
	})
	return w.reader(fd)
}

// measured is a service for measuring.
func measured() Config {
	return Config{Own: own, Groups: []net.HardwareAddr{group}, Addresses: []netip.Addr{vip}, Except: 7176,
		Services: []Service{{Listen: netip.AddrPortFrom(vip, 22)}}}
}

// ours is the filter as it is, with TCX for the host or without.
func ours(pass *[4]uint64, host bool) func(*wire) func() {
	return func(w *wire) func() {
		f := loaded(w.t, measured())
		f.Pass(0, pass)
		fd := boundSocket(w.t, "near", unix.ETH_P_ALL)
		if err := f.AttachSocket(fd); err != nil {
			w.t.Fatal(err)
		}
		if host {
			if err := f.AttachHost("near"); err != nil {
				w.t.Fatal(err)
			}
		}
		end := w.reader(fd)
		return func() { end(); f.Close() }
	}
}

// before is the other order: the program that knows the buckets stands at TCX, and
// the socket hears what IPv4 it lets pass.
func before(pass *[4]uint64) func(*wire) func() {
	return func(w *wire) func() {
		f := loaded(w.t, measured())
		f.Pass(0, pass)
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress, Instructions: atTCX(f)})
		if err != nil {
			w.t.Fatal(err)
		}
		near, err := net.InterfaceByName("near")
		if err != nil {
			w.t.Fatal(err)
		}
		l, err := link.AttachTCX(link.TCXOptions{Interface: near.Index, Program: p, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			w.t.Fatal(err)
		}
		fd := boundSocket(w.t, "near", typeIPv4)
		end := w.reader(fd)
		return func() { end(); l.Close(); p.Close(); f.Close() }
	}
}

// atTCX is the socket filter as a TCX program: it drops what is another node's, and
// leaves the rest to others.
func atTCX(f *Filter) asm.Instructions {
	p := socketFilter(&f.config, maps{state: f.state.FD(), held: f.held.FD(), drops: f.drops.FD()}, ebpf.MustPossibleCPU())
	foreign := false
	for i := range p {
		switch p[i].Symbol() {
		case "foreign":
			foreign = true
		case "refuse", "accept":
			foreign = false
			p[i].Constant = tcxNext
		}
		if foreign && p[i].Reference() == "refuse" {
			p[i] = p[i].WithReference("drop")
		}
	}
	return append(p, asm.Mov.Imm(asm.R0, tcxDrop).WithSymbol("drop"), asm.Return())
}
