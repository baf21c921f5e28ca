package page

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Worker is the worker's side of a page.
type Worker struct {
	mine   *workerHalf
	theirs *controlHalf
	memory [][]byte
}

// Errors of a page that was given to a worker.
var (
	errNoPage  = errors.New("page: the descriptor is not a page of onevoice")
	errVersion = errors.New("page: the page is of another version of onevoice")
)

// Open maps the page of a descriptor, which stays the caller's and may be closed
// after it. A descriptor that is no sealed page of this version is refused.
func Open(fd int) (*Worker, error) {
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || seals&sizeSeals != sizeSeals {
		return nil, errNoPage
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Size != totalBytes {
		return nil, errNoPage
	}
	w := &Worker{}
	theirs, err := attach(fd, unix.PROT_READ, 0, halfBytes, &w.memory)
	if err != nil {
		return nil, err
	}
	mine, err := attach(fd, unix.PROT_READ|unix.PROT_WRITE, halfBytes, totalBytes-halfBytes, &w.memory)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	w.theirs, w.mine = (*controlHalf)(theirs), (*workerHalf)(mine)
	if m := w.theirs.magic.Load(); m != magic {
		err := errNoPage
		if m&^0xff == magic&^0xff {
			err = errVersion
		}
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Close takes the page out of this process.
func (w *Worker) Close() error { return detach(w.memory) }

// Lease reads a path's lease. Read it before the table: a table that is newer
// than the lease is right, an older one is not, and Lease.Generation tells. It
// reports false, and l stays, when the writer has died half-way.
func (w *Worker) Lease(path int, l *Lease) bool {
	var begin, end, generation uint64
	from := &w.theirs.leases[path]
	ok := from.sequence.read(func() {
		begin, end, generation = from.begin.Load(), from.end.Load(), from.generation.Load()
	})
	if ok {
		*l = Lease{Begin: time.Duration(begin), End: time.Duration(end), Generation: generation}
	}
	return ok
}

// Edition changes with everything that is published; a worker that has read the
// table of an edition need not read it again. It is odd while control writes.
func (w *Worker) Edition() uint64 { return w.theirs.table.sequence.count.Load() }

// Table reads the table, nil when there is none yet or the writer has died
// half-way. Counts that cannot be are taken for none.
func (w *Worker) Table() *Table {
	from := &w.theirs.table
	var t *Table
	ok := from.sequence.read(func() {
		t = nil
		vips, services := from.vips.Load(), from.services.Load()
		if vips > MaxRows || services > MaxRows-vips {
			return
		}
		t = &Table{Generation: from.generation.Load(), Elsewhere: from.elsewhere.Load() != 0, VIPs: make([]Row, vips), Services: make([]Row, services)}
		for i := range t.VIPs {
			from.load(i, &t.VIPs[i])
		}
		for i := range t.Services {
			from.load(len(t.VIPs)+i, &t.Services[i])
		}
	})
	if !ok || t == nil || t.Generation == 0 {
		return nil
	}
	return t
}

// ControlBeat is when control last said that it is there.
func (w *Worker) ControlBeat() time.Duration { return time.Duration(w.theirs.beat.Load()) }

// Turned says that a turn has ended and its frames were sent, under the table of
// that generation. frames counts those that clients and others have sent, unsent
// the acknowledgments of what the worker never sent.
func (w *Worker) Turned(now time.Duration, generation uint64, flows int, frames, unsent uint64) {
	w.mine.flows.Store(uint64(flows))
	w.mine.frames.Store(frames)
	w.mine.unsent.Store(unsent)
	w.mine.written.Store(generation)
	w.mine.beat.Store(uint64(now))
}
