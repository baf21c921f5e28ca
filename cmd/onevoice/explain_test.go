package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"onevoice/admin"
	"onevoice/cluster"
)

// explained runs `explain` on a file alone, whose service has more lines.
func explainedByFile(t *testing.T, lines string, args ...string) (int, string) {
	t.Helper()
	text, err := os.ReadFile("../../config/testdata/reference.toml")
	if err != nil {
		t.Fatal(err)
	}
	// Other systems share whole addresses: one service of the VIP is enough here.
	alone, _, _ := strings.Cut(string(text), "[[service]]\nname = \"dns\"")
	file := filepath.Join(t.TempDir(), "onevoice.toml")
	if err := os.WriteFile(file, []byte(strings.Replace(alone, "name = \"ssh\"\n", "name = \"ssh\"\n"+lines+"\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return runProgram(t, program(t, append([]string{"explain", "--config", file}, args...)...), (*exec.Cmd).Start)
}

// The vectors of CLUSTERIP: 192.168.0.1 is number 1 of 4, and 10.0.0.2 is number 2.
func TestExplainByTheFileAlone(t *testing.T) {
	const shared = "hash = \"clusterip\"\ntotal_nodes = 4\nlocal = { unix1 = [1, 3], unix2 = [2], unix4 = [4] }"
	code, out := explainedByFile(t, shared, "10.0.0.2", "10.77.0.2:22", "--json")
	var e admin.Explanation
	if err := json.Unmarshal([]byte(out), &e); code != 0 || err != nil || e.Bucket == nil || *e.Bucket != 1 || *e.Number != 2 || e.Owner != "unix2" || e.Service != "ssh" || e.Why == "" {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
	code, out = explainedByFile(t, shared, "192.168.0.1", "10.77.0.2:99")
	for _, want := range []string{"BUCKET      0 of 4, number 1 of clusterip\n", "OWNER       unix1\n", "SERVICE     none\n", "decides who resets it"} {
		if code != 0 || !strings.Contains(strings.Join(strings.Fields(out), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("exit %d, no %q in\n%s", code, want, out)
		}
	}
	for line := range strings.Lines(out) {
		if utf8.RuneCountInString(strings.TrimSpace(line)) > 80 {
			t.Errorf("wide: %s", line)
		}
	}
	// Without local nobody knows beforehand, and our own hash nobody knows at all.
	if code, out = explainedByFile(t, "hash = \"carp\"\ntotal_nodes = 4", "192.168.0.1", "10.77.0.2:22"); code != 0 || !strings.Contains(out, "OWNER        the file does not say") {
		t.Errorf("exit %d: %s", code, out)
	}
	if code, out = explainedByFile(t, "", "192.168.0.1", "10.77.0.2:22", "--json"); code != 0 || !strings.Contains(out, `"bucket": null`) || !strings.Contains(out, "siphash has a key") {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestExplainRefusesWhatNoClientCanAsk(t *testing.T) {
	for _, c := range []struct{ lines, client, to, says string }{
		{"", "unix1", "10.77.0.2:22", `"unix1" is no client`},
		{"", "fe80::1%eth0", "10.77.0.2:22", "is no client"},
		{"", "10.0.0.1", "10.77.0.2", "write a VIP with a port, such as 10.77.0.2:22"},
		{"", "10.0.0.1", "10.77.0.3:22", "10.77.0.3 is no VIP of this cluster; it has 10.77.0.2"},
		{"", "2001:db8::1", "10.77.0.2:22", "one is IPv4 and the other IPv6"},
		{`affinity = "source-ip-port"`, "10.0.0.1", "10.77.0.2:22", "the client's port decides too; write it as 10.0.0.1:PORT"},
	} {
		if code, out := explainedByFile(t, c.lines, c.client, c.to); code != 1 || !strings.Contains(out, c.says) {
			t.Errorf("%s to %s: exit %d, want %q: %s", c.client, c.to, code, c.says, out)
		}
	}
	if code, out := runProgram(t, program(t, "explain", "10.0.0.1"), (*exec.Cmd).Start); code != 2 || !strings.Contains(out, "explain SRC[:PORT] VIP:PORT") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// Who may not connect is told so, and by which prefix of which list.
func TestExplainTellsWhoIsDenied(t *testing.T) {
	list := filepath.Join(t.TempDir(), "deny")
	if err := os.WriteFile(list, []byte("10.1.0.0/16\n2001:db8::/32\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := "deny = [\"10.0.0.0/8\"]\nallow = [\"10.1.2.0/24\", \"192.0.2.0/24\"]\ndeny_action = \"reset\"\ndeny_file = \"" + list + "\""
	for client, want := range map[string]string{
		"10.9.0.1":     "MAY CONNECT  NO: 10.0.0.0/8 in deny of service ssh; it meets reset\n",
		"10.1.9.1":     "MAY CONNECT  NO: 10.1.0.0/16 in " + list + "; it meets reset\n",
		"10.1.2.1":     "MAY CONNECT  yes: 10.1.2.0/24 in allow of service ssh\n",
		"198.51.100.1": "MAY CONNECT  NO: who may is written down, and it is in no prefix of those; it meets reset\n",
	} {
		code, out := explainedByFile(t, lines, client, "10.77.0.2:22")
		if code != 0 || !strings.Contains(strings.Join(strings.Fields(out), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("%s: exit %d, no %q in\n%s", client, code, want, out)
		}
		code, out = explainedByFile(t, lines, client, "10.77.0.2:22", "--json")
		var e admin.Explanation
		if err := json.Unmarshal([]byte(out), &e); code != 0 || err != nil || e.Denied != strings.Contains(want, "NO: ") || e.AccessWhy == "" {
			t.Errorf("%s: exit %d, %v: %s", client, code, err, out)
		}
	}
	if code, out := explainedByFile(t, "", "10.9.0.1", "10.77.0.2:22"); code != 0 || strings.Contains(out, "MAY CONNECT") {
		t.Errorf("without rules: exit %d: %s", code, out)
	}
	if code, out := explainedByFile(t, "deny_file = \"/none\"", "10.9.0.1", "10.77.0.2:22"); code != 1 || !strings.Contains(out, "/none: there is no such file") {
		t.Errorf("without the file: exit %d: %s", code, out)
	}
}

// An owner whose service is down is not said to answer.
func TestExplainTellsOfAServiceThatIsDown(t *testing.T) {
	q := question{}
	for down, says := range map[bool]string{false: "so it answers", true: "so it refuses"} {
		x := cluster.Explained{Owner: cluster.Party{Name: "n1", Leased: true, Down: down}}
		if got := q.ours(&x); !strings.HasPrefix(got, "n1 owns it") || !strings.Contains(got, says) {
			t.Errorf("down %v: %s", down, got)
		}
	}
}
