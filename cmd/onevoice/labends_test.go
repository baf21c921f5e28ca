package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onevoice/internal/netns"
)

// patience bounds how long a test waits for what must come.
const patience = time.Minute

// labProgram is `onevoice lab ARGS…` with a state directory of the test's own,
// by which its processes are known.
func labProgram(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if args[0] == "up" {
		// It ends with the test, however that ends.
		args = append(args, fmt.Sprintf("--with=%d", os.Getpid()))
	}
	return program(t, append([]string{"lab"}, args...)...)
}

// ownStateDir gives the test a lab of its own, and takes it down at the end.
func ownStateDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Cleanup(func() {
		for _, p := range labProcesses(t, dir) {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	})
	return dir
}

// up brings a small lab up.
func up(t *testing.T) {
	t.Helper()
	code, out := runProgram(t, labProgram(t, "up", "--nodes=2", "--clients=1", "--addresses=2"), (*exec.Cmd).Start)
	skipWithoutLab(t, out)
	if code != 0 {
		t.Fatalf("lab up: exit %d:\n%s", code, out)
	}
}

// process is one of a lab's, as the machine sees it.
type process struct {
	pid  int
	args string
}

// labProcesses are the processes with a mark in their environment.
func labProcesses(t *testing.T, mark string) (found []process) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		dir := filepath.Dir(file)
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		// A process may end while it is looked at.
		env, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(env, []byte(mark)) {
			continue
		}
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		found = append(found, process{pid, string(bytes.ReplaceAll(args, []byte{0}, []byte{' '}))})
	}
	return found
}

// only is the one process whose arguments contain a text.
func only(t *testing.T, all []process, text string) process {
	t.Helper()
	var found []process
	for _, p := range all {
		if strings.Contains(p.args, text) {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d processes with %q among %v", len(found), text, all)
	}
	return found[0]
}

// watch opens a process, so that its end can be waited for.
func (p process) watch(t *testing.T) func() {
	t.Helper()
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		t.Fatalf("pidfd_open %v: %v", p, err)
	}
	return func() {
		t.Helper()
		defer unix.Close(fd)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
		if n != 1 || err != nil {
			t.Errorf("%v has not ended: %v", p, err)
		}
	}
}

// witness lays a cable from a process's network to one of the test's own. Its
// end there disappears when the process's network namespace does.
func witness(t *testing.T, p process) func() {
	t.Helper()
	if os.Geteuid() != 0 {
		return func() {}
	}
	ours, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	theirs, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	updates, done := make(chan netlink.LinkUpdate, 16), make(chan struct{})
	t.Cleanup(func() { close(done) })
	err = ours.Do(func() error {
		veth := netlink.NewVeth(netlink.NewLinkAttrs())
		veth.Name, veth.PeerName, veth.PeerNamespace = "cable", "witness", netlink.NsFd(theirs.Fd())
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		return netlink.LinkSubscribe(updates, done)
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		deadline := time.After(patience)
		for {
			select {
			case u := <-updates:
				if u.Header.Type == unix.RTM_DELLINK {
					return
				}
			case <-deadline:
				t.Errorf("the network namespace of %v is still there", p)
				return
			}
		}
	}
}

// nothingIsLeft checks that a lab's mounts and names are nowhere on the machine.
func nothingIsLeft(t *testing.T, mark string) {
	t.Helper()
	if left := labProcesses(t, mark); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), "/run/netns/ov-") || strings.Contains(string(mounts), "/run/onevoice") {
		t.Errorf("mounts of the lab are seen outside:\n%s", mounts)
	}
	if names, _ := filepath.Glob("/run/netns/ov-*"); len(names) > 0 {
		t.Errorf("names of the lab are seen outside: %v", names)
	}
}

// However a kept lab ends, all of it ends, and the next one is not disturbed.
func TestNothingOutlivesTheSupervisor(t *testing.T) {
	for _, who := range []string{"lab init", "lab inside"} {
		t.Run("kill -9 "+who, func(t *testing.T) {
			mark := ownStateDir(t)
			up(t)
			all := labProcesses(t, mark)
			networkGone := witness(t, only(t, all, "n1/onevoice.toml"))
			var ends []func()
			for _, p := range all {
				ends = append(ends, p.watch(t))
			}
			if len(all) < 4 {
				t.Errorf("only these belong to the lab: %v", all)
			}
			if err := syscall.Kill(only(t, all, " "+who+" ").pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			for _, ended := range ends {
				ended()
			}
			networkGone()
			nothingIsLeft(t, mark)
			if code, out := runProgram(t, labProgram(t, "status"), (*exec.Cmd).Start); code != 1 || !strings.Contains(out, "no lab of yours is up") {
				t.Errorf("status: exit %d: %s", code, out)
			}
			// What the dead one has left in its directory is in nobody's way.
			up(t)
			if code, out := runProgram(t, labProgram(t, "down"), (*exec.Cmd).Start); code != 0 {
				t.Errorf("down: exit %d: %s", code, out)
			}
			nothingIsLeft(t, mark)
			if files, err := os.ReadDir(mark); err != nil || len(files) > 0 {
				t.Errorf("files are left: %v %v", files, err)
			}
		})
	}
}

// A lab that was bound to a process ends when that has ended, however it did.
func TestLabEndsWithItsProcess(t *testing.T) {
	mark := ownStateDir(t)
	bound := exec.Command("sleep", "3600")
	if err := bound.Start(); err != nil {
		t.Fatal(err)
	}
	code, out := runProgram(t, program(t, "lab", "up", "--nodes=1", "--clients=1", "--addresses=1", fmt.Sprintf("--with=%d", bound.Process.Pid)), (*exec.Cmd).Start)
	if code != 0 {
		_ = bound.Process.Kill()
		_ = bound.Wait()
		skipWithoutLab(t, out)
		t.Fatalf("lab up: exit %d:\n%s", code, out)
	}
	var ends []func()
	for _, p := range labProcesses(t, mark) {
		if !strings.HasPrefix(p.args, "sleep") {
			ends = append(ends, p.watch(t))
		}
	}
	if len(ends) < 3 {
		t.Errorf("only %d processes belong to the lab", len(ends))
	}
	_ = bound.Process.Kill()
	_ = bound.Wait()
	for _, ended := range ends {
		ended()
	}
	nothingIsLeft(t, mark)
	if code, out := runProgram(t, program(t, "lab", "up", "--with=2147483647"), (*exec.Cmd).Start); code != exitWrongUse || !strings.Contains(out, "which is no process") {
		t.Errorf("bound to nothing: exit %d: %s", code, out)
	}
}

// However the demonstration is interrupted, all of it ends.
func TestInterruptedDemonstration(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(s.String(), func(t *testing.T) {
			mark := ownStateDir(t)
			cmd := labProgram(t, "--nodes=2", "--clients=1", "--addresses=2")
			story, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			var errors bytes.Buffer
			cmd.Stderr = &errors
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(story)
			begun := false
			for !begun && lines.Scan() {
				begun = strings.Contains(lines.Text(), "log in by SSH")
			}
			if !begun {
				_ = cmd.Wait()
				skipWithoutLab(t, errors.String())
				t.Fatalf("it did not begin: %s", errors.String())
			}
			all := labProcesses(t, mark)
			networkGone := witness(t, only(t, all, "n1/onevoice.toml"))
			var ends []func()
			for _, p := range all {
				if p.pid != cmd.Process.Pid {
					ends = append(ends, p.watch(t))
				}
			}
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(story)
			if err != nil {
				t.Error(err)
			}
			// Told to end, it takes itself down; killed, it says no more.
			if told := strings.Contains(string(rest), "The daemons stop"); told != (s != syscall.SIGKILL) {
				t.Errorf("it went on like this:\n%s", rest)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("an interrupted demonstration ended with exit code 0")
			}
			for _, ended := range ends {
				ended()
			}
			networkGone()
			nothingIsLeft(t, mark)
		})
	}
}
