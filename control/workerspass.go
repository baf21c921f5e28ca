package control

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// MaxRetired bounds the workers of an interface that only serve what they have. Each
// hears all frames of the LAN, and costs about as much memory as one that answers.
const MaxRetired = 8

// retireWithin bounds how long a worker may take to leave everything new to others.
// This host accepts nothing meanwhile, and holds its lease.
const retireWithin = 3 * time.Second

// Retire makes every worker take nothing new from now on, and returns when each has
// said so: what was decided before has been sent. No other is started after that;
// Leave is next. A worker that does not answer is an error, and has retired or not.
func (w *Workers) Retire() error {
	w.mu.Lock()
	w.leave()
	var asked []*worker
	for _, one := range w.all {
		if !one.retired {
			one.retired, w.retiring = true, one
			asked = append(asked, one)
		}
	}
	// An empty table first: what is told comes in force behind it.
	w.publish()
	w.mu.Unlock()
	var errs []error
	for _, one := range asked {
		if _, err := one.askWithin(retireWithin, tellRetire, struct{}{}); err != nil {
			errs = append(errs, fmt.Errorf("worker %d does not let go: %w", one.pid, err))
		}
	}
	return errors.Join(errs...)
}

// leave ends tend and seek; what ends after that is nobody's concern. It is for
// callers that hold the lock.
func (w *Workers) leave() {
	if !w.stopping {
		w.stopping = true
		close(w.stop)
	}
	w.left = true
}

// Leave lets go of all workers, which go on as after a crash of this process until
// another takes them up. Nothing else is of use after it, but Close.
func (w *Workers) Leave() error {
	w.mu.Lock()
	w.leave()
	all := slices.Clone(w.all)
	w.mu.Unlock()
	var errs []error
	for _, one := range all {
		errs = append(errs, one.wire.close())
	}
	w.tending.Wait()
	return errors.Join(errs...)
}

// TakeUp takes over the workers that the process before this one has left, all as
// retired ones: see WorkersConfig.Beside.
func (w *Workers) TakeUp() error {
	found, err := w.takeUp()
	if err != nil {
		return err
	}
	for _, one := range found {
		one.retired = true
		w.add(one)
	}
	for _, one := range found {
		w.tellRetired(one)
	}
	w.mu.Lock()
	w.beside = false
	w.publish()
	w.mu.Unlock()
	w.tending.Add(1)
	go w.seek()
	return nil
}

// retiredCount is how many workers only serve what they have.
func (w *Workers) retiredCount() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.all {
		if one.retired {
			n++
		}
	}
	return n
}

// Retire makes the workers of all interfaces take nothing new, see Workers.Retire.
func (u *Uplinks) Retire() error {
	var errs []error
	for _, l := range u.all {
		errs = append(errs, l.Workers.Retire())
	}
	return errors.Join(errs...)
}

// Leave lets go of the workers of all interfaces, see Workers.Leave.
func (u *Uplinks) Leave() error {
	var errs []error
	for _, l := range u.all {
		errs = append(errs, l.Workers.Leave())
	}
	return errors.Join(errs...)
}

// TakeUp takes over the workers of all interfaces, see Workers.TakeUp.
func (u *Uplinks) TakeUp() error {
	for _, l := range u.all {
		if err := l.Workers.TakeUp(); err != nil {
			return err
		}
	}
	return nil
}

// MostRetired is the largest number of retired workers of one interface.
func (u *Uplinks) MostRetired() (n int) {
	for _, l := range u.all {
		n = max(n, l.Workers.retiredCount())
	}
	return n
}
