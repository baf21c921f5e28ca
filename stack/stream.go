package stack

import (
	"bytes"
	"errors"
	"io"

	"gvisor.dev/gvisor/pkg/tcpip"

	"onevoice/proxy"
)

// stream is the client's side of a flow: a netstack endpoint as the proxy
// wants it.
type stream struct {
	ep     tcpip.Endpoint
	reader bytes.Reader
	writer sliceWriter
}

var _ proxy.Stream = (*stream)(nil)

// sliceWriter takes what fits.
type sliceWriter struct {
	free []byte
	n    int
}

// Write implements io.Writer.
func (w *sliceWriter) Write(p []byte) (int, error) {
	n := copy(w.free, p)
	w.free = w.free[n:]
	w.n += n
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

// Read implements proxy.Stream. It copies: a view that is only peeked at can be
// freed by a reset that netstack handles in a goroutine of its own.
func (s *stream) Read(p []byte) (int, error) {
	s.writer = sliceWriter{free: p}
	_, err := s.ep.Read(&s.writer, tcpip.ReadOptions{})
	n := s.writer.n
	s.writer.free = nil
	if n > 0 || err == nil {
		return n, nil
	}
	return 0, streamError(err)
}

// Write implements proxy.Stream.
func (s *stream) Write(p []byte) (int, error) {
	s.reader.Reset(p)
	n, err := s.ep.Write(&s.reader, tcpip.WriteOptions{})
	s.reader.Reset(nil)
	if err != nil {
		return int(n), streamError(err)
	}
	return int(n), nil
}

// CloseWrite implements proxy.Stream.
func (s *stream) CloseWrite() error {
	if err := s.ep.Shutdown(tcpip.ShutdownWrite); err != nil {
		return streamError(err)
	}
	return nil
}

// Close implements proxy.Stream. Both directions have finished: netstack goes
// on by itself until our FIN is acknowledged.
func (s *stream) Close() { s.ep.Close() }

// Abort implements proxy.Stream. Close after it lets netstack free what the
// client had sent and nobody read.
func (s *stream) Abort() {
	s.ep.Abort()
	s.ep.Close()
}

func streamError(err tcpip.Error) error {
	switch err.(type) {
	case *tcpip.ErrWouldBlock:
		return proxy.ErrAgain
	case *tcpip.ErrClosedForReceive:
		return io.EOF
	}
	return errors.New(err.String())
}
