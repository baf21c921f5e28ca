package main

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/config"
	"onevoice/datagram"
	"onevoice/stack"
)

const (
	// spareDescriptors are for all but flows.
	spareDescriptors = 1024
	// leastFlows of each kind there may be, however few descriptors there are: then it
	// is the system that refuses, which is counted.
	leastFlows = 1024
)

// workerBounds are how many flows a worker may have, and how much memory in bytes.
type workerBounds struct {
	flows, datagrams int
	memory           uint64
}

// openBounds finds out what this process may take of its host.
func (s *serving) openBounds() {
	udp := false
	for i := range s.settings.Config.Services {
		udp = udp || s.settings.Config.Services[i].UDP
	}
	need := spareDescriptors + stack.MaxFlows
	if udp {
		need += datagram.MaxFlows
	}
	most, err := raiseDescriptors(need)
	if err != nil {
		s.log.Warn("the limit on open files could not be read; each flow needs one", "error", err)
		most = need
	}
	s.bounds.flows, s.bounds.datagrams = flowsOf(most, udp)
	if s.bounds.flows < stack.MaxFlows {
		s.log.Warn("the limit on open files bounds the flows; raise it (LimitNOFILE in systemd) for more", "flows", s.bounds.flows, "of", stack.MaxFlows)
	}
	if udp && s.bounds.datagrams < datagram.MaxFlows {
		s.log.Warn("the limit on open files bounds the UDP flows; raise it (LimitNOFILE in systemd) for more", "flows", s.bounds.datagrams, "of", datagram.MaxFlows)
	}
	s.bounds.memory = memoryOf(s.settings.Config.Node.MemoryMiB, hostMemory())
}

// flowsOf is how many flows of TCP and of UDP there may be with so many descriptors:
// where there are not enough for all, half of those that are for flows are for each.
func flowsOf(descriptors int, udp bool) (flows, datagrams int) {
	left := descriptors - spareDescriptors
	switch {
	case !udp:
		return min(max(left, leastFlows), stack.MaxFlows), 0
	case left >= stack.MaxFlows+datagram.MaxFlows:
		return stack.MaxFlows, datagram.MaxFlows
	}
	datagrams = min(max(left/2, leastFlows), datagram.MaxFlows)
	return min(max(left-datagrams, leastFlows), stack.MaxFlows), datagrams
}

// memoryOf is the bound in bytes that the file sets, or half of what the host has.
func memoryOf(mebibytes int, host uint64) uint64 {
	if mebibytes > 0 {
		return uint64(mebibytes) << 20
	}
	return min(max(host/2, config.MinMemoryMiB<<20), math.MaxInt64)
}

// hostMemory is how much memory there is for this process: the host's, or less where
// its control group says so (memory.max of cgroup v2). In bytes, 0 when not known.
func hostMemory() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	most := info.Totalram * uint64(info.Unit)
	group, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return most
	}
	for line := range strings.Lines(string(group)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for ; ok && path != "/" && path != "."; path = filepath.Dir(path) {
			text, _ := os.ReadFile(filepath.Join("/sys/fs/cgroup", path, "memory.max"))
			if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil {
				most = min(most, n)
			}
		}
	}
	return most
}

// memoryInterval is how often a worker looks at its memory.
const memoryInterval = 100 * time.Millisecond

// memoryWatch looks at a worker's memory, in each turn of its loop.
type memoryWatch struct {
	next, collectBy time.Duration
	limit, soft     uint64
	// collect has garbage collected, beside the loop.
	collect func()
	sample  [1]metrics.Sample
}

// newMemoryWatch is for a worker that may have so many bytes.
func newMemoryWatch(limit uint64, collect func()) *memoryWatch {
	w := &memoryWatch{limit: limit, collect: collect}
	w.sample[0].Name = "/gc/heap/live:bytes"
	return w
}

// turn reports how memory is, was being what it was.
func (w *memoryWatch) turn(now time.Duration, was stack.Memory) stack.Memory {
	if now < w.next {
		return was
	}
	w.next = now + memoryInterval
	metrics.Read(w.sample[:])
	live := w.sample[0].Value.Uint64()
	// A change stops the program for a moment.
	if soft := softLimit(live, w.limit); soft < w.soft-w.soft/16 || soft > w.soft+w.soft/16 {
		w.soft = soft
		debug.SetMemoryLimit(int64(soft))
	}
	m := memoryAt(was, live, w.limit)
	if m != stack.Ample && now >= w.collectBy {
		// A worker that takes nothing new makes little garbage, and would not learn that
		// others have gone.
		w.collectBy = now + collectInterval
		w.collect()
	}
	return m
}

// softLimit is Go's limit, near which garbage is collected more often: what is in use is
// known from the last collection alone, so that the next has to come before there is
// an eighth of the limit more.
func softLimit(live, limit uint64) uint64 {
	// The runtime has some for itself.
	const runtimeBytes = 16 << 20
	return max(limit/2, live+limit/8+runtimeBytes)
}

// collectInterval is how often garbage is collected while memory is not ample.
const collectInterval = 2 * time.Second

// memoryAt is what a stack is to do with so many bytes in use of so many. Once it is
// full or tight it stays so until an eighth of all is free again, so that it does not
// go back and forth.
func memoryAt(was stack.Memory, live, limit uint64) stack.Memory {
	slack := func(m stack.Memory) uint64 {
		if was >= m {
			return limit / 8
		}
		return 0
	}
	switch {
	case live+slack(stack.Full) >= limit/4*3:
		return stack.Full
	case live+slack(stack.Tight) >= limit/2:
		return stack.Tight
	}
	return stack.Ample
}

// raiseDescriptors raises the limit on open files to need, or as far as it may, and
// returns what it is then.
func raiseDescriptors(need int) (int, error) {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return 0, err
	}
	if now.Cur >= uint64(need) {
		return need, nil
	}
	// With CAP_SYS_RESOURCE also above the hard limit; without it up to that.
	for _, most := range []uint64{max(now.Max, uint64(need)), now.Max} {
		wanted := unix.Rlimit{Cur: min(uint64(need), most), Max: most}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &wanted) == nil {
			return int(wanted.Cur), nil
		}
	}
	return int(min(now.Cur, uint64(need))), nil
}

// tellMemory logs what a worker does about its memory.
func (s *serving) tellMemory(m stack.Memory) {
	switch limit := s.bounds.memory >> 20; m {
	case stack.Full:
		s.log.Error("memory is used up: no new connection is taken until some end; running ones go on; see [node] memory_mib", "limit_mib", limit)
	case stack.Tight:
		s.log.Warn("memory is getting tight: connections have small buffers", "limit_mib", limit)
	case stack.Ample:
		s.log.Info("memory is ample again", "limit_mib", limit)
	}
}
