package sim

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseFault(t *testing.T) {
	hosts := []string{"n1", "n2", "n3", "n4"}
	for _, c := range []struct{ text, want string }{
		{"kill n2@5s", "kill n2@5s"},
		{" kill \t n2@5s+1500ms ", "kill n2@5s+1.5s"},
		{"cut n1-n3@8s+2s", "cut n1-n3@8s+2s"},
		{"cut n1>n3@0s", "cut n1>n3@0s"},
		{"cut net n1-n3@8s+2s", "cut net n1-n3@8s+2s"},
		{"partition n1,n2|n3,n4@6s+3s", "partition n1,n2|n3,n4@6s+3s"},
		{"partition n1|n2|n4@1h", "partition n1|n2|n4@1h0m0s"},
		{"drift n1=-300ppm@4s+1s", "drift n1=-300ppm@4s+1s"},
		{"drift n1=300ppm@4s", "drift n1=+300ppm@4s"},
		{"loss net n1=10%@4s+1s", "loss net n1=10%@4s+1s"},
		{"fsync n2@4s+1s", "fsync n2@4s+1s"},
		{"pause n1@3s+200ms", "pause n1@3s+200ms"},
		{"deafen n4@10s+1s", "deafen n4@10s+1s"},

		{"", `column 1: there is no fault ""; there are kill,`},
		{"kil n2@5s", `column 1: there is no fault "kil"`},
		{"kill", `column 5: a host's name is expected`},
		{"kill @5s", `column 6: a host's name is expected`},
		{"kill n9@5s", `column 6: there is no host "n9"; there are n1, n2, n3, n4`},
		{"kill n2", `column 8: '@' is expected here`},
		{"kill n2 @5s", `column 8: ' ' cannot be in a host's name`},
		{"kill n2@", `column 9: "" is not a time`},
		{"kill n2@5", `column 9: "5" is not a time`},
		{"kill n2@-5s", `column 9: "-5s" is not a time`},
		{"kill n2@9999h", `column 9: "9999h" is not a time`},
		{"kill n2@5s+", `column 12: "" is not a time`},
		{"kill n2@5s++2s", `column 12: "" is not a time`},
		{"kill n2@5s+0s", `column 12: a fault lasts longer than 0`},
		{"kill n2@5s+1s n3", `column 14: " n3" is too much`},
		{"kill n2@5s n3", `column 11: " n3" is too much`},
		{"kill net n2@5s", `column 6: kill is not a fault of a network`},
		{"cut n1@5s", `column 7: '-' is expected here: write two hosts as n1-n2`},
		{"cut n1-n1@5s", `column 8: a host cannot be cut from itself`},
		{"cut n1-@5s", `column 8: a host's name is expected`},
		{"partition n1,n2@5s", `column 16: a partition has two groups or more`},
		{"partition n1|n2,n1@5s", `column 17: n1 is in two groups`},
		{"partition n1||n2@5s", `column 14: a host's name is expected`},
		{"drift n1@5s", `column 9: '=' is expected here: write an amount, such as n1=-300ppm`},
		{"drift n1=5@5s", `column 10: "5" is not an amount from -500000 to 500000ppm`},
		{"drift n1=999999ppm@5s", `column 10: "999999ppm" is not an amount`},
		{"loss n1=0%@5s", `column 9: "0%" is not an amount from 1 to 100%`},
		{"loss n1=101%@5s", `column 9: "101%" is not an amount`},
	} {
		f, err := ParseFault(c.text, hosts)
		if err != nil {
			if !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%q: error %q, want %q", c.text, err, c.want)
			}
			continue
		}
		if f.String() != c.want {
			t.Errorf("%q is read as %q, want %q", c.text, f, c.want)
		}
	}
}

func TestParsePlan(t *testing.T) {
	text := "# a bad day\n\nkill n2@5s+1s # and back\r\n  cut a-b@8s+2s\r\n"
	p, err := ParsePlan(text, nil)
	if err != nil || p.String() != "kill n2@5s+1s\ncut a-b@8s+2s\n" {
		t.Errorf("%v, %q", err, p)
	}
	for text, want := range map[string]string{
		"kill n1@1s\n\nkill n1\n":                                "line 3, column 8: ",
		"kill n1@1s\nkill n7@1s":                                 `line 2, column 6: there is no host "n7"`,
		strings.Repeat("kill n1@1s\n", MaxFaults) + "kill n1@1s": fmt.Sprintf("line %d: more than %d faults", MaxFaults+1, MaxFaults),
	} {
		if _, err := ParsePlan(text, []string{"n1"}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// Whatever is drawn can be printed and read back, stays in its bounds, and is
// the same for the same source.
func TestGeneratedPlans(t *testing.T) {
	g := Generator{Hosts: []string{"n1", "n2", "n3"}, From: time.Second, Until: 61 * time.Second, PerSecond: 20, Net: true}
	for k := range kinds {
		g.Kinds = append(g.Kinds, k)
	}
	seen := map[Kind]int{}
	nets := 0
	for seed := range uint64(5) {
		p := g.Plan(rand.New(rand.NewPCG(seed, 1)))
		if q := g.Plan(rand.New(rand.NewPCG(seed, 1))); !reflect.DeepEqual(p, q) {
			t.Fatal("the same source gives another plan")
		}
		if len(p) != 1200 {
			t.Errorf("%d faults in a minute, want 1200", len(p))
		}
		back, err := ParsePlan(p.String(), g.Hosts)
		if err != nil || !reflect.DeepEqual(back, p) {
			t.Fatalf("read back: %v", err)
		}
		for i, f := range p {
			if f.At < g.From || f.At+f.For > g.Until || f.For < 10*ms || f.For > 5*time.Second || i > 0 && f.At < p[i-1].At {
				t.Fatalf("%v is out of bounds or order", f)
			}
			seen[f.Kind]++
			if f.Net {
				nets++
			}
		}
	}
	for k := range kinds {
		if seen[k] < 100 {
			t.Errorf("%v only %d times", k, seen[k])
		}
	}
	if nets < 500 {
		t.Errorf("%d faults of the Net", nets)
	}
	lone := Generator{Hosts: []string{"n1"}, Until: time.Minute, PerSecond: 20}.Plan(rand.New(rand.NewPCG(1, 1)))
	if len(lone) == 0 || slices.ContainsFunc(lone, func(f Fault) bool { return f.Kind == Cut || f.Kind == Partition || f.Kind == Wipe }) {
		t.Error("a plan for one host")
	}
	if p := (Generator{Hosts: []string{"n1"}, PerSecond: 20}).Plan(rand.New(rand.NewPCG(1, 1))); p != nil {
		t.Errorf("a plan of no length: %v", p)
	}
}

func FuzzParsePlan(f *testing.F) {
	f.Add("kill n2@5s\ncut net n1>n3@8s+2s # x\npartition n1,n2|n3@6s+3s\ndrift n1=-3ppm@1s\nloss n1=3%@1ms+1ns")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePlan(text, nil)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "line ") {
				t.Errorf("an error without its place: %v", err)
			}
			return
		}
		q, err := ParsePlan(p.String(), nil)
		if err != nil || len(p) != len(q) || len(p) > 0 && !reflect.DeepEqual(p, q) {
			t.Errorf("%q is printed as %q and read as %q, %v", text, p, q, err)
		}
	})
}

// yard is a site of three hosts that beat every 5 ms on the LAN and on the Net
// and write to their disks.
type yard struct {
	w    *World
	site *Site
	news []string
}

func newYard() *yard {
	w := New(1)
	y := &yard{w: w, site: NewSite(w.NewHub(), w.NewNet())}
	y.site.Down = func(f Fault) { y.news = append(y.news, fmt.Sprint("down ", f.Hosts[0], " ", w.Now())) }
	y.site.Up = func(f Fault) { y.news = append(y.news, fmt.Sprint("up ", f.Hosts[0], " ", w.Now())) }
	for i := range 3 {
		name := fmt.Sprint("n", i+1)
		clock := w.NewClock(0, 7)
		disk := w.NewDisk(name, clock)
		port := y.site.LAN.Attach(name, clock, func([]byte) {})
		port.Down.DelayMax = ms
		host := y.site.Net.Attach(name, clock, func(int, []byte) {})
		y.site.Host(port, host, clock, disk)
		var beat func()
		beat = func() {
			port.Send(frame('*', byte('a'+i), "beat"))
			for to := range 3 {
				y.site.Net.Send(i, to, []byte("vote"))
			}
			disk.Write([]byte("term"), nil)
			clock.After(5*ms, beat)
		}
		clock.After(ms, beat)
	}
	return y
}

// Each kind of fault strikes while it lasts, is counted, and is gone afterwards.
func TestEveryFaultStrikesASite(t *testing.T) {
	for _, text := range []string{
		"kill n2@1s+1s", "reboot n2@1s+1s", "wipe n2@1s+1s", "pause n2@1s+1s", "freeze n2@1s+1s", "drift n2=+300ppm@1s+1s",
		"fsync n2@1s+1s", "break n2@1s+1s", "deafen n2@1s+1s", "mute n2@1s+1s", "unplug n2@1s+1s", "cut n1-n2@1s+1s", "cut n1>n2@1s+1s",
		"partition n1|n2,n3@1s+1s", "loss n2=20%@1s+1s", "dup n2=20%@1s+1s", "corrupt n2=20%@1s+1s", "reorder n2=20%@1s+1s",
		"deafen net n2@1s+1s", "mute net n2@1s+1s", "unplug net n2@1s+1s", "cut net n2>n1@1s+1s", "partition net n1,n3|n2@1s+1s",
		"loss net n2=20%@1s+1s", "dup net n2=20%@1s+1s", "corrupt net n2=20%@1s+1s", "reorder net n2=20%@1s+1s",
	} {
		y := newYard()
		p, err := ParsePlan(text, y.site.Names())
		if err == nil {
			err = y.site.Run(p)
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		y.w.Run(2*time.Second + 100*ms)
		if q := y.site.Quiet(); len(q) > 0 {
			t.Errorf("%s did not strike: %v; %v", text, y.site.LAN.Counts(), y.site.Net.Counts())
		}
		lan, net := y.site.LAN.Counts(), y.site.Net.Counts()
		stalls := y.site.hosts["n2"].disk.Counts().Stalls
		y.w.Run(3 * time.Second)
		for _, pair := range [][2]Counts{{lan, y.site.LAN.Counts()}, {net, y.site.Net.Counts()}} {
			for c := range counters {
				if c != Sent && c != Delivered && pair[0][c] != pair[1][c] {
					t.Errorf("after %s there is still %v", text, c)
				}
			}
		}
		if y.site.hosts["n2"].clock.eras[len(y.site.hosts["n2"].clock.eras)-1].ppm != 7 || y.site.hosts["n2"].disk.Counts().Stalls != stalls {
			t.Errorf("%s: clock or disk are not as before", text)
		}
	}
}

func TestAQuietFaultIsReported(t *testing.T) {
	y := newYard()
	p, _ := ParsePlan("cut n1-n2@1s+1s\ncut n1-n3@1.002s+1ms\nkill n1@9s\nmute n1@3s+1s\ncut n1-n2@3.1s+500ms", nil)
	if err := y.site.Run(p); err != nil {
		t.Fatal(err)
	}
	y.w.Run(5 * time.Second)
	if got := y.site.Quiet().String(); got != "cut n1-n3@1.002s+1ms\n" {
		t.Errorf("quiet: %q", got)
	}
}

func TestOverlappingFaults(t *testing.T) {
	y := newYard()
	p, _ := ParsePlan("kill n1@1s+4s\nkill n1@2s+1s\nkill n2@1s\nkill n2@2s+1s\ndrift n1=+100ppm@6s+2s\ndrift n1=+200ppm@7s+2s", nil)
	if err := y.site.Run(p); err != nil {
		t.Fatal(err)
	}
	drift := func() int64 { e := y.site.hosts["n1"].clock.eras; return e[len(e)-1].ppm }
	for _, c := range []struct {
		at  time.Duration
		ppm int64
	}{{6500 * ms, 100}, {7500 * ms, 200}, {8500 * ms, 200}, {9500 * ms, 7}} {
		y.w.Run(c.at)
		if drift() != c.ppm {
			t.Errorf("drift %d at %v, want %d", drift(), c.at, c.ppm)
		}
	}
	if got := strings.Join(y.news, ", "); got != "down n1 1s, down n2 1s, down n1 2s, down n2 2s, up n1 5s" {
		t.Errorf("%s", got)
	}
}

func TestASiteRefusesWhatCannotStrike(t *testing.T) {
	w := New(1)
	s := NewSite(w.NewHub(), nil)
	s.Host(s.LAN.Attach("n1", nil, nil), nil, nil, nil)
	for text, want := range map[string]string{
		"kill n1@1s":          "nobody here can kill n1",
		"mute n7@1s":          "there is no host n7",
		"mute net n1@1s":      "n1 is on no management network",
		"drift n1=+1ppm@1s":   "n1 has no clock",
		"fsync n1@1s+1s":      "n1 has no disk",
		"partition n1|n2@1s":  "there is no host n2",
		"partition n1|n1x@1s": "there is no host n1x",
	} {
		p, err := ParsePlan(text, nil)
		if err == nil {
			err = s.Run(p)
		}
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	y := newYard()
	for _, text := range []string{"pause n1@1s", "freeze n1@1s", "fsync n1@1s"} {
		p, _ := ParsePlan(text, nil)
		if err := y.site.Run(p); err == nil {
			t.Errorf("%s was taken without an end", text)
		}
	}
}

// A storm of everything leaves a trace that repeats, and ends in a LAN that is
// as it was.
func TestAStormRepeatsAndEnds(t *testing.T) {
	run := func(seed uint64) uint64 {
		y := newYard()
		g := Generator{Hosts: y.site.Names(), Until: 10 * time.Second, PerSecond: 5, Net: true}
		if err := y.site.Run(g.Plan(rand.New(rand.NewPCG(seed, 1)))); err != nil {
			t.Fatal(err)
		}
		y.w.Run(11 * time.Second)
		lan, net := y.site.LAN.Counts(), y.site.Net.Counts()
		y.w.Run(12 * time.Second)
		for c := range counters {
			if c != Sent && c != Delivered && (lan[c] != y.site.LAN.Counts()[c] || net[c] != y.site.Net.Counts()[c]) {
				t.Errorf("seed %d: %v goes on", seed, c)
			}
		}
		return y.w.TraceHash()
	}
	seen := map[uint64]bool{}
	for seed := range uint64(5) {
		h := run(seed)
		if h != run(seed) {
			t.Errorf("seed %d does not repeat", seed)
		}
		seen[h] = true
	}
	if len(seen) != 5 {
		t.Errorf("%d different traces of 5 seeds", len(seen))
	}
}
