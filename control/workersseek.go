package control

import (
	"maps"
	"net"
	"os"
	"slices"
	"time"
)

// Times of workers that do not follow a new control process.
const (
	// takeUpTimeout bounds how long a worker may take to follow: the others wait
	// meanwhile. seek comes back to it.
	takeUpTimeout = time.Second
	// seekInterval is how often a missed worker is asked again.
	seekInterval = time.Second
	// missedTime is how long a worker may be missed. Others may reset its flows
	// after 3 s without a lease (OWNERSHIP.md R18), and beside it, as long as it
	// may go on with an answer that it had decided on, this host serves nobody.
	missedTime = 5 * time.Second
)

// seek is the goroutine `control.Workers.seek`: it asks missed workers again,
// until each has followed or ended, and ends those that stand still for too
// long. It ends after Stop.
func (w *Workers) seek() {
	defer w.tending.Done()
	ticker := time.NewTicker(seekInterval)
	defer ticker.Stop()
	for w.missing() {
		select {
		case <-w.stop:
			return
		case <-ticker.C:
		}
		if names, err := FindWorkers(w.vip()); err == nil {
			w.seekAgain(names)
		}
	}
}

func (w *Workers) missing() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.missed) > 0
}

// seekAgain asks those of the missed that are among the names.
func (w *Workers) seekAgain(names []string) {
	w.mu.Lock()
	missed := maps.Clone(w.missed)
	w.mu.Unlock()
	for name, since := range missed {
		if slices.Contains(names, name) && !w.follows(name, since) {
			continue
		}
		w.mu.Lock()
		delete(w.missed, name)
		w.publish()
		w.mu.Unlock()
	}
}

// follows takes a missed worker up as a retired one, for another has taken its
// place.
func (w *Workers) follows(name string, since time.Duration) bool {
	one, err := w.takeUpOne(name)
	if err == nil {
		one.retired = true
		w.add(one)
		w.tellRetired(one)
		return true
	}
	if w.cfg.Clock()-since > missedTime {
		w.cfg.Log.Error("a worker of an earlier run stands still and is killed; its flows end", "name", name, "error", err)
		if err := killWorker(name); err != nil {
			w.cfg.Log.Error("it cannot be killed", "name", name, "error", err)
		}
	}
	return false
}

// killWorker kills the process that has a worker's name.
func killWorker(name string) error {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: name, Net: "unixpacket"})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := sameUser(c); err != nil {
		return err
	}
	cred, err := peerOf(c)
	if err != nil {
		return err
	}
	// The process has the name, so it is alive: the number is still its own.
	p, err := os.FindProcess(int(cred.Pid))
	if err != nil {
		return err
	}
	defer p.Release()
	return p.Kill()
}
