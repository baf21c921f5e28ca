package scenario

import (
	"flag"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"onevoice/cluster"
	"onevoice/sim"
)

// crowd is a cluster on one switch with many clients that open, talk, transfer,
// close and ping.
type crowd struct {
	*Cluster
	clients []*sim.Client
	lives   []*sim.Life
}

// crowdHabit is what each does: with 2,000 clients 100 connections a second, 1,000
// open at a time, and as many pieces of data a second.
func crowdHabit() sim.Habit {
	return sim.Habit{Service: servicePort, OpenEvery: 20 * time.Second, Hold: 10 * time.Second, SayEvery: time.Second, SayBytes: 100,
		Transfer: 4000, ResetPercent: 5, PingEvery: 30 * time.Second}
}

func newCrowd(tb testing.TB, nodes, clients int, seed uint64) *crowd {
	lan := func(w *sim.World) *sim.LAN {
		l, err := w.NewLAN(sim.Topology{Switches: []sim.SwitchOptions{{Name: "switch", Ports: nodes + clients, TableSize: 2 * (nodes + clients)}}})
		if err != nil {
			tb.Fatal(err)
		}
		return l
	}
	c := &crowd{Cluster: New(Options{Nodes: nodes, Timing: cluster.LAN, Services: 1, Gates: true, LAN: lan, Prefix: netip.MustParsePrefix("10.77.0.0/16")}, seed)}
	c.Boot(c.Hosts...)
	for i := range clients {
		cl, err := c.LANs[0].AddClient("", sim.ClientOptions{Name: fmt.Sprintf("c%d", i+1), MAC: sim.MAC{2, 0, 0, 1, byte(i >> 8), byte(i)},
			IP: netip.AddrFrom4([4]byte{10, 77, byte(4 + i/250), byte(1 + i%250)}), VIP: VIP()})
		if err != nil {
			tb.Fatal(err)
		}
		c.clients = append(c.clients, cl)
		c.World.At(3*time.Second, func() {
			life, err := cl.Live(crowdHabit())
			if err != nil {
				tb.Fatal(err)
			}
			c.lives = append(c.lives, life)
		})
	}
	return c
}

// check says what is wrong with what the clients saw.
func (c *crowd) check(tb testing.TB) {
	tb.Helper()
	if len(c.Breaches) > 0 {
		tb.Fatal(c.Breaches[0])
	}
	opened, ended := uint64(0), map[sim.State]uint64{}
	for _, l := range c.lives {
		opened += l.Opened
		for s, n := range l.Ended {
			ended[s] += n
		}
	}
	pings, answers := 0, 0
	for _, cl := range c.clients {
		for _, p := range cl.Pings {
			if len(p.Answers) > 1 {
				tb.Errorf("%s: %d answers to a ping", cl.Name, len(p.Answers))
			}
			pings++
			answers += len(p.Answers)
		}
	}
	if ended[sim.WasReset]+ended[sim.TimedOut] > 0 || ended[sim.TimeWait]+ended[sim.Aborted] < opened/3 {
		tb.Errorf("%d connections opened, ended %v", opened, ended)
	}
	if answers < pings-len(c.clients)/50-1 {
		tb.Errorf("%d answers to %d pings", answers, pings)
	}
}

// A small crowd is served whole: every connection ends as its client wants, every
// ping is answered once.
func TestACrowdIsServed(t *testing.T) {
	c := newCrowd(t, 5, 60, 1)
	c.Run(40 * time.Second)
	c.check(t)
}

// BenchmarkCrowd is the scale that the simulator is for: 16 nodes and 2,000 clients
// for two virtual minutes, which have to take less than one on one processor. `make
// crowd` runs it.
func BenchmarkCrowd(b *testing.B) {
	var nodes, clients int
	if _, err := fmt.Sscanf(*crowdSize, "%dx%d", &nodes, &clients); err != nil {
		b.Fatalf("-crowd %s: write nodes, x and clients, such as 16x2000", *crowdSize)
	}
	for b.Loop() {
		c := newCrowd(b, nodes, clients, 1)
		c.Run(*crowdFor)
		c.check(b)
		b.ReportMetric(float64(c.World.Events()), "events")
	}
}

var (
	crowdSize = flag.String("crowd", "16x2000", "nodes x clients of BenchmarkCrowd")
	crowdFor  = flag.Duration("crowdfor", 2*time.Minute, "virtual time of BenchmarkCrowd")
)
