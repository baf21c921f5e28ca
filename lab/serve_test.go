package lab

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// serveLAN serves a LAN without daemons, in a state directory of the test's own.
func serveLAN(t *testing.T) {
	t.Helper()
	l := &Lab{LAN: buildLAN(t, Spec{Nodes: 1, Clients: 1, Addresses: 1, LAN: Hub}), SSH: &SSH{}}
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	place, err := OpenStateDir()
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- l.Serve(context.Background(), place.Listener) }()
	t.Cleanup(func() {
		if _, err := Call(Request{Verb: "down"}); err != nil && !errors.Is(err, errNoLab) {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		place.dir.Close()
	})
}

// stillServes asks for the status.
func stillServes(t *testing.T) {
	t.Helper()
	resp, err := Call(Request{Verb: "status"})
	if err != nil || len(resp.Status.Hosts) != 2 {
		t.Fatalf("status: %+v %v", resp, err)
	}
}

// pipe is a pair of files.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func TestCommandsAreBounded(t *testing.T) {
	serveLAN(t)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	told, tell := pipe(t)
	input, hold := pipe(t)
	var running sync.WaitGroup
	for range MaxCommands {
		running.Go(func() {
			code, err := Exec("ov-client1", []string{"sh", "-c", "echo; cat"}, [...]*os.File{input, tell, null}, nil)
			if code != 0 || err != nil {
				t.Errorf("a command within the bound: exit %d, %v", code, err)
			}
		})
	}
	if _, err := io.ReadFull(told, make([]byte, MaxCommands)); err != nil {
		t.Fatal(err)
	}
	if _, err := Exec("ov-client1", []string{"true"}, [...]*os.File{null, null, null}, nil); err == nil || !strings.Contains(err.Error(), "64 commands are running") {
		t.Errorf("one more: %v", err)
	}
	stillServes(t)
	hold.Close()
	running.Wait()
	if code, err := Exec("ov-client1", []string{"true"}, [...]*os.File{null, null, null}, nil); code != 0 || err != nil {
		t.Errorf("after they have ended: exit %d, %v", code, err)
	}
}

// What is no request gets one sentence or nothing, and disturbs nobody.
func TestBadRequests(t *testing.T) {
	serveLAN(t)
	framed := func(size int, text string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(size)), text...)
	}
	whole := func(text string) []byte { return framed(len(text), text) }
	for _, c := range []struct {
		name string
		sent []byte
		says string
	}{
		{"nothing", nil, ""},
		{"half a length", []byte{0, 0}, ""},
		{"a length alone", framed(10, ""), ""},
		{"half of it", framed(10, "{"), "EOF"},
		{"too long", framed(maxRequestBytes+1, "{"), "1048577 bytes; 1048576 is the most"},
		{"no JSON", whole("abc"), "invalid character"},
		{"an unknown verb", whole(`{"verb":"reboot"}`), `does not know "reboot"`},
		{"an exec without files", whole(`{"verb":"exec","host":"ov-n1","argv":["true"]}`), "no command to run"},
		{"no such node", whole(`{"verb":"kill","host":"n777"}`), `there is no node "n777"`},
		{"a daemon on a client", whole(`{"verb":"start","host":"ov-client1"}`), `there is no node "ov-client1"`},
	} {
		conn, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(c.sent); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(conn.CloseWrite(), conn.SetReadDeadline(time.Now().Add(patience))); err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(conn)
		// What the lab has not read when it closes is a reset, behind the answer.
		if err != nil && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("%s: %v", c.name, err)
		}
		var resp Response
		if len(text) > 0 {
			if err := json.Unmarshal(text, &resp); err != nil || resp.Error == "" {
				t.Errorf("%s: %q %v", c.name, text, err)
			}
		}
		if !strings.Contains(resp.Error, c.says) {
			t.Errorf("%s: %q does not say %q", c.name, resp.Error, c.says)
		}
		conn.Close()
	}
	stillServes(t)
	if err := send(nil, &Request{Argv: []string{strings.Repeat("x", maxRequestBytes)}}, nil); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a command beyond the bound: %v", err)
	}
}

// More files than an exec has are closed, not kept.
func TestFilesOfABadRequestAreClosed(t *testing.T) {
	serveLAN(t)
	r, w := pipe(t)
	conn, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := send(conn, &Request{Verb: "status"}, []*os.File{w, w, w}); err != nil {
		t.Fatal(err)
	}
	if _, err := answer(conn); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("somebody still has the files: %v", err)
	}
}

func TestStateDirIsOnesOwn(t *testing.T) {
	runtime := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", runtime)
	if _, err := Call(Request{Verb: "status"}); err != errNoLab {
		t.Errorf("without a directory: %v", err)
	}
	place, err := OpenStateDir()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(StateDir())
	if err != nil || info.Mode().Perm() != 0o700 || filepath.Dir(StateDir()) != runtime {
		t.Errorf("%s: %v %v", StateDir(), info.Mode(), err)
	}
	if _, err := OpenStateDir(); err != errStarting {
		t.Errorf("a second one at the same time: %v", err)
	}
	if err := RemoveStateDir(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socketPath()); err != nil {
		t.Errorf("the directory of a lab that comes up was removed: %v", err)
	}
	// The command that came up is done, the lab lives on in another process.
	lab, err := place.Listener.File()
	if err != nil {
		t.Fatal(err)
	}
	if err := place.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStateDir(); err == nil || !strings.Contains(err.Error(), "already up") {
		t.Errorf("a second one: %v", err)
	}
	if err := RemoveStateDir(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socketPath()); err != nil {
		t.Errorf("the directory of a living lab was removed: %v", err)
	}
	// It died; what it left is replaced.
	lab.Close()
	if _, err := Call(Request{Verb: "status"}); err != errNoLab {
		t.Errorf("after its death: %v", err)
	}
	again, err := OpenStateDir()
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if err := RemoveStateDir(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(runtime); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

// A directory that others can write in could have anybody's socket.
func TestStateDirOfOthersIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(string) error{
		"open to others": func(dir string) error { return os.Chmod(dir, 0o770) },
		"a link": func(dir string) error {
			other := t.TempDir()
			return errors.Join(os.Rename(dir, filepath.Join(other, "lab")), os.Symlink(filepath.Join(other, "lab"), dir))
		},
		"somebody else's": func(dir string) error {
			if os.Geteuid() != 0 {
				return os.Chmod(dir, 0o777)
			}
			return os.Chown(dir, 12345, 12345)
		},
	} {
		t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
		place, err := OpenStateDir()
		if err != nil {
			t.Fatal(err)
		}
		if err := spoil(StateDir()); err != nil {
			t.Fatal(err)
		}
		if _, err := Call(Request{Verb: "status"}); err != errNoLab {
			t.Errorf("%s: status: %v", name, err)
		}
		place.Listener.Close()
		place.dir.Close()
		if _, err := OpenStateDir(); err == nil || !strings.Contains(err.Error(), "so no lab can be kept there; remove it") {
			t.Errorf("%s: up: %v", name, err)
		}
		if err := RemoveStateDir(); err == nil {
			t.Errorf("%s: it was removed", name)
		}
	}
	// A runtime directory of somebody else's, as sudo may leave it, is not used.
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(t.TempDir(), "none"))
	if !strings.HasPrefix(StateDir(), os.TempDir()) {
		t.Errorf("the state directory is %s", StateDir())
	}
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(t.TempDir(), strings.Repeat("x", 100)))
	if err := os.Mkdir(os.Getenv("XDG_RUNTIME_DIR"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStateDir(); err == nil || !strings.Contains(err.Error(), "too long for the name of a socket") {
		t.Errorf("a long name: %v", err)
	}
}

// Serve ends with its context, too, and takes no more requests then.
func TestServeEndsWithItsContext(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	place, err := OpenStateDir()
	if err != nil {
		t.Fatal(err)
	}
	defer place.dir.Close()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- new(Lab).Serve(ctx, place.Listener) }()
	cancel()
	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("it serves on")
	}
	if c, err := net.Dial("unix", socketPath()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a connection after the end: %v %v", c, err)
	}
}
