package control

import (
	"sync"
	"testing"
)

// What only a pool has is not in use, and not of the heap after a collection.
func TestPoolsAreNotOfTheHeap(t *testing.T) {
	const size, slack = 64 << 20, 16 << 20
	var pool sync.Pool
	before := MeasureProcess(true).HeapBytesAfterGC
	pool.Put(new([size]byte))
	if after := MeasureProcess(true).HeapBytesAfterGC; after > before+slack {
		t.Errorf("%d bytes of heap, and %d with %d in a pool", before, after, size)
	}
}
