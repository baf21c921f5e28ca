package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"
)

// A rolling restart: what an operator does on the day of an update.

const (
	// rollingEvery is the interval of new clients meanwhile, and rollingLogInEvery
	// that of new logins, which cost several programs each.
	rollingEvery      = 100 * time.Millisecond
	rollingLogInEvery = time.Second
	// MaxRollingLogins run at a time; when there are more, some are left out.
	MaxRollingLogins = 64
	// stayFor is how long the user of a node that stops goes on before logging out.
	stayFor = 500 * time.Millisecond
	// restartWithin is how soon a node must be back with its lease, on a machine
	// that is busy with other things.
	restartWithin = 10 * time.Second
)

// RunRolling restarts every node, one after the other, under a session on each,
// and new clients and logins all the time. It runs inside the namespaces that Enter makes.
func RunRolling(ctx context.Context, out io.Writer, spec Spec, colour bool) error {
	n := newNarrator(out, colour)
	n.title("A rolling restart of %d nodes on a %s", spec.Nodes, spec.LAN)
	return underWatch(spec, n, func(w *watched) error { return w.rolling(ctx, n) })
}

func (w *watched) rolling(ctx context.Context, n *narrator) error {
	sessions, err := w.oneEach()
	for _, f := range sessions {
		defer f.close()
	}
	if err != nil {
		return err
	}
	n.say("a session is open on each of %d nodes", len(sessions))
	if err := w.sniffer.Tell((*Judge).Moving); err != nil {
		return err
	}
	clients, logins := newNewcomers(w.addresses(), rollingEvery), w.newLogins()
	for i, d := range w.Daemons {
		if err = w.restarts(ctx, n, d, sessions[i], sessions[i+1:]); err != nil {
			break
		}
	}
	clients.close()
	n.title("New clients meanwhile")
	return errors.Join(err, clients.tell(n), logins.tell(n))
}

// tell claims that every new client was served in time.
func (c *newcomers) tell(n *narrator) error {
	var waited waits
	var failed []error
	for _, one := range c.take() {
		waited = append(waited, one.connected)
		if one.err != nil {
			failed = append(failed, fmt.Errorf("client %s, begun at %s: %w", one.addr, one.began.Format("15:04:05.000"), one.err))
		}
	}
	n.claim(len(failed)+c.missed == 0 && len(waited) > 0, "%d connections, one each %s: %d failed", len(waited), c.every, len(failed)+c.missed)
	n.say("they waited for an answer: %s", waited.quantiles())
	return errors.Join(failed...)
}

// tell claims that nobody was left out.
func (l *newLogins) tell(n *narrator) error {
	done, failed := l.close()
	n.claim(len(failed)+l.missed == 0 && len(done) > 0, "%d logins by SSH, one each %s: %d failed", len(done), rollingLogInEvery, len(failed)+l.missed)
	return errors.Join(failed...)
}

// oneEach opens a session on each node, in the order of the nodes.
func (w *watched) oneEach() ([]*liveFlow, error) {
	of := map[string]*liveFlow{}
	var out []*liveFlow
	for _, a := range w.addresses() {
		f, err := openFlow(w.SSH, a, true, tcpBeatEvery)
		if err != nil {
			return out, err
		}
		if of[f.node] != nil {
			f.close()
			continue
		}
		if of[f.node] = f; len(of) == len(w.Daemons) {
			break
		}
	}
	for _, d := range w.Daemons {
		if f := of[d.Host.Name]; f != nil {
			out = append(out, f)
		}
	}
	if len(out) < len(w.Daemons) {
		return out, fmt.Errorf("of %d client addresses none belongs to some node; give more --clients or --addresses", len(w.addresses()))
	}
	return out, nil
}

// restarts stops a node as its service manager would, has its user log out, and
// starts it again.
func (w *watched) restarts(ctx context.Context, n *narrator, d *Daemon, own *liveFlow, others []*liveFlow) error {
	n.title("%s is restarted", d.Host.Name)
	at := time.Now()
	ended, err := d.send(syscall.SIGTERM)
	if err != nil {
		return err
	}
	went, err := heardAgain(ctx, []*liveFlow{own}, at.Add(stayFor), goOnWithin)
	n.claim(went == 1, "its own session goes on, and its user logs out")
	own.close()
	if err != nil {
		return err
	}
	select {
	case <-ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	n.claim(d.Status().Ended == "exit 0", "it stopped %s after the signal (%s)", short(time.Since(at)), d.Status().Ended)
	at = time.Now()
	if err := d.Start(); err != nil {
		return err
	}
	err = w.untilAllSay(ctx, owned, "every bucket has an owner")
	n.claim(err == nil && time.Since(at) < restartWithin, "it holds a lease again %s after its start", short(time.Since(at)))
	if err != nil {
		return err
	}
	went, err = heardAgain(ctx, others, time.Now(), goOnWithin)
	n.claim(went == len(others), "%d of %d sessions with nodes not yet restarted went on", went, len(others))
	return err
}

// newLogins are users who log in all the time, from one address after the other.
type newLogins struct {
	stop, done chan struct{}
	wg         sync.WaitGroup
	slots      chan struct{}
	// missed were left out.
	missed int

	mu     sync.Mutex
	waited waits
	failed []error
}

func (w *watched) newLogins() *newLogins {
	l := &newLogins{stop: make(chan struct{}), done: make(chan struct{}), slots: make(chan struct{}, MaxRollingLogins)}
	go l.run(w)
	return l
}

// run is the goroutine `lab.newLogins.run`; it ends with close.
func (l *newLogins) run(w *watched) {
	defer close(l.done)
	all := w.addresses()
	ticker := time.NewTicker(rollingLogInEvery)
	defer ticker.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-l.stop:
			return
		case <-ticker.C:
		}
		select {
		case l.slots <- struct{}{}:
			l.wg.Go(func() { l.one(w.SSH, all[turn%len(all)]) })
		default:
			l.missed++
		}
	}
}

func (l *newLogins) one(s *SSH, f from) {
	defer func() { <-l.slots }()
	at := time.Now()
	r, err := s.Login(f.host, f.addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed = append(l.failed, fmt.Errorf("login from %s, begun at %s: %w", f.addr, at.Format("15:04:05.000"), err))
		return
	}
	l.waited = append(l.waited, r.Connected)
}

// close waits for those that still try, and tells how long those that logged in
// have waited for an answer, and how the others failed.
func (l *newLogins) close() (waits, []error) {
	close(l.stop)
	<-l.done
	l.wg.Wait()
	return l.waited, l.failed
}
