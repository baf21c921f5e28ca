package lab

import (
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bystander is a thread that does nothing but wake every few milliseconds. When
// it wakes late, the whole machine stood still for threads of its priority, and
// no node is to blame. One has the priority of a daemon's heartbeat, which is
// for leases, and one that of all others, which is for waits.
type bystander struct {
	raised bool
	stop   chan struct{}
	done   chan struct{}

	mu     sync.Mutex
	stalls []MachineStall
	wakes  uint64
}

const (
	bystanderEvery = 10 * time.Millisecond
	// bystanderLate is what is noted: a tenth of the shortest lease is no harm.
	bystanderLate = 25 * time.Millisecond
	// MaxMachineStalls are kept; later ones are not noted.
	MaxMachineStalls = 100_000
)

// MachineStall is a time in which a bystander did not run.
type MachineStall struct {
	At  time.Time     `json:"at"`
	For time.Duration `json:"for_ns"`
}

func newBystander(raised bool) *bystander {
	b := &bystander{raised: raised, stop: make(chan struct{}), done: make(chan struct{})}
	go b.run()
	return b
}

// run is the goroutine `lab.bystander.run`; it ends with close. Its thread is
// thrown away, for its priority is not the others'.
func (b *bystander) run() {
	defer close(b.done)
	runtime.LockOSThread()
	if b.raised {
		raisePriority()
	}
	for last := time.Now(); ; {
		select {
		case <-b.stop:
			return
		default:
		}
		now := nap()
		b.woke(last, now)
		last = now
	}
}

// nap sleeps on the thread, and tells when it woke. A signal may end it early.
func nap() time.Time {
	step := unix.NsecToTimespec(int64(bystanderEvery))
	_ = unix.Nanosleep(&step, nil)
	return time.Now()
}

// stallBetween is the stall between two wakes, if there was one.
func stallBetween(last, now time.Time) (MachineStall, bool) {
	late := now.Sub(last) - bystanderEvery
	return MachineStall{last, late}, late > bystanderLate
}

// raisePriority gives the thread what package control gives its loop. Without
// the right to it, that one has none either.
func raisePriority() {
	const priority = -20
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), priority)
}

// woke notes when the time between two wakes was too long.
func (b *bystander) woke(last, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wakes++
	if s, ok := stallBetween(last, now); ok && len(b.stalls) < MaxMachineStalls {
		b.stalls = append(b.stalls, s)
	}
}

// touching calls f for the stalls that touch a time, which are in their order.
func (b *bystander) touching(from, to time.Time, f func(s MachineStall, end time.Time)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range slices.Backward(b.stalls) {
		end := s.At.Add(bystanderEvery + s.For)
		if !end.After(from) {
			return
		}
		if s.At.Before(to) {
			f(s, end)
		}
	}
}

// worst is the longest stall of the machine that touches a time.
func (b *bystander) worst(from, to time.Time) (longest time.Duration) {
	b.touching(from, to, func(s MachineStall, _ time.Time) { longest = max(longest, s.For) })
	return longest
}

// still is for how much of a time the machine stood still, as far as was noted.
func (b *bystander) still(from, to time.Time) (sum time.Duration) {
	b.touching(from, to, func(s MachineStall, end time.Time) {
		begin := s.At
		if begin.Before(from) {
			begin = from
		}
		if end.After(to) {
			end = to
		}
		sum += end.Sub(begin)
	})
	return sum
}

// all are the stalls that were noted.
func (b *bystander) all() []MachineStall {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]MachineStall(nil), b.stalls...)
}

func (b *bystander) close() {
	close(b.stop)
	<-b.done
}
