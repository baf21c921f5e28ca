package ingress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Cookies are what the SYN cookies of a listener are made from, netstack's: package stack
// has where each comes from. While a flood lasts the kernel answers with them, in the
// sender's softirq: the socket filter takes a SYN out for the TCX program behind it, and
// that makes the SYN-ACK of it, in place, and sends it back. The frame that the one has
// taken out is the next that the other sees on the same processor, so that whatever comes
// in between is answered by one of kernel and process, and never by both.
//
// What the filter is not sure of, the process sees: extension headers and IPv6, tags,
// options of TCP that are not as they should be, data, and what does not come to a
// cluster MAC.
type Cookies struct {
	// Port is the listener's.
	Port uint16
	// Nonces are its two, of 64 bytes each. StampKey is what time stamps begin from.
	Nonces   [2 * 64]byte
	StampKey [16]byte
	// Plain and Stamped are IPv4 packets with a cookie of it, without and with time
	// stamps: of those that follow, they differ from them in the client's address, port
	// and number, in the cookie and in the stamps. Nil where there is none yet; SYNs that
	// need it pass.
	Plain, Stamped []byte
}

// A map of cookies: the time, and a row for each service.
const (
	// cookieTime has netstack's clock: milliseconds, and 64 seconds in the upper half.
	cookieTime = 0
	cookieRows = 64

	rowBits   = 0
	rowLease  = 32
	rowPort   = 40 // as on the wire
	rowKinds  = 42 // a byte each: whether there is a plain answer, and a stamped one
	rowNonces = 48 // in words
	rowStamps = rowNonces + 2*64
	// rowSums are sums over what does not change of an answer: of its IP header, of its
	// segment with the pseudo-header, and of that alone; plain, and stamped.
	rowSums     = rowStamps + 16
	sumsBytes   = 12
	rowPlain    = rowSums + 2*sumsBytes
	rowStamped  = rowPlain + plainBytes + 4
	cookieBytes = rowStamped + stampedBytes
)

// An answer: IP and TCP headers, the largest segment size, and two fillers and time stamps.
const (
	plainBytes   = ipv4Bytes + tcpBytes + 4
	stampedBytes = plainBytes + 12
	stampAt      = tcpBytes + 8
)

// tupleBits is how many bits of a tuple's hash count it among those that are held.
const tupleBits = 17

// asksOneIn is how many of the tuples are not answered by the kernel even so: their SYNs
// show whether the listener has room again.
const asksOneIn = 256

// maxAddressesNever bounds Config.Never.
const maxAddressesNever = 64

// cookiePlan is what of a configuration the kernel answers, and what the programs need
// for it. It is nil where they do not.
type cookiePlan struct {
	rows, slots, tuples int // descriptors
	services            int
	keys                [3]uint64
}

// answering is a Filter's part that has SYNs answered in the kernel.
type answering struct {
	rows, slots, tuples *ebpf.Map
	// memory is rows and counted is tuples, shared with the kernel.
	memory, counted []byte
	keys            [3]uint64
	settler         *settler
}

// loadCookies makes the maps.
func (f *Filter) loadCookies() (err error) {
	a := &f.answering
	if isRealtime() {
		// Since 3253cb49cbad (6.18) a section without bottom halves may interrupt another on the
		// same processor there (PREEMPT_RT_NEEDS_BH_LOCK), and both have its slot.
		return fmt.Errorf("%w: a kernel with PREEMPT_RT does not keep the two programs together", ErrUnsupported)
	}
	if !mayPerfmon() {
		return fmt.Errorf("%w, and CAP_PERFMON to answer floods of SYNs", ErrNotPermitted)
	}
	if len(f.config.Never) > maxAddressesNever {
		return fmt.Errorf("%d addresses that no client has; at most %d are possible", len(f.config.Never), maxAddressesNever)
	}
	a.keys = [3]uint64{rand.Uint64(), rand.Uint64() | 1, rand.Uint64() | 1}
	const both = unix.PROT_READ | unix.PROT_WRITE
	if a.rows, a.memory, err = shared("onevoice_cookies", cookieRows+max(len(f.config.Services), 1)*cookieBytes, both); err != nil {
		return err
	}
	if a.tuples, a.counted, err = shared("onevoice_tuples", 1<<tupleBits, both); err != nil {
		return err
	}
	a.slots, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "onevoice_slots", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(ebpf.MustPossibleCPU() * slotBytes), MaxEntries: 1,
	})
	if err != nil {
		return fmt.Errorf("map of slots: %w", err)
	}
	if a.settler, err = newSettler(); err != nil {
		return err
	}
	f.config.cookies = &cookiePlan{rows: a.rows.FD(), slots: a.slots.FD(), tuples: a.tuples.FD(), services: len(f.config.Services), keys: a.keys}
	return nil
}

// mayPerfmon reports CAP_PERFMON, or what it was a part of before Linux 5.8. Without it the
// verifier follows each branch the wrong way too, for what a processor may do ahead of time,
// which takes it seconds, and then gives up.
func mayPerfmon() bool {
	var sets [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &sets[0]); err != nil {
		return false
	}
	all := uint64(sets[1].Effective)<<32 | uint64(sets[0].Effective)
	return all&(1<<unix.CAP_PERFMON|1<<unix.CAP_SYS_ADMIN) != 0
}

// mayAnswer reports whether there is a service whose SYNs the kernel might answer.
func (c *Config) mayAnswer() bool {
	return c.VLAN == 0 && slices.ContainsFunc(c.Services, c.mayAnswerOf)
}

func (c *Config) mayAnswerOf(s Service) bool {
	guarded := c.guarded()
	return !s.UDP && s.Listen.Addr().Is4() && slices.Contains(guarded.Addresses, s.Listen.Addr())
}

func (a *answering) close() error {
	var errs []error
	for _, memory := range [][]byte{a.memory, a.counted} {
		if memory != nil {
			errs = append(errs, unix.Munmap(memory))
		}
	}
	if a.settler != nil {
		errs = append(errs, a.settler.close())
	}
	errs = append(errs, a.rows.Close(), a.slots.Close(), a.tuples.Close())
	*a = answering{}
	return errors.Join(errs...)
}

// Answers reports whether SYNs of a service can be answered in the kernel.
func (f *Filter) Answers(service int) bool {
	return f.link != nil && f.config.cookies != nil && f.config.mayAnswerOf(f.config.Services[service])
}

// NoAnswers is why no SYNs can be answered in the kernel, nil where they can, or where
// there is no service for it.
func (f *Filter) NoAnswers() error { return f.noAnswers }

// SetCookies says what SYNs of a service are answered with. None may be answered
// meanwhile: AnswerSYNs has said so, and Settle has returned.
func (f *Filter) SetCookies(service int, c *Cookies) {
	row := f.cookieRow(service)
	clear(row[rowPort:])
	binary.BigEndian.PutUint16(row[rowPort:], c.Port)
	for i := range len(c.Nonces) / 4 {
		binary.NativeEndian.PutUint32(row[rowNonces+4*i:], binary.BigEndian.Uint32(c.Nonces[4*i:]))
	}
	for i := range len(c.StampKey) / 4 {
		binary.NativeEndian.PutUint32(row[rowStamps+4*i:], binary.BigEndian.Uint32(c.StampKey[4*i:]))
	}
	for i, form := range [][]byte{c.Plain, c.Stamped} {
		want, at := plainBytes, rowPlain
		if i == 1 {
			want, at = stampedBytes, rowStamped
		}
		if len(form) != want {
			continue
		}
		row[rowKinds+i] = 1
		copy(row[at:], form)
		blank(row[at:at+want], i == 1)
		for k, sum := range formSums(row[at : at+want]) {
			binary.NativeEndian.PutUint32(row[rowSums+i*sumsBytes+4*k:], sum)
		}
	}
}

// blank takes out of an answer what differs between clients.
func blank(packet []byte, stamped bool) {
	clear(packet[10:12])
	clear(packet[16:20])
	tcp := packet[ipv4Bytes:]
	clear(tcp[2:12])
	clear(tcp[16:18])
	if stamped {
		clear(tcp[stampAt : stampAt+8])
	}
}

// formSums are sums over a blank answer, in the machine's own order (RFC 1071 section 2).
func formSums(packet []byte) [3]uint32 {
	sum := func(s uint32, b []byte) uint32 {
		for ; len(b) > 0; b = b[2:] {
			s += uint32(binary.NativeEndian.Uint16(b))
		}
		return s
	}
	length := binary.BigEndian.AppendUint16([]byte{0, protoTCP}, uint16(len(packet)-ipv4Bytes))
	pseudo := sum(sum(0, packet[12:16]), length)
	return [3]uint32{sum(0, packet[:ipv4Bytes]), sum(pseudo, packet[ipv4Bytes:]), pseudo}
}

func (f *Filter) cookieRow(service int) []byte {
	at := cookieRows + service*cookieBytes
	return f.answering.memory[at : at+cookieBytes]
}

func storeAt(memory []byte, at int, word uint64) {
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&memory[at])), word)
}

// AnswerSYNs says in which buckets SYNs to a service are answered in the kernel, under the
// lease that SetAnswerLease has told, from the next frame on. With none, a SYN may still be
// answered until Settle has returned.
func (f *Filter) AnswerSYNs(service int, buckets *[4]uint64) {
	for i, word := range buckets {
		storeAt(f.cookieRow(service), rowBits+8*i, word)
	}
}

// SetAnswerLease sets until when SYNs to a service are answered, in CLOCK_BOOTTIME.
func (f *Filter) SetAnswerLease(service int, end time.Duration) {
	storeAt(f.cookieRow(service), rowLease, uint64(max(end, 0)))
}

// SetAnswerTime tells how long netstack's clock has gone. It is told anew in each turn: an
// answer must not be from a time that netstack has not seen yet.
func (f *Filter) SetAnswerTime(since time.Duration) {
	const slot = 64
	storeAt(f.answering.memory, cookieTime, uint64(since/time.Second/slot&0xff)<<32|uint64(uint32(since/time.Millisecond)))
}

// CountTuple notes that a tuple is held: SYNs of it, and of some others, pass until
// UncountTuple. A place that so many have come to that it cannot count them stays.
func (f *Filter) CountTuple(flow Flow) {
	if place, at := f.tuplePlace(&flow); at < mostCounted {
		f.setTuple(place, at+1)
	}
}

// UncountTuple ends that, once.
func (f *Filter) UncountTuple(flow Flow) {
	if place, at := f.tuplePlace(&flow); at > 0 && at < mostCounted {
		f.setTuple(place, at-1)
	}
}

// UncountTuples forgets all. No SYN may be answered meanwhile.
func (f *Filter) UncountTuples() { clear(f.answering.counted) }

// mostCounted is how many tuples a place can count.
const mostCounted = 255

// tuplePlace is where a tuple is counted, and how many are there.
func (f *Filter) tuplePlace(flow *Flow) (int, byte) {
	place, _ := f.answering.hash(flow)
	return place, f.answering.counted[place]
}

// hash is a tuple's place, and whether its SYNs pass to ask the listener.
func (a *answering) hash(flow *Flow) (place int, asks bool) {
	from := flow.Client.Addr().Unmap().As4()
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, flow.Client.Port()), flow.Port)
	x := uint64(binary.NativeEndian.Uint32(from[:]))<<32 | uint64(binary.NativeEndian.Uint32(ports))
	x = (x ^ a.keys[0]) * a.keys[1]
	x = (x ^ x>>32) * a.keys[2]
	return int(x >> (64 - tupleBits)), x>>(64-tupleBits-8)%asksOneIn == 0
}

// setTuple writes a place, with its neighbours in the same word: there is one writer.
func (f *Filter) setTuple(place int, count byte) {
	word := (*[4]byte)(f.answering.counted[place&^3:])
	next := *word
	next[place&3] = count
	atomic.StoreUint32((*uint32)(unsafe.Pointer(word)), binary.NativeEndian.Uint32(next[:]))
}

// Asks reports whether the SYNs of a flow pass so that the listener can be asked.
func (f *Filter) Asks(flow Flow) bool {
	_, asks := f.answering.hash(&flow)
	return asks
}

// SettleAnswers waits until what AnswerSYNs has said last is in force for every frame.
func (f *Filter) SettleAnswers() error { return f.answering.settler.settle() }

// Answer asks the kernel what the programs make of an untagged frame that comes in: an
// answer, or nil when it goes its way. It is for tests and questions, and asks both
// programs on one processor; see Passes.
func (f *Filter) Answer(frame []byte) ([]byte, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil, os.NewSyscallError("sched_getaffinity", err)
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	if err := runOn(&one); err != nil {
		return nil, os.NewSyscallError("sched_setaffinity", err)
	}
	out, err := f.answer(frame)
	return out, errors.Join(err, runOn(&all))
}

func (f *Filter) answer(frame []byte) ([]byte, error) {
	pass, err := f.Passes(frame)
	if pass || err != nil {
		return nil, err
	}
	out := make([]byte, len(frame)+64)
	o := &ebpf.RunOptions{Data: frame, DataOut: out}
	v, err := f.host.Run(o)
	if err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	if v != tcxRedirect {
		return nil, nil
	}
	return o.DataOut, nil
}

// answers4 reports whether the TCX program is to answer SYNs.
func (c *Config) answers4() bool { return c.cookies != nil && c.has4() }
