package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"onevoice/config"
)

// What cannot be done is refused with what could be.
func TestOptions(t *testing.T) {
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"rounds":        {Options{Rounds: -1}, "--rounds is -1; write 1 to 100"},
		"many rounds":   {Options{Rounds: MaxRounds + 1}, "--rounds is 101; write 1 to 100"},
		"seconds":       {Options{Seconds: MaxSeconds + 1}, "--seconds is 61; write 1 to 60"},
		"row":           {Options{Only: []string{"upload", "uplaod"}}, `there is no row "uplaod"; write some of upload, download`},
		"path":          {Options{Peers: []string{"haproxi"}}, `there is no path "haproxi"; write some of kernel, xt_cluster, haproxy`},
		"row twice":     {Options{Only: []string{"upload", "upload"}}, `upload is named twice`},
		"path twice":    {Options{Peers: []string{Kernel, Nginx, Kernel}}, `kernel is named twice`},
		"nothing":       {Options{}, ""},
		"all by name":   {Options{Only: TestNames(), Peers: PathNames()}, ""},
		"nothing named": {Options{Only: []string{""}}, `there is no row ""`},
	} {
		c.o.SetDefaults(false)
		err := c.o.Check()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A quick run is fewer rounds of fewer rows, and what was said goes first.
func TestQuick(t *testing.T) {
	o := Options{Rounds: 4}
	o.SetDefaults(true)
	if o.Rounds != 4 || o.Seconds != QuickSeconds || len(o.Only) >= len(TestNames()) || !slices.Equal(o.Peers, PathNames()) {
		t.Errorf("%+v", o)
	}
	if err := o.Check(); err != nil {
		t.Error(err)
	}
}

// Names are there once, and every test has a sample for each of its rows.
func TestRowsHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, x := range tests() {
		for _, f := range x.Rows {
			if seen[f.Name] || f.Name == "" || f.Title == "" || f.Unit == "" {
				t.Errorf("%s: %+v", x.Name, f)
			}
			seen[f.Name] = true
			if len(f.Title) > labelColumns {
				t.Errorf("%q is too long for the table", f.Title)
			}
		}
	}
}

// Who is not installed is named, and the rest is measured.
func TestMissingProgramsAreNamed(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"nginx", "iperf3"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho "+name+" 1.2.3\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	r := &run{o: Options{Rounds: 1, Seconds: 1, Only: []string{"upload", "requests"}, Peers: []string{Kernel, XTCluster, HAProxy, Nginx, OneVoice}}}
	if err := r.choose(); err != nil {
		t.Fatal(err)
	}
	var there []string
	for _, p := range r.paths {
		there = append(there, p.Name)
	}
	if !slices.Equal(there, []string{Kernel, Nginx, OneVoice}) || len(r.tests) != 1 {
		t.Errorf("paths %v, %d tests", there, len(r.tests))
	}
	if got := r.report.Path(HAProxy).Missing; got != "haproxy is not installed" {
		t.Errorf("HAProxy: %q", got)
	}
	if got := r.report.Row("requests").Missing; got != "wrk is not installed" {
		t.Errorf("requests: %q", got)
	}
	if got := r.report.Environment.Tools["iperf3"]; got != "1.2.3" {
		t.Errorf("iperf3 is of version %q", got)
	}
	if err := os.Remove(filepath.Join(dir, "nginx")); err != nil {
		t.Fatal(err)
	}
	if err := r.choose(); err == nil || !strings.Contains(err.Error(), "make bench-deps") {
		t.Errorf("without the service: %v", err)
	}
}

// A path has its turn at each place of a round, and never twice in one.
func TestEveryPathBegins(t *testing.T) {
	const paths = 4
	for i := range 3 {
		first := map[int]bool{}
		for round := range paths {
			order := turns(paths, round, i)
			if sorted := slices.Sorted(slices.Values(order)); !slices.Equal(sorted, []int{0, 1, 2, 3}) {
				t.Errorf("round %d: %v", round, order)
			}
			first[order[0]] = true
		}
		if len(first) != paths {
			t.Errorf("in %d rounds %d paths began", paths, len(first))
		}
	}
}

// Our own file is one that the program takes, for every number of nodes.
func TestOwnFileIsValid(t *testing.T) {
	for _, nodes := range []int{1, 2, 4, 8} {
		for _, idle := range []bool{false, true} {
			var peers []string
			for i := range nodes {
				peers = append(peers, fmt.Sprintf("\"10.77.0.%d\"", 11+i))
			}
			for _, file := range []string{ownProxy, ownDirect} {
				text, err := peerFile(file, ownFile{"/run/x", strings.Join(peers, ", "), nodes, []string{MulticastMode, UnicastMode}[nodes%2], idle})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := config.Parse(file, []byte(text), "n1"); err != nil {
					t.Errorf("%s, %d nodes: %v\n%s", file, nodes, err, text)
				}
			}
		}
	}
	if _, err := peerFile("xt_cluster.rules", struct{ Total int }{4}); err == nil {
		t.Error("a value is missing, and no error")
	}
	if _, err := peerFile("nobody.conf", nil); err == nil {
		t.Error("a file that is not there")
	}
}
