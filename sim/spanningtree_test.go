package sim

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// ring is three switches in a circle, t1 between s1 and s2, t2 between s2 and s3,
// t3 between s3 and s1, each with a spanning tree.
func ring(change func(i int, o *SpanningTree)) Topology {
	top := row(3, nil)
	top.Trunks = append(top.Trunks, TrunkOptions{Name: "t3", A: "s3", B: "s1"})
	for i := range top.Switches {
		tree := &SpanningTree{}
		if change != nil {
			change(i, tree)
		}
		top.Switches[i].Tree = tree
	}
	return top
}

// states are those of the trunks' ends that do not forward, "s2/t2 blocking".
func states(l *LAN) string {
	var out []string
	for _, s := range l.Switches() {
		for _, t := range l.Trunks() {
			if st, ok := s.State(t.Name); ok && st != Forwarding {
				out = append(out, fmt.Sprintf("%s/%s %v", s.Name(), t.Name, st))
			}
		}
	}
	return strings.Join(out, ", ")
}

func TestATreeBlocksOneWay(t *testing.T) {
	fast := Link{BitsPerSecond: 10_000_000_000}
	for name, c := range map[string]struct {
		top  Topology
		want string
	}{
		"a ring":              {ring(nil), "s3/t2 blocking"},
		"another root":        {ring(func(i int, o *SpanningTree) { o.Priority = 32768 - 4096*i }), "s1/t1 blocking"},
		"a row":               {row(3, func(o *SwitchOptions) { o.Tree = &SpanningTree{} }), ""},
		"without":             {row(3, nil), ""},
		"a faster way around": {Topology{ring(nil).Switches, []TrunkOptions{{Name: "t1", A: "s1", B: "s2", Link: fast}, {Name: "t2", A: "s2", B: "s3", Link: fast}, {Name: "t3", A: "s3", B: "s1"}}}, "s3/t3 blocking"},
		"two trunks":          {Topology{ring(nil).Switches[:2], []TrunkOptions{{Name: "t1", A: "s1", B: "s2"}, {Name: "t2", A: "s1", B: "s2"}}}, "s2/t2 blocking"},
		"a hub in the ring": {Topology{[]SwitchOptions{{Name: "s1", Ports: 8, Tree: &SpanningTree{}}, {Name: "s2", Ports: 8, Tree: &SpanningTree{}}, {Name: "s3", Ports: 8, Repeats: true}},
			ring(nil).Trunks}, "s2/t2 blocking"},
	} {
		r := build(t, New(1), c.top, "s1 s1")
		for _, when := range []time.Duration{0, time.Minute} {
			r.w.Run(when)
			if got := states(r.l); got != c.want {
				t.Errorf("%s after %v: %q, want %q", name, when, got, c.want)
			}
		}
		for range 3 {
			r.table(`
				a>*  b
				b>a  a`)
		}
		if f := r.l.Findings(); len(f) > 0 {
			t.Errorf("%s: findings %v", name, f)
		}
	}
}

// Without the tree the same ring is a storm; the tree switched off in one switch of
// two is one as well.
func TestARingWithoutATreeIsAStorm(t *testing.T) {
	top := ring(nil)
	for i := range top.Switches {
		top.Switches[i].Tree = nil
	}
	r := build(t, New(1), top, "s1 s3")
	r.l.Ports()[0].Send(frame('*', 'a', "x"))
	r.w.Run(time.Second)
	if _, found := r.l.Found(Storm); !found || len(r.heard) < MaxLaps/2 {
		t.Errorf("b and a heard it %d times; findings %v", len(r.heard), r.l.Findings())
	}
}

// The times of IEEE 802.1D: a pulled cable is seen at once and the way around
// listens and learns; a silent one is missed after the maximum age.
func TestATreeHeals(t *testing.T) {
	silent := func(r *rig, on bool) {
		loss := 0.0
		if on {
			loss = 1
		}
		r.l.Trunk("t3").Forth.Loss, r.l.Trunk("t3").Back.Loss = loss, loss
	}
	pull := func(r *rig, on bool) { r.l.Trunk("t3").Unplug(on) }
	for _, c := range []struct {
		name   string
		rapid  bool
		cut    func(r *rig, on bool)
		lo, hi time.Duration
	}{
		{"pulled", false, pull, 30 * time.Second, 30*time.Second + 100*ms},
		{"silent", false, silent, 46 * time.Second, 51 * time.Second},
		{"rapid, pulled", true, pull, 0, 100 * ms},
		{"rapid, silent", true, silent, 3 * time.Second, 7 * time.Second},
	} {
		r := build(t, New(1), ring(func(_ int, o *SpanningTree) { o.Rapid = c.rapid }), "s1 s3")
		r.w.Run(10 * time.Second)
		r.table(`
			a>*  b
			b>a  a`)
		c.cut(r, true)
		from := r.w.Now()
		for r.heard = nil; len(r.heard) == 0 && r.w.Now() < from+2*time.Minute; {
			r.l.Ports()[0].Send(frame('*', 'a', "still there?"))
			r.w.Run(r.w.Now() + 50*ms)
		}
		if took := r.w.Now() - from; took < c.lo || took > c.hi {
			t.Errorf("%s: the way around was there after %v, want %v to %v", c.name, took, c.lo, c.hi)
		}
		c.cut(r, false)
		r.w.Run(r.w.Now() + 2*time.Minute)
		if got := states(r.l); got != "s3/t2 blocking" {
			t.Errorf("%s: after the fault: %q", c.name, got)
		}
		r.table(`
			a>*  b
			b>a  a`)
		if _, storm := r.l.Found(Storm); storm {
			t.Errorf("%s: findings %v", c.name, r.l.Findings())
		}
	}
}

// The root dies, and another takes its place.
func TestTheRootDies(t *testing.T) {
	r := build(t, New(1), ring(nil), "s2 s3")
	r.w.Run(5 * time.Second)
	r.l.Trunk("t1").Unplug(true)
	r.l.Trunk("t3").Unplug(true)
	r.w.Run(r.w.Now() + time.Minute)
	if got := states(r.l); got != "s1/t1 blocking, s1/t3 blocking, s2/t1 blocking, s3/t3 blocking" {
		t.Errorf("%q", got)
	}
	r.table(`
		a>*  b
		b>a  a`)
}

// After a change, addresses age in the forward delay, for what was learned may be
// behind another port now.
func TestAChangeAgesAddresses(t *testing.T) {
	r := build(t, New(1), ring(nil), "s1 s3 s2")
	r.w.Run(5 * time.Second)
	r.table(`
		b>*  ac
		c>*  ab`)
	r.l.Trunk("t3").Unplug(true)
	r.w.Run(r.w.Now() + 40*time.Second) // 30 to the way around, and more than 10 of ageing
	r.heard = nil
	r.table(`
		c>b  ab`) // s2 had b behind t1
}

func TestColdSwitchesAndHostsThatWait(t *testing.T) {
	r := build(t, New(1), ring(func(_ int, o *SpanningTree) { o.Cold, o.HostsWait = true, true }), "s1 s2 s1")
	r.table(`
		a>*
		b>*`)
	r.w.Run(29 * time.Second)
	r.table(`
		a>*`)
	r.w.Run(31 * time.Second)
	r.table(`
		a>*  cb
		b>a  a`)
	r = build(t, New(1), ring(func(_ int, o *SpanningTree) { o.Cold = true }), "s1 s2 s1")
	r.table(`
		a>*  c
		c>a  a`)
}

func TestBPDUs(t *testing.T) {
	o := SpanningTree{MaxAge: 20 * time.Second, ForwardDelay: 15 * time.Second}
	m := bpdu{root: 1<<63 | 5, cost: 20000, bridge: 1<<63 | 7, port: 3, age: time.Second, change: true}
	f := bpduFrame(MAC{2}, &m, &o)
	got, ok := parseBPDU(f)
	if !ok || *got != m {
		t.Errorf("%+v, %v", got, ok)
	}
	for n := MinFrame; n < len(f); n++ {
		if got, ok := parseBPDU(f[:n]); ok && got != nil {
			t.Errorf("%d bytes are read as %+v", n, got)
		}
	}
	if got, ok := parseBPDU(changeFrame(MAC{2})); !ok || got != nil {
		t.Errorf("a notification is read as %+v, %v", got, ok)
	}
}
