package lab

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"onevoice/internal/pcap"
)

// A soak does all that can be done to a node, and ends no process of the spared one.
func TestPlanOfSoak(t *testing.T) {
	have := map[TortureKind]int{}
	for seed := range uint64(20) {
		for _, r := range planTorture(rand.New(rand.NewPCG(seed, 0)), testNodes(), soakCounts(), spared) {
			have[r.Kind]++
			if r.Kind.ends() && r.Node == testNodes()[0] {
				t.Errorf("%v ends a process of the node that is spared", r)
			}
			if r.Kind == TortureWeight && r.Weight == usualWeight {
				t.Errorf("%v changes nothing", r)
			}
		}
	}
	for _, kind := range kindsInTurn() {
		if (have[kind] == 0) != (kind == TortureOff) {
			t.Errorf("%d rounds of %s", have[kind], kind)
		}
	}
}

// What may end in the rounds of an operator and of a backend, and what may not.
func TestJudgeFlowsOfOrders(t *testing.T) {
	const s = time.Second
	reset := &netErr{io.EOF}
	for _, c := range []struct {
		kind   TortureKind
		node   string
		ssh    bool
		ended  error
		breach string
	}{
		{TortureStop, "n1", false, reset, ""},
		{TortureStop, "n1", false, nil, "was told nothing of its node's death"},
		{TortureStop, "n2", false, reset, "was broken by stop n1"},
		{TortureDrain, "n1", false, reset, "was broken by drain n1"},
		{TortureWeight, "n1", false, reset, "was broken by weight n1"},
		{TortureUpgrade, "n1", true, reset, "was broken by upgrade n1"},
		{TortureFlood, "n1", false, reset, "was broken by flood of SYNs"},
		{TortureBackend, "n1", false, reset, ""},
		{TortureBackend, "n1", true, reset, "was broken by kill the backend of n1"},
		{TortureBackend, "n2", false, reset, "was broken by kill the backend of n1"},
	} {
		tt, tr := tested(), testTrial(Round{Kind: c.kind, Node: "n1", For: s})
		tr.undone = time.Now()
		f := &liveFlow{node: c.node, ssh: c.ssh, heard: after(s), stream: &net.TCPConn{}, conn: &net.TCPConn{}, stop: make(chan struct{})}
		f.ended, f.endedAt = c.ended, after(2*s)
		tt.judgeFlow(&KindResult{}, tr, f)
		wantBreach(t, string(c.kind)+" "+c.node, tt, c.breach)
	}
}

// Users of a node that dies soon after a flood, or gives up its flows, may not have been
// told when a soak goes on; all others are, and a torture waits.
func TestJudgeFlowsAfterAFlood(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		node     string
		restless bool
		flooded  time.Duration
		goesOn   bool
		breach   string
	}{
		{"n3", true, s - cookieMemory, false, ""},
		{"n3", true, s - cookieMemory, true, ""},
		{"n3", true, -s - cookieMemory, false, "has not gone on"},
		{"n4", true, s - cookieMemory, false, "has not gone on"},
		{"n1", true, s - cookieMemory, false, ""},
		{"n1", true, -s - cookieMemory, false, "was told nothing of its node's death"},
		{"n1", false, s - cookieMemory, false, "was told nothing of its node's death"},
		{"n2", true, s - cookieMemory, false, "has not gone on"},
	} {
		tt, tr := tested(), testTrial(Round{Kind: TortureKill, Node: "n1", For: s})
		tt.restless, tt.flooded, tr.undone = c.restless, after(c.flooded), time.Now()
		// One was given up in the round before, and one long ago.
		tt.orphaned = map[string]time.Time{"n3": after(-s), "n4": after(-s - cookieMemory)}
		f := &liveFlow{node: c.node, heard: after(-s), stream: &net.TCPConn{}, conn: &net.TCPConn{}, stop: make(chan struct{})}
		if c.goesOn {
			f.heard = time.Now().Add(s)
		}
		k := &KindResult{}
		tt.judgeFlow(k, tr, f)
		wantBreach(t, c.node, tt, c.breach)
		if (k.Silent == 1) != (c.breach == "" && !c.goesOn) {
			t.Errorf("%+v: %d are silent", c, k.Silent)
		}
	}
}

// Of those whose flows a node gave up soon after a flood, who was told a round later is no
// breach; who has heard of the node since that, or of one that gave up nothing, is.
func TestJudgeFlowsToldLate(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		name     string
		node     string
		restless bool
		flooded  time.Duration // before the node was back
		heard    time.Duration // since then
		broken   bool
	}{
		{"as it came back", "n3", true, s, learnsWithin - 1, false},
		{"while it was away", "n3", true, s, -s, false},
		{"it went on", "n3", true, s, learnsWithin, true},
		{"no flood", "n3", true, cookieMemory + learnsWithin, learnsWithin - 1, true},
		{"no soak", "n3", false, s, learnsWithin - 1, true},
		{"another node's", "n2", true, s, learnsWithin - 1, true},
	} {
		tt, tr := tested(), testTrial(Round{Kind: TortureDeafen, Node: "n1", For: s})
		back := after(-3 * s)
		tt.restless, tt.flooded, tr.undone = c.restless, back.Add(-c.flooded), time.Now()
		tt.orphaned = map[string]time.Time{"n3": back}
		f := &liveFlow{node: c.node, heard: back.Add(c.heard), stream: &net.TCPConn{}, conn: &net.TCPConn{}, stop: make(chan struct{})}
		f.ended, f.endedAt = &netErr{io.EOF}, after(2*s)
		k := &KindResult{}
		tt.judgeFlow(k, tr, f)
		wantBreach(t, c.name, tt, map[bool]string{true: "was broken by deafen n1"}[c.broken])
		if (k.Orphaned == 1) == c.broken {
			t.Errorf("%s: %d orphaned", c.name, k.Orphaned)
		}
	}
}

// While its backend is killed, a node's new clients may be refused, and no others.
func TestJudgeNewcomersOfABackend(t *testing.T) {
	refused := &netErr{errors.New("refused")}
	for addr, says := range map[byte]string{101: "", 102: "was not served"} {
		tt := tested()
		n := newcomer{addr: address(int(addr)), began: after(0), connected: time.Millisecond, err: refused}
		tt.judgeNewcomer(&KindResult{}, testTrial(Round{Kind: TortureBackend, Node: "n1", For: time.Second}), &n)
		wantBreach(t, "a backend", tt, says)
	}
}

// A machine that stands still excuses what is late or given up, and nothing that is
// wrong.
func TestExcusedNewcomers(t *testing.T) {
	timeout := &net.OpError{Op: "dial", Err: &timeoutError{}}
	for _, c := range []struct {
		name  string
		err   error
		still time.Duration
		want  bool
	}{
		{"late", timeout, excuseStall, true},
		{"late, and the machine ran", timeout, 0, false},
		{"given up", io.EOF, orphanTime, true},
		{"given up too soon", io.EOF, orphanTime / 4, false},
		{"wrong bytes", errNotEchoed, orphanTime, false},
	} {
		tt := tested()
		if c.still > 0 {
			tt.bystander.woke(after(0), after(c.still+bystanderEvery))
		}
		n := newcomer{began: after(0), told: 5 * time.Second, err: c.err}
		if got := tt.excusedNewcomer(&n); got != c.want {
			t.Errorf("%s: excused %v", c.name, got)
		}
	}
}

type timeoutError struct{}

func (*timeoutError) Error() string   { return "i/o timeout" }
func (*timeoutError) Timeout() bool   { return true }
func (*timeoutError) Temporary() bool { return true }

// How much of a time the machine stood still.
func TestStill(t *testing.T) {
	const s = time.Second
	b := &bystander{}
	b.woke(after(1*s), after(2*s))
	b.woke(after(4*s), after(5*s))
	for _, c := range []struct{ from, to, want time.Duration }{
		{0, 10 * s, 2 * s}, {0, s / 2, 0}, {3 * s / 2, 10 * s, 3 * s / 2}, {0, 9 * s / 2, 3 * s / 2}, {6 * s, 10 * s, 0}, {2 * s, 4 * s, 0},
	} {
		if got := b.still(after(c.from), after(c.to)); got != c.want {
			t.Errorf("%s to %s: %s, want %s", c.from, c.to, got, c.want)
		}
	}
}

// The slope of a heap is that of a line, with an interval that is as wide as its noise.
func TestSlopeOf(t *testing.T) {
	const hour, kib = time.Hour, 1024
	samples := func(perHour, noise float64) (out []HeapSample) {
		rng := rand.New(rand.NewPCG(1, 1))
		for at := time.Duration(0); at < hour; at += 10 * time.Second {
			b := 4000*kib + perHour*at.Hours() + noise*(2*rng.Float64()-1)
			if at < hour/20 {
				// What a warm-up is, is left out.
				b = 1
			}
			out = append(out, HeapSample{at, uint64(b)})
		}
		return out
	}
	for _, c := range []struct {
		name           string
		perHour, noise float64
		grows          bool
	}{
		{"a leak", 100 * kib, 50 * kib, true},
		{"noise alone", 0, 50 * kib, false},
		{"a heap that falls", -100 * kib, 50 * kib, false},
		{"a leak within the noise", 2 * kib, 500 * kib, false},
	} {
		s, ok := slopeOf(samples(c.perHour, c.noise), hour)
		if !ok || s.grows() != c.grows || math.Abs(s.BytesPerHour-c.perHour) > s.PlusMinus {
			t.Errorf("%s: %s, grows %v", c.name, &s, s.grows())
		}
	}
	if _, ok := slopeOf(samples(0, 0)[:20], hour); ok {
		t.Error("a slope of a few minutes of an hour")
	}
	if _, ok := slopeOf(nil, hour); ok {
		t.Error("a slope of nothing")
	}
}

// The interval has the true slope in it about as often as it says, though samples that
// follow each other are alike: here they are as those of a soak of an hour were (0.17 with
// the next, and no more after 40 s), the sum of what every one has for itself and of what
// goes away with e in 30 s.
func TestSlopeOfSamplesThatAreAlike(t *testing.T) {
	const every, alike, hours = 10 * time.Second, 30 * time.Second, 1000
	keeps := math.Exp(-every.Seconds() / alike.Seconds())
	rng, within := rand.New(rand.NewPCG(1, 2)), 0
	for range hours {
		var samples []HeapSample
		slow := rng.NormFloat64()
		for at := time.Duration(0); at < time.Hour; at += every {
			slow = keeps*slow + math.Sqrt(1-keeps*keeps)*rng.NormFloat64()
			samples = append(samples, HeapSample{at, uint64(1e6 + 1e3*(slow+2*rng.NormFloat64()))})
		}
		if s, ok := slopeOf(samples, time.Hour); ok && math.Abs(s.BytesPerHour) <= s.PlusMinus {
			within++
		}
	}
	// 0.95, and three times what chance does to a thousand.
	if within < 929 || within > 971 {
		t.Errorf("the true slope is in the interval in %d of %d hours", within, hours)
	}
}

// A sniffer remembers the last frames in their order, within its bound, and after a
// breach only some more.
func TestRecent(t *testing.T) {
	r, frame := &recent{}, make([]byte, 1000)
	const frames = 2*recentBytes/(recentFrameBytes+16) + 10
	for i := range frames {
		r.add(time.Duration(i), &Capture{Data: frame, Bytes: 3000}, false)
	}
	if cap(r.newer) != recentBytes || cap(r.older) != recentBytes {
		t.Errorf("halves of %d and %d bytes", cap(r.newer), cap(r.older))
	}
	for i := range recentAfter + 10 {
		r.add(time.Duration(frames+i), &Capture{Data: frame[:60], Bytes: 60}, true)
	}
	var out bytes.Buffer
	if err := r.write(&out); err != nil {
		t.Fatal(err)
	}
	in, err := pcap.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	var last, first time.Duration
	count := 0
	for {
		f, err := in.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if count == 0 {
			first = f.At
		} else if f.At != last+1 {
			t.Fatalf("frame %d follows %d", f.At, last)
		}
		last = f.At
		count++
	}
	if want := time.Duration(frames + recentAfter - 1); last != want || first == 0 || count < frames/2 {
		t.Errorf("frames %d to %d, want the last to be %d", first, last, want)
	}
}

// A reset by others is forgiven when its flow's node had no lease for long enough by
// its own log, and not otherwise.
func TestForgiveGivenUpFlows(t *testing.T) {
	const s = time.Second
	events := func(lost, held time.Duration) []loadEvent {
		return []loadEvent{{after(0), leaseHeld, "n1"}, {after(lost), leaseLost, "n1"}, {after(held), leaseHeld, "n1"}}
	}
	breachAt := func(rule Rule, accepted, reset time.Duration) Breach {
		return Breach{rule, "", []Sight{{At: accepted - s, Host: "client1"}, {At: accepted, Host: "n1"}, {At: reset, Host: "client1"}, {At: reset, Host: "n2"}}}
	}
	for _, c := range []struct {
		name   string
		events []loadEvent
		breach Breach
		want   bool
	}{
		{"without a lease for long", events(10*s, 14*s), breachAt(RuleResetForeign, 5*s, 14*s), true},
		{"for long and not yet again", events(10*s, 60*s)[:2], breachAt(RuleResetEarly, 5*s, 14*s), true},
		{"not for long", events(10*s, 12*s), breachAt(RuleResetForeign, 5*s, 14*s), false},
		{"reset too early", events(10*s, 14*s), breachAt(RuleResetForeign, 5*s, 11*s), false},
		{"accepted afterwards", events(10*s, 14*s), breachAt(RuleResetForeign, 15*s, 16*s), false},
		{"another rule", events(10*s, 14*s), breachAt(RuleFlowTwoNodes, 5*s, 14*s), false},
		{"another node", []loadEvent{{after(10 * s), leaseLost, "n3"}, {after(14 * s), leaseHeld, "n3"}}, breachAt(RuleResetForeign, 5*s, 14*s), false},
	} {
		j := newTestJudge()
		j.breach(c.breach.Rule, "", c.breach.Frames...)
		gaps := leaseGaps(c.events, after(20*s))
		got := j.forgive(func(b *Breach) bool { return givenUp(b, gaps, after(0)) })
		if (got == 1) != c.want || j.Verdict().Held() != c.want {
			t.Errorf("%s: %d forgiven, %v", c.name, got, j.Verdict().Rules)
		}
	}
}

// A newcomer wants back what it says, and then an end.
func TestConverse(t *testing.T) {
	pattern := newPattern()
	for _, c := range []struct {
		name  string
		bytes int
		serve func(net.Conn)
		says  string
	}{
		{"nothing", 0, beatAsN1, ""},
		{"a page", 5000, beatAsN1, ""},
		{"bulk", 3*loadChunkBytes + 7, beatAsN1, ""},
		{"other bytes", 100, afterAll(strings.Repeat("x", 100)), "not what was sent"},
		{"too much", 1, func(c net.Conn) {
			_, _ = io.Copy(c, io.MultiReader(strings.NewReader("n1\n"), c, strings.NewReader("x")))
			c.Close()
		}, "not what was sent"},
		{"too little", 100, afterAll(""), ""},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := l.Accept()
			if err == nil {
				c.serve(conn)
			}
		}()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		node, moved, err := converse(conn.(*net.TCPConn), pattern, 12345, c.bytes)
		conn.Close()
		l.Close()
		short := c.name == "too little"
		switch {
		case node != "n1":
			t.Errorf("%s: served by %q", c.name, node)
		case short && !lost(err), !short && (err == nil) != (c.says == ""), c.says != "" && !errors.Is(err, errNotEchoed):
			t.Errorf("%s: %v", c.name, err)
		case err == nil && moved != c.bytes:
			t.Errorf("%s: %d bytes", c.name, moved)
		}
	}
}

// afterAll is a service that reads to the end and then says something else.
func afterAll(text string) func(net.Conn) {
	return func(c net.Conn) {
		defer c.Close()
		_, _ = io.Copy(io.Discard, c)
		_, _ = io.WriteString(c, "n1\n"+text)
	}
}

func beatAsN1(c net.Conn) { serveBeatConn(c, "n1") }

func TestSoakOptions(t *testing.T) {
	good := SoakOptions{Spec: Spec{Nodes: 3, Clients: 1, Addresses: 1, LAN: Switch}, For: time.Minute, Rate: 1, TCP: 1}
	for says, change := range map[string]func(*SoakOptions){
		"":            func(*SoakOptions) {},
		"--rate is 0": func(o *SoakOptions) { o.Rate = 0 },
		"--for is 0s": func(o *SoakOptions) { o.For = 0 },
		"--nodes is 2; a cluster that loses one needs 3 or more": func(o *SoakOptions) { o.Spec.Nodes = 2 },
		"--rate is 2001; write 1 to 2000 connections a second":   func(o *SoakOptions) { o.Rate = MaxSoakRate + 1 },
	} {
		o := good
		change(&o)
		err := o.Check()
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
	}
}

// Bulk comes among many small requests.
func TestSoakBytes(t *testing.T) {
	bulk, sum := 0, 0
	for turn := range 1000 {
		n := soakBytes(turn)
		if n < 1 || n > bulkBytes {
			t.Fatalf("turn %d says %d bytes", turn, n)
		}
		if sum += n; n == bulkBytes {
			bulk++
		}
	}
	if bulk != 5 {
		t.Errorf("%d of 1000 are bulk", bulk)
	}
}
