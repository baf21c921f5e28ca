package main

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// From another system's hash to our own: a node whose file has changed takes nothing
// until the cluster was told, and then has all buckets of the new kind.
func TestRemap(t *testing.T) {
	h := newHost(t)
	h.plug("10.77.0.11/24")
	h.ownState()
	const shares = "hash = \"carp\"\ntotal_nodes = 3\n"
	h.edit(`, "10.77.0.12", "10.77.0.13", "10.77.0.14"]`, "]", "name = \"ssh\"\n", "name = \"ssh\"\n"+shares, "name = \"dns\"\n", "name = \"dns\"\n"+shares)
	says := func(word string) {
		t.Helper()
		for late := time.Now().Add(patience); ; {
			_, out := runProgram(t, program(t, "status", "--socket", h.socket()), (*exec.Cmd).Start)
			if strings.Contains(out, word) {
				return
			}
			if time.Now().After(late) {
				t.Fatalf("status does not say %q:\n%s", word, out)
			}
		}
	}
	l := h.begin("run").until("answering: this node holds a lease")
	says("  3 100 %")
	l.end()
	h.edit(shares, "")
	l = h.begin("run").until("answering: this node holds a lease")
	says("service ssh is not the same in this node's file")
	for _, c := range []struct {
		code          int
		service, says string
	}{{0, "ssh", ""}, {0, "dns", ""}, {1, "smtp", "no service called"}} {
		code, out := runProgram(t, program(t, "remap", c.service, "--socket", h.socket()), (*exec.Cmd).Start)
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("remap %s: exit %d: %s", c.service, code, out)
		}
	}
	says(fmt.Sprintf("%d 100 %%", 256))
	l.end()

	// A VIP at another MAC: nobody answers for it until the cluster was told.
	h.edit(`# mac_mode = "multicast"`, `mac_mode = "unicast"`)
	l = h.begin("run").until("answering: this node holds a lease")
	says("no node answers for 10.77.0.2")
	if code, out := runProgram(t, program(t, "remap", "10.77.0.2", "--socket", h.socket()), (*exec.Cmd).Start); code != 0 {
		t.Errorf("remap of a VIP: exit %d: %s", code, out)
	}
	for late := time.Now().Add(patience); ; {
		_, out := runProgram(t, program(t, "status", "--socket", h.socket()), (*exec.Cmd).Start)
		if !strings.Contains(out, "no node answers") && !strings.Contains(out, "has another MAC") {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("the VIP was mapped anew, and status says:\n%s", out)
		}
	}
	l.end()
}
