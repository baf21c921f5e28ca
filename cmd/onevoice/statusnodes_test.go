package main

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"onevoice/admin"
	"onevoice/stack"
)

// A status has for each node its lease, epoch, share, flows and health, and what it
// hears; what goes on and harms nobody is no warning.
func TestStatusAt80Columns(t *testing.T) {
	s := watched()
	s.Version = "v1"
	s.News = []string{"2 old workers serve 17 flows to their end, of version 0.1.0-7-g0123456789ab (2026-11-20, linux/amd64)"}
	s.Nodes[0].BucketsOf, s.Nodes[1].BucketsOf = map[string]int{"ssh": 128}, map[string]int{"ssh": 64}
	s.Services = []admin.ServiceStatus{{ServiceStatus: stack.ServiceStatus{Name: "ssh", Listen: "10.77.0.2:22", Backend: "127.0.0.1:22", Up: true, Flows: 17}, Buckets: 128, BucketsIn: 256}}
	s.VIPs = []admin.VIPStatus{{Address: "10.77.0.2", MAC: "01:00:5e:4d:00:02", MACMode: "multicast"}}
	var b strings.Builder
	if err := printStatus(&b, s); err != nil {
		t.Fatal(err)
	}
	const want = `WARNING  unix3 (10.77.0.13) was not heard for 12 s; its buckets have gone to the
         others, and its users are reset; look at that host, and start onevoice
         there again
NEWS     2 old workers serve 17 flows to their end, of version
         0.1.0-7-g0123456789ab (2026-11-20, linux/amd64)

unix1 of cluster campus-ssh, holds a lease, up 1h2m5s, onevoice v1

VIP        CLUSTER MAC        MODE
10.77.0.2  01:00:5e:4d:00:02  multicast

NODE   ADDRESS     STATE    HEARD  EPOCH  BUCKETS    FLOWS  DRAINS  VOTE
unix1  10.77.0.11  serving  self   3      128  50 %  17     0       -
unix2  10.77.0.12  serving  20 ms  5       64  25 %  8      3       -
       weight 50
unix3  10.77.0.13  DEAD     12s    2        0   0 %  ?      0       -
       ssh DOWN
gw     10.0.0.9    witness  20 ms                                   -

HEARS    each node hears all others on the shared MAC

SERVICE  LISTEN        BACKEND       STATE  BUCKETS  FLOWS
ssh      10.77.0.2:22  127.0.0.1:22  up     128      17
`
	if !strings.HasPrefix(b.String(), want) {
		t.Errorf("the status is\n%s\nwant\n%s", b.String(), want)
	}
	for line := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// What nodes hear is one line while all is well, and a line for each else.
func TestWhatNodesHear(t *testing.T) {
	node := func(name string, told float64, hears ...string) admin.NodeStatus {
		return admin.NodeStatus{Name: name, In: true, Told: told, Hears: hears}
	}
	out := func(told, heard float64) admin.NodeStatus {
		return admin.NodeStatus{Name: "out", Told: told, Heard: heard}
	}
	witness := admin.NodeStatus{Name: "w", In: true, Witness: true, Told: -1}
	for _, c := range []struct {
		nodes []admin.NodeStatus
		want  []string
	}{
		{[]admin.NodeStatus{node("a", 0)}, nil},
		{[]admin.NodeStatus{node("a", 0), witness}, nil},
		{[]admin.NodeStatus{node("a", 0, "b"), node("b", 9, "a"), witness}, []string{"each node hears all others on the shared MAC"}},
		{[]admin.NodeStatus{node("a", 0, "b"), node("b", 9)}, []string{"a hears all others", "b hears none of the others"}},
		{[]admin.NodeStatus{node("a", 0, "b"), node("b", 31, "a")}, []string{"a hears all others", "b has not told lately"}},
		{[]admin.NodeStatus{node("a", 0, "b"), node("b", -1)}, []string{"a hears all others", "b has not told yet"}},
		{[]admin.NodeStatus{node("a", 0, "b"), node("b", 9, "a"), out(40, 0.1)}, []string{"each node hears all others on the shared MAC"}},
		{[]admin.NodeStatus{node("a", 0, "b"), node("b", 9, "a"), out(9, 12)}, []string{"each node hears all others on the shared MAC"}},
		{[]admin.NodeStatus{node("a", 0, "b"), node("b", 9, "a"), out(9, 0.1)}, []string{"a hears all others", "b hears all others", "out hears none of the others"}},
		{[]admin.NodeStatus{node("a", 0, "b", "c"), node("b", 9, "a"), node("c", 3, "a", "b")}, []string{"a hears all others", "b hears a, and not c", "c hears all others"}},
	} {
		if got := hearsTexts(&admin.Status{Nodes: c.nodes}); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.nodes, got, c.want)
		}
	}
}
