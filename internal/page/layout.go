package page

import "sync/atomic"

// Bounds of a page.
const (
	// MaxPaths bounds the paths (interface and cluster MAC), each with its lease.
	MaxPaths = 16
	// MaxRows bounds the VIPs and services together.
	MaxRows = 272
	// maxTries bounds how often a reader begins again when it meets a writer.
	// A writer takes less than a reader, so more means that it died half-way.
	maxTries = 64
)

// rowWords are four bitmaps of 256 bits, and mappingWords a generation, a key of
// 128 bits and an affinity.
const (
	bitmapWords  = 4
	rowWords     = 4 * bitmapWords
	mappingWords = 4
)

// version is of the layout; a worker outlives the program that started it, so
// the two sides may differ.
const version = 2

// magic begins a page: "ov-page" and the version.
const magic = 0x6f762d7061676500 | version

// halfBytes is where the worker's half begins: a multiple of every size that a
// page of memory has, so that the halves can be mapped with rights of their own.
const halfBytes = 64 << 10

// totalBytes is the size of the file.
const totalBytes = halfBytes + 4<<10

// word is shared memory: it is only touched by atomic operations, which are
// sequentially consistent in Go, so the checks of a sequence count hold.
type word = atomic.Uint64

// sequence is odd while what it guards is being written.
type sequence struct{ count word }

// begin and end enclose a write. One goroutine writes at a time.
func (s *sequence) begin() { s.count.Store(s.count.Load() | 1) }
func (s *sequence) end()   { s.count.Store(s.count.Load() + 1) }

// read calls fn until nobody has written meanwhile, and reports whether that
// came within maxTries.
func (s *sequence) read(fn func()) bool {
	for range maxTries {
		before := s.count.Load()
		if before&1 != 0 {
			continue
		}
		fn()
		if s.count.Load() == before {
			return true
		}
	}
	return false
}

// controlHalf is what control writes.
type controlHalf struct {
	magic word
	// beat is when control last said that it is there.
	beat   word
	leases [MaxPaths]leaseWords
	table  tableWords
}

type leaseWords struct {
	sequence   sequence
	begin, end word
	generation word
}

type tableWords struct {
	sequence       sequence
	generation     word
	vips, services word
	elsewhere      word
	rows           [MaxRows]struct {
		bitmaps [rowWords]word
		mapping [mappingWords]word
	}
}

// workerHalf is what the worker writes. Each word stands for itself.
type workerHalf struct {
	written word
	beat    word
	flows   word
	frames  word
	unsent  word
}
