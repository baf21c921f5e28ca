package config

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
)

// good is a file without a fault; its [[service]] is the last table.
const good = `[cluster]
name = "campus-ssh"
interface = "eth0"
key_file = "/etc/onevoice/cluster.key"
peers = ["10.77.0.11", "10.77.0.12", "10.77.0.13"]
[[vip]]
address = "10.77.0.2/24"
[[service]]
name = "ssh"
listen = "10.77.0.2:22"
backend = "127.0.0.1:22"
`

// Each case replaces a text of the good file; all errors are wanted, and no
// others.
func TestFaultsAreToldInTheFilesOwnTerms(t *testing.T) {
	for name, c := range map[string]struct {
		old, new string
		want     []string
	}{
		"a key in capitals": {`name = "campus`, `Name = "campus`,
			[]string{`2: cluster.Name: there is no such key; did you mean name?`}},
		"a key in capitals beside its own": {"interface =", "NAME = \"x\"\ninterface =",
			[]string{`3: cluster.NAME: there is no such key; did you mean name?`}},
		"a table in capitals": {"[cluster]", "[Cluster]",
			[]string{`1: Cluster: there is no such key; did you mean cluster?`}},
		"unsupported and empty": {"[[vip]]", "[admin]\nlisten = \"\"\n[[vip]]",
			[]string{`7: admin.listen: "" is not an address and port; write one like "127.0.0.1:7177"`}},
		"supported and empty": {"[[vip]]", "[node]\nname = \"\"\nstate_dir = \"\"\nstop_timeout = \"\"\n[[vip]]", []string{
			`7: node.name: "" is no name; write one without spaces, of at most 64 bytes`,
			`8: node.state_dir: "" is not an absolute path; write one, such as "/var/lib/onevoice"`,
			`9: node.stop_timeout: "" is not a time from "0s" to "10m"; write one like "10s"`}},
		"service keys empty": {`name = "ssh"`, "name = \"\"\naffinity = \"\"\nsource = \"\"\ncheck = \"\"", []string{
			`9: service[0].name: "" is no name; write one without spaces, of at most 64 bytes, such as "ssh"`,
			`10: service[0].affinity: "" is not an affinity; write one of source-ip, source-net, source-ip-port, source-ip-port-dest-port`,
			`11: service[0].source: "" is not a source; write one of transparent, proxy-v1, proxy-v2, plain`,
			`12: service[0].check: "" is not a check; write "tcp", "udp", "ssh-banner", "http://HOST:PORT/PATH" or "exec:/PROGRAM ARGUMENTS"`}},
		"a table for a list of tables": {"[[vip]]", "[vip]",
			[]string{`6: vip: this is a table; write tables [[vip]]`}},
		"a list of tables for a table": {"[cluster]", "[[cluster]]",
			[]string{`1: cluster: this is a list; write a table [cluster]`}},
		"a text for a table": {"[cluster]", "node = \"unix1\"\n[cluster]",
			[]string{`1: node: this is a text; write a table [node]`}},
		"texts for tables": {"[cluster]", "service = [\"ssh\"]\n[cluster]",
			[]string{`9: key service already exists as a value, but should be an array table; write it once`}},
		"a value for a list of tables": {"[[vip]]\naddress = \"10.77.0.2/24\"", "[node]\nname = [1]",
			[]string{`7: node.name: this is a list; write a text in quotes, "…"`, `1: vip: there are 0; write 1 to 16 tables [[vip]], each with an address`}},
		"every wrong type": {`peers = ["10.77.0.11", "10.77.0.12", "10.77.0.13"]`, "peers = [1, true, \"10.77.0.11\",\n 1.5,\n 2026-01-02]\n[node]\nname = 1\nstop_timeout = 10", []string{
			`5: cluster.peers[0]: this is a whole number; write a text in quotes, or a table { address = "…", control = "…" }`,
			`5: cluster.peers[1]: this is true or false; write a text in quotes, or a table { address = "…", control = "…" }`,
			`6: cluster.peers[3]: this is a number with a fraction; write a text in quotes, or a table { address = "…", control = "…" }`,
			`7: cluster.peers[4]: this is a date or time; write a text in quotes, or a table { address = "…", control = "…" }`,
			`9: node.name: this is a whole number; write a text in quotes, "…"`,
			`10: node.stop_timeout: this is a whole number; write a text in quotes, "…"`}},
		"what a terminal would obey": {`name = "ssh"`, `name = "a\u001b[2Jb\u0085\n\u202e"`,
			[]string{`9: service[0].name: "a\x1b[2Jb\u0085\n\u202e" is no name; write one without spaces, of at most 64 bytes, such as "ssh"`}},
		"an address that a terminal would obey": {`"10.77.0.13"]`, `"fe80::1%\u001b[2J"]` + "\nwitness = \"[fe80::1%\\n]:7\"", []string{
			`5: cluster.peers[2]: "fe80::1%\x1b[2J" is not an address; write one like "10.77.0.11"`,
			`6: cluster.witness: "[fe80::1%\n]:7" is not an address; write one like "192.168.5.9" or "192.168.5.9:7177", an address and no name`}},
		"a place that a terminal would obey": {`"10.77.0.2:22"`, `"[fe80::1%\u001b]:22"`,
			[]string{`10: service[0].listen: "[fe80::1%\x1b]:22" is not an address with a port; write a VIP and port, such as "10.77.0.2:22" or "[2001:db8::2]:22"`}},
		"a key that a terminal would obey": {`name = "ssh"`, `name = "ssh"` + "\n" + `"\u001b[31m\n" = 1`,
			[]string{`10: service[0]."\x1b[31m\n": there is no such key; known are ` + strings.Join(keysOf(reflect.TypeFor[rawService]()), ", ")}},
		"a key in quotes with a dot": {`name = "ssh"`, `name = "ssh"` + "\n" + `"listen.x.y.z" = 1`,
			[]string{`10: service[0]."listen.x.y.z": there is no such key; known are ` + strings.Join(keysOf(reflect.TypeFor[rawService]()), ", ")}},
		"a strange byte in the syntax": {"[[vip]]", "\x1b[31m[[vip]]",
			[]string{`6: invalid character at start of key: U+001B`}},
		"a key twice": {"interface =", "name = \"again\"\ninterface =",
			[]string{`3: key name is already defined; write it once`}},
		"a byte order mark": {"[cluster]", "\uFEFF[cluster]",
			[]string{`1: the file begins with a byte order mark; save it as UTF-8 without one`}},
	} {
		t.Run(name, func(t *testing.T) {
			text := edited(t, good, c.old, c.new)
			_, err := Parse("f", []byte(text), "h")
			if err == nil {
				t.Fatalf("no error for\n%s", text)
			}
			if got := strings.ReplaceAll(err.Error(), "f:", ""); !sameLines(got, c.want) {
				t.Errorf("errors\n%s\nwant\n%s", got, strings.Join(c.want, "\n"))
			}
			checkPlain(t, err)
		})
	}
}

// edited replaces a text, which must be there.
func edited(t testing.TB, text, old, new string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("%q is not in\n%s", old, text)
	}
	return strings.Replace(text, old, new, 1)
}

// sameLines reports whether the lines of a text are those, in any order.
func sameLines(text string, want []string) bool {
	count := map[string]int{}
	for _, l := range strings.Split(text, "\n") {
		count[l]++
	}
	for _, l := range want {
		count[l]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// checkPlain: an error names no type of Go and has nothing that a terminal
// would obey.
func checkPlain(t testing.TB, err error) {
	t.Helper()
	text := err.Error()
	if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("a terminal would obey byte %d of %q", i, text)
	}
	if m := regexp.MustCompile(`\b(raw[A-Z]\w*|int64|float64|interface \{\}|map\[|config\.[A-Z]|\[\]string)`).FindString(text); m != "" && !strings.Contains(text, `"`+m) {
		t.Errorf("%q is a word of Go, in %q", m, text)
	}
}

// A file as long as may be is answered soon, however it is made: line look-up
// that walks the file for each key would take minutes, and paths as long as
// their key all memory. The bound is one of processor time, and generous.
func TestTheLongestFilesAreAnsweredSoon(t *testing.T) {
	const bound = 30 * time.Second
	fill := func(form string) string {
		var b strings.Builder
		for i := 0; b.Len() < MaxFileBytes-100; i++ {
			fmt.Fprintf(&b, form, i)
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"tables":        fill("[[service]]\nname=\"%d\"\n"),
		"long lists":    "[cluster]\npeers=[" + strings.Repeat("1,", MaxFileBytes/2-100) + "]",
		"dots":          "a" + strings.Repeat(".a", 10_000) + "=1",
		"dots in table": "[a" + strings.Repeat(".a", 10_000) + "]",
		"nested":        "a=" + strings.Repeat("[", MaxFileBytes/2-100) + strings.Repeat("]", MaxFileBytes/2-100),
		"in one line":   "a=" + strings.Repeat("{a=", MaxFileBytes/4-100) + strings.Repeat("}", MaxFileBytes/4-100),
	} {
		if len(text) > MaxFileBytes {
			t.Fatalf("%s: %d bytes", name, len(text))
		}
		if n := len(keyLines([]byte(text))); n > strings.Count(text, "\n")+MaxFileBytes/2 || strings.Contains(name, "dots") && n > 20 {
			t.Errorf("%s: %d paths are kept", name, n)
		}
		began := processorTime(t)
		_, err := Parse("f", []byte(text), "h")
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if len(err.Error()) > 10_000 {
			t.Errorf("%s: the error has %d bytes", name, len(err.Error()))
		}
		if took := processorTime(t) - began; took > bound {
			t.Errorf("%s: answered after %v of processor time", name, took)
		}
	}
}

// processorTime is what this process has used.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The lines are right wherever they are.
func TestLinesOfALongFile(t *testing.T) {
	text := good + strings.Repeat("#\n", 9_000) + "[[service]]\nname = \"b\"\nlisten = \"10.77.0.2:23\"\nbackend = 1\n"
	_, err := Parse("f", []byte(text), "h")
	want := fmt.Sprintf("f:%d: service[1].backend: this is a whole number; write a text in quotes, \"…\"", strings.Count(text, "\n"))
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
