package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// From rules to a file that `check` takes; what had to be guessed is on standard error.
func TestMigrate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new.toml")
	rules := "../../migrate/testdata/xtcluster.in"
	migrate := func(code int, word string, args ...string) {
		t.Helper()
		if got, out := runProgram(t, program(t, append([]string{"migrate"}, args...)...), (*exec.Cmd).Start); got != code || !strings.Contains(out, word) {
			t.Errorf("%v: exit %d, want %d with %q:\n%s", args, got, code, word, out)
		}
	}
	migrate(0, rules+":16: a rule for 10.77.0.2 with target REDIRECT", "unix1="+rules, "--peers", "10.77.0.11,10.77.0.12,10.77.0.13", "--ports", "22,udp:53", "--out", file)
	if code, out := runProgram(t, program(t, "check", "--config", file), (*exec.Cmd).Start); code != 0 || !strings.Contains(says(out), "hash xt_cluster of 4 nodes with seed 3735928559, 1 is unix1's, 2 is node2's") {
		t.Errorf("check: exit %d: %s", code, out)
	}
	migrate(1, "file exists", rules, "--out", file)
	migrate(1, "no such file", "unix1=nowhere")
	migrate(2, "write an address with its network's length", rules, "--vip", "10.77.0.2")
	migrate(2, "write addresses", rules, "--peers", "unix1")
	migrate(2, "write ports, such as 22,443,udp:53", rules, "--ports", "ssh")
	cmd := program(t, "migrate")
	cmd.Stdin = strings.NewReader("*filter\n-A INPUT -j ACCEPT\nCOMMIT\n")
	if code, out := runProgram(t, cmd, (*exec.Cmd).Start); code != 1 || !strings.Contains(out, "nothing of it shares an address") {
		t.Errorf("exit %d: %s", code, out)
	}
}
