package library

import (
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"
)

var scaling = flag.String("scaling", "", "draw docs/scaling.svg anew, into this file")

// Costs of one processor, in nanoseconds; docs/scaling.md says where they come
// from.
const (
	foreignTCX    = 263
	foreignFilter = 1_176
	foreignUser   = 3_600
	oneConnection = 130_000
)

// load is what a run of N nodes was seen to cost in frames.
type load struct {
	nodes int
	// perConn is the clients' frames that every node hears for each connection, its
	// part of ARP and pings left out.
	perConn float64
	// beats is the frames that a node hears in a second when no client is there.
	beats float64
}

// loadOf simulates N nodes with and without clients' connections.
func loadOf(t *testing.T, nodes, clients int) load {
	t.Helper()
	s := New()
	s.Nodes, s.Clients, s.Duration = nodes, clients, 12*time.Second
	if nodes == 2 {
		s.TwoNodes = "preferred"
	}
	with := simulate(t, s)
	s.Users = "ping"
	without := simulate(t, s)
	conns, heard, beats := 0, 0.0, 0.0
	for i := range with.Nodes {
		conns += with.Nodes[i].Served
		heard += float64(with.Nodes[i].Heard) - float64(without.Nodes[i].Heard)
		beats += float64(without.Nodes[i].Heard)
	}
	pings := float64(without.Answers[1].Asked)
	return load{nodes, heard / float64(nodes) / float64(conns), (beats/float64(nodes) - pings) / s.Duration.Seconds()}
}

// capacity is how many connections a second N processors serve together, one on
// each node: each hears all and serves its share.
func (l load) capacity(foreign float64) float64 {
	n := float64(l.nodes)
	return (1e9 - l.beats*foreignUser) / (l.perConn*foreign*(n-1)/n + oneConnection/n)
}

// TestScaling: what every node hears of a connection does not depend on how many
// nodes there are, and what it hears of the others grows with them: 25 heartbeats a
// second of each.
func TestScaling(t *testing.T) {
	sizes, clients := []int{3, 6}, 8
	if *scaling != "" {
		sizes, clients = []int{1, 2, 3, 4, 6, 8, 12, 16, 24, 32}, 20
	} else if testing.Short() {
		t.Skip("four runs")
	}
	var all []load
	for _, n := range sizes {
		l := loadOf(t, n, clients)
		all = append(all, l)
		t.Logf("%2d nodes: %.2f frames a connection, %4.0f frames a second of others; connections a second %6.0f by TCX, %6.0f by socket filter, %6.0f in user space",
			n, l.perConn, l.beats, l.capacity(foreignTCX), l.capacity(foreignFilter), l.capacity(foreignUser))
		if l.perConn < 4 || l.perConn > 8 {
			t.Errorf("%d nodes: each hears %.2f frames of a connection", n, l.perConn)
		}
		if want := 25 * float64(n-1); l.beats < want*0.8 || l.beats > want*1.2+5 {
			t.Errorf("%d nodes: each hears %.0f frames a second of the others, want about %.0f", n, l.beats, want)
		}
	}
	if *scaling != "" {
		if err := os.WriteFile(*scaling, []byte(drawScaling(all)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// The drawing: nodes along, connections a second up, both by powers of two.
const (
	left, right, top, bottom = 64, 560, 24, 360
	mostNodes                = 32
	leastRate, mostRate      = 4e3, 512e3
)

func drawX(nodes float64) float64 { return left + (right-left)*math.Log2(nodes)/math.Log2(mostNodes) }
func drawY(rate float64) float64 {
	return bottom - (bottom-top)*math.Log2(rate/leastRate)/math.Log2(mostRate/leastRate)
}

func drawScaling(all []load) string {
	var b strings.Builder
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 410" font-family="system-ui, sans-serif" font-size="14">
<title>Connections a second of a segment, by how many nodes are on it</title>
<style>
  .ink { fill: #1b1b19 } .grid { stroke: #d6d4ce } .a { stroke: #8a8880 } .b { stroke: #1b7f4d } .c { stroke: #2a6fc9 } .d { stroke: #c2410c }
  .line { fill: none; stroke-width: 2.5 } .tb { fill: #1b7f4d } .tc { fill: #2a6fc9 } .td { fill: #c2410c } .ta { fill: #6b6963 }
  .page { fill: #fbfbfa }
  @media (prefers-color-scheme: dark) {
    .page { fill: #171715 } .ink { fill: #ecebe6 } .grid { stroke: #3a3935 } .b { stroke: #5fcf93 } .tb { fill: #5fcf93 }
    .c { stroke: #74aef5 } .tc { fill: #74aef5 } .d { stroke: #ff9a6b } .td { fill: #ff9a6b } .ta { fill: #a5a39b }
  }
</style>
<rect class="page" width="760" height="410"/>
`)
	for n := 1; n <= mostNodes; n *= 2 {
		x := drawX(float64(n))
		fmt.Fprintf(&b, `<line class="grid" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/><text class="ink" x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", x, top, x, bottom, x, bottom+20, n)
	}
	for rate := leastRate; rate <= mostRate; rate *= 2 {
		y := drawY(rate)
		fmt.Fprintf(&b, `<line class="grid" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/><text class="ink" x="%d" y="%.1f" text-anchor="end">%.0fk</text>`+"\n", left, y, right, y, left-8, y+5, rate/1000)
	}
	for _, line := range []struct {
		class, name string
		foreign     float64
	}{{"a", "if foreign frames were free", 0}, {"b", "dropped by TCX", foreignTCX}, {"c", "by a socket filter", foreignFilter}, {"d", "in user space", foreignUser}} {
		var points []string
		last := 0.0
		for _, l := range all {
			last = drawY(l.capacity(line.foreign))
			points = append(points, fmt.Sprintf("%.1f,%.1f", drawX(float64(l.nodes)), last))
		}
		fmt.Fprintf(&b, `<polyline class="line %s" points="%s"/><text class="t%s" x="%d" y="%.1f">%s</text>`+"\n", line.class, strings.Join(points, " "), line.class, right+8, last+5, line.name)
	}
	fmt.Fprintf(&b, `<text class="ink" x="%d" y="%d" text-anchor="middle">nodes on the segment</text><text class="ink" x="8" y="14">connections a second</text>`+"\n</svg>\n", (left+right)/2, bottom+42)
	return b.String()
}
