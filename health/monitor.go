package health

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// MaxProbes bounds the probes in flight. A probe that is due while so many are
// under way waits for one of them to end.
const MaxProbes = 16

// MaxTasks bounds the services, agents, hosts and gateway of one Monitor.
const MaxTasks = 1024

// Service is a service of this node and its check.
type Service struct {
	Name  string
	Check Check
}

// Source is where an agent's word comes from: a program that prints it, or a
// file that holds it. One of Program and File is set.
type Source struct {
	Program  string // whole path
	Args     []string
	File     string // whole path
	Interval time.Duration
	Timeout  time.Duration
}

// Uplinks are hosts whose answers to pings make a weight.
type Uplinks struct {
	Hosts             []netip.Addr // IPv4
	Interval, Timeout time.Duration
}

// Gateway is a router without which the node is of no use. Addr is not valid
// when none is watched. Rise, Fall and HoldDown are as in Check.
type Gateway struct {
	Addr              netip.Addr // IPv4
	Interval, Timeout time.Duration
	Rise, Fall        int
	HoldDown          time.Duration
}

// Options are what a Monitor watches and whom it tells.
type Options struct {
	Services []Service
	Agents   []Source
	Uplinks  Uplinks
	Gateway  Gateway

	// OnChange is told of a service, OnGateway of the gateway (Service is its
	// address), each from its first answer on. OnWeight is told of the node's
	// weight when it differs from FullWeight or from what was told last.
	// OnWarning is told once when a source of weight stops to give usable
	// answers, when its last word is given up, and when it is well again. All
	// are called from the monitor's goroutine, one at a time; they must not
	// block and must not call Close. Nil ones are left out.
	OnChange  func(Change)
	OnGateway func(Change)
	OnWeight  func(Weight)
	OnWarning func(string)

	// Now is CLOCK_BOOTTIME since boot when nil.
	Now func() time.Duration
}

// Monitor probes what its options name until Close.
type Monitor struct {
	opts    Options
	tasks   []*task
	weigher *Weigher
	results chan result
	cancel  context.CancelFunc
	ended   chan struct{}
	probes  sync.WaitGroup
	running int

	mu     sync.Mutex
	report []Status // by task
}

// Start checks the options and begins to probe. First probes are spread over
// the first tenth of a second, so that a node has its answers soon.
func Start(opts Options) (*Monitor, error) {
	if opts.Now == nil {
		opts.Now = bootTime
	}
	m := &Monitor{
		opts:    opts,
		weigher: NewWeigher(len(opts.Agents), len(opts.Uplinks.Hosts)),
		results: make(chan result),
		ended:   make(chan struct{}),
	}
	if err := m.plan(opts.Now()); err != nil {
		return nil, fmt.Errorf("health: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go m.run(ctx)
	return m, nil
}

// Close ends all probes, programs with them, and returns when no goroutine is
// left and no callback will come.
func (m *Monitor) Close() {
	m.cancel()
	<-m.ended
}

// run is the monitor's goroutine.
func (m *Monitor) run(ctx context.Context) {
	defer close(m.ended)
	defer m.probes.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(m.launchDue(ctx))
		select {
		case <-ctx.Done():
			return
		case r := <-m.results:
			m.running--
			// A probe that Close cut short says nothing about anybody.
			if ctx.Err() == nil {
				r.task.finish(m.opts.Now(), r.answer)
			}
		case <-timer.C:
		}
	}
}

// launchDue starts the probes that are due, and returns how long it is to the
// next one; a day when only a result can make one due.
func (m *Monitor) launchDue(ctx context.Context) time.Duration {
	const day = 24 * time.Hour
	for m.running < MaxProbes {
		now, next := m.opts.Now(), m.next()
		if next == nil || next.schedule.Next() == Never {
			return day
		}
		if wait := next.schedule.Next() - now; wait > 0 {
			return wait
		}
		next.schedule.Begin(now)
		m.launch(ctx, next)
	}
	return day
}

// next is the task that is due first.
func (m *Monitor) next() *task {
	var first *task
	for _, t := range m.tasks {
		if first == nil || t.schedule.Next() < first.schedule.Next() {
			first = t
		}
	}
	return first
}

// launch runs one probe beside the loop.
func (m *Monitor) launch(ctx context.Context, t *task) {
	m.running++
	m.probes.Add(1)
	go func() {
		defer m.probes.Done()
		a := t.ask(ctx)
		select {
		case m.results <- result{t, a}:
		case <-ctx.Done():
		}
	}()
}

// Report is the state of everything that is watched, for people; the slice is
// the caller's.
func (m *Monitor) Report() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Status(nil), m.report...)
}

func (s *Source) name() string { return s.Program + s.File }

func (s *Source) validate() error {
	if err := validateInterval(s.Interval, s.Timeout); err != nil {
		return fmt.Errorf("agent %s: %w", s.name(), err)
	}
	if (s.Program == "") == (s.File == "") {
		return errors.New("an agent is a program or a file; write one of the two")
	}
	if s.File != "" && !filepath.IsAbs(s.File) {
		return fmt.Errorf("%q is no file for an agent; write its whole path", s.File)
	}
	if s.Program != "" {
		return validateProgram(s.Program, s.Args)
	}
	return nil
}

func bootTime() time.Duration {
	var ts unix.Timespec
	// CLOCK_BOOTTIME exists since Linux 2.6.39; the call has no other failure.
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}
