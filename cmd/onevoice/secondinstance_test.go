package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A second daemon that would share a VIP, the admin socket, the state directory or the
// page's port with the first does not start and says why. The first notices nothing.
func TestSecondInstance(t *testing.T) {
	p := newPair(t)
	const page = "127.0.0.1:7199"
	dir := filepath.Dir(p.file)
	text, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	good := strings.Replace(string(text), "[admin]\n", fmt.Sprintf("[admin]\nlisten = %q\n", page), 1)
	if err := os.WriteFile(p.file, []byte(good), 0o644); err != nil {
		t.Fatal(err)
	}
	first := p.start()
	first.until("answering: this node holds a lease")
	old, rules := p.session(), p.settings()

	another := filepath.Join(dir, "another.toml")
	for _, c := range []struct {
		name    string
		changes []string
		says    string
	}{
		{"the same file", nil, "another onevoice on this host already answers for " + testVIP + "; stop it first"},
		{"the same socket", []string{testVIP, "10.77.0.3"}, "another daemon answers on " + p.socket()},
		{"the same state directory", []string{testVIP, "10.77.0.3", p.socket(), filepath.Join(dir, "other.sock")}, "is in use by process"},
		{"the same page", []string{testVIP, "10.77.0.3", p.socket(), filepath.Join(dir, "other.sock"), dir + "/state", dir + "/other", "[cluster]\n", "[cluster]\ncontrol_port = 7178\n"},
			"another program has " + page + "; write another port"},
	} {
		if err := os.WriteFile(another, []byte(strings.NewReplacer(c.changes...).Replace(good)), 0o644); err != nil {
			t.Fatal(err)
		}
		code, out := runProgram(t, program(t, "run", "--config", another), p.Start)
		if code != 1 || !strings.Contains(out, c.says) {
			t.Errorf("%s: exit %d: %s; want %q", c.name, code, out, c.says)
		}
		if err := echoes(old); err != nil {
			t.Errorf("%s: a session of the first: %v", c.name, err)
		}
		p.session().Close()
		if s := p.status(); len(s.Workers) != 1 || s.Process.PID != first.cmd.Process.Pid {
			t.Errorf("%s: the first is %+v with %d workers", c.name, s.Process, len(s.Workers))
		}
		if n := p.settings(); n != rules {
			t.Errorf("%s: %d rules and routes, before %d", c.name, n, rules)
		}
	}
}
