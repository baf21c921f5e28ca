package sim

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// build is a LAN of a topology with hosts a, b, … each on the switch that is named,
// as "s1 s1 s2".
func build(t *testing.T, w *World, top Topology, hosts string) *rig {
	t.Helper()
	l, err := w.NewLAN(top)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, w: w, l: l, last: map[string][]byte{}}
	for i, sw := range strings.Fields(hosts) {
		name := string(rune('a' + i))
		_, err := l.AttachTo(sw, name, nil, func(f []byte) {
			r.heard = append(r.heard, name)
			r.last[name] = f
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// row is a LAN of so many switches s1, s2, … with 8 ports each, joined in a row by
// trunks t1, t2, …
func row(switches int, change func(*SwitchOptions)) Topology {
	var top Topology
	for i := range switches {
		o := SwitchOptions{Name: fmt.Sprint("s", i+1), Ports: 8}
		if change != nil {
			change(&o)
		}
		top.Switches = append(top.Switches, o)
		if i > 0 {
			top.Trunks = append(top.Trunks, TrunkOptions{Name: fmt.Sprint("t", i), A: fmt.Sprint("s", i), B: o.Name})
		}
	}
	return top
}

func TestTwoSwitchesWithATrunk(t *testing.T) {
	r := build(t, New(1), row(2, nil), "s1 s1 s2 s2")
	r.table(`
		a>c  bcd
		c>a  a
		a>c  c
		d>c  c
		b>d  ad
		d>a  a
		b>d  d
		a>*  bcd
		c>G  dab
		d>x  cab`)
	for _, c := range []struct{ sw, at string }{{"s1", "t1"}, {"s2", "c"}} {
		if at, known := r.l.Switch(c.sw).Where([6]byte(address('c'))); !known || at != c.at {
			t.Errorf("%s has c at %q, want %q", c.sw, at, c.at)
		}
	}
	if port, known := r.l.Switch("s1").PortOf([6]byte(address('c'))); !known || port != -1 {
		t.Errorf("s1 has c at port %d, want -1, behind the trunk", port)
	}
	if got := r.l.Trunk("t1").Counts()[Sent]; got != 9 {
		t.Errorf("%d frames on the trunk, want all but d>c", got)
	}
}

// A hub between two switches, which all frames pass.
func TestAHubBetweenSwitches(t *testing.T) {
	top := row(3, nil)
	top.Switches[1].Repeats = true
	build(t, New(1), top, "s1 s2 s3").table(`
		a>c  bc
		c>a  ba
		a>c  bc
		b>a  a`)
}

func TestStaticEntries(t *testing.T) {
	r := build(t, New(1), row(2, nil), "s1 s1 s1 s2")
	s := r.l.Switch("s1")
	mustSet := func(to byte, names ...string) {
		t.Helper()
		if err := s.SetStatic([6]byte(address(to)), names...); err != nil {
			t.Fatal(err)
		}
	}
	mustSet('G', "b", "t1")
	mustSet('x', "c")
	r.table(`
		a>G  bd
		b>G  d
		a>H  bcd
		a>x  c
		b:x>* acd
		a>x  c
		c>x`)
	mustSet('G')
	r.table(`
		a>G  bcd`)
	for want, err := range map[string]error{
		`has no port or trunk "z"`:      s.SetStatic([6]byte(address('G')), "z"),
		"behind one port, not behind 2": s.SetStatic([6]byte(address('y')), "a", "b"),
		"a hub and has no table":        New(1).NewHub().Switches()[0].SetStatic([6]byte(address('y')), "a"),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestIsolatedPorts(t *testing.T) {
	r := build(t, New(1), row(2, func(o *SwitchOptions) { o.Isolated = true }), "s1 s1 s1 s2 s2")
	r.l.Ports()[2].Isolated = false // the router's
	r.table(`
		a>*  cde
		b>a
		a>b
		c>a  a
		c>b  b
		c>*  abde
		a>c  c
		d>*  abc
		d>e  abc
		e>d`)
	if got := r.l.PortCounts(1)[DroppedIsolated]; got != 2 {
		t.Errorf("%d frames were kept from b, want 2", got)
	}
}

func TestBlockedFloods(t *testing.T) {
	r := build(t, New(1), row(1, nil), "s1 s1 s1 s1")
	r.l.Ports()[1].BlockUnknown, r.l.Ports()[2].BlockGroups = true, true
	r.table(`
		a>x  cd
		a>G  bd
		a>*  bcd
		b>a  a
		a>b  b`)
	r = build(t, New(1), row(1, func(o *SwitchOptions) { o.BlockUnknown, o.BlockGroups = true, true }), "s1 s1 s1")
	r.table(`
		a>x
		a>G
		a>*  bc
		b>a  a`)
	if c := r.l.Counts(); c[DroppedUnknown] != 1 || c[DroppedUnregistered] != 1 {
		t.Errorf("counts %v", c)
	}
}

func TestARPInspection(t *testing.T) {
	for inspect, want := range map[bool]string{false: "bc bc", true: "bc "} {
		w := New(1)
		r := build(t, w, row(1, func(o *SwitchOptions) { o.InspectARP = inspect }), "s1 s1 s1")
		honest := arpPacket{operation: arpReply, senderMAC: MAC(address('a')), sender: theVIP(), target: theVIP()}
		other := honest
		other.senderMAC = MAC(address('G'))
		var got []string
		for _, a := range []*arpPacket{&honest, &other} {
			r.heard = nil
			r.l.Ports()[0].Send(a.frame(broadcast(), MAC(address('a'))))
			w.Run(w.Now() + ms)
			got = append(got, strings.Join(r.heard, ""))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("inspection %v: heard by %q, want %q", inspect, s, want)
		}
		if _, found := r.l.Found(InspectedARP); found != inspect {
			t.Errorf("inspection %v: found %v", inspect, r.l.Findings())
		}
	}
}

// A frame goes round once for each lap that the bound allows, and is reported; the
// world comes to an end, whatever the number of trunks, and with no delay at all.
func TestAStormIsBoundedAndReported(t *testing.T) {
	for trunks, delays := range map[int][]time.Duration{2: {0, 10 * time.Microsecond}, 3: {0}, 8: {10 * time.Microsecond}} {
		for _, delay := range delays {
			top := Topology{Switches: []SwitchOptions{{Name: "s1", Ports: 20}, {Name: "s2", Ports: 20}}}
			for i := range trunks {
				top.Trunks = append(top.Trunks, TrunkOptions{Name: fmt.Sprint("t", i+1), A: "s1", B: "s2", Link: Link{DelayMin: delay, DelayMax: delay}})
			}
			w := New(1)
			r := build(t, w, top, "s1 s2 s2")
			heard := map[int]uint64{}
			for range 2 {
				r.l.Ports()[0].Send(frame('*', 'a', "who has"))
				w.Run(w.Now() + 10*time.Second)
			}
			if w.Pending() > 0 {
				t.Errorf("%d trunks, delay %v: %d events wait after 10 s", trunks, delay, w.Pending())
			}
			for i := range 3 {
				heard[i] = r.l.PortCounts(i)[Delivered]
			}
			if heard[1] < 2*MaxLaps/2 {
				t.Errorf("%d trunks, delay %v: b heard 2 broadcasts %d times, want a storm", trunks, delay, heard[1])
			}
			// Two copies, that come to each switch on every second lap.
			if want := uint64(2 * (2 + MaxLaps)); trunks == 2 && heard[1] != want {
				t.Errorf("delay %v: b heard 2 broadcasts %d times, want %d", delay, heard[1], want)
			}
			if limit := uint64(2 * (MaxStormWork + 100)); w.Events() > 2*limit {
				t.Errorf("%d trunks, delay %v: %d events", trunks, delay, w.Events())
			}
			f, found := r.l.Found(Storm)
			if !found || !strings.Contains(f.What, "spanning tree") || f.Where == "" {
				t.Errorf("findings %v", r.l.Findings())
			}
			if _, moves := r.l.Found(StationMoves); !moves {
				t.Errorf("%d trunks, delay %v: no station moved in a storm", trunks, delay)
			}
		}
	}
}

// When the storm fills the trunks, what is new does not get through either.
func TestAStormDrownsTheTrunks(t *testing.T) {
	top := row(2, nil)
	top.Trunks = append(top.Trunks, TrunkOptions{Name: "t2", A: "s1", B: "s2"})
	for i := range top.Trunks {
		top.Trunks[i].Link.DelayMin, top.Trunks[i].Link.DelayMax = 10*time.Microsecond, 10*time.Microsecond
	}
	w := New(1)
	r := build(t, w, top, "s1 s2")
	for i := range 40 {
		w.At(time.Duration(i)*ms, func() { r.l.Ports()[0].Send(frame('*', 'a', "storm")) })
	}
	w.Run(500 * ms)
	before := r.l.PortCounts(1)[Delivered]
	r.l.Ports()[0].Send(frame('b', 'a', "drowned"))
	w.Run(900 * ms)
	if r.l.PortCounts(1)[Delivered] != before || r.l.Counts()[DroppedStorm] == 0 {
		t.Errorf("a frame got through a full trunk; %v", r.l.Counts())
	}
	r.l.Trunk("t2").Unplug(true)
	w.Run(3 * time.Second)
	r.heard = nil
	r.table(`
		a>*  b
		b>a  a`)
}

func TestNoStormWithoutACircle(t *testing.T) {
	r := build(t, New(1), row(4, nil), "s1 s4")
	r.l.Trunk("t2").Forth.Dup, r.l.Trunk("t2").Forth.DelayMax = 1, ms
	r.table(`
		a>*  bb
		b>a  a`)
	if f := r.l.Findings(); len(f) > 0 {
		t.Errorf("findings %v", f)
	}
}

func TestTrunkFaults(t *testing.T) {
	r := build(t, New(1), row(2, nil), "s1 s2")
	trunk := r.l.Trunk("t1")
	trunk.Forth.Loss = 1 // one way
	r.table(`
		a>*
		b>*  a`)
	trunk.Heal()
	trunk.Unplug(true)
	trunk.Unplug(true)
	trunk.Unplug(false)
	r.table(`
		a>*
		b>*`)
	if _, known := r.l.Switch("s1").Where([6]byte(address('b'))); known {
		t.Error("an address is known behind a cable that was pulled")
	}
	r.l.Heal()
	r.table(`
		a>*  b
		b>*  a`)
	if c := trunk.Counts(); c[Lost] != 1 || c[DroppedUnplugged] != 2 {
		t.Errorf("counts %v", c)
	}
}

func TestImpossibleTopologies(t *testing.T) {
	two := []SwitchOptions{{Name: "s1", Ports: 2}, {Name: "s2", Ports: 1}}
	trunk := func(o TrunkOptions) Topology { return Topology{two, []TrunkOptions{o}} }
	single := func(o SwitchOptions) Topology { return Topology{Switches: []SwitchOptions{o}} }
	for want, top := range map[string]Topology{
		"a LAN has 1 to 16 switches, not 0":         {},
		"a switch needs a name":                     single(SwitchOptions{Ports: 1}),
		"it has 1 to 65536 ports, not 0":            single(SwitchOptions{Name: "s1"}),
		"it has 1 to 65536 ports, not -1":           single(SwitchOptions{Name: "s1", Ports: -1}),
		"addresses age in more than no time":        single(SwitchOptions{Name: "s1", Ports: 1, Ageing: -1}),
		"room for 1 address or more, not -5":        single(SwitchOptions{Name: "s1", Ports: 1, TableSize: -5}),
		"a hub repeats every frame":                 single(SwitchOptions{Name: "s1", Ports: 1, Repeats: true, Isolated: true}),
		"there are two switches s1":                 {Switches: []SwitchOptions{{Name: "s1", Ports: 1}, {Name: "s1", Ports: 1}}},
		"it leads from s1 to itself":                trunk(TrunkOptions{Name: "t", A: "s1", B: "s1"}),
		`there is no switch "s3"`:                   trunk(TrunkOptions{Name: "t", A: "s1", B: "s3"}),
		"needs a name of its own":                   trunk(TrunkOptions{Name: "s2", A: "s1", B: "s2"}),
		"trunk t: a link's loss is from 0 to 100%":  trunk(TrunkOptions{Name: "t", A: "s1", B: "s2", Link: Link{Loss: 1.5}}),
		"a queue needs a speed":                     trunk(TrunkOptions{Name: "t", A: "s1", B: "s2", Link: Link{QueueBytes: 1}}),
		"switch s2 has no free port for it":         {two, []TrunkOptions{{Name: "t", A: "s1", B: "s2"}, {Name: "u", A: "s1", B: "s2"}}},
		"snooping is by MAC or by IP":               single(SwitchOptions{Name: "s1", Ports: 1, Snooping: &Snooping{Key: 7}}),
		"ends before the answers to the next query": single(SwitchOptions{Name: "s1", Ports: 1, Snooping: &Snooping{Querier: true, Membership: time.Minute}}),
		"priority is a multiple of 4096":            single(SwitchOptions{Name: "s1", Ports: 1, Tree: &SpanningTree{Priority: 5}}),
		"forward delay is from 4s to 30s, not 1s":   single(SwitchOptions{Name: "s1", Ports: 1, Tree: &SpanningTree{ForwardDelay: time.Second}}),
		"maximum age is from 6s to 40s, not 1m0s":   single(SwitchOptions{Name: "s1", Ports: 1, Tree: &SpanningTree{MaxAge: time.Minute}}),
		fmt.Sprintf("at most %d trunks", MaxTrunks): {two, make([]TrunkOptions, MaxTrunks+1)},
		"a LAN has 1 to 16 switches, not 17":        row(MaxSwitches+1, nil),
	} {
		if _, err := New(1).NewLAN(top); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	l, err := New(1).NewLAN(trunk(TrunkOptions{Name: "t", A: "s1", B: "s2"}))
	if err != nil {
		t.Fatal(err)
	}
	for want, sw := range map[string]string{"has no free port; give it more than 1": "s2", `no switch "s9"`: "s9"} {
		if _, err := l.AttachTo(sw, "host", nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for _, o := range []SwitchOptions{{Name: "s1", Ports: 1, Snooping: LinuxSnooping(), Tree: &SpanningTree{}}, {Name: "hub", Ports: 1, Repeats: true}} {
		if _, err := New(1).NewLAN(single(o)); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
