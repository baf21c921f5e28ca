package ingress

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// visitTime bounds how long the processors are visited one by one. On a machine with
// many busy ones the kernel is asked instead.
const visitTime = 10 * time.Millisecond

// Settle waits until no frame is judged by the rows before the last Publish any more: for
// every program that ran when it was called.
func (d *Direct) Settle() error { return d.settler.settle() }

// settler waits until no program that ran when it was called runs any more.
//
// A program of TCX runs with bottom halves disabled (__netif_receive_skb_core and
// __dev_queue_xmit in net/core/dev.c), and what the kernel does at once with a frame that
// passed is done before they are enabled again. No thread gets a processor meanwhile, so
// a thread that has been on each of them since Publish has found none under way. That
// takes a fifth of a millisecond on two busy processors. A kernel with PREEMPT_RT takes the
// processor from whoever has disabled bottom halves; there, and where a processor may not
// be used, a change to a map of maps waits for all programs in the kernel
// (kernel/bpf/syscall.c, maybe_wait_bpf_programs), 13 to 15 milliseconds.
type settler struct {
	inner, outer *ebpf.Map
	online       *os.File
}

func newSettler() (*settler, error) {
	s, err := &settler{}, error(nil)
	spec := &ebpf.MapSpec{Name: "onevoice_wait", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	if s.inner, err = ebpf.NewMap(spec); err != nil {
		return nil, fmt.Errorf("map to wait with: %w", err)
	}
	s.outer, err = ebpf.NewMap(&ebpf.MapSpec{Name: "onevoice_waits", Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: spec})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map to wait with: %w", err), s.close())
	}
	s.online = openOnline()
	return s, nil
}

func (s *settler) settle() error {
	if s.online != nil && visited(s.online) {
		return nil
	}
	if err := s.outer.Put(uint32(0), s.inner); err != nil {
		return fmt.Errorf("ingress: wait for programs: %w", err)
	}
	return nil
}

func (s *settler) close() error {
	var err error
	if s.online != nil {
		err = s.online.Close()
	}
	return errors.Join(err, s.outer.Close(), s.inner.Close())
}

// onlineProcessors is the kernel's list of processors that run. It is opened once, for
// later the process may not; each read of it is anew.
const onlineProcessors = "/sys/devices/system/cpu/online"

// openOnline is that list, nil where it is of no use.
func openOnline() *os.File {
	if isRealtime() {
		return nil
	}
	f, err := os.Open(onlineProcessors)
	if err != nil {
		return nil
	}
	return f
}

// isRealtime reports that this kernel is one, or may be.
func isRealtime() bool {
	var name unix.Utsname
	err := unix.Uname(&name)
	return err != nil || realtime(unix.ByteSliceToString(name.Version[:]))
}

// realtime reports a kernel, by its version, that may take the processor from whoever has
// disabled bottom halves.
func realtime(version string) bool {
	return strings.Contains(version, "PREEMPT_RT") || strings.Contains(version, "PREEMPT RT")
}

// visited has this thread run on each processor in turn. It reports false when that did
// not work, or was not done in visitTime.
func visited(online io.ReaderAt) bool {
	list := make([]byte, 4096)
	n, err := online.ReadAt(list, 0)
	if n == 0 || n == len(list) || err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	all, ok := processorsOf(strings.TrimSpace(string(list[:n])))
	if !ok {
		return false
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if unix.SchedGetaffinity(0, &before) != nil {
		return false
	}
	ok = visit(all, time.Now().Add(visitTime))
	return runOn(&before) == nil && ok
}

func visit(all []int, until time.Time) bool {
	for _, cpu := range all {
		var one unix.CPUSet
		one.Set(cpu)
		// The kernel returns when the thread is there.
		if !one.IsSet(cpu) || time.Now().After(until) || runOn(&one) != nil {
			return false
		}
	}
	return true
}

// runOn has this thread run on those processors. The call of package unix would keep
// Go's other threads from running meanwhile.
func runOn(set *unix.CPUSet) error {
	if _, _, errno := unix.Syscall(unix.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(*set), uintptr(unsafe.Pointer(set))); errno != 0 {
		return errno
	}
	return nil
}

// processorsOf reads a list as 0-3,5 (Documentation/admin-guide/cputopology.rst in the
// kernel).
func processorsOf(list string) (out []int, ok bool) {
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, err := strconv.Atoi(from)
		last := first
		if err == nil && isRange {
			last, err = strconv.Atoi(to)
		}
		if err != nil || last < first || last-first >= maxProcessors {
			return nil, false
		}
		for cpu := first; cpu <= last; cpu++ {
			out = append(out, cpu)
		}
	}
	return out, true
}

// maxProcessors is more than the kernel is built for (NR_CPUS).
const maxProcessors = 1 << 14
