package main

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const vip6 = "2001:db8:77::2"

func newIPv6Lab(t *testing.T) *macLab {
	t.Helper()
	ownStateDir(t)
	// The leases are long, for the machine may be busy.
	code, out := runProgram(t, labProgram(t, "up", "--nodes=3", "--clients=2", "--addresses=4", "--timing=calm", "--ipv6"), (*exec.Cmd).Start)
	skipWithoutLab(t, out)
	if strings.Contains(out, "this kernel has no IPv6") {
		t.Skip(out)
	}
	if code != 0 {
		t.Fatalf("lab up: exit %d:\n%s", code, out)
	}
	t.Cleanup(func() { runProgram(t, labProgram(t, "down"), (*exec.Cmd).Start) })
	return &macLab{t}
}

// ssh6 runs a command on whichever node answers an address of client1.
func ssh6(from, command string) []string {
	return []string{"ssh", "-o", "BatchMode=yes", "-o", "UserKnownHostsFile=/run/onevoice/ssh/known_hosts", "-i", "/run/onevoice/ssh/client",
		"-b", from, "root@" + vip6, command}
}

// verdicts are those of all nodes together.
func (l *macLab) verdicts(name string) (n uint64) {
	for _, node := range macNodes() {
		n += l.status(node).Verdicts[name]
	}
	return n
}

// announced is how often the nodes have said, unasked, where the VIP is.
func (l *macLab) announced() (n int) {
	for _, node := range macNodes() {
		n += int(l.status(node).Loop.Announced)
	}
	return n
}

// counter is a counter of a host's IPv6 (/proc/net/snmp6).
func (l *macLab) counter(host, name string) int {
	l.t.Helper()
	_, out := l.on(host, "cat", "/proc/net/snmp6")
	m := regexp.MustCompile(name + `\s+(\d+)`).FindStringSubmatch(out)
	if m == nil {
		l.t.Fatalf("%s has no counter %s: %s", host, name, out)
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// IPv6 with the host's own programs: one answer to one question, the client's own
// address at the service, and a path with a narrow hop.
func TestIPv6InTheLab(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes ten seconds")
	}
	needTools(t, "ip", "ping")
	l := newIPv6Lab(t)
	// In order: each step leaves the LAN as the next one finds it.
	l.pings6()
	l.questions6()
	l.duplicate6()
	l.logins6()
	l.survives6()
	l.narrowHop6()
}

func (l *macLab) pings6() {
	for i := range 4 {
		from := fmt.Sprintf("2001:db8:77::%d", 101+i)
		if code, out := l.on("ov-client1", "ping", "-6", "-c", "2", "-i", "0.2", "-W", "5", "-I", from, vip6); code != 0 || !strings.Contains(out, "2 received") || strings.Contains(out, "DUP") {
			l.t.Errorf("ping from %s: exit %d: %s", from, code, out)
		}
	}
	if _, out := l.on("ov-client1", "ip", "-6", "neigh", "show", vip6); !strings.Contains(out, "33:33:80:00:00:02") {
		l.t.Errorf("the client knows the VIP as %s", out)
	}
	for _, node := range macNodes() {
		// By it the kernel tells switches that snoop.
		if _, out := l.on(node, "cat", "/proc/net/igmp6"); !strings.Contains(out, "ff0200000000000000000001ff000002") {
			l.t.Errorf("%s is no member of the VIP's solicited-node group: %s", node, out)
		}
	}
	// A node that takes over the bucket of :: announces once, too.
	if n := l.announced(); n < 1 || n > len(macNodes()) {
		l.t.Errorf("the VIP was announced %d times", n)
	}
}

// questions6: as many advertisements come as solicitations were sent.
func (l *macLab) questions6() {
	asked, told := l.counter("ov-client1", "Icmp6OutNeighborSolicits"), l.counter("ov-client1", "Icmp6InNeighborAdvertisements")
	answered, announced := l.verdicts("answered-ndp"), l.announced()
	for i := range 4 {
		l.on("ov-client1", "ip", "-6", "neigh", "flush", "all")
		l.on("ov-client1", "ping", "-6", "-c", "1", "-W", "5", "-I", fmt.Sprintf("2001:db8:77::%d", 101+i), vip6)
	}
	asked, told = l.counter("ov-client1", "Icmp6OutNeighborSolicits")-asked, l.counter("ov-client1", "Icmp6InNeighborAdvertisements")-told
	answered, announced = l.verdicts("answered-ndp")-answered, l.announced()-announced
	if asked < 4 || told != asked+announced || int(answered) != asked {
		l.t.Errorf("%d solicitations were answered by %d advertisements, of %d that nodes say they sent", asked, told, answered)
	}
	if _, err := exec.LookPath("ndisc6"); err == nil {
		// It waits for more than one answer.
		_, out := l.on("ov-client1", "ndisc6", "-m", "-r", "1", "-w", "700", vip6, "eth0")
		if strings.Count(out, "33:33:80:00:00:02") != 1 || strings.Count(out, "from ") != 1 {
			l.t.Errorf("ndisc6: %s", out)
		}
	}
}

// duplicate6: a stranger that tries to take the VIP is told that it is in use.
func (l *macLab) duplicate6() {
	l.on("ov-client2", "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad; echo 1 >/proc/sys/net/ipv6/conf/eth0/dad_transmits")
	if code, out := l.on("ov-client2", "ip", "-6", "addr", "add", vip6+"/64", "dev", "eth0"); code != 0 {
		l.t.Fatalf("ip addr add: %s", out)
	}
	defer l.on("ov-client2", "ip", "-6", "addr", "del", vip6+"/64", "dev", "eth0")
	for range 50 {
		// The kernel probes within a second.
		_, out := l.on("ov-client2", "sh", "-c", "sleep 0.1; ip -6 addr show dev eth0")
		for line := range strings.Lines(out) {
			if strings.Contains(line, vip6) && !strings.Contains(line, "tentative") {
				l.t.Fatalf("the stranger has the VIP: %s", line)
			} else if strings.Contains(line, vip6) && strings.Contains(line, "dadfailed") {
				return
			}
		}
	}
	l.t.Error("the stranger was not told that the VIP is in use")
}

// logins6: the service sees who it is, whichever node answers and on the node's own
// host; a closed port is refused by one reset.
func (l *macLab) logins6() {
	if _, err := exec.LookPath("ssh"); err != nil {
		return
	}
	for i := range 4 {
		from := fmt.Sprintf("2001:db8:77::%d", 101+i)
		if code, out := l.on("ov-client1", ssh6(from, "echo $SSH_CONNECTION")...); code != 0 || !strings.Contains(out, from+" ") || !strings.Contains(out, " ::1 22") {
			l.t.Errorf("login from %s: exit %d: %s", from, code, out)
		}
	}
	if code, out := l.on("ov-n1", ssh6("2001:db8:77::11", "echo $SSH_CONNECTION on $ONEVOICE_NODE")...); code != 0 || !strings.Contains(out, "2001:db8:77::11 ") || !strings.Contains(out, "on n1") {
		l.t.Errorf("login of a node's own host: exit %d: %s", code, out)
	}
	if _, err := exec.LookPath("curl"); err == nil {
		resets := l.verdicts("closed-port")
		if code, out := l.on("ov-client1", "curl", "-6", "-s", "-S", "--max-time", "5", "http://["+vip6+"]:81/"); code == 0 || !strings.Contains(out, "refused") && !strings.Contains(out, "connect") {
			l.t.Errorf("curl to a closed port: exit %d: %s", code, out)
		}
		if n := l.verdicts("closed-port") - resets; n != 1 {
			l.t.Errorf("%d resets for a closed port, want 1", n)
		}
	}
}

// session6 is a login from an address that waits for a line.
type session6 struct {
	node string // "on n1"
	in   io.WriteCloser
	out  *bufio.Reader
	cmd  *exec.Cmd
}

func (l *macLab) session(from string) *session6 {
	l.t.Helper()
	s := &session6{cmd: labProgram(l.t, append([]string{"exec", "ov-client1", "--"}, ssh6(from, "echo on $ONEVOICE_NODE; read line; echo alive")...)...)}
	in, err := s.cmd.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	s.in, s.out = in, bufio.NewReader(out)
	if s.node, err = s.out.ReadString('\n'); err != nil {
		l.t.Fatalf("login from %s: %v", from, err)
	}
	return s
}

// survives6: a node is killed; its sessions end, the others' go on, and its clients
// find another.
func (l *macLab) survives6() {
	if _, err := exec.LookPath("ssh"); err != nil {
		return
	}
	var all []*session6
	for i := range 4 {
		all = append(all, l.session(fmt.Sprintf("2001:db8:77::%d", 101+i)))
	}
	killed := strings.TrimPrefix(strings.TrimSpace(all[0].node), "on ")
	if code, out := runProgram(l.t, labProgram(l.t, "kill", killed), (*exec.Cmd).Start); code != 0 {
		l.t.Fatalf("lab kill: %s", out)
	}
	for i, s := range all {
		fmt.Fprintln(s.in, "go on")
		line, _ := s.out.ReadString('\n')
		_ = s.cmd.Wait() // how it ended is what line tells
		if lives := line == "alive\n"; lives != (s.node != all[0].node) {
			l.t.Errorf("session %d, %s, killed %s: it says %q", i, strings.TrimSpace(s.node), killed, line)
		}
	}
	if code, out := l.on("ov-client1", ssh6("2001:db8:77::101", "echo on $ONEVOICE_NODE")...); code != 0 || strings.Contains(out, killed) {
		l.t.Errorf("a login after that: exit %d: %s", code, out)
	}
	if code, out := runProgram(l.t, labProgram(l.t, "start", killed), (*exec.Cmd).Start); code != 0 {
		l.t.Fatalf("lab start: %s", out)
	}
}

// narrowHop6: behind a router whose link to the client carries 1,280 bytes, while the
// client's own end takes more, so that no handshake tells.
func (l *macLab) narrowHop6() {
	code, out := l.on("ov-client2", "sh", "-e", "-c", `
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
ip netns add far
ip link add r0 mtu 1280 type veth peer name f0 mtu 1500 netns far
ip addr add 2001:db8:78::1/64 dev r0 nodad
ip link set r0 up
ip netns exec far sh -e -c '
echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6
ip link set lo up
ip link set f0 up
ip addr add 2001:db8:78::2/64 dev f0 nodad
ip route add default via 2001:db8:78::1 dev f0'`)
	if code != 0 {
		l.t.Skipf("no router can be made here: %s", out)
	}
	const bytes = 1000000
	argv := append([]string{"ip", "netns", "exec", "far"}, ssh6("2001:db8:78::2", fmt.Sprintf("head -c %d /dev/zero", bytes))...)
	code, out = l.on("ov-client2", "sh", "-c", "'"+strings.Join(argv, "' '")+"' | wc -c")
	if strings.TrimSpace(out) != strconv.Itoa(bytes) {
		l.t.Errorf("exit %d, %s bytes over the narrow hop, want %d", code, out, bytes)
	}
	if n := l.counter("ov-client2", "Icmp6OutPktTooBigs"); n == 0 {
		l.t.Error("the router never said that a packet was too big: the check cannot fail")
	}
	var holders []string
	for _, node := range macNodes() {
		if l.status(node).Verdicts["deliver-error"] > 0 {
			holders = append(holders, node)
		}
	}
	if len(holders) != 1 {
		l.t.Errorf("the router's word was for the flow of %v, want one node", holders)
	}
}
