package proxy

import (
	"bytes"
	"errors"
	"io"
	"math/rand"
	"testing"
)

// fake is a Stream of which the test decides what can be read and what fits.
type fake struct {
	in       []byte // what Read gives
	eof      bool   // in is all there is
	readErr  error
	room     int // what Write takes
	writeErr error

	out              []byte
	closedWrite      bool
	closed, aborted  bool
	fills            int
	writesAfterClose int
}

func (f *fake) Read(p []byte) (int, error) {
	if f.readErr != nil {
		return 0, f.readErr
	}
	if len(f.in) == 0 {
		if f.eof {
			return 0, io.EOF
		}
		return 0, ErrAgain
	}
	n := copy(p, f.in)
	f.in = f.in[n:]
	return n, nil
}

func (f *fake) Write(p []byte) (int, error) {
	if f.closedWrite || f.closed || f.aborted {
		f.writesAfterClose++
	}
	if f.writeErr != nil {
		return 0, f.writeErr
	}
	if f.room == 0 {
		return 0, ErrAgain
	}
	n := min(len(p), f.room)
	f.room -= n
	f.out = append(f.out, p[:n]...)
	return n, nil
}

// Drain and Fill are a client's.
func (f *fake) Drain(dst Sink, most int) (n int, from, to error) {
	if f.readErr != nil {
		return 0, f.readErr, nil
	}
	if len(f.in) == 0 {
		if f.eof {
			return 0, io.EOF, nil
		}
		return 0, ErrAgain, nil
	}
	n, to = dst.Write(f.in[:min(most, len(f.in))])
	f.in = f.in[n:]
	return n, nil, to
}

func (f *fake) Fill(src Stream, n int) (int, error) {
	f.fills++
	b := make([]byte, min(n, f.room))
	if f.writeErr != nil || len(b) == 0 {
		return f.Write(b)
	}
	if k, err := io.ReadFull(streamReader{src}, b); err != nil {
		return k, err
	}
	return f.Write(b)
}

type streamReader struct{ Stream }

func (f *fake) Queued() int { return len(f.in) }

func (f *fake) CloseWrite() error { f.closedWrite = true; return nil }
func (f *fake) Close()            { f.closed = true }
func (f *fake) Abort()            { f.aborted = true }

const plenty = 1 << 30

func TestPumpKeepsHalfClose(t *testing.T) {
	client := &fake{in: []byte("question"), eof: true, room: plenty}
	backend := &fake{room: plenty}
	p, scratch := NewPump(client, backend), make([]byte, ScratchBytes)
	if o := p.Step(scratch); o != Waiting {
		t.Fatalf("outcome %v", o)
	}
	if string(backend.out) != "question" || !backend.closedWrite {
		t.Errorf("backend got %q, told of the end: %v", backend.out, backend.closedWrite)
	}
	if client.closedWrite || client.closed || backend.closed {
		t.Error("the first finished direction closed the other")
	}
	backend.in, backend.eof = []byte("a late answer"), true
	if o := p.Step(scratch); o != Done {
		t.Fatalf("outcome %v", o)
	}
	if string(client.out) != "a late answer" || !client.closed || !backend.closed {
		t.Errorf("client got %q, %+v", client.out, client)
	}
	if client.closedWrite {
		t.Error("the last direction's end was told twice, once by closing")
	}
	if up, down := p.Bytes(); up != 8 || down != 13 {
		t.Errorf("counted %d and %d bytes", up, down)
	}
	if o := p.Step(scratch); o != Done {
		t.Errorf("a step after the end: %v", o)
	}
}

func TestPumpBreaksBothSidesWhenOneFails(t *testing.T) {
	reset := errors.New("reset")
	for name, make := range map[string]func() (*fake, *fake){
		"client read":   func() (*fake, *fake) { return &fake{readErr: reset, room: plenty}, &fake{room: plenty} },
		"backend read":  func() (*fake, *fake) { return &fake{room: plenty}, &fake{readErr: reset, room: plenty} },
		"client write":  func() (*fake, *fake) { return &fake{writeErr: reset}, &fake{in: []byte("x"), room: plenty} },
		"backend write": func() (*fake, *fake) { return &fake{in: []byte("x"), room: plenty}, &fake{writeErr: reset} },
	} {
		client, backend := make()
		if o := NewPump(client, backend).Step(bytes.Repeat([]byte{0}, ScratchBytes)); o != Broken {
			t.Errorf("%s: outcome %v", name, o)
		}
		if !client.aborted || !backend.aborted || client.closed || backend.closed {
			t.Errorf("%s: not both sides were reset", name)
		}
	}
}

func TestPumpGivesOthersTheirTurn(t *testing.T) {
	client := &fake{in: make([]byte, 100*ScratchBytes), room: plenty}
	backend := &fake{in: make([]byte, 100*ScratchBytes), room: plenty}
	p, scratch := NewPump(client, backend), make([]byte, ScratchBytes)
	if o := p.Step(scratch); o != More {
		t.Fatalf("outcome %v", o)
	}
	if len(backend.out) != maxReads*ScratchBytes || len(client.out) != maxReads*ScratchBytes {
		t.Errorf("one step copied %d bytes up and %d down", len(backend.out), len(client.out))
	}
}

// A side that does not take holds the other back: what lies here is bounded.
func TestPumpHoldsBackReading(t *testing.T) {
	const much = 10 * ScratchBytes
	for _, c := range []struct {
		name            string
		client, backend *fake
		from            func(client, backend *fake) *fake
		most            int
	}{
		{"up", &fake{in: make([]byte, much), room: plenty}, &fake{room: 10}, func(c, _ *fake) *fake { return c }, 10},
		{"down", &fake{room: 10}, &fake{in: make([]byte, much), room: plenty}, func(_, b *fake) *fake { return b }, ScratchBytes},
	} {
		p, scratch := NewPump(c.client, c.backend), make([]byte, ScratchBytes)
		for range 5 {
			if o := p.Step(scratch); o != Waiting && o != More {
				t.Fatalf("%s: outcome %v", c.name, o)
			}
		}
		if taken := much - len(c.from(c.client, c.backend).in); taken > c.most {
			t.Errorf("%s: %d bytes were read ahead", c.name, taken)
		}
	}
}

// Much that waits at the backend goes past the buffer, and little does not.
func TestPumpFillsInBulk(t *testing.T) {
	for waiting, want := range map[int]int{
		ScratchBytes - 1:             0,
		ScratchBytes + bulkBytes - 1: 0,
		ScratchBytes + bulkBytes:     1,
		3*ScratchBytes + bulkBytes:   3,
	} {
		client, backend := &fake{room: plenty}, &fake{in: make([]byte, waiting), room: plenty}
		p := NewPump(client, backend)
		if o := p.Step(make([]byte, ScratchBytes)); o != Waiting || client.fills != want {
			t.Errorf("%d bytes: outcome %v, read for itself %d times, want %d", waiting, o, client.fills, want)
		}
		if _, down := p.Bytes(); len(client.out) != waiting || down != uint64(waiting) {
			t.Errorf("%d bytes: %d came, %d were counted", waiting, len(client.out), down)
		}
	}
}

// Whatever the sizes of reads and writes, the bytes that come out are those
// that went in.
func TestPumpPassesOnEveryByte(t *testing.T) {
	for seed := range int64(200) {
		rng := rand.New(rand.NewSource(seed))
		up, down := randomBytes(rng), randomBytes(rng)
		client, backend := &fake{}, &fake{}
		p, scratch := NewPump(client, backend), make([]byte, ScratchBytes)
		upLeft, downLeft := up, down
		for steps := 0; ; steps++ {
			feed(rng, client, &upLeft)
			feed(rng, backend, &downLeft)
			if p.Step(scratch) == Done {
				break
			}
			if steps > 100_000 {
				t.Fatalf("seed %d: no end", seed)
			}
		}
		if !bytes.Equal(backend.out, up) || !bytes.Equal(client.out, down) {
			t.Fatalf("seed %d: bytes differ", seed)
		}
		if client.writesAfterClose+backend.writesAfterClose > 0 {
			t.Fatalf("seed %d: written after the end", seed)
		}
	}
}

func randomBytes(rng *rand.Rand) []byte {
	b := make([]byte, rng.Intn(3*ScratchBytes))
	rng.Read(b)
	return b
}

func feed(rng *rand.Rand, f *fake, left *[]byte) {
	n := rng.Intn(ScratchBytes)
	f.room = rng.Intn(ScratchBytes)
	n = min(n, len(*left))
	f.in = append(f.in, (*left)[:n]...)
	*left = (*left)[n:]
	f.eof = len(*left) == 0
}
