package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"onevoice/admin"
	"onevoice/lab"
)

// skipWithoutLab skips where the machine does not let us make namespaces.
func skipWithoutLab(t *testing.T, out string) {
	t.Helper()
	if strings.Contains(out, "does not let ordinary users make namespaces") {
		t.Skip("needs root or user namespaces")
	}
}

// newLab starts a lab of its own, which ends with the test.
func newLab(t *testing.T, flags ...string) {
	t.Helper()
	ownStateDir(t)
	code, out := runProgram(t, labProgram(t, append([]string{"up"}, flags...)...), (*exec.Cmd).Start)
	skipWithoutLab(t, out)
	if code != 0 {
		t.Fatalf("lab up: exit %d:\n%s", code, out)
	}
	t.Cleanup(func() { runProgram(t, labProgram(t, "down"), (*exec.Cmd).Start) })
}

// labStatus is what a node of the lab says of itself.
func labStatus(t *testing.T, node string) (s admin.Status) {
	t.Helper()
	code, out := runProgram(t, labProgram(t, "exec", node, "--", "onevoice", "status", "--json"), (*exec.Cmd).Start)
	if err := json.Unmarshal([]byte(out), &s); code != 0 || err != nil {
		t.Fatalf("status: exit %d, %v: %s", code, err, out)
	}
	return s
}

// The demonstration, small: every claim holds.
func TestDemonstration(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	for _, kind := range []string{"hub", "switch"} {
		t.Run(kind, func(t *testing.T) {
			// They wait for most of their time, and calm leases outlast a busy processor.
			t.Parallel()
			code, out := runProgram(t, program(t, "lab", "--nodes=3", "--clients=2", "--addresses=4", "--timing=calm", "--lan="+kind), (*exec.Cmd).Start)
			skipWithoutLab(t, out)
			if code != 0 || !strings.Contains(out, "Every claim held.") {
				t.Errorf("exit %d\n%s", code, out)
			}
			for _, line := range strings.Split(out, "\n") {
				if len(line) > 80 && !strings.HasPrefix(line, "  NO") {
					t.Errorf("%d columns: %s", len(line), line)
				}
			}
		})
	}
}

// A rolling restart: no login fails, no session is broken.
func TestRollingRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	code, out := runProgram(t, program(t, "lab", "rolling", "--nodes=4", "--clients=4", "--addresses=8"), (*exec.Cmd).Start)
	skipWithoutLab(t, out)
	if code != 0 || !strings.Contains(out, "Every claim held.") || strings.Count(out, "is restarted") != 4 {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// A short torture, with a report.
func TestTorture(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	report := filepath.Join(t.TempDir(), "report.json")
	code, out := runProgram(t, program(t, "lab", "torture", "--short", "--nodes=3", "--clients=2", "--addresses=4", "--ssh=2", "--tcp=10", "--report", report), (*exec.Cmd).Start)
	skipWithoutLab(t, out)
	if code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	}
	var r lab.TortureResult
	text, err := os.ReadFile(report)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil || r.Flows != 12 || len(r.Rounds) != 9 || r.FloodSYNs == 0 || r.Kinds[lab.TortureStall].Rounds != 2 || r.Broken != 0 {
		t.Errorf("%v\n%s", err, text)
	}
	for _, line := range strings.Split(out, "\n") {
		if len(line) > 80 && !strings.Contains(line, report) && code == 0 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}

// A lab that is kept: its commands do what they say, and nothing is left.
func TestLabIsKeptAndTakenDown(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	call := func(want int, args ...string) string {
		t.Helper()
		code, out := runProgram(t, program(t, append([]string{"lab"}, args...)...), (*exec.Cmd).Start)
		skipWithoutLab(t, out)
		if code != want {
			t.Errorf("lab %v: exit %d, want %d:\n%s", args, code, want, out)
		}
		return out
	}
	if out := call(1, "status"); !strings.Contains(out, "no lab of yours is up") {
		t.Errorf("status before: %s", out)
	}
	call(0, "up", "--nodes=2", "--clients=1", "--addresses=2")
	if out := call(1, "up"); !strings.Contains(out, "already up") {
		t.Errorf("a second one: %s", out)
	}
	if out := call(7, "exec", "ov-client1", "--", "sh", "-c", "echo here; exit 7"); out != "here\n" {
		t.Errorf("exec printed %q", out)
	}
	if out := call(0, "exec", "ov-n2", "--", "onevoice", "status"); !strings.Contains(out, "n2 of cluster lab") {
		t.Errorf("status of a node:\n%s", out)
	}
	if out := call(1, "exec", "ov-n9", "--", "true"); !strings.Contains(out, "there is no host") {
		t.Errorf("exec on nobody: %s", out)
	}
	running := func() (n int) {
		var s lab.Status
		if err := json.Unmarshal([]byte(call(0, "status", "--json")), &s); err != nil {
			t.Fatal(err)
		}
		for _, h := range s.Hosts {
			if h.Daemon != nil && h.Daemon.Running {
				n++
			}
		}
		return n
	}
	for _, step := range []struct {
		args string
		want int
	}{
		{"kill n1", 1}, {"start n1", 2}, {"stop n1", 1}, {"start n1", 2}, {"kill all", 0}, {"start all", 2},
		{"stall n1 --for 100ms", 2}, {"heal", 2},
	} {
		call(0, strings.Fields(step.args)...)
		if got := running(); got != step.want {
			t.Errorf("after %s: %d daemons run, want %d", step.args, got, step.want)
		}
	}
	cutCables(t, call)
	if out := call(1, "start", "n1"); !strings.Contains(out, "the daemon of n1 is running already") {
		t.Errorf("start twice: %s", out)
	}
	call(0, "down")
	if out := call(1, "status"); !strings.Contains(out, "no lab of yours is up") {
		t.Errorf("status after: %s", out)
	}
}

// cutCables cuts a cable of a lab with two nodes in each way, and mends it.
func cutCables(t *testing.T, call func(want int, args ...string) string) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		return
	}
	reached := func(want int) {
		t.Helper()
		call(want, "exec", "ov-n1", "--", "ping", "-q", "-c", "1", "-W", "1", "10.77.0.12")
	}
	for _, fault := range []string{"deafen n1", "mute n1", "split n1/n2"} {
		call(0, strings.Fields(fault)...)
		reached(1)
		call(0, "heal")
		reached(0)
	}
	call(0, "split", "n1/n2,clients", "--for", "10ms")
	reached(0)
}

// Whoever asks for help reads it in a terminal of 80 columns.
func TestHelpFitsATerminal(t *testing.T) {
	for _, args := range []string{"", "up", "exec", "kill", "stop", "start", "deafen", "mute", "stall", "split", "heal", "status", "down", "soak", "torture"} {
		code, out := runProgram(t, labProgram(t, append(strings.Fields(args), "--help")...), (*exec.Cmd).Start)
		if code != 0 || !strings.Contains(out, "Usage:") {
			t.Errorf("lab %s: exit %d:\n%s", args, code, out)
		}
		for _, line := range strings.Split(out, "\n") {
			if n := utf8.RuneCountInString(line); n > 80 {
				t.Errorf("lab %s: %d columns: %s", args, n, line)
			}
		}
	}
}
