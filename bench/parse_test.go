package bench

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
)

func sample(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What the tools wrote, and what is in it.
func TestToolsAreRead(t *testing.T) {
	for name, c := range map[string]struct {
		parse func(string) (float64, error)
		want  float64
		fault string
	}{
		"iperf3.json":         {parseIperf, 22194075917.77973, ""},
		"iperf3-refused.json": {parseIperf, 0, "unable to connect to server"},
		"wrk.txt":             {parseWrk, 60626.31, ""},
		"wrk-errors.txt":      {parseWrk, 0, "read 7, write 0, timeout 2"},
		"dnsperf.txt":         {parseDNSPerf, 54915.030655, ""},
		"dnsperf-lost.txt":    {parseDNSPerf, 0, "5 % of the questions were lost"},
	} {
		got, err := c.parse(sample(t, name))
		if math.Abs(got-c.want) > 1e-6*c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if c.fault == "" && err != nil || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
			t.Errorf("%s: error %v, want %q", name, err, c.fault)
		}
	}
}

// A stream's rates before and after an instant leave out the warm-up, and what touches
// the instant.
func TestHalvesOfAStream(t *testing.T) {
	interval := func(start, end, rate float64, omitted bool) string {
		return fmt.Sprintf(`{"sum":{"start":%v,"end":%v,"bits_per_second":%v,"omitted":%t}}`, start, end, rate, omitted)
	}
	text := func(some ...string) string { return `{"intervals":[` + strings.Join(some, ",") + `]}` }
	whole := text(interval(0, 1, 99, true), interval(0, 1, 8, false), interval(1, 2, 10, false), interval(1.5, 2.5, 99, false), interval(2, 3, 99, false), interval(3, 4, 3, false), interval(4, 5, 5, false))
	before, after, err := parseHalves(whole, 2, 1)
	if err != nil || before != 9 || after != 4 {
		t.Errorf("%v before, %v after: %v", before, after, err)
	}
	for _, bad := range []string{"", "{", "{}", `{"error":"refused"}`, text(interval(0, 1, 8, false)), text(interval(3, 4, 8, false)), text(interval(0, 1, 0, false), interval(3, 4, 8, false))} {
		if before, after, err := parseHalves(bad, 2, 1); err == nil {
			t.Errorf("%q: %v and %v", bad, before, after)
		}
	}
}

// What a tool of another version, or one that was killed, may write.
func TestUnreadableIsAnError(t *testing.T) {
	for _, text := range []string{"", "{}", "{", "null", `{"end":{"sum_received":{"bits_per_second":0}}}`, "Requests/sec: \n", "Requests/sec:      0.00\n"} {
		if got, err := parseIperf(text); err == nil {
			t.Errorf("iperf3 %q: %v", text, got)
		}
		if got, err := parseWrk(text); err == nil {
			t.Errorf("wrk %q: %v", text, got)
		}
		if got, err := parseDNSPerf(text); err == nil {
			t.Errorf("dnsperf %q: %v", text, got)
		}
	}
}

func TestVersions(t *testing.T) {
	for text, want := range map[string]string{
		"HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\n": "2.6.12-1+deb12u4",
		"nginx version: nginx/1.22.1\n":                                        "1.22.1",
		"iperf 3.12 (cJSON 1.7.15)\n":                                          "3.12",
		"wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012 Will Glozer\n  -v, --version  Print version details\n": "4.1.0-3+b2",
		"iptables v1.8.9 (nf_tables)\n":                                        "1.8.9",
		"-s the server to query (default: 127.0.0.1)\nVersion 2.10.0\n\nUsage": "2.10.0",
		"no number": "",
	} {
		if got := parseVersion(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// What the kernel says, and what is in it.
func TestKernelIsRead(t *testing.T) {
	for _, c := range []struct {
		name string
		got  func() (float64, error)
		want float64
	}{
		{"busy", func() (float64, error) { return busy("cpu  10 20 30 40 50 60 70 80 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n") }, 190e7},
		{"kilobytes", func() (float64, error) {
			return kilobytes("Rss: 9 kB\nPss:                1234 kB\nPss_Anon: 1 kB\n", "Pss")
		}, 1234 * 1024},
		{"pages", func() (float64, error) {
			return bufferPages("sockets: used 14\nTCP: inuse 1 orphan 1 tw 0 alloc 19 mem 882\nUDP: inuse 0 mem 205\n")
		}, 882},
		// 10 sockets of 2,368 and 832 bytes with names of 192, and 100 others' names.
		{"slabs", func() (float64, error) {
			return socketSlabs("slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize>\n" +
				"TCP 10 13 2368 13 8 : tunables 0 0 0\nsock_inode_cache 10 19 832 19 4 : tunables\ndentry 110 115 192 21 1 : tunables\nbtrfs_inode 7 7 1016 16 4 :\n"), nil
		}, 10 * (2368 + 832 + 192)},
	} {
		if got, err := c.got(); err != nil || got != c.want {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
	for _, text := range []string{"", "cpu  1 2 3\n", "cpu  a b c d e f g h i\n"} {
		if _, err := busy(text); err == nil {
			t.Errorf("busy takes %q", text)
		}
	}
	if _, err := bufferPages("UDP: inuse 0 mem 205\n"); err == nil {
		t.Error("no line of TCP, and no error")
	}
}

// A port is listened on in whatever way, and not when somebody only uses it.
func TestListens(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0B004D0A:1451 65004D0A:A005 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1
`
	for port, want := range map[uint16]bool{8080: true, 5201: false, 80: false} {
		if listens(table, port) != want {
			t.Errorf("port %d: %t", port, !want)
		}
	}
}
