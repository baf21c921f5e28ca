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
