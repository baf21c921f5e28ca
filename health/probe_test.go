package health

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// serve listens on loopback and hands each connection to a function, one after
// the other, until the test ends. It counts what was accepted.
func serve(t *testing.T, handle func(net.Conn)) (addr string, accepted chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted = make(chan struct{}, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- struct{}{}
			handle(c)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return l.Addr().String(), accepted
}

func probe(t *testing.T, c Check) error {
	t.Helper()
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	return c.Probe(t.Context())
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("error %v, want one with %q", err, part)
	}
}

// closedPort is an address where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestTCP(t *testing.T) {
	addr, accepted := serve(t, func(net.Conn) {})
	for range 5 {
		if err := probe(t, Check{Kind: TCP, Target: addr}); err != nil {
			t.Fatal(err)
		}
	}
	// The service hears of a true connection, and had heard of none before it.
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	io.ReadAll(c)
	c.Close()
	if n := len(accepted); n != 1 {
		t.Errorf("the service accepted %d connections, want only the test's own", n)
	}
	wantError(t, probe(t, Check{Kind: TCP, Target: closedPort(t)}), "refused")
}

func TestSSHBanner(t *testing.T) {
	said := make(chan string, 10)
	for name, c := range map[string]struct {
		say string
		err string
	}{
		"banner":             {"SSH-2.0-OpenSSH_9.8\r\n", ""},
		"lines before":       {"Welcome\r\nto us\r\nSSH-2.0-x\r\n", ""},
		"not at the start":   {"no SSH-2.0-x\r\n", "hung up without"},
		"no end of line":     {"SSH-2.0-x", "hung up without"},
		"MaxStartups":        {"Exceeded MaxStartups\r\n", `after "Exceeded MaxStartups"`},
		"silence and hangup": {"", "hung up without"},
		"endless":            {strings.Repeat("x", 3*maxBannerBytes), "in the first 4096 bytes"},
	} {
		addr, _ := serve(t, func(conn net.Conn) {
			io.WriteString(conn, c.say)
			if c.err != "" {
				return
			}
			text, _ := io.ReadAll(conn)
			said <- string(text)
		})
		err := probe(t, Check{Kind: SSHBanner, Target: addr})
		if c.err != "" {
			wantError(t, err, c.err)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := <-said; got != identification {
			t.Errorf("%s: the check said %q", name, got)
		}
	}
}

// A server that accepts and says nothing is down at the timeout.
func TestTimeout(t *testing.T) {
	addr, _ := serve(t, func(c net.Conn) { io.ReadAll(c) })
	for _, c := range []Check{
		{Kind: SSHBanner, Target: addr, Timeout: 50 * time.Millisecond},
		{Kind: HTTP, Target: "http://" + addr + "/", Timeout: 50 * time.Millisecond},
		{Kind: Exec, Target: "/bin/sleep", Args: []string{"3600"}, Timeout: 50 * time.Millisecond},
	} {
		begin := time.Now()
		wantError(t, probe(t, c), "no answer within 50ms")
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%v took %v", c.Kind, took)
		}
	}
}

func TestHTTP(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		switch {
		case err != nil:
			// An endless body: the check reads its bound and is content.
			for {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		case code/100 == 3:
			w.Header().Set("Location", "/500")
		}
		w.WriteHeader(code)
	}))
	defer s.Close()
	for path, want := range map[string]string{
		"/200": "", "/204": "", "/301": "", "/302": "", "/399": "", "/endless": "",
		"/400": "status 400", "/404": "status 404", "/500": "status 500", "/503": "status 503",
	} {
		err := probe(t, Check{Kind: HTTP, Target: s.URL + path})
		if want == "" && err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if want != "" {
			wantError(t, err, want)
		}
	}
	wantError(t, probe(t, Check{Kind: HTTP, Target: "http://" + closedPort(t) + "/"}), "refused")
	addr, _ := serve(t, func(c net.Conn) { io.WriteString(c, "SSH-2.0-x\r\n") })
	if probe(t, Check{Kind: HTTP, Target: "http://" + addr + "/"}) == nil {
		t.Error("an SSH server is taken for a web server")
	}
	addr, _ = serve(t, func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
	})
	wantError(t, probe(t, Check{Kind: HTTP, Target: "http://" + addr + "/"}), "EOF")
}

// script writes a program.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "check")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExec(t *testing.T) {
	t.Setenv("ONEVOICE_SECRET", "x")
	for name, c := range map[string]struct {
		script string
		args   []string
		err    string
	}{
		"up":             {"exit 0", nil, ""},
		"down":           {"exit 3", nil, "exit status 3"},
		"says why":       {"echo disk full >&2; exit 1", nil, "exit status 1: disk full"},
		"much output":    {"head -c 10000000 /dev/zero", nil, ""},
		"no shell":       {`[ "$1" = '$HOME;' ] && [ "$2" = '*' ] && [ $# = 2 ]`, []string{"$HOME;", "*"}, ""},
		"no environment": {`[ -z "$ONEVOICE_SECRET" ] && [ -z "$NOTIFY_SOCKET" ]`, nil, ""},
		"no input":       {"read x && exit 1; exit 0", nil, ""},
		"killed":         {"kill -9 $$", nil, "signal: killed"},
	} {
		err := probe(t, Check{Kind: Exec, Target: script(t, c.script), Args: c.args})
		if c.err == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.err != "" {
			wantError(t, err, c.err)
		}
	}
	wantError(t, probe(t, Check{Kind: Exec, Target: "/nonexistent"}), "no such file")
}

// gone waits until the process whose number is in a file has ended.
func gone(t *testing.T, pidFile string) {
	t.Helper()
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	stat := "/proc/" + strings.TrimSpace(string(text)) + "/stat"
	for deadline := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		// A killed orphan may stay a zombie for as long as init likes.
		now, err := os.ReadFile(stat)
		if err != nil || strings.Contains(string(now), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %s lives: %s", text, now)
		}
	}
}

// What a program has started dies with it, at the timeout and at its own end,
// also when it holds the output open.
func TestExecTakesItsChildrenAlong(t *testing.T) {
	for name, c := range map[string]struct {
		end string
		err string
	}{
		"timeout": {"wait", "no answer within"},
		"exit 0":  {"exit 0", ""},
		"exit 1":  {"exit 1", "exit status 1"},
	} {
		pid := filepath.Join(t.TempDir(), "pid")
		path := script(t, "sleep 3600 & echo $! > "+pid+"; "+c.end)
		timeout := 5 * time.Second
		if c.end == "wait" {
			timeout = time.Second
		}
		err := probe(t, Check{Kind: Exec, Target: path, Timeout: timeout})
		if c.err == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.err != "" {
			wantError(t, err, c.err)
		}
		gone(t, pid)
	}
}

// A child that left the group, with the output in its hand, holds nobody up.
func TestExecDoesNotWaitForWhoLeft(t *testing.T) {
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("needs the program setsid")
	}
	pid := filepath.Join(t.TempDir(), "pid")
	path := script(t, "setsid sh -c 'echo $$ > "+pid+"; exec sleep 3600' & while ! [ -s "+pid+" ]; do :; done; exit 0")
	if err := probe(t, Check{Kind: Exec, Target: path}); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	unix.Kill(n, unix.SIGKILL)
	gone(t, pid)
}

func TestAgentFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "weight")
	if err := os.WriteFile(file, []byte("55%\n"+strings.Repeat("x", 2*maxAgentBytes)), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := readHead(file); err != nil || len(text) != maxAgentBytes || !strings.HasPrefix(text, "55%\n") {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, dir, "/dev/zero", filepath.Join(dir, "none")} {
		if _, err := readHead(path); err == nil {
			t.Errorf("%s was read", path)
		}
	}
}

// lan is a namespace with a veth pair whose far end is in another one: .1 is
// here, .2 answers, .3 is nobody.
func lan(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces of its own (CAP_SYS_ADMIN, CAP_NET_ADMIN)")
	}
	runtime.LockOSThread()
	far, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	near, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	peer := netlink.NsFd(int(far))
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "e"}, PeerName: "e", PeerNamespace: peer}); err != nil {
		t.Fatal(err)
	}
	for _, side := range []struct {
		ns   netns.NsHandle
		addr string
	}{{far, "192.0.2.2/24"}, {near, "192.0.2.1/24"}} {
		h, err := netlink.NewHandleAt(side.ns)
		if err != nil {
			t.Fatal(err)
		}
		addr, _ := netlink.ParseAddr(side.addr)
		for _, name := range []string{"lo", "e"} {
			l, err := h.LinkByName(name)
			if err == nil && name == "e" {
				err = h.AddrAdd(l, addr)
			}
			if err == nil {
				err = h.LinkSetUp(l)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		h.Close()
	}
	for deadline := time.Now().Add(5 * time.Second); ; {
		l, err := netlink.LinkByName("e")
		if err != nil {
			t.Fatal(err)
		}
		if l.Attrs().OperState == netlink.OperUp {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no carrier")
		}
	}
}

func TestPing(t *testing.T) {
	lan(t)
	for _, groups := range []string{"1 0", "0 2147483647"} { // raw socket, ping socket
		// The file is that of the thread's namespace.
		if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte(groups), 0); err != nil {
			t.Fatal(err)
		}
		rtt, err := Ping(t.Context(), netip.MustParseAddr("192.0.2.2"), 5*time.Second)
		if err != nil || rtt <= 0 || rtt > 5*time.Second {
			t.Errorf("groups %s: %v, %v", groups, rtt, err)
		}
		_, err = Ping(t.Context(), netip.MustParseAddr("192.0.2.3"), 50*time.Millisecond)
		wantError(t, err, "no echo from 192.0.2.3 within 50ms")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Ping(ended, netip.MustParseAddr("192.0.2.3"), time.Hour); err == nil {
		t.Error("an ended context's ping was answered")
	}
	_, err := Ping(t.Context(), netip.MustParseAddr("2001:db8::1"), time.Second)
	wantError(t, err, "no IPv4 address")
}

func TestGateway(t *testing.T) {
	lan(t)
	there, nobody := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	g := &gateway{addr: there, ping: Ping, resolve: neighbour}
	if err := g.probe(t.Context(), 5*time.Second); err != nil || !g.pings {
		t.Errorf("a gateway that answers pings: %v", err)
	}
	// One that is known by ARP alone: the neighbour entry is from the ping above.
	mute := func(context.Context, netip.Addr, time.Duration) (time.Duration, error) {
		return 0, fmt.Errorf("no echo")
	}
	g = &gateway{addr: there, ping: mute, resolve: neighbour}
	if err := g.probe(t.Context(), time.Second); err != nil {
		t.Errorf("a gateway that answers only ARP: %v", err)
	}
	g.pings = true
	wantError(t, g.probe(t.Context(), time.Second), "no echo")
	g = &gateway{addr: nobody, ping: Ping, resolve: neighbour}
	wantError(t, g.probe(t.Context(), 50*time.Millisecond), "no answer to ARP")
}
