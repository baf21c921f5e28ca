package main

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"onevoice/control"
	"onevoice/internal/rights"
	"onevoice/link/ingress"
)

// Whoever cannot have the direct path is told why in one line, and what to do; what is
// wrong with something else is not taken for that.
func TestDirectRefused(t *testing.T) {
	both := []rights.Capability{rights.BPF, rights.NetAdmin}
	for name, c := range map[string]struct {
		err      error
		lacks    []rights.Capability
		lockdown string
		says     []string
	}{
		"too old":            {ingress.ErrUnsupported, nil, "", []string{`path = "netstack"`, "too old"}},
		"no capability":      {ingress.ErrNotPermitted, both[:1], "", []string{`path = "netstack"`, "give this process CAP_BPF:"}},
		"locked down":        {ingress.ErrNotPermitted, nil, "none integrity [confidentiality]\n", []string{`path = "netstack"`, "locked down"}},
		"locked down a bit":  {ingress.ErrNotPermitted, nil, "none [integrity] confidentiality\n", []string{"locked down"}},
		"refused":            {ingress.ErrNotPermitted, nil, "[none] integrity confidentiality\n", []string{`path = "netstack"`, "security module"}},
		"no lockdown at all": {ingress.ErrNotPermitted, nil, "", []string{"security module"}},
	} {
		err := directRefused(c.err, c.lacks, c.lockdown)
		for _, says := range c.says {
			if !strings.Contains(err.Error(), says) || !errors.Is(err, c.err) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v; want %q in it", name, err, says)
			}
		}
	}
	other := errors.New("no such interface")
	if err := directRefused(other, both, ""); err != other {
		t.Errorf("%v", err)
	}
}

// Programs that end with the process are enough for TCP, and not for UDP.
func TestProgramsThatEndWithTheProcess(t *testing.T) {
	tcp, udp := control.DirectService{Name: "ssh"}, control.DirectService{Name: "dns", UDP: true}
	for _, c := range []struct {
		outlive  bool
		services []control.DirectService
		refused  bool
	}{
		{true, []control.DirectService{tcp, udp}, false},
		{false, []control.DirectService{tcp}, false},
		{false, []control.DirectService{tcp, udp}, true},
	} {
		err := mayEnd(c.outlive, c.services)
		if (err != nil) != c.refused || err != nil && !(strings.Contains(err.Error(), `"dns"`) && strings.Contains(err.Error(), "mount -t bpf")) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// servedDirectly has the pair's service be of the direct path, with more text after it, and
// makes its daemon start without some capabilities.
func (p *pair) servedDirectly(more, without string) *exec.Cmd {
	p.t.Helper()
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		p.t.Skip(err)
	}
	b, err := os.ReadFile(p.file)
	if err != nil {
		p.t.Fatal(err)
	}
	text := strings.Replace(string(b), `backend = "127.0.0.1:7000"`, `path = "direct"`, 1)
	text = strings.Replace(text, "[node]\n", "[node]\nuser = \"root\"\n", 1) + more
	if err := os.WriteFile(p.file, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := program(p.t, "run", "--config", p.file)
	cmd.Path, cmd.Args = setpriv, append([]string{"setpriv", "--bounding-set=" + without, self}, cmd.Args[1:]...)
	return cmd
}

// nothingLeft wants detach to find nothing of the direct path.
func (p *pair) nothingLeft() {
	p.t.Helper()
	if code, out := runProgram(p.t, program(p.t, "detach", "--config", p.file), p.Start); code != 0 || !strings.Contains(out, "there is nothing of path") {
		p.t.Errorf("detach: exit %d: %s", code, out)
	}
}

// A daemon without the right to load programs refuses a service of the direct path, in one
// sentence that names the right and the other path, and leaves nothing on the host.
func TestDirectPathWithoutTheRight(t *testing.T) {
	p := newPair(t)
	code, out := runProgram(t, p.servedDirectly("", "-bpf,-sys_admin"), p.Start)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 1 || !strings.Contains(lines[len(lines)-1], `path = "direct" cannot be had on this host, write path = "netstack" and a backend, or give this process CAP_BPF: `) {
		t.Errorf("exit %d: %s", code, out)
	}
	p.nothingLeft()
}

// Where there is no BPF file system and none can be mounted, TCP is served and it is said
// what a crash does; a service of UDP is refused, with the mend.
func TestDirectPathWithoutABPFFileSystem(t *testing.T) {
	var s unix.Statfs_t
	if err := unix.Statfs("/sys/fs/bpf", &s); err == nil && int64(s.Type) == unix.BPF_FS_MAGIC {
		t.Skip("this system has a BPF file system")
	}
	p := newPair(t)
	p.echo("0.0.0.0:7")
	c := p.startAs(p.servedDirectly("", "-sys_admin"))
	c.until("answering: this node holds a lease")
	p.session()
	_, text := runProgram(t, program(t, "status", "--socket", p.socket()), (*exec.Cmd).Start)
	if !strings.Contains(says(text), "connections stand still while this program is away, for ingress: no BPF file system") || !strings.Contains(says(text), "mount -t bpf bpf /sys/fs/bpf") {
		t.Errorf("status: %s", text)
	}
	if state := c.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("it ended with %v", state)
	}
	c.untilAllEnd()
	p.nothingLeft()
	p.configure("")
	code, out := runProgram(t, p.servedDirectly("[[service]]\nname = \"dns\"\nlisten = \"udp://"+testVIP+":53\"\npath = \"direct\"\n", "-sys_admin"), p.Start)
	if code != 1 || !strings.Contains(out, `path = "direct" of the UDP service "dns" needs a BPF file system`) {
		t.Errorf("exit %d: %s", code, out)
	}
	p.nothingLeft()
}
