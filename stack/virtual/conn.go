package virtual

import (
	"bytes"
	"errors"
	"io"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// ErrAgain says that a call would block, and ErrReset that the peer has reset the
// connection. Other errors are netstack's own, such as of a time-out.
var (
	ErrAgain = errors.New("virtual: would block")
	ErrReset = errors.New("virtual: reset by the peer")
)

// NotifyEvent implements waiter.EventListener, in netstack's goroutines.
func (n *Conn) NotifyEvent(waiter.EventMask) { n.woken() }

// Port is the client's own.
func (n *Conn) Port() uint16 {
	a, err := n.ep.GetLocalAddress()
	if err != nil {
		return 0
	}
	return a.Port
}

// Connected reports whether the handshake is complete; an error is its end.
func (n *Conn) Connected() (bool, error) {
	switch s := tcp.EndpointState(n.ep.State()); s {
	case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv, tcp.StateInitial, tcp.StateBound:
		return false, nil
	case tcp.StateError:
		return false, errorOf(n.ep.LastError())
	}
	return true, nil
}

// Read reads what is there: ErrAgain when nothing is, io.EOF when the peer has
// finished.
func (n *Conn) Read(p []byte) (int, error) {
	w := slice{free: p}
	_, err := n.ep.Read(&w, tcpip.ReadOptions{})
	if w.n > 0 || err == nil {
		return w.n, nil
	}
	return 0, errorOf(err)
}

// Write writes what fits; ErrAgain when nothing does.
func (n *Conn) Write(p []byte) (int, error) {
	done, err := n.ep.Write(bytes.NewReader(p), tcpip.WriteOptions{})
	if err != nil {
		return int(done), errorOf(err)
	}
	return int(done), nil
}

// CloseWrite says that nothing more comes.
func (n *Conn) CloseWrite() error {
	if err := n.ep.Shutdown(tcpip.ShutdownWrite); err != nil {
		return errorOf(err)
	}
	return nil
}

// Close lets go of the connection; netstack finishes what was written.
func (n *Conn) Close() {
	n.queue.EventUnregister(&n.entry)
	n.ep.Close()
}

// Abort resets the connection.
func (n *Conn) Abort() {
	n.queue.EventUnregister(&n.entry)
	n.ep.Abort()
	n.ep.Close()
}

func errorOf(err tcpip.Error) error {
	switch err.(type) {
	case nil:
		return errors.New("virtual: ended")
	case *tcpip.ErrWouldBlock:
		return ErrAgain
	case *tcpip.ErrClosedForReceive:
		return io.EOF
	case *tcpip.ErrConnectionReset, *tcpip.ErrConnectionRefused:
		return ErrReset
	}
	return errors.New("virtual: " + err.String())
}

// slice takes what fits into it.
type slice struct {
	free []byte
	n    int
}

// Write implements io.Writer.
func (s *slice) Write(p []byte) (int, error) {
	n := copy(s.free, p)
	s.free = s.free[n:]
	s.n += n
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}
