package ingress

import (
	"errors"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// slow puts a program on the near end that takes some milliseconds for a frame, and says
// in a word that it has begun, 1, and that it is done, 2.
func (w *wire) slow() *uint32 {
	w.t.Helper()
	const turns = 60_000 // the verifier goes through each
	m, memory, err := shared("onevoice_slow", 8, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { errors.Join(unix.Munmap(memory), m.Close()) })
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "onevoice_slow", Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress, Instructions: asm.Instructions{
		asm.LoadMapValue(asm.R7, m.FD(), 0),
		asm.StoreImm(asm.R7, 0, 1, asm.Word),
		asm.Mov.Imm(asm.R6, turns),
		asm.FnKtimeGetNs.Call().WithSymbol("turn"),
		asm.Sub.Imm(asm.R6, 1),
		asm.JNE.Imm(asm.R6, 0, "turn"),
		asm.StoreImm(asm.R7, 0, 2, asm.Word),
		asm.Mov.Imm(asm.R0, tcxNext),
		asm.Return(),
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { p.Close() })
	device, err := interfaceOf("near")
	if err != nil {
		w.t.Fatal(err)
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: device.Index, Program: p, Attach: ebpf.AttachTCXIngress})
	if errors.Is(err, ebpf.ErrNotSupported) {
		w.t.Skip(err)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	return (*uint32)(unsafe.Pointer(&memory[0]))
}

// Who has waited has waited for the programs that ran: by a visit to each processor, and
// where that is not to be had by the kernel's word.
func TestSettleWaitsForPrograms(t *testing.T) {
	w := newWire(t)
	d := direct(t, directConfig())
	if d.online == nil {
		t.Skip("a kernel with PREEMPT_RT")
	}
	if runtime.NumCPU() < 2 {
		t.Skip("needs two processors: on one a program is done before anybody sees it run")
	}
	online := d.online
	t.Cleanup(func() { d.online = online })
	state := w.slow()
	frame := segment(netip.MustParseAddrPort("198.51.100.7:40000"), netip.AddrPortFrom(vip, 22), ack, 0)
	for _, visits := range []bool{true, false} {
		if d.online = online; !visits {
			d.online = nil
		}
		seen := 0
		for range 200 {
			atomic.StoreUint32(state, 0)
			sent := make(chan error)
			go func() { sent <- unix.Send(w.far, frame, 0) }()
			for atomic.LoadUint32(state) == 0 {
			}
			running := atomic.LoadUint32(state) == 1
			if err := d.Settle(); err != nil {
				t.Fatal(err)
			}
			if after := atomic.LoadUint32(state); running && after != 2 {
				t.Fatalf("visits %v: it has settled while a program runs", visits)
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			if running {
				seen++
			}
			if seen == 5 {
				break
			}
		}
		if seen == 0 {
			t.Skip("no program was seen while it ran")
		}
	}
	d.online = online
	// Where others want the processors, a visit in time is a matter of luck.
	for tries := 1; !visited(d.online); tries++ {
		if tries == 100 {
			t.Fatal("the processors were not visited")
		}
	}
	var now unix.CPUSet
	if err := unix.SchedGetaffinity(0, &now); err != nil || now.Count() < 2 {
		t.Errorf("this thread stays on %d processors: %v", now.Count(), err)
	}
}

// A list that is none is no list, and one that names a processor that is not there is
// not visited to its end.
func TestProcessors(t *testing.T) {
	for list, want := range map[string][]int{"0": {0}, "0-3,5": {0, 1, 2, 3, 5}, "7,9-9": {7, 9}} {
		if got, ok := processorsOf(list); !ok || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", list, got, ok)
		}
	}
	for _, list := range []string{"", "a", "3-1", "-1", "0-", "0-99999999", "1,,2"} {
		if got, ok := processorsOf(list); ok {
			t.Errorf("%q is taken for %v", list, got)
		}
	}
	for _, list := range []string{"", "no list", "0-4095", "0,1023", strings.Repeat("00,", 3000)} {
		if visited(strings.NewReader(list)) {
			t.Errorf("%.20q was visited", list)
		}
	}
	for version, want := range map[string]bool{"#1 SMP PREEMPT_DYNAMIC @0": false, "#1 SMP PREEMPT_RT Debian 6.1.0": true, "#1 SMP PREEMPT RT": true} {
		if realtime(version) != want {
			t.Errorf("%q: %v", version, !want)
		}
	}
}

// The host's own stack has the segments of its services, and the socket does not hear of
// them; what has options, is tagged or a fragment may be another's, and is heard.
func TestServicesOfTheHostAreNotHeard(t *testing.T) {
	c := every()
	for i := range c.Services {
		c.Services[i].Direct = true
	}
	f := loaded(t, c)
	src, src6 := netip.MustParseAddrPort("198.51.100.7:40000"), netip.MustParseAddrPort("[2001:db8:1::7]:40000")
	for _, s := range c.Services {
		from := src
		if !s.Listen.Addr().Is4() {
			from = src6
		}
		if s.UDP {
			continue
		}
		if passes(t, f, segment(from, s.Listen, ack, 3)) {
			t.Errorf("%v: a segment is heard", s.Listen)
		}
		if !passes(t, f, segment(from, netip.AddrPortFrom(s.Listen.Addr(), 9999), ack, 3)) {
			t.Errorf("%v: another port is not heard", s.Listen.Addr())
		}
	}
	plain := segment(src, c.Services[0].Listen, ack, 40)
	if passes(t, f, edit(plain, ethernetBytes+11, 0xff)) {
		t.Error("a wrong checksum is heard; the kernel judges it")
	}
	for what, frame := range map[string][]byte{
		"options":        edit(plain, ethernetBytes, 0x46),
		"the first part": edit(plain, ethernetBytes+6, 0x20),
		"a part":         edit(plain, ethernetBytes+7, 1),
	} {
		if !passes(t, f, frame) {
			t.Errorf("%s: not heard", what)
		}
	}
}

func BenchmarkDirect(b *testing.B) {
	root(b)
	d, err := LoadDirect(directConfig())
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	all := DirectRow{Owned: not([4]uint64{}), Settled: not([4]uint64{})}
	if err := d.Publish([]DirectRow{all, all}); err != nil {
		b.Fatal(err)
	}
	d.SetLease(0, 0, 1<<62)
	src := netip.MustParseAddrPort("198.51.100.7:40000")
	at := netip.AddrPortFrom(vip, 22)
	in, out := segment(src, at, ack, 0), segment(at, src, ack, 0)
	copy(out, client)
	copy(out[6:], own)
	reset := edit(out, ethernetBytes+ipv4Bytes+13, 4)
	b.Run("in", func(b *testing.B) { benchmark(b, d.in, in) })
	b.Run("in, SYN", func(b *testing.B) { benchmark(b, d.in, segment(src, at, syn, 0)) })
	b.Run("out", func(b *testing.B) { benchmark(b, d.leave, out) })
	b.Run("out, reset", func(b *testing.B) { benchmark(b, d.leave, reset) })
	d.SetLease(0, bootNow(b), 1<<62)
	b.Run("in, SYN of a new right", func(b *testing.B) { benchmark(b, d.in, segment(src, at, syn, 0)) })
	var none DirectRow
	if err := d.Publish([]DirectRow{none, none}); err != nil {
		b.Fatal(err)
	}
	b.Run("in, foreign", func(b *testing.B) { benchmark(b, d.in, in) })
	c := every()
	for i := range c.Services {
		c.Services[i].Direct = true
	}
	f := loaded(b, c)
	b.Run("socket filter", func(b *testing.B) { benchmark(b, f.socket, segment(src, c.Services[0].Listen, ack, 0)) })
	b.Run("socket filter, data", func(b *testing.B) { benchmark(b, f.socket, segment(src, c.Services[0].Listen, ack, 1000)) })
}

func BenchmarkSettle(b *testing.B) {
	root(b)
	d, err := LoadDirect(directConfig())
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	online := d.online
	for name, list := range map[string]*os.File{"visit": online, "kernel": nil} {
		b.Run(name, func(b *testing.B) {
			d.online = list
			for b.Loop() {
				if err := d.Settle(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	d.online = online
}
