package bench

import (
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
	// supports reports whether a path can do this; nil when all can.
	supports func(path string) bool
	run      measure
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
		{Name: "upload-1500", Rows: one("upload-1500", "upload, 1,500-byte frames", "Gb/s"), needs: []string{"iperf3"}, nodes: 1, run: smallUp(upload)},
		{Name: "download-1500", Rows: one("download-1500", "download, 1,500-byte frames", "Gb/s"), needs: []string{"iperf3"}, nodes: 1, run: smallDown(download)},
		{Name: "requests", Rows: one("requests", "requests, keep-alive", "/s"), needs: []string{"wrk"}, nodes: 1, run: requests},
		{Name: "connections", Rows: one("connections", "connection per request", "/s"), needs: []string{"wrk"}, nodes: 1, run: connections},
	}
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
