package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// Without the right to load programs the node serves all the same, and says where
// frames for others are dropped now, and why.
func TestWithoutTheRightToFilter(t *testing.T) {
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip(err)
	}
	p := newPair(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := program(t, "run", "--config", p.file)
	cmd.Path, cmd.Args = setpriv, append([]string{"setpriv", "--bounding-set=-bpf,-sys_admin", self}, cmd.Args[1:]...)
	c := p.startAs(cmd)
	c.until("answering: this node holds a lease")
	p.session()
	f := p.status().Workers[0].Filter
	if f.State == "in the kernel (socket)" {
		t.Skip("this kernel lets everybody load socket filters: ", f.Reason)
	}
	if f.State != "in user space" || !strings.Contains(f.Reason, "CAP_BPF") || f.Foreign != 0 || f.ForHost != 0 {
		t.Errorf("filter %+v", f)
	}
	if !strings.Contains(strings.Join(c.log, "\n"), "other nodes' frames are dropped in user space") {
		t.Errorf("the log does not say so:\n%s", strings.Join(c.log, "\n"))
	}
	_, text := runProgram(t, program(t, "status", "--socket", p.socket()), (*exec.Cmd).Start)
	if !strings.Contains(text, "\nFILTER   in user space; ingress: ") {
		t.Errorf("status:\n%s", text)
	}
	for _, line := range strings.Split(text, "\n") {
		if len(line) > columns {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	if state := c.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("stop: %v", state)
	}
	c.untilAllEnd()
}
