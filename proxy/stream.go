package proxy

import "errors"

// Stream is the backend's side of a copied connection: non-blocking, with the two
// directions closed apart from each other.
type Stream interface {
	// Read reads what is there: ErrAgain when nothing is, io.EOF when the
	// other side has finished sending, another error when the connection is
	// gone.
	Read(p []byte) (int, error)
	// Queued is how many bytes Read would give now, as far as that is known.
	Queued() int
	Sink
}

// Client is the client's side. It has bytes in memory of its own, and hands them
// on and takes them there, with no buffer between.
type Client interface {
	// Drain writes what has arrived to dst, about most bytes; what dst does not take
	// stays where it is. It says what either side met: from is as Stream.Read's
	// error, to as Sink.Write's.
	Drain(dst Sink, most int) (n int, from, to error)
	// Fill reads from src the n bytes that it is known to have, or as many as fit;
	// ErrAgain when nothing fits.
	Fill(src Stream, n int) (moved int, err error)
	Sink
}

// Sink is what both sides can be told.
type Sink interface {
	// Write writes what fits, which may be less than p; ErrAgain when nothing
	// fits.
	Write(p []byte) (int, error)
	// CloseWrite tells the other side that nothing more comes.
	CloseWrite() error
	// Close lets go of the stream after both directions have finished; what
	// was written is still delivered.
	Close()
	// Abort lets go of the stream at once and resets the other side.
	Abort()
}

// ErrAgain says that a call would block. The loop calls again after the
// stream has become ready.
var ErrAgain = errors.New("proxy: would block")
