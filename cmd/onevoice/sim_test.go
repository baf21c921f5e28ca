package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"onevoice/sim/report"
)

// simRun runs `onevoice sim` with arguments.
func simRun(t *testing.T, args ...string) (int, string) {
	t.Helper()
	return runProgram(t, program(t, append([]string{"sim"}, args...)...), (*exec.Cmd).Start)
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestSimExitCodes: 0 for a verdict that was expected, 1 for another, 2 for a
// question that makes no sense, with one sentence.
func TestSimExitCodes(t *testing.T) {
	small := []string{"--clients", "2", "--duration", "12s", "--users", "ping"}
	file := write(t, "x.sim", "nodes 3\nclients 2\nduration 12s\nrouter rfc1812\nexpect router-refuses-group-mac, never-served\n")
	bad := write(t, "bad.sim", "nodes 3\nkil n1@5s\n")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{small, 0, "Verdict: healthy"},
		{append([]string{"--router", "rfc1812"}, small...), 1, "use mac_mode = \"unicast\""},
		{[]string{"--scenario", file}, 0, "as expected of this network"},
		{[]string{"--scenario", file, "--router", "believes"}, 1, "expected was: router-refuses-group-mac, never-served"},
		{[]string{"--scenario", bad}, 2, "bad.sim:2: there is no \"kil\"; settings are"},
		{[]string{"--scenario", "nosuch"}, 2, "onevoice sim --list"},
		{[]string{"--scenario", "./nosuch"}, 2, "no such file"},
		{[]string{"--kill", "n9@5s"}, 2, "--kill: `kill n9@5s`, column 6: there is no host \"n9\""},
		{[]string{"--nodes", "2"}, 2, "two-nodes witness"},
		{[]string{"--lan", "star"}, 2, "--lan: there is no lan \"star\"; write switch, hub"},
		{[]string{"--replay", bad}, 2, "neither pcap nor pcapng"},
		{[]string{"--vip", "10.0.0.1"}, 2, "give one with --replay"},
		{[]string{"--list"}, 0, "snooping-without-querier"},
	} {
		code, out := simRun(t, c.args...)
		if code != c.code || !strings.Contains(out, c.says) || code == 2 && strings.Count(out, "\n") != 1 {
			t.Errorf("onevoice sim %s: exit %d, want %d with %q:\n%s", strings.Join(c.args, " "), code, c.code, c.says, out)
		}
	}
}

// TestSimWritesAndReplays: the capture of a run can be read by tcpdump, and be
// replayed: the same clients, each answered once. The page and the JSON are there.
func TestSimWritesAndReplays(t *testing.T) {
	dir := t.TempDir()
	capture, page := filepath.Join(dir, "x.pcap"), filepath.Join(dir, "x.html")
	code, out := simRun(t, "--clients", "6", "--duration", "12s", "--pcap", capture, "--html", page, "--json")
	var r report.Report
	if decode(t, out, &r); code != 0 || len(r.Answers) != 3 {
		t.Fatalf("exit %d: %s", code, out)
	}
	if text, err := os.ReadFile(page); err != nil || !strings.Contains(string(text), "healthy") {
		t.Errorf("the page: %v", err)
	}
	if tcpdump, err := exec.LookPath("tcpdump"); err == nil {
		text, err := exec.Command(tcpdump, "-nr", capture).CombinedOutput()
		for _, want := range []string{"Request who-has 10.77.0.2", "Reply 10.77.0.2 is-at 01:00:5e:4d:00:02", "ICMP echo request", "10.77.0.2.7177: UDP", "Flags [S]"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("tcpdump does not tell %q, %v", want, err)
			}
		}
	}
	for _, args := range [][]string{{"--replay", capture}, {"--replay", capture, "--vip", "10.77.0.2", "--nodes", "3"}} {
		code, out := simRun(t, append(args, "--json")...)
		r = report.Report{}
		if code != 0 {
			t.Fatalf("exit %d: %s", code, out)
		}
		decode(t, out, &r)
		served := 0
		for _, c := range r.Clients {
			served += len(c.Nodes)
		}
		if len(r.Clients) != 6 || served != 6 {
			t.Errorf("%v: %+v", args, r.Clients)
		}
		for _, a := range r.Answers {
			if a.One != a.Asked || a.Asked < 10 && a.What != "ARP requests" {
				t.Errorf("%v: %+v", args, a)
			}
		}
	}
	if code, out := simRun(t, "--replay", capture, "--vip", "10.9.9.9"); code != 2 || !strings.Contains(out, "no frame of the capture is for 10.9.9.9") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// decode reads what is not a time, which is written as seconds.
func decode(t *testing.T, text string, r *report.Report) {
	t.Helper()
	var parts struct {
		Clients *[]report.Client
		Answers *[]report.Answers
	}
	parts.Clients, parts.Answers = &r.Clients, &r.Answers
	if err := json.Unmarshal([]byte(text), &parts); err != nil {
		t.Fatal(err)
	}
}

// TestSimCompletes: a shell completes scenarios, and kinds of LAN.
func TestSimCompletes(t *testing.T) {
	for flag, want := range map[string]string{"--scenario": "snooping-without-querier\n", "--lan": "dual-loop\n", "--without": "icmp-owner\n", "--affinity": "source-net\n"} {
		if code, out := runProgram(t, program(t, "__complete", "sim", flag, ""), (*exec.Cmd).Start); code != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: exit %d, %s", flag, code, out)
		}
	}
}
