package bench

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// example has what a report may have: rows of both kinds, samples that spread, a
// path that is missing, one that failed in a round and one that failed in all, a
// row that a path cannot do, one that is skipped, and names that mean something
// to a page.
func example() *Report {
	r := &Report{Began: time.Date(2026, 11, 21, 14, 0, 0, 0, time.UTC), Rounds: 3, SecondsEach: 2, LatencyRate: 12345.6, LatencyReference: HAProxy,
		IdleMost: 9900, Environment: Environment{CPU: "A <b>processor</b> & more", Processors: 2, MemoryMB: 2048, Kernel: "6.18.0", Arch: "amd64",
			Go: "go1.26", Commit: "0123456789ab+", CongestionControl: "cubic", BusyPercent: 12, Tools: map[string]string{"haproxy": "2.6.12", "wrk": "4.1.0"}}}
	for _, name := range PathNames() {
		p, err := newPath(name)
		if err != nil {
			panic(err)
		}
		r.Paths = append(r.Paths, PathInfo{Name: name, Title: p.Title})
	}
	r.Path(Nginx).Missing = "nginx is not installed"
	add := func(f figure, samples map[string][]float64) *Row {
		row := Row{figure: f, Test: f.Name, Cells: map[string]*Cell{}}
		for name, all := range samples {
			row.Cells[name] = &Cell{}
			for _, s := range all {
				row.Cells[name].add(s)
			}
		}
		r.Rows = append(r.Rows, row)
		return &r.Rows[len(r.Rows)-1]
	}
	row := add(figure{"upload", "upload", "Gb/s", false}, map[string][]float64{Kernel: {40, 41, 42}, XTCluster: {30, 29, 28}, HAProxy: {8, 10, 9}, OneVoice: {11, 12, 10.8}, OneVoiceTransparent: {12}, OneVoiceDirect: {39, 38, 40}})
	row.Cells[OneVoiceTransparent].Failed = []string{"round 2: iperf3: it broke", "round 3: iperf3: it broke"}
	add(figure{"latency-p99", "latency, p99", "µs", true}, map[string][]float64{Kernel: {2793, 2800, 2700}, HAProxy: {4764, 4800, 4700}, OneVoice: {189_000, 190_000, 150_000}})
	row = add(figure{"dns", "DNS queries", "/s", false}, map[string][]float64{Kernel: {54_916, 55_000, 54_000}, HAProxy: nil, OneVoice: nil, XTCluster: nil})
	row.Cells[HAProxy].NotSupported, row.Cells[OneVoice].NotSupported = true, true
	row.Cells[XTCluster].Failed = []string{"round 1: <script>alert(1)</script>"}
	add(figure{"skipped", "skipped", "/s", false}, nil).Missing = "dnsperf is not installed"
	add(figure{"foreign-machine", "foreign frame, machine", "ns", true}, map[string][]float64{XTCluster: {-50, 100, 20}, OneVoice: {0, 0, 0}})
	return r
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	name = "testdata/" + name
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(want, got) {
		t.Errorf("%s differs (%v); look at it and run `go test ./bench -update`:\n%s", name, err, got)
	}
}

// The table fits a terminal, and every median in it is the one of the samples.
func TestTable(t *testing.T) {
	var out bytes.Buffer
	example().Table(&out, false)
	golden(t, "table.txt", out.Bytes())
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > columns && !strings.HasPrefix(line, "! ") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("there are colours")
	}
	for _, text := range []string{"upload                      41.0    29.0    9.00    11.0    12.0    39.0", "direct to each            0.95    1.34    4.33", "±11%", "nginx was skipped", "! upload, onevoice, transparent, round 2: iperf3: it broke"} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("no %q in\n%s", text, &out)
		}
	}
}

// Colour changes nothing but the colour.
func TestTableInColour(t *testing.T) {
	var plain, bold bytes.Buffer
	example().Table(&plain, false)
	example().Table(&bold, true)
	if got := regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAllString(bold.String(), ""); got != plain.String() || got == bold.String() {
		t.Errorf("in colour:\n%s", &bold)
	}
}

// The picture is well-formed, nothing lies outside of it or on something else, and
// bars are as long as their medians.
func TestSVG(t *testing.T) {
	var out bytes.Buffer
	r := example()
	if err := r.SVG(&out); err != nil {
		t.Fatal(err)
	}
	golden(t, "chart.svg", out.Bytes())
	c := newChart(r)
	d := xml.NewDecoder(&out)
	var ours []float64
	seen := map[string]bool{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		a := map[string]string{}
		for _, x := range e.Attr {
			a[x.Name.Local] = x.Value
		}
		if e.Name.Local == "script" {
			t.Error("a text became a script")
		}
		var x, y, width float64
		fmt.Sscan(a["x"], &x)
		fmt.Sscan(a["y"], &y)
		fmt.Sscan(a["width"], &width)
		if e.Name.Local == "svg" || a["class"] == "paper" {
			continue
		}
		if x < 0 || x+width > float64(c.Width) || y < 0 || y > float64(c.Height) {
			t.Errorf("%s at %v, %v, %v wide, is outside of %d x %d", e.Name.Local, x, y, width, c.Width, c.Height)
		}
		if place := e.Name.Local + a["x"] + "," + a["y"]; (e.Name.Local == "text" || e.Name.Local == "rect") && seen[place] {
			t.Errorf("two at %s", place)
		} else {
			seen[place] = true
		}
		if e.Name.Local == "rect" && a["class"] == "ours" {
			ours = append(ours, width)
		}
	}
	// Of upload: 11 and 12 of 42.
	if len(ours) < 2 || ours[0]/ours[1] < 0.91 || ours[0]/ours[1] > 0.92 {
		t.Errorf("bars of ours: %v", ours)
	}
}

// The page asks for nothing from elsewhere, shows every figure of the table, and
// takes texts for texts.
func TestHTML(t *testing.T) {
	var out bytes.Buffer
	r := example()
	if err := r.HTML(&out); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	for _, from := range []string{"src=", "href=", "url(", "@import", "<script", "<b>"} {
		if strings.Contains(page, from) {
			t.Errorf("the page has %q", from)
		}
	}
	for _, text := range []string{"prefers-color-scheme: dark", "width=device-width", "not supported", "skipped: dnsperf is not installed", "2.6.12",
		"0123456789ab&#43;", "A &lt;b&gt;processor&lt;/b&gt; &amp; more", "&lt;script&gt;alert(1)", ">189k", "latency at 12346 requests/s"} {
		if !strings.Contains(page, text) {
			t.Errorf("the page has no %q", text)
		}
	}
	for _, row := range r.Rows {
		if !strings.Contains(page, row.Title) {
			t.Errorf("the page has no row %q", row.Title)
		}
	}
}

// What --json writes, --read shows the same.
func TestReportAsJSON(t *testing.T) {
	text, err := json.Marshal(example())
	if err != nil {
		t.Fatal(err)
	}
	back := &Report{}
	if err := json.Unmarshal(text, back); err != nil {
		t.Fatal(err)
	}
	var a, b bytes.Buffer
	example().Table(&a, false)
	back.Table(&b, false)
	if a.String() != b.String() {
		t.Errorf("before:\n%s\nafter:\n%s", &a, &b)
	}
	for _, key := range []string{`"median":41`, `"low":40`, `"high":42`, `"samples":[40,41,42]`, `"less_is_better":true`, `"not_supported":true`, `"missing":"nginx is not installed"`, `"commit":"0123456789ab+"`} {
		if !strings.Contains(string(text), key) {
			t.Errorf("no %s in %s", key, text)
		}
	}
}
