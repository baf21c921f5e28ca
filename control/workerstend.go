package control

import (
	"encoding/json"
	"errors"
	"slices"
	"time"
)

// Back-off between the starts of a worker that ends at once. One that has lived
// for calmTime begins at the shortest again.
const (
	minBackOff = 100 * time.Millisecond
	maxBackOff = 5 * time.Second
	calmTime   = 10 * time.Second
)

// reapTime bounds how long a process may take to end after it has let go of
// control.
const reapTime = 10 * time.Second

// listen is the goroutine `control.Workers.listen`; it ends with the worker.
func (w *Workers) listen(one *worker) {
	defer w.tending.Done()
	for {
		m, files, err := one.wire.receive()
		closeAll(files)
		if err == nil {
			err = w.hear(one, m)
		}
		if errors.Is(err, errGarbage) {
			w.cfg.Log.Warn("a worker said what makes no sense", "pid", one.pid, "error", err)
			continue
		}
		if err != nil {
			break
		}
	}
	w.reap(one)
	w.remove(one)
	close(one.gone)
	if err := one.close(); err != nil {
		w.cfg.Log.Warn("a worker's page could not be let go of", "error", err)
	}
	w.report(Report{PID: one.pid, Ended: true})
}

// hear takes in what a worker says.
func (w *Workers) hear(one *worker, m *message) error {
	switch m.Type {
	case sayAnswer:
		one.answered(m)
	case sayBackend:
		b, err := decode[Backend](m)
		if err != nil {
			return err
		}
		w.report(Report{PID: one.pid, Backend: &b})
	case sayHolding:
		h, err := decode[Holding](m)
		if err != nil {
			return err
		}
		w.told(one, h)
	default:
		return garbage("a message of type %q", m.Type)
	}
	return nil
}

// reap waits for the process, if it is our child; one that was left behind goes on.
func (w *Workers) reap(one *worker) {
	w.mu.Lock()
	left := w.left
	w.mu.Unlock()
	switch {
	case left && one.child != nil:
		_ = one.process.Release()
		return
	case left:
		return
	}
	if one.process == nil {
		return
	}
	late := time.AfterFunc(reapTime, func() { _ = one.process.Kill() })
	defer late.Stop()
	if one.child == nil {
		// It is our child all the same where it was left behind and taken up again.
		_, _ = one.process.Wait()
		return
	}
	err := one.child.Wait()
	w.mu.Lock()
	stopping := w.stopping
	w.mu.Unlock()
	if err != nil || !stopping && !one.retired {
		w.cfg.Log.Error("a worker has ended, and its flows with it", "pid", one.pid, "state", one.child.ProcessState.String())
	}
}

// tend is the goroutine `control.Workers.tend`: it starts another worker when
// the active one has ended. It ends after Stop.
func (w *Workers) tend(active *worker) {
	defer w.tending.Done()
	for backOff := minBackOff; ; backOff = min(2*backOff, maxBackOff) {
		if active != nil {
			<-active.gone
			if w.cfg.Clock()-active.began > calmTime {
				backOff = minBackOff
			}
		}
		timer := time.NewTimer(backOff)
		select {
		case <-w.stop:
			timer.Stop()
			return
		case <-timer.C:
		}
		var err error
		if active, err = w.launch(); err != nil {
			w.cfg.Log.Error("a worker does not start", "error", err, "next_in", min(2*backOff, maxBackOff))
		}
	}
}

// Stop makes the workers accept nothing new and end with their last flow, or
// after grace, when the rest is reset. A second call may shorten the time.
func (w *Workers) Stop(grace time.Duration) {
	w.mu.Lock()
	if !w.stopping {
		close(w.stop)
	}
	w.stopping, w.grace = true, grace
	all := slices.Clone(w.all)
	w.mu.Unlock()
	for _, one := range all {
		// One that has just ended needs no telling.
		_ = one.tell(tellStop, stopWanted{grace})
	}
}

// killSlack is what a worker gets beyond its time to stop before it is killed.
const killSlack = 5 * time.Second

// errKilled says that a stop was not clean.
var errKilled = errors.New("a worker did not stop in its time and was killed")

// Wait waits until Stop has ended all workers. One that is stuck is killed.
func (w *Workers) Wait() error {
	<-w.stop
	w.mu.Lock()
	killed := false
	late := time.AfterFunc(w.grace+killSlack, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.left {
			return
		}
		killed = len(w.all) > 0
		for _, one := range w.all {
			_ = one.process.Kill()
		}
	})
	w.mu.Unlock()
	w.tending.Wait()
	late.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	if killed {
		return errKilled
	}
	return nil
}

// Status asks every worker, the active one first.
func (w *Workers) Status(flows, collect bool) ([]WorkerStatus, error) {
	w.mu.Lock()
	var all []*worker
	for _, one := range w.all {
		if one.retired {
			all = append(all, one)
		} else {
			all = append([]*worker{one}, all...)
		}
	}
	w.mu.Unlock()
	var out []WorkerStatus
	for _, one := range all {
		b, err := one.ask(askStatus, statusWanted{flows, collect})
		if err != nil {
			return nil, err
		}
		var s WorkerStatus
		if err := json.Unmarshal(b, &s); err != nil {
			return nil, garbage("status: %v", err)
		}
		out = append(out, s)
	}
	return out, nil
}
