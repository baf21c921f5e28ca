package sim

import (
	"errors"
	"time"
)

// MaxDiskQueue bounds the writes that wait for a Disk.
const MaxDiskQueue = 1 << 16

// Errors that a write ends with. After ErrDiskBroken what was written may be
// there or not, as after a failed fsync; the host has to die to find out.
var (
	ErrDiskBroken = errors.New("sim: the disk is broken")
	ErrDiskQueue  = errors.New("sim: too many writes wait for the disk")
)

// Disk is a host's append-only file. A write is durable when its fsync ends,
// which is when done is called; if the host is paused then, done comes late. One
// fsync runs at a time and covers all that was written before it began.
type Disk struct {
	// SyncMin and SyncMax bound what an fsync takes.
	SyncMin, SyncMax time.Duration
	// StallP is the probability that an fsync takes StallFor on top.
	StallP   float64
	StallFor time.Duration

	w       *World
	name    string
	host    *Clock
	records [][]byte // durable
	torn    []byte   // durable beginning of a record that is not whole
	pending []diskWrite
	syncing int // how many of pending the running fsync covers; 0: none runs
	syncEnd Timer
	stalled time.Duration // no fsync ends before
	broken  bool
	life    uint64 // how often it crashed or was wiped: older answers are void
	counts  DiskCounts
}

// DiskCounts is what a Disk did and suffered.
type DiskCounts struct {
	Syncs, Stalls          uint64 // those that a fault made longer are Stalls
	Durable                uint64 // writes that ended well
	Refused                uint64 // writes that ended with an error
	Crashes                uint64
	Lost, Torn, KeptUndone uint64 // writes that a crash found pending
}

// diskWrite is a record to append, or the whole new content.
type diskWrite struct {
	records [][]byte
	replace bool
	done    func(error)
}

// NewDisk makes an empty disk. Its answers come to the host when that runs; with
// a nil clock, at once.
func (w *World) NewDisk(name string, host *Clock) *Disk { return &Disk{w: w, name: name, host: host} }

// Counts is what happened so far.
func (d *Disk) Counts() DiskCounts { return d.counts }

// Write appends a record, which is copied. done is called once, unless the disk
// crashes before; it may be nil.
func (d *Disk) Write(record []byte, done func(error)) {
	d.enqueue(diskWrite{[][]byte{clone(record)}, false, done})
}

// Replace puts records in the place of all that was written before, in one
// piece: a crash leaves the old content or the new one. Writes that follow are
// appended to the new.
func (d *Disk) Replace(records [][]byte, done func(error)) {
	content := make([][]byte, len(records))
	for i, r := range records {
		content[i] = clone(r)
	}
	d.enqueue(diskWrite{content, true, done})
}

// Records are the whole records that are durable. They are the caller's own.
func (d *Disk) Records() [][]byte {
	out := make([][]byte, len(d.records))
	for i, r := range d.records {
		out[i] = clone(r)
	}
	return out
}

// Tail is the beginning of a record that a crash tore, nil if there is none.
// The next write or Replace comes in its place: whoever starts again cuts it off.
func (d *Disk) Tail() []byte { return append([]byte(nil), d.torn...) }

// Stall lets no fsync end for a time.
func (d *Disk) Stall(t time.Duration) {
	d.stalled = max(d.stalled, d.w.now+t)
	if d.syncing > 0 {
		d.syncEnd.Stop()
		d.counts.Stalls++
		d.syncEnd = d.w.At(d.stalled, d.synced)
	}
}

// Resume ends a Stall.
func (d *Disk) Resume() {
	if d.stalled <= d.w.now {
		return
	}
	d.stalled = d.w.now
	if d.syncing > 0 {
		d.syncEnd.Stop()
		d.syncEnd = d.w.After(d.w.between(d.SyncMin, d.SyncMax), d.synced)
	}
}

// Break lets every write fail until the next Crash.
func (d *Disk) Break() {
	d.broken = true
	if d.syncing > 0 {
		d.syncEnd.Stop()
		d.syncEnd = d.w.After(0, d.synced)
	}
}

// Crash is the end of the host's power, and covers that of its process, which
// loses no more. Of what waits for an fsync, a beginning
// stays, cut at any byte: often nothing, sometimes all. No done is called any
// more. The disk can be written at once again.
func (d *Disk) Crash() {
	d.counts.Crashes++
	d.life++
	d.syncEnd.Stop()
	keep := d.cut()
	for _, p := range d.pending {
		n := p.bytes()
		switch {
		case keep >= n:
			keep -= n
			d.counts.KeptUndone++
			d.commit(p)
		case keep > 1 && !p.replace:
			d.counts.Torn++
			d.torn = p.records[0][:keep-1]
			keep = 0
		default:
			d.counts.Lost++
			keep = 0
		}
	}
	d.w.Record(d.name, "crashes")
	d.pending, d.syncing, d.stalled, d.broken = nil, 0, 0, false
}

// Wipe is a new, empty disk in the place of the old one.
func (d *Disk) Wipe() {
	d.life++
	d.syncEnd.Stop()
	d.records, d.torn, d.pending, d.syncing, d.stalled, d.broken = nil, nil, nil, 0, 0, false
	d.w.Record(d.name, "is wiped")
}

// bytes is the length of a write on disk. Each record has a byte before it, so
// that an empty one is somewhere too.
func (p diskWrite) bytes() int {
	n := 0
	for _, r := range p.records {
		n += 1 + len(r)
	}
	return max(n, 1)
}

// cut is how many of the pending bytes a crash leaves.
func (d *Disk) cut() int {
	all := 0
	for _, p := range d.pending {
		all += p.bytes()
	}
	if all == 0 {
		return 0
	}
	switch d.w.rng.IntN(4) {
	case 0:
		return 0
	case 1:
		return all
	default:
		return d.w.rng.IntN(all + 1)
	}
}

func (d *Disk) enqueue(p diskWrite) {
	switch {
	case d.broken:
		d.answer(p, ErrDiskBroken)
	case len(d.pending) >= MaxDiskQueue:
		d.answer(p, ErrDiskQueue)
	default:
		d.pending = append(d.pending, p)
		if d.syncing == 0 {
			d.sync()
		}
	}
}

// sync begins an fsync of all that is pending.
func (d *Disk) sync() {
	d.syncing = len(d.pending)
	end := d.w.now + d.w.between(d.SyncMin, d.SyncMax)
	d.counts.Syncs++
	if d.w.chance(d.StallP) {
		d.counts.Stalls++
		end += d.StallFor
	}
	if d.stalled > end {
		d.counts.Stalls++
		end = d.stalled
	}
	d.syncEnd = d.w.At(end, d.synced)
}

func (d *Disk) synced() {
	if d.broken {
		all := d.pending
		d.syncing = 0
		for _, p := range all {
			d.answer(p, ErrDiskBroken)
		}
		return
	}
	covered := d.pending[:d.syncing:d.syncing]
	d.pending, d.syncing = d.pending[d.syncing:], 0
	for _, p := range covered {
		d.commit(p)
	}
	d.w.Record(d.name, "is synced")
	if len(d.pending) > 0 {
		d.sync()
	}
	for _, p := range covered {
		d.counts.Durable++
		d.answer(p, nil)
	}
}

func (d *Disk) commit(p diskWrite) {
	d.torn = nil
	if p.replace {
		d.records = nil
	}
	d.records = append(d.records, p.records...)
}

// answer tells the writer, in an event of its own, once its host runs. A crash
// of the disk that comes first takes the answer with it.
func (d *Disk) answer(p diskWrite, err error) {
	if err != nil {
		d.counts.Refused++
	}
	if p.done == nil {
		return
	}
	life := d.life
	tell := func() {
		if d.life == life {
			p.done(err)
		}
	}
	d.w.After(0, func() {
		if d.host == nil {
			tell()
			return
		}
		d.host.Do(tell)
	})
}

func clone(b []byte) []byte { return append([]byte{}, b...) }
