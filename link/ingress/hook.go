package ingress

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hook is where a program is attached to an interface: a TCX link, or a filter of
// clsact, which stays by itself.
type hook struct {
	link   link.Link
	pinned bool
	// at is which hook; of a filter of clsact it is not known.
	at ebpf.AttachType
}

// Close lets go of the link. A pinned one stays.
func (h *hook) Close() error {
	if h.link == nil {
		return nil
	}
	return h.link.Close()
}

// Names of the pins in their directory, and of the filters of clsact.
const (
	pinIn     = "in"
	pinOut    = "out"
	filterIn  = "onevoice_in"
	filterOut = "onevoice_out"
)

// Attach puts the programs on the named interface, before those of others, for they
// would let pass what is to be dropped. In a directory of a BPF file system, if pins is
// not "", they are pinned; the programs of an earlier process that are there are
// exchanged for these, each at once, so that no frame passes unseen. Where the kernel
// has no TCX, clsact takes them, which needs no pins.
//
// It reports whether the programs outlive the process. Errors are those of LoadDirect.
func (d *Direct) Attach(name, pins string) (outlive bool, err error) {
	device, err := interfaceOf(name)
	if err != nil {
		return false, err
	}
	// What is to be kept back is kept back before anything comes in.
	for _, a := range []struct {
		program *ebpf.Program
		at      ebpf.AttachType
		pin     string
	}{{d.leave, ebpf.AttachTCXEgress, pinOut}, {d.in, ebpf.AttachTCXIngress, pinIn}} {
		h, err := d.attachTCX(device.Index, a.program, a.at, pins, a.pin)
		if errors.Is(err, ebpf.ErrNotSupported) {
			err = attachClsact(device.Index, a.program, a.at)
			h = &hook{pinned: true}
		}
		if err != nil {
			return false, fmt.Errorf("ingress: interface %s: direct path: %w", name, named(err, needsDirect))
		}
		d.hooks = append(d.hooks, h)
		outlive = h.pinned
	}
	return outlive, nil
}

// attachTCX attaches a program, or gives it to the link that is pinned.
func (d *Direct) attachTCX(index int, p *ebpf.Program, at ebpf.AttachType, pins, pin string) (*hook, error) {
	if pins != "" {
		pin = filepath.Join(pins, pin)
		if l := pinnedAt(pin, index); l != nil {
			if err := l.Update(p); err == nil {
				return &hook{l, true, at}, nil
			}
			l.Close()
		}
		// Its interface is gone, or it is no link of ours.
		if err := os.Remove(pin); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	l, err := d.tcx(link.TCXOptions{Interface: index, Program: p, Attach: at, Anchor: link.Head()})
	if err != nil {
		return nil, err
	}
	if pins == "" {
		return &hook{l, false, at}, nil
	}
	if err := l.Pin(pin); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &hook{l, true, at}, nil
}

// Before is how many programs of others come before ours at TCX: what they finish, ours do
// not see. Ours are put before all others; who comes later may do the same.
func (d *Direct) Before() (n int) {
	for _, h := range d.hooks {
		if h.link == nil {
			continue
		}
		info, err := h.link.Info()
		if err != nil || info.TCX() == nil {
			continue
		}
		// Without an answer none is known.
		all, _ := link.QueryPrograms(link.QueryOptions{Target: int(info.TCX().Ifindex), Attach: h.at})
		if all == nil {
			continue
		}
		n += max(slices.IndexFunc(all.Programs, func(p link.AttachedProgram) bool {
			id, ok := p.LinkID()
			return ok && id == info.ID
		}), 0)
	}
	return n
}

// pinnedAt is the link that is pinned for an interface, nil for none.
func pinnedAt(pin string, index int) link.Link {
	l, err := link.LoadPinnedLink(pin, nil)
	if err != nil {
		return nil
	}
	info, err := l.Info()
	if err != nil || info.TCX() == nil || int(info.TCX().Ifindex) != index {
		l.Close()
		return nil
	}
	return l
}

// Pinned reports whether programs of the direct path are on the named interface that
// Attach would exchange.
func Pinned(name, pins string) bool {
	device, err := netlink.LinkByName(name)
	if err != nil {
		return false
	}
	index := device.Attrs().Index
	if pins != "" {
		if l := pinnedAt(filepath.Join(pins, pinIn), index); l != nil {
			l.Close()
			return true
		}
	}
	ours := clsactFilter(index, ebpf.AttachTCXIngress)
	// Without clsact there are none.
	all, _ := netlink.FilterList(device, ours.Parent)
	return slices.ContainsFunc(all, func(f netlink.Filter) bool {
		b, ok := f.(*netlink.BpfFilter)
		return ok && b.Name == ours.Name
	})
}

// clsactFilter is a program of ours on an interface without TCX, before others'.
func clsactFilter(index int, at ebpf.AttachType) *netlink.BpfFilter {
	f := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: netlink.MakeHandle(0, 0x6f76), Protocol: unix.ETH_P_ALL, Priority: 1,
		},
		Name: filterIn, DirectAction: true,
	}
	if at == ebpf.AttachTCXEgress {
		f.Parent, f.Name = netlink.HANDLE_MIN_EGRESS, filterOut
	}
	return f
}

// attachClsact attaches a program where there is no TCX, in the place of an earlier
// process's.
func attachClsact(index int, p *ebpf.Program, at ebpf.AttachType) error {
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	err := netlink.QdiscAdd(qdisc)
	if errors.Is(err, unix.EEXIST) {
		err = plainIngress(index)
	}
	if err != nil {
		return fmt.Errorf("clsact: %w", builtWithout(err))
	}
	f := clsactFilter(index, at)
	f.Fd = p.FD()
	if err := netlink.FilterReplace(f); err != nil {
		return fmt.Errorf("clsact filter: %w", builtWithout(err))
	}
	return nil
}

// plainIngress is an error where an interface has the qdisc that clsact took the place of:
// it has one hook, and takes a filter that is meant for the way out for one of the way in.
func plainIngress(index int) error {
	device, err := netlink.LinkByIndex(index)
	if err != nil {
		return err
	}
	all, err := netlink.QdiscList(device)
	for _, q := range all {
		if q.Type() == "ingress" {
			name := device.Attrs().Name
			return fmt.Errorf("the interface has the qdisc ingress of another program, beside which clsact cannot be, and nothing would be kept back on the way out; have it use clsact (tc qdisc del dev %s ingress; tc qdisc add dev %s clsact), or write path = \"netstack\" and a backend", name, name)
		}
	}
	return err
}

// builtWithout tells a kernel that knows no such qdisc or filter, nor has a module of it
// (net/sched/sch_api.c and cls_api.c), from what is wrong otherwise.
func builtWithout(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w: the kernel has no TCX, and of clsact it lacks a part (CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_BPF): %w", ebpf.ErrNotSupported, err)
	}
	return err
}

// Detach takes the programs of the direct path from the named interface and from the
// directory of their pins, whichever process has put them there. Where there are none it
// does nothing.
func Detach(name, pins string) error {
	var errs []error
	for _, pin := range []string{pinIn, pinOut} {
		if pins == "" {
			break
		}
		// The kernel lets go of a link some time after its pin is gone.
		if l, err := link.LoadPinnedLink(filepath.Join(pins, pin), nil); err == nil {
			errs = append(errs, l.Detach(), l.Close())
		}
		if err := os.Remove(filepath.Join(pins, pin)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if pins != "" {
		if err := os.Remove(pins); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	device, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return errors.Join(errs...)
	}
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		errs = append(errs, detachClsact(device, clsactFilter(device.Attrs().Index, at)))
	}
	return errors.Join(errs...)
}

// detachClsact takes a filter of ours away, if it is there. The qdisc stays: others may
// have put theirs there meanwhile.
func detachClsact(device netlink.Link, ours *netlink.BpfFilter) error {
	all, err := netlink.FilterList(device, ours.Parent)
	if err != nil {
		// No clsact, so nothing of ours.
		return nil
	}
	for _, f := range all {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Name == ours.Name {
			return netlink.FilterDel(b)
		}
	}
	return nil
}

// bpfRoot is where the kernel's documentation has the BPF file system.
const bpfRoot = "/sys/fs/bpf"

// PinDirectory makes a directory for pins, and mounts the BPF file system where it is
// not. An error says that nothing can be pinned, and why.
func PinDirectory(name string) (string, error) {
	if err := mountBPF(bpfRoot); err != nil {
		return "", err
	}
	dir := PinPath(name)
	err := os.MkdirAll(dir, 0o700)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return "", fmt.Errorf("ingress: nothing can be pinned (%w); the BPF file system is root's, and may be read-only in a unit: see docs/direct.md for its lines", err)
	}
	if err != nil {
		return "", fmt.Errorf("ingress: %w", err)
	}
	return dir, nil
}

// PinPath is the directory of that name, whether it is there or not.
func PinPath(name string) string { return filepath.Join(bpfRoot, "onevoice", name) }

// MountPins mounts the BPF file system where PinDirectory makes directories, if it is not
// there yet, and makes the one that all of them are in, PinPath(""). It needs
// CAP_SYS_ADMIN, which PinDirectory does not after it.
func MountPins() error {
	if err := mountBPF(bpfRoot); err != nil {
		return err
	}
	if err := os.MkdirAll(PinPath(""), 0o700); err != nil {
		return fmt.Errorf("ingress: %w", err)
	}
	return nil
}

func mountBPF(at string) error {
	var s unix.Statfs_t
	if err := unix.Statfs(at, &s); err == nil && int64(s.Type) == unix.BPF_FS_MAGIC {
		return nil
	}
	if err := unix.Mount("bpf", at, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fmt.Errorf("ingress: no BPF file system at %s, and it cannot be mounted (%w); mount it: mount -t bpf bpf %s", at, err, at)
	}
	return nil
}
