package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"onevoice/lab"
)

// says is a text in one line, as it was before it was folded.
func says(text string) string { return strings.Join(strings.Fields(text), " ") }

// prints is what `onevoice status` or `onevoice doctor` prints, which may fail.
func (l *macLab) prints(node, command string) string {
	l.t.Helper()
	_, out := l.on(node, "onevoice", command)
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, "HARMS ") || strings.HasPrefix(line, "WARNING ") || strings.HasPrefix(line, "          ") {
			if n := len([]rune(line)); n > columns && strings.Count(strings.TrimSpace(line), " ") > 0 {
				l.t.Errorf("%s on %s: %d columns: %s", command, node, n, line)
			}
		}
	}
	return out
}

// planted waits until a fault is told by status and by the doctor on a node, in these
// words. Words are of the text and of its mend.
func (l *macLab) planted(fault, node, status, doctor string, words ...string) {
	l.t.Helper()
	var s, d string
	l.until(fault+" is found on "+node, func() bool {
		// The doctor asks the others, and so has the status know more.
		d, s = l.prints(node, "doctor"), l.prints(node, "status")
		told := strings.Contains(d, "("+doctor+")")
		for _, w := range words {
			told = told && strings.Contains(says(d), w)
		}
		return told && strings.Contains(says(s), status)
	})
	warnings, _, _ := strings.Cut(s, "\n\n")
	l.t.Logf("%s: on %s\nstatus:\n%s\n\ndoctor:\n%s", fault, node, warnings, d)
}

// gone waits until a fault that was mended is not told any more.
func (l *macLab) gone(node, code string) {
	l.t.Helper()
	l.until(node+" does not find "+code+" any more", func() bool {
		_, found := l.doctor(node)[code]
		return !found
	})
}

// do runs a command on a host, which has to go well.
func (l *macLab) do(host string, argv ...string) {
	l.t.Helper()
	if code, out := l.on(host, argv...); code != 0 {
		l.t.Fatalf("%s: %v: exit %d: %s", host, argv, code, out)
	}
}

// lab runs a command of the lab.
func (l *macLab) lab(argv ...string) string {
	l.t.Helper()
	code, out := runProgram(l.t, labProgram(l.t, argv...), (*exec.Cmd).Start)
	if code != 0 {
		l.t.Fatalf("lab %v: exit %d: %s", argv, code, out)
	}
	return out
}

func (l *macLab) state() (s lab.Status) {
	l.t.Helper()
	if err := json.Unmarshal([]byte(l.lab("status", "--json")), &s); err != nil {
		l.t.Fatal(err)
	}
	return s
}

// Ten faults, planted one after the other in a cluster of three, are found by status
// and doctor alone, with what to do. docs/doctor.md has what they print.
func TestPlantedFaultsAreFound(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute, most of it waiting")
	}
	needTools(t, "ip", "nft", "ping")
	l := newMACLab(t, "igmp")
	l.until("all nodes serve", func() bool { return strings.Count(l.prints("ov-n1", "status"), " serving ") == 3 })

	// No querier. It takes 260 s until that is sure, which TestNoQuerierIsToldInAStatus has.
	l.planted("no querier", "ov-n2", "nobody has asked for the members of 239.77.0.2 by IGMP", "no-querier", "nobody has asked for the members of 239.77.0.2 by IGMP", "let a switch or the router be the querier")
	routerThatRefuses(t, l)
	vipOnAnInterface(l)
	mtuMismatch(l)
	if l.state().SSH == "sshd" {
		deadBackendAndHostKeys(l)
	}
	wrongKey(l)
	fullDisk(l)
	deafNode(l)
	stoppedProcess(l)
}

// routerThatRefuses makes the client the nodes' gateway, and has it believe no answer
// that names a group MAC, as RFC 1812 has it of routers.
func routerThatRefuses(t *testing.T, l *macLab) {
	t.Helper()
	for _, argv := range []string{"nft add table arp t", "nft add chain arp t in { type filter hook input priority 0 ; }", "nft add rule arp t in arp saddr ether 01:00:5e:4d:00:02 drop"} {
		if code, out := l.on("ov-client1", strings.Fields(argv)...); code != 0 {
			t.Log("needs nft and its ARP tables to refuse answers:", out)
			return
		}
	}
	for _, node := range macNodes() {
		l.do(node, "ip", "route", "add", "default", "via", "10.77.0.101")
	}
	refused := func() (at string) {
		for _, node := range macNodes() {
			if f, found := l.doctor(node)["answers-refused"]; found && f.Harms {
				at = node
			}
		}
		return at
	}
	l.until("the doctor says that the gateway does not believe us", func() bool {
		l.on("ov-client1", "ping", "-c", "2", "-W", "1", "10.77.0.2")
		return refused() != ""
	})
	l.planted("router refusing", refused(), "it does not believe the answers; RFC 1812 has routers believe no group MAC", "answers-refused", `use mac_mode = "unicast" on all nodes`)
	l.do("ov-client1", "nft", "delete", "table", "arp", "t")
	l.until("the gateway, which sends to us, is believed to believe us", func() bool {
		l.on("ov-client1", "ping", "-c", "2", "-W", "1", "10.77.0.2")
		return refused() == ""
	})
}

func vipOnAnInterface(l *macLab) {
	l.do("ov-n1", "ip", "address", "add", "10.77.0.2/24", "dev", "lo")
	l.planted("VIP on a kernel interface", "ov-n1", "10.77.0.2 is configured on lo", "vip-on-interface", "ip address del 10.77.0.2/24 dev lo")
	l.do("ov-n1", "ip", "address", "del", "10.77.0.2/24", "dev", "lo")
	l.gone("ov-n1", "vip-on-interface")
}

func mtuMismatch(l *macLab) {
	l.do("ov-n2", "ip", "link", "set", "eth0", "mtu", "1400")
	l.planted("MTU mismatch", "ov-n2", "the MTU of eth0 is not the same on all nodes: here 1400, n1 1500", "mtu-unequal", "ip link set eth0 mtu N")
	l.until("n2 says that no long frame comes", func() bool { return l.doctor("ov-n2")["mtu-path"].Harms })
	l.planted("MTU mismatch", "ov-n3", "n2 1400", "mtu-unequal", "ip link set eth0 mtu N")
	l.do("ov-n2", "ip", "link", "set", "eth0", "mtu", "1500")
	l.gone("ov-n2", "mtu-unequal")
}

// deadBackendAndHostKeys ends a node's sshd, and starts one that somebody has installed
// anew; in the end the first one is back.
func deadBackendAndHostKeys(l *macLab) {
	end := func() {
		l.do("ov-n3", "sh", "-c", `for p in $(ip netns pids ov-n3); do if grep -q sshd /proc/$p/comm; then kill $p; fi; done; true`)
	}
	end()
	l.planted("dead backend", "ov-n3", "service ssh is down on this node, and the others have its buckets; start its backend (here:", "status", "mend: start its backend")
	l.planted("dead backend", "ov-n1", "service ssh is down on n3 (10.77.0.13)", "status", "`onevoice status` there tells why")
	l.do("ov-n3", "sh", "-c", `mkdir -p /run/sshd && ssh-keygen -q -t ed25519 -N "" -f /run/onevoice/n3/another && $(command -v sshd) -f /dev/null -h /run/onevoice/n3/another -o ListenAddress=127.0.0.1 -o PidFile=none`)
	l.planted("unequal host keys", "ov-n1", "the SSH servers of service ssh do not have the same host keys on all nodes", "host-keys-unequal", "on n3 ssh-ed25519 SHA256:", "copy /etc/ssh/ssh_host_*_key")
	l.planted("unequal host keys", "ov-n3", "the SSH servers of service ssh do not have the same host keys on all nodes", "host-keys-unequal", "on n1, n2 ssh-ed25519 SHA256:")
	end()
	l.do("ov-n3", "sh", "-c", `setsid $(command -v sshd) -D -e -f /run/onevoice/n3/sshd_config </dev/null >/dev/null 2>&1 &`)
}

func wrongKey(l *macLab) {
	l.lab("stop", "n3")
	const file = "/run/onevoice/n3/cluster.key"
	l.do("ov-n3", "sh", "-c", fmt.Sprintf("mv %[1]s %[1]s.right && onevoice keygen --out %[1]s", file))
	l.lab("start", "n3")
	l.planted("wrong key", "ov-n1", "n3 (10.77.0.13) claims another cluster key", "status", "mend: give all nodes the same key file")
	l.planted("wrong key", "ov-n3", "claims another cluster key", "status", "mend: give all nodes the same key file")
	l.lab("stop", "n3")
	l.do("ov-n3", "mv", file+".right", file)
	l.lab("start", "n3")
	l.until("n3 holds a lease again, and nobody complains any more", func() bool {
		return l.status("ov-n3").Leased && !strings.Contains(l.prints("ov-n1", "doctor"), "claims another")
	})
}

func fullDisk(l *macLab) {
	l.lab("stop", "n2")
	l.do("ov-n2", "sh", "-c", "cd /run/onevoice/n2 && mv state old && mkdir state && mount -t tmpfs -o size=8m tmpfs state && cp -a old/. state && chmod 0700 state")
	l.lab("start", "n2")
	l.until("n2 serves again", func() bool { return l.status("ov-n2").Leased })
	l.on("ov-n2", "dd", "if=/dev/zero", "of=/run/onevoice/n2/state/filler", "bs=64k")
	l.on("ov-n2", "dd", "if=/dev/zero", "of=/run/onevoice/n2/state/filler2", "bs=1")
	weight := 50
	l.until("the log goes on", func() bool {
		weight++
		l.on("ov-n1", "onevoice", "weight", "n1", fmt.Sprint(weight))
		return strings.Contains(says(l.prints("ov-n2", "status")), "cannot be saved")
	})
	l.planted("full disk", "ov-n2", "this node's state cannot be saved", "disk-full", "make room there")
	l.do("ov-n2", "sh", "-c", "rm /run/onevoice/n2/state/filler*")
	l.gone("ov-n2", "disk-full")
}

func deafNode(l *macLab) {
	l.lab("deafen", "n2")
	l.planted("deaf node", "ov-n2", "this node hears none of the others, so it holds no lease", "status", "look at its cable, at the switch")
	l.planted("deaf node", "ov-n1", "n2 (10.77.0.12) speaks and holds no lease", "status", "`onevoice status` there tells why")
	l.lab("heal")
	l.until("n2 holds a lease again", func() bool { return l.status("ov-n2").Leased })
}

// stoppedProcess stops the control process, which can tell nothing any more.
func stoppedProcess(l *macLab) {
	pid := 0
	for _, h := range l.state().Hosts {
		if h.Name == "ov-n2" {
			pid = h.Daemon.PID
		}
	}
	l.do("ov-n2", "kill", "-STOP", fmt.Sprint(pid))
	defer l.on("ov-n2", "kill", "-CONT", fmt.Sprint(pid))
	mend := fmt.Sprintf("kill -CONT %d", pid)
	l.planted("stopped process", "ov-n2", mend, "not-running", mend)
	l.planted("stopped process", "ov-n1", "n2 (10.77.0.12) is away", "status", "start onevoice there")
}
