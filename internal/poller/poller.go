// Package poller waits for descriptors to become ready: a thin layer over
// epoll(7) for event loops that own their descriptors, which Go's own poller
// would serve only with a goroutine for each.
//
// The epoll descriptor itself is one of Go's own poller, where the loop waits while
// nothing is ready. A thread that waits within a system call of its own keeps the
// runtime's watcher (sysmon of runtime/proc.go) awake for up to 10 ms each time, which
// looks up to some hundred times whether the call has come back.
package poller

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Event is what became ready.
type Event struct {
	// Token is the one given to Add.
	Token uint64
	// Readable, Writable: a call will not block. PeerClosed: the other side
	// has finished sending or the connection is gone. Urgent: bytes of TCP are there
	// that its sender has marked so.
	Readable, Writable, PeerClosed, Urgent bool
}

// MaxEvents bounds the events of one Wait; the rest come with the next.
const MaxEvents = 256

// wakeToken is the poller's own, never given to Add.
const wakeToken = ^uint64(0)

// Poller waits for descriptors. Add, Remove, Wait and Close are for one
// goroutine; Wake is for any.
type Poller struct {
	epoll, wake int
	// file is epoll for Go's own poller, and conn its way there.
	file *os.File
	conn syscall.RawConn
	// look is what conn is asked to do until it is done: look without waiting.
	look func(fd uintptr) bool
	// ready and failed are what it saw.
	ready  int
	failed error
	// sleeping is set while Wait may block, so that Wake costs a system call
	// only then.
	sleeping atomic.Bool
	raw      [MaxEvents]unix.EpollEvent
	events   [MaxEvents]Event
}

// New opens a poller.
func New() (*Poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(epoll)
		return nil, os.NewSyscallError("eventfd", err)
	}
	p := &Poller{epoll: epoll, wake: wake}
	p.look = func(uintptr) bool {
		p.ready, p.failed = p.atOnce()
		return p.ready > 0 || p.failed != nil
	}
	if err := p.open(); err != nil {
		unix.Close(epoll)
		unix.Close(wake)
		return nil, err
	}
	if err := p.add(wake, unix.EPOLLIN, wakeToken); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
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
	return p.file.Close()
}

// AddLevel reports fd readable for as long as it is.
func (p *Poller) AddLevel(fd int, token uint64) error {
	return p.add(fd, unix.EPOLLIN, token)
}

// AddEdge reports each change of fd towards readable, writable or closed once:
// the owner must go on until the call would block.
func (p *Poller) AddEdge(fd int, token uint64) error {
	return p.add(fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLPRI|unix.EPOLLET, token)
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
		// The counter cannot overflow: one write per sleep.
		_, _ = unix.Write(p.wake, one[:])
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
	for _, r := range p.raw[:n] {
		token := uint64(uint32(r.Fd)) | uint64(uint32(r.Pad))<<32
		if token == wakeToken {
			var b [8]byte
			_, _ = unix.Read(p.wake, b[:])
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
	if n, err := p.atOnce(); n > 0 || err != nil || timeout == 0 {
		return n, err
	}
	deadline := time.Time{}
	if timeout > 0 {
		deadline = time.Now().Add(timeout)
	}
	if err := p.file.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	if err := p.conn.Read(p.look); errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	return p.ready, p.failed
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
	return int(n), nil
}

// Rest stands still for d, and no event and no Wake ends that: what becomes ready
// meanwhile is told by the next Wait.
func Rest(d time.Duration) {
	left := unix.NsecToTimespec(int64(d))
	// Raw: the thread is the process's only one that works, and is to be still.
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&left)), 0, 0)
}
