package bench

import (
	"context"
	"fmt"
	"strings"
)

// test is one thing that is measured; it gives a sample of each of its rows.
type test struct {
	Name string
	// Rows are its figures, in the order of the samples.
	Rows []figure
	// needs are the programs that load the path.
	needs []string
	// nodes on the LAN.
	nodes int
	// about reports whether the test says something of a path; nil when it does of
	// all.
	about func(path string) bool
	run   measure
	// prepare finds out, once in a run, what run needs; nil for nothing.
	prepare func(context.Context, *bed, *Report) error
}

// figure is a row without its cells.
type figure struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// Unit is that of the samples, as "Gb/s".
	Unit string `json:"unit"`
	// LessIsBetter, as for times and memory.
	LessIsBetter bool `json:"less_is_better"`
}

// tests are all, in the order of tables.
func tests() []test {
	one := func(name, title, unit string) []figure { return []figure{{Name: name, Title: title, Unit: unit}} }
	return []test{
		{Name: "upload", Rows: one("upload", "upload", "Gb/s"), needs: []string{"iperf3"}, nodes: 1, run: upload},
		{Name: "download", Rows: one("download", "download", "Gb/s"), needs: []string{"iperf3"}, nodes: 1, run: download},
		{Name: "upload-1500", Rows: one("upload-1500", "upload, 1500 B frames", "Gb/s"), needs: []string{"iperf3"}, nodes: 1, run: smallUp(upload)},
		{Name: "download-1500", Rows: one("download-1500", "download, 1500 B frames", "Gb/s"), needs: []string{"iperf3"}, nodes: 1, run: smallDown(download)},
		{Name: "requests", Rows: one("requests", "requests, keep-alive", "/s"), needs: []string{"wrk"}, nodes: 1, run: requests},
		{Name: "connections", Rows: one("connections", "connection per request", "/s"), needs: []string{"wrk"}, nodes: 1, run: connections},
		{Name: "latency", Rows: []figure{
			{"latency-p50", "latency, p50", "µs", true},
			{"latency-p99", "latency, p99", "µs", true},
			{"latency-p999", "latency, p99.9", "µs", true},
		}, needs: []string{"wrk"}, nodes: 1, run: latency, prepare: findRate},
		idleTest(idleFew),
		idleTest(idleMany),
		{Name: "flood", Rows: []figure{
			{"flood-connect-p99", "SYN flood, connect p99", "ms", true},
			{"flood-answered", "SYN flood, answered", "/s", false},
			{"flood-memory", "SYN flood, memory", "MiB more", true},
			{"flood-upload", "SYN flood, upload", "Gb/s", false},
			{"flood-kept", "SYN flood, upload keeps", "%", false},
		}, needs: []string{"iperf3"}, nodes: 1, run: underFlood},
		{Name: "dns", Rows: one("dns", "DNS queries", "/s"), needs: []string{"dnsperf"}, nodes: 1, run: dnsQueries},
		{Name: "foreign", Rows: []figure{
			{"foreign-machine", "foreign frame, machine", "ns", true},
			{"foreign-run", "foreign frame, run's own", "ns", true},
		}, nodes: foreignNodes, about: clusters, run: foreignFrame},
		hearTest("upload", "upload", "Gb/s", "iperf3", 2, upload), hearTest("requests", "requests", "/s", "wrk", 2, requests),
		hearTest("upload", "upload", "Gb/s", "iperf3", 4, upload), hearTest("requests", "requests", "/s", "wrk", 4, requests),
		hearTest("download", "download", "Gb/s", "iperf3", 4, download), hearTest("connections", "connections", "/s", "wrk", 4, connections),
		hearTest("upload", "upload", "Gb/s", "iperf3", 8, upload), hearTest("requests", "requests", "/s", "wrk", 8, requests),
	}
}

// hearTest is a test while so many nodes of a cluster hear every frame, of which
// the first serves the client. Frames to a proxy's own address are heard by the
// proxy alone.
func hearTest(name, title, unit, tool string, nodes int, run measure) test {
	f := figure{Name: fmt.Sprintf("%s-%d-nodes", name, nodes), Title: fmt.Sprintf("%s, %d hearing", title, nodes), Unit: unit}
	return test{Name: f.Name, Rows: []figure{f}, needs: []string{tool}, nodes: nodes, about: heard, run: run}
}

// clusters are the paths that hear frames for other nodes.
func clusters(path string) bool {
	return path == XTCluster || path == OneVoice || path == OneVoiceDirect
}

// heard are the paths of clusters, and the kernel alone to compare with.
func heard(path string) bool {
	return path == Kernel || clusters(path)
}

// idleTest is about n connections that do nothing.
func idleTest(n int) test {
	name, title := fmt.Sprintf("idle-%d", n), fmt.Sprintf("%d idle", n)
	return test{Name: name, Rows: []figure{
		{name + "-resident", title + ", resident", "KiB each", true},
		{name + "-kernel", title + ", kernel", "KiB each", true},
		{name + "-both", title + ", both", "KiB each", true},
		{name + "-all", title + ", in all", "MiB", true},
	}, nodes: 1, run: idle(n), prepare: findSocketBytes}
}

// TestNames are the names of all tests.
func TestNames() (out []string) {
	for _, t := range tests() {
		out = append(out, t.Name)
	}
	return out
}

// quickTests are the main ones.
func quickTests() []string {
	return []string{"upload", "download", "upload-1500", "requests", "connections"}
}

// chooseTests are those that were asked for.
func chooseTests(names []string) (out []test, err error) {
	for _, name := range names {
		found := false
		for _, t := range tests() {
			if t.Name == name {
				out, found = append(out, t), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no row %q; write some of %s", name, strings.Join(TestNames(), ", "))
		}
	}
	return out, nil
}
