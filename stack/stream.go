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
	ep    tcpip.Endpoint
	hands *hands
}

// hands are what netstack is given to read from and to write to. All streams of a
// stack share them, for they are in use during one call only.
type hands struct {
	reader bytes.Reader
	drain  draining
	fill   filling
}

var _ proxy.Client = (*stream)(nil)

// Drain implements proxy.Client. Netstack holds the flow's lock meanwhile, so
// that what is being written cannot be freed by a reset.
func (s *stream) Drain(dst proxy.Sink, most int) (n int, from, to error) {
	s.hands.drain = draining{dst: dst, left: most}
	_, err := s.ep.Read(&s.hands.drain, tcpip.ReadOptions{})
	d := s.hands.drain
	s.hands.drain = draining{}
	if d.n > 0 {
		// The window grows with what is taken, up to maxBufferBytes.
		s.ep.ModerateRecvBuf(d.n)
	}
	if err != nil && d.n == 0 && !d.stopped {
		from = streamError(err)
	}
	return d.n, from, d.err
}

// draining is the writer that Drain gives to netstack.
type draining struct {
	dst     proxy.Sink
	n, left int
	// stopped: dst took less than it was given, or enough was moved.
	stopped bool
	err     error
}

// Write implements io.Writer.
func (d *draining) Write(p []byte) (int, error) {
	if d.stopped {
		return 0, io.ErrShortWrite
	}
	n, err := d.dst.Write(p)
	d.n += n
	d.left -= n
	if err == nil && n < len(p) {
		err = proxy.ErrAgain
	}
	d.err, d.stopped = err, err != nil || d.left <= 0
	if d.stopped {
		return n, io.ErrShortWrite
	}
	return n, nil
}

// Fill implements proxy.Client.
func (s *stream) Fill(src proxy.Stream, n int) (int, error) {
	s.hands.fill = filling{src: src, left: n}
	moved, err := s.ep.Write(&s.hands.fill, tcpip.WriteOptions{})
	broken := s.hands.fill.err
	s.hands.fill = filling{}
	switch {
	case broken != nil:
		return int(moved), broken
	case err != nil:
		return int(moved), streamError(err)
	}
	return int(moved), nil
}

// filling is the payload that Fill gives to netstack: exactly as long as it says,
// for netstack reads until it has so much.
type filling struct {
	src  proxy.Stream
	left int
	err  error
}

// Len implements tcpip.Payloader.
func (f *filling) Len() int { return f.left }

// Read implements io.Reader.
func (f *filling) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := f.src.Read(p[:min(len(p), f.left)])
	f.left -= n
	if n == 0 {
		// What was there is gone: only a connection that is broken loses it, and
		// netstack drops what it has read of this payload.
		f.err = errors.Join(errLostBytes, err)
		return 0, f.err
	}
	return n, nil
}

// errLostBytes says that a socket had less than it had said.
var errLostBytes = errors.New("stack: the backend's connection lost what had arrived")

// Write implements proxy.Sink.
func (s *stream) Write(p []byte) (int, error) {
	s.hands.reader.Reset(p)
	n, err := s.ep.Write(&s.hands.reader, tcpip.WriteOptions{})
	s.hands.reader.Reset(nil)
	if err != nil {
		return int(n), streamError(err)
	}
	return int(n), nil
}

// CloseWrite implements proxy.Sink.
func (s *stream) CloseWrite() error {
	if err := s.ep.Shutdown(tcpip.ShutdownWrite); err != nil {
		return streamError(err)
	}
	return nil
}

// Close implements proxy.Sink. Both directions have finished: netstack goes
// on by itself until our FIN is acknowledged.
func (s *stream) Close() { s.ep.Close() }

// Abort implements proxy.Sink. Close after it lets netstack free what the
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
