package lab

import (
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"onevoice/cluster"
)

func lanTiming(t *testing.T) cluster.Timing {
	t.Helper()
	timing, err := cluster.TimingOf(cluster.LAN)
	if err != nil {
		t.Fatal(err)
	}
	return timing
}

// Which lost leases a bystander excuses.
func TestJudgeLostLeases(t *testing.T) {
	const ms = time.Millisecond
	timing := lanTiming(t)
	limit := excusing(timing)
	if limit != 190*ms {
		t.Fatalf("a stall of %v excuses", limit)
	}
	lost, held, still := loadEvent{after(1000 * ms), leaseLost, "n1"}, loadEvent{after(1200 * ms), leaseHeld, "n1"}, loadEvent{after(900 * ms), workerStill, "n1"}
	for _, c := range []struct {
		name string
		// at and long are of the bystander's stall, 0 for none.
		at, long time.Duration
		events   []loadEvent
		want     LostLease
	}{
		{"no stall", 0, 0, []loadEvent{lost, held}, LostLease{OverFor: 200 * ms}},
		{"a long one", 780 * ms, limit, []loadEvent{lost, held}, LostLease{OverFor: 200 * ms, Stall: limit, Excused: true}},
		{"one too short", 780 * ms, limit - 1, []loadEvent{lost, held}, LostLease{OverFor: 200 * ms, Stall: limit - 1}},
		{"one that ends after it", 990 * ms, time.Second, []loadEvent{lost, held}, LostLease{OverFor: 200 * ms, Stall: time.Second, Excused: true}},
		{"one too early", 100 * ms, 600 * ms, []loadEvent{lost, held}, LostLease{OverFor: 200 * ms}},
		{"one that comes after", 1010 * ms, time.Second, []loadEvent{lost, held}, LostLease{OverFor: 200 * ms}},
		{"it stays lost", 0, 0, []loadEvent{lost, {after(1100 * ms), leaseHeld, "n2"}}, LostLease{}},
		{"its worker", 0, 0, []loadEvent{still, lost, held}, LostLease{OverFor: 200 * ms, Worker: true}},
		{"another's worker", 0, 0, []loadEvent{{still.at, workerStill, "n2"}, lost, held}, LostLease{OverFor: 200 * ms}},
	} {
		r, b := newLoadResult(&LoadOptions{}), &bystander{}
		if c.long > 0 {
			b.woke(after(c.at), after(c.at+c.long+bystanderEvery))
		}
		r.judge(c.events, b, timing)
		c.want.Node, c.want.At = "n1", lost.at
		if len(r.Lost) != 1 || r.Lost[0] != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, r.Lost, c.want)
		}
		r.Bytes, r.Connections = 1, 1
		n := newNarrator(io.Discard, false)
		r.tell(n)
		if (n.err() == nil) != c.want.Excused {
			t.Errorf("%s: %v", c.name, n.err())
		}
	}
}

// An eviction is one, however many nodes tell of it, and excused by what excuses
// the losses that it came of.
func TestJudgeEvictions(t *testing.T) {
	const ms, s = time.Millisecond, time.Second
	eviction := func(at time.Duration, node string) loadEvent { return loadEvent{after(at), evicted, node} }
	lost := func(at time.Duration, node string) loadEvent { return loadEvent{after(at), leaseLost, node} }
	for _, c := range []struct {
		name   string
		events []loadEvent
		want   []bool
	}{
		{"of nobody", []loadEvent{lost(s, "n1")}, nil},
		{"after an excused loss, told by three", []loadEvent{lost(s, "n1"), eviction(s+200*ms, "n1"), eviction(s+210*ms, "n1"), eviction(s+300*ms, "n1")}, []bool{true}},
		{"of two", []loadEvent{lost(s, "n1"), eviction(s, "n1"), eviction(s, "n2")}, []bool{true, false}},
		{"after no loss", []loadEvent{eviction(s, "n1")}, []bool{false}},
		{"after another's", []loadEvent{lost(s, "n2"), eviction(s, "n1")}, []bool{false}},
		{"told before the loss", []loadEvent{eviction(s-100*ms, "n1"), lost(s, "n1")}, []bool{true}},
		{"after one of each", []loadEvent{lost(s, "n1"), lost(3*s, "n1"), eviction(4*s, "n1")}, []bool{false}},
		{"long after an excused one", []loadEvent{lost(s, "n1"), eviction(7*s, "n1")}, []bool{false}},
		{"twice", []loadEvent{lost(s, "n1"), eviction(s, "n1"), eviction(7*s, "n1")}, []bool{true, false}},
	} {
		r, b := newLoadResult(&LoadOptions{}), &bystander{}
		b.woke(after(800*ms), after(s))
		b.woke(after(s), after(s))
		r.judge(c.events, b, cluster.Timing{Heartbeat: 40 * ms, TTL: 250 * ms})
		var got []bool
		for _, e := range r.Evictions {
			got = append(got, e.Excused)
		}
		if len(got) != len(c.want) || len(got) > 0 && got[0] != c.want[0] || len(got) > 1 && got[1] != c.want[1] {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// What is read from a daemon's log, from where it was at the beginning.
func TestLoadLogs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "onevoice.log")
	const before = "time=2026-01-02T03:04:04.000+01:00 level=WARN msg=\"the lease is over: nothing new\"\n"
	if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	logs := loadLogs{{"n1", path, int64(len(before))}, {"n2", path, int64(len(before))}}
	const more = `time=2026-01-02T03:04:05.250+01:00 level=WARN msg="the lease is over: nothing new is accepted, running flows go on"
time=2026-01-02T03:04:05.350+01:00 level=INFO msg="answering: this node holds a lease"
time=2026-01-02T03:04:05.450+01:00 level=WARN msg="the lease was over and is held again"
time=2026-01-02T03:04:05.550+01:00 level=WARN msg="no worker has ended a turn within the lease's time: this node" ttl=250ms
time=2026-01-02T03:04:05.650+01:00 level=WARN msg="n3 was evicted: nobody has heard it"
time=2026-01-02T03:04:05.750+01:00 level=INFO msg=stopped
time=yesterday level=WARN msg="the lease is over"
panic: the lease is over
`
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.WriteString(more)
		f.Close()
	}
	events, err2 := logs.read()
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	want := []loadEvent{{kind: leaseLost}, {kind: leaseHeld}, {kind: leaseBlinked}, {kind: workerStill}, {kind: evicted}}
	if len(events) != 2*len(want) {
		t.Fatalf("%v", events)
	}
	for i, e := range events {
		who := []string{"n1", "n2"}[i%2]
		if e.kind == evicted {
			who = "n3"
		}
		at := time.Date(2026, 1, 2, 2, 4, 5, (250+100*(i/2))*1e6, time.UTC)
		if e.kind != want[i/2].kind || e.node != who || !e.at.Equal(at) {
			t.Errorf("event %d: %v", i, e)
		}
	}
	if _, err := (loadLogs{{"n1", path + "no", 0}}).read(); err == nil {
		t.Error("a log that is gone")
	}
}

// Newcomers that are served, give up, and are broken.
func TestLoadNewcomers(t *testing.T) {
	r := newLoadResult(&LoadOptions{})
	r.arrived([]newcomer{{connected: time.Second}, {err: os.ErrDeadlineExceeded}, {err: io.EOF, addr: address(101)}, {connected: 3 * time.Second}})
	if r.Connections != 2 || r.Unserved != 1 || r.Broken != 1 || len(r.Breaches) != 1 || r.waits.quantiles().Max != 3*time.Second {
		t.Errorf("%+v", r)
	}
	r.Bytes = 1
	n := newNarrator(io.Discard, false)
	r.tell(n)
	if n.err() == nil || !strings.Contains(n.err().Error(), "1 flows broken") {
		t.Errorf("%v", n.err())
	}
}

// loaded are flows of a load whose service is the test.
func loaded(t *testing.T) (*loadFlows, net.Conn) {
	t.Helper()
	client, service := net.Pipe()
	t.Cleanup(func() { client.Close(); service.Close() })
	l := newLoadFlows(&LAN{})
	l.every = time.Millisecond
	l.moved["n1"] = &atomic.Uint64{}
	l.all = []*loadFlow{{node: "n1", conn: client, moved: l.moved["n1"]}}
	return l, service
}

// A flow transfers when it is its turn, beats at the end, and counts both.
func TestLoadFlow(t *testing.T) {
	l, service := loaded(t)
	turn := make(chan struct{})
	go func() {
		b, got, told := make([]byte, 2*loadChunkBytes), 0, false
		for {
			n, err := service.Read(b)
			if err != nil {
				return
			}
			if got += n; got >= loadTurnBytes && !told {
				told = true
				close(turn)
			}
			if _, err := service.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	l.start()
	select {
	case <-turn:
	case <-time.After(patience):
		t.Fatal("it does not transfer")
	}
	l.finish()
	r := newLoadResult(&LoadOptions{})
	l.tally(r)
	l.close()
	if r.Bytes < 2*(loadTurnBytes-loadChunkBytes) || r.Bytes%(2*beatBytes) != 0 || r.BytesOf["n1"] != r.Bytes || r.FlowsOf["n1"] != 1 || r.Broken != 0 {
		t.Errorf("%+v", r)
	}
}

// One that ends, or sends back something else, is broken.
func TestBrokenLoadFlows(t *testing.T) {
	for says, service := range map[string]func(net.Conn){
		"EOF": func(c net.Conn) { c.Close() },
		"what came back is not what was sent": func(c net.Conn) {
			b := make([]byte, loadChunkBytes)
			n, _ := c.Read(b)
			b[0]++
			_, _ = c.Write(b[:n])
		},
	} {
		l, c := loaded(t)
		go service(c)
		l.start()
		l.wg.Wait()
		r := newLoadResult(&LoadOptions{})
		l.tally(r)
		if r.Broken != 1 || len(r.Breaches) != 1 || !strings.Contains(r.Breaches[0], says) && !strings.Contains(r.Breaches[0], "closed pipe") {
			t.Errorf("%s: %+v", says, r.Breaches)
		}
		for range MaxBreaches + 1 {
			l.breach(l.all[0], io.EOF)
		}
		if len(l.breaches) != MaxBreaches || l.broken != MaxBreaches+2 {
			t.Errorf("%d kept, %d counted", len(l.breaches), l.broken)
		}
	}
}

func TestLoadOptions(t *testing.T) {
	good := LoadOptions{Spec: Spec{Nodes: 1, Clients: 1, Addresses: 1, LAN: Hub}, Flows: MaxLoadFlows, For: 1}
	for _, c := range []struct {
		change func(*LoadOptions)
		says   string
	}{
		{func(*LoadOptions) {}, ""},
		{func(o *LoadOptions) { o.Spec.Nodes = 0 }, "--nodes is 0"},
		{func(o *LoadOptions) { o.Flows = 0 }, "--flows is 0; write 1 to 50000"},
		{func(o *LoadOptions) { o.Flows++ }, "--flows is 50001"},
		{func(o *LoadOptions) { o.For = 0 }, "--for is 0s"},
	} {
		o := good
		c.change(&o)
		err := o.Check()
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%+v: %v, want %q", o, err, c.says)
		}
	}
}

// What /proc says of processors.
func TestCPU(t *testing.T) {
	u := machineCPU("cpu  100 20 300 400 50 6 7 80 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
	later := machineCPU("cpu  200 20 300 500 50 6 7 180 0 0\n")
	for name, c := range map[string][2]float64{
		"user": {u.User, 1.2}, "system": {u.System, 3.13}, "idle": {u.Idle, 4.5}, "stolen": {u.Stolen, 0.8},
		"a process":      {processCPU("12 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 1 1 20"), 2},
		"none":           {processCPU("") + processCPU("1 (a) R 1 2"), 0},
		"nonsense":       {machineCPU("cpu 1 2").User, 0},
		"the difference": {later.since(u).User, 1},
	} {
		if math.Abs(c[0]-c[1]) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, c[0], c[1])
		}
	}
	if text := later.since(u).String(); text != "processors: 33 % programs, 0 % kernel, 33 % idle, 33 % stolen" {
		t.Error(text)
	}
}

// What a bystander apart has written is what it has seen.
func TestBystanderApart(t *testing.T) {
	b := &bystander{}
	if err := b.read("1000000000 26000000\n2000000000 300000000\n30000"); err != nil {
		t.Fatal(err)
	}
	if all := b.all(); len(all) != 2 || all[1].For != 300*time.Millisecond || !all[1].At.Equal(time.Unix(2, 0)) {
		t.Errorf("%v", all)
	}
	if err := b.read("one two\n"); err == nil || !strings.Contains(err.Error(), `"one two\n"`) {
		t.Errorf("%v", err)
	}
}
