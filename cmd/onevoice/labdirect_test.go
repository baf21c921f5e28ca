package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"onevoice/internal/rights"
	"onevoice/lab"
)

// directLab is a cluster whose services are the kernel's own.
type directLab struct{ *macLab }

// newDirectLab skips where programs cannot be loaded.
func newDirectLab(t *testing.T, more ...string) *directLab {
	t.Helper()
	if testing.Short() {
		t.Skip("takes a lab with restarts")
	}
	needTools(t, "ssh", "sshd")
	if os.Geteuid() != 0 {
		t.Skip("needs root to load programs (CAP_BPF, CAP_NET_ADMIN)")
	}
	ownStateDir(t)
	args := append([]string{"up", "--nodes=3", "--clients=1", "--addresses=12", "--timing=calm", "--path=direct"}, more...)
	code, out := runProgram(t, labProgram(t, args...), (*exec.Cmd).Start)
	skipWithoutLab(t, out)
	if strings.Contains(out, "cannot be had on this host") {
		t.Skip(out)
	}
	if code != 0 {
		t.Fatalf("lab up: exit %d:\n%s", code, out)
	}
	t.Cleanup(func() { runProgram(t, labProgram(t, "down"), (*exec.Cmd).Start) })
	return &directLab{&macLab{t}}
}

// ssh are the arguments of a login from an address, before the command.
func (l *directLab) ssh(from string) []string {
	return []string{"ssh", "-F", "none", "-b", from, "-i", lab.RunDir + "/ssh/client", "-o", "BatchMode=yes",
		"-o", "UserKnownHostsFile=" + lab.RunDir + "/ssh/known_hosts", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5", "root@" + testVIP}
}

// login is the node that a client reaches, and the address that it is seen by.
func (l *directLab) login(from string) (node, seen string) {
	l.t.Helper()
	code, out := l.on("ov-client1", append(l.ssh(from), "echo $ONEVOICE_NODE $SSH_CONNECTION")...)
	// What the host's shell says by itself comes first.
	lines := strings.Split(strings.TrimSpace(out), "\n")
	f := strings.Fields(lines[len(lines)-1])
	if code != 0 || len(f) < 2 {
		return "", out
	}
	return f[0], f[1]
}

// spared: no packet socket on a node is one of IPv4 or IPv6, for which the host's stack would
// be given a copy of each frame, and one at most is asked about all of them.
func (l *directLab) spared(node string) {
	l.t.Helper()
	code, out := l.on(node, "awk", "$4 != \"Proto\" {print $4}", "/proc/net/packet")
	protocols := strings.Fields(out)
	slices.Sort(protocols)
	if code != 0 || !slices.Equal(protocols, []string{"0000", "0003"}) {
		l.t.Errorf("packet sockets of %s are of the protocols %v", node, protocols)
	}
}

// lab runs a command of the lab on a node.
func (l *directLab) lab(verb, node string) {
	l.t.Helper()
	if code, out := runProgram(l.t, labProgram(l.t, verb, node), (*exec.Cmd).Start); code != 0 {
		l.t.Fatalf("%s %s: exit %d: %s", verb, node, code, out)
	}
}

// session is a login that stays open. A word that is sent comes back.
type session struct {
	t    *testing.T
	in   interface{ Write([]byte) (int, error) }
	out  interface{ Read([]byte) (int, error) }
	node string
}

// session opens one from an address.
func (l *directLab) session(from string) *session {
	l.t.Helper()
	cmd := labProgram(l.t, append([]string{"exec", "ov-client1", "--"}, append(l.ssh(from), "echo $ONEVOICE_NODE; cat")...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	s := &session{t: l.t, in: in, out: out}
	s.node = s.line()
	return s
}

func (s *session) line() string {
	s.t.Helper()
	var line []byte
	for b := make([]byte, 1); ; line = append(line, b[0]) {
		if n, err := s.out.Read(b); n != 1 {
			s.t.Fatalf("the session is over: %v after %q", err, line)
		}
		if b[0] == '\n' {
			return string(line)
		}
	}
}

// says sends a word and waits until it has come back.
func (s *session) says(word string) {
	s.t.Helper()
	if _, err := s.in.Write([]byte(word + "\n")); err != nil {
		s.t.Fatalf("%s: %v", word, err)
	}
	if got := s.line(); got != word {
		s.t.Fatalf("%q came back for %q", got, word)
	}
}

// traces are what path = "direct" sets on a host.
func (l *directLab) traces(node string) string {
	l.t.Helper()
	_, out := l.on(node, "sh", "-c", "ip route show table local proto 178; cat /proc/sys/net/ipv4/conf/eth0/arp_ignore /proc/sys/net/ipv4/conf/eth0/arp_announce;"+
		" ls /sys/fs/bpf/onevoice | grep ^$(readlink /proc/self/ns/net | tr -dc 0-9)-; grep -c 01005e4d0002 /proc/net/dev_mcast")
	return out
}

// The kernel serves the VIP: clients are seen by their own addresses, a session outlives
// the daemon and its worker, and stays where it is when its bucket moves; a stop takes
// everything back, and so does detach after a crash.
func TestDirectPath(t *testing.T) {
	t.Setenv(triesAt, "read:/etc/hostname write:/tmp/onevoice-test exec:/bin/true")
	l := newDirectLab(t)
	nodes := map[string]bool{}
	for i := range 6 {
		from := fmt.Sprintf("10.77.0.%d", 101+i)
		node, seen := l.login(from)
		if node == "" || seen != from {
			t.Errorf("a client from %s is on %q, seen as %q", from, node, seen)
		}
		nodes[node] = true
	}
	if len(nodes) < 2 {
		t.Errorf("all clients are on %v", nodes)
	}
	s := l.session("10.77.0.101")
	s.says("hello")
	at := "ov-" + s.node
	set := l.traces(at)
	if !strings.Contains(set, "local 10.77.0.2") || !strings.Contains(set, "\n1\n2\n") {
		t.Errorf("set on %s: %s", at, set)
	}
	l.spared(at)
	for range 3 {
		l.lab("kill", at)
		s.says("nobody is there")
		if got := l.traces(at); got != set {
			t.Errorf("after a crash: %s\nwant %s", got, set)
		}
		l.lab("start", at)
		l.until("the node serves again", func() bool { return l.serves(at) })
		s.says("back again")
	}
	l.spared(at)
	l.fewRights(at)
	if _, out := l.on(at, "onevoice", "doctor", "--json"); strings.Contains(out, "rules-gone") || !strings.HasPrefix(strings.TrimSpace(out), "[") {
		t.Errorf("the doctor misses rules: %s", out)
	}
	if status := l.status(at); len(status.Running) != 0 && status.Flows.Running < 1 {
		t.Errorf("%d flows run", status.Flows.Running)
	}
	if code, out := l.on(at, "onevoice", "drain", s.node); code != 0 {
		t.Fatal(out)
	}
	l.until("the client's bucket has moved", func() bool { node, _ := l.login("10.77.0.101"); return node != "" && node != s.node })
	s.says("still here")
	l.lab("stop", at)
	if got := l.traces(at); strings.Contains(got, testVIP) || !strings.HasPrefix(got, "0\n0\n") {
		t.Errorf("after a stop: %s", got)
	}
	other := map[bool]string{true: "ov-n2", false: "ov-n1"}[at == "ov-n1"]
	if code, out := l.on(other, "onevoice", "detach", "--config", lab.RunDir+"/"+strings.TrimPrefix(other, "ov-")+"/onevoice.toml"); code == 0 || !strings.Contains(out, "stop it first") {
		t.Errorf("detach beside a daemon: exit %d: %s", code, out)
	}
	l.lab("kill", other)
	if code, out := l.on(other, "onevoice", "detach", "--config", lab.RunDir+"/"+strings.TrimPrefix(other, "ov-")+"/onevoice.toml"); code != 0 {
		t.Errorf("detach: exit %d: %s", code, out)
	}
	if got := l.traces(other); strings.Contains(got, testVIP) || !strings.HasPrefix(got, "0\n0\n") {
		t.Errorf("after detach: %s", got)
	}
}

// fewRights wants both processes of a node to say, as the kernel does, that they kept what
// they use and nothing else.
func (l *directLab) fewRights(node string) {
	l.t.Helper()
	s := l.status(node)
	if len(s.Workers) != 1 || s.Rights == nil || s.Workers[0].Rights == nil {
		l.t.Fatalf("nothing is said of rights: %+v", s.Workers)
	}
	for i, p := range []struct {
		said *rights.Status
		pid  int
		may  []rights.Capability
	}{
		{s.Rights, s.Process.PID, slices.Concat(controlUses(), directUses())},
		{s.Workers[0].Rights, s.Workers[0].Process.PID, []rights.Capability{rights.NetRaw, rights.NetBindService, rights.NetAdmin, rights.BPF}},
	} {
		_, has := l.on(node, "sh", "-c", fmt.Sprintf("cat /proc/%d/status", p.pid))
		for _, name := range p.said.Capabilities {
			if !slices.Contains(rights.Names(p.may), name) {
				l.t.Errorf("process %d may %s", p.pid, name)
			}
		}
		for _, c := range []rights.Capability{rights.NetRaw, rights.NetAdmin, rights.BPF} {
			if !slices.Contains(p.said.Capabilities, rights.Name(c)) {
				l.t.Errorf("process %d has no %s: %v", p.pid, rights.Name(c), p.said.Capabilities)
			}
		}
		if who := []string{"run", "worker"}[i]; p.said.Landlock > 0 {
			l.files(node, who, p.pid)
		}
		if p.said.Landlock != rights.ABI() {
			l.t.Errorf("process %d is confined by landlock ABI %d, and there is %d", p.pid, p.said.Landlock, rights.ABI())
		}
		if !p.said.NoNewPrivs || !strings.Contains(has, "NoNewPrivs:\t1\n") || !strings.Contains(has, "CapEff:\t"+mask(p.may...)+"\n") {
			l.t.Errorf("process %d says %+v, and the kernel of it %s", p.pid, p.said, has)
		}
	}
}

// files wants a process of a node, which is root's, to be kept from root's files.
func (l *directLab) files(node, who string, pid int) {
	l.t.Helper()
	l.do(node, "kill", "-USR2", fmt.Sprint(pid))
	var log string
	l.until("the "+who+" has tried", func() bool {
		_, log = l.on(node, "cat", lab.RunDir+"/"+strings.TrimPrefix(node, "ov-")+"/onevoice.log")
		return strings.Contains(log, "TRIED "+who+" all")
	})
	for _, what := range []string{"read:/etc/hostname", "write:/tmp/onevoice-test", "exec:/bin/true"} {
		if !regexp.MustCompile("TRIED " + who + " " + what + ": .*permission denied").MatchString(log) {
			l.t.Errorf("the %s of %s is not kept from %s", who, node, what)
		}
	}
}

// serves reports whether a node holds a lease and owns buckets.
func (l *directLab) serves(node string) bool {
	if code, _ := l.on(node, "onevoice", "status", "--json"); code != 0 {
		return false
	}
	s := l.status(node)
	return s.Leased && len(s.Services) > 0 && s.Services[0].Buckets > 0
}

// Moves under flows on this path: the command starts its lab, whose services listen at
// all addresses, and no flow ends.
func TestMovesOnTheDirectPath(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a lab")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root to load programs (CAP_BPF, CAP_NET_ADMIN)")
	}
	ownStateDir(t)
	code, out := runProgram(t, labProgram(t, "moves", "--path=direct", "--nodes=3", "--clients=1", "--addresses=2", "--timing=calm", "--times=2", "--flows=6"), (*exec.Cmd).Start)
	skipWithoutLab(t, out)
	if strings.Contains(out, "cannot be had on this host") {
		t.Skip(out)
	}
	if code != 0 {
		t.Errorf("exit %d:\n%s", code, out)
	}
}
