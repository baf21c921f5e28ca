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

// collectorInterval is how often the heap is looked at.
const collectorInterval = 500 * time.Millisecond

// What a worker gives back to the system once it is quiet.
const (
	// quietTurns in one interval are a worker's that has next to nothing to do: its
	// loop turns 50 times a second by itself (node.MaxIdle), and for each of control's
	// beats.
	quietTurns = 100
	// leastRelease is how much has to be there to give back, in bytes, and
	// releasePart the part of what is in use: each time, all that is in use is looked
	// through.
	leastRelease = 2 << 20
	releasePart  = 8
)

// collector sets how often a worker's garbage is collected, and gives memory back
// when the worker is quiet. It is called in each turn of the loop.
type collector struct {
	next    time.Duration
	percent int
	turns   int
	sample  [3]metrics.Sample
	// release asks for it. Whoever listens may still be busy with the last time.
	release chan<- struct{}
}

// collect asks for a collection.
func (c *collector) collect() {
	select {
	case c.release <- struct{}{}:
	default:
	}
}

// newCollector makes a collector that asks on release for memory to be given back.
func newCollector(release chan<- struct{}) *collector {
	c := &collector{percent: 100, release: release}
	c.sample[0].Name = "/gc/heap/live:bytes"
	c.sample[1].Name = "/memory/classes/heap/objects:bytes"
	c.sample[2].Name = "/memory/classes/heap/free:bytes"
	return c
}

func (c *collector) turn(now time.Duration) {
	c.turns++
	if now < c.next {
		return
	}
	turns := c.turns
	c.next, c.turns = now+collectorInterval, 0
	metrics.Read(c.sample[:])
	live, objects, free := c.sample[0].Value.Uint64(), c.sample[1].Value.Uint64(), c.sample[2].Value.Uint64()
	if p := gcPercent(live); p < c.percent*3/4 || p > c.percent*5/4 {
		c.percent = p
		debug.SetGCPercent(p)
	}
	if turns <= quietTurns && worthReleasing(live, objects, free) {
		c.collect()
	}
}

// gcPercent is Go's setting for a heap with so many bytes in use: garbage of as
// many, or of spareHeap where that is more.
func gcPercent(live uint64) int {
	const least = 4 << 20
	return int(max(100, spareHeap*100/max(live, least)))
}

// worthReleasing reports whether enough is there to give back, in bytes: live was in
// use when garbage was collected last, objects were made until now and not collected,
// and free is held and empty.
func worthReleasing(live, objects, free uint64) bool {
	made := objects - min(live, objects)
	return made+free >= max(leastRelease, live/releasePart)
}

// releaseMemory is the goroutine `main.releaseMemory` of a worker. It ends when
// asked is closed.
func releaseMemory(asked <-chan struct{}) {
	for range asked {
		debug.FreeOSMemory()
	}
}
