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
// It holds back reading while the other side does not take: what the backend does
// not take stays with the client's stream, and at most ScratchBytes wait here for
// the client.
type Pump struct {
	client   Client
	backend  Stream
	up, down direction
	// pending is what was read of the backend and does not fit yet. Nil when
	// nothing is.
	pending []byte
	// bulk: the last read of the backend filled the buffer, and more is likely to
	// be there.
	bulk  bool
	ended bool
}

// direction is one of the two.
type direction struct {
	// read: the source has said that nothing more comes.
	// finished: the destination has been told.
	read, finished bool
	bytes          uint64
}

// NewPump makes a pump over two connected streams, which it owns from here on.
func NewPump(client Client, backend Stream) *Pump {
	return &Pump{client: client, backend: backend}
}

// Bytes are the bytes copied so far from client to backend and back.
func (p *Pump) Bytes() (up, down uint64) { return p.up.bytes, p.down.bytes }

// Passed counts bytes of the client's that the backend got before there was a pump.
func (p *Pump) Passed(n int) { p.up.bytes += uint64(n) }

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
	upMore, err := p.stepUp(len(scratch))
	if err != nil {
		p.Abort()
		return Broken
	}
	downMore, err := p.stepDown(scratch)
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

// stepUp moves bytes to the backend, most at a time, until one of the two would
// block, the client has finished, or the flow has had its share of this turn;
// then more is true.
func (p *Pump) stepUp(most int) (more bool, err error) {
	if p.up.finished {
		return false, nil
	}
	for range maxReads {
		if p.up.read {
			return false, p.up.finish(&p.down, p.backend)
		}
		n, from, to := p.client.Drain(p.backend, most)
		p.up.bytes += uint64(n)
		if to != nil {
			return false, unlessAgain(to)
		}
		if blocked, err := p.up.after(from); blocked || err != nil {
			return false, err
		}
	}
	return true, nil
}

// stepDown moves bytes to the client, as stepUp does to the backend.
func (p *Pump) stepDown(scratch []byte) (more bool, err error) {
	if p.down.finished {
		return false, nil
	}
	for range maxReads {
		if flushed, err := p.flush(); err != nil || !flushed {
			return false, err
		}
		if p.down.read {
			return false, p.down.finish(&p.up, p.client)
		}
		if blocked, err := p.moveDown(scratch); blocked || err != nil {
			return false, err
		}
	}
	return true, nil
}

// moveDown moves one portion to the client, and reports whether one of the two
// would block. Where much is waiting, the client's stream reads it for itself.
func (p *Pump) moveDown(scratch []byte) (blocked bool, err error) {
	if p.bulk {
		waiting := p.backend.Queued()
		if p.bulk = waiting >= bulkBytes; p.bulk {
			n, err := p.client.Fill(p.backend, min(waiting, len(scratch)))
			p.down.bytes += uint64(n)
			return err != nil, unlessAgain(err)
		}
	}
	n, err := p.backend.Read(scratch)
	p.bulk = n == len(scratch)
	if err := p.forward(scratch[:n]); err != nil {
		return true, err
	}
	return p.down.after(err)
}

// finish tells dst that nothing more comes. Where the other direction has finished
// before, closing tells it.
func (d *direction) finish(other *direction, dst Sink) error {
	d.finished = true
	if other.finished {
		return nil
	}
	return dst.CloseWrite()
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

// flush writes what is pending; false while some of it is left.
func (p *Pump) flush() (bool, error) {
	if len(p.pending) == 0 {
		return true, nil
	}
	n, err := p.client.Write(p.pending)
	p.down.bytes += uint64(n)
	p.pending = p.pending[n:]
	if unlessAgain(err) != nil {
		return false, err
	}
	if len(p.pending) > 0 {
		return false, nil
	}
	p.pending = nil
	return true, nil
}

// forward writes b to the client and keeps what does not fit.
func (p *Pump) forward(b []byte) error {
	for len(b) > 0 {
		n, err := p.client.Write(b)
		p.down.bytes += uint64(n)
		b = b[n:]
		if errors.Is(err, ErrAgain) || (err == nil && n == 0) {
			p.pending = append([]byte(nil), b...)
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
