package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"onevoice/config"
	"onevoice/internal/rights"
)

// triesAt makes the processes of this program try, at SIGUSR2, what they should not be
// able to do, and log how that went: each word is something to do.
const triesAt = "ONEVOICE_TEST_TRIES"

func tryWhenAsked() {
	text := os.Getenv(triesAt)
	if text == "" || len(os.Args) < 2 {
		return
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR2)
	go func() {
		for range asked {
			for _, what := range strings.Fields(text) {
				fmt.Fprintf(os.Stderr, "TRIED %s %s: %v\n", os.Args[1], what, try(what))
			}
			fmt.Fprintf(os.Stderr, "TRIED %s all\n", os.Args[1])
		}
	}()
}

func try(what string) error {
	do, path, _ := strings.Cut(what, ":")
	switch do {
	case "read":
		_, err := os.ReadFile(path)
		return err
	case "write":
		return os.WriteFile(path, nil, 0o600)
	case "exec":
		cmd := exec.Command(path)
		// Or it would open /dev/null before.
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		return cmd.Run()
	case "signal":
		return syscall.Kill(os.Getppid(), 0)
	}
	return unix.Setuid(0)
}

// tried asks a process to try, and returns how each attempt went.
func (c *controlProcess) tried(pid int, who string) map[string]string {
	c.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
		c.t.Fatal(err)
	}
	from := len(c.log)
	c.until("TRIED " + who + " all")
	out := map[string]string{}
	for _, line := range c.log[from:] {
		if rest, ok := strings.CutPrefix(line, "TRIED "+who+" "); ok {
			what, how, _ := strings.Cut(rest, ": ")
			out[what] = how
		}
	}
	return out
}

// logged waits for a line that may have come already.
func (c *controlProcess) logged(text string) {
	c.t.Helper()
	if !slices.ContainsFunc(c.log, func(line string) bool { return strings.Contains(line, text) }) {
		c.until(text)
	}
}

// statusOf is /proc/PID/status, and owner who may look further into it.
func statusOf(t *testing.T, pid int) map[string]string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		out[key] = strings.TrimSpace(value)
	}
	return out
}

// mask is a set of capabilities as /proc/PID/status writes it, of what this system has.
func mask(all ...rights.Capability) string {
	var n uint64
	for _, c := range all {
		if !slices.Contains(rights.Missing(all), c) {
			n |= 1 << c
		}
	}
	return fmt.Sprintf("%016x", n)
}

// otherUser is a user that every system has.
const otherUser = "nobody"

// asUser makes the pair's daemon run as another user, who owns what it has to.
func (p *pair) asUser(name string) rights.User {
	p.t.Helper()
	u, err := rights.LookupUser(name)
	if err != nil {
		p.t.Skip("no user ", name, " here: ", err)
	}
	b, err := os.ReadFile(p.file)
	if err != nil {
		p.t.Fatal(err)
	}
	text := strings.Replace(string(b), "[node]\n", "[node]\nuser = \""+name+"\"\n", 1)
	if err := os.WriteFile(p.file, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
	dir := filepath.Dir(p.file)
	for _, path := range []string{filepath.Join(dir, "key"), dir} {
		if err := os.Chown(path, u.UID, u.GID); err != nil {
			p.t.Fatal(err)
		}
	}
	// t.TempDir is root's alone.
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		p.t.Fatal(err)
	}
	return u
}

// copied is this program where every user may run it.
func (p *pair) copied() string {
	p.t.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		p.t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(p.file), "onevoice")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// The daemon that root starts is another user's, and has few capabilities; its worker
// has fewer. Both serve on, also when the worker had to be started anew and when the
// interface was removed and is there again.
func TestRunGivesUpItsRights(t *testing.T) {
	p := newPair(t)
	u := p.asUser(otherUser)
	key := filepath.Join(filepath.Dir(p.file), "key")
	cmd := program(t, "run", "--config", p.file)
	cmd.Path = p.copied()
	cmd.Env = append(cmd.Env, triesAt+"="+strings.Join([]string{"read:" + key, "read:/etc/hostname", "write:/tmp/onevoice-test", "exec:/bin/true", "signal", "root"}, " "))
	c := p.startAs(cmd)
	c.until("answering: this node holds a lease")
	c.logged("runs on as another user")
	for _, lack := range rights.Missing(inheritance()[2:]) {
		c.logged("capability=" + rights.Name(lack))
	}
	p.session()
	s := p.status()
	p.hasRights(u, c.cmd.Process.Pid, s.Rights, controlUses(), controlReserves())
	worker := s.Workers[0].Process.PID
	p.hasRights(u, worker, s.Workers[0].Rights, []rights.Capability{rights.NetRaw, rights.NetBindService}, []rights.Capability{rights.NetAdmin})

	const denied, notPermitted = "permission denied", "operation not permitted"
	want := map[string]string{"root": notPermitted, "all": ""}
	if s.Rights.Landlock > 0 {
		want["read:/etc/hostname"], want["write:/tmp/onevoice-test"], want["exec:/bin/true"] = denied, denied, denied
	}
	tries(t, c.tried(c.cmd.Process.Pid, "run"), want)
	if s.Rights.Landlock > 0 {
		want["read:"+key] = denied
	}
	if s.Rights.Landlock > 5 {
		want["signal"] = notPermitted
	}
	tries(t, c.tried(worker, "worker"), want)

	if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.until("a worker has ended")
	// A SYN is sent again until there is another worker, and it has a lease.
	p.session()
	again := p.status().Workers[0]
	if again.Process.PID == worker {
		t.Fatal("it is still the same worker")
	}
	p.hasRights(u, again.Process.PID, again.Rights, []rights.Capability{rights.NetRaw, rights.NetBindService}, []rights.Capability{rights.NetAdmin})
	if state := c.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("it ended with %v", state)
	}
	c.untilAllEnd()
}

// tries fails where an attempt went otherwise than wanted. What is not named may go
// either way.
func tries(t *testing.T, got, want map[string]string) {
	t.Helper()
	for what, how := range want {
		if said, ok := got[what]; !ok || !strings.Contains(said, how) {
			t.Errorf("%s: %q, want %q; all: %v", what, said, how, got)
		}
	}
}

// hasRights compares what a process says with what the kernel says of it.
func (p *pair) hasRights(u rights.User, pid int, said *rights.Status, use, reserve []rights.Capability) {
	p.t.Helper()
	if said == nil || said.User != u.Name || !said.NoNewPrivs || said.Landlock != rights.ABI() {
		p.t.Fatalf("process %d says %+v", pid, said)
	}
	has := statusOf(p.t, pid)
	four := func(id int) string { return strings.TrimSpace(strings.Repeat(strconv.Itoa(id)+"\t", 4)) }
	of, err := user.Lookup(u.Name)
	if err != nil {
		p.t.Fatal(err)
	}
	groups, err := of.GroupIds()
	if err != nil {
		p.t.Fatal(err)
	}
	for key, want := range map[string]string{
		"Uid": four(u.UID), "Gid": four(u.GID), "Groups": strings.Join(groups, " "), "NoNewPrivs": "1", "CapEff": mask(use...), "CapPrm": mask(slices.Concat(use, reserve)...),
		"CapInh": mask(), "CapAmb": mask(), "CapBnd": mask(inheritance()...),
	} {
		if has[key] != want {
			p.t.Errorf("process %d: %s is %q, want %q", pid, key, has[key], want)
		}
	}
	// The files of a process that nobody may look into belong to root (proc(5)).
	info, err := os.Stat(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
		p.t.Errorf("process %d can be looked into by its user: %v %v", pid, info, err)
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, one := range tasks {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", pid, one.Name()))
		if err != nil {
			continue // it has ended
		}
		if !strings.Contains(string(b), "CapEff:\t"+mask(use...)+"\n") || !strings.Contains(string(b), "NoNewPrivs:\t1\n") {
			p.t.Errorf("thread %s of process %d has other rights: %s", one.Name(), pid, b)
		}
	}
}

// A first start that stays root makes its state directory before it gives up the right to.
func TestFirstStartOfRoot(t *testing.T) {
	p := newPair(t)
	b, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state")
	text := regexp.MustCompile(`state_dir = .*`).ReplaceAllString(string(b), fmt.Sprintf("state_dir = %q\nuser = \"root\"", state))
	if err := os.WriteFile(p.file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c := p.start()
	c.until("answering: this node holds a lease")
	if info, err := os.Stat(state); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the state directory: %v %v", info, err)
	}
	if state := c.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("it ended with %v", state)
	}
	c.untilAllEnd()
}

// What a start lacks is said with its mend.
func TestMissingRights(t *testing.T) {
	p := newPair(t)
	for _, c := range []struct{ drop, says string }{
		{"-net_raw", "lacks CAP_NET_RAW, without which no frame can be taken or sent; start onevoice as root, or by its unit"},
		{"-net_admin", "lacks CAP_NET_ADMIN,"},
	} {
		cmd := program(t, "run", "--config", p.file)
		path, err := exec.LookPath("setpriv")
		if err != nil {
			t.Skip("no setpriv here")
		}
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path, cmd.Args = path, append([]string{"setpriv", "--bounding-set=" + c.drop, "--inh-caps=" + c.drop, self}, cmd.Args[1:]...)
		if code, out := runProgram(t, cmd, p.Start); code != 1 || !strings.Contains(out, c.says) {
			t.Errorf("without %s: exit %d: %s", c.drop, code, out)
		}
	}
}

// A key that its user may not read stops the start.
func TestKeyThatItsUserMayNotRead(t *testing.T) {
	p := newPair(t)
	p.asUser(otherUser)
	key := filepath.Join(filepath.Dir(p.file), "key")
	if err := os.Chown(key, 0, 0); err != nil {
		t.Fatal(err)
	}
	code, out := runProgram(t, program(t, "run", "--config", p.file), p.Start)
	if want := "this daemon runs as nobody, who has to be able to read it"; code != 1 || strings.Count(out, "\n") != 1 || !strings.Contains(out, want) || !strings.Contains(out, "chown nobody "+key) {
		t.Errorf("exit %d: %s", code, out)
	}
}

// A user that cannot be become is told why.
func TestUserThatIsNotThere(t *testing.T) {
	cfg := &config.Config{Node: config.Node{User: "nobody-of-that-name"}}
	if _, err := becomeUser(cfg); err == nil || !strings.Contains(err.Error(), "useradd --system nobody-of-that-name") {
		t.Error(err)
	}
}

// Programs of checks may read and run all, and write little; without them nothing but
// this program may be run.
func TestControlFiles(t *testing.T) {
	cfg := &config.Config{
		Cluster: config.Cluster{KeyFile: "/k/key", OtherKeyFile: "/o/key"}, Admin: config.Admin{Socket: "/s/sock", TokenFile: "/t/token"},
		Node: config.Node{StateDir: "/state", Agent: config.Agent{File: "/a/load"}},
	}
	cfg.Access.DenyFile = "/d/list"
	cfg.Services = []config.Service{{Access: config.Access{AllowFile: "/l/list"}}}
	if got := watchedFolders(cfg); !slices.Equal(got, []string{"/d", "/l"}) {
		t.Errorf("a worker may read %v", got)
	}
	f := controlFiles(cfg, "/c/onevoice.toml", "/p/x.pcap")
	for _, dir := range []string{"/c", "/k", "/o", "/t", "/a", "/d", "/l"} {
		if !slices.Contains(f.Read, dir) {
			t.Errorf("%s may not be read: %v", dir, f.Read)
		}
	}
	if slices.Contains(f.Execute, "/") || !slices.Contains(f.Write, "/state") || !slices.Contains(f.Write, "/s") || !slices.Contains(f.Write, "/p") || slices.Contains(f.Write, "/k") {
		t.Errorf("write %v, execute %v", f.Write, f.Execute)
	}
	cfg.Services = []config.Service{{Check: config.Check{Kind: config.CheckExec, Target: "/bin/x"}}, {Check: config.Check{Kind: config.CheckHTTP, Target: "http://db.example/health"}}}
	f = controlFiles(cfg, "/c/onevoice.toml", "")
	if !slices.Contains(f.Execute, "/") || !slices.Contains(f.Write, "/tmp") || !slices.Contains(f.Read, "/etc") {
		t.Errorf("with a program: %+v", f)
	}
	if named("http://127.0.0.1:80/x") || named("http://[::1]:80/x") || !named("http://db:80/x") {
		t.Error("names and addresses are taken for each other")
	}
}
