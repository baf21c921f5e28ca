package control

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"onevoice/cluster"
	"onevoice/node"
)

// flowing are workers that hold flows as the test says, and keep what they are
// told of others' as a worker does.
type flowing struct {
	*granted
	mu        sync.Mutex
	held      map[uint8]node.Held
	behind    bool // they have not taken up the last rights
	mute      bool // they do not answer
	beside    bool
	told      map[uint8]FlowList
	toldUnder uint64
}

var errMute = errors.New("no answer")

func (f *flowing) hold(change func()) {
	f.mu.Lock()
	change()
	var b node.Bitmap
	for bucket := range f.held {
		b.Set(bucket)
	}
	f.mu.Unlock()
	f.granted.mu.Lock()
	f.granted.holds = b
	f.granted.mu.Unlock()
}

func (f *flowing) generation() uint64 {
	f.granted.mu.Lock()
	defer f.granted.mu.Unlock()
	if f.rights == nil {
		return 0
	}
	return f.rights.Generation
}

func (f *flowing) Held(wanted [][4]uint64) (HeldFlows, error) {
	g := f.generation()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.behind {
		g--
	}
	h := HeldFlows{Generation: g, All: []bool{!f.beside}, Services: make([][]node.Held, 1)}
	want := node.Bitmap(wanted[0])
	for _, one := range f.held {
		if want.Has(one.Bucket) {
			h.Services[0] = append(h.Services[0], one)
		}
	}
	if f.mute {
		return HeldFlows{}, errMute
	}
	return h, nil
}

func (f *flowing) SetFlowLists(generation uint64, lists []FlowList) error {
	g := f.generation()
	f.mu.Lock()
	defer f.mu.Unlock()
	if generation != g {
		return nil
	}
	if f.toldUnder != g {
		f.told, f.toldUnder = map[uint8]FlowList{}, g
	}
	for _, l := range lists {
		f.told[l.Bucket] = l
	}
	return nil
}

func (f *flowing) owns(bucket uint8) bool {
	b := node.Bitmap(f.accepts())
	return b.Has(bucket)
}

// knows is what these workers go by: the hashes of a complete list, nil without
// one.
func (f *flowing) knows(bucket uint8) []uint64 {
	g := f.generation()
	f.mu.Lock()
	defer f.mu.Unlock()
	if l, ok := f.told[bucket]; ok && l.Complete && f.toldUnder == g {
		return append([]uint64{}, l.Hashes...)
	}
	return nil
}

// Owners learn what drainers hold, at once and while it changes; what is not
// complete, or not of this second, they do not go by.
func TestOwnersLearnWhatDrainersHold(t *testing.T) {
	workers := map[int]*flowing{}
	w := newTunedTown(t, 3, func(i int, h *looped, cfg *LoopConfig) {
		workers[i] = &flowing{granted: h.granted, held: map[uint8]node.Held{}}
		cfg.Flows, cfg.ServiceNames, cfg.ListKey = workers[i], []string{"ssh"}, [16]byte{1}
	})
	w.until("a cold start", all(0, 1, 2))
	d := workers[1]
	var mine []uint8
	for b := range 256 {
		if d.owns(uint8(b)) {
			mine = append(mine, uint8(b))
		}
	}
	plain, cookies, full := mine[0], mine[1], mine[2]
	d.hold(func() {
		d.held[plain] = node.Held{Bucket: plain, Flows: 2, Hashes: []uint64{11, 12}}
		d.held[cookies] = node.Held{Bucket: cookies, Flows: 1, Unproven: true, Overflow: true, Hashes: []uint64{21}}
		d.held[full] = node.Held{Bucket: full, Flows: 9999, Overflow: true, Hashes: []uint64{31}}
	})
	known := func(bucket uint8) []uint64 {
		for _, f := range workers {
			if got := f.knows(bucket); got != nil {
				return got
			}
		}
		return nil
	}
	learn := func(what string, bucket uint8, want ...uint64) {
		t.Helper()
		took := w.until(what, func(map[int]int) bool {
			got := known(bucket)
			return slices.Equal(got, want) && (got == nil) == (want == nil)
		})
		t.Logf("%s: %v", what, took)
	}
	if err := w.hosts[0].loop.Ask(cluster.Drain{Node: "n2"}); err != nil {
		t.Fatal(err)
	}
	learn("two flows", plain, 11, 12)
	w.until("nothing moves any more", func(owned map[int]int) bool { return owned[1] == 0 && covered(owned) && w.drains(1) == 3 })
	learn("two flows, after all moves", plain, 11, 12)
	if known(cookies) != nil || known(full) != nil {
		t.Errorf("lists that are not complete count: %v, %v", known(cookies), known(full))
	}
	d.hold(func() { d.held[plain] = node.Held{Bucket: plain, Flows: 1, Hashes: []uint64{12}} })
	learn("one has ended", plain, 12)
	d.hold(func() {
		d.held[cookies] = node.Held{Bucket: cookies, Flows: 1, HalfOpen: 1, Unproven: true, Hashes: []uint64{21}}
	})
	learn("no cookie is out any more", cookies, 21)
	d.hold(func() { d.beside = true })
	learn("another worker may hold more", plain)
	d.hold(func() { d.beside = false })
	learn("the other worker is gone", plain, 12)
	d.hold(func() { d.behind = true })
	learn("the worker has older rights in force", plain)
	d.hold(func() { d.behind = false })
	learn("it has taken them up", plain, 12)
	d.hold(func() { d.mute = true })
	learn("the worker does not answer", plain)
	d.hold(func() { d.mute = false })
	learn("it answers again", plain, 12)
	// Another owner learns it, too, and another worker of the same owner.
	owner := -1
	w.until("its owner has a lease", func(map[int]int) bool {
		owner = slices.IndexFunc([]int{0, 1, 2}, func(i int) bool { return workers[i].owns(plain) })
		return owner >= 0
	})
	workers[owner].hold(func() { clear(workers[owner].told) })
	learn("an owner's worker that forgot", plain, 12)
	d.hold(func() { delete(d.held, plain) })
	learn("nothing is drained any more", plain)
	if err := w.hosts[1].loop.Call(func(time.Duration) {
		if c := w.hosts[1].loop.Lists(); c.Sent == 0 || c.Failed == 0 || c.Bad+c.OtherKey+c.Full > 0 {
			t.Errorf("counts %+v", c)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// drains is how many buckets a host drains, as it knows.
func (w *town) drains(i int) (n int) {
	w.t.Helper()
	if err := w.hosts[i].loop.Call(func(time.Duration) { n = len(w.hosts[i].loop.Core.Draining().Rows) }); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// What a host sees of clients reaches the core with the next heartbeat; an
// acknowledgment of what was never sent is an alarm, which the log tells once.
func TestEvidenceReachesTheCore(t *testing.T) {
	var unsent, frames atomic.Uint64
	var log bytes.Buffer
	w := newTunedTown(t, 2, func(i int, _ *looped, cfg *LoopConfig) {
		if i == 0 {
			cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
			cfg.Evidence = func() Evidence { return Evidence{Clients: frames.Load(), Gateway: true, Unsent: unsent.Load()} }
		}
	})
	w.until("a cold start", all(0, 1))
	warned := func() (out []string) {
		err := w.hosts[0].loop.Call(func(now time.Duration) {
			for _, warning := range w.hosts[0].loop.Core.Status(now).Warnings {
				if strings.Contains(warning, "never sent") { // a starved machine has others
					out = append(out, warning)
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := warned(); len(got) != 0 {
		t.Errorf("warnings %q", got)
	}
	unsent.Store(1)
	w.until("an alarm", func(map[int]int) bool { return len(warned()) == 1 })
	unsent.Store(2)
	took := w.until("the alarm is over", func(map[int]int) bool { return len(warned()) == 0 })
	if took < alarmTime-time.Second {
		t.Errorf("it was over after %v", took)
	}
	w.stop(0)
	if n := strings.Count(log.String(), "never sent"); n != 1 {
		t.Errorf("the log says it %d times:\n%s", n, log.String())
	}
}
