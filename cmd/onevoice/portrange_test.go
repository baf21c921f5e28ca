package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// greets says where it was reached.
func (p *pair) greets(at string) {
	p.t.Helper()
	p.serve(at, func(c net.Conn) { fmt.Fprint(c, at) })
}

// asks connects to a port of the VIP, from a port of its own if that is not 0, and
// returns what it hears until the end.
func (p *pair) asks(where interface{ Do(func() error) error }, from, port int) (said string, err error) {
	return p.asksAt(where, testVIP, from, port)
}

// asksAt is the same at any address.
func (p *pair) asksAt(where interface{ Do(func() error) error }, vip string, from, port int) (said string, err error) {
	err = where.Do(func() error {
		d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{Port: from}, Control: reuse}
		c, err := d.Dial("tcp4", net.JoinHostPort(vip, fmt.Sprint(port)))
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		b, err := io.ReadAll(c)
		said = string(b)
		return err
	})
	return said, err
}

// reuse lets a port be taken that closed connections still hold.
func reuse(_, _ string, c syscall.RawConn) error {
	var inner error
	err := c.Control(func(fd uintptr) {
		inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
	return errors.Join(err, inner)
}

// A service may have a range of ports: with one backend, or a port of the backend's
// for each.
func TestPortRanges(t *testing.T) {
	p := newPair(t)
	const first, last = 20_000, 20_399
	p.configure(fmt.Sprintf(`[[service]]
name = "all"
listen = "%[1]s:%[2]d-%[3]d"
backend = "127.0.0.1:9100"
[[service]]
name = "each"
listen = "%[1]s:8000-8003"
backend = "127.0.0.1:9000-9003"
affinity = "source-ip-port-dest-port"
`, testVIP, first, last))
	for _, port := range []int{9100, 9000, 9002, 9003} {
		p.greets(fmt.Sprintf("127.0.0.1:%d", port))
	}
	c := p.start()
	c.until("answering: this node holds a lease")
	for _, port := range []int{first, first + 1, 20_255, 20_256, last} {
		for where, ns := range map[string]interface{ Do(func() error) error }{"a client": p.client, "this host itself": p} {
			if said, err := p.asks(ns, 0, port); err != nil || said != "127.0.0.1:9100" {
				t.Errorf("%s at port %d hears %q, %v", where, port, said, err)
			}
		}
	}
	for _, port := range []int{first - 1, last + 1, 7999, 8004} {
		if _, err := p.asks(p.client, 0, port); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("port %d beside a range: %v", port, err)
		}
	}
	// From one port of the client's, so that only the VIP's port tells the flows apart.
	for round := range 2 {
		for _, i := range []int{0, 2, 3} {
			if said, err := p.asks(p.client, 40_000+round, 8000+i); err != nil || said != fmt.Sprintf("127.0.0.1:%d", 9000+i) {
				t.Errorf("port %d: %q, %v", 8000+i, said, err)
			}
		}
		// Where nobody listens, only that port is reset, and the others are not.
		if said, err := p.asks(p.client, 0, 8001); err == nil {
			t.Errorf("a port without a backend says %q", said)
		}
	}
	if said, err := p.asks(p, 0, 8003); err != nil || said != "127.0.0.1:9003" {
		t.Errorf("this host itself at port 8003 hears %q, %v", said, err)
	}
	s := p.status()
	if s.Services[1].Listen != "10.77.0.2:20000-20399" || s.Services[2].Backend != "127.0.0.1:9000-9003" || !s.Services[2].Up {
		t.Errorf("services %+v", s.Services)
	}
	if state := c.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("stop: %v", state)
	}
	c.untilAllEnd()
}
