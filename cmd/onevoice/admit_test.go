package main

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/admission"
)

// Who may begin what is decided by prefixes, by how often and by how much, and who
// is not let in meets what the file says: curl asks.
func TestLimitsAndAccess(t *testing.T) {
	needTools(t, "curl", "nginx")
	p := newPair(t)
	nginx(t, p.NS, map[string]string{"127.0.0.1:8001": "$remote_addr"})
	var more strings.Builder
	for i, rules := range []string{
		`limit = { new = 2, per = "1h", action = "reject", exempt = ["10.77.0.102"] }`,
		`limit = { new = 2, per = "1h", action = "reset" }`,
		`limit = { new = 2, per = "1h", action = "drop" }`,
		"deny = [\"10.77.0.0/24\"]\nallow = [\"10.77.0.102\"]\ndeny_action = \"reject\"",
		`limit = { flows = 2, action = "reset" }`,
		"",
	} {
		fmt.Fprintf(&more, "[[service]]\nname = \"web%d\"\nlisten = \"%s:%d\"\nbackend = \"127.0.0.1:8001\"\n%s\n", i+1, testVIP, 81+i, rules)
	}
	p.configure(more.String() + "[access]\ndeny = [\"10.77.0.103\"]\n")
	for _, a := range []string{"10.77.0.102", "10.77.0.103"} {
		p.clientAddress(a)
	}
	run := p.start()
	run.until("answering: this node holds a lease")

	ask := func(from string, port, seconds int) string {
		out, err := output(t, p.client, "curl", "-sS", "--interface", from, "--connect-timeout", fmt.Sprint(seconds), fmt.Sprintf("http://%s:%d/", testVIP, port))
		if err == nil {
			return strings.TrimSpace(out)
		}
		return "error: " + out
	}
	const abuser, other = "10.77.0.101", "10.77.0.102"
	for port, want := range map[int]string{81: "curl: (7)", 82: "curl: (7)", 83: "curl: (28)"} {
		for i := range 2 {
			if got := ask(abuser, port, 20); got != abuser {
				t.Errorf("port %d: connection %d: %s", port, i+1, got)
			}
		}
		if got := ask(abuser, port, 1); !strings.HasPrefix(got, "error: ") || !strings.Contains(got, want) {
			t.Errorf("port %d: one too many: %s; want %q", port, got, want)
		}
		for range 2 {
			if got := ask(other, port, 20); got != other {
				t.Errorf("port %d: another client: %s", port, got)
			}
		}
	}
	if got := ask(other, 81, 20); got != other {
		t.Errorf("who is exempt: %s", got)
	}
	if got := ask(abuser, 84, 20); !strings.Contains(got, "curl: (7)") {
		t.Errorf("who is denied: %s", got)
	}
	if got := ask(other, 84, 20); got != other {
		t.Errorf("who is allowed: %s", got)
	}
	if got := ask("10.77.0.103", 86, 1); !strings.Contains(got, "curl: (28)") {
		t.Errorf("who is denied everywhere: %s", got)
	}
	// An ICMP error and a reset are told apart by the client's kernel.
	for port, want := range map[int]error{81: unix.EHOSTUNREACH, 82: unix.ECONNREFUSED} {
		if c, err := p.dialTo(port); !errors.Is(err, want) {
			t.Errorf("port %d: one more: %v, %v; want %v", port, c, err, want)
		}
	}
	p.flowsAtOnce(85)

	turned := map[string]admission.Counts{}
	for _, s := range p.status().Services {
		if s.TurnedAway == nil {
			t.Fatalf("the status tells nothing of %s", s.Name)
		}
		turned[s.Name] = *s.TurnedAway
	}
	for name, ok := range map[string]bool{
		"echo": turned["echo"] == admission.Counts{},
		// What is dropped comes again, and so does what is answered late.
		"web1": turned["web1"].OverRate > 1, "web2": turned["web2"].OverRate > 1, "web3": turned["web3"].OverRate > 0,
		"web4": turned["web4"].Denied > 0, "web5": turned["web5"].SourceFull > 0, "web6": turned["web6"].Denied > 0,
	} {
		if !ok {
			t.Errorf("service %s has turned away %+v", name, turned[name])
		}
	}
	code, out := runProgram(t, program(t, "status", "--socket", p.socket()), (*exec.Cmd).Start)
	if code != 0 || !strings.Contains(out, "TURNED AWAY") || !strings.Contains(out, "rate-limited") {
		t.Errorf("status: exit %d: %s", code, out)
	}
}

// dialTo connects from the client to a port of the VIP.
func (p *pair) dialTo(port int) (c net.Conn, err error) {
	err = p.client.Do(func() error {
		c, err = net.DialTimeout("tcp4", fmt.Sprintf("%s:%d", testVIP, port), patience)
		return err
	})
	return c, err
}

// flowsAtOnce has two connections open, a third refused, and one more once one of
// the two has ended.
func (p *pair) flowsAtOnce(port int) {
	p.t.Helper()
	dial := func() (net.Conn, error) { return p.dialTo(port) }
	var open []net.Conn
	for range 2 {
		c, err := dial()
		if err != nil {
			p.t.Fatal(err)
		}
		defer c.Close()
		open = append(open, c)
	}
	if c, err := dial(); err == nil {
		c.Close()
		p.t.Error("a third connection at once")
	}
	// The service ends it, and nothing is left to come.
	fmt.Fprint(open[0], "GET / HTTP/1.0\r\n\r\n")
	_ = open[0].SetDeadline(time.Now().Add(patience))
	for b := make([]byte, 1000); ; {
		if _, err := open[0].Read(b); err != nil {
			break
		}
	}
	open[0].Close()
	for begun := time.Now(); ; {
		c, err := dial()
		if err == nil {
			c.Close()
			return
		}
		if time.Since(begun) > patience {
			p.t.Fatalf("after one of them has ended: %v", err)
		}
	}
}
