package bench

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/internal/poller"
)

// clients are many TCP connections of one thread, which has to be in the
// client's namespace while they connect. A loop of one thread costs the machine
// less than a goroutine for each, so that more of it is left to the path.
type clients struct {
	poll  *poller.Poller
	timer int
	to    unix.SockaddrInet4
	conns []client
	// answerBytes is the length of an answer, 0 before the first.
	answerBytes int
	buffer      [4096]byte
}

// client is one connection. Its token is its index.
type client struct {
	fd int
	// connected: the handshake is complete.
	connected bool
	// due is when the request under way should have been sent.
	due time.Time
	// got is how much of the answer has come.
	got int
}

// timerToken is the timer's.
const timerToken = 1 << 40

// fineTimers makes the kernel wake this thread when it said, and not up to 50 µs
// later (PR_SET_TIMERSLACK(2const)).
func fineTimers() error {
	return os.NewSyscallError("prctl PR_SET_TIMERSLACK", unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0))
}

func newClients(to netip.AddrPort) (*clients, error) {
	poll, err := poller.New(poller.ByRuntime)
	if err != nil {
		return nil, err
	}
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		poll.Close()
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	c := &clients{poll: poll, timer: timer, to: unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}}
	if err := poll.AddEdge(timer, timerToken); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// close resets all connections, so that none rests in TIME-WAIT anywhere.
func (c *clients) close() error {
	for i := range c.conns {
		c.reset(i)
	}
	return errors.Join(os.NewSyscallError("close", unix.Close(c.timer)), c.poll.Close())
}

func (c *clients) reset(i int) {
	if fd := c.conns[i].fd; fd >= 0 {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		unix.Close(fd)
		c.conns[i].fd = -1
	}
}

// connect begins a connection and returns its index.
func (c *clients) connect(due time.Time) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	i := len(c.conns)
	c.conns = append(c.conns, client{fd: fd, due: due})
	if err := c.poll.AddEdge(fd, uint64(i)); err != nil {
		return 0, err
	}
	if err := unix.Connect(fd, &c.to); err != nil && err != unix.EINPROGRESS {
		return 0, os.NewSyscallError("connect", err)
	}
	return i, nil
}

// wait returns what became ready until then, perhaps nothing.
func (c *clients) wait(until time.Time) ([]poller.Event, error) {
	left := time.Until(until)
	if left <= 0 {
		return c.poll.Wait(0)
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(left))}
	if err := unix.TimerfdSettime(c.timer, 0, &spec, nil); err != nil {
		return nil, os.NewSyscallError("timerfd_settime", err)
	}
	return c.poll.Wait(-1)
}

// finished sees whether a handshake is complete.
func (c *clients) finished(i int) error {
	errno, err := unix.GetsockoptInt(c.conns[i].fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	if err != nil {
		return os.NewSyscallError("connect", err)
	}
	c.conns[i].connected = true
	return nil
}

// request is what every client asks.
const request = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n"

// send asks. A request fits into every socket's buffer.
func (c *clients) send(i int, due time.Time) error {
	c.conns[i].due, c.conns[i].got = due, 0
	n, err := unix.Write(c.conns[i].fd, []byte(request))
	if err == nil && n != len(request) {
		err = unix.EAGAIN
	}
	return os.NewSyscallError("write", err)
}

// receive takes what has come, and reports whether the answer is complete.
func (c *clients) receive(i int) (bool, error) {
	conn := &c.conns[i]
	for {
		n, err := unix.Read(conn.fd, c.buffer[:])
		if err == unix.EAGAIN {
			return false, nil
		}
		if err != nil {
			return false, os.NewSyscallError("read", err)
		}
		if n == 0 {
			return false, errors.New("the connection was closed instead of an answer")
		}
		if conn.got == 0 {
			if c.answerBytes, err = answerLength(c.buffer[:n]); err != nil {
				return false, err
			}
		}
		if conn.got += n; conn.got >= c.answerBytes {
			return true, nil
		}
	}
}

// answerLength is how long an answer is, by its beginning.
func answerLength(b []byte) (int, error) {
	if !bytes.HasPrefix(b, []byte("HTTP/1.1 200 ")) {
		return 0, fmt.Errorf("the answer is %.40q", b)
	}
	head := bytes.Index(b, []byte("\r\n\r\n"))
	const mark = "Content-Length: "
	at := bytes.Index(b, []byte(mark))
	if head < 0 || at < 0 || at > head {
		return 0, fmt.Errorf("the answer has no length: %.200q", b)
	}
	line, _, _ := bytes.Cut(b[at+len(mark):], []byte("\r"))
	n, err := strconv.Atoi(string(line))
	return head + len("\r\n\r\n") + n, err
}

// openMany opens connections, so many at a time, and has an answer on each.
func (c *clients) openMany(n int, deadline time.Time) error {
	const atATime = 64
	busy := 0
	for answered := 0; answered < n; {
		for busy < atATime && len(c.conns) < n {
			if _, err := c.connect(time.Time{}); err != nil {
				return err
			}
			busy++
		}
		events, err := c.wait(deadline)
		if err != nil {
			return err
		}
		if len(events) == 0 && time.Now().After(deadline) {
			return fmt.Errorf("%d of %d connections had an answer", answered, n)
		}
		for _, e := range events {
			if e.Token == timerToken {
				continue
			}
			done, err := c.advance(int(e.Token), e)
			if err != nil {
				return fmt.Errorf("connection %d of %d: %w", e.Token+1, n, err)
			}
			if done {
				answered++
				busy--
			}
		}
	}
	return nil
}

// advance goes on with a connection that asks once it is there, and reports
// whether its answer is complete.
func (c *clients) advance(i int, e poller.Event) (bool, error) {
	if !c.conns[i].connected {
		if !e.Writable {
			return false, nil
		}
		if err := c.finished(i); err != nil {
			return false, err
		}
		return false, c.send(i, time.Time{})
	}
	if !e.Readable {
		return false, nil
	}
	return c.receive(i)
}
