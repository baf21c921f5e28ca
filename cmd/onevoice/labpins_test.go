package main

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"onevoice/admin"
	"onevoice/lab"
)

// A prefix's logins go to the node that its pin names; when that node dies another
// answers, and when it is back, it does.
func TestPinnedPrefix(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a lab with restarts")
	}
	needTools(t, "ssh", "sshd")
	ownStateDir(t)
	l := &macLab{t}
	code, out := runProgram(t, labProgram(t, "up", "--nodes=3", "--clients=1", "--addresses=12", "--timing=calm"), (*exec.Cmd).Start)
	skipWithoutLab(t, out)
	if code != 0 {
		t.Fatalf("lab up: exit %d:\n%s", code, out)
	}
	t.Cleanup(func() { runProgram(t, labProgram(t, "down"), (*exec.Cmd).Start) })
	login := func(from string) string {
		code, out := l.on("ov-client1", "ssh", "-F", "none", "-b", from, "-i", lab.RunDir+"/ssh/client", "-o", "BatchMode=yes",
			"-o", "UserKnownHostsFile="+lab.RunDir+"/ssh/known_hosts", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5", "root@"+testVIP, "echo $ONEVOICE_NODE")
		if code != 0 {
			return "error: " + out
		}
		return strings.TrimSpace(out)
	}
	pinned := []string{"10.77.0.101", "10.77.0.102", "10.77.0.103"}
	const pins = "\n[[pin]]\nclients = [\"10.77.0.96/29\"]\nnode = \"10.77.0.12\"\nservices = [\"ssh\"]\n"
	for _, node := range macNodes() {
		file := lab.RunDir + "/" + strings.TrimPrefix(node, "ov-") + "/onevoice.toml"
		if code, out := l.on(node, "sh", "-c", "printf '"+strings.ReplaceAll(pins, "\n", `\n`)+"' >> "+file); code != 0 {
			t.Fatalf("%s: %s", node, out)
		}
		for _, verb := range []string{"kill", "start"} {
			if code, out := runProgram(t, labProgram(t, verb, node), (*exec.Cmd).Start); code != 0 {
				t.Fatalf("%s %s: exit %d: %s", verb, node, code, out)
			}
		}
	}
	l.until("all nodes are in", func() bool {
		in := 0
		for _, n := range l.status("ov-n1").Nodes {
			if n.In && n.Leased {
				in++
			}
		}
		return in == 3
	})
	if code, out := l.on("ov-n1", "onevoice", "remap", "ssh"); code != 0 {
		t.Fatalf("remap: exit %d: %s", code, out)
	}
	at := func(node string) bool {
		for _, a := range pinned {
			if login(a) != node {
				return false
			}
		}
		return true
	}
	l.until("the pinned log in at n2", func() bool { return at("n2") })
	for _, node := range macNodes() {
		var e admin.Explanation
		code, out := l.on(node, "onevoice", "explain", "--json", "10.77.0.101", testVIP+":22")
		if err := json.Unmarshal([]byte(out), &e); code != 0 || err != nil || e.Owner != "n2" || !strings.Contains(e.Why, "[[pin]]") {
			t.Errorf("%s explains: exit %d: %s", node, code, out)
		}
	}
	for _, a := range []string{"10.77.0.109", "10.77.0.110", "10.77.0.111", "10.77.0.112"} {
		if got := login(a); len(got) != 2 {
			t.Errorf("a client without a pin: %s", got)
		}
	}
	if code, out := runProgram(t, labProgram(t, "kill", "ov-n2"), (*exec.Cmd).Start); code != 0 {
		t.Fatalf("kill: exit %d: %s", code, out)
	}
	l.until("others answer the pinned when their node is dead", func() bool { return at("n1") || at("n3") })
	if code, out := runProgram(t, labProgram(t, "start", "ov-n2"), (*exec.Cmd).Start); code != 0 {
		t.Fatalf("start: exit %d: %s", code, out)
	}
	l.until("the pinned log in at n2 again", func() bool { return at("n2") })
}
