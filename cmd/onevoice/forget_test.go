package main

import (
	"os/exec"
	"strings"
	"testing"
)

// A node that is out is forgotten, one that is in is not, and who was forgotten
// comes back as a new node.
func TestForget(t *testing.T) {
	hosts := map[string]*host{"10.77.0.11": newHost(t), "10.77.0.12": newHost(t), "10.77.0.13": newHost(t)}
	joinLAN(t, hosts)
	for _, h := range hosts {
		h.ownState()
		h.edit(`, "10.77.0.14"]`, "]")
	}
	n1 := hosts["10.77.0.11"].begin("run")
	n2 := hosts["10.77.0.12"].begin("run")
	n3 := hosts["10.77.0.13"].begin("run")
	n1.until("founded cluster campus-ssh with 3 hosts")
	for _, l := range []*logged{n1, n2, n3} {
		l.until("answering: this node holds a lease")
	}
	ask := func(code int, word string, args ...string) {
		t.Helper()
		args = append(args, "--socket", hosts["10.77.0.11"].socket())
		if got, out := runProgram(t, program(t, args...), (*exec.Cmd).Start); got != code || !strings.Contains(out, word) {
			t.Errorf("%v: exit %d, want %d with %q:\n%s", args, got, code, word, out)
		}
	}
	ask(1, "stop it first", "forget", "10.77.0.13")
	ask(0, "10.77.0.13", "status")
	n3.end()
	n1.until("was evicted")
	ask(0, "", "forget", "10.77.0.13")
	n1.until("msg=\"an operator's wish was granted\" for=forget node=10.77.0.13 by=\"user 0, process ")
	// It returns when the node is gone.
	ask(1, "there is no such node", "forget", "10.77.0.13")
	if _, out := runProgram(t, program(t, "status", "--socket", hosts["10.77.0.11"].socket()), (*exec.Cmd).Start); strings.Contains(out, "10.77.0.13") {
		t.Errorf("still there:\n%s", out)
	}
	n3 = hosts["10.77.0.13"].begin("run").until("this node was removed from the cluster")
	n3.end()
	hosts["10.77.0.13"].edit("/state\"", "/empty\"")
	n3 = hosts["10.77.0.13"].begin("run").until("welcomed by the cluster").until("answering: this node holds a lease")
	for _, l := range []*logged{n3, n2, n1} {
		l.end()
	}
}
