// Package poller waits for descriptors to become ready: a thin layer over
// epoll(7) for event loops that own their descriptors, which Go's own poller
// would serve only with a goroutine for each.
//
// The epoll descriptor itself is one of Go's own poller, where the loop waits while
// nothing is ready. A thread that waits within a system call of its own keeps the
// runtime's watcher (sysmon of runtime/proc.go) awake for up to 10 ms each time, which
// looks up to some hundred times whether the call has come back.
//
// What ends a wait is chosen with New, see Timer.
package poller

import (
	"errors"
	"math"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Event is what became ready.
type Event struct {
	// Token is the one given to AddLevel or AddEdge.
	Token uint64
	// Readable, Writable: a call will not block. PeerClosed: the other side
	// has finished sending or the connection is gone. Urgent: bytes of TCP are there
	// that its sender has marked so.
	Readable, Writable, PeerClosed, Urgent bool
}

// MaxEvents bounds the events of one Wait; the rest come with the next.
const MaxEvents = 256

// MaxToken is the largest that an owner may give to its descriptors; those above are the
// poller's own.
const MaxToken = timerToken - 1

const (
	wakeToken  = ^uint64(0)
	timerToken = wakeToken - 1
)

var errToken = errors.New("poller: a token of the poller's own")

// Timer is what ends a wait when its time is over.
type Timer int

const (
	// ByRuntime: a deadline of Go's. It is looked at before anything else that could run
	// (findRunnable of runtime/proc.go), and as long as there is one the watcher sees to it
	// that what computes for long is put off. It is for loops beside which others compute
	// on the same processor.
	ByRuntime Timer = iota
	// ByKernel: timerfd_create(2). Go waits for its own timers in whole milliseconds,
	// rounded down (netpoll of runtime/netpoll_epoll.go), so that each wakes the thread
	// twice and ends up to one too late, and wakes the watcher. It is for loops that have
	// their processor for themselves: goroutines that are ready go before it, and while it
	// alone is waited for nothing puts off what computes.
	ByKernel
)

// Poller waits for descriptors. AddLevel, AddEdge, Wait and Close are for one
// goroutine; Wake is for any.
type Poller struct {
	epoll, wake int
	// timer is the descriptor that ends waits, -1 for a deadline of file.
	timer int
	// file is epoll for Go's own poller, and conn its way there.
	file *os.File
	conn syscall.RawConn
	// look is what conn is asked to do until it is done: look without waiting. The time
	// that it is given, negative for all, ends at until, which is 0 before the first look.
	look           func(fd uintptr) bool
	timeout, until time.Duration
	// ready and failed are what it saw.
	ready  int
	failed error
	// rings is when the timer does, by the clock since began, as until is. It may be before
	// until, for most waits end early and the next one's time is later: then it is set again
	// when it has rung.
	began time.Time
	rings time.Duration
	// sleeping is set while Wait may block, so that Wake costs a system call
	// only then.
	sleeping atomic.Bool
	raw      [MaxEvents]unix.EpollEvent
	events   [MaxEvents]Event
}

// New opens a poller.
func New(by Timer) (*Poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(epoll)
		return nil, os.NewSyscallError("eventfd", err)
	}
	p := &Poller{epoll: epoll, wake: wake, timer: -1, began: time.Now()}
	p.look = p.looked
	if err = p.open(); err == nil {
		err = p.add(wake, unix.EPOLLIN, wakeToken)
	}
	if err == nil && by == ByKernel {
		err = p.openTimer()
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Poller) openTimer() error {
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("timerfd_create", err)
	}
	p.timer = timer
	// At each edge, it need not be read.
	return p.add(timer, unix.EPOLLIN|unix.EPOLLET, timerToken)
}

// open gives the epoll descriptor to Go's own poller, which takes only what does not
// block.
func (p *Poller) open() (err error) {
	if err := unix.SetNonblock(p.epoll, true); err != nil {
		return os.NewSyscallError("fcntl epoll", err)
	}
	p.file = os.NewFile(uintptr(p.epoll), "epoll")
	// Of a file that is not polled, a deadline is an error.
	if err := p.file.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	p.conn, err = p.file.SyscallConn()
	return err
}

// Close closes the poller, not what was added to it.
func (p *Poller) Close() error {
	unix.Close(p.wake)
	if p.timer >= 0 {
		unix.Close(p.timer)
	}
	if p.file == nil {
		return os.NewSyscallError("close", unix.Close(p.epoll))
	}
	return p.file.Close()
}

// AddLevel reports fd readable for as long as it is.
func (p *Poller) AddLevel(fd int, token uint64) error {
	return p.addOwners(fd, unix.EPOLLIN, token)
}

// AddEdge reports each change of fd towards readable, writable or closed once:
// the owner must go on until the call would block.
func (p *Poller) AddEdge(fd int, token uint64) error {
	return p.addOwners(fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLPRI|unix.EPOLLET, token)
}

// addOwners adds what is not the poller's own.
func (p *Poller) addOwners(fd int, events uint32, token uint64) error {
	if token > MaxToken {
		return errToken
	}
	return p.add(fd, events, token)
}

func (p *Poller) add(fd int, events uint32, token uint64) error {
	ev := unix.EpollEvent{Events: events, Fd: int32(uint32(token)), Pad: int32(uint32(token >> 32))}
	// Raw, for it does not block.
	if _, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.epoll), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0); errno != 0 {
		return os.NewSyscallError("epoll_ctl", errno)
	}
	return nil
}

// Wake makes a Wait that is under way, or the next one that finds no event,
// return. It is for other goroutines that have put work before the loop.
func (p *Poller) Wake() {
	if p.sleeping.CompareAndSwap(true, false) {
		var one [8]byte
		one[0] = 1
		// The counter cannot overflow: one write per sleep. Raw, for it does not block.
		_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(p.wake), uintptr(unsafe.Pointer(&one[0])), uintptr(len(one)))
	}
}

// Sleep announces that Wait may block next. The owner calls it, looks at its
// queues once more, and then calls Wait: work that is queued after that look
// will find the announcement and wake it.
func (p *Poller) Sleep() { p.sleeping.Store(true) }

// Wait waits up to timeout (negative: without end) and returns what became
// ready. The slice is valid until the next call.
func (p *Poller) Wait(timeout time.Duration) ([]Event, error) {
	n, err := p.wait(timeout)
	p.sleeping.Store(false)
	if err != nil {
		return nil, os.NewSyscallError("epoll_wait", err)
	}
	k := 0
	for i := range n {
		r := &p.raw[i]
		token := token(r)
		if token == wakeToken {
			var b [8]byte
			_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(p.wake), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
			continue
		}
		const gone = unix.EPOLLERR | unix.EPOLLHUP
		p.events[k] = Event{
			Token:      token,
			Readable:   r.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|gone) != 0,
			Writable:   r.Events&(unix.EPOLLOUT|gone) != 0,
			PeerClosed: r.Events&(unix.EPOLLRDHUP|gone) != 0,
			Urgent:     r.Events&unix.EPOLLPRI != 0,
		}
		k++
	}
	return p.events[:k], nil
}

// wait is how many of raw became ready within timeout.
func (p *Poller) wait(timeout time.Duration) (int, error) {
	if timeout == 0 {
		return p.atOnce()
	}
	p.timeout, p.until = timeout, 0
	if p.timer < 0 {
		// A deadline costs more than this look.
		if n, err := p.atOnce(); n > 0 || err != nil {
			return n, err
		}
		// The deadline ends it, and looked need not ask what time it is.
		p.timeout = -1
		if err := p.file.SetReadDeadline(deadline(timeout)); err != nil {
			return 0, err
		}
	}
	if err := p.conn.Read(p.look); errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	return p.ready, p.failed
}

// deadline is when a wait ends, the zero time for never.
func deadline(timeout time.Duration) time.Time {
	if timeout < 0 {
		return time.Time{}
	}
	return time.Now().Add(timeout)
}

// looked reports whether the wait is over. If not, the timer is set.
func (p *Poller) looked(uintptr) bool {
	if p.ready, p.failed = p.atOnce(); p.ready > 0 || p.failed != nil {
		return true
	}
	if p.timeout < 0 {
		return false
	}
	now := time.Since(p.began)
	if p.until == 0 {
		if p.until = now + p.timeout; p.until < now {
			p.until = math.MaxInt64
		}
	}
	if now < p.until {
		p.failed = p.ringBy(now, p.until)
	}
	return now >= p.until || p.failed != nil
}

// ringBy has the timer ring at a time at the latest.
func (p *Poller) ringBy(now, at time.Duration) error {
	if p.rings > now && p.rings <= at {
		return nil
	}
	set := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(at - now))}
	// Raw, for it does not block.
	if _, _, errno := unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, uintptr(p.timer), 0, uintptr(unsafe.Pointer(&set)), 0, 0, 0); errno != 0 {
		return os.NewSyscallError("timerfd_settime", errno)
	}
	p.rings = at
	return nil
}

// atOnce is how many of raw are ready without waiting.
func (p *Poller) atOnce() (int, error) {
	// Raw, for it does not block.
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.epoll), uintptr(unsafe.Pointer(&p.raw[0])), MaxEvents, 0, 0, 0)
	if errno != 0 && errno != unix.EINTR {
		return 0, errno
	}
	if errno != 0 {
		return 0, nil
	}
	return p.withoutTimer(int(n)), nil
}

// withoutTimer takes the timer's event out of n events of raw.
func (p *Poller) withoutTimer(n int) int {
	for i := range n {
		if token(&p.raw[i]) == timerToken {
			p.raw[i] = p.raw[n-1]
			p.rings = 0
			return n - 1
		}
	}
	return n
}

func token(r *unix.EpollEvent) uint64 { return uint64(uint32(r.Fd)) | uint64(uint32(r.Pad))<<32 }

// Rest stands still for d, and no event and no Wake ends that: what becomes ready
// meanwhile is told by the next Wait.
func Rest(d time.Duration) {
	left := unix.NsecToTimespec(int64(d))
	// Raw: the thread is the process's only one that works, and is to be still.
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&left)), 0, 0)
}
