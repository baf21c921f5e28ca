package control

import (
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"sync"
	"time"

	"onevoice/internal/page"
	"onevoice/node"
)

// maxReports bounds the reports that nobody has taken yet.
const maxReports = 256

// WorkersConfig says what workers are to do and how one is started.
type WorkersConfig struct {
	Settings WorkerSettings
	// Command is `onevoice worker`, not started; its descriptors behind standard
	// error belong to Workers.
	Command func() *exec.Cmd
	// Clock is CLOCK_BOOTTIME, as in the workers.
	Clock func() time.Duration
	Log   *slog.Logger
	// Prefixes are what the files of prefixes of Settings say.
	Prefixes []PrefixList
	// Beside: the workers that are there still belong to the process before this one,
	// which answers; TakeUp takes them over later.
	Beside bool
	// reports is where reports go, nil for a channel of its own.
	reports chan Report
}

// Workers are the processes that serve frames, as the control process sees them:
// one that takes what is new, and beside it those that serve the flows of an
// earlier configuration until their end. What is published reaches all of them
// by pages; no call but Status, Stop and Wait waits for a worker.
type Workers struct {
	cfg     WorkersConfig
	paths   int
	reports chan Report
	tending sync.WaitGroup
	stop    chan struct{}

	mu sync.Mutex
	// all are the workers that live; the active one is not retired.
	all       []*worker
	ownership *node.Ownership
	mappings  Mappings
	leases    []page.Lease
	stopping  bool
	// left: the workers that live go on without this process.
	left bool
	// retiring was the active one until Retire, nil before that.
	retiring *worker
	grace    time.Duration
	lost     uint64
	// beside: there are workers that TakeUp has not taken over yet.
	beside bool
	// prefixes are what the files of prefixes say, and edition counts their changes.
	prefixes []PrefixList
	edition  uint64
	// survivors are how many workers of an earlier control process were found, and
	// missed the names of those that have not followed yet, and since when.
	survivors int
	missed    map[string]time.Duration
}

// Report is something that a worker did by itself. One field is set.
type Report struct {
	PID     int
	Backend *Backend
	// Holding: what Workers.Holding tells has changed.
	Holding bool
	// Ended: the process is gone, and with it all its flows.
	Ended bool
	// Started: a worker takes what is new from now on.
	Started bool
}

// StartWorkers takes up the workers that an earlier control process has left,
// starts one where none of them can serve the settings, and waits until it is
// ready. Beside another process that lives it only starts one. The error is what
// kept a worker from starting.
func StartWorkers(cfg WorkersConfig) (*Workers, error) {
	w := &Workers{
		cfg: cfg, paths: len(cfg.Settings.paths()),
		reports: cfg.reports, stop: make(chan struct{}), prefixes: slices.Clone(cfg.Prefixes), edition: 1,
		ownership: &node.Ownership{VIPs: make([]node.Rows, len(cfg.Settings.Config.VIPs)), Services: make([]node.Rows, len(cfg.Settings.Config.Services))},
	}
	if w.reports == nil {
		w.reports = make(chan Report, maxReports)
	}
	w.leases, w.beside = make([]page.Lease, w.paths), cfg.Beside
	var active *worker
	if !cfg.Beside {
		found, err := w.takeUp()
		if err != nil {
			return nil, err
		}
		active = w.choose(found)
	}
	if active == nil {
		var err error
		if active, err = w.launch(); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	w.tending.Add(1)
	go w.tend(active)
	if !cfg.Beside {
		w.tending.Add(1)
		go w.seek()
	}
	return w, nil
}

// choose picks the worker that goes on taking what is new, nil when none can;
// all others only serve what they have.
func (w *Workers) choose(found []*worker) (active *worker) {
	for _, one := range found {
		if active == nil && !one.unusable && !one.retired && one.settings == w.settings() {
			active = one
		} else {
			one.retired = true
		}
		w.add(one)
	}
	for _, one := range found {
		if one == active {
			continue
		}
		w.tellRetired(one)
	}
	if active != nil {
		// It goes by those that it had before, until then.
		w.tellOwnPrefixes(active, 0)
	}
	return active
}

// tellRetired makes a worker leave everything new to another, and waits until it
// has let go of the host's own listeners.
func (w *Workers) tellRetired(one *worker) {
	w.cfg.Log.Info("a worker of an earlier run serves its flows to their end", "pid", one.pid)
	if _, err := one.ask(tellRetire, struct{}{}); err != nil {
		w.cfg.Log.Warn("a worker could not be told to take nothing new", "pid", one.pid, "error", err)
	}
}

// Close ends the workers that this process has started and leaves those that it
// has taken up to themselves again: a start that fails costs no session. After
// Stop and Wait there is nothing left to do.
func (w *Workers) Close() error {
	w.mu.Lock()
	if !w.stopping {
		w.stopping, w.grace = true, 0
		close(w.stop)
	}
	all := slices.Clone(w.all)
	w.mu.Unlock()
	for _, one := range all {
		if one.child == nil {
			one.wire.close()
			continue
		}
		// One that has just ended needs no telling.
		_ = one.tell(tellStop, stopWanted{0})
	}
	return w.Wait()
}

// add makes a worker one of those that get what is published, and listens to it.
func (w *Workers) add(one *worker) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, one)
	w.publish()
	for path, l := range w.leases {
		one.page.SetLease(path, l.Begin, l.End)
	}
	w.tending.Add(1)
	go w.listen(one)
}

// remove forgets a worker whose process has ended.
func (w *Workers) remove(one *worker) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = slices.DeleteFunc(w.all, func(o *worker) bool { return o == one })
	if w.retiring == one {
		w.retiring = nil
	}
	w.publish()
}

// Mappings are those of the VIPs and services, in the order of the
// configuration. Without any, WorkerSettings.HashKey counts.
type Mappings struct{ VIPs, Services []page.Mapping }

// Publish puts an ownership in force: its rows, in the order of the
// configuration; its lease is not looked at. Both are the workers' from now on.
func (w *Workers) Publish(o *node.Ownership, mappings Mappings) error {
	c := w.cfg.Settings.Config
	if len(o.VIPs) != len(c.VIPs) || len(o.Services) != len(c.Services) || len(o.VIPs)+len(o.Services) > page.MaxRows {
		return fmt.Errorf("control: an ownership of %d VIPs and %d services for workers with %d and %d", len(o.VIPs), len(o.Services), len(c.VIPs), len(c.Services))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ownership, w.mappings = o, mappings
	w.publish()
	return nil
}

// publish is for callers that hold the lock. The sizes were checked, or are the
// worker's own.
func (w *Workers) publish() {
	beside := w.accompanied()
	for _, one := range w.all {
		t := w.retiredTable(one)
		if !one.retired {
			t = w.table(beside)
		}
		if err := one.publish(t); err != nil {
			w.cfg.Log.Error("a worker cannot be given its table", "pid", one.pid, "error", err)
		}
	}
}

// table is what the active worker gets. Beside a retired one it shares every
// bucket: what it does not know may be a flow of the other.
func (w *Workers) table(beside bool) *page.Table {
	t := &page.Table{Generation: w.ownership.Generation, Elsewhere: w.ownership.Elsewhere || w.otherPorts()}
	row := func(i int, r *node.Rows, mappings []page.Mapping) page.Row {
		out := page.Row{Accept: page.Bitmap(r.Accept), Grace: page.Bitmap(r.Grace), Shared: page.Bitmap(r.Shared), Draining: page.Bitmap(r.Draining)}
		if beside {
			out.Shared = every()
		}
		if i < len(mappings) {
			out.Mapping = mappings[i]
		}
		return out
	}
	for i := range w.ownership.VIPs {
		t.VIPs = append(t.VIPs, row(i, &w.ownership.VIPs[i], w.mappings.VIPs))
	}
	for i := range w.ownership.Services {
		t.Services = append(t.Services, row(i, &w.ownership.Services[i], w.mappings.Services))
	}
	return t
}

// retiredTable is what a retired worker gets: it owns nothing, and is a drainer of
// everything. Its flows have the buckets of the present mapping (OWNERSHIP.md R3).
func (w *Workers) retiredTable(one *worker) *page.Table {
	t := &page.Table{Generation: w.ownership.Generation, VIPs: make([]page.Row, one.vips)}
	for range one.services {
		t.Services = append(t.Services, page.Row{Draining: every()})
	}
	places, _ := placesIn(&w.cfg.Settings, &one.runs)
	for i, at := range places {
		if at >= 0 && at < len(t.Services) && i < len(w.mappings.Services) {
			t.Services[at].Mapping = w.mappings.Services[i]
		}
	}
	return t
}

func every() page.Bitmap {
	const all = ^uint64(0)
	return page.Bitmap{all, all, all, all}
}

// SetLease puts a path's lease in force under the ownership that was last
// published; the paths are the distinct cluster MACs, in the order of the
// configuration. An end that has passed is none.
func (w *Workers) SetLease(path int, begin, end time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if path < 0 || path >= w.paths {
		return
	}
	w.leases[path] = page.Lease{Begin: begin, End: end}
	for _, one := range w.all {
		one.page.SetLease(path, begin, end)
	}
}

// Paths is the number of paths.
func (w *Workers) Paths() int { return w.paths }

// Reports are what workers do by themselves. Beyond maxReports they are lost,
// and Status tells all that they would have told.
func (w *Workers) Reports() <-chan Report { return w.reports }

func (w *Workers) report(r Report) {
	select {
	case w.reports <- r:
	default:
		w.mu.Lock()
		w.lost++
		w.mu.Unlock()
	}
}

// ReportsLost is how many reports found no room.
func (w *Workers) ReportsLost() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

// WrittenBack is the generation that every living worker has in force, frames
// under older ones sent. A worker that has ended answers nothing more, so that
// without any it is the last published.
func (w *Workers) WrittenBack() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	back := w.ownership.Generation
	for _, one := range w.all {
		// One that could not take the page has no lease.
		if !one.unusable {
			back = min(back, one.page.WrittenBack())
		}
	}
	return back
}

// Beat is how long ago the active worker last ended a turn. It is longer than any
// TTL without one, and beside a worker that does not follow: that one may stand
// still between a decision and its answer, which its guard in the kernel keeps
// from leaving, and ours with it (OWNERSHIP.md R10, R17).
func (w *Workers) Beat() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.missed) > 0 {
		return node.Forever
	}
	one := w.active()
	if one == nil {
		one = w.retiring
	}
	if one == nil {
		return node.Forever
	}
	return w.cfg.Clock() - one.page.WorkerBeat()
}

// active is the worker that takes what is new, nil when there is none. It is for
// callers that hold the lock: a worker's page goes once it is forgotten.
func (w *Workers) active() *worker {
	for _, one := range w.all {
		if !one.retired {
			return one
		}
	}
	return nil
}

// Frames is how many frames the active worker has met that no node of the
// cluster has sent.
func (w *Workers) Frames() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if one := w.active(); one != nil {
		return one.page.Frames()
	}
	return 0
}

// Unsent is how often a client has acknowledged what the active worker never
// sent, in a bucket of its own (OWNERSHIP.md R22).
func (w *Workers) Unsent() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if one := w.active(); one != nil {
		return one.page.Unsent()
	}
	return 0
}

// Survived reports whether workers of an earlier control process were alive when
// this one began, and may hold flows. That is what a control process declares
// when it joins again (OWNERSHIP.md R18).
func (w *Workers) Survived() bool { return w.survivors > 0 }

// Flows is how many flows the workers hold.
func (w *Workers) Flows() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.all {
		n += one.page.Flows()
	}
	return n
}
