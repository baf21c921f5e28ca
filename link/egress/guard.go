package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// MaxVIPs bounds the VIPs of one Guard: each is a comparison in the program.
const MaxVIPs = 16

var (
	// ErrUnsupported: the kernel has no TCX.
	ErrUnsupported = errors.New("the kernel has no TCX; Linux 6.6 or later is needed")
	// ErrNotPermitted: the process may not load or attach the program.
	ErrNotPermitted = errors.New("not permitted; CAP_BPF and CAP_NET_ADMIN are needed")
)

// Guard is the program on one interface. Its methods may be called from several
// goroutines.
type Guard struct {
	program *ebpf.Program
	lease   *ebpf.Map // one word: the lease's end in CLOCK_BOOTTIME nanoseconds
	drops   *ebpf.Map // a counter for each of dropRows and processor
	link    link.Link

	mu   sync.Mutex
	page []byte // the lease's map, shared with the kernel; nil: it could not be
	done bool
}

// Stats are the frames dropped since Attach.
type Stats struct {
	SYNACKs uint64
	// ARPReplies counts neighbour advertisements too.
	ARPReplies  uint64
	EchoReplies uint64
}

// Attach puts the program on an interface, for 1 to MaxVIPs addresses, with a lease
// until then; with 0 what it guards is dropped until SetLease. It is gone with
// Close, and with the process.
//
// Several Guards may be on one interface, of this process or another; a frame
// leaves if all of those that guard its source have a lease.
//
// Errors are ErrUnsupported, ErrNotPermitted, or about the arguments; with the
// first two a node may go on without.
func Attach(ifindex int, vips []netip.Addr, until time.Duration) (*Guard, error) {
	g, err := attach(ifindex, vips, until)
	switch {
	case err == nil:
		return g, nil
	case errors.Is(err, ebpf.ErrNotSupported):
		err = fmt.Errorf("%w (%w)", ErrUnsupported, err)
	case errors.Is(err, unix.EPERM):
		err = fmt.Errorf("%w (%w)", ErrNotPermitted, err)
	}
	return nil, fmt.Errorf("egress: interface %d: %w", ifindex, err)
}

func attach(ifindex int, vips []netip.Addr, until time.Duration) (*Guard, error) {
	if len(vips) == 0 || len(vips) > MaxVIPs {
		return nil, fmt.Errorf("%d VIPs; from 1 to %d are possible", len(vips), MaxVIPs)
	}
	for _, v := range vips {
		if !v.IsValid() || v.Is4In6() || v.Zone() != "" {
			return nil, fmt.Errorf("the VIP %v is no address of a packet", v)
		}
	}
	g, err := load(vips)
	if err != nil {
		return nil, err
	}
	if err := g.SetLease(until); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	g.link, err = link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: g.program, Attach: ebpf.AttachTCXEgress})
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// load makes the maps and the program, attached to nothing.
func load(vips []netip.Addr) (*Guard, error) {
	g := &Guard{}
	if err := g.load(vips); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

func (g *Guard) load(vips []netip.Addr) (err error) {
	g.lease, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "onevoice_lease", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1,
		Flags: unix.BPF_F_MMAPABLE,
	})
	if err != nil {
		return fmt.Errorf("map of the lease: %w", err)
	}
	g.drops, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "onevoice_drops", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: dropRows,
	})
	if err != nil {
		return fmt.Errorf("map of drops: %w", err)
	}
	// No helper that the program calls is for GPL programs alone.
	g.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "onevoice_egress", Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXEgress,
		Instructions: program(g.lease.FD(), g.drops.FD(), vips),
	})
	if err != nil {
		return fmt.Errorf("program: %w", err)
	}
	// Without the page SetLease costs a system call, and is as good otherwise.
	g.page, err = unix.Mmap(g.lease.FD(), 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		g.page = nil
	}
	return nil
}

// SetLease sets the lease's end, in CLOCK_BOOTTIME since boot: from then on the
// program drops. It is in force for the next frame and costs no system call. An
// end in the past drops at once. After Close it does nothing. The error is of
// the fall-back, a system call, on kernels that do not share the map.
func (g *Guard) SetLease(end time.Duration) error {
	word := uint64(max(end, 0))
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.done:
		return nil
	case g.page != nil:
		// A page is aligned for any word, and the program reads it as one.
		atomic.StoreUint64((*uint64)(unsafe.Pointer(unsafe.SliceData(g.page))), word)
		return nil
	}
	if err := g.lease.Put(uint32(0), word); err != nil {
		return fmt.Errorf("egress: lease: %w", err)
	}
	return nil
}

// Stats reads the counters. After Close it is an error.
func (g *Guard) Stats() (Stats, error) {
	var rows [dropRows]uint64
	for row := range rows {
		var each []uint64
		if err := g.drops.Lookup(uint32(row), &each); err != nil {
			return Stats{}, fmt.Errorf("egress: counters: %w", err)
		}
		for _, n := range each {
			rows[row] += n
		}
	}
	return Stats{rows[dropSYNACK], rows[dropARPReply], rows[dropEchoReply]}, nil
}

// Close takes the program from the interface. What it guarded leaves freely
// from then on. A second Close does nothing.
func (g *Guard) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.done {
		return nil
	}
	g.done = true
	var errs []error
	if g.link != nil {
		errs = append(errs, g.link.Close())
	}
	if g.page != nil {
		errs = append(errs, unix.Munmap(g.page))
	}
	// A nil program or map closes without a word.
	errs = append(errs, g.program.Close(), g.drops.Close(), g.lease.Close())
	return errors.Join(errs...)
}
