package ingress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// maxFragments bounds the packets in fragments whose first one is remembered, of each family; the one
// that was asked about longest ago makes room.
const maxFragments = 8192

// DirectConfig is what a Direct is made for. Of Config it takes the MACs, the VIPs that
// have services of the direct path, and those services.
type DirectConfig struct {
	Config
	// Paths are the numbers of the leases, by service, each below MaxPaths.
	Paths []int
	// ListKey is the key of node.FlowHash.
	ListKey [16]byte
}

// buckets is how many a service has, as package hashing has it.
const buckets = 256

// DirectRow is what the buckets of a service are to this node: of each bitmap, bucket b
// is bit b%64 of word b/64.
type DirectRow struct {
	Key [16]byte
	// Owned takes what is new, under the lease; Since is from when on, in CLOCK_BOOTTIME, of
	// each bucket.
	Owned [4]uint64
	Since [buckets]time.Duration
	// Settled: no other node can hold a flow of the bucket.
	Settled [4]uint64
	// Lingering: this node may hold flows of a bucket that is not its own.
	Lingering [4]uint64
	// Listed: the flows that drainers hold of the bucket are all among those of List.
	Listed [4]uint64
}

// Direct is the two programs that let the host's own TCP and UDP serve the VIPs of an
// interface: on the way in by node.SteerIn, on the way out by node.SteerOut. They are
// pinned, so that they outlive the process: what it last said goes on, without anything
// new once the lease is over.
//
// SetLease, Silence, Rulings, List and Unlist may be called by any goroutine, the others by
// one at a time.
type Direct struct {
	config        DirectConfig
	state, counts *ebpf.Map
	// listed has the flows that drainers hold, by node.FlowHash.
	listed *ebpf.Map
	// asked has the SYNs that came lately.
	asked *ebpf.Map
	// fragments4 and fragments6 have the packets whose first fragment has passed.
	fragments4, fragments6 *ebpf.Map
	*settler
	in, leave *ebpf.Program
	hooks     []*hook
	// tcx attaches a program, link.AttachTCX but in tests.
	tcx func(link.TCXOptions) (link.Link, error)

	memory, counters []byte
}

// LoadDirect makes the programs and the maps, attached to nothing. Nothing is owned,
// everything lingers, and no lease is in force. Errors are ErrUnsupported,
// ErrNotPermitted, or about the arguments.
func LoadDirect(c DirectConfig) (*Direct, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	d := &Direct{config: c, tcx: link.AttachTCX}
	if err := d.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("ingress: direct path: %w", named(err, needsDirect)), d.Close())
	}
	return d, nil
}

func (c *DirectConfig) check() error {
	if err := c.Config.check(); err != nil {
		return err
	}
	if len(c.Services) == 0 || len(c.Paths) != len(c.Services) {
		return fmt.Errorf("%d services with %d paths", len(c.Services), len(c.Paths))
	}
	if i := slices.IndexFunc(c.Paths, func(p int) bool { return p < 0 || p >= MaxPaths }); i >= 0 {
		return fmt.Errorf("path %d; there are %d", c.Paths[i], MaxPaths)
	}
	pins := 0
	for i := range c.Services {
		pins += len(c.Services[i].Pins)
		if !slices.Contains(c.Addresses, c.Services[i].Listen.Addr()) {
			return fmt.Errorf("service on %s, which is no VIP", c.Services[i].Listen)
		}
	}
	if pins > maxPins {
		return fmt.Errorf("%d pins; at most %d are possible on the direct path", pins, maxPins)
	}
	return nil
}

func (d *Direct) load() (err error) {
	services, processors := len(d.config.Services), ebpf.MustPossibleCPU()
	if d.state, d.memory, err = shared("onevoice_direct", steerRows+2*copyBytes(services), unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return err
	}
	if d.counts, d.counters, err = shared("onevoice_rules", processors*rulingBytes, unix.PROT_READ); err != nil {
		return err
	}
	for half := range 2 {
		atomic.StoreUint64(d.word(steerListKey+8*half), binary.LittleEndian.Uint64(d.config.ListKey[8*half:]))
	}
	if d.listed, err = newListed(); err != nil {
		return err
	}
	if d.asked, err = newAsked(); err != nil {
		return fmt.Errorf("map of SYNs: %w", err)
	}
	for _, m := range []struct {
		to   **ebpf.Map
		name string
		key  uint32
	}{{&d.fragments4, "onevoice_parts", 12}, {&d.fragments6, "onevoice_parts6", 36}} {
		*m.to, err = ebpf.NewMap(&ebpf.MapSpec{Name: m.name, Type: ebpf.LRUHash, KeySize: m.key, ValueSize: 8, MaxEntries: maxFragments})
		if err != nil {
			return fmt.Errorf("map of fragments: %w", err)
		}
	}
	if d.settler, err = newSettler(); err != nil {
		return err
	}
	all := DirectRow{Lingering: [4]uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}}
	if err := d.Publish(slices.Repeat([]DirectRow{all}, services)); err != nil {
		return err
	}
	if d.in, err = d.program("onevoice_in", ebpf.AttachTCXIngress, steerer{}); err != nil {
		return err
	}
	d.leave, err = d.program("onevoice_out", ebpf.AttachTCXEgress, steerer{})
	return err
}

// program makes one of the two, of the kind that a steerer says. No helper that they call
// is for GPL programs alone.
func (d *Direct) program(name string, at ebpf.AttachType, kind steerer) (*ebpf.Program, error) {
	s := newSteerer(&d.config, steerMaps{d.state.FD(), d.listed.FD(), d.asked.FD(), d.fragments4.FD(), d.fragments6.FD(), d.counts.FD()}, ebpf.MustPossibleCPU())
	s.tell, s.inPieces = kind.tell, kind.inPieces
	code := s.in
	if at == ebpf.AttachTCXEgress {
		code = s.leave
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.SchedCLS, AttachType: at, Instructions: code()})
	if err != nil {
		return nil, fmt.Errorf("program %s: %w", name, lacking(err, features.HaveProgramHelper))
	}
	return p, nil
}

// lacking finds out whether a program was refused for what the kernel does not have: it
// says then that an argument is invalid, as of any other fault.
func lacking(refused error, has func(ebpf.ProgramType, asm.BuiltinFunc) error) error {
	if errors.Is(refused, unix.EPERM) {
		return refused
	}
	for _, f := range []struct {
		call asm.BuiltinFunc
		name string
	}{
		{asm.FnSkcLookupTcp, "bpf_skc_lookup_tcp"}, {asm.FnTcpSock, "bpf_tcp_sock"}, {asm.FnSkFullsock, "bpf_sk_fullsock"},
		{asm.FnKtimeGetBootNs, "bpf_ktime_get_boot_ns"}, {asm.FnSkbChangeType, "bpf_skb_change_type"},
	} {
		if errors.Is(has(ebpf.SchedCLS, f.call), ebpf.ErrNotSupported) {
			return fmt.Errorf("%w: the kernel has no %s", ebpf.ErrNotSupported, f.name)
		}
	}
	return refused
}

// word is a word of the map.
func (d *Direct) word(at int) *uint64 { return (*uint64)(unsafe.Pointer(&d.memory[at])) }

// SetLease sets the begin and the end of a path's lease, in CLOCK_BOOTTIME since boot. The
// begin stays the same while the lease is renewed without a gap; from the end on nothing new
// is accepted on the path. It is in force for the next frame and costs no system call.
func (d *Direct) SetLease(path int, begin, end time.Duration) {
	at := steerLeases + leaseBytes*path
	// A frame in between finds the lease that is over, or an earlier end of this one.
	atomic.StoreUint64(d.word(at+leaseBegin), uint64(max(begin, 0)))
	atomic.StoreUint64(d.word(at), uint64(max(end, 0)))
}

// Silence keeps back the resets of connections until a time of CLOCK_BOOTTIME: they are
// to end without a word.
func (d *Direct) Silence(until time.Duration) {
	atomic.StoreUint64(d.word(steerQuiet), uint64(max(until, 0)))
}

// Publish puts other rows in force, one for each service, all at once: every frame is
// judged by the old ones or by the new. There are two copies of them, so Settle has to
// have returned since the last Publish.
func (d *Direct) Publish(rows []DirectRow) error {
	if len(rows) != len(d.config.Services) {
		return fmt.Errorf("ingress: %d rows for %d services", len(rows), len(d.config.Services))
	}
	index := atomic.LoadUint64(d.word(steerIndex)) ^ 1
	at := steerRows + int(index)*copyBytes(len(rows))
	for i := range rows {
		r := &rows[i]
		row := at + i*rowBytes
		atomic.StoreUint64(d.word(row+stateKey), binary.LittleEndian.Uint64(r.Key[:8]))
		atomic.StoreUint64(d.word(row+stateKey+8), binary.LittleEndian.Uint64(r.Key[8:]))
		for k := range 4 {
			words := row + rowWords*k
			atomic.StoreUint64(d.word(words+rowOwned), r.Owned[k])
			atomic.StoreUint64(d.word(words+rowSettled), r.Settled[k])
			atomic.StoreUint64(d.word(words+rowLinger), r.Lingering[k])
			atomic.StoreUint64(d.word(words+rowListed), r.Listed[k])
		}
		for b, since := range r.Since {
			atomic.StoreUint64(d.word(row+rowSince+8*b), uint64(since))
		}
	}
	atomic.StoreUint64(d.word(steerIndex), index)
	return nil
}

// Rulings are how many frames met each ruling since LoadDirect; of Elsewhere none is
// counted. It costs no system call.
func (d *Direct) Rulings() (out [RulingCount]uint64) {
	for at := 0; at+rulingBytes <= len(d.counters); at += rulingBytes {
		for r := range out {
			out[r] += atomic.LoadUint64((*uint64)(unsafe.Pointer(&d.counters[at+8*r])))
		}
	}
	return out
}

// Asked are twins of each program, which tell the ruling instead of obeying it: the second
// reads each frame as one that does not lie in one piece. They are for tests and questions.
type Asked struct{ in, leave [2]*ebpf.Program }

// Ask makes the twins. They look at the same maps.
func (d *Direct) Ask() (*Asked, error) {
	a := &Asked{}
	for i := range a.in {
		kind := steerer{tell: true, inPieces: i == 1}
		var err error
		if a.in[i], err = d.program("onevoice_ask", ebpf.AttachTCXIngress, kind); err == nil {
			a.leave[i], err = d.program("onevoice_ask", ebpf.AttachTCXEgress, kind)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("ingress: %w", named(err, needsDirect)), a.Close())
		}
	}
	return a, nil
}

// In is the ruling on a frame that comes in.
func (a *Asked) In(frame []byte) (Ruling, error) { return ask(a.in, frame) }

// Out is the ruling on a frame that leaves, which no socket sends.
func (a *Asked) Out(frame []byte) (Ruling, error) { return ask(a.leave, frame) }

// ask asks both twins, who have to agree.
func ask(twins [2]*ebpf.Program, frame []byte) (Ruling, error) {
	var said [2]Ruling
	for i, p := range twins {
		v, err := p.Run(&ebpf.RunOptions{Data: frame})
		if err != nil {
			return Elsewhere, fmt.Errorf("ingress: %w", err)
		}
		said[i] = Ruling(v)
	}
	if said[0] != said[1] {
		return said[0], fmt.Errorf("ingress: in one piece it is %v, and in several %v", said[0], said[1])
	}
	return said[0], nil
}

// Close lets go of the twins.
func (a *Asked) Close() error {
	var errs []error
	for i := range a.in {
		errs = append(errs, a.in[i].Close(), a.leave[i].Close())
	}
	return errors.Join(errs...)
}

// Close lets go of the programs. Where they are pinned they stay on the interface, as
// they were last told; a second Close does nothing.
func (d *Direct) Close() error {
	var errs []error
	for _, h := range d.hooks {
		errs = append(errs, h.Close())
	}
	for _, memory := range [][]byte{d.memory, d.counters} {
		if memory != nil {
			errs = append(errs, unix.Munmap(memory))
		}
	}
	if d.settler != nil {
		errs = append(errs, d.settler.close())
	}
	errs = append(errs, d.in.Close(), d.leave.Close(), d.listed.Close(), d.asked.Close(), d.fragments4.Close(), d.fragments6.Close(), d.counts.Close(), d.state.Close())
	*d = Direct{}
	return errors.Join(errs...)
}

// Leave takes the programs from the interface, unless they are pinned there: whoever comes
// next exchanges those, and puts its own beside the others.
func (d *Direct) Leave() error {
	var errs []error
	d.hooks = slices.DeleteFunc(d.hooks, func(h *hook) bool {
		if !h.pinned {
			errs = append(errs, h.Close())
		}
		return !h.pinned
	})
	return errors.Join(errs...)
}

// interfaceOf is the named interface.
func interfaceOf(name string) (*net.Interface, error) {
	device, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("ingress: interface %s: %w", name, err)
	}
	return device, nil
}
