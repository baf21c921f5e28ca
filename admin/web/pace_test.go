package web

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"onevoice/admin"
)

// pipes is a listener without a network, for virtual time.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	ended chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), ended: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.ended) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial returns when the connection was accepted.
func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours
}

// load asks for a file of the page n times on one connection.
func load(t *testing.T, c net.Conn, n int) {
	in := bufio.NewReader(c)
	for range n {
		fmt.Fprint(c, "GET /page.css HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
			t.Errorf("%s, %v", answer.Status, err)
		}
	}
}

// Whoever asks without end has as much of this process's time as the bound says, all
// clients together, and a client that comes later has its answer all the same.
func TestRequestsWaitTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		d := &daemon{now: epoch()}
		s := Serve(Config{Listener: l, Daemon: admin.Daemon{Status: d.status, Wish: d.wish}, Log: slog.New(slog.DiscardHandler), Now: d.clock})
		const clients, each = 10, (RequestBurst + 5*RequestsPerSecond) / 10
		began := time.Now()
		var asking sync.WaitGroup
		for range clients {
			c := l.dial()
			defer c.Close()
			asking.Go(func() { load(t, c, each) })
		}
		asking.Wait()
		if took := time.Since(began); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("%d requests were answered in %v", clients*each, took)
		}
		late := l.dial()
		defer late.Close()
		began = time.Now()
		load(t, late, 1)
		if took := time.Since(began); took > time.Second {
			t.Errorf("one that came later waited %v", took)
		}
		time.Sleep(idleTimeout / 2)
		began = time.Now()
		load(t, late, RequestBurst)
		if took := time.Since(began); took != 0 {
			t.Errorf("after a while without, a burst waited %v", took)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Connections that come and go are no way around it.
func TestConnectionsWaitTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		d := &daemon{now: epoch()}
		s := Serve(Config{Listener: l, Daemon: admin.Daemon{Status: d.status, Wish: d.wish}, Log: slog.New(slog.DiscardHandler), Now: d.clock})
		began := time.Now()
		for range RequestBurst + 3*RequestsPerSecond {
			l.dial().Close()
		}
		if took := time.Since(began); took < 2*time.Second || took > 4*time.Second {
			t.Errorf("it took them in %v", took)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
