package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"onevoice/control"
)

// A daemon that stands still, and has no room for another connection, is no dead one.
func TestListenLeavesAStoppedDaemonItsSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	waiting, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	if _, err := net.Dial("unix", path); !errors.Is(err, unix.EAGAIN) {
		t.Fatalf("there is room: %v", err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another daemon answers") {
		t.Errorf("beside one that stands still: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("its socket: %v", err)
	}
}

// Of a gigabyte no more is read than of any request, and whoever sends it is told
// before he has sent it.
func TestARequestOfAGigabyte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	s := serve(t, path, fixed)
	defer s.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/wish HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n%s", strings.Repeat(" ", maxWishBytes+1))
	// That the connection is then broken off is no matter.
	if said, err := io.ReadAll(conn); !strings.Contains(string(said), "413 ") || !strings.Contains(string(said), "more than 4096 bytes") {
		t.Errorf("%q, %v", said, err)
	}
	if _, err := Ask(context.Background(), path, Wanted{}); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// A daemon of another version is named to whoever does not understand its answer.
func TestAnotherVersion(t *testing.T) {
	dir := t.TempDir()
	answers := func(name, version, body string, code int) string {
		path := filepath.Join(dir, name)
		l, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: versioned(version, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		}))}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { s.Close() })
		return path
	}
	ctx := context.Background()
	for _, c := range []struct {
		name, version, body string
		code                int
		says                string
	}{
		{"newer", "9.9", `{"nodes":"many"}`, 200, "that daemon is of version 9.9, and `onevoice version` tells this command's"},
		{"older", "", `{"nodes":"many"}`, 200, "that daemon is older than this command; restart it"},
		{"unknown", "0.1", "404 page not found", 404, "does not know what was asked; that daemon is of version 0.1"},
		{"long", "0.1", strings.Repeat(" ", maxAnswerBytes+1), 200, "answered with more than 67108864 bytes"},
	} {
		path := answers(c.name, c.version, c.body, c.code)
		if _, err := Ask(ctx, path, Wanted{}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	path := answers("field", "0.1", `the request cannot be read: json: unknown field "to"`, 400)
	if err := Tell(ctx, path, Wish{Do: DoDrain}); err == nil || !strings.Contains(err.Error(), `unknown field "to"; that daemon is of version 0.1`) {
		t.Errorf("a wish: %v", err)
	}
	if err := Tell(ctx, answers("none", "0.1", "404 page not found", 404), Wish{Do: DoDrain}); err == nil || !strings.Contains(err.Error(), "does not know what was asked; that daemon") {
		t.Errorf("a wish that it does not know: %v", err)
	}
	// What it has more or less does not matter.
	if s, err := Ask(ctx, answers("more", "9.9", `{"node":"n1","of_a_newer_version":[1]}`, 200), Wanted{}); err != nil || s.Node != "n1" {
		t.Errorf("%+v, %v", s, err)
	}
}

// Who asked for what is written down, and what came of it.
func TestAudit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	refuse := errors.New("the last node")
	s := Serve(l, Daemon{
		Status: fixed, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Wish: func(w Wish) error {
			if w.Do == DoDrain {
				return refuse
			}
			return nil
		},
		Kill: func(control.Kill) (int, error) { return 3, nil },
	})
	ctx, bucket := context.Background(), uint8(7)
	if err := Tell(ctx, path, Wish{Do: DoDrain, Node: "n1"}); err == nil {
		t.Error("it was not refused")
	}
	if err := Tell(ctx, path, Wish{Do: DoMove, Node: "n2", Service: "ssh", Bucket: &bucket}); err != nil {
		t.Error(err)
	}
	if err := Tell(ctx, path, Wish{Do: DoWeight, Node: "n2", Weight: 50}); err != nil {
		t.Error(err)
	}
	if n, err := EndFlows(ctx, path, control.Kill{Clients: netip.MustParsePrefix("192.0.2.0/24"), Service: "ssh"}); n != 3 || err != nil {
		t.Error(n, err)
	}
	if _, err := Ask(ctx, path, Wanted{}); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	me := fmt.Sprintf(`by="user %d, process %d (admin.test)`, os.Getuid(), os.Getpid())
	for i, want := range []string{
		`level=WARN msg="an operator's wish was refused" for=drain node=n1 ` + me,
		`level=INFO msg="an operator's wish was granted" for=move node=n2 service=ssh bucket=7 ` + me,
		`level=INFO msg="an operator's wish was granted" for=weight node=n2 weight=50 ` + me,
		`level=INFO msg="an operator's wish was granted" for=kill clients=192.0.2.0/24 port=0 service=ssh flows=3 ` + me,
	} {
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 4 || !strings.Contains(lines[i], want) {
			t.Errorf("no line %d\n%s\nin\n%s", i, want, &log)
		}
	}
}
