package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// One client whose logins fail until sshd refuses its address locks out nobody
// else, for sshd sees each client's own address (sshd_config(5),
// PerSourcePenalties).
func TestAbusiveClientLocksOutNobodyElse(t *testing.T) {
	needTools(t, "sshd", "ssh", "ssh-keygen")
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		t.Fatal(err)
	}
	needPenalties(t, sshd)
	p := newPair(t)
	dir := t.TempDir()
	for _, key := range []string{"host", "good", "bad"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	file := filepath.Join(dir, "sshd_config")
	text := fmt.Sprintf(`ListenAddress 127.0.0.1:22
HostKey %[1]s/host
AuthorizedKeysFile %[1]s/good.pub
StrictModes no
PidFile none
LogLevel VERBOSE
PerSourcePenalties authfail:60s min:30s
`, dir)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where it keeps its children
		t.Fatal(err)
	}
	background(t, p.NS, exec.Command(sshd, "-D", "-e", "-f", file))
	untilListening(t, p.NS, "tcp", "127.0.0.1:22")
	p.configure(fmt.Sprintf("[[service]]\nname = \"ssh\"\nlisten = \"%s:22\"\nbackend = \"127.0.0.1:22\"\n", testVIP))
	run := p.start()
	run.until("answering: this node holds a lease")
	p.clientAddress("10.77.0.102")

	login := func(from, key string) (string, error) {
		return output(t, p.client, "ssh", "-F", "none", "-b", from, "-i", filepath.Join(dir, key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
			"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "root@"+testVIP, "echo $SSH_CONNECTION")
	}
	if out, err := login("10.77.0.101", "bad"); err == nil {
		t.Fatalf("a wrong key logs in: %s", out)
	}
	for begun := time.Now(); ; {
		if said := p.greeting("10.77.0.101"); strings.HasPrefix(said, "Not allowed at this time") {
			break
		}
		if time.Since(begun) > patience {
			t.Fatal("sshd does not refuse the abusive client, so there is nothing to see")
		}
	}
	out, err := login("10.77.0.102", "good")
	if err != nil || !strings.HasPrefix(out, "10.77.0.102 ") {
		t.Errorf("another client is told %q, %v", out, err)
	}
	if out, err := login("10.77.0.101", "good"); err == nil {
		t.Errorf("the abusive client logs in: %s", out)
	}
}

// needPenalties skips a test with an sshd that has no PerSourcePenalties.
func needPenalties(t *testing.T, sshd string) {
	t.Helper()
	// An old one does not know -V, and tells its version besides its options.
	out, _ := exec.Command(sshd, "-V").CombinedOutput()
	m := regexp.MustCompile(`OpenSSH_(\d+)\.(\d+)`).FindStringSubmatch(string(out))
	if m == nil {
		t.Skipf("needs sshd of OpenSSH 9.8 or later; %s does not tell its version", sshd)
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	if major < 9 || major == 9 && minor < 8 {
		t.Skipf("needs sshd of OpenSSH 9.8 or later, for PerSourcePenalties; %s is %s", sshd, m[0])
	}
}

// clientAddress gives the client one address more.
func (p *pair) clientAddress(a string) {
	p.t.Helper()
	err := p.client.Do(func() error {
		l, err := netlink.LinkByName("cable")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(a), Mask: net.CIDRMask(24, 32)}})
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// greeting is what sshd says first.
func (p *pair) greeting(from string) string {
	p.t.Helper()
	var c net.Conn
	err := p.client.Do(func() (err error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
		c, err = d.Dial("tcp4", testVIP+":22")
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	b := make([]byte, 100)
	n, err := c.Read(b)
	if err != nil && err != io.EOF {
		p.t.Fatal(err)
	}
	return string(b[:n])
}

// A packet filter that bans one client, as fail2ban does, takes the service from nobody
// else: it sees each client's own address on the way to the service, and what it answers
// that client is not the service's word.
func TestBannedClientTakesTheServiceFromNobodyElse(t *testing.T) {
	needTools(t, "nft")
	p := newPair(t)
	p.clientAddress("10.77.0.102")
	run := p.start()
	run.until("answering: this node holds a lease")
	const ban = "add table inet f2b; add chain inet f2b input { type filter hook input priority -1; }; add rule inet f2b input tcp dport 7000 ip saddr 10.77.0.101 reject with icmp port-unreachable"
	if out, err := output(t, p.NS, "nft", ban); err != nil {
		t.Skipf("needs nft to ban a client: %v: %s", err, out)
	}
	echoes := func(from string) error {
		return p.client.Do(func() error {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
			c, err := d.Dial("tcp4", testVIP+":7")
			if err != nil {
				return err
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(patience))
			if _, err := c.Write([]byte("x")); err != nil {
				return err
			}
			_, err = io.ReadFull(c, make([]byte, 1))
			return err
		})
	}
	for range 5 {
		if err := echoes("10.77.0.101"); err == nil {
			t.Error("the banned client is served, so there is nothing to see")
		}
		if err := echoes("10.77.0.102"); err != nil {
			t.Errorf("another client is not served: %v", err)
		}
	}
	if _, out := runProgram(t, program(t, "status", "--socket", p.socket()), (*exec.Cmd).Start); strings.Contains(out, "DOWN") || strings.Contains(out, "does not accept") {
		t.Errorf("the service counts as down:\n%s", out)
	}
}
