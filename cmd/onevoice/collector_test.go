package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// Garbage may take what is in use, as Go has it, and spareHeap at least.
func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 1600, 1 << 20: 1600, 4 << 20: 1600, 16 << 20: 400, 32 << 20: 200,
		64 << 20: 100, 65 << 20: 100, 1 << 30: 100, 1 << 40: 100,
	} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d MiB in use: %d %%, want %d", live>>20, got, want)
		}
	}
}

// It looks twice a second, and sets what it finds.
func TestCollectorSetsGo(t *testing.T) {
	before := debug.SetGCPercent(77)
	defer debug.SetGCPercent(before)
	setting := func() int {
		p := debug.SetGCPercent(77)
		debug.SetGCPercent(p)
		return p
	}
	c := newCollector(nil)
	c.turn(0)
	if p := setting(); p < 100 || p == 77 {
		t.Errorf("the first turn left %d %%", p)
	}
	c.percent = 1
	debug.SetGCPercent(77)
	c.turn(collectorInterval - time.Nanosecond)
	if p := setting(); p != 77 {
		t.Errorf("it looked within its interval: %d %%", p)
	}
	c.turn(collectorInterval)
	if p := setting(); p == 77 {
		t.Error("it did not look after its interval")
	}
}

// A quiet worker gives back what its flows have left behind, and a busy one does not;
// nor does a worker of which little would come back.
func TestCollectorReleasesWhenQuiet(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	asked := make(chan struct{}, 1)
	look := func(turns int) bool {
		t.Helper()
		c := newCollector(asked)
		c.turn(0)
		for len(asked) > 0 {
			<-asked
		}
		// Nothing collects it before the second look.
		debug.SetGCPercent(-1)
		left := make([]byte, 4*leastRelease)
		for range turns - 1 {
			c.turn(1)
		}
		c.turn(collectorInterval)
		runtime.KeepAlive(left)
		return len(asked) > 0
	}
	if !look(quietTurns) {
		t.Error("a quiet worker kept what it did not need")
	}
	if look(quietTurns + 1) {
		t.Error("a busy worker was made to look through its memory")
	}
}

func TestWorthReleasing(t *testing.T) {
	const mega = 1 << 20
	for _, c := range []struct {
		live, objects, free uint64
		want                bool
	}{
		{0, 0, 0, false},
		{10 * mega, 11 * mega, 0, false},
		{10 * mega, 12 * mega, 0, true},
		{10 * mega, 11 * mega, mega, true},
		{10 * mega, 10 * mega, 2*mega - 1, false},
		{80 * mega, 85 * mega, 4 * mega, false},
		{80 * mega, 85 * mega, 5 * mega, true},
		// A collection is going on.
		{80 * mega, 70 * mega, 0, false},
	} {
		if got := worthReleasing(c.live, c.objects, c.free); got != c.want {
			t.Errorf("%d MiB in use, %d with what was made since, %d empty: %v", c.live/mega, c.objects/mega, c.free/mega, got)
		}
	}
}
