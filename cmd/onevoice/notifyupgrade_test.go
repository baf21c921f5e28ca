package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/admin/web"
)

// told is a message to systemd, and who has sent it.
type told struct {
	from int
	text string
}

// notifySocket is where systemd would listen for a daemon. It asks the kernel who has
// sent each message, as systemd does.
func notifySocket(t *testing.T) (path string, messages <-chan told) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) }); err != nil {
		t.Fatal(err)
	}
	// More than come in a test: who tells systemd waits while it does not listen.
	out := make(chan told, 100_000)
	go func() {
		b, rights := make([]byte, 4096), make([]byte, 256)
		for {
			n, rn, _, _, err := l.ReadMsgUnix(b, rights)
			if err != nil {
				return
			}
			one := told{text: string(b[:n])}
			if all, err := unix.ParseSocketControlMessage(rights[:rn]); err == nil && len(all) == 1 {
				if who, err := unix.ParseUnixCredentials(&all[0]); err == nil {
					one.from = int(who.Pid)
				}
			}
			out <- one
		}
	}()
	return path, out
}

// Over an upgrade systemd hears from the old process which one is the service's main one
// from now on, and then from that one that it is ready and turns, as often as the watchdog
// wants it; the old one ends, and the session goes on. So does what the page has seen.
func TestSystemdFollowsAnUpgrade(t *testing.T) {
	p := newPair(t)
	read, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	p.rewrite(strings.Replace(string(read), "[admin]\n", "[admin]\nlisten = \"127.0.0.1:7177\"\n", 1))
	path, messages := notifySocket(t)
	// systemd names the process whose watchdog it is.
	cmd := program(t, "run", "--config", p.file)
	cmd.Args = append([]string{"sh", "-c", `WATCHDOG_PID=$$ exec "$0" "$@"`, installed(t)}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=40000")
	c := p.startAs(cmd)
	heard := func(from int, start string) string {
		t.Helper()
		deadline := time.After(patience)
		for {
			select {
			case m := <-messages:
				if m.from == from && strings.HasPrefix(m.text, start) {
					return m.text
				}
				if !strings.HasPrefix(m.text, "WATCHDOG=1") {
					t.Fatalf("process %d has said %q; waiting for %s of %d", m.from, m.text, start, from)
				}
			case <-deadline:
				t.Fatalf("process %d has not said %s", from, start)
			}
		}
	}
	first := cmd.Process.Pid
	heard(first, "READY=1")
	heard(first, "WATCHDOG=1\nSTATUS=")
	c.until("answering: this node holds a lease")
	s := p.session()
	begun := p.history().Samples[0]
	if code, out := p.upgrade("upgrade"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	next := p.status().Process.PID
	if next == first {
		t.Fatal("the same process answers")
	}
	if m := heard(first, "MAINPID="); m != fmt.Sprintf("MAINPID=%d", next) {
		t.Errorf("it says %q, and process %d answers", m, next)
	}
	heard(next, "READY=1")
	// Without the watchdog's word these would take longer than anybody waits.
	for began, n := time.Now(), 0; n <= 2*int(patience/notifyEvery); n++ {
		if heard(next, "WATCHDOG=1\nSTATUS="); time.Since(began) > patience {
			t.Fatalf("process %d tells of itself %d times in %v", next, n, patience)
		}
	}
	if state, err := cmd.Process.Wait(); err != nil || !state.Success() {
		t.Errorf("the process before ended with %v, %v", state, err)
	}
	if err := echoes(s); err != nil {
		t.Error(err)
	}
	h := p.history()
	if h.Samples[0].At != begun.At || !strings.Contains(fmt.Sprint(h.Events), "has taken over") {
		t.Errorf("the page remembers %+v; before the upgrade it had %+v first", h, begun)
	}
	s.Close()
	if err := syscall.Kill(next, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	heard(next, "STOPPING=1\nEXTEND_TIMEOUT_USEC=")
	c.untilAllEnd()
}

// history is what the node's page remembers.
func (p *pair) history() (r web.Recent) {
	p.t.Helper()
	err := p.Do(func() error {
		conn, err := net.DialTimeout("tcp", "127.0.0.1:7177", patience)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /v1/history HTTP/1.0\r\nHost: 127.0.0.1:7177\r\n\r\n"); err != nil {
			return err
		}
		text, err := io.ReadAll(conn)
		if err != nil {
			return err
		}
		_, body, _ := strings.Cut(string(text), "\r\n\r\n")
		return json.Unmarshal([]byte(body), &r)
	})
	if err != nil || len(r.Samples) == 0 {
		p.t.Fatalf("%v, %+v", err, r)
	}
	return r
}
