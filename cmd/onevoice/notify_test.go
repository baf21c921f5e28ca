package main

import (
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// systemdSocket is where systemd would listen, and the messages that came.
func systemdSocket(t *testing.T) <-chan string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	messages := make(chan string, 100)
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := l.Read(b)
			if err != nil {
				return
			}
			messages <- string(b[:n])
		}
	}()
	return messages
}

// systemd hears that the daemon has started, how it is twice in the watchdog's time,
// and nothing any more once its loop does not answer.
func TestSystemdIsTold(t *testing.T) {
	messages := systemdSocket(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	var hangs atomic.Bool
	free := make(chan struct{})
	n, err := startNotifier(func() (string, bool) {
		if hangs.Load() {
			<-free
			return "", false
		}
		return "holds a lease, 64 buckets of 256, 4 nodes in", true
	})
	if err != nil {
		t.Fatal(err)
	}
	if n.every != 10*time.Millisecond {
		t.Errorf("it tells every %v", n.every)
	}
	next := func() string {
		select {
		case m := <-messages:
			return m
		case <-time.After(patience):
			t.Fatal("nothing was told")
			return ""
		}
	}
	if m := next(); m != "READY=1" {
		t.Errorf("first it tells %q", m)
	}
	for range 3 {
		if m := next(); m != "WATCHDOG=1\nSTATUS=holds a lease, 64 buckets of 256, 4 nodes in" {
			t.Errorf("it tells %q", m)
		}
	}
	n.stopping(5 * time.Second)
	for m := ""; !strings.HasPrefix(m, "STOPPING"); {
		if m = next(); strings.HasPrefix(m, "STOPPING") && m != "STOPPING=1\nEXTEND_TIMEOUT_USEC=15000000" {
			t.Errorf("at a stop it tells %q", m)
		}
	}
	hangs.Store(true)
	close(free)
	<-n.done
	if err := n.close(); err != nil {
		t.Error(err)
	}
}

// Without systemd nothing is told, and nothing runs.
func TestWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n, err := startNotifier(func() (string, bool) { t.Error("somebody asks"); return "", false })
	if err != nil {
		t.Fatal(err)
	}
	<-n.done
	n.stopping(time.Second)
	if err := n.close(); err != nil {
		t.Error(err)
	}
}

// What cannot be is said.
func TestBadWatchdog(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "soon")
	if _, err := startNotifier(nil); err == nil || !strings.Contains(err.Error(), "WATCHDOG_USEC") {
		t.Errorf("error %v", err)
	}
}
