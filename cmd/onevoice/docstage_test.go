package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"onevoice/internal/netns"
)

// packageFile is a .deb that the stage's hosts install, instead of the files that would
// be in it.
var packageFile = flag.String("package", "", "the .deb that the tutorial installs")

// stage is a LAN of hosts on which a page of the documentation is played: each host has
// namespaces of its own, a copy of this system's files, and an sshd.
type stage struct {
	t     *testing.T
	boxes map[string]*box
}

// box is one host of a stage.
type box struct {
	name string
	ns   *netns.NS
	pid  int
}

// boxes are who is on the stage: the hosts of docs/tutorial.md, and its reader's own
// machine.
func boxAddresses() map[string]string {
	return map[string]string{"unix1": "10.77.0.11", "unix2": "10.77.0.12", "unix3": "10.77.0.13", "unix4": "10.77.0.14", "you": "10.77.0.101"}
}

// newStage builds it. What it needs is root, and programs that every Debian has.
func newStage(t *testing.T) *stage {
	t.Helper()
	needTools(t, "sshd", "ssh", "scp", "ssh-keygen", "setpriv", "nsenter", "useradd", "ping", "ip")
	s := &stage{t: t, boxes: map[string]*box{}}
	hosts, byAddress := "127.0.0.1 localhost\n", map[string]*host{}
	for name, address := range boxAddresses() {
		h := newHost(t)
		s.boxes[name] = &box{name: name, ns: h.NS}
		byAddress[address] = h
		hosts += address + " " + name + "\n"
	}
	joinLAN(t, byAddress)
	dir := s.properties(hosts + "10.77.0.2 unix.example.org\n")
	for _, b := range s.boxes {
		s.build(b, dir)
	}
	return s
}

// properties is a folder with all that the hosts need: stand-ins, a key to log in with,
// and what a package has.
func (s *stage) properties(hosts string) string {
	s.t.Helper()
	dir := s.t.TempDir()
	files := []string{"testdata/stage/box.sh", "testdata/stage/apt", "testdata/stage/systemctl", "testdata/stage/journalctl"}
	files = append(files, "../../packaging/onevoice.service", "../../packaging/onevoice.sysusers", "../../packaging/postinstall.sh")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(f)), b, 0o755)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	if f := *packageFile; f != "" {
		b, err := os.ReadFile(f)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "onevoice.deb"), b, 0o644)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte(hosts), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, "login")).CombinedOutput(); err != nil {
		s.t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	return dir
}

// build gives a host its files. All its processes end with the first.
func (s *stage) build(b *box, dir string) {
	s.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(filepath.Join(dir, "box.sh"), b.name, exe, filepath.Join(dir, "hosts"))
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWPID}
	if err := b.ns.Start(cmd); err != nil {
		s.t.Fatal(err)
	}
	b.pid = cmd.Process.Pid
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	ready := fmt.Sprintf("/proc/%d/root/usr/lib/stage/program", b.pid)
	for begun := time.Now(); ; {
		select {
		case <-ended:
			s.t.Skipf("this system does not let us make a copy of it: %s", said.String())
		case <-time.After(10 * time.Millisecond):
		}
		// The first process is in its copy when it is sleep, and not the shell any more.
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", b.pid))
		if _, err := os.Stat(ready); err == nil && string(name) == "sleep\n" {
			return
		}
		if time.Since(begun) > time.Minute {
			s.t.Fatalf("the host %s is not there after a minute: %s", b.name, said.String())
		}
	}
}

// commandPatience is how long one command may take.
const commandPatience = 5 * time.Minute

// on runs a line of shell on a host, as root, and returns what it wrote.
func (s *stage) on(name, line, input string) (int, string) {
	s.t.Helper()
	b := s.boxes[name]
	if b == nil {
		s.t.Fatalf("there is no host %s on the stage", name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "--target", fmt.Sprint(b.pid), "--mount", "--uts", "--pid", "--net", "--root", "--wd", "/bin/sh", "-c", line)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "NO_COLOR=1", "LANG=C.UTF-8", "TERM=dumb"}
	cmd.Stdin = strings.NewReader(input)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		return failed.ExitCode(), out.String()
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		s.t.Fatalf("%s# %s: %v", name, line, err)
	}
	return 0, out.String()
}
