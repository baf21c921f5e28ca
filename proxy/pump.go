package proxy

import (
	"errors"
	"io"
)

// ScratchBytes is the largest useful size of the buffer that Step copies through.
// One loop needs one.
const ScratchBytes = 64 << 10

// bulkBytes is how much must be waiting at the backend for it to be worth a
// system call to ask how much it is.
const bulkBytes = 16 << 10

// maxReads bounds the reads of one direction in one Step, so that a fast flow
// does not keep the others of its loop waiting.
const maxReads = 8

// Outcome is what a Step came to.
type Outcome uint8

// Outcomes of a Step.
const (
	// Waiting: nothing more can be done until a stream becomes ready.
	Waiting Outcome = iota
	// More: there is more to do now, after the other flows had their turn.
	More
	// Done: both directions have finished and both streams are closed.
	Done
	// Broken: one stream failed, and both were let go of with a reset.
	Broken
)

// Pump copies bytes between two streams until both directions have finished.
// It holds back reading while the other side does not take, so that each
// direction has at most ScratchBytes under way here.
type Pump struct {
	client, backend Stream
	up, down        direction
	ended           bool
}

// direction is one of the two.
type direction struct {
	// pending is what was read and does not fit yet. Nil when nothing is.
	pending []byte
	// read: the source has said that nothing more comes.
	// finished: the destination has been told.
	read, finished bool
	// bulk: the last read filled the buffer, and more is likely to be there.
	bulk  bool
	bytes uint64
}

// NewPump makes a pump over two connected streams, which it owns from here on.
func NewPump(client, backend Stream) *Pump {
	return &Pump{client: client, backend: backend}
}

// Bytes are the bytes copied so far from client to backend and back.
func (p *Pump) Bytes() (up, down uint64) { return p.up.bytes, p.down.bytes }

// HalfClosed reports whether the client and the backend have finished sending.
func (p *Pump) HalfClosed() (client, backend bool) { return p.up.read, p.down.read }

// Abort resets both sides.
func (p *Pump) Abort() {
	if !p.ended {
		p.ended = true
		p.client.Abort()
		p.backend.Abort()
	}
}

// Step copies what can be copied now, len(scratch) at a time. scratch is free
// again when Step returns.
func (p *Pump) Step(scratch []byte) Outcome {
	if p.ended {
		return Done
	}
	upMore, err := p.up.step(p.client, p.backend, scratch, p.down.finished)
	if err != nil {
		p.Abort()
		return Broken
	}
	downMore, err := p.down.step(p.backend, p.client, scratch, p.up.finished)
	if err != nil {
		p.Abort()
		return Broken
	}
	if p.up.finished && p.down.finished {
		p.ended = true
		p.client.Close()
		p.backend.Close()
		return Done
	}
	if upMore || downMore {
		return More
	}
	return Waiting
}

// step moves bytes from src to dst until one of them would block, the
// direction has finished, or the flow has had its share of this turn; then
// more is true. last: the other direction has finished, so that dst is closed as
// soon as this one has, which tells it the end as well.
func (d *direction) step(src, dst Stream, scratch []byte, last bool) (more bool, err error) {
	if d.finished {
		return false, nil
	}
	for range maxReads {
		if flushed, err := d.flush(dst); err != nil || !flushed {
			return false, err
		}
		if d.read {
			d.finished = true
			if last {
				return false, nil
			}
			return false, dst.CloseWrite()
		}
		blocked, err := d.move(src, dst, scratch)
		if blocked || err != nil {
			return false, err
		}
	}
	return true, nil
}

// move moves one portion, and reports whether one of the two would block.
func (d *direction) move(src, dst Stream, scratch []byte) (blocked bool, err error) {
	if drainer, ok := src.(Drainer); ok {
		n, from, to := drainer.Drain(dst, len(scratch))
		d.bytes += uint64(n)
		if to != nil {
			return true, unlessAgain(to)
		}
		return d.after(from)
	}
	if d.bulk {
		if moved, blocked, err := d.fill(src, dst, len(scratch)); moved || err != nil {
			return blocked, err
		}
	}
	n, err := src.Read(scratch)
	d.bulk = n == len(scratch)
	if err := d.forward(dst, scratch[:n]); err != nil {
		return true, err
	}
	return d.after(err)
}

// after judges what reading came to.
func (d *direction) after(err error) (blocked bool, _ error) {
	if err == nil {
		return false, nil
	}
	if errors.Is(err, io.EOF) {
		d.read = true
		return false, nil
	}
	return true, unlessAgain(err)
}

func unlessAgain(err error) error {
	if errors.Is(err, ErrAgain) {
		return nil
	}
	return err
}

// fill lets the destination read for itself where much is waiting; moved is
// false where that cannot be done.
func (d *direction) fill(src, dst Stream, most int) (moved, blocked bool, err error) {
	filler, ok := dst.(Filler)
	queued, asks := src.(Queued)
	if !ok || !asks {
		return false, false, nil
	}
	waiting := queued.Queued()
	if d.bulk = waiting >= bulkBytes; !d.bulk {
		return false, false, nil
	}
	n, err := filler.Fill(src, min(waiting, most))
	d.bytes += uint64(n)
	return true, err != nil, unlessAgain(err)
}

// flush writes what is pending; false while some of it is left.
func (d *direction) flush(dst Stream) (bool, error) {
	if len(d.pending) == 0 {
		return true, nil
	}
	n, err := dst.Write(d.pending)
	d.bytes += uint64(n)
	d.pending = d.pending[n:]
	if err != nil && !errors.Is(err, ErrAgain) {
		return false, err
	}
	if len(d.pending) > 0 {
		return false, nil
	}
	d.pending = nil
	return true, nil
}

// forward writes b and keeps what does not fit.
func (d *direction) forward(dst Stream, b []byte) error {
	for len(b) > 0 {
		n, err := dst.Write(b)
		d.bytes += uint64(n)
		b = b[n:]
		if errors.Is(err, ErrAgain) || (err == nil && n == 0) {
			d.pending = append([]byte(nil), b...)
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
