package main

import (
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

// It looks once a second, and sets what it finds.
func TestCollectorSetsGo(t *testing.T) {
	before := debug.SetGCPercent(77)
	defer debug.SetGCPercent(before)
	setting := func() int {
		p := debug.SetGCPercent(77)
		debug.SetGCPercent(p)
		return p
	}
	c := newCollector()
	c.turn(0)
	if p := setting(); p < 100 || p == 77 {
		t.Errorf("the first turn left %d %%", p)
	}
	c.percent = 1
	debug.SetGCPercent(77)
	c.turn(collectorInterval - time.Nanosecond)
	if p := setting(); p != 77 {
		t.Errorf("it looked within a second: %d %%", p)
	}
	c.turn(collectorInterval)
	if p := setting(); p == 77 {
		t.Error("it did not look after a second")
	}
}
