package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"onevoice/admin"
	"onevoice/doctor"
)

// macLab is a lab of three nodes in a MAC mode.
type macLab struct{ t *testing.T }

func newMACLab(t *testing.T, mode string, more ...string) *macLab {
	t.Helper()
	ownStateDir(t)
	l := &macLab{t}
	// The leases are long, for the machine may be busy.
	args := append([]string{"up", "--nodes=3", "--clients=1", "--addresses=4", "--timing=calm", "--mac-mode=" + mode}, more...)
	code, out := runProgram(t, labProgram(t, args...), (*exec.Cmd).Start)
	skipWithoutLab(t, out)
	if strings.Contains(out, "this kernel has no IPv6") {
		t.Skip("needs IPv6")
	}
	if code != 0 {
		t.Fatalf("lab up: exit %d:\n%s", code, out)
	}
	t.Cleanup(func() { runProgram(t, labProgram(t, "down"), (*exec.Cmd).Start) })
	return l
}

// on runs a command on a host and returns what it says.
func (l *macLab) on(host string, argv ...string) (int, string) {
	l.t.Helper()
	return runProgram(l.t, labProgram(l.t, append([]string{"exec", host, "--"}, argv...)...), (*exec.Cmd).Start)
}

func (l *macLab) status(node string) (s admin.Status) {
	l.t.Helper()
	code, out := l.on(node, "onevoice", "status", "--json")
	if err := json.Unmarshal([]byte(out), &s); code != 0 || err != nil {
		l.t.Fatalf("status: exit %d, %v: %s", code, err, out)
	}
	return s
}

// doctor is what the doctor finds on a node, by code.
func (l *macLab) doctor(node string) map[string]doctor.Finding {
	l.t.Helper()
	code, out := l.on(node, "onevoice", "doctor", "--json")
	var list []doctor.Finding
	if err := json.Unmarshal([]byte(out), &list); err != nil || code == 1 != doctor.Harms(list) {
		l.t.Fatalf("doctor: exit %d, %v: %s", code, err, out)
	}
	found := map[string]doctor.Finding{}
	for _, f := range list {
		found[f.Code] = f
	}
	return found
}

// until waits until something holds.
func (l *macLab) until(what string, holds func() bool) {
	l.t.Helper()
	for begun := time.Now(); !holds(); {
		if time.Since(begun) > 2*patience {
			_, out := l.on("ov-n1", "onevoice", "status")
			l.t.Fatalf("it never came to this: %s\n%s", what, out)
		}
	}
}

func macNodes() []string { return []string{"ov-n1", "ov-n2", "ov-n3"} }

// In mode unicast the switch never learns where the cluster MAC is, so that all
// nodes hear what is for it; one answers, and names it.
func TestUnicastModeOnALearningSwitch(t *testing.T) {
	needTools(t, "bridge", "ip", "ping")
	l := newMACLab(t, "unicast")
	const cluster = "02:bf:0a:4d:00:02"
	for i := range 4 {
		from := fmt.Sprintf("10.77.0.%d", 101+i)
		if code, out := l.on("ov-client1", "ping", "-c", "2", "-i", "0.2", "-W", "5", "-I", from, "10.77.0.2"); code != 0 || !strings.Contains(out, "2 received") || strings.Contains(out, "DUP") {
			t.Errorf("ping from %s: exit %d: %s", from, code, out)
		}
	}
	if _, err := exec.LookPath("arping"); err == nil {
		_, out := l.on("ov-client1", "arping", "-c", "2", "-i", "eth0", "-S", "10.77.0.101", "10.77.0.2")
		if n := strings.Count(out, "bytes from "); n != 2 || !strings.Contains(out, "(0 extra)") {
			t.Errorf("arping has %d answers, want 2 and no others:\n%s", n, out)
		}
	}
	if _, out := l.on("ov-client1", "ip", "neigh", "show", "10.77.0.2"); !strings.Contains(out, cluster) {
		t.Errorf("the client knows the VIP as %s", out)
	}
	_, learned := l.on("ov-lan", "bridge", "fdb", "show", "br", "br0")
	if strings.Contains(learned, cluster) {
		t.Errorf("the switch has learned the cluster MAC:\n%s", learned)
	}
	for i, name := range macNodes() {
		if own := fmt.Sprintf("02:4f:56:00:00:%02x dev n%d", 11+i, i+1); !strings.Contains(learned, own) {
			t.Errorf("the switch has not learned %q: the check cannot fail:\n%s", own, learned)
		}
		s := l.status(name)
		if s.VIPs[0].MACMode != "unicast" || s.VIPs[0].MAC != cluster || s.Verdicts["cluster-mac-source"] != 0 {
			t.Errorf("%s: VIPs %+v, verdicts %v", name, s.VIPs, s.Verdicts)
		}
		for _, n := range s.Nodes {
			if !n.Leased || !n.Self && (n.Heard < 0 || n.Heard > 5) {
				t.Errorf("%s has heard %s %f s ago, leased %v", name, n.Name, n.Heard, n.Leased)
			}
		}
		if _, out := l.on(name, "ip", "-d", "link", "show", "eth0"); !regexp.MustCompile(`promiscuity [1-9]`).MatchString(out) {
			t.Errorf("%s: the cluster MAC is not in the interface's list: %s", name, out)
		}
	}
	hostsOwnTraffic(t, l)
}

// hostsOwnTraffic is what a node's host does besides.
func hostsOwnTraffic(t *testing.T, l *macLab) {
	t.Helper()
	for _, c := range [][2]string{{"ov-client1", "10.77.0.11"}, {"ov-n1", "10.77.0.101"}, {"ov-n1", "10.77.0.12"}} {
		if code, out := l.on(c[0], "ping", "-c", "2", "-i", "0.2", "-W", "5", c[1]); code != 0 || strings.Contains(out, "DUP") {
			t.Errorf("%s pings %s: exit %d: %s", c[0], c[1], code, out)
		}
	}
}

func needTools(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip("needs", name)
		}
	}
}

// In mode igmp the kernel's bridge knows each node as a member, of IPv4 and of IPv6,
// in each version, and knows when one leaves.
func TestIGMPModeOnABridgeThatSnoops(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute, most of it waiting")
	}
	needTools(t, "bridge", "ip")
	l := newMACLab(t, "igmp", "--ipv6")
	members := func() (out string) {
		_, text := l.on("ov-lan", "bridge", "mdb", "show", "dev", "br0")
		for i := range 3 {
			port := fmt.Sprintf("port n%d grp ", i+1)
			if strings.Contains(text, port+"239.77.0.2 ") && strings.Contains(text, port+"ff12::8000:2 ") {
				out += fmt.Sprint(i + 1)
			}
		}
		return out
	}
	switchThatSnoopsByMAC(t, l)
	// A bridge asks by MLD from an address of its own.
	l.on("ov-lan", "sh", "-c", "echo 0 | tee /proc/sys/net/ipv6/conf/all/disable_ipv6 /proc/sys/net/ipv6/conf/br0/disable_ipv6")
	l.until("the bridge has a link-local address", func() bool {
		_, out := l.on("ov-lan", "ip", "-6", "addr", "show", "br0")
		return strings.Contains(out, "fe80::") && !strings.Contains(out, "tentative")
	})
	mld := map[string]string{"2": "1", "3": "2"}
	for _, version := range []string{"2", "3"} {
		// The response interval is in hundredths of a second.
		code, out := l.on("ov-lan", "ip", "link", "set", "br0", "type", "bridge", "mcast_query_response_interval", "50", "mcast_igmp_version", version, "mcast_mld_version", mld[version], "mcast_snooping", "1", "mcast_querier", "1")
		if code != 0 {
			t.Skip("needs a bridge that snoops, with a querier:", out)
		}
		l.until("the bridge knows all nodes by IGMPv"+version, func() bool {
			g := l.status("ov-n2").Workers[0].Groups
			return members() == "123" && len(g) == 2 && g[0].Querier != nil && g[1].Querier != nil &&
				fmt.Sprint(g[0].Querier.Version, g[1].Querier.Version) == version+" "+mld[version]
		})
		if v := l.status("ov-n2").Verdicts; v["membership-query"] == 0 || v["bad-membership"] != 0 {
			t.Errorf("IGMPv%s, MLDv%s: verdicts %v", version, mld[version], v)
		}
		if version == "3" {
			break
		}
		l.on("ov-lan", "ip", "link", "set", "br0", "type", "bridge", "mcast_querier", "0", "mcast_snooping", "0")
	}
	// The bridge finds groups by IP destination, which is the VIP: with all nodes
	// members it passes no frame to them.
	l.until("the doctor says that frames to the shared MAC do not arrive", func() bool { return l.doctor("ov-n2")["shared-mac-not-heard"].Harms })
	if _, out := l.on("ov-n2", "onevoice", "status"); !strings.Contains(strings.Join(strings.Fields(out), " "), `use mac_mode = "unicast" on all nodes`) {
		t.Errorf("status does not name the mend:\n%s", out)
	}
	l.on("ov-lan", "bridge", "link", "set", "dev", "n1", "fastleave", "on")
	if code, out := runProgram(t, labProgram(t, "stop", "n1"), (*exec.Cmd).Start); code != 0 {
		t.Errorf("stop: exit %d: %s", code, out)
	}
	l.until("the bridge knows that the first node has left", func() bool { return members() == "23" })
}

// switchThatSnoopsByMAC makes a model of such a switch of the bridge: frames to the
// shared MAC go only to ports that reports came from, whatever is in them. The nodes
// are heard again by themselves, for who has no lease tells of its groups, and nobody
// else hears them.
func switchThatSnoopsByMAC(t *testing.T, l *macLab) {
	t.Helper()
	for _, argv := range []string{
		"nft add table bridge t",
		"nft add set bridge t members { type ifname ; flags dynamic,timeout ; timeout 5m ; }",
		"nft add chain bridge t in { type filter hook prerouting priority 0 ; }",
		"nft add chain bridge t to { type filter hook forward priority 0 ; }",
		"nft add rule bridge t in ip protocol igmp update @members { iifname }",
		"nft add rule bridge t to ether daddr 01:00:5e:4d:00:02 oifname != @members counter drop",
	} {
		if code, out := l.on("ov-lan", strings.Fields(argv)...); code != 0 {
			t.Log("needs nft and its bridge tables to snoop by MAC:", out)
			return
		}
	}
	members := ""
	l.until("the nodes are members of the group, and hold leases", func() bool {
		_, members = l.on("ov-lan", "nft", "list", "set", "bridge", "t", "members")
		for i, node := range macNodes() {
			if !strings.Contains(members, fmt.Sprintf("%q", fmt.Sprintf("n%d", i+1))) || !l.status(node).Leased {
				return false
			}
		}
		return true
	})
	if strings.Contains(members, "client1") {
		t.Errorf("a host that joined nothing is a member: %s", members)
	}
	if _, out := l.on("ov-lan", "nft", "list", "chain", "bridge", "t", "to"); strings.Contains(out, "packets 0 ") {
		t.Errorf("no frame was kept from anybody: the check cannot fail: %s", out)
	}
	if code, out := l.on("ov-client1", "ping", "-c", "2", "-W", "5", "10.77.0.2"); code != 0 || strings.Contains(out, "DUP") {
		t.Errorf("ping through it: exit %d: %s", code, out)
	}
	l.on("ov-lan", "nft", "delete", "table", "bridge", "t")
}
