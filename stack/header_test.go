package stack

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"onevoice/internal/poller"
	"onevoice/proxy"
)

// behindHeader starts a stack whose service waits for the header of version 1,
// says what is in it, and then sends back what comes.
func behindHeader(t *testing.T, l net.Listener, b proxy.Backend) *world {
	t.Helper()
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				line, err := r.ReadString('\n')
				if err == nil {
					fmt.Fprint(c, line)
					_, _ = io.Copy(c, r)
				}
			}()
		}
	}()
	p, err := poller.New(poller.ByKernel)
	if err != nil {
		t.Fatal(err)
	}
	b.Header = proxy.HeaderV1
	return startWorld(t, p, p, Service{Name: "echo", Listen: netip.AddrPortFrom(vip, 22), Backend: b})
}

// The header reaches a backend whose client says nothing before it is greeted, over
// TCP and over a unix socket, and names the port that the client has connected to.
func TestHeaderOfASilentClient(t *testing.T) {
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "app.sock")
	local, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]*world{
		"TCP":  behindHeader(t, tcp, proxy.Backend{Addr: netip.MustParseAddrPort(tcp.Addr().String())}),
		"unix": behindHeader(t, local, proxy.Backend{Path: path}),
	} {
		c, err := w.dial()
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		r := bufio.NewReader(c)
		from := netip.MustParseAddrPort(c.LocalAddr().String())
		want := fmt.Sprintf("PROXY TCP4 %s %s %d 22\r\n", from.Addr(), vip, from.Port())
		if got, err := r.ReadString('\n'); got != want || err != nil {
			t.Errorf("%s: the backend was told %q, %v; want %q", name, got, err, want)
		}
		if _, err := c.Write([]byte("hello\n")); err != nil {
			t.Fatal(err)
		}
		if got, err := r.ReadString('\n'); got != "hello\n" || err != nil {
			t.Errorf("%s: %q came back, %v", name, got, err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(r); len(rest) != 0 || err != nil {
			t.Errorf("%s: at the end came %q, %v", name, rest, err)
		}
		c.Close()
	}
}

// A unix socket whose queue is full is busy and not down: that client is reset, and
// the next is not turned away at the gate.
func TestBusyBackendStaysUp(t *testing.T) {
	p, err := poller.New(poller.ByKernel)
	if err != nil {
		t.Fatal(err)
	}
	busy := func(netip.AddrPort) (Local, error) { return nil, fmt.Errorf("%w: for a test", proxy.ErrBusy) }
	w := startWorld(t, p, p, Service{Name: "echo", Listen: netip.AddrPortFrom(vip, 22), Dial: busy})
	c, err := w.dial()
	if err == nil {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err = c.Read(make([]byte, 1))
	}
	if err == nil || err == io.EOF {
		t.Errorf("the client of a busy backend ends with %v, want a reset", err)
	}
	w.do(func() {
		if !w.stack.Up(0) || w.stack.Counters().Refused != 1 {
			t.Errorf("up: %v, counters %+v", w.stack.Up(0), w.stack.Counters())
		}
	})
}
