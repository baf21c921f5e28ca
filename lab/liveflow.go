package lab

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// liveFlow is a connection through the VIP over which a client sends a few
// bytes again and again. The service sends them back.
type liveFlow struct {
	from from
	// ssh: it is a session of SSH, else one of the beat service.
	ssh bool
	// node is the one that serves it.
	node   string
	stream io.ReadWriteCloser
	// conn is the connection below the stream.
	conn  *net.TCPConn
	every time.Duration
	stop  chan struct{}

	mu   sync.Mutex
	sent uint64
	// heard is when the last bytes came back.
	heard time.Time
	// ended says how it ended, at a time; closing that we have closed it.
	ended   error
	endedAt time.Time
}

// beatBytes is the size of what is sent: a number, counted from 0.
const beatBytes = 8

// errNotEchoed says that the service sent back something else.
var errNotEchoed = errors.New("what came back is not what was sent")

// openTimeout bounds how long a new flow may take in a calm LAN.
const openTimeout = 10 * time.Second

// openFlow begins a flow. It reads and beats until it ends.
func openFlow(s *SSH, f from, overSSH bool, every time.Duration) (*liveFlow, error) {
	port := uint16(beatPort)
	if overSSH {
		port = 22
	}
	conn, err := dialVIP(f, port, openTimeout)
	if err != nil {
		return nil, err
	}
	l := &liveFlow{from: f, ssh: overSSH, heard: time.Now(), stream: conn, conn: conn, every: every, stop: make(chan struct{})}
	if overSSH {
		if l.stream, err = s.openCat(conn); err != nil {
			return nil, err
		}
	}
	in := bufio.NewReader(l.stream)
	name, err := in.ReadString('\n')
	if err != nil {
		return nil, errors.Join(err, l.stream.Close())
	}
	l.node = name[:len(name)-1]
	l.start(in)
	return l, nil
}

func (l *liveFlow) start(in io.Reader) {
	go l.read(in)
	go l.write()
}

// dialVIP connects to a port of the VIP of a client's address's family.
func dialVIP(f from, port uint16, timeout time.Duration) (conn *net.TCPConn, err error) {
	err = f.host.Do(func() error {
		d := net.Dialer{Timeout: timeout, LocalAddr: &net.TCPAddr{IP: f.addr.AsSlice()}, KeepAlive: -1}
		c, err := d.Dial("tcp", netip.AddrPortFrom(f.vip(), port).String())
		if err == nil {
			conn = c.(*net.TCPConn)
		}
		return err
	})
	return conn, err
}

// sshStream is a session in which a command sends back what it gets.
type sshStream struct {
	io.Writer
	io.Reader
	client *ssh.Client
}

// Close ends the connection with the session.
func (s *sshStream) Close() error { return s.client.Close() }

// openCat logs in and has the node's name told, and then everything sent back.
func (s *SSH) openCat(conn *net.TCPConn) (io.ReadWriteCloser, error) {
	c, err := s.logIn(conn)
	if err != nil {
		return nil, err
	}
	stream, err := startCat(c)
	if err != nil {
		return nil, errors.Join(err, ignoreEOF(c.Close()))
	}
	return stream, nil
}

func startCat(c *ssh.Client) (*sshStream, error) {
	session, err := c.NewSession()
	if err != nil {
		return nil, err
	}
	in, err := session.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &sshStream{in, out, c}, session.Start(`echo "$ONEVOICE_NODE"; exec cat`)
}

// read is the goroutine `lab.liveFlow.read`; it ends with the flow.
func (l *liveFlow) read(in io.Reader) {
	got, want := make([]byte, beatBytes), make([]byte, beatBytes)
	for count := uint64(0); ; count++ {
		_, err := io.ReadFull(in, got)
		binary.BigEndian.PutUint64(want, count)
		if err == nil && !bytes.Equal(got, want) {
			err = errNotEchoed
		}
		if err != nil {
			l.end(err)
			return
		}
		l.mu.Lock()
		l.heard = time.Now()
		l.mu.Unlock()
	}
}

// end notes the first reason for an end.
func (l *liveFlow) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == nil {
		l.ended, l.endedAt = err, time.Now()
		close(l.stop)
	}
}

// write is the goroutine `lab.liveFlow.write`; it ends with the flow. It is one
// for each flow, for it waits when what was sent is not acknowledged.
func (l *liveFlow) write() {
	ticker := time.NewTicker(l.every)
	defer ticker.Stop()
	b := make([]byte, beatBytes)
	for {
		select {
		case <-l.stop:
			return
		case <-ticker.C:
		}
		l.mu.Lock()
		binary.BigEndian.PutUint64(b, l.sent)
		l.sent++
		l.mu.Unlock()
		if _, err := l.stream.Write(b); err != nil {
			l.end(err)
			return
		}
	}
}

// state tells how the flow is: when it was heard last, and how and when it
// ended, if it has.
func (l *liveFlow) state() (heard, at time.Time, ended error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard, l.endedAt, l.ended
}

// close ends the flow from the client's side.
func (l *liveFlow) close() {
	l.end(net.ErrClosed)
	// It may have been reset already.
	_ = l.stream.Close()
}

// wire tells what the client's TCP knows of the flow (tcp(7), TCP_INFO).
func (l *liveFlow) wire() string {
	raw, err := l.conn.SyscallConn()
	if err != nil {
		return err.Error()
	}
	var info *unix.TCPInfo
	failed := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err = errors.Join(failed, err); err != nil {
		return err.Error()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	ms := func(n uint32) time.Duration { return time.Duration(n) * time.Millisecond }
	return fmt.Sprintf("port %d, %d beats sent, %d segments unacknowledged, sent again %d times, timer %s, last sent %s ago, last heard %s ago",
		l.conn.LocalAddr().(*net.TCPAddr).Port, l.sent, info.Unacked, info.Retransmits, time.Duration(info.Rto)*time.Microsecond,
		ms(info.Last_data_sent), ms(info.Last_data_recv))
}

// String is for a breach.
func (l *liveFlow) String() string {
	kind := "TCP flow"
	if l.ssh {
		kind = "SSH session"
	}
	return fmt.Sprintf("%s of %s with %s", kind, l.from.addr, l.node)
}
