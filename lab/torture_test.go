package lab

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func testNodes() []string { return []string{"n1", "n2", "n3", "n4"} }

func TestPlanOfTorture(t *testing.T) {
	counts := FullTorture()
	counts[TortureControl] = 7
	rounds := planTorture(rand.New(rand.NewPCG(7, 0)), testNodes(), counts, 0)
	again := planTorture(rand.New(rand.NewPCG(7, 0)), testNodes(), counts, 0)
	have, harmless, clients := TortureCounts{}, 0, map[string]int{}
	for i, r := range rounds {
		have[r.Kind]++
		if r.String() != again[i].String() {
			t.Fatalf("the same seed: %v and %v", r, again[i])
		}
		if r.harmless() {
			harmless++
		}
		if r.For < shortestStall || r.For > longestStall {
			t.Errorf("%v", r)
		}
		if r.Kind != TortureSplit {
			if (r.Node == "") != (r.Kind == TortureOff || r.Kind == TortureFlood) {
				t.Errorf("%v on %q", r, r.Node)
			}
			continue
		}
		clients[r.Clients]++
		all := slices.Concat(r.Sides[0], r.Sides[1])
		slices.Sort(all)
		if !slices.Equal(all, testNodes()) || len(r.Sides[1]) == 0 || !majority(r.Sides[0], testNodes()) || majority(r.Sides[1], testNodes()) {
			t.Errorf("%v", r)
		}
	}
	for kind, n := range counts {
		if have[kind] != n {
			t.Errorf("%d rounds of %s, want %d", have[kind], kind, n)
		}
	}
	if harmless < 10 || len(clients) != 3 {
		t.Errorf("%d harmless stalls, clients %v", harmless, clients)
	}
	if planTorture(rand.New(rand.NewPCG(8, 0)), testNodes(), counts, 0)[0].String() == rounds[0].String() {
		t.Error("another seed makes the same")
	}
}

// The first odd number of peers up to 5 votes (OWNERSHIP.md R1).
func TestMajority(t *testing.T) {
	for peers, want := range map[int]int{1: 1, 2: 1, 3: 3, 4: 3, 5: 5, 6: 5, 32: 5} {
		if got := voterCount(peers); got != want {
			t.Errorf("%d peers: %d voters, want %d", peers, got, want)
		}
	}
	for some, want := range map[string]bool{"n1 n2": true, "n1 n4": false, "n3 n4": false, "n2 n3 n4": true, "": false} {
		if got := majority(strings.Fields(some), testNodes()); got != want {
			t.Errorf("%q: %v", some, got)
		}
	}
}

func TestQuantiles(t *testing.T) {
	var hundred waits
	for i := range 100 {
		hundred = append(hundred, time.Duration(100-i)*time.Millisecond)
	}
	for _, c := range []struct {
		w    waits
		want string
		json string
	}{
		{nil, "none", `{"count":0,"max_ms":0,"p50_ms":0,"p99_ms":0}`},
		{waits{time.Second}, "p50 1s, p99 1s, max 1s of 1", `{"count":1,"max_ms":1000,"p50_ms":1000,"p99_ms":1000}`},
		{hundred, "p50 50ms, p99 99ms, max 100ms of 100", `{"count":100,"max_ms":100,"p50_ms":50,"p99_ms":99}`},
		{append(hundred, 1234567890), "p50 51ms, p99 100ms, max 1.23s of 101", `{"count":101,"max_ms":1234.567,"p50_ms":51,"p99_ms":100}`},
	} {
		q := c.w.quantiles()
		text, err := q.MarshalJSON()
		if q.String() != c.want || string(text) != c.json || err != nil {
			t.Errorf("%s, %s, %v; want %s, %s", q, text, err, c.want, c.json)
		}
	}
}

func TestBystander(t *testing.T) {
	b := &bystander{}
	at := time.Unix(1000, 0)
	for _, gap := range []time.Duration{10, 34, 36, 300, 11} {
		next := at.Add(gap * time.Millisecond)
		b.woke(at, next)
		at = next
	}
	if all := b.all(); len(all) != 2 || all[0].For != 26*time.Millisecond || all[1].For != 290*time.Millisecond || b.wakes != 5 {
		t.Errorf("%v of %d", all, b.wakes)
	}
	for _, c := range []struct {
		from, to int // milliseconds from the beginning
		want     time.Duration
	}{{0, 40, 0}, {0, 50, 26 * time.Millisecond}, {70, 75, 26 * time.Millisecond}, {100, 120, 290 * time.Millisecond}, {60, 500, 290 * time.Millisecond}, {385, 500, 0}} {
		at := func(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }
		if got := b.worst(at(c.from), at(c.to)); got != c.want {
			t.Errorf("worst of %v: %v", c, got)
		}
	}
	for range MaxMachineStalls + 1 {
		b.woke(at, at.Add(time.Second))
	}
	if len(b.all()) != MaxMachineStalls {
		t.Errorf("%d stalls are kept", len(b.all()))
	}
}

// tested is a torture without a cluster, at its first round.
func tested() *torture {
	o := &TortureOptions{}
	return &torture{n: newNarrator(io.Discard, false), result: newTortureResult(o), bystander: &bystander{}, round: 1, orphaned: map[string]time.Time{},
		watched: &watched{}}
}

// after is an instant of a trial: the fault begins at 0.
func after(d time.Duration) time.Time { return time.Unix(1000, 0).Add(d) }

func testTrial(r Round) *trial {
	return &trial{Round: r, began: after(0), undone: after(r.For), settled: true, owners: map[netip.Addr]string{address(101): "n1", address(102): "n2"}}
}

func splitRound(clients string, d time.Duration) Round {
	return Round{Kind: TortureSplit, Sides: [2][]string{{"n2", "n3"}, {"n1", "n4"}}, Clients: clients, For: d}
}

// What becomes of a flow, and whether it may.
func TestJudgeFlows(t *testing.T) {
	const s = time.Second
	reset := errors.New("reset")
	for _, c := range []struct {
		name  string
		round Round
		node  string
		ended error
		// heard or endedAt, from the fault on.
		at     time.Duration
		breach string
		want   KindResult
	}{
		{"it goes on", Round{Kind: TortureKill, Node: "n1", For: s}, "n2", nil, 2 * s, "", KindResult{}},
		{"it hangs", Round{Kind: TortureKill, Node: "n1", For: s}, "n2", nil, s / 2, "has not gone on", KindResult{}},
		{"it is broken by another's death", Round{Kind: TortureKill, Node: "n1", For: s}, "n2", reset, s, "was broken by kill n1 for 1s", KindResult{Broken: 1}},
		{"it dies with its node", Round{Kind: TortureKill, Node: "n1", For: s}, "n1", reset, s, "", KindResult{Lost: 1}},
		{"its host serves it without the daemon", Round{Kind: TortureKill, Node: "n1", For: s, Direct: true}, "n1", nil, 2 * s, "", KindResult{}},
		{"its host should have served it", Round{Kind: TortureKill, Node: "n1", For: s, Direct: true}, "n1", reset, s, "was broken by kill", KindResult{Broken: 1}},
		{"its daemon was away for too long", Round{Kind: TortureKill, Node: "n1", For: 3 * s, Direct: true}, "n1", reset, 3 * s, "", KindResult{Orphaned: 1}},
		{"all off, and the hosts serve", Round{Kind: TortureOff, For: s, Direct: true}, "n2", reset, s, "was broken by all off", KindResult{Broken: 1}},
		{"all die", Round{Kind: TortureOff, For: s}, "n2", reset, s, "", KindResult{Lost: 1}},
		{"it hears nothing of its node's death", Round{Kind: TortureKill, Node: "n1", For: s}, "n1", nil, 9 * s, "was told nothing of its node's death", KindResult{}},
		{"it is broken by a short stall", Round{Kind: TortureStall, Node: "n1", For: 2 * s}, "n1", reset, s, "was broken", KindResult{Broken: 1}},
		{"it is orphaned by a long stall", Round{Kind: TortureStall, Node: "n1", For: 4 * s}, "n1", reset, s, "", KindResult{Orphaned: 1}},
		{"it outlives a long stall", Round{Kind: TortureStall, Node: "n1", For: 4 * s}, "n1", nil, 5 * s, "", KindResult{}},
		{"a long stall of another", Round{Kind: TortureStall, Node: "n1", For: 4 * s}, "n2", reset, s, "was broken", KindResult{Broken: 1}},
		{"a control process alone", Round{Kind: TortureControl, Node: "n1", For: s}, "n1", reset, s, "was broken", KindResult{Broken: 1}},
		{"the smaller side, for long", splitRound(clientsBoth, 4*s), "n1", reset, 4 * s, "", KindResult{Orphaned: 1}},
		{"the smaller side, shortly", splitRound(clientsBoth, 2*s), "n1", reset, 2 * s, "was broken", KindResult{Broken: 1}},
		{"the larger side", splitRound(clientsSecond, 4*s), "n2", reset, 4 * s, "was broken", KindResult{Broken: 1}},
		{"wrong bytes, whoever it was", Round{Kind: TortureKill, Node: "n1", For: s}, "n1", errNotEchoed, s, "not what was sent", KindResult{}},
	} {
		tt, k := tested(), &KindResult{}
		f := &liveFlow{node: c.node, heard: after(c.at), stream: &net.TCPConn{}, conn: &net.TCPConn{}, stop: make(chan struct{})}
		if c.ended != nil {
			f.ended, f.endedAt = c.ended, after(c.at)
		}
		tt.judgeFlow(k, testTrial(c.round), f)
		c.want.Flows = 1
		k.told = nil
		wantBreach(t, c.name, tt, c.breach)
		if k.Flows != 1 || k.Lost != c.want.Lost || k.Orphaned != c.want.Orphaned || k.Broken != c.want.Broken {
			t.Errorf("%s: %+v, want %+v", c.name, *k, c.want)
		}
	}
}

func wantBreach(t *testing.T, name string, tt *torture, says string) {
	t.Helper()
	all := tt.result.Breaches
	if says == "" && len(all) == 0 {
		return
	}
	if len(all) != 1 || says == "" || !strings.Contains(all[0].Text, says) || tt.result.Broken != 1 {
		t.Errorf("%s: breaches %v, want %q", name, all, says)
	}
}

// How long newcomers wait, and whether they may.
func TestJudgeNewcomers(t *testing.T) {
	const ms, s = time.Millisecond, time.Second
	kill := Round{Kind: TortureKill, Node: "n1", For: 2 * s}
	off := Round{Kind: TortureOff, For: s}
	refused := &netErr{syscall.ECONNREFUSED}
	for _, c := range []struct {
		name   string
		round  Round
		addr   byte // 101 is n1's, 102 n2's
		began  time.Duration
		waited time.Duration
		err    error
		breach string
	}{
		{"at once", kill, 102, 0, ms, nil, ""},
		{"one retransmission", kill, 101, 100 * ms, 1010 * ms, nil, ""},
		{"two retransmissions", kill, 101, 100 * ms, 2 * s, nil, "waited 2s and not 1.25s"},
		{"of another node", kill, 102, 100 * ms, 3 * s, nil, "waited 3s"},
		{"when it must have an owner", kill, 101, 1100 * ms, 1010 * ms, nil, "waited 1.01s and not 750ms"},
		{"when the node is back", kill, 101, 2100 * ms, 1010 * ms, nil, ""},
		{"it died with its node", kill, 101, 100 * ms, 5 * ms, io.EOF, ""},
		{"it was accepted by somebody and lost", kill, 101, 800 * ms, 5 * ms, io.EOF, "was not served"},
		{"another node's was lost", kill, 102, 0, 5 * ms, io.EOF, "was not served"},
		{"it was refused", kill, 101, 0, 5 * ms, refused, "was not served"},
		{"all off, as it must be", off, 101, 0, 4 * s, nil, ""},
		{"all off, too long", off, 102, 0, 7 * s, nil, "waited 7s"},
		{"all off, unreachable", off, 102, 0, 3 * s, refused, ""},
		{"all on, and still not served", off, 102, 5 * s, ms, refused, "was not served"},
		{"with the smaller side", splitRound(clientsSecond, 2*s), 101, 0, 3500 * ms, nil, ""},
		{"with the smaller side, too long", splitRound(clientsSecond, 2*s), 102, 0, 5 * s, nil, "waited 5s"},
		{"with both sides, of the smaller", splitRound(clientsBoth, 2*s), 101, 200 * ms, 1010 * ms, nil, ""},
		{"with both sides, late", splitRound(clientsBoth, 2*s), 101, 1500 * ms, 1010 * ms, nil, "waited 1.01s"},
	} {
		tt := tested()
		n := newcomer{addr: address(int(c.addr)), began: after(c.began), connected: c.waited, err: c.err}
		tt.judgeNewcomer(&KindResult{}, testTrial(c.round), &n)
		wantBreach(t, c.name, tt, c.breach)
		// The whole machine stood still: that excuses waiting, and nothing else.
		still := tested()
		still.bystander.woke(after(c.began), after(c.began+excuseStall+bystanderEvery))
		still.judgeNewcomer(&KindResult{}, testTrial(c.round), &n)
		if c.err == nil && len(still.result.Breaches) != 0 || c.err != nil && len(still.result.Breaches) != len(tt.result.Breaches) {
			t.Errorf("%s, while the machine stood still: %v", c.name, still.result.Breaches)
		}
	}
}

// With the longer leases of timing calm a second SYN may be lost, of who has lost its
// owner and of nobody else; and its buckets are others' a second later.
func TestJudgeNewcomersCalm(t *testing.T) {
	const ms, s = time.Millisecond, time.Second
	for _, c := range []struct {
		addr          byte
		began, waited time.Duration
		says          string
	}{
		{101, 100 * ms, 2050 * ms, ""}, {101, 100 * ms, 3 * s, "waited 3s and not 2.25s"}, {102, 100 * ms, 2050 * ms, "waited 2.05s and not 1.25s"},
		{101, 1900 * ms, 1010 * ms, ""}, {101, 2100 * ms, 1010 * ms, "and not 750ms"},
	} {
		tt := tested()
		tt.o.Spec.Timing = "calm"
		tt.judgeNewcomer(&KindResult{}, testTrial(Round{Kind: TortureKill, Node: "n1", For: 3 * s}), &newcomer{addr: address(int(c.addr)), began: after(c.began), connected: c.waited})
		wantBreach(t, "calm timing", tt, c.says)
	}
}

// Who came before a round began may have lost a SYN to the cold start of the round before,
// and the next one to a move of shares, which begin a second after it.
func TestNewcomersOfTheRoundBefore(t *testing.T) {
	const ms, s = time.Millisecond, time.Second
	off, kill := Round{Kind: TortureOff, For: s}, Round{Kind: TortureKill, Node: "n2", For: s}
	for _, c := range []struct {
		name          string
		before        Round
		began, waited time.Duration
		says          string
	}{
		{"all were off", off, -1383 * ms, 2030 * ms, ""},
		{"all were off, too long", off, -1383 * ms, 5 * s, "waited 5s and not 4.25s"},
		{"a node was off", kill, -1383 * ms, 2030 * ms, "waited 2.03s and not 1.25s"},
		{"all were off before", off, ms, 2030 * ms, "waited 2.03s and not 1.25s"},
	} {
		n := newcomer{addr: address(102), began: after(c.began), connected: c.waited}
		tt := tested()
		tt.last = testTrial(c.before)
		tt.last.began, tt.last.undone = after(-3*s), after(-1400*ms)
		tt.judgeNewcomer(&KindResult{}, testTrial(Round{Kind: TortureDeafen, Node: "n1", For: 2 * s}), &n)
		wantBreach(t, c.name, tt, c.says)
		if c.began > 0 {
			continue
		}
		tt.result, tt.settled, tt.calmFrom = tested().result, true, after(0)
		tt.judgeCalm([]newcomer{n})
		wantBreach(t, c.name+", in a calm", tt, strings.Split(c.says, " and")[0])
		tt.result, tt.calmFrom = tested().result, n.began
		tt.judgeCalm([]newcomer{n})
		wantBreach(t, c.name+", since it was calm", tt, "waited "+c.waited.String())
	}
}

// A machine that stood still until just before a client came may have taken a lease.
func TestStallBeforeANewcomer(t *testing.T) {
	lease := excusing(lanTiming(t))
	for _, c := range []struct {
		stall, ago time.Duration
		says       string
	}{
		{lease, ownedWithin - time.Millisecond, ""}, {lease, ownedWithin + time.Millisecond, "waited 1.01s"},
		{lease - time.Millisecond, time.Millisecond, "waited 1.01s"},
	} {
		tt := stoodStill(c.stall, c.ago)
		tt.judgeCalm([]newcomer{{addr: address(101), began: after(0), connected: 1010 * time.Millisecond}})
		wantBreach(t, "a stall before it", tt, c.says)
		tt = stoodStill(c.stall, c.ago)
		tt.judgeAnswers("ping", after(0), Answers{address(101): 0})
		if excused := len(tt.result.Breaches) == 0; excused != (c.says == "") {
			t.Errorf("a stall of %v, %v before a question: %v", c.stall, c.ago, tt.result.Breaches)
		}
	}
}

// stoodStill is a settled torture whose machine stood still for a time, until so long
// before the fault begins.
func stoodStill(stall, ago time.Duration) *torture {
	tt := tested()
	tt.settled = true
	tt.bystander.woke(after(-ago-stall-bystanderEvery), after(-ago))
	return tt
}

// When shares had not settled, an address may have been served by another than
// was seen before.
func TestUnsettledOwners(t *testing.T) {
	for settled, says := range map[bool]string{true: "was not served", false: ""} {
		tt, tr := tested(), testTrial(Round{Kind: TortureKill, Node: "n1", For: time.Second})
		tr.settled = settled
		tt.judgeNewcomer(&KindResult{}, tr, &newcomer{addr: address(102), began: after(0), connected: time.Millisecond, err: io.EOF})
		wantBreach(t, "another's", tt, says)
		tr.Kind = TortureStall
		tt = tested()
		tt.judgeNewcomer(&KindResult{}, tr, &newcomer{addr: address(102), began: after(0), connected: time.Millisecond, err: io.EOF})
		wantBreach(t, "a short stall", tt, "was not served")
	}
}

// netErr is an error as package net wraps it.
type netErr struct{ error }

func (e *netErr) Unwrap() error { return e.error }

// In a calm nobody waits for a retransmission.
func TestJudgeCalm(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		settled bool
		waited  time.Duration
		says    string
	}{
		{true, ms, ""}, {true, 800 * ms, "in a calm, a new client, 10.77.0.101, waited 800ms"},
		{false, 1100 * ms, ""}, {false, 1300 * ms, "waited 1.3s"},
	} {
		waited, says := c.waited, c.says
		tt := tested()
		tt.settled = c.settled
		tt.judgeCalm([]newcomer{{addr: address(101), began: after(0), connected: waited}})
		wantBreach(t, "calm", tt, says)
	}
	tt := tested()
	tt.judgeCalm([]newcomer{{addr: address(101), err: io.EOF}})
	wantBreach(t, "calm", tt, "was not served")
}

// In a calm every question gets one answer.
func TestJudgeAnswers(t *testing.T) {
	for n, says := range map[int]string{0: "in a calm, the ping of 10.77.0.101 got 0 answers", 1: "", 2: "got 2 answers"} {
		tt := tested()
		tt.judgeAnswers("ping", after(0), Answers{address(101): n})
		wantBreach(t, "answers", tt, says)
	}
}

// A harmless stall changes no owner; another may.
func TestHarmlessStallMovesNothing(t *testing.T) {
	for d, says := range map[time.Duration]string{harmlessStall: "10.77.0.101 was served by n1 and after a stall of 150ms by n2", time.Second: ""} {
		tt := tested()
		tt.newcomers = &newcomers{}
		tr := testTrial(Round{Kind: TortureStall, Node: "n1", For: d})
		tr.after = map[netip.Addr]string{address(101): "n2", address(102): "n2"}
		tt.judgeRound(tr)
		wantBreach(t, d.String(), tt, says)
		if len(tt.result.Rounds) != 1 || tt.result.Rounds[0].For != d {
			t.Errorf("rounds in the report: %v", tt.result.Rounds)
		}
	}
}

// Breaches are kept up to the bound and counted beyond it.
func TestTortureBreachBound(t *testing.T) {
	tt := tested()
	for range MaxBreaches + 3 {
		tt.breach("again")
	}
	if len(tt.result.Breaches) != MaxBreaches || tt.result.Broken != MaxBreaches+3 {
		t.Errorf("%d kept, %d counted", len(tt.result.Breaches), tt.result.Broken)
	}
}

func TestTortureOptions(t *testing.T) {
	good := TortureOptions{Spec: Spec{Nodes: 3, Clients: 1, Addresses: 1, LAN: Hub}, TCP: 1}
	for _, c := range []struct {
		change func(*TortureOptions)
		says   string
	}{
		{func(*TortureOptions) {}, ""},
		{func(o *TortureOptions) { o.Spec.Nodes = 2 }, "--nodes is 2; a cluster that loses one needs 3 or more"},
		{func(o *TortureOptions) { o.Spec.Nodes = 0 }, "--nodes is 0; write 1 to 32"},
		{func(o *TortureOptions) { o.TCP = 0 }, "write 1 to 1000 flows"},
		{func(o *TortureOptions) { o.TCP, o.SSH = 600, 400 }, ""},
		{func(o *TortureOptions) { o.TCP, o.SSH = 600, 401 }, "--ssh and --tcp are 401 and 600"},
		{func(o *TortureOptions) { o.SSH = -1 }, "--ssh and --tcp are -1"},
	} {
		o := good
		c.change(&o)
		err := o.Check()
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%+v: %v, want %q", o, err, c.says)
		}
	}
}
