package ingress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

const (
	// MaxServices bounds the services of one Filter: each is a comparison in the
	// program, and a row of its state.
	MaxServices = 256
	// MaxAddresses bounds its VIPs and cluster MACs together.
	MaxAddresses = 60
	// MaxHeld bounds the held flows of one family in its map. Rows are made when
	// they are needed, so that a node that drains nothing has none; the map's heads
	// take 16 bytes for each of these.
	MaxHeld = 1 << 16
)

// Rows of a processor's counters.
const (
	dropForeign = iota
	dropForHost
	// takenSYN counts SYNs that the socket filter took out for the TCX program,
	// answeredSYN those that it answered, and lostSYN those that it did not after all.
	takenSYN
	answeredSYN
	lostSYN
)

// dropsBytes are a processor's counters: a cache line.
const dropsBytes = 64

var (
	// ErrUnsupported: the kernel lacks something that is needed.
	ErrUnsupported = errors.New("the kernel is too old, or was built without something")
	// ErrNotPermitted: the process may not load or attach a program.
	ErrNotPermitted = errors.New("not permitted; CAP_BPF and CAP_NET_ADMIN are needed")
)

// What is needed, by what is made. A map that is mapped is of 5.5 (BPF_F_MMAPABLE), the
// helper that reads CLOCK_BOOTTIME of 5.8; the other helpers and kinds of maps are older.
const (
	needsFilter = "Linux 5.5 or later is needed, and 6.6 to spare its own stack the frames"
	needsDirect = "Linux 5.8 or later is needed, with TCX or clsact"
)

// Config is what a Filter is made for.
type Config struct {
	// Own is the interface's MAC, Groups are the cluster MACs.
	Own    net.HardwareAddr
	Groups []net.HardwareAddr
	// Addresses are the VIPs.
	Addresses []netip.Addr
	// Except is the UDP port of datagrams for another socket, 0 for none, as in
	// link.Filter.
	Except uint16
	// Membership: IGMP passes, as in link.Filter.
	Membership bool
	// VLAN is whose segments are dropped, 0 for those without a tag. Others pass.
	VLAN uint16
	// Services are what foreign segments and datagrams are dropped of.
	Services []Service
	// Never are addresses, besides the VIPs, that no client has.
	Never []netip.Addr

	// cookies is what SYNs are answered from in the kernel, nil for not at all.
	cookies *cookiePlan
}

// Service is a TCP or UDP port of a VIP, or a range of them.
type Service struct {
	Listen netip.AddrPort
	// UDP: the ports are UDP's. Of such a service the bucket decides alone, and Hold
	// is not called.
	UDP bool
	// LastPort ends a range that begins with Listen's port, 0 for one port.
	LastPort uint16
	Hashed   Hashed
	// Direct: this host's own stack serves it, see Direct. The filter drops all of its
	// frames that are plain.
	Direct bool
	// Pins are clients whose bucket is fixed, by the first prefix that contains them.
	Pins []Pin
}

// Flow is a TCP flow of a service: the client's end, and the port of the VIP.
type Flow struct {
	Service int
	Client  netip.AddrPort
	Port    uint16
}

// Filter is the programs and what they look at. Hold, Release, Pass and SetKey are
// called by one goroutine, and count from the next frame on.
type Filter struct {
	config      Config
	state       *ebpf.Map // a row of stateBytes for each service
	held, held6 *ebpf.Map // IPv4 and IPv6 flows; nil without such VIPs
	drops       *ebpf.Map // a row of dropsBytes for each processor
	socket      *ebpf.Program
	host        *ebpf.Program
	link        link.Link

	// The maps of states and of drops, shared with the kernel.
	states, counters []byte

	// answering is what SYNs are answered from, if config.cookies is not nil; noAnswers is
	// why the programs cannot.
	answering answering
	noAnswers error
}

// Stats are frames that were dropped since Load.
type Stats struct {
	// Foreign frames were another node's, and did not come to the socket.
	Foreign uint64
	// ForHost counts the copies that the host's own stack was spared, of our frames
	// and of others'.
	ForHost uint64
	// TakenSYNs were taken from the process to be answered in the kernel; AnsweredSYNs
	// were, and LostSYNs were not after all.
	TakenSYNs, AnsweredSYNs, LostSYNs uint64
}

// Load makes the programs and the maps, attached to nothing. Every bucket passes and
// the key is 0. Errors are ErrUnsupported, ErrNotPermitted, or about the arguments.
func Load(c Config) (*Filter, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	f := &Filter{config: c}
	if err := f.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("ingress: %w", named(err, needsFilter)), f.Close())
	}
	return f, nil
}

// named tells what a node may go on without from what is wrong.
func named(err error, needs string) error {
	switch {
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%w; %s (%w)", ErrUnsupported, needs, err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w (%w)", ErrNotPermitted, err)
	}
	return err
}

func (c *Config) check() error {
	if len(c.Services) > MaxServices {
		return fmt.Errorf("%d services; at most %d are possible", len(c.Services), MaxServices)
	}
	if n := len(c.Addresses) + len(c.Groups); len(c.Addresses) == 0 || n > MaxAddresses {
		return fmt.Errorf("%d VIPs and %d cluster MACs; from 1 to %d together are possible", len(c.Addresses), len(c.Groups), MaxAddresses)
	}
	for _, m := range c.ours() {
		if len(m) != 6 {
			return fmt.Errorf("the MAC %v is none of Ethernet", m)
		}
	}
	for _, a := range c.Addresses {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
			return fmt.Errorf("the VIP %v is no address of a packet", a)
		}
	}
	return nil
}

func (f *Filter) load() (err error) {
	services, processors := max(len(f.config.Services), 1), ebpf.MustPossibleCPU()
	if f.state, f.states, err = shared("onevoice_state", services*stateBytes, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return err
	}
	if f.drops, f.counters, err = shared("onevoice_drops", processors*dropsBytes, unix.PROT_READ); err != nil {
		return err
	}
	for k := range f.config.Services {
		for i := range 4 {
			f.store(k, stateBits+8*i, ^uint64(0))
		}
	}
	fds := maps{state: f.state.FD(), drops: f.drops.FD()}
	if f.held, err = heldMap(4); err != nil {
		return err
	}
	fds.held = f.held.FD()
	if f.config.has6() {
		if f.held6, err = heldMap(16); err != nil {
			return err
		}
		fds.held6 = f.held6.FD()
	}
	if f.config.mayAnswer() {
		f.noAnswers = f.loadCookies()
	}
	if f.socket, err = f.loadSocket(fds, processors); err != nil && f.config.cookies != nil {
		// It can drop all the same.
		f.config.cookies, f.noAnswers = nil, err
		f.socket, err = f.loadSocket(fds, processors)
	}
	if err != nil {
		return fmt.Errorf("socket filter: %w", err)
	}
	return nil
}

// loadSocket makes the socket filter. No helper that the programs call is for GPL programs
// alone.
func (f *Filter) loadSocket(fds maps, processors int) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "onevoice_socket", Type: ebpf.SocketFilter, Instructions: socketFilter(&f.config, fds, processors),
	})
}

// shared is an array map of one value that the process and the kernel share.
func shared(name string, bytes, protection int) (*ebpf.Map, []byte, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: name, Type: ebpf.Array, KeySize: 4, ValueSize: uint32(bytes), MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("map %s: %w", name, err)
	}
	memory, err := unix.Mmap(m.FD(), 0, bytes, protection, unix.MAP_SHARED)
	if err != nil {
		return m, nil, fmt.Errorf("map %s: %w", name, os.NewSyscallError("mmap", err))
	}
	return m, memory, nil
}

// heldMap is the held flows of a family. A full map refuses the next flow, and
// never gives up one that is in it, as an LRU map does.
func heldMap(addressBytes uint32) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "onevoice_held", Type: ebpf.Hash, KeySize: addressBytes + keyBytes, ValueSize: 1, MaxEntries: MaxHeld,
		Flags: unix.BPF_F_NO_PREALLOC,
	})
	if err != nil {
		return nil, fmt.Errorf("map of held flows: %w", err)
	}
	return m, nil
}

// AttachSocket puts the filter on a packet socket, in place of the one that it has.
// It stays there after Close, as it was last told, until the socket is closed.
func (f *Filter) AttachSocket(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, f.socket.FD())
	if err != nil {
		return fmt.Errorf("ingress: %w", named(os.NewSyscallError("setsockopt SO_ATTACH_BPF", err), needsFilter))
	}
	return nil
}

// AttachHost keeps the named interface's frames to a cluster MAC that carry packets for a
// VIP without services of the direct path from the host's own stack. Packet sockets of every protocol (ETH_P_ALL) get
// them first, of this process and of others, so that several Filters may be on an
// interface. It is gone with Close, and with the process. Errors are those of Load.
func (f *Filter) AttachHost(name string) error {
	device, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("ingress: interface %s: %w", name, err)
	}
	guarded := f.config.guarded()
	if len(guarded.Addresses) == 0 {
		return nil // the programs of the direct path do it for all
	}
	if err = f.loadHost(&guarded); err != nil && guarded.cookies != nil {
		guarded.cookies, f.config.cookies, f.noAnswers = nil, nil, err
		err = f.loadHost(&guarded)
	}
	if err != nil {
		return fmt.Errorf("ingress: TCX program: %w", named(err, needsFilter))
	}
	// Before those of other workers of ours, which would drop what is to be answered here.
	f.link, err = link.AttachTCX(link.TCXOptions{Interface: device.Index, Program: f.host, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
	if err != nil {
		return fmt.Errorf("ingress: interface %s: %w", name, named(err, needsFilter))
	}
	return nil
}

// DetachHost ends what AttachHost began: another Filter, or the direct path, takes the
// frames.
func (f *Filter) DetachHost() error {
	if f.link == nil {
		return nil
	}
	err := f.link.Close()
	f.link = nil
	return err
}

// guarded is the configuration with the VIPs alone that have no service of the direct
// path. The others' packets are let through by Direct, or dropped by it.
func (c *Config) guarded() Config {
	out := *c
	out.Addresses = slices.DeleteFunc(slices.Clone(c.Addresses), func(a netip.Addr) bool {
		return slices.ContainsFunc(c.Services, func(s Service) bool { return s.Direct && s.Listen.Addr() == a })
	})
	return out
}

func (f *Filter) loadHost(c *Config) (err error) {
	f.host, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "onevoice_host", Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress,
		Instructions: hostGuard(c, maps{drops: f.drops.FD()}, ebpf.MustPossibleCPU()),
	})
	return err
}

// store writes a word of a service's state. Rows are aligned for it.
func (f *Filter) store(service, at int, word uint64) {
	row := f.states[service*stateBytes : (service+1)*stateBytes]
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&row[at])), word)
}

// Pass says which buckets of a service pass: bucket b is bit b%64 of word b/64.
func (f *Filter) Pass(service int, buckets *[4]uint64) {
	for i, word := range buckets {
		f.store(service, stateBits+8*i, word)
	}
}

// SetKey changes the hash key of a service. Every bucket has to pass meanwhile: to
// whom a frame belongs is known again once Pass has said it under the new key.
func (f *Filter) SetKey(service int, key [16]byte) {
	f.store(service, stateKey, binary.LittleEndian.Uint64(key[:]))
	f.store(service, stateKey+8, binary.LittleEndian.Uint64(key[8:]))
}

// Hold passes the segments of a flow from now on, whether its bucket passes or not.
// False when there is no room; then its bucket has to pass.
func (f *Filter) Hold(flow Flow) bool {
	m, key := f.keyOf(&flow)
	return m != nil && m.Put(key, []byte{1}) == nil
}

// Release ends that.
func (f *Filter) Release(flow Flow) {
	if m, key := f.keyOf(&flow); m != nil {
		// One that is not there need not be taken out.
		_ = m.Delete(key)
	}
}

// keyBytes are what a flow's key has behind the client's address.
const keyBytes = 8

// keyOf is a flow as its map has it: the client's address and port, as on the wire,
// the service, the port of the VIP, as on the wire, and two bytes of nothing.
func (f *Filter) keyOf(flow *Flow) (*ebpf.Map, []byte) {
	a := flow.Client.Addr().Unmap()
	m := f.held6
	if a.Is4() {
		m = f.held
	}
	key := make([]byte, 0, 16+keyBytes)
	key = binary.BigEndian.AppendUint16(append(key, a.AsSlice()...), flow.Client.Port())
	key = binary.NativeEndian.AppendUint16(key, uint16(flow.Service))
	return m, append(binary.BigEndian.AppendUint16(key, flow.Port), 0, 0)
}

// Stats reads the counters. It costs no system call.
func (f *Filter) Stats() (s Stats) {
	for at := 0; at+dropsBytes <= len(f.counters); at += dropsBytes {
		for row, to := range [...]*uint64{
			dropForeign: &s.Foreign, dropForHost: &s.ForHost, takenSYN: &s.TakenSYNs, answeredSYN: &s.AnsweredSYNs, lostSYN: &s.LostSYNs,
		} {
			*to += atomic.LoadUint64((*uint64)(unsafe.Pointer(&f.counters[at+8*row])))
		}
	}
	return s
}

// Passes asks the kernel what the socket filter does with an untagged frame. It is
// for tests and questions. The kernel refuses to try frames that are shorter than the
// header that their Ethernet type announces; what it tries it counts.
func (f *Filter) Passes(frame []byte) (bool, error) {
	v, err := f.socket.Run(&ebpf.RunOptions{Data: frame})
	if err != nil {
		return false, fmt.Errorf("ingress: %w", err)
	}
	return v != refuse, nil
}

// Close takes the program from the interface, and lets go of the rest. A second
// Close does nothing; nothing else may be called after the first.
func (f *Filter) Close() error {
	var errs []error
	if f.link != nil {
		errs = append(errs, f.link.Close())
	}
	for _, memory := range [][]byte{f.states, f.counters} {
		if memory != nil {
			errs = append(errs, unix.Munmap(memory))
		}
	}
	// A nil program or map closes without a word.
	errs = append(errs, f.host.Close(), f.socket.Close(), f.held.Close(), f.held6.Close(), f.state.Close(), f.drops.Close(), f.answering.close())
	*f = Filter{}
	return errors.Join(errs...)
}
