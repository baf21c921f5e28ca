package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func serve(t *testing.T, path string, status func(Wanted) (*Status, error)) *Server {
	t.Helper()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	return Serve(l, Daemon{Status: status})
}

func fixed(want Wanted) (*Status, error) {
	s := &Status{Node: "n1", Verdicts: map[string]uint64{"deliver-syn": 3}}
	if want.Table {
		s.Table = map[string][]string{"vip": {"10.77.0.11"}}
	}
	return s, nil
}

func TestStatusComesThroughTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "sock")
	s := serve(t, path, fixed)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v", info.Mode(), err)
	}
	got, err := Ask(context.Background(), path, Wanted{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Node != "n1" || got.Verdicts["deliver-syn"] != 3 || got.Table != nil || got.Process.PID != os.Getpid() || got.Process.HeapBytesAfterGC != 0 {
		t.Errorf("%+v", got)
	}
	got, err = Ask(context.Background(), path, Wanted{Table: true, Collect: true})
	if err != nil || got.Table["vip"][0] != "10.77.0.11" || got.Process.HeapBytesAfterGC == 0 || got.Process.FDs < 3 || got.Process.Goroutines < 2 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close the socket is still there: %v", err)
	}
	if _, err := Ask(context.Background(), path, Wanted{}); err == nil || !strings.Contains(err.Error(), "no daemon answers") {
		t.Errorf("asking nobody: %v", err)
	}
}

func TestListenReplacesOnlyADeadDaemonsSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	alive := serve(t, path, fixed)
	defer alive.Close()
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another daemon answers") {
		t.Errorf("beside one that answers: %v", err)
	}
	for name, to := range map[string]string{"link": path, "dangling": filepath.Join(dir, "nowhere")} {
		link := filepath.Join(dir, name)
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(link); err == nil || !strings.Contains(err.Error(), "is a symbolic link; set [admin] socket to where it leads") {
			t.Errorf("over a link: %v", err)
		}
		if now, err := os.Readlink(link); err != nil || now != to {
			t.Errorf("the link leads to %s, %v", now, err)
		}
	}
	if _, err := Ask(context.Background(), path, Wanted{}); err != nil {
		t.Errorf("who was there first: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("over a file: %v", err)
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("the file was lost")
	}
}

func TestBadRequestsAreAnswered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	s := serve(t, path, func(Wanted) (*Status, error) { return nil, errors.New("the daemon is stopping") })
	defer s.Close()
	if _, err := Ask(context.Background(), path, Wanted{}); err == nil || !strings.Contains(err.Error(), "the daemon is stopping") {
		t.Errorf("a source that cannot answer: %v", err)
	}
	for _, c := range []struct{ name, request, want string }{
		{"another path", "GET /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		{"another method", "POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "405"},
		{"no HTTP", "hello\r\n\r\n", "400"},
		{"headers without end", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 2*maxHeaderBytes) + "\r\n", "431"},
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, c.request)
		b := make([]byte, 64)
		n, _ := conn.Read(b)
		conn.Close()
		if !strings.Contains(string(b[:n]), c.want) {
			t.Errorf("%s: %q, want %s", c.name, b[:n], c.want)
		}
	}
}

// A daemon that hangs is not waited for without end.
func TestASilentDaemonIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := Ask(ctx, path, Wanted{}); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("asked: %v", err)
	}
	if err := Tell(ctx, path, Wish{Do: DoDrain, Node: "n1"}); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("told: %v", err)
	}
}
