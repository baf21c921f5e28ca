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
)

// liveFlow is a connection through the VIP over which a client sends a few
// bytes again and again. The service sends them back.
type liveFlow struct {
	from from
	// ssh: it is a session of SSH, else one of the beat service.
	ssh bool
	// node is the one that serves it.
	node   string
	began  time.Time
	stream io.ReadWriteCloser
	every  time.Duration

	mu   sync.Mutex
	next time.Time
	sent uint64
	// heard is when the last bytes came back.
	heard time.Time
	// ended says how it ended, at a time; closing that we have closed it.
	ended   error
	endedAt time.Time
	closing bool
}

// beatBytes is the size of what is sent: a number, counted from 0.
const beatBytes = 8

// errNotEchoed says that the service sent back something else.
var errNotEchoed = errors.New("what came back is not what was sent")

// openTimeout bounds how long a new flow may take in a calm LAN.
const openTimeout = 10 * time.Second

// openFlow begins a flow; its reader is a goroutine that ends with it.
func openFlow(s *SSH, f from, overSSH bool, every time.Duration) (*liveFlow, error) {
	var stream io.ReadWriteCloser
	var err error
	if overSSH {
		stream, err = s.dialCat(f)
	} else {
		stream, err = dialVIP(f, beatPort, openTimeout)
	}
	if err != nil {
		return nil, err
	}
	now := time.Now()
	l := &liveFlow{from: f, ssh: overSSH, began: now, heard: now, next: now, stream: stream, every: every}
	in := bufio.NewReader(stream)
	name, err := in.ReadString('\n')
	if err != nil {
		return nil, errors.Join(err, stream.Close())
	}
	l.node = name[:len(name)-1]
	go l.read(in)
	return l, nil
}

// dialVIP connects to a port of the VIP from a client's address.
func dialVIP(f from, port uint16, timeout time.Duration) (conn *net.TCPConn, err error) {
	err = f.host.Do(func() error {
		d := net.Dialer{Timeout: timeout, LocalAddr: &net.TCPAddr{IP: f.addr.AsSlice()}, KeepAlive: -1}
		c, err := d.Dial("tcp4", netip.AddrPortFrom(VIP(), port).String())
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

// dialCat logs in and has the node's name told, and then everything sent back.
func (s *SSH) dialCat(f from) (io.ReadWriteCloser, error) {
	c, err := s.Dial(f.host, f.addr)
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
	}
}

// beat sends the next bytes when it is time.
func (l *liveFlow) beat(now time.Time) {
	l.mu.Lock()
	if l.ended != nil || l.closing || now.Before(l.next) {
		l.mu.Unlock()
		return
	}
	b := binary.BigEndian.AppendUint64(nil, l.sent)
	l.sent++
	l.next = now.Add(l.every)
	l.mu.Unlock()
	if _, err := l.stream.Write(b); err != nil {
		l.end(err)
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
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	l.end(net.ErrClosed)
	// It may have been reset already.
	_ = l.stream.Close()
}

// String is for a breach.
func (l *liveFlow) String() string {
	kind := "TCP flow"
	if l.ssh {
		kind = "SSH session"
	}
	return fmt.Sprintf("%s of %s with %s", kind, l.from.addr, l.node)
}
