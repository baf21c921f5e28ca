package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onevoice/admin"
	"onevoice/config"
	"onevoice/control"
	"onevoice/internal/netns"
)

// pair is a node that owns every bucket, with an echo service, and a client.
type pair struct {
	*host
	client *netns.NS
}

const testVIP = "10.77.0.2"

func newPair(t *testing.T) *pair {
	t.Helper()
	h := newHost(t)
	h.plug("10.77.0.11/24")
	client, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	p := &pair{h, client}
	p.cable()
	p.configure("")
	p.echo("127.0.0.1:7000")
	return p
}

// cable moves the other end of the node's interface to the client.
func (p *pair) cable() {
	p.t.Helper()
	moved := make(chan error, 1)
	err := p.client.Do(func() error {
		there, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer there.Close()
		go func() {
			moved <- p.Do(func() error {
				l, err := netlink.LinkByName("cable")
				if err != nil {
					return err
				}
				return netlink.LinkSetNsFd(l, int(there.Fd()))
			})
		}()
		if err := <-moved; err != nil {
			return err
		}
		l, err := netlink.LinkByName("cable")
		if err != nil {
			return err
		}
		address := &netlink.Addr{IPNet: &net.IPNet{IP: net.IP{10, 77, 0, 101}, Mask: net.CIDRMask(24, 32)}}
		if err := netlink.AddrAdd(l, address); err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// configure writes the node's file, with more text at its end.
func (p *pair) configure(more string) {
	p.t.Helper()
	dir := filepath.Dir(p.file)
	text := fmt.Sprintf(`[cluster]
name = "pair"
interface = "eth0"
key_file = %q
peers = ["10.77.0.11"]
[node]
stop_timeout = "1s"
state_dir = "%s/state"
[admin]
socket = %q
[[vip]]
address = "%s/24"
[[service]]
name = "echo"
listen = "%s:7"
backend = "127.0.0.1:7000"
%s`, filepath.Join(dir, "key"), dir, p.socket(), testVIP, testVIP, more)
	if err := os.WriteFile(p.file, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// serve serves in the node's namespace until the test ends, and closes each connection
// after that.
func (p *pair) serve(at string, each func(net.Conn)) {
	p.t.Helper()
	var l net.Listener
	err := p.Do(func() (err error) {
		l, err = net.Listen("tcp4", at)
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { l.Close() })
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go func() { each(c); c.Close() }()
		}
	}()
}

// echo sends back what comes.
func (p *pair) echo(at string) {
	p.t.Helper()
	p.serve(at, func(c net.Conn) { _, _ = io.Copy(c, c) })
}

// control is `onevoice run`, and its log line by line.
type controlProcess struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
	log   []string
}

func (p *pair) start() *controlProcess {
	p.t.Helper()
	return p.startAs(program(p.t, "run", "--config", p.file))
}

func (p *pair) startAs(cmd *exec.Cmd) *controlProcess {
	p.t.Helper()
	c := &controlProcess{t: p.t, cmd: cmd, lines: make(chan string, 1000)}
	log, theirs, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	c.cmd.Stdout, c.cmd.Stderr = theirs, theirs
	if err := p.Start(c.cmd); err != nil {
		p.t.Fatal(err)
	}
	theirs.Close()
	go func() {
		defer close(c.lines)
		defer log.Close()
		for s := bufio.NewScanner(log); s.Scan(); {
			c.lines <- s.Text()
		}
	}()
	p.t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		_, _ = c.cmd.Process.Wait()
	})
	return c
}

// until waits for a line of the log.
func (c *controlProcess) until(text string) string {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line, ok := <-c.lines:
			if !ok {
				c.t.Fatalf("the log ended without %q:\n%s", text, strings.Join(c.log, "\n"))
			}
			c.log = append(c.log, line)
			if strings.Contains(line, text) {
				return line
			}
		case <-deadline:
			c.t.Fatalf("no %q in the log:\n%s", text, strings.Join(c.log, "\n"))
		}
	}
}

// untilAllEnd waits until every process that has the log has ended.
func (c *controlProcess) untilAllEnd() {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line, ok := <-c.lines:
			if !ok {
				return
			}
			c.log = append(c.log, line)
		case <-deadline:
			c.t.Fatalf("processes are left:\n%s", strings.Join(c.log, "\n"))
		}
	}
}

// end sends a signal and waits for the end of the control process alone.
func (c *controlProcess) end(s syscall.Signal) *os.ProcessState {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
	state, err := c.cmd.Process.Wait()
	if err != nil {
		c.t.Fatal(err)
	}
	return state
}

// dial opens a session from the client.
func (p *pair) dial(timeout time.Duration) (c net.Conn, err error) {
	err = p.client.Do(func() error {
		c, err = net.DialTimeout("tcp4", testVIP+":7", timeout)
		return err
	})
	return c, err
}

// session is one that has to succeed.
func (p *pair) session() net.Conn {
	p.t.Helper()
	c, err := p.dial(patience)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	if err := echoes(c); err != nil {
		p.t.Fatal(err)
	}
	return c
}

// echoes says something and hears it again.
func echoes(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	sent, got := []byte(time.Now().String()), make([]byte, 200)
	if _, err := c.Write(sent); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, got[:len(sent)]); err != nil {
		return err
	}
	if string(got[:len(sent)]) != string(sent) {
		return fmt.Errorf("%q came back as %q", sent, got[:len(sent)])
	}
	return nil
}

func (p *pair) status() *admin.Status {
	p.t.Helper()
	code, out := runProgram(p.t, program(p.t, "status", "--json", "--socket", p.socket()), (*exec.Cmd).Start)
	var s admin.Status
	if err := json.Unmarshal([]byte(out), &s); code != 0 || err != nil {
		p.t.Fatalf("status: exit %d, %v: %s", code, err, out)
	}
	return &s
}

// settings are the rules and routes of the node.
func (p *pair) settings() (n int) {
	p.t.Helper()
	err := p.Do(func() error {
		rules, err := netlink.RuleList(unix.AF_INET)
		if err != nil {
			return err
		}
		routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		n = len(rules) + len(routes)
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

// workersLeft are the workers' names in the node's namespace.
func (p *pair) workersLeft() (names []string) {
	p.t.Helper()
	err := p.Do(func() (err error) {
		names, err = control.FindWorkers(netip.MustParseAddr(testVIP))
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return names
}

// A control process that is killed and started again costs no session, and new
// ones are served again within three seconds.
func TestKilledControlCostsNoSession(t *testing.T) {
	p := newPair(t)
	before := p.settings()
	first := p.start()
	first.until("answering: this node holds a lease")
	old := p.session()
	worker := p.status().Workers[0].Process.PID
	descriptors := 0
	for round := range 3 {
		killed := time.Now()
		first.end(syscall.SIGKILL)
		if err := echoes(old); err != nil {
			t.Fatalf("round %d: a session without control: %v", round, err)
		}
		first = p.start()
		first.until("answering: this node holds a lease")
		fresh := p.session()
		if took := time.Since(killed); took > 3*time.Second {
			t.Errorf("round %d: a new session after %s", round, took)
		}
		fresh.Close()
		if err := echoes(old); err != nil {
			t.Fatalf("round %d: a session under the next control: %v", round, err)
		}
		if now := p.status(); len(now.Workers) != 1 || now.Workers[0].Process.PID != worker || now.Process.PID != first.cmd.Process.Pid {
			t.Errorf("round %d: workers %+v, want process %d alone", round, now.Workers, worker)
		} else if n := now.Workers[0].Process.FDs; round > 0 && n > descriptors {
			t.Errorf("round %d: the worker has %d descriptors, after round 0 %d", round, n, descriptors)
		} else if round == 0 {
			// The echo of the session that was closed may still have one.
			descriptors = n + 1
		}
	}
	if state := first.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("stop: %v:\n%s", state, strings.Join(first.log, "\n"))
	}
	first.untilAllEnd()
	if left := p.workersLeft(); len(left) > 0 || p.settings() != before {
		t.Errorf("workers %v are left, and %d rules and routes, before %d", left, p.settings(), before)
	}
}

// While a worker stands still that does not follow the next control process,
// this node claims nothing; nobody speaks for its flows until it goes on.
func TestWorkerThatStandsStillDuringTakeUp(t *testing.T) {
	for _, goesOn := range []bool{true, false} {
		p := newPair(t)
		first := p.start()
		first.until("answering: this node holds a lease")
		old := p.session()
		worker := p.status().Workers[0].Process.PID
		if err := syscall.Kill(worker, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		first.end(syscall.SIGKILL)
		if _, err := old.Write([]byte("anybody")); err != nil {
			t.Fatal(err)
		}
		second := p.start()
		second.until("does not follow")
		second.until("this node stops claiming its buckets")
		if goesOn {
			if err := syscall.Kill(worker, syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			second.until("serves its flows to their end")
		} else {
			second.until("stands still and is killed")
		}
		second.until("the workers turn again")
		fresh := p.session()
		if _, err := io.ReadFull(old, make([]byte, len("anybody"))); goesOn && err != nil {
			t.Errorf("the session of the worker that stood still: %v", err)
		}
		if goesOn {
			if err := errors.Join(echoes(old), echoes(fresh)); err != nil {
				t.Errorf("both sessions: %v", err)
			}
		}
		old.Close()
		first.untilAllEnd()
		if s := p.status(); len(s.Workers) != 1 || s.Workers[0].Retired {
			t.Errorf("workers %+v", s.Workers)
		}
	}
}

// A start that fails, however late, leaves the sessions to the next one.
func TestFailedStartCostsNoSession(t *testing.T) {
	p := newPair(t)
	first := p.start()
	first.until("answering: this node holds a lease")
	old := p.session()
	first.end(syscall.SIGKILL)
	good, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, amiss := range []string{"socket = ", "state_dir = "} {
		// A file is neither a place for sockets nor for state.
		bad := strings.Replace(string(good), amiss+`"`, amiss+`"/proc/version`, 1)
		if err := os.WriteFile(p.file, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		code, out := runProgram(t, program(t, "run", "--config", p.file), p.Start)
		if code != 1 || !strings.Contains(out, "not a directory") {
			t.Errorf("%s: exit %d: %s", amiss, code, out)
		}
		if err := echoes(old); err != nil {
			t.Errorf("%s: %v", amiss, err)
		}
	}
	if err := os.WriteFile(p.file, good, 0o644); err != nil {
		t.Fatal(err)
	}
	next := p.start()
	next.until("answering: this node holds a lease")
	if err := echoes(old); err != nil {
		t.Errorf("under the next control: %v", err)
	}
	p.session()
}

// A worker that is left alone accepts nothing once its lease is over, serves
// what it has, and then ends and leaves the host as it was.
func TestWorkerLeftAlone(t *testing.T) {
	p := newPair(t)
	before := p.settings()
	c := p.start()
	c.until("answering: this node holds a lease")
	old := p.session()
	c.end(syscall.SIGKILL)
	c.until("the control process is gone")
	// The lease may have a part of its second left; a SYN that is not answered is
	// sent again after another.
	for begun := time.Now(); ; {
		fresh, err := p.dial(time.Second)
		if err != nil {
			break
		}
		fresh.Close()
		if time.Since(begun) > 5*time.Second {
			t.Fatal("a session was accepted without a lease")
		}
	}
	if err := echoes(old); err != nil {
		t.Errorf("a session without control: %v", err)
	}
	if p.settings() == before {
		t.Error("the routes went away under a session")
	}
	old.Close()
	c.untilAllEnd()
	if left := p.workersLeft(); len(left) > 0 || p.settings() != before {
		t.Errorf("workers %v are left, and %d rules and routes, before %d", left, p.settings(), before)
	}
}

// Another configuration gets a worker of its own, and the flows of the old one
// run to their end beside it.
func TestOldFlowsBesideANewConfiguration(t *testing.T) {
	p := newPair(t)
	first := p.start()
	first.until("answering: this node holds a lease")
	old := p.session()
	first.end(syscall.SIGKILL)
	p.echo("127.0.0.1:7001")
	p.configure("[[service]]\nname = \"other\"\nlisten = \"" + testVIP + ":8\"\nbackend = \"127.0.0.1:7001\"\n")
	second := p.start()
	second.until("answering: this node holds a lease")
	fresh := p.session()
	for name, c := range map[string]net.Conn{"old": old, "new": fresh} {
		if err := echoes(c); err != nil {
			t.Errorf("the %s session: %v", name, err)
		}
	}
	s := p.status()
	if len(s.Workers) != 2 || s.Workers[0].Retired || !s.Workers[1].Retired || s.Workers[0].Flows.Running != 1 || s.Workers[1].Flows.Running != 1 || s.Flows.Running != 2 {
		t.Errorf("workers %+v", s.Workers)
	}
	if s.Workers[0].Guard.State == "in the kernel" && s.Workers[1].Guard.State != "closed" {
		t.Errorf("the earlier worker's guard is %q", s.Workers[1].Guard.State)
	}
	old.Close()
	first.untilAllEnd()
	if err := echoes(fresh); err != nil {
		t.Errorf("the new session: %v", err)
	}
}

// A worker that dies is replaced, and says that nothing is claimed meanwhile.
func TestDeadWorkerIsReplaced(t *testing.T) {
	p := newPair(t)
	c := p.start()
	c.until("answering: this node holds a lease")
	p.session()
	if err := syscall.Kill(p.status().Workers[0].Process.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.until("a worker has ended, and its flows with it")
	p.session()
	if state := c.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("stop: %v", state)
	}
	c.untilAllEnd()
}

// The hidden command is not for people.
func TestWorkerNeedsControl(t *testing.T) {
	code, out := runProgram(t, program(t, workerCommand), (*exec.Cmd).Start)
	if code != 1 || !strings.Contains(out, "this command is for `onevoice run` itself") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// What control tells a worker comes through as it is.
func TestSettingsGoThroughJSON(t *testing.T) {
	c, err := config.Load("../../config/testdata/reference.toml")
	if err != nil {
		t.Fatal(err)
	}
	sent, err := json.Marshal(&control.WorkerSettings{Config: c, Self: c.Cluster.Peers[0], HashKey: [16]byte{1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	var got control.WorkerSettings
	if err := json.Unmarshal(sent, &got); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(&got)
	if err != nil || string(again) != string(sent) {
		t.Errorf("%v:\n%s\nbecame\n%s", err, sent, again)
	}
}
