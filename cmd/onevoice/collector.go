package main

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// spareHeap is how much garbage a worker may gather before it is collected, in
// bytes, however little is in use: with Go's own rule, a worker with few flows and
// many short connections would collect many times a second.
const spareHeap = 64 << 20

// collector sets how often a worker's garbage is collected. It is called in each
// turn of the loop and looks once a second.
type collector struct {
	next    time.Duration
	percent int
	sample  [1]metrics.Sample
}

const collectorInterval = time.Second

func newCollector() *collector {
	c := &collector{percent: 100}
	c.sample[0].Name = "/gc/heap/live:bytes"
	return c
}

func (c *collector) turn(now time.Duration) {
	if now < c.next {
		return
	}
	c.next = now + collectorInterval
	metrics.Read(c.sample[:])
	// A change stops the program for a moment.
	if p := gcPercent(c.sample[0].Value.Uint64()); p < c.percent*3/4 || p > c.percent*5/4 {
		c.percent = p
		debug.SetGCPercent(p)
	}
}

// gcPercent is Go's setting for a heap with so many bytes in use: garbage of as
// many, or of spareHeap where that is more.
func gcPercent(live uint64) int {
	const least = 4 << 20
	return int(max(100, spareHeap*100/max(live, least)))
}
