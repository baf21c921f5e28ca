package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"onevoice/admin"
	"onevoice/control"
)

// upgrade asks the node for an upgrade or a reload, and again where a starved machine
// was too slow for it.
func (p *pair) upgrade(args ...string) (code int, out string) {
	p.t.Helper()
	for range 10 {
		code, out = runProgram(p.t, program(p.t, append(args, "--socket", p.socket())...), (*exec.Cmd).Start)
		if !strings.Contains(out, "has not said") && !strings.Contains(out, "does not let go") {
			break
		}
		p.t.Log(out)
	}
	return code, out
}

// An upgrade costs no session, and what is new is served by the new process.
func TestUpgradeCostsNoSession(t *testing.T) {
	p := newPair(t)
	before := p.settings()
	c := p.start()
	c.until("answering: this node holds a lease")
	var sessions []net.Conn
	epoch := p.status().Nodes[0].Epoch
	for round := range 3 {
		sessions = append(sessions, p.session())
		code, out := p.upgrade("upgrade")
		if code != 0 || !strings.Contains(out, "upgraded from") {
			t.Fatalf("round %d: exit %d: %s", round, code, out)
		}
		for i, s := range sessions {
			if err := echoes(s); err != nil {
				t.Fatalf("round %d: session %d: %v", round, i, err)
			}
		}
		if s := p.status(); len(s.Workers) < round+2 || s.Workers[0].Retired || s.Process.PID == c.cmd.Process.Pid || len(s.Warnings) > 0 || !strings.Contains(strings.Join(s.News, "\n"), fmt.Sprintf("%d flow", round+1)) {
			t.Errorf("round %d: process %d, workers %+v, warnings %q, news %q", round, s.Process.PID, s.Workers, s.Warnings, s.News)
		}
		// It serves under the epoch before until the log has the new one.
		for begun, was := time.Now(), epoch; epoch <= was; epoch = p.status().Nodes[0].Epoch {
			if time.Since(begun) > patience {
				t.Fatalf("round %d: the epoch is %d, and was %d before", round, epoch, was)
			}
		}
	}
	for _, s := range sessions {
		s.Close()
	}
	if state := c.end(15); !state.Success() {
		t.Errorf("stop: %v:\n%s", state, strings.Join(c.log, "\n"))
	}
	c.untilAllEnd()
	if left := p.workersLeft(); len(left) > 0 || p.settings() != before {
		t.Errorf("workers %v are left, and %d rules and routes, before %d", left, p.settings(), before)
	}
}

// installed is the program at a path of its own, where another can take its place.
func installed(t *testing.T) string {
	t.Helper()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "onevoice")
	install(t, path, func(at string) error { return os.Link(self, at) })
	return path
}

// install puts a program at a path as a package manager does: by a rename.
func install(t *testing.T, path string, write func(at string) error) {
	t.Helper()
	if err := write(path + ".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// startInstalled starts the program at a path.
func (p *pair) startInstalled(path string) *controlProcess {
	p.t.Helper()
	cmd := program(p.t, "run", "--config", p.file)
	cmd.Path = path
	return p.startAs(cmd)
}

// script is a program that is no onevoice.
func script(text string) func(string) error {
	return func(at string) error { return os.WriteFile(at, []byte("#!/bin/sh\n"+text+"\n"), 0o755) }
}

// A program that cannot take over changes nothing: the old one serves on, and says why.
func TestUpgradeToWhatDoesNotServe(t *testing.T) {
	p, path := newPair(t), installed(t)
	// A daemon that runs no programs of others would not run these scripts either.
	p.configure("check = \"exec:/bin/true\"\n")
	c := p.startInstalled(path)
	c.until("answering: this node holds a lease")
	old := p.session()
	for _, one := range []struct {
		name, says string
		install    func(string) error
	}{
		{"ends at once", "the new process ended (exit status 3)", script("exit 3")},
		{"says something else", "says what makes no sense", script("echo hello >&3; exec sleep 60")},
		{"does not listen", "does not listen; it is no onevoice", script("exec 3>&-; exec sleep 60")},
		{"no program", "exec format error", func(at string) error { return os.WriteFile(at, []byte("nothing"), 0o755) }},
		{"not there", "no such file", os.Remove},
	} {
		if one.name == "not there" {
			_ = os.Remove(path)
		} else {
			install(t, path, one.install)
		}
		code, out := p.upgrade("upgrade")
		if code != 1 || !strings.Contains(out, "nothing was changed: ") || !strings.Contains(out, one.says) {
			t.Errorf("%s: exit %d, want %q:\n%s", one.name, code, one.says, out)
		}
		if err := echoes(old); err != nil {
			t.Fatalf("%s: %v", one.name, err)
		}
		p.session().Close()
		if s := p.status(); s.Process.PID != c.cmd.Process.Pid || len(s.Workers) != 1 {
			t.Errorf("%s: process %d with workers %+v", one.name, s.Process.PID, s.Workers)
		}
	}
	if state := c.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("stop: %v", state)
	}
	c.untilAllEnd()
}

// A new process that fails when it was handed everything gives it back: the old one
// serves again, and no session has ended.
func TestUpgradeThatFailsLate(t *testing.T) {
	p := newPair(t)
	c := p.start()
	c.until("answering: this node holds a lease")
	old := p.session()
	var taken net.Listener
	err := p.Do(func() (err error) {
		taken, err = net.Listen("tcp4", "127.0.0.1:7177")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	p.rewrite(strings.Replace(string(good), "[admin]\n", "[admin]\nlisten = \"127.0.0.1:7177\"\n", 1))
	for range 2 {
		code, out := p.upgrade("reload")
		if code != 1 || !strings.Contains(out, "another program has 127.0.0.1:7177") || !strings.Contains(out, "the process before it serves again") {
			t.Fatalf("exit %d: %s", code, out)
		}
		if err := echoes(old); err != nil {
			t.Fatal(err)
		}
		p.session().Close()
	}
	if s := p.status(); s.Process.PID != c.cmd.Process.Pid {
		t.Errorf("process %d serves, and %d did", s.Process.PID, c.cmd.Process.Pid)
	}
	taken.Close()
	if code, out := p.upgrade("reload"); code != 0 || !strings.Contains(out, `admin.listen is new: "127.0.0.1:7177"`) {
		t.Errorf("exit %d: %s", code, out)
	}
	if err := echoes(old); err != nil {
		t.Fatal(err)
	}
	if state := c.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("stop: %v:\n%s", state, strings.Join(c.log, "\n"))
	}
	c.untilAllEnd()
}

// rewrite writes the node's file anew.
func (p *pair) rewrite(text string) {
	p.t.Helper()
	if err := os.WriteFile(p.file, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// A reload takes what is sound, says what has changed, and keeps the old file where the
// new one is not.
func TestReload(t *testing.T) {
	p := newPair(t)
	c := p.start()
	c.until("answering: this node holds a lease")
	old := p.session()
	read, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	good := string(read)
	p.echo("127.0.0.1:7001")
	other := good + "[[service]]\nname = \"other\"\nlisten = \"" + testVIP + ":8\"\nbackend = \"127.0.0.1:7001\"\n"
	for _, one := range []struct {
		name, file string
		code       int
		says       []string
	}{
		{"the same", good, 0, []string{"nothing has changed in the file; nothing was done"}},
		{"a fault", good + "[[service]]\nnam = 1\n", 1, []string{"nothing was changed: ", "service[1].nam: there is no such key"}},
		{"another cluster", strings.Replace(good, `"pair"`, `"pear"`, 1), 1, []string{`cluster.name is "pear" and was "pair"`, "stop onevoice here"}},
		{"another state", strings.Replace(good, "/state", "/states", 1), 1, []string{"node.state_dir is"}},
		{"another mac_mode", strings.Replace(good, "[[vip]]\n", "[[vip]]\nmac_mode = \"unicast\"\n", 1), 1, []string{`nothing was changed: mac_mode of VIP 10.77.0.2 is "unicast" and was "multicast"`, "write it on all nodes"}},
		{"another VIP", strings.ReplaceAll(good, testVIP, "10.77.0.3"), 1, []string{"VIP 10.77.0.2 has to be the first"}},
		{"another service", other, 0, []string{"reloaded in", `service other.backend is new: "127.0.0.1:7001"`, "1 old worker serves"}},
		{"another backend", strings.Replace(other, `"127.0.0.1:7000"`, `"127.0.0.1:7001"`, 1), 0, []string{`service echo.backend is "127.0.0.1:7001", was "127.0.0.1:7000"`}},
		{"one service less", good, 0, []string{`service other.listen is gone; it was "10.77.0.2:8"`}},
	} {
		p.rewrite(one.file)
		code, out := p.upgrade("reload")
		for _, says := range one.says {
			if code != one.code || !strings.Contains(out, says) {
				t.Errorf("%s: exit %d, want %d with %q:\n%s", one.name, code, one.code, says, out)
			}
		}
		if err := echoes(old); err != nil {
			t.Fatalf("%s: %v", one.name, err)
		}
		p.session()
	}
	// A signal does the same, to whoever the first process stands for.
	p.rewrite(other + "nam = 1\n")
	if err := c.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	c.until("the file was not taken")
	p.rewrite(other)
	if err := c.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	c.until("this process has taken over")
	if err := echoes(old); err != nil {
		t.Fatal(err)
	}
	if state := c.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("stop: %v:\n%s", state, strings.Join(c.log, "\n"))
	}
	c.untilAllEnd()
}

// Whoever is killed in the midst of an upgrade: no session ends, and the node serves
// again, at the next start at the latest.
func TestKilledInTheMidstOfAnUpgrade(t *testing.T) {
	p := newPair(t)
	c := p.start()
	c.until("answering: this node holds a lease")
	old := p.session()
	for _, at := range []string{"a new process prepares", "is ready and takes over"} {
		for _, whom := range []string{"old", "new"} {
			asked := make(chan struct{})
			go func() {
				defer close(asked)
				// What it says is as it comes: whom it asks may be gone.
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				_, _ = admin.BeginChange(ctx, p.socket(), admin.Change{Do: admin.DoUpgrade})
			}()
			successor := pidOf(t, c.until(at))
			if whom == "old" {
				c.end(syscall.SIGKILL)
			} else if err := syscall.Kill(successor, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			<-asked
			if whom == "new" {
				if line, _ := c.either("the change has failed", "this process has taken over"); !strings.Contains(line, "failed") {
					// It was too late to be given back: the first process ends with it.
					_, _ = c.cmd.Process.Wait()
					whom = "old"
				}
			}
			if whom == "old" {
				c = p.startAgain()
			}
			if err := echoes(old); err != nil {
				t.Fatalf("%s killed at %q: %v", whom, at, err)
			}
			p.session().Close()
		}
	}
	if state := c.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("stop: %v:\n%s", state, strings.Join(c.log, "\n"))
	}
	c.untilAllEnd()
}

// Two upgrades, and then the first of the three processes is killed: both after it end, and
// whoever has started it can start the node again.
func TestFirstOfThreeIsKilled(t *testing.T) {
	p := newPair(t)
	c := p.start()
	c.until("answering: this node holds a lease")
	old := p.session()
	for range 2 {
		if code, out := p.upgrade("upgrade"); code != 0 {
			t.Fatalf("exit %d: %s", code, out)
		}
	}
	c.end(syscall.SIGKILL)
	c = p.startAgain()
	if err := echoes(old); err != nil {
		t.Fatal(err)
	}
	if state := c.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("stop: %v:\n%s", state, strings.Join(c.log, "\n"))
	}
	c.untilAllEnd()
}

// pidOf is the process that a line of the log names.
func pidOf(t *testing.T, line string) (pid int) {
	t.Helper()
	_, after, _ := strings.Cut(line, "pid=")
	if _, err := fmt.Sscan(after, &pid); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return pid
}

// startAgain starts the node as often as it takes until those before it are gone.
func (p *pair) startAgain() *controlProcess {
	p.t.Helper()
	for range 100 {
		c := p.start()
		if _, ok := c.either("answering: this node holds a lease"); ok {
			return c
		}
		if _, err := c.cmd.Process.Wait(); err != nil {
			p.t.Fatal(err)
		}
	}
	p.t.Fatal("the node does not start again")
	return nil
}

// either waits for a line of the log with one of the texts, and reports whether there
// was one before the log's end.
func (c *controlProcess) either(texts ...string) (string, bool) {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line, ok := <-c.lines:
			if !ok {
				return "", false
			}
			c.log = append(c.log, line)
			if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(line, text) }) {
				return line, true
			}
		case <-deadline:
			c.t.Fatalf("none of %q in the log:\n%s", texts, strings.Join(c.log, "\n"))
		}
	}
}

// Under systemd the new process is the service's main one, and the old one ends.
func TestUpgradeUnderSystemd(t *testing.T) {
	messages := systemdSocket(t)
	p := newPair(t)
	c := p.start()
	c.until("answering: this node holds a lease")
	old := p.session()
	if code, out := p.upgrade("upgrade"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	if state, err := c.cmd.Process.Wait(); err != nil || !state.Success() {
		t.Errorf("the old process: %v, %v", state, err)
	}
	next := p.status().Process.PID
	until := func(text string) {
		t.Helper()
		for late := time.After(patience); ; {
			select {
			case m := <-messages:
				if strings.HasPrefix(m, text) {
					return
				}
			case <-late:
				t.Fatalf("systemd was never told %q", text)
			}
		}
	}
	until(fmt.Sprintf("MAINPID=%d", next))
	until("READY=1")
	until("WATCHDOG=1")
	if err := echoes(old); err != nil {
		t.Error(err)
	}
	old.Close()
	if err := syscall.Kill(next, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until("STOPPING=1")
	c.untilAllEnd()
}

// Old workers are bounded: at the bound an upgrade is refused, and changes nothing.
func TestOldWorkersAreBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	p := newPair(t)
	c := p.start()
	c.until("answering: this node holds a lease")
	var sessions []net.Conn
	code, out := 0, ""
	for i := 0; i <= control.MaxRetired && code == 0; i++ {
		sessions = append(sessions, p.session())
		code, out = p.upgrade("upgrade")
	}
	if want := fmt.Sprintf("%d old workers still serve flows, and no more than %[1]d may", control.MaxRetired); code != 1 || !strings.Contains(out, want) {
		t.Errorf("exit %d, want %q: %s", code, want, out)
	}
	if s := p.status(); len(s.Workers) != control.MaxRetired+1 || s.Workers[0].Retired {
		t.Errorf("%d workers", len(s.Workers))
	}
	for i, s := range sessions {
		if err := echoes(s); err != nil {
			t.Errorf("session %d: %v", i, err)
		}
		s.Close()
	}
	if state := c.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("stop: %v", state)
	}
	c.untilAllEnd()
}
