package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"onevoice/admin"
)

// watched is a cluster of three and a witness, of which the third node is dead and
// nobody has its last buckets yet.
func watched() *admin.Status {
	s := &admin.Status{
		Node: "unix1", Cluster: "campus-ssh", Leased: true, Uptime: 3725,
		Warnings: []string{"unix3 (10.77.0.13) was not heard for 12 s; its buckets have gone to the others, and its users are reset; look at that host, and start onevoice there again"},
		Nodes: []admin.NodeStatus{
			{Name: "unix1", Address: "10.77.0.11", State: "serving", Self: true, Weight: 100, Percent: 100, Buckets: 120, In: true, Epoch: 3, Flows: 17, Hears: []string{"unix2", "gw"}},
			{Name: "unix2", Address: "10.77.0.12", State: "serving", Heard: 0.02, Weight: 50, Percent: 100, Buckets: 120, DrainsOf: map[string]int{"ssh": 3}, In: true, Epoch: 5, Flows: 8, Hears: []string{"unix1"}, Told: 4},
			{Name: "unix3", Address: "10.77.0.13", State: "DEAD", Heard: 12, Weight: 100, Percent: 100, Down: []string{"ssh"}, Epoch: 2, Flows: 9, Hears: []string{"unix1", "unix2"}, Told: 31},
			{Name: "gw", Address: "10.0.0.9", State: "witness", Heard: 0.02, Witness: true},
		},
	}
	row := make([]string, 256)
	for i := range row {
		if row[i] = s.Nodes[i/3%2].Address; i >= 240 {
			row[i] = ""
		}
	}
	s.Table = map[string][]string{"ssh": row, "vip": row, "vip/10.77.0.2": row, "dns": make([]string, 4)}
	s.Flows.Running, s.Flows.Limit = 17, 50_000
	return s
}

func TestWatchAt80Columns(t *testing.T) {
	var v view
	begun := time.Unix(0, 0)
	v.see(begun, watched())
	next := watched()
	next.Flows.Accepted, next.Flows.BytesDown, next.Filtered.Foreign, next.Device.ReceivedFrames = 30, 6<<20, 2000, 500
	v.see(begun.Add(2*time.Second), next)
	got := v.draw(80, false)
	const want = `unix1 of cluster campus-ssh, holds a lease, up 1h2m5s
! unix3 (10.77.0.13) was not heard for 12 s; its buckets have gone to the
  others, and its users are reset; look at that host, and start onevoice there
  again

   NODE   ADDRESS     STATE    HEARD  EPOCH  BUCKETS  FLOWS  DRAINS
A  unix1  10.77.0.11  serving  self   3      120      17     0
B  unix2  10.77.0.12  serving  20 ms  5      120      8      3       weight 50
C  unix3  10.77.0.13  DEAD     12s    2      0        ?      0       ssh DOWN
-  gw     10.0.0.9    witness  20 ms         0               0

BUCKETS OF dns
  0  ....

BUCKETS OF ssh, vip/10.77.0.2
  0  AAABBBAAABBBAAABBBAAABBBAAABBBAAABBBAAABBBAAABBBAAABBBAAABBBAAAB
 64  BBAAABBBAAABBBAAABBBAAABBBAAABBBAAABBBAAABBBAAABBBAAABBBAAABBBAA
128  ABBBAAABBBAAABBBAAABBBAAABBBAAABBBAAABBBAAABBBAAABBBAAABBBAAABBB
192  AAABBBAAABBBAAABBBAAABBBAAABBBAAABBBAAABBBAAABBB................

FLOWS  17 running of 50000, 15 new/s, 0 B/s up, 3.0 MiB/s down
FRAMES 250/s to this program, 1000/s dropped in the kernel for other nodes
`
	if got != want {
		t.Errorf("drawn is\n%s\nwant\n%s", got, want)
	}
	for _, line := range strings.Split(got, "\n") {
		if n := utf8.RuneCountInString(line); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	// In colour it says the same, and more.
	coloured := v.draw(80, true)
	plain := coloured
	for from := strings.Index(plain, "\x1b["); from >= 0; from = strings.Index(plain, "\x1b[") {
		to := from + strings.IndexByte(plain[from:], 'm') + 1
		plain = plain[:from] + plain[to:]
	}
	if plain != want || !strings.Contains(coloured, "\x1b[34mA\x1b[0m") {
		t.Error("in colour something else is said")
	}
	if lines := strings.Count(onScreen(want, 5), "\r\n"); lines != 4 {
		t.Errorf("on a screen of 5 lines there are %d", lines+1)
	}
}

func TestClientsOfFlows(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32 0", "192.0.2.0/24": "192.0.2.0/24 0", "192.0.2.7:99": "192.0.2.7/32 99",
		"2001:db8::1": "2001:db8::1/128 0", "[2001:db8::1]:99": "2001:db8::1/128 99", "": "", "n1": "", "fe80::1%eth0": "", "192.0.2.7/33": "",
	} {
		p, port, err := clients(text)
		got := ""
		if err == nil {
			got = fmt.Sprintf("%s %d", p, port)
		}
		if got != want {
			t.Errorf("%q is %s, %v; want %s", text, got, err, want)
		}
	}
}
