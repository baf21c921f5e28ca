package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

func TestEventsRunInOrder(t *testing.T) {
	w := New(1)
	var got []string
	say := func(s string) func() { return func() { got = append(got, fmt.Sprintf("%d %s", w.Now()/ms, s)) } }
	w.At(3*ms, say("c"))
	w.At(ms, say("a"))
	w.At(2*ms, func() {
		say("b")()
		w.At(0, say("late")) // has passed: at once, behind what already waits for now
		w.After(0, say("now"))
		w.After(ms, say("d")) // behind c, which was asked for earlier
	})
	w.At(2*ms, say("b2"))
	w.At(9*ms, say("never"))
	w.Run(8 * ms)
	want := []string{"1 a", "2 b", "2 b2", "2 late", "2 now", "3 c", "3 d"}
	if !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	if w.Now() != 8*ms || w.Events() != 7 || w.Pending() != 1 {
		t.Errorf("now %v, %d events, %d pending", w.Now(), w.Events(), w.Pending())
	}
}

// The heap against the dumb way: sort all, leave out the cancelled.
func TestAgendaAgainstSorting(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		w := New(seed)
		type item struct {
			at time.Duration
			id int
		}
		var want []item
		var got []int
		var timers []Timer
		gone := map[int]bool{}
		for id := range 2000 {
			at := time.Duration(rng.IntN(300))
			want = append(want, item{at, id})
			timers = append(timers, w.At(at, func() { got = append(got, id) }))
			if rng.IntN(3) > 0 {
				victim := rng.IntN(id + 1)
				if timers[victim].Stop() == gone[victim] {
					t.Fatalf("Stop of %d says %v", victim, gone[victim])
				}
				gone[victim] = true
			}
		}
		for victim := range timers { // most of the rest, so that the heap is swept
			if rng.IntN(10) > 0 && timers[victim].Stop() {
				gone[victim] = true
			}
		}
		slices.SortStableFunc(want, func(a, b item) int { return int(a.at - b.at) })
		w.Run(time.Second)
		var ids []int
		for _, i := range want {
			if !gone[i.id] {
				ids = append(ids, i.id)
			}
		}
		if !slices.Equal(got, ids) {
			t.Fatalf("seed %d: %d events ran, %d wanted, or in another order", seed, len(got), len(ids))
		}
		if w.Pending() != 0 || w.Events() != uint64(len(ids)) {
			t.Fatalf("%d pending, %d events", w.Pending(), w.Events())
		}
	}
}

func TestTimerOfAnUsedSlot(t *testing.T) {
	w := New(1)
	old := w.At(ms, func() {})
	w.Run(ms)
	ran := false
	w.After(ms, func() { ran = true }) // takes the slot
	if old.Pending() || old.Stop() {
		t.Error("a timer that has run is still pending")
	}
	w.Run(3 * ms)
	if !ran {
		t.Error("an old timer stopped a new one")
	}
	if (Timer{}).Stop() {
		t.Error("the zero Timer was pending")
	}
}

func TestAfterEachAndStop(t *testing.T) {
	w := New(1)
	n := 0
	w.AfterEach = func() {
		if n++; n == 3 {
			w.Stop()
		}
	}
	for i := range 5 {
		w.At(time.Duration(i)*ms, func() {})
	}
	w.Run(time.Second)
	if n != 3 || w.Now() != 2*ms {
		t.Errorf("%d checks, stopped at %v", n, w.Now())
	}
	w.Run(time.Second)
	if n != 5 || w.Now() != time.Second {
		t.Errorf("%d checks, then at %v", n, w.Now())
	}
}

func TestAWorldThatStandsStill(t *testing.T) {
	w := New(1)
	defer func() {
		if recover() == nil || w.Events() != MaxInstant {
			t.Errorf("an endless instant was not noticed in %d events", w.Events())
		}
	}()
	var again func()
	again = func() { w.After(0, again) }
	again()
	w.Run(time.Second)
}

func TestTooManyPending(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("MaxPending was not noticed")
		}
	}()
	w := New(1)
	for range MaxPending + 1 {
		w.At(ms, func() {})
	}
}

func BenchmarkEvents(b *testing.B) {
	w := New(1)
	var fns [1000]func()
	for i := range fns {
		fns[i] = func() { w.After(time.Duration(w.Rand().IntN(1e6)), fns[i]) }
		w.After(time.Duration(i), fns[i])
	}
	b.ResetTimer()
	for b.Loop() {
		w.Step()
	}
}

func BenchmarkHubFrame(b *testing.B) {
	w := New(1)
	l := w.NewHub()
	for i := range 16 {
		l.Attach(fmt.Sprint("n", i), nil, func([]byte) {})
	}
	frame := make([]byte, 64)
	for b.Loop() {
		l.Ports()[0].Send(frame)
		w.Run(w.Now() + ms)
	}
}
