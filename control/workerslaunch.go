package control

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/internal/page"
)

// askTimeout bounds how long a worker may take to answer.
const askTimeout = 5 * time.Second

// errNoAnswer says that a worker's process is gone, or that it is stuck.
var errNoAnswer = errors.New("control: the worker does not answer")

// worker is one process, as control sees it.
type worker struct {
	wire *wire
	page *page.Control
	// wake is the eventfd that ends the wait of the worker's loop.
	wake *os.File
	pid  int
	// process is for its end by force; child is set when it is our own child, for
	// somebody else waits for the others.
	process *os.Process
	child   *exec.Cmd
	// runs are the settings that it runs with, and settings the same in JSON.
	runs           WorkerSettings
	settings       string
	vips, services int
	// retired workers take nothing new; unusable ones could not take the page.
	retired, unusable bool
	began             time.Duration
	// holding is what it told last; Workers.mu guards it.
	holding Holding
	gone    chan struct{}

	closing sync.Once

	mu   sync.Mutex
	last uint64
	asks map[uint64]chan json.RawMessage
}

func newWorker(at time.Duration) (*worker, error) {
	one := &worker{asks: map[uint64]chan json.RawMessage{}, gone: make(chan struct{}), began: at}
	var err error
	if one.page, err = page.New(); err != nil {
		return nil, err
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), one.close())
	}
	one.wake = os.NewFile(uintptr(fd), "wake")
	return one, nil
}

// close lets go of the worker, and leaves its process alone. Only the first of several
// calls does: the page's memory may be another's then.
func (one *worker) close() (err error) {
	one.closing.Do(func() { err = one.letGo() })
	return err
}

func (one *worker) letGo() error {
	var errs []error
	if one.wire != nil {
		errs = append(errs, one.wire.close())
	}
	if one.wake != nil {
		errs = append(errs, one.wake.Close())
	}
	if one.process != nil && one.child == nil {
		errs = append(errs, one.process.Release())
	}
	return errors.Join(append(errs, one.page.Close())...)
}

// publish gives the worker a table, and has it in force at once.
func (one *worker) publish(t *page.Table) error {
	if err := one.page.Publish(t); err != nil {
		return err
	}
	var n [8]byte
	binary.NativeEndian.PutUint64(n[:], 1)
	_, err := one.wake.Write(n[:])
	return err
}

func (one *worker) tell(kind string, body any) error {
	return one.wire.send(newMessage(kind, 0, body))
}

// ask asks a worker that listen listens to.
func (one *worker) ask(kind string, body any) (json.RawMessage, error) {
	return one.askWithin(askTimeout, kind, body)
}

func (one *worker) askWithin(most time.Duration, kind string, body any) (json.RawMessage, error) {
	answer := make(chan json.RawMessage, 1)
	one.mu.Lock()
	one.last++
	id := one.last
	one.asks[id] = answer
	one.mu.Unlock()
	defer func() {
		one.mu.Lock()
		delete(one.asks, id)
		one.mu.Unlock()
	}()
	if err := one.wire.send(newMessage(kind, id, body)); err != nil {
		return nil, errors.Join(errNoAnswer, err)
	}
	timeout := time.NewTimer(most)
	defer timeout.Stop()
	select {
	case b := <-answer:
		return b, nil
	case <-one.gone:
	case <-timeout.C:
	}
	return nil, errNoAnswer
}

func (one *worker) answered(m *message) {
	one.mu.Lock()
	defer one.mu.Unlock()
	// An answer that nobody waits for any more is dropped.
	if answer, ok := one.asks[m.ID]; ok {
		answer <- m.Body
		delete(one.asks, m.ID)
	}
}

// settings are those of a new worker, in JSON.
func (w *Workers) settings() string {
	return string(newMessage("", 0, &w.cfg.Settings).Body)
}

// launch starts a worker and waits until it is ready.
func (w *Workers) launch() (*worker, error) {
	one, err := newWorker(w.cfg.Clock())
	if err != nil {
		return nil, err
	}
	wire, theirs, err := wirePair()
	if err != nil {
		return nil, errors.Join(err, one.close())
	}
	one.wire = wire
	one.child = w.cfg.Command()
	one.child.ExtraFiles = []*os.File{theirs, one.page.File(), one.wake}
	err = startRaised(one.child)
	theirs.Close()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("control: start a worker: %w", err), one.close())
	}
	one.process, one.pid = one.child.Process, one.child.Process.Pid
	lists, edition := w.ownPrefixes()
	if err = w.tellFirst(one, lists); err == nil {
		err = one.welcome(firstWait)
	} else {
		err = fmt.Errorf("control: the worker did not begin: %w", err)
	}
	if err == nil && one.unusable {
		err = errors.New("the worker is of another version")
	}
	if err != nil {
		_ = one.process.Kill()
		_ = one.child.Wait()
		return nil, errors.Join(err, one.close())
	}
	w.add(one)
	w.tellOwnPrefixes(one, edition)
	w.mu.Lock()
	stopping, grace := w.stopping, w.grace
	w.mu.Unlock()
	if stopping {
		return one, one.tell(tellStop, stopWanted{grace})
	}
	w.report(Report{PID: one.pid, Started: true})
	return one, nil
}

// tellFirst tells a new worker what it has to know before it opens anything.
func (w *Workers) tellFirst(one *worker, lists []PrefixList) error {
	if err := one.tell(tellSettings, &w.cfg.Settings); err != nil {
		return err
	}
	for _, l := range lists {
		if err := one.tell(tellPrefixes, prefixesTold{l}); err != nil {
			return err
		}
	}
	return nil
}

// errWorkerFailed carries the worker's own words.
type errWorkerFailed string

// Error implements error.
func (e errWorkerFailed) Error() string { return string(e) }

// welcome waits for the worker's first message. Its refusal is an
// errWorkerFailed.
func (one *worker) welcome(within time.Duration) error {
	if err := one.wire.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	m, files, err := one.wire.receive()
	closeAll(files)
	if err != nil {
		return fmt.Errorf("control: the worker did not begin: %w", err)
	}
	switch m.Type {
	case sayFailed:
		f, err := decode[failed](m)
		if err != nil {
			return err
		}
		return errWorkerFailed(f.Error)
	case sayReady:
		r, err := decode[ready](m)
		if err != nil || r.Settings.Config == nil {
			return garbage("the worker's settings: %v", err)
		}
		one.retired = r.Retired
		one.runs, one.settings = r.Settings, string(newMessage("", 0, &r.Settings).Body)
		one.vips, one.services = len(r.Settings.Config.VIPs), len(r.Settings.Config.Services)
		return one.wire.conn.SetReadDeadline(time.Time{})
	}
	return garbage("%q of a worker that begins", m.Type)
}
