package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"onevoice/bench"
)

// skipWithoutPeers skips where what a run is made of is not installed.
func skipWithoutPeers(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed; make bench-deps installs it", name)
		}
	}
}

// A short run measures what was asked for, and its report can be shown again.
func TestBench(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	skipWithoutPeers(t, "nginx", "wrk", "dnsperf")
	page := filepath.Join(t.TempDir(), "page.html")
	cmd := program(t, "bench", "--rounds=1", "--seconds=1", "--only=requests,dns", "--peers=kernel,onevoice-transparent,onevoice", "--json", "--html="+page)
	var out, told bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &told
	if err := cmd.Run(); err != nil {
		skipWithoutLab(t, told.String())
		t.Fatalf("%v\n%s", err, &told)
	}
	r := &bench.Report{}
	if err := json.Unmarshal(out.Bytes(), r); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, path := range []string{bench.Kernel, bench.OneVoice, bench.OneVoiceTransparent} {
		checkCell(t, path, r.Row("requests").Cells[path], "wrk: Socket errors")
	}
	checkCell(t, "DNS", r.Row("dns").Cells[bench.Kernel], "of the questions were lost")
	checkCell(t, "DNS", r.Row("dns").Cells[bench.OneVoice], "of the questions were lost")
	if r.Row("upload") != nil || r.Path(bench.HAProxy) != nil || r.Interrupted {
		t.Errorf("more than was asked for: %s", &out)
	}
	if e := r.Environment; e.Processors < 1 || e.Kernel == "" || e.Tools["nginx"] == "" || e.Tools["wrk"] == "" {
		t.Errorf("environment %+v", e)
	}
	file := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, text := runProgram(t, program(t, "bench", "--read="+file), (*exec.Cmd).Start); code != 0 || !strings.Contains(text, "requests, keep-alive") {
		t.Errorf("read again: exit %d\n%s", code, text)
	}
	if text, err := os.ReadFile(page); err != nil || !strings.Contains(string(text), "requests, keep-alive") {
		t.Errorf("page: %v", err)
	}
}

// checkCell wants a sample, or on a machine that is too busy for one what the load
// program says then.
func checkCell(t *testing.T, name string, c *bench.Cell, busy string) {
	t.Helper()
	switch {
	case c == nil || len(c.Samples)+len(c.Failed) != 1:
		t.Errorf("%s: %+v", name, c)
	case len(c.Failed) == 1 && !strings.Contains(c.Failed[0], busy):
		t.Errorf("%s: %s", name, c.Failed[0])
	case len(c.Samples) == 1 && c.Median <= 0:
		t.Errorf("%s: %v", name, c.Median)
	}
}

// An interrupted run says so, shows what there is, and leaves nothing.
func TestBenchIsInterrupted(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	skipWithoutPeers(t, "nginx", "wrk")
	cmd := program(t, "bench", "--rounds=100", "--seconds=60", "--only=requests", "--peers=kernel")
	told, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It has begun when it says so.
	var text strings.Builder
	b := make([]byte, 1024)
	interrupted := false
	for {
		n, err := told.Read(b)
		text.Write(b[:n])
		if !interrupted && strings.Contains(text.String(), "round 1 of 100") {
			interrupted = true
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	skipWithoutLab(t, text.String())
	if cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(text.String(), "interrupted before the last round was complete") || !strings.Contains(out.String(), "requests") {
		t.Errorf("%v\n%s\n%s", err, &text, &out)
	}
}

// What cannot be done is refused before anything is built.
func TestBenchRefuses(t *testing.T) {
	notReport := filepath.Join(t.TempDir(), "x.json")
	if err := os.WriteFile(notReport, []byte(`{"nodes": 1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"--only=uplaod", exitWrongUse, `there is no row "uplaod"; write some of upload, download,`},
		{"--peers=haproxi", exitWrongUse, `there is no path "haproxi"; write some of kernel, xt_cluster,`},
		{"--peers=kernel,kernel", exitWrongUse, "kernel is named twice"},
		{"--rounds=-1", exitWrongUse, "--rounds is -1; write 1 to 100"},
		{"--seconds=61", exitWrongUse, "--seconds is 61; write 1 to 60"},
		{"--rounds=many", exitWrongUse, "invalid argument"},
		{"--mac-mode=igmp", exitWrongUse, `--mac-mode is "igmp"; write multicast or unicast`},
		{"now", exitWrongUse, "bench --help"},
		{"--read=/nonexistent", exitFailed, "no such file"},
		{"--read=" + notReport, exitFailed, "is no report of `onevoice bench --json`"},
		{"--html=/nonexistent/page.html", exitFailed, "no such file"},
	} {
		code, out := runProgram(t, program(t, "bench", c.args), (*exec.Cmd).Start)
		if code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit %d, %s", c.args, code, out)
		}
	}
}
