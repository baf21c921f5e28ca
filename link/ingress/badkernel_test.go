package ingress

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A kernel without TCX is given filters of clsact, which outlive the process, and another
// process's in their place.
func TestKernelWithoutTCX(t *testing.T) {
	w := elsewhere(newWire(t))
	opens := segment(netip.MustParseAddrPort("198.51.100.7:40000"), netip.AddrPortFrom(vip, 22), syn, 0)
	for range 2 {
		d := direct(t, directConfig())
		d.tcx = func(link.TCXOptions) (link.Link, error) { return nil, ebpf.ErrNotSupported }
		if outlive, err := d.Attach("near", ""); err != nil || !outlive {
			t.Fatal(outlive, err)
		}
		if programs, filters := onHooks(t); programs != 0 || filters != 2 {
			t.Errorf("%d programs, %d filters", programs, filters)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if !Pinned("near", "") || w.hears(opens, w.host)[0] {
			t.Error("they are gone with the process")
		}
	}
	if err := Detach("near", ""); err != nil || !w.hears(opens, w.host)[0] {
		t.Errorf("they stay after Detach: %v", err)
	}
}

// Beside the qdisc ingress there is no clsact: its filters would all be on the way in, and
// nothing would keep back what leaves. Who has put it there is told, and nothing is attached.
func TestPlainIngressOnTheInterface(t *testing.T) {
	newWire(t)
	d := direct(t, directConfig())
	d.tcx = func(link.TCXOptions) (link.Link, error) { return nil, ebpf.ErrNotSupported }
	device, err := interfaceOf("near")
	if err == nil {
		err = netlink.QdiscAdd(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: device.Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS}})
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Attach("near", ""); err == nil || errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "tc qdisc del dev near ingress") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	if _, filters := onHooks(t); filters != 0 {
		t.Errorf("%d filters", filters)
	}
}

// A kernel without TCX that was built without clsact, or without its filter, lacks
// something; it is not that something is wrong.
func TestKernelWithoutClsact(t *testing.T) {
	for _, errno := range []error{unix.ENOENT, unix.EOPNOTSUPP} {
		if err := named(builtWithout(errno), needsDirect); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "CONFIG_NET_CLS_BPF") || !strings.Contains(err.Error(), "Linux 5.8") {
			t.Errorf("%v", err)
		}
	}
	if err := builtWithout(unix.EBUSY); err != unix.EBUSY {
		t.Errorf("%v", err)
	}
}

// What a kernel lacks is named, and is told from a program that is wrong and from a right
// that is missing.
func TestKernelWithoutAHelper(t *testing.T) {
	lacksLookUp := func(_ ebpf.ProgramType, f asm.BuiltinFunc) error {
		if f == asm.FnSkcLookupTcp {
			return ebpf.ErrNotSupported
		}
		return nil
	}
	has := func(ebpf.ProgramType, asm.BuiltinFunc) error { return nil }
	invalid := errors.New("invalid argument")
	if err := named(lacking(invalid, lacksLookUp), needsDirect); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "bpf_skc_lookup_tcp") || !strings.Contains(err.Error(), "Linux 5.8") || strings.Contains(err.Error(), "5.5") {
		t.Errorf("%v", err)
	}
	if err := lacking(invalid, has); err != invalid {
		t.Errorf("%v", err)
	}
	if err := named(lacking(unix.EPERM, lacksLookUp), needsDirect); !errors.Is(err, ErrNotPermitted) {
		t.Errorf("%v", err)
	}
}

// An attachment that fails for another reason is no kernel without TCX, and says which
// interface.
func TestAttachFails(t *testing.T) {
	newWire(t)
	d := direct(t, directConfig())
	d.tcx = func(link.TCXOptions) (link.Link, error) { return nil, unix.EPERM }
	if _, err := d.Attach("near", ""); !errors.Is(err, ErrNotPermitted) || !strings.Contains(err.Error(), "near") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	if programs, filters := onHooks(t); programs+filters != 0 {
		t.Errorf("%d programs, %d filters", programs, filters)
	}
	if _, err := d.Attach("no-such-device", ""); err == nil || !strings.Contains(err.Error(), "no-such-device") {
		t.Errorf("%v", err)
	}
}

// Where no BPF file system can be mounted, whoever wants pins is told how to mount one.
func TestNoPlaceForPins(t *testing.T) {
	root(t)
	if err := mountBPF(t.TempDir() + "/nowhere"); err == nil || !strings.Contains(err.Error(), "mount -t bpf bpf") {
		t.Errorf("%v", err)
	}
}

// Programs of others on the hooks see what passes, and not what is dropped; without ours
// before them nothing would be.
func TestOthersOnTheHooksOfTheDirectPath(t *testing.T) {
	w := elsewhere(newWire(t))
	device, err := interfaceOf("near")
	if err != nil {
		t.Fatal(err)
	}
	m, memory, err := shared("onevoice_seen", 8, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { errors.Join(unix.Munmap(memory), m.Close()) })
	const final = 0 // TCX_PASS: no program after it runs
	address := vip.As4()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "another", Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress, Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, skbData, asm.Word),
		asm.LoadMem(asm.R3, asm.R1, skbDataEnd, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, ethernetBytes+ipv4Bytes),
		asm.JGT.Reg(asm.R4, asm.R3, "end"),
		asm.LoadMem(asm.R4, asm.R2, ethernetBytes+16, asm.Word),
		asm.JNE.Imm32(asm.R4, native32(address[:]), "end"),
		asm.LoadMapValue(asm.R1, m.FD(), 0),
		asm.LoadMem(asm.R2, asm.R1, 0, asm.DWord),
		asm.Add.Imm(asm.R2, 1),
		asm.StoreMem(asm.R1, 0, asm.R2, asm.DWord),
		asm.Mov.Imm(asm.R0, final).WithSymbol("end"),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	l, err := link.AttachTCX(link.TCXOptions{Interface: device.Index, Program: p, Attach: ebpf.AttachTCXIngress})
	if errors.Is(err, ebpf.ErrNotSupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	d := direct(t, directConfig())
	if _, err := d.Attach("near", ""); err != nil {
		t.Fatal(err)
	}
	opens := segment(netip.MustParseAddrPort("198.51.100.7:40000"), netip.AddrPortFrom(vip, 22), syn, 0)
	if w.hears(opens, w.host)[0] {
		t.Error("a SYN passes without a lease, beside a program that lets everything pass")
	}
	if n := d.Before(); n != 0 {
		t.Errorf("%d programs are said to come before it", n)
	}
	first, err := link.AttachTCX(link.TCXOptions{Interface: device.Index, Program: p, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
	if err != nil {
		// One program is once on a hook.
		l.Close()
		first, err = link.AttachTCX(link.TCXOptions{Interface: device.Index, Program: p, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
	}
	if err != nil {
		t.Fatal(err)
	}
	if n := d.Before(); n != 1 {
		t.Errorf("%d programs are said to come before it, want 1", n)
	}
	first.Close()
	if memory[0] != 0 {
		t.Errorf("the other program saw %d frames for the VIP, want none", memory[0])
	}
}
