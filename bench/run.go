package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"time"
)

// Options say what to measure.
type Options struct {
	Rounds int
	// Seconds of each measurement.
	Seconds int
	// Only are names of rows, and Peers of paths.
	Only, Peers []string
	// MACMode is the mac_mode of ours, "" for the default.
	MACMode string
}

// Modes of our cluster MAC. igmp is multicast, as a switch without snooping has it.
const (
	MulticastMode = "multicast"
	UnicastMode   = "unicast"
)

// Bounds of a run.
const (
	MaxRounds  = 100
	MaxSeconds = 60
)

// What a run does when nothing is said, and a quick one.
const (
	DefaultRounds  = 5
	DefaultSeconds = 3
	QuickRounds    = 2
	QuickSeconds   = 2
)

// SetDefaults fills in what was left open.
func (o *Options) SetDefaults(quick bool) {
	rounds, secs, only := DefaultRounds, DefaultSeconds, TestNames()
	if quick {
		rounds, secs, only = QuickRounds, QuickSeconds, quickTests()
	}
	if o.Rounds == 0 {
		o.Rounds = rounds
	}
	if o.Seconds == 0 {
		o.Seconds = secs
	}
	if len(o.Only) == 0 {
		o.Only = only
	}
	if len(o.Peers) == 0 {
		o.Peers = PathNames()
	}
}

// Check refuses what cannot be done.
func (o *Options) Check() error {
	if o.Rounds < 1 || o.Rounds > MaxRounds {
		return fmt.Errorf("--rounds is %d; write 1 to %d", o.Rounds, MaxRounds)
	}
	if o.Seconds < 1 || o.Seconds > MaxSeconds {
		return fmt.Errorf("--seconds is %d; write 1 to %d", o.Seconds, MaxSeconds)
	}
	if !slices.Contains([]string{"", MulticastMode, UnicastMode}, o.MACMode) {
		return fmt.Errorf("--mac-mode is %q; write %s or %s", o.MACMode, MulticastMode, UnicastMode)
	}
	if _, err := chooseTests(o.Only); err != nil {
		return err
	}
	if _, err := choosePaths(o.Peers); err != nil {
		return err
	}
	return errors.Join(eachOnce(o.Only), eachOnce(o.Peers))
}

func eachOnce(names []string) error {
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("%s is named twice", name)
		}
	}
	return nil
}

// choosePaths are those that were asked for.
func choosePaths(names []string) (out []*path, err error) {
	for _, name := range names {
		p, err := newPath(name)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// run is one run of the harness.
type run struct {
	o      Options
	paths  []*path
	tests  []test
	beds   map[int]*bed
	report *Report
	tell   *progress
}

// Run measures, inside the namespaces that lab.Enter makes. Progress is told on
// told. When ctx ends the report has what was measured until then.
func Run(ctx context.Context, told io.Writer, o Options) (_ *Report, err error) {
	r := &run{o: o, beds: map[int]*bed{}}
	if err := r.choose(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(runDir(), 0o755); err != nil {
		return nil, err
	}
	allowFiles()
	r.tell = newProgress(told, len(r.paths)*len(r.tests)*o.Rounds)
	defer func() {
		for _, b := range r.beds {
			err = errors.Join(err, b.close())
		}
	}()
	for _, t := range r.tests {
		if r.beds[t.nodes] != nil {
			continue
		}
		b, err := newBed(t.nodes, r.o.MACMode)
		if err != nil {
			return nil, err
		}
		r.beds[t.nodes] = b
		err = b.node.Do(func() (err error) { r.report.Environment.CongestionControl, err = congestionControl(); return err })
		if err != nil {
			return nil, err
		}
	}
	// The beds are quiet when their interfaces have come up.
	if r.report.Environment.BusyPercent, err = busyPercent(ctx); err != nil && ctx.Err() == nil {
		return nil, err
	}
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	r.rounds(ctx)
	r.report.Seconds = time.Since(r.report.Began).Seconds()
	r.report.Interrupted = ctx.Err() != nil
	r.tell.end()
	return r.report, nil
}

// choose looks what can be measured and prepares the report.
func (r *run) choose() error {
	paths, err := choosePaths(r.o.Peers)
	if err != nil {
		return err
	}
	tests, err := chooseTests(r.o.Only)
	if err != nil {
		return err
	}
	if missing := missingOf([]string{"nginx"}); missing != "" {
		return fmt.Errorf("%s, which is the service behind every path; install it with `make bench-deps`", missing)
	}
	r.report = &Report{Began: time.Now().UTC().Truncate(time.Second), Rounds: r.o.Rounds, SecondsEach: float64(r.o.Seconds), MACMode: r.o.MACMode, Environment: environment()}
	r.version("nginx")
	for _, p := range paths {
		info := PathInfo{Name: p.Name, Title: p.Title, Missing: missingOf(p.needs)}
		if info.Missing == "" {
			r.paths = append(r.paths, p)
			if len(p.needs) > 0 {
				info.Version = r.version(p.needs[0])
			}
		}
		r.report.Paths = append(r.report.Paths, info)
	}
	for _, t := range tests {
		missing := missingOf(t.needs)
		for _, f := range t.Rows {
			r.report.Rows = append(r.report.Rows, Row{figure: f, Test: t.Name, Cells: map[string]*Cell{}, Missing: missing})
		}
		if missing != "" {
			continue
		}
		for _, tool := range t.needs {
			r.version(tool)
		}
		r.tests = append(r.tests, t)
	}
	return nil
}

// prepare finds out what tests need to know before their first round.
func (r *run) prepare(ctx context.Context) error {
	for _, t := range r.tests {
		if t.prepare == nil {
			continue
		}
		if err := t.prepare(ctx, r.beds[t.nodes], r.report); err != nil && ctx.Err() == nil {
			return fmt.Errorf("prepare %s: %w", t.Name, err)
		}
	}
	return nil
}

// version notes a program's version.
func (r *run) version(program string) string {
	tools := r.report.Environment.Tools
	if tools[program] == "" {
		tools[program] = versionOf(program)
	}
	return tools[program]
}

// missingOf says which program is not there, "" when all are.
func missingOf(programs []string) string {
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			return name + " is not installed"
		}
	}
	return ""
}

// rounds measures everything, round by round.
func (r *run) rounds(ctx context.Context) {
	for round := range r.o.Rounds {
		for i, t := range r.tests {
			for _, j := range turns(len(r.paths), round, i) {
				p := r.paths[j]
				if ctx.Err() != nil {
					return
				}
				r.tell.step(round+1, r.o.Rounds, t.Name, p.Title)
				r.measure(ctx, round+1, t, p)
			}
		}
	}
}

// turns is the order of n paths in a round of a test. Who begins changes from
// round to round, and from test to test.
func turns(n, round, test int) (order []int) {
	for i := range n {
		order = append(order, (i+round+test)%n)
	}
	return order
}

// errNotSupported is for what a path cannot do.
var errNotSupported = errors.New("not supported")

// measure is one path's turn in a test.
func (r *run) measure(ctx context.Context, round int, t test, p *path) {
	if t.about != nil && !t.about(p.Name) {
		return
	}
	cells := make([]*Cell, len(t.Rows))
	for i, f := range t.Rows {
		row := r.report.Row(f.Name)
		if row.Cells[p.Name] == nil {
			row.Cells[p.Name] = &Cell{}
		}
		cells[i] = row.Cells[p.Name]
	}
	samples, err := r.turn(ctx, t, p)
	if ctx.Err() != nil {
		// What was cut short is neither a sample nor a failure.
		return
	}
	for i, c := range cells {
		if errors.Is(err, errNotSupported) {
			c.NotSupported = true
			continue
		}
		if err != nil {
			c.Failed = append(c.Failed, fmt.Sprintf("round %d: %v", round, err))
			continue
		}
		c.add(samples[i])
	}
	if err != nil && !errors.Is(err, errNotSupported) {
		r.tell.failed(t.Name, p.Title, err)
	}
}

// turn is one measurement of a path.
func (r *run) turn(ctx context.Context, t test, p *path) ([]float64, error) {
	b := r.beds[t.nodes]
	samples, err := p.while(ctx, b, func() ([]float64, error) {
		return t.run(ctx, b, p, time.Duration(r.o.Seconds)*time.Second)
	})
	if err == nil && len(samples) != len(t.Rows) {
		err = fmt.Errorf("%d samples for %d rows", len(samples), len(t.Rows))
	}
	return samples, err
}
