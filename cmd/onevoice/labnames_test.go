package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// namesLab is a cluster with a name service over UDP, by both families where the
// kernel has IPv6.
type namesLab struct {
	*macLab
	vips []string
}

func newNamesLab(t *testing.T) *namesLab {
	t.Helper()
	needTools(t, "dig", "ip", "ping")
	ownStateDir(t)
	l := &namesLab{&macLab{t}, []string{testVIP, vip6}}
	up := []string{"up", "--nodes=3", "--clients=2", "--addresses=4", "--timing=calm", "--names"}
	code, out := runProgram(t, labProgram(t, append(up, "--ipv6")...), (*exec.Cmd).Start)
	skipWithoutLab(t, out)
	if strings.Contains(out, "this kernel has no IPv6") {
		l.vips = l.vips[:1]
		code, out = runProgram(t, labProgram(t, up...), (*exec.Cmd).Start)
	}
	if code != 0 {
		t.Fatalf("lab up: exit %d:\n%s", code, out)
	}
	t.Cleanup(func() { runProgram(t, labProgram(t, "down"), (*exec.Cmd).Start) })
	return l
}

// dig asks, and asks again when nothing comes for a while: a busy machine may cost a
// node its lease for a moment, and what a path behind a prefix does not carry is lost
// once.
func (l *namesLab) dig(host string, prefix []string, vip string, args ...string) (int, string) {
	how := []string{"+tries=4", "+time=10"}
	if prefix != nil {
		how = []string{"+tries=10", "+time=2"}
	}
	argv := append(append(append([]string{}, prefix...), "dig", "@"+vip, "+notcp", "+ignore", "+bufsize=8000"), how...)
	return l.on(host, append(argv, args...)...)
}

// Each of a few addresses has one answer, always from the same node, which saw the
// address itself.
func TestNamesInTheLab(t *testing.T) {
	l := newNamesLab(t)
	var asked uint64
	nodes := map[string]bool{}
	for _, vip := range l.vips {
		for i := range 4 {
			from := fmt.Sprintf("10.77.0.%d", 101+i)
			if vip == vip6 {
				from = fmt.Sprintf("2001:db8:77::%d", 101+i)
			}
			first := ""
			for range 3 {
				asked++
				code, out := l.dig("ov-client1", nil, vip, "+short", "-b", from, "who", "TXT")
				node, client, _ := strings.Cut(strings.Trim(strings.TrimSpace(out), `"`), " ")
				if code != 0 || !strings.Contains(client, from) || first != "" && node != first {
					t.Errorf("who from %s: exit %d: %s", from, code, out)
				}
				first = node
				nodes[node] = true
			}
		}
	}
	if len(nodes) < 2 {
		t.Errorf("only %v answered", nodes)
	}
	// A few may have been asked again.
	const again = 5
	if up, down := l.datagrams("datagrams_up"), l.datagrams("datagrams_down"); up < asked || up > asked+again || down != up {
		t.Errorf("%d questions came in and %d answers went out, of %d", up, down, asked)
	}
	l.sizes("ov-client1", nil)
	for _, vip := range l.vips {
		code, out := l.on("ov-client1", "ping", "-c", "2", "-i", "0.2", "-W", "5", "-s", "4000", vip)
		if code != 0 || !strings.Contains(out, " 2 received") || strings.Contains(out, "DUP") || strings.Contains(out, "truncated") {
			t.Errorf("a long ping to %s: exit %d: %s", vip, code, out)
		}
	}
	l.narrowHop()
}

// datagrams is a counter of all nodes together.
func (l *namesLab) datagrams(name string) (n uint64) {
	for _, node := range macNodes() {
		c := l.status(node).Datagrams
		n += map[string]uint64{"datagrams_up": c.DatagramsUp, "datagrams_down": c.DatagramsDown}[name]
	}
	return n
}

// sizes asks for answers of 512 to 8,000 bytes.
func (l *namesLab) sizes(host string, prefix []string) {
	l.t.Helper()
	for _, vip := range l.vips {
		for _, size := range []int{460, 1180, 1450, 4000, 7800} {
			code, out := l.dig(host, prefix, vip, strconv.Itoa(size), "TXT")
			got := 0
			if m := regexp.MustCompile(`MSG SIZE +rcvd: (\d+)`).FindStringSubmatch(out); m != nil {
				got, _ = strconv.Atoi(m[1])
			}
			if code != 0 || got < size {
				l.t.Errorf("%d bytes from %s: exit %d, %d came: %s", size, vip, code, got, out)
			}
		}
	}
}

// narrowHop: behind a router whose link to the client carries 1,280 bytes, while the
// client's own end takes more, so that no handshake tells.
func (l *namesLab) narrowHop() {
	l.t.Helper()
	six := ""
	if len(l.vips) > 1 {
		six = `
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
ip addr add 2001:db8:78::1/64 dev r0 nodad
ip netns exec far sh -e -c '
echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6
ip addr add 2001:db8:78::2/64 dev f0 nodad
ip route add default via 2001:db8:78::1 dev f0'`
	}
	code, out := l.on("ov-client2", "sh", "-e", "-c", `
echo 1 >/proc/sys/net/ipv4/ip_forward
ip netns add far
ip link add r0 mtu 1280 type veth peer name f0 mtu 1500 netns far
ip link set r0 up
ip addr add 192.0.2.1/24 dev r0
ip netns exec far sh -e -c '
ip link set lo up
ip link set f0 up
ip addr add 192.0.2.2/24 dev f0
ip route add default via 192.0.2.1'`+six)
	if code != 0 {
		l.t.Skipf("no router can be made here: %s", out)
	}
	far := []string{"ip", "netns", "exec", "far"}
	l.sizes("ov-client2", far)
	if _, err := exec.LookPath("ssh"); err != nil {
		return
	}
	const bytes = 1_000_000
	argv := append(far, "ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-i", "/run/onevoice/ssh/client",
		"-b", "192.0.2.2", "root@"+testVIP, fmt.Sprintf("head -c %d /dev/zero", bytes))
	code, out = l.on("ov-client2", "sh", "-c", "'"+strings.Join(argv, "' '")+"' 2>/dev/null | wc -c")
	if strings.TrimSpace(out) != strconv.Itoa(bytes) {
		l.t.Errorf("exit %d, %s bytes over the narrow hop, want %d", code, out, bytes)
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
