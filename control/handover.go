package control

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"onevoice/config"
)

// handoverVersion is of what a control process and its successor say to each other.
// Both may be of other versions of the program.
const handoverVersion = 1

// Types of messages between a control process and its successor, in their order.
const (
	// tellBegin: this is what the successor has to know to begin.
	tellBegin = "begin"
	// sayPrepared: all is open that can be open beside the predecessor. The answer to
	// tellBegin is this, or sayFailed.
	sayPrepared = "prepared"
	// tellClaim brings the claim of a VIP, tellTake the rest, and everything is the
	// successor's. Nothing of it is the predecessor's any more but as its heir, when
	// the successor's process has ended.
	tellClaim = "claim"
	tellTake  = "take"
	// sayServing: the successor serves as well as its predecessor did.
	sayServing = "serving"
	// tellFree: from now on the successor lives without its predecessor. One that was
	// not told so ends with it.
	tellFree = "free"
)

// Begin is what a successor is told first.
type Begin struct {
	// Protocol is handoverVersion.
	Protocol int
	// Version is the predecessor's.
	Version string
	// ID is that of the change, and Reload whether it is one of the file alone. At is
	// when it was asked for.
	ID     uint64
	Reload bool
	At     time.Duration
	// File is the configuration as the predecessor has read it, and Capture a file for
	// the frames, "" for none.
	File    []byte
	Capture string
}

// Prepared is a successor's answer.
type Prepared struct {
	Protocol int
	Version  string
	// Changes are the differences of the file.
	Changes []config.Change
}

// Handed is what passes from a control process to the next.
type Handed struct {
	// Lock is the state directory's, and Socket the admin socket, at Path.
	Lock, Socket *os.File
	Path         string
	Claims       map[netip.Addr]*os.File
	// Leased: the predecessor held a lease. It accepted nothing new from At on.
	Leased bool
	At     time.Duration
	// History is what the page has seen of the last hour, nil without a page.
	History []byte
}

// taken is the body of tellTake.
type taken struct {
	Path    string
	Leased  bool
	At      time.Duration
	History []byte
}

// Close lets go of all that was handed.
func (h *Handed) Close() error {
	err := h.CloseNames()
	if h.Lock != nil {
		err = errors.Join(err, h.Lock.Close())
	}
	h.Lock = nil
	return err
}

// CloseNames lets go of all but the lock.
func (h *Handed) CloseNames() error {
	var errs []error
	for _, f := range h.Claims {
		errs = append(errs, f.Close())
	}
	if h.Socket != nil {
		errs = append(errs, h.Socket.Close())
	}
	h.Claims, h.Socket = nil, nil
	return errors.Join(errs...)
}

// Successor is the next control process, as the present one sees it.
type Successor struct {
	wire  *wire
	cmd   *exec.Cmd
	ended chan struct{}
	mu    sync.Mutex
	err   error
}

// StartSuccessor starts cmd as the next control process and tells it how to begin.
// The command's descriptors behind standard error belong to Successor.
func StartSuccessor(cmd *exec.Cmd, begin Begin) (*Successor, error) {
	w, theirs, err := wirePair()
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = []*os.File{theirs}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	s := &Successor{wire: w, cmd: cmd, ended: make(chan struct{})}
	go s.wait()
	begin.Protocol = handoverVersion
	// One that has ended already does not answer, and that is told below.
	_ = w.send(newMessage(tellBegin, 0, begin))
	return s, nil
}

// wait is the goroutine `control.Successor.wait`; it ends with the process.
func (s *Successor) wait() {
	err := s.cmd.Wait()
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	close(s.ended)
}

// PID is the successor's process.
func (s *Successor) PID() int { return s.cmd.Process.Pid }

// Prepared waits for a successor that is ready to take over, and gives nothing away.
func (s *Successor) Prepared(within time.Duration) (Prepared, error) {
	m, err := s.expect(sayPrepared, within)
	if err != nil {
		return Prepared{}, err
	}
	p, err := decode[Prepared](m)
	if err == nil && p.Protocol != handoverVersion {
		err = fmt.Errorf("the new program hands over by version %d, and this one by %d; stop onevoice and start it again", p.Protocol, handoverVersion)
	}
	return p, err
}

// Pass hands everything over. The files stay the caller's, who may use them again
// when the successor's process has ended.
func (s *Successor) Pass(h *Handed) error {
	for vip, claim := range h.Claims {
		if err := s.wire.send(newMessage(tellClaim, 0, vip), claim); err != nil {
			return err
		}
	}
	return s.wire.send(newMessage(tellTake, 0, taken{h.Path, h.Leased, h.At, h.History}), h.Lock, h.Socket)
}

// Serving waits until the successor serves.
func (s *Successor) Serving(within time.Duration) error {
	_, err := s.expect(sayServing, within)
	return err
}

// Free lets the successor live without this process.
func (s *Successor) Free() error { return s.wire.send(newMessage(tellFree, 0, struct{}{})) }

// Signal sends the process a signal. Without one any more it does nothing.
func (s *Successor) Signal(sig os.Signal) { _ = s.cmd.Process.Signal(sig) }

// Kill ends the process by force and waits for its end. What it was handed is
// nobody's then but the caller's.
func (s *Successor) Kill() {
	s.Signal(os.Kill)
	<-s.ended
	s.wire.close()
}

// Wait waits for the end of the process.
func (s *Successor) Wait() error {
	<-s.ended
	s.wire.close()
	return s.err
}

// Ended is closed when the process has ended.
func (s *Successor) Ended() <-chan struct{} { return s.ended }

// expect waits for a message. A successor that does not send it is told of in words.
func (s *Successor) expect(kind string, within time.Duration) (*message, error) {
	if err := s.wire.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	m, files, err := s.wire.receive()
	closeAll(files)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("the new process has not said %q within %v", kind, within)
	case errors.Is(err, errGarbage):
		return nil, fmt.Errorf("the new process says what makes no sense, so it is no onevoice, or of another version: %w", err)
	case err != nil:
		return nil, s.gone()
	}
	if m.Type == sayFailed {
		f, err := decode[failed](m)
		if err != nil {
			return nil, err
		}
		return nil, errors.New(f.Error)
	}
	if m.Type != kind {
		return nil, fmt.Errorf("the new process says %q instead of %q", m.Type, kind)
	}
	return m, nil
}

// goneWithin bounds how long a process may take to end that has closed its socket.
const goneWithin = time.Second

// gone says how the process has ended.
func (s *Successor) gone() error {
	late := time.NewTimer(goneWithin)
	defer late.Stop()
	select {
	case <-s.ended:
		return fmt.Errorf("the new process ended (%s); see its last words in the log", s.cmd.ProcessState)
	case <-late.C:
		return errors.New("the new process does not listen; it is no onevoice, or one that cannot be handed anything")
	}
}

// Predecessor is the control process before this one, which is its successor.
type Predecessor struct {
	wire *wire
	// Begin is what it told.
	Begin Begin
	free  chan error
}

// InheritPredecessor makes the successor's side of the descriptor that the
// predecessor has handed down, and waits for what it tells first.
func InheritPredecessor() (*Predecessor, error) {
	w, err := wireOf(os.NewFile(socketFD, "predecessor"))
	if err != nil {
		return nil, errors.Join(errNotForPeople, err)
	}
	p := &Predecessor{wire: w, free: make(chan error, 1)}
	m, err := p.expect(tellBegin)
	if err == nil {
		p.Begin, err = decode[Begin](m)
	}
	if err == nil && p.Begin.Protocol != handoverVersion {
		err = p.Fail(fmt.Errorf("the running program hands over by version %d, and this one, %s, by %d; stop onevoice and start it again", p.Begin.Protocol, strings.TrimSpace(p.Begin.Version), handoverVersion))
	}
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	return p, nil
}

// Fail tells the predecessor why this process cannot take over, and returns that.
func (p *Predecessor) Fail(err error) error {
	// A predecessor that is gone needs no telling.
	_ = p.wire.send(newMessage(sayFailed, 0, failed{err.Error()}))
	return err
}

// Take tells the predecessor that this process is prepared, and waits for what is
// handed over: for ever, or until the predecessor ends.
func (p *Predecessor) Take(prepared Prepared) (*Handed, error) {
	prepared.Protocol = handoverVersion
	if err := p.wire.send(newMessage(sayPrepared, 0, prepared)); err != nil {
		return nil, p.ended(err)
	}
	h := &Handed{Claims: map[netip.Addr]*os.File{}}
	for {
		m, files, err := p.wire.receive()
		if err == nil {
			err = h.take(m, files)
		}
		if err != nil {
			return nil, errors.Join(p.ended(err), h.Close())
		}
		if m.Type == tellTake {
			go p.watch()
			return h, nil
		}
	}
}

// take takes a message and what came with it.
func (h *Handed) take(m *message, files []*os.File) (err error) {
	switch {
	case m.Type == tellClaim && len(files) == 1:
		vip, err := decode[netip.Addr](m)
		if err == nil && h.Claims[vip] == nil {
			h.Claims[vip] = files[0]
			return nil
		}
	case m.Type == tellTake && len(files) == 2:
		var t taken
		if t, err = decode[taken](m); err == nil {
			h.Lock, h.Socket = files[0], files[1]
			h.Path, h.Leased, h.At, h.History = t.Path, t.Leased, t.At, t.History
			return nil
		}
	}
	closeAll(files)
	return errors.Join(err, garbage("%q with %d descriptors in a handover", m.Type, len(files)))
}

// Serving tells the predecessor that this process serves.
func (p *Predecessor) Serving() error {
	if err := p.wire.send(newMessage(sayServing, 0, struct{}{})); err != nil {
		return p.ended(err)
	}
	return nil
}

// Free tells once, with nil when the predecessor lets this process live alone, and
// with an error when it has ended before.
func (p *Predecessor) Free() <-chan error { return p.free }

// watch is the goroutine `control.Predecessor.watch`; it ends when the predecessor
// lets go, or with Close.
func (p *Predecessor) watch() {
	_, err := p.expect(tellFree)
	p.free <- err
}

// Close lets go of the predecessor.
func (p *Predecessor) Close() error { return p.wire.close() }

func (p *Predecessor) expect(kind string) (*message, error) {
	m, files, err := p.wire.receive()
	closeAll(files)
	if err != nil {
		return nil, p.ended(err)
	}
	if m.Type != kind {
		return nil, garbage("%q instead of %q", m.Type, kind)
	}
	return m, nil
}

func (p *Predecessor) ended(err error) error {
	if errors.Is(err, io.EOF) || !errors.Is(err, errGarbage) {
		return fmt.Errorf("the process before this one has ended, and so does this one: %w", err)
	}
	return err
}
