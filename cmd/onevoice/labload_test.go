package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"onevoice/lab"
)

// A short load. What a busy machine may do to leases is in the report, and no
// fault of the program; flows have to hold, and exit code and report to agree.
func TestLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	report := filepath.Join(t.TempDir(), "report.json")
	code, out := runProgram(t, labProgram(t, "load", "--for=5s", "--flows=200", "--report", report), (*exec.Cmd).Start)
	skipWithoutLab(t, out)
	var r lab.LoadResult
	text, err := os.ReadFile(report)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil || r.Flows != 200 || len(r.BytesOf) != 4 || r.Broken != 0 || r.Bytes == 0 || r.Connections == 0 {
		t.Fatalf("exit %d, %v\n%s\n%s", code, err, text, out)
	}
	held := 0
	for _, n := range r.FlowsOf {
		held += n
	}
	if held != 200 {
		t.Errorf("%v", r.FlowsOf)
	}
	want := 0
	for _, l := range r.Lost {
		if !l.Excused {
			want = 1
		}
	}
	for _, e := range r.Evictions {
		if !e.Excused {
			want = 1
		}
	}
	if code != want {
		t.Errorf("exit %d, want %d\n%s", code, want, out)
	}
}

// What a load refuses, before anything is built.
func TestLoadRefuses(t *testing.T) {
	for _, args := range [][]string{{"--flows=0"}, {"--for=0s"}, {"--nodes=0"}, {"more"}} {
		if code, out := runProgram(t, labProgram(t, append([]string{"load"}, args...)...), (*exec.Cmd).Start); code != 2 {
			t.Errorf("%v: exit %d: %s", args, code, out)
		}
	}
}
