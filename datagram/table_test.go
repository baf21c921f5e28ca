package datagram

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"onevoice/hashing"
)

func flowOf(client int, port uint16) *hashing.Flow {
	return &hashing.Flow{
		Src: netip.AddrFrom4([4]byte{10, byte(client >> 16), byte(client >> 8), byte(client)}), Dst: netip.MustParseAddr("10.77.0.2"),
		SrcPort: port, DstPort: 53, Proto: protoUDP,
	}
}

// take is what a relay does with a table for a client's datagram.
func take(t *Table, now time.Duration, service int, f *hashing.Flow) Outcome {
	if id, ok := t.Find(f); ok {
		t.Use(now, id)
		return Goes
	}
	o, gone, went := t.Room(now, f)
	if went {
		t.End(gone)
	}
	if o == Begins {
		t.Begin(now, service, f)
	}
	return o
}

// slowTable is the same by looking through all flows each time.
type slowTable struct {
	bounds tableBounds
	idle   []time.Duration
	flows  map[hashing.Flow]*slowFlow
	uses   int
}

type slowFlow struct {
	service, used int
	last          time.Duration
}

func (t *slowTable) take(now time.Duration, service int, f *hashing.Flow) Outcome {
	t.uses++
	if e := t.flows[*f]; e != nil {
		e.last, e.used = now, t.uses
		return Goes
	}
	var mine, all []hashing.Flow
	for k := range t.flows {
		all = append(all, k)
		if sourceKey(k.Src) == sourceKey(f.Src) {
			mine = append(mine, k)
		}
	}
	full, among := Begins, all
	if len(mine) >= t.bounds.ofSource {
		full, among = SourceFull, mine
	} else if len(all) >= t.bounds.flows {
		full = Full
	}
	if full != Begins {
		oldest := slices.MinFunc(among, func(a, b hashing.Flow) int {
			x, y := t.flows[a], t.flows[b]
			return cmp.Or(cmp.Compare(x.last, y.last), cmp.Compare(x.service, y.service)*boolInt(full == Full), cmp.Compare(x.used, y.used))
		})
		if now-t.flows[oldest].last < MinSpare {
			return full
		}
		delete(t.flows, oldest)
	}
	t.flows[*f] = &slowFlow{service, t.uses, now}
	return Begins
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// The table is what a slow and obvious one is.
func TestTableIsTheObviousOne(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	b := tableBounds{flows: 40, ofSource: 6}
	idle := []time.Duration{5 * time.Second, 9 * time.Second}
	fast, slow := newTable(idle, b), &slowTable{b, idle, map[hashing.Flow]*slowFlow{}, 0}
	now, outcomes := time.Duration(0), map[Outcome]int{}
	for step := range 30_000 {
		now += time.Duration(r.IntN(60)) * time.Millisecond
		if r.IntN(400) == 0 {
			now += 4 * time.Second
		}
		f, service := flowOf(r.IntN(24), uint16(1+r.IntN(9))), 0
		if f.SrcPort%2 == 0 {
			f.DstPort, service = 123, 1
		}
		if r.IntN(3) == 0 {
			f.Src = netip.AddrFrom16([16]byte{0x20, 1, 7: byte(r.IntN(2)), 15: byte(r.IntN(9))})
			f.Dst = netip.MustParseAddr("2001:db8::2")
		}
		for {
			id, ok := fast.Expired(now)
			if !ok {
				break
			}
			k := fast.Flow(id)
			if e := slow.flows[k]; e == nil || now-e.last < idle[e.service] {
				t.Fatalf("step %d: %v is over too soon", step, k)
			}
			delete(slow.flows, k)
			fast.End(id)
			if fast.Live(id) {
				t.Fatal("a flow that has ended is alive")
			}
		}
		for k, e := range slow.flows {
			if now-e.last >= idle[e.service] {
				t.Fatalf("step %d: %v is not over", step, k)
			}
		}
		got, want := take(fast, now, service, f), slow.take(now, service, f)
		if got != want {
			t.Fatalf("step %d: %v: %v, want %v", step, f, got, want)
		}
		outcomes[got]++
		if fast.Count() != len(slow.flows) || len(fast.flows) != fast.Count() {
			t.Fatalf("step %d: %d flows, want %d", step, fast.Count(), len(slow.flows))
		}
		if step%100 == 0 {
			for k := range slow.flows {
				if id, ok := fast.Find(&k); !ok || fast.Flow(id) != k {
					t.Fatalf("step %d: %v is lost", step, k)
				}
			}
			live := 0
			fast.Flows(func(id FlowID) bool { live++; return fast.Live(id) })
			if live != fast.Count() {
				t.Fatalf("step %d: %d of %d are listed", step, live, fast.Count())
			}
		}
	}
	for _, o := range []Outcome{Goes, Begins, Full, SourceFull} {
		if outcomes[o] < 50 {
			t.Errorf("outcome %d came %d times", o, outcomes[o])
		}
	}
	if len(fast.entries) > b.flows || len(fast.sources) > b.flows || len(fast.bySource) > b.flows+1 {
		t.Errorf("%d entries and %d sources for %d flows", len(fast.entries), len(fast.bySource), b.flows)
	}
}

// What is in use stays, whoever else comes; what is not makes room.
func TestNewFlowsDoNotPushOutWhatIsInUse(t *testing.T) {
	table := newTable([]time.Duration{DefaultIdle}, tableBounds{flows: 1000, ofSource: 100})
	for i := range 10 {
		for p := range 100 {
			if o := take(table, 0, 0, flowOf(i, uint16(p+1))); o != Begins {
				t.Fatalf("flow %d of source %d: %v", p, i, o)
			}
		}
	}
	if o := take(table, MinSpare-1, 0, flowOf(3, 5000)); o != SourceFull {
		t.Errorf("one more of a full source: %v", o)
	}
	if o := take(table, MinSpare-1, 0, flowOf(99, 1)); o != Full {
		t.Errorf("one more source: %v", o)
	}
	// The first flow goes on; the second was used longest ago.
	take(table, MinSpare-1, 0, flowOf(0, 1))
	if o := take(table, MinSpare, 0, flowOf(99, 1)); o != Begins {
		t.Errorf("one more source, later: %v", o)
	}
	if _, ok := table.Find(flowOf(0, 1)); !ok {
		t.Error("a flow in use was let go of")
	}
	if _, ok := table.Find(flowOf(0, 2)); ok {
		t.Error("the flow that was used longest ago is still there")
	}
	if table.Count() != 1000 {
		t.Errorf("%d flows", table.Count())
	}
}

// 131,072 flows at a time, and as many more that come and go, in bounded memory.
func TestManyFlowsTakeBoundedMemory(t *testing.T) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	table := newTable([]time.Duration{DefaultIdle}, tableBounds{MaxFlows, MaxFlowsOfSource})
	flow := func(i int) *hashing.Flow { return flowOf(i%5000, uint16(1024+i/5000)) }
	for i := range MaxFlows {
		if o := take(table, time.Duration(i)*20*time.Microsecond, 0, flow(i)); o != Begins {
			t.Fatalf("flow %d: %v", i, o)
		}
	}
	full := heap()
	if per := (full - before) / MaxFlows; per > 350 {
		t.Errorf("%d bytes a flow", per)
	}
	churn := 300_000
	if testing.Short() {
		churn = 100_000
	}
	for i := range churn {
		i += MaxFlows
		if o := take(table, time.Duration(i)*20*time.Microsecond, 0, flow(i)); o != Begins {
			t.Fatalf("flow %d: %v", i, o)
		}
	}
	if table.Count() != MaxFlows || len(table.entries) != MaxFlows {
		t.Errorf("%d flows in %d entries", table.Count(), len(table.entries))
	}
	if after := heap(); after > full+(full-before)/2 {
		t.Errorf("%d bytes after the first were gone, %d before", after, full)
	}
	runtime.KeepAlive(table)
}

func BenchmarkTake(b *testing.B) {
	table := newTable([]time.Duration{DefaultIdle}, tableBounds{MaxFlows, MaxFlowsOfSource})
	flows := make([]*hashing.Flow, MaxFlows)
	for i := range flows {
		flows[i] = flowOf(i%5000, uint16(1024+i/5000))
		take(table, 0, 0, flows[i])
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i = (i + 7919) % MaxFlows
		take(table, time.Second, 0, flows[i])
	}
}
