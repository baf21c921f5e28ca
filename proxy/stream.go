package proxy

import "errors"

// Stream is one side of a copied connection: non-blocking, with the two
// directions closed apart from each other.
type Stream interface {
	// Read reads what is there: ErrAgain when nothing is, io.EOF when the
	// other side has finished sending, another error when the connection is
	// gone.
	Read(p []byte) (int, error)
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

// Drainer is a Stream that hands what has arrived straight to another, with no
// buffer between: what the other does not take stays where it is.
type Drainer interface {
	// Drain moves at most most bytes, and says what either side met: from is as
	// Read's error, to as Write's.
	Drain(dst Stream, most int) (n int, from, to error)
}

// Filler is a Stream that takes bytes straight from another.
type Filler interface {
	// Fill moves n bytes that src is known to have, or as many as fit.
	Fill(src Stream, n int) (moved int, err error)
}

// Queued is a Stream that can tell how many bytes Read would give now.
type Queued interface {
	Queued() int
}
