package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"onevoice/admin"
	"onevoice/hashing"
)

// mixedVIP and mixedMAC are what the kernel's nodes and ours share.
const (
	mixedVIP = "10.77.0.2"
	mixedMAC = "01:00:5e:4d:00:02"
)

// mixed is a cluster of hosts that are moved over from xt_cluster one by one, and a
// client with many addresses.
type mixed struct {
	t       *testing.T
	nodes   []*host
	client  *host
	clients []netip.Addr
	logins  []*login
	// moved are the names of the nodes that are ours.
	moved  []string
	shares hashing.Compatible
}

// login is a session of a client, with the name of the node that greeted it.
type login struct {
	net.Conn
	lines *bufio.Reader
	node  string
}

func newMixed(t *testing.T) *mixed {
	m := &mixed{t: t, shares: hashing.Compatible{System: hashing.XTCluster, Seed: 0xcafe, Nodes: 3}}
	for _, tool := range []string{"iptables", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	hosts := map[string]*host{}
	for i := range m.shares.Nodes {
		h := newHost(t)
		h.ownState()
		const shares = "hash = \"xt_cluster\"\nhash_seed = 51966\ntotal_nodes = 3\nlocal = { unix1 = [1], unix2 = [2], unix3 = [3] }\n"
		h.edit(`, "10.77.0.14"]`, "]", `# timing = "lan"`, `timing = "calm"`, `# name = "unix1"`, fmt.Sprintf("name = %q", nodeName(i)),
			"name = \"ssh\"\n", "name = \"ssh\"\n"+shares, "name = \"dns\"\n", "name = \"dns\"\n"+shares)
		hosts[fmt.Sprintf("10.77.0.%d", 11+i)] = h
		m.nodes = append(m.nodes, h)
	}
	m.client = newHost(t)
	hosts["10.77.0.101"] = m.client
	joinLAN(t, hosts)
	for i := range 24 {
		a := netip.AddrFrom4([4]byte{10, 77, 0, byte(110 + i)})
		m.clients = append(m.clients, a)
		m.sh(m.client, "ip", "addr", "add", a.String()+"/24", "dev", "eth0")
	}
	m.sh(m.client, "ip", "neigh", "replace", mixedVIP, "lladdr", mixedMAC, "nud", "permanent", "dev", "eth0")
	for i, h := range m.nodes {
		m.greet(h, nodeName(i))
		m.kernelNode(i)
	}
	return m
}

func nodeName(i int) string { return fmt.Sprintf("unix%d", i+1) }

func (m *mixed) sh(h *host, args ...string) {
	m.t.Helper()
	if code, out := runProgram(m.t, exec.Command(args[0], args[1:]...), h.Start); code != 0 {
		if strings.Contains(out, "cluster") && !strings.Contains(out, "Bad argument") {
			m.t.Skipf("%v: exit %d: %s", args, code, out)
		}
		m.t.Fatalf("%v: exit %d: %s", args, code, out)
	}
}

// greet serves on port 22 of a host: a line with its name, and then what it is sent.
func (m *mixed) greet(h *host, name string) {
	m.t.Helper()
	var l net.Listener
	err := h.Do(func() (err error) { l, err = net.Listen("tcp4", "0.0.0.0:22"); return err })
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintf(c, "SSH-2.0-%s %s\n", name, c.RemoteAddr())
				for r := bufio.NewReader(c); ; {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					fmt.Fprint(c, line)
				}
			}()
		}
	}()
}

// kernelNode makes a host a node of the kernel's own cluster match, as its manual says
// (iptables-extensions(8), cluster). ARP is answered by nobody: the client knows the MAC.
func (m *mixed) kernelNode(i int) {
	m.t.Helper()
	h := m.nodes[i]
	for _, file := range []string{"arp_ignore=1", "arp_announce=2"} {
		key, value, _ := strings.Cut(file, "=")
		if err := h.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/all/"+key, []byte(value), 0) }); err != nil {
			m.t.Fatal(err)
		}
	}
	m.sh(h, "ip", "addr", "add", mixedVIP+"/32", "dev", "lo")
	m.sh(h, "ip", "maddr", "add", mixedMAC, "dev", "eth0")
	m.sh(h, "iptables", "-t", "mangle", "-A", "PREROUTING", "-i", "eth0", "-d", mixedVIP, "-m", "cluster", "--cluster-total-nodes", "3",
		"--cluster-local-node", fmt.Sprint(i+1), "--cluster-hash-seed", "0xcafe", "-j", "MARK", "--set-mark", "0xffff")
	m.sh(h, "iptables", "-t", "mangle", "-A", "PREROUTING", "-i", "eth0", "-d", mixedVIP, "-m", "mark", "!", "--mark", "0xffff", "-j", "DROP")
}

// moveOver takes a host off the kernel's cluster and starts ours there.
func (m *mixed) moveOver(i int, begun []*logged) *logged {
	m.t.Helper()
	h := m.nodes[i]
	m.sh(h, "iptables", "-t", "mangle", "-F", "PREROUTING")
	m.sh(h, "ip", "addr", "del", mixedVIP+"/32", "dev", "lo")
	m.sh(h, "ip", "maddr", "del", mixedMAC, "dev", "eth0")
	if len(begun) == 0 {
		return h.begin("bootstrap", "--without", "10.77.0.12,10.77.0.13", "--"+fencedFlag).until("answering: this node holds a lease")
	}
	l := h.begin("run").until("answering: this node holds a lease")
	socket := m.nodes[0].socket()
	for late := time.Now().Add(patience); ; {
		code, out := runProgram(m.t, program(m.t, "status", "--socket", socket), (*exec.Cmd).Start)
		if strings.Contains(out, "onevoice takeover "+nodeName(i)) && strings.Contains(out, fmt.Sprintf("%s, another system's node, answers for number %d", nodeName(i), i+1)) {
			break
		}
		if code != 0 || time.Now().After(late) {
			m.t.Fatalf("status does not tell of %s: exit %d\n%s", nodeName(i), code, out)
		}
	}
	for late := time.Now().Add(patience); ; {
		code, out := runProgram(m.t, program(m.t, "takeover", nodeName(i), "--socket", socket), (*exec.Cmd).Start)
		switch {
		case code == 0:
			return l
		case !strings.Contains(out, "takes no buckets now") || time.Now().After(late): // it has a lease, and may not be in
			m.t.Fatalf("takeover: exit %d: %s", code, out)
		}
	}
}

// home is whose a client is.
func (m *mixed) home(c netip.Addr) string {
	bucket, _ := m.shares.Bucket(&hashing.Flow{Src: c})
	return nodeName(int(bucket))
}

// logIn begins a session of a client, which has to be greeted by the node whose it is
// and by its own address. A node of ours that was not given the processor for so long
// that it lost its lease is stood in for by another of ours, and by nobody else, until
// it has its own again.
func (m *mixed) logIn(c netip.Addr) *login {
	m.t.Helper()
	for late := time.Now().Add(patience); ; {
		l, greeting, err := m.dial(c)
		ours := l != nil && slices.Contains(m.moved, strings.TrimPrefix(strings.Fields(greeting + " -")[0], "SSH-2.0-"))
		switch {
		case err == nil && greeting == fmt.Sprintf("SSH-2.0-%s %s\n", m.home(c), l.LocalAddr()):
			m.t.Cleanup(func() { l.Close() })
			l.node = m.home(c)
			return l
		case !slices.Contains(m.moved, m.home(c)) || err == nil && !ours || time.Now().After(late):
			_, out := runProgram(m.t, program(m.t, "status", "--socket", m.nodes[0].socket()), (*exec.Cmd).Start)
			m.t.Fatalf("%v, a client of %s, is greeted with %q: %v\n%s", c, m.home(c), greeting, err, out)
		}
		if l != nil {
			l.Close()
		}
	}
}

// dial begins a session and reads the greeting.
func (m *mixed) dial(c netip.Addr) (l *login, greeting string, err error) {
	var conn net.Conn
	err = m.client.Do(func() (err error) {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(c, 0)), Timeout: patience}
		conn, err = d.Dial("tcp4", mixedVIP+":22")
		return err
	})
	if err != nil {
		return nil, "", err
	}
	l = &login{Conn: conn, lines: bufio.NewReader(conn)}
	l.SetDeadline(time.Now().Add(patience))
	greeting, err = l.lines.ReadString('\n')
	return l, greeting, err
}

// alive exchanges a line on a session.
func (l *login) alive() error {
	l.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(l, "who"); err != nil {
		return err
	}
	line, err := l.lines.ReadString('\n')
	if err == nil && line != "who\n" {
		err = fmt.Errorf("%q came back", line)
	}
	return err
}

// all sessions but those of one node are alive.
func (m *mixed) allBut(name string) {
	m.t.Helper()
	for i, l := range m.logins {
		if l.node == name {
			continue
		}
		if err := l.alive(); err != nil {
			m.t.Fatalf("the session of %v at %s, while %s was moved over: %v", m.clients[i], l.node, name, err)
		}
	}
}

// A cluster of the kernel's is moved over node by node. Every session of a node that is
// not moved lives through it, new logins of its clients are taken at all times, and each
// client stays with the host that it had.
func TestMixedClusterIsMovedOver(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	m := newMixed(t)
	at := map[string]int{}
	for _, c := range m.clients {
		m.logins = append(m.logins, m.logIn(c))
		at[m.home(c)]++
	}
	if len(at) != m.shares.Nodes {
		t.Fatalf("the clients are at %v", at)
	}
	var ours []*logged
	for i := range m.nodes {
		ours, m.moved = append(ours, m.moveOver(i, ours)), append(m.moved, nodeName(i))
		m.allBut(nodeName(i))
		for k, c := range m.clients {
			if m.home(c) == nodeName(i) {
				m.logins[k].Close() // its host has forgotten it
				m.logins[k] = m.logIn(c)
			} else {
				m.logIn(c).Close()
			}
		}
		m.allBut("")
		m.explained(i)
	}
	m.pings()
	for _, l := range ours {
		if err := l.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range ours {
		for range l.lines {
		}
	}
}

// explained: a node of ours says of each client where it has logged in.
func (m *mixed) explained(moved int) {
	m.t.Helper()
	for k, c := range m.clients[:6] {
		var e admin.Explanation
		var out string
		for late := time.Now().Add(patience); e.Owner != m.logins[k].node && time.Now().Before(late); {
			var code int
			code, out = runProgram(m.t, program(m.t, "explain", c.String(), mixedVIP+":22", "--json", "--socket", m.nodes[0].socket()), (*exec.Cmd).Start)
			e = admin.Explanation{}
			if err := json.Unmarshal([]byte(out), &e); code != 0 || err != nil {
				m.t.Fatalf("explain: exit %d, %v: %s", code, err, out)
			}
		}
		bucket, _ := m.shares.Bucket(&hashing.Flow{Src: c})
		kernels := int(bucket) > moved
		if e.Owner != m.logins[k].node || e.Bucket == nil || *e.Bucket != int(bucket) || *e.Number != int(bucket)+1 || e.Foreign != kernels || e.Why == "" ||
			kernels && e.Next != "" || e.Next == e.Owner {
			m.t.Errorf("%v is at %s, and this is explained: %s", c, m.logins[k].node, out)
		}
	}
}

// pings: with all nodes ours, nobody's echo request has two answers.
func (m *mixed) pings() {
	m.t.Helper()
	if _, err := exec.LookPath("ping"); err != nil {
		return
	}
	for _, c := range m.clients[:4] {
		code, out := runProgram(m.t, exec.Command("ping", "-c", "3", "-i", "0.2", "-W", "5", "-I", c.String(), mixedVIP), m.client.Start)
		if code != 0 || strings.Contains(out, "DUP") {
			m.t.Errorf("ping from %v: exit %d: %s", c, code, out)
		}
	}
}
