package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// statefulRules are a host's usual ones: what is not wanted is dropped, and so is what
// connection tracking cannot place, in both directions.
const statefulRules = `table inet fw {
	chain in {
		type filter hook input priority 0; policy drop;
		ct state established,related accept
		ct state invalid counter drop comment "invalid in"
		iif lo accept
		meta l4proto { icmp, ipv6-icmp } accept
		ip saddr 10.77.0.11-10.77.0.13 udp dport 7177 accept
		ip daddr 10.77.0.2 ct state new counter accept comment "new"
	}
	chain out {
		type filter hook output priority 0; policy accept;
		ct state invalid tcp flags & rst == rst counter drop comment "invalid reset"
		ct state invalid meta l4proto tcp counter drop comment "invalid segment"
		ct state invalid meta l4proto { icmp, ipv6-icmp } counter drop comment "invalid ICMP"
		ct state invalid counter drop comment "invalid packet"
	}
}`

// counts are how many packets met the rules with a comment, on a node.
func (l *directLab) counts(node, comment string) (n int) {
	l.t.Helper()
	_, out := l.on(node, "nft", "list", "table", "inet", "fw")
	for _, m := range regexp.MustCompile(`packets (\d+) bytes \d+ \S+ comment "`+comment+`"`).FindAllStringSubmatch(out, -1) {
		var one int
		fmt.Sscan(m[1], &one)
		n += one
	}
	return n
}

// A stateful packet filter with connection tracking on every node: sessions outlive the
// daemon, and go on at the drainer when their bucket has moved, and nothing that leaves is
// invalid to it; the doctor knows that it sees them. Where it keeps the port out, status
// and doctor say so.
func TestDirectPathBehindAPacketFilter(t *testing.T) {
	needTools(t, "nft")
	l := newDirectLab(t)
	for _, node := range macNodes() {
		if code, out := l.on(node, "nft", statefulRules); code != 0 {
			t.Skip("needs nft with connection tracking:", out)
		}
	}
	l.until("a client is let in", func() bool { node, _ := l.login("10.77.0.101"); return node != "" })
	s := l.session("10.77.0.101")
	at := "ov-" + s.node
	if f := l.doctor(at)["firewall"]; !strings.Contains(f.Text, "inet fw") || !strings.Contains(f.Text, "sees the clients of ssh") {
		t.Errorf("the doctor of a firewall: %+v", f)
	}
	l.lab("kill", at)
	s.says("nobody is there")
	l.lab("start", at)
	l.until("the node serves again", func() bool { return l.serves(at) })
	s.says("back again")
	if code, out := l.on(at, "onevoice", "drain", s.node); code != 0 {
		t.Fatal(out)
	}
	l.until("the client's bucket has moved", func() bool { node, _ := l.login("10.77.0.101"); return node != "" && node != s.node })
	s.says("still here")
	if code, out := l.on(at, "onevoice", "undrain", s.node); code != 0 {
		t.Fatal(out)
	}
	l.until("the node serves again", func() bool { return l.serves(at) })
	s.says("and here again")
	accepted := 0
	for _, node := range macNodes() {
		// What a client still says of a connection that was reset is invalid on any host.
		for _, what := range []string{"reset", "segment", "ICMP", "packet"} {
			if out := l.counts(node, "invalid "+what); out > 0 {
				t.Errorf("%s: of what left %d were invalid, kind %s", node, out, what)
			}
		}
		accepted += l.counts(node, "new")
	}
	if accepted == 0 {
		t.Error("no rule has seen a client: the check cannot fail")
	}
	l.keepsOut(at)
}

// keepsOut has the filters of all nodes drop the service's clients, and lets them in again.
func (l *directLab) keepsOut(node string) {
	l.t.Helper()
	rules := map[string]string{}
	for _, n := range macNodes() {
		l.do(n, "nft", "insert", "rule", "inet", "fw", "in", "ct state new tcp dport 22 drop")
		_, out := l.on(n, "nft", "-a", "list", "chain", "inet", "fw", "in")
		if m := regexp.MustCompile(`dport 22 .*drop # handle (\d+)`).FindStringSubmatch(out); m != nil {
			rules[n] = m[1]
		}
	}
	// A lab runs 64 commands at a time.
	const atOnce = 30
	var trying []*exec.Cmd
	tries := func() {
		for i := range 3 {
			if len(trying) == atOnce {
				trying[0].Process.Kill()
				trying[0].Wait()
				trying = trying[1:]
			}
			// In the background: each waits for as long as it may.
			cmd := labProgram(l.t, append([]string{"exec", "ov-client1", "--"}, append(l.ssh(fmt.Sprintf("10.77.0.%d", 101+i)), "true")...)...)
			if err := cmd.Start(); err != nil {
				l.t.Fatal(err)
			}
			trying = append(trying, cmd)
		}
	}
	l.t.Cleanup(func() {
		for _, cmd := range trying {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	found := ""
	l.until("a node says that its packet filter keeps clients out", func() bool {
		tries()
		for _, n := range macNodes() {
			if l.doctor(n)["kept-out"].Harms {
				found = n
			}
		}
		return found != ""
	})
	if out := says(l.prints(found, "status")); !strings.Contains(out, "its packet filter drops them, most likely; let the services' ports in") {
		l.t.Errorf("status on %s: %s", found, out)
	}
	for n, handle := range rules {
		l.do(n, "nft", "delete", "rule", "inet", "fw", "in", "handle", handle)
	}
	l.until("it is said no more", func() bool {
		for i := range 6 {
			l.login(fmt.Sprintf("10.77.0.%d", 101+i))
		}
		_, is := l.doctor(found)["kept-out"]
		return !is
	})
}
