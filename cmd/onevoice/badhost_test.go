package main

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// starve lets all processes of the node run for a tenth of the time, and stand still for
// longer than a lease lasts in between, until end is called. times is how often they
// stood still.
func (p *pair) starve() (times func() int, end func()) {
	p.t.Helper()
	s := p.status()
	pids := []int{s.Process.PID}
	for _, w := range s.Workers {
		pids = append(pids, w.Process.PID)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	var stood atomic.Int64
	go func() {
		defer close(stopped)
		const slot = 80 * time.Millisecond
		ticker := time.NewTicker(slot)
		defer ticker.Stop()
		for turn := 0; ; turn++ {
			s := syscall.SIGSTOP
			select {
			case <-stop:
				s = syscall.SIGCONT
			case <-ticker.C:
				if turn%10 == 9 {
					s = syscall.SIGCONT
					stood.Add(1)
				}
			}
			for _, pid := range pids {
				// The test notices by itself when one is gone.
				_ = syscall.Kill(pid, s)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	return func() int { return int(stood.Load()) }, func() { close(stop); <-stopped }
}

// A node that gets a tenth of a processor loses no session, whatever becomes of its
// lease, and serves new ones again once it has its own.
func TestProcessorIsStarved(t *testing.T) {
	p := newPair(t)
	c := p.start()
	c.until("answering: this node holds a lease")
	s := p.session()
	stood, fed := p.starve()
	for stood() < 2 {
		if err := echoes(s); err != nil {
			fed()
			t.Fatalf("the session, after %d times: %v", stood(), err)
		}
	}
	fed()
	p.session()
	if err := echoes(s); err != nil {
		t.Errorf("the session, when the node runs again: %v", err)
	}
	if state := c.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("stop: %v", state)
	}
	c.untilAllEnd()
}

// A backend that reads a byte and then none for long holds up its own client alone,
// and gets everything in the end.
func TestBackendReadsByteByByte(t *testing.T) {
	p := newPair(t)
	p.configure("[[service]]\nname = \"slow\"\nlisten = \"" + testVIP + ":9\"\nbackend = \"127.0.0.1:7001\"\n")
	bytewise, rest, lost := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	sum := make(chan [32]byte, 1)
	p.serve("127.0.0.1:7001", func(c net.Conn) {
		h := sha256.New()
		b := make([]byte, 1)
		for range bytewise {
			if _, err := io.ReadFull(c, b); err != nil {
				lost <- err
				return
			}
			h.Write(b)
		}
		<-rest
		_, _ = io.Copy(h, c)
		sum <- [32]byte(h.Sum(nil))
	})
	p.start().until("answering: this node holds a lease")
	other := p.session()
	var slow net.Conn
	if err := p.client.Do(func() (err error) {
		slow, err = net.DialTimeout("tcp4", testVIP+":9", patience)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	// More than all buffers between take.
	data := bytes.Repeat([]byte("one byte, and then another. "), 1<<20)
	if err := slow.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := slow.Write(data)
		wrote <- err
	}()
	for round := range 20 {
		select {
		case bytewise <- struct{}{}:
		case err := <-lost:
			t.Fatalf("the backend has lost its client after %d bytes: %v", round, err)
		}
		if err := echoes(other); err != nil {
			t.Fatalf("another's session, after %d bytes: %v", round+1, err)
		}
	}
	select {
	case err := <-wrote:
		t.Errorf("%d bytes went somewhere, of which 20 were read: %v", len(data), err)
	default:
	}
	close(bytewise)
	close(rest)
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if err := slow.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := <-sum; got != sha256.Sum256(data) {
		t.Error("the backend has got other bytes")
	}
}

// A backend that comes and goes is found again each time, and a session that has
// another backend never notices.
func TestBackendFlaps(t *testing.T) {
	p := newPair(t)
	p.configure("[[service]]\nname = \"flaps\"\nlisten = \"" + testVIP + ":9\"\nbackend = \"127.0.0.1:7001\"\n")
	listen := func() (l net.Listener) {
		t.Helper()
		if err := p.Do(func() (err error) { l, err = net.Listen("tcp4", "127.0.0.1:7001"); return err }); err != nil {
			t.Fatal(err)
		}
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				c.Close()
			}
		}()
		return l
	}
	// served reports whether a new client of the service hears an orderly end.
	served := func() bool {
		var c net.Conn
		err := p.client.Do(func() (err error) { c, err = net.DialTimeout("tcp4", testVIP+":9", patience); return err })
		if err != nil {
			return false
		}
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
		return err == io.EOF
	}
	until := func(want bool) {
		t.Helper()
		for begun := time.Now(); served() != want; time.Sleep(20 * time.Millisecond) {
			if time.Since(begun) > patience {
				t.Fatalf("served: not %v after %v", want, patience)
			}
		}
	}
	l := listen()
	p.start().until("answering: this node holds a lease")
	s := p.session()
	for range 3 {
		until(true)
		l.Close()
		until(false)
		l = listen()
	}
	until(true)
	l.Close()
	if err := echoes(s); err != nil {
		t.Errorf("another service's session: %v", err)
	}
	if _, text := runProgram(t, program(t, "status", "--socket", p.socket()), (*exec.Cmd).Start); !strings.Contains(text, "flaps") {
		t.Errorf("status does not tell of it:\n%s", text)
	}
}

// Clients that have said their last, and a service that never does: each keeps its
// place, takes nothing from others, and is gone once the service has ended.
func TestHalfClosedForEver(t *testing.T) {
	p := newPair(t)
	p.configure("[[service]]\nname = \"silent\"\nlisten = \"" + testVIP + ":9\"\nbackend = \"127.0.0.1:7001\"\n")
	const clients = 200
	heard, rest := make(chan struct{}, clients), make(chan struct{})
	p.serve("127.0.0.1:7001", func(c net.Conn) {
		// The client's half-close arrives, and nothing is said to it.
		if n, _ := io.Copy(io.Discard, c); n == 1 {
			heard <- struct{}{}
		}
		<-rest
	})
	p.start().until("answering: this node holds a lease")
	var open []net.Conn
	err := p.client.Do(func() error {
		for range clients {
			c, err := net.DialTimeout("tcp4", testVIP+":9", patience)
			if err != nil {
				return err
			}
			t.Cleanup(func() { c.Close() })
			if _, err := c.Write([]byte{1}); err != nil {
				return err
			}
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				return err
			}
			open = append(open, c)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for range clients {
		<-heard
	}
	if running := p.status().Flows.Running; running != clients {
		t.Errorf("%d flows are counted of %d that are half-closed", running, clients)
	}
	p.session().Close()
	close(rest)
	for i, c := range open {
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Fatalf("client %d: %d bytes, %v", i, n, err)
		}
	}
	for begun := time.Now(); p.status().Flows.Running != 0; time.Sleep(50 * time.Millisecond) {
		if time.Since(begun) > patience {
			t.Fatalf("%d flows are left", p.status().Flows.Running)
		}
	}
}
