package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"onevoice/internal/netns"
)

var acceptance = flag.Bool("acceptance", false, "let other people's programs judge a cluster beside a plain server")

// acceptancePath is the path of the services; that by UDP, and those that listen on the
// loopback alone, stay on netstack.
var acceptancePath = flag.String("acceptance.path", "netstack", "netstack or direct")

// toolTime bounds one run of another program.
const toolTime = 5 * time.Minute

// target is what a program judges: the cluster, or one host with the kernel's own
// TCP and the same services.
type target struct {
	name   string
	v4, v6 string
}

// arena is a LAN with three nodes, a plain server and a client. What serves on each
// is the same.
type arena struct {
	t       *testing.T // of the part that runs
	whole   *testing.T
	lan     *netns.NS
	nodes   []*host
	runs    []*logged
	plain   *host
	client  *host
	dir     string // keys, certificates and what is served
	targets [2]target
	rows    []row
}

// row is what came of one program.
type row struct{ tool, plain, ours, verdict string }

const (
	arenaClient = "10.77.0.101"
	arenaPlain  = "10.77.0.50"
	arenaVIP    = "10.77.0.2"
	arenaVIP6   = "2001:db8:77::2"
	arenaPlain6 = "2001:db8:77::50"
	regressPort = 4242
)

func newArena(t *testing.T) *arena {
	t.Helper()
	needTools(t, "sshd", "ssh-keygen", "openssl", "nginx", "dnsmasq", "ip")
	a := &arena{t: t, whole: t, dir: t.TempDir()}
	a.targets = [2]target{{"plain", arenaPlain, arenaPlain6}, {"cluster", arenaVIP, arenaVIP6}}
	a.prepareFiles()
	hosts := map[string]*host{}
	for i := range 3 {
		h := newHost(t)
		hosts[fmt.Sprintf("10.77.0.%d", 11+i)] = h
		a.nodes = append(a.nodes, h)
	}
	a.plain, a.client = newHost(t), newHost(t)
	hosts[arenaPlain], hosts[arenaClient] = a.plain, a.client
	a.lan = joinLAN(t, hosts)
	for address, h := range hosts {
		last := address[strings.LastIndex(address, ".")+1:]
		a.sh(h, "ip", "addr", "add", "2001:db8:77::"+last+"/64", "dev", "eth0", "nodad")
		a.sh(h, "ip", "addr", "add", "::1/128", "dev", "lo", "nodad", "noprefixroute")
	}
	for i, h := range a.nodes {
		if *acceptancePath == "direct" {
			a.serve(h, "0.0.0.0", "::")
		} else {
			a.serve(h, "127.0.0.1", "::1")
		}
		a.configure(h, i)
		a.runs = append(a.runs, h.begin("run"))
	}
	a.serve(a.plain, arenaPlain, arenaPlain6)
	for _, l := range a.runs {
		l.until("answering: this node holds a lease")
		go a.watch(l)
	}
	return a
}

// watch reads a log on, so that its writer is never kept waiting, and looks for what
// must not happen.
func (a *arena) watch(l *logged) {
	for line := range l.lines {
		if strings.Contains(line, "panic") || strings.Contains(line, "a worker ended") {
			a.whole.Error(line)
		}
	}
}

// sh runs a command on a host, which must succeed; "::1 is there already" is no harm.
func (a *arena) sh(h *host, args ...string) {
	a.t.Helper()
	if out, err := output(a.t, h.NS, args...); err != nil && !strings.Contains(out, "File exists") && !strings.Contains(out, "already assigned") {
		a.t.Fatalf("%v: %v: %s", args, err, out)
	}
}

func (a *arena) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// prepareFiles makes keys, a certificate and what is served.
func (a *arena) prepareFiles() {
	a.t.Helper()
	in := func(name string) string { return filepath.Join(a.dir, name) }
	for _, key := range []string{"host", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", in(key)).CombinedOutput(); err != nil {
			a.t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	out, err := exec.Command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=cluster.test",
		"-addext", "subjectAltName=DNS:cluster.test", "-keyout", in("tls.key"), "-out", in("tls.crt")).CombinedOutput()
	if err != nil {
		a.t.Fatalf("openssl: %v: %s", err, out)
	}
	a.must(os.Mkdir(in("web"), 0o755))
	a.must(os.Mkdir(in("tree"), 0o755))
	a.must(os.WriteFile(in("web/index.html"), bytes.Repeat([]byte("hello, "), 100), 0o644))
	a.must(os.WriteFile(in("web/large"), patterned(20<<20), 0o644))
	for i := range 200 {
		a.must(os.WriteFile(in(fmt.Sprintf("tree/%03d", i)), patterned(i*i), 0o644))
	}
}

// patterned is n bytes that do not repeat soon.
func patterned(n int) []byte {
	b, x := make([]byte, n), uint32(2463534242)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}

// serve starts sshd, nginx and dnsmasq on a host, at these addresses.
func (a *arena) serve(h *host, v4, v6 string) {
	a.t.Helper()
	dir := a.t.TempDir()
	a.must(os.MkdirAll("/run/sshd", 0o755))
	sshd := filepath.Join(dir, "sshd_config")
	a.must(os.WriteFile(sshd, []byte(fmt.Sprintf("ListenAddress %s:22\nListenAddress [%s]:22\nHostKey %s/host\nAuthorizedKeysFile %[3]s/user.pub\nStrictModes no\nPidFile none\nMaxStartups 1000\nSubsystem sftp internal-sftp\nUseDNS no\n",
		v4, v6, a.dir)), 0o644))
	program, err := exec.LookPath("sshd")
	a.must(err)
	a.background(h.NS, exec.Command(program, "-D", "-e", "-f", sshd))
	conf := filepath.Join(dir, "nginx.conf")
	a.must(os.WriteFile(conf, []byte(fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events { worker_connections 4096; }
http { access_log off; default_type text/html; server_tokens off;
 server { listen %[2]s:80; listen [%[3]s]:80 ipv6only=on; listen %[2]s:443 ssl http2; listen [%[3]s]:443 ssl http2 ipv6only=on;
  ssl_certificate %[4]s/tls.crt; ssl_certificate_key %[4]s/tls.key; root %[4]s/web; } }
`, dir, v4, v6, a.dir)), 0o644))
	a.background(h.NS, exec.Command("nginx", "-e", "stderr", "-p", dir, "-c", conf))
	names := []string{"--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root", "--pid-file=", "--conf-file=/dev/null", "--address=/cluster.test/192.0.2.7", "--txt-record=cluster.test,one voice"}
	if v4 != "0.0.0.0" {
		// On all addresses it answers from the one that was asked, without this.
		names = append(names, "--bind-interfaces", "--listen-address="+v4, "--listen-address="+v6)
	}
	a.background(h.NS, exec.Command("dnsmasq", names...))
	if v4 == "0.0.0.0" {
		v4, v6 = "127.0.0.1", "::1"
	}
	for _, port := range []string{"22", "80", "443", "53"} {
		untilListening(a.t, h.NS, "tcp", net.JoinHostPort(v4, port))
		untilListening(a.t, h.NS, "tcp", net.JoinHostPort(v6, port))
	}
}

// background runs a program until the test ends; what it says is of no use.
func (a *arena) background(ns *netns.NS, cmd *exec.Cmd) {
	a.t.Helper()
	a.must(ns.Start(cmd))
	a.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_, _ = cmd.Process.Wait()
	})
}

// configure writes a node's file. The client belongs to the first node.
func (a *arena) configure(h *host, i int) {
	a.t.Helper()
	dir := filepath.Dir(h.file)
	var b strings.Builder
	fmt.Fprintf(&b, "[cluster]\nname = \"acceptance\"\ninterface = \"eth0\"\nkey_file = %q\npeers = [\"10.77.0.11\", \"10.77.0.12\", \"10.77.0.13\"]\ntiming = \"calm\"\n", filepath.Join(dir, "key"))
	fmt.Fprintf(&b, "[node]\nname = %q\nstate_dir = %q\ngateway_check = false\n[admin]\nsocket = %q\n", nodeName(i), filepath.Join(dir, "state"), h.socket())
	fmt.Fprintf(&b, "[[vip]]\naddress = \"%s/24\"\n[[vip]]\naddress = \"%s/64\"\n", arenaVIP, arenaVIP6)
	for _, s := range []struct {
		name string
		port int
		udp  string
		may  string
	}{{"ssh", 22, "", ""}, {"http", 80, "", ""}, {"https", 443, "", ""}, {"dns-tcp", 53, "", ""}, {"dns", 53, "udp://", ""}, {"regress", regressPort, "", "check = \"exec:/bin/true\"\n"}} {
		to, to6 := fmt.Sprintf("backend = \"127.0.0.1:%d\"\n%s", s.port, s.may), fmt.Sprintf("backend = \"[::1]:%d\"\n%s", s.port, s.may)
		if *acceptancePath == "direct" && s.udp == "" && s.port != regressPort {
			to, to6 = "path = \"direct\"\n", "path = \"direct\"\n"
		}
		fmt.Fprintf(&b, "[[service]]\nname = %q\nlisten = \"%s%s:%d\"\n%s", s.name, s.udp, arenaVIP, s.port, to)
		fmt.Fprintf(&b, "[[service]]\nname = \"%s6\"\nlisten = \"%s[%s]:%d\"\n%s", s.name, s.udp, arenaVIP6, s.port, to6)
	}
	fmt.Fprintf(&b, "[[pin]]\nclients = [\"%s/32\"]\nnode = %q\n", arenaClient, nodeName(0))
	a.must(os.WriteFile(h.file, []byte(b.String()), 0o644))
}

// run runs a program on the client to its end, and gives what it prints. What it
// says of failing is the caller's to judge.
func (a *arena) run(command ...string) string { return a.runIn(toolTime, command...) }

func (a *arena) runIn(limit time.Duration, command ...string) string {
	a.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, time.Second
	cmd.Env = append(os.Environ(), "LC_ALL=C", "HOME="+a.dir, "TERM=dumb")
	if err := a.client.Start(cmd); err != nil {
		a.t.Fatal(err)
	}
	var failed *exec.ExitError
	// Who leaves a process behind that holds its output has ended all the same.
	if err := cmd.Wait(); err != nil && !errors.As(err, &failed) && !errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		a.t.Fatalf("%v: %v: %s", command, err, out.String())
	}
	return out.String()
}

// judged is one program's part: it is skipped by name where it is not installed.
// each gives its figure for one target, worse says whether ours is worse, and why.
func (a *arena) judged(tool, program string, each func(target) string, worse func(plain, ours string) string) {
	a.t.Run(tool, func(t *testing.T) {
		defer func(outer *testing.T) { a.t = outer }(a.t)
		a.t = t
		r := row{tool: tool, verdict: "skipped: needs " + program}
		defer func() { a.rows = append(a.rows, r) }()
		needTools(t, program)
		r.verdict = "failed"
		r.plain, r.ours = each(a.targets[0]), each(a.targets[1])
		why := worse(r.plain, r.ours)
		if why == "" {
			why = a.alive()
		}
		if why != "" {
			t.Errorf("%s; plain: %s; ours: %s", why, r.plain, r.ours)
			return
		}
		r.verdict = "no worse"
	})
}

// same is the judgement that the two are to be equal.
func same(plain, ours string) string {
	if plain != ours {
		return "they differ"
	}
	return ""
}

// alive says what does not answer any more, over either family.
func (a *arena) alive() string {
	for _, at := range []string{arenaVIP, arenaVIP6} {
		for _, port := range []string{"22", "80"} {
			err := a.client.Do(func() error {
				c, err := net.DialTimeout("tcp", net.JoinHostPort(at, port), patience)
				if err != nil {
					return err
				}
				defer c.Close()
				if port == "80" {
					_, err = fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
				}
				_ = c.SetDeadline(time.Now().Add(patience))
				return errors.Join(err, firstByte(c))
			})
			if err != nil {
				return fmt.Sprintf("afterwards %s port %s is gone: %v", at, port, err)
			}
		}
	}
	return ""
}

func firstByte(c net.Conn) error {
	_, err := c.Read(make([]byte, 1))
	return err
}

// table is what came of all.
func (a *arena) table() string {
	var b strings.Builder
	for _, r := range a.rows {
		fmt.Fprintf(&b, "%s: %s\n", r.tool, r.verdict)
		if r.ours != "" {
			fmt.Fprintf(&b, "  plain    %s\n  cluster  %s\n", r.plain, r.ours)
		}
	}
	return b.String()
}

// TestAcceptance lets other people's programs judge a cluster beside a plain server,
// with the same services on the same LAN. Each is skipped by its name where it is not
// installed.
func TestAcceptance(t *testing.T) {
	if !*acceptance {
		t.Skip("make acceptance")
	}
	a := newArena(t)
	a.questions()
	a.scans()
	a.floods()
	a.services()
	a.transfers()
	a.captures()
	a.openssh()
	for _, l := range a.runs {
		a.must(l.Process.Signal(syscall.SIGTERM))
		if err := l.Wait(); err != nil {
			t.Errorf("a node ended with %v", err)
		}
	}
	fmt.Print(a.table())
}

// portDown cuts a node off, or lets it back.
func (a *arena) port(i int, up bool) {
	a.must(a.lan.Do(func() error {
		l, err := netlink.LinkByName(fmt.Sprintf("p%d", 11+i))
		if err != nil {
			return err
		}
		if up {
			return netlink.LinkSetUp(l)
		}
		return netlink.LinkSetDown(l)
	}))
}
