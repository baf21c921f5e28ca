package page

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Control is the control process's side of a page.
type Control struct {
	mine   *controlHalf
	theirs *workerHalf
	file   *os.File
	memory [][]byte
}

// Bounds of a table.
var errTooManyRows = fmt.Errorf("page: more than %d VIPs and services", MaxRows)

// New makes a page with no lease and an empty table.
func New() (*Control, error) {
	file, err := newFile()
	if err != nil {
		return nil, err
	}
	c := &Control{file: file}
	mine, err := c.attach(unix.PROT_READ|unix.PROT_WRITE, 0, halfBytes)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	theirs, err := c.attach(unix.PROT_READ, halfBytes, totalBytes-halfBytes)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.mine, c.theirs = (*controlHalf)(mine), (*workerHalf)(theirs)
	c.mine.magic.Store(magic)
	return c, nil
}

// File is the descriptor to give to the worker. It stays the page's.
func (c *Control) File() *os.File { return c.file }

// Close takes the page out of this process. A worker that has it keeps it.
func (c *Control) Close() error {
	return errors.Join(detach(c.memory), c.file.Close())
}

// Beat says that control is there.
func (c *Control) Beat(now time.Duration) { c.mine.beat.Store(uint64(now)) }

// SetLease puts a path's lease in force under the table that was last published.
// It is for one goroutine, which may be another than Publish's.
func (c *Control) SetLease(path int, begin, end time.Duration) {
	l := &c.mine.leases[path]
	l.sequence.begin()
	l.begin.Store(uint64(begin))
	l.end.Store(uint64(end))
	l.generation.Store(c.mine.table.generation.Load())
	l.sequence.end()
}

// Publish puts a table in force. It is for one goroutine.
func (c *Control) Publish(t *Table) error {
	if len(t.VIPs)+len(t.Services) > MaxRows {
		return errTooManyRows
	}
	w := &c.mine.table
	w.sequence.begin()
	w.vips.Store(uint64(len(t.VIPs)))
	w.services.Store(uint64(len(t.Services)))
	for i := range t.VIPs {
		w.store(i, &t.VIPs[i])
	}
	for i := range t.Services {
		w.store(len(t.VIPs)+i, &t.Services[i])
	}
	w.generation.Store(t.Generation)
	w.elsewhere.Store(0)
	if t.Elsewhere {
		w.elsewhere.Store(1)
	}
	w.sequence.end()
	return nil
}

// WrittenBack is the generation of the table that the worker has in force,
// frames under older ones sent.
func (c *Control) WrittenBack() uint64 { return c.theirs.written.Load() }

// WorkerBeat is when the worker last ended a turn of its loop, 0 before that.
func (c *Control) WorkerBeat() time.Duration { return time.Duration(c.theirs.beat.Load()) }

// Frames is how many frames the worker has met so far that no node of the
// cluster has sent.
func (c *Control) Frames() uint64 { return c.theirs.frames.Load() }

// Unsent is how often a client has acknowledged what the worker never sent.
func (c *Control) Unsent() uint64 { return c.theirs.unsent.Load() }

// Flows is how many flows the worker holds.
func (c *Control) Flows() int { return int(c.theirs.flows.Load()) }
