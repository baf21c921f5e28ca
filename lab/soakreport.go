package lab

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Usage is what a daemon, control and workers together, takes of its host.
type Usage struct {
	FDs        int    `json:"fds"`
	Goroutines int    `json:"goroutines"`
	HeapBytes  uint64 `json:"heap_bytes_after_gc"`
}

// SoakResult is what a soak found.
type SoakResult struct {
	Seed    uint64  `json:"seed"`
	Seconds float64 `json:"seconds"`
	// Connections were begun; Missed ones were left out, because too many waited.
	// BytesMoved went there and came back.
	Connections int    `json:"connections"`
	Missed      int    `json:"missed"`
	BytesMoved  uint64 `json:"bytes_moved"`
	// LiveFlows and Sessions, which are of SSH, were opened, each in a calm.
	LiveFlows int `json:"live_flows"`
	Sessions  int `json:"sessions"`
	// NamesAsked were asked by UDP, and NamesAnswered had one right answer.
	NamesAsked    int `json:"names_asked"`
	NamesAnswered int `json:"names_answered"`
	// Faults are the rounds of each kind, Broken the breaches that clients noticed,
	// and Breaches the first of them.
	Faults        map[TortureKind]*KindResult `json:"faults"`
	Broken        int                         `json:"broken"`
	Breaches      []TortureBreach             `json:"breaches"`
	MachineStalls []MachineStall              `json:"machine_stalls"`
	// GivenUp flows were reset by others after their node had lost its lease for
	// longer than it may, by its own log.
	GivenUp int `json:"given_up"`
	// FloodSYNs were sent in floods, of which AnsweredInKernels were answered before the
	// nodes' processes saw them.
	FloodSYNs         int `json:"flood_syns"`
	AnsweredInKernels int `json:"flood_syns_answered_in_kernels"`
	// Spared is the node that lived through it all. Before is what it took with
	// its live flows, and After at rest.
	Spared  string       `json:"spared"`
	Before  Usage        `json:"before"`
	After   Usage        `json:"after"`
	Heap    []HeapSample `json:"heap"`
	Slope   *HeapSlope   `json:"slope,omitempty"`
	Verdict *Verdict     `json:"verdict"`
}

// sums are how many newcomers have begun, how many were left out, and what was moved.
func (n *newcomers) sums() (begun, missed int, moved uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.begun, n.missed, n.moved
}

// fill takes the result together.
func (s *soak) fill() {
	r, t := s.result, s.torture.result
	t.sum()
	r.Connections, r.Missed, r.BytesMoved = s.newcomers.sums()
	r.NamesAsked, r.NamesAnswered = s.asks.counts()
	r.LiveFlows, r.Sessions = s.flows.opened()
	r.Faults, r.Broken, r.Breaches, r.MachineStalls = t.Kinds, t.Broken, t.Breaches, s.bystander.all()
	r.FloodSYNs, r.AnsweredInKernels = t.FloodSYNs, t.AnsweredInKernels
	r.Heap = s.heap
	if slope, ok := slopeOf(s.heap, time.Duration(r.Seconds*float64(time.Second))); ok {
		r.Slope = &slope
	}
}

// report tells the result and writes it, and what led to a breach.
func (s *soak) report(out io.Writer) error {
	r := s.result
	broken := r.Broken > 0 || !r.Verdict.Held()
	s.torture.result.Seconds, s.torture.result.Verdict = r.Seconds, r.Verdict
	s.torture.result.Opens = s.flows.opens.quantiles()
	s.torture.result.MachineStalls, s.torture.result.HeartbeatStalls = r.MachineStalls, s.heartbeat.all()
	s.torture.result.tell(s.n)
	s.n.title("What was put on it")
	s.n.say("%d connections, %.1f GB, and %d left out while too many waited", r.Connections, float64(r.BytesMoved)/1e9, r.Missed)
	s.n.say("%d live flows and %d sessions of SSH; %d of %d names were told", r.LiveFlows, r.Sessions, r.NamesAnswered, r.NamesAsked)
	s.n.say("%d flows were given up, because the machine had kept their node from its lease", r.GivenUp)
	if r.Slope != nil {
		s.n.claim(!r.Slope.grows(), "the heap of %s grows by %s", r.Spared, r.Slope)
	}
	if !broken && r.After != (Usage{}) {
		b, a := r.Before, r.After
		s.n.claim(b.near(a), "%s: descriptors %d to %d, goroutines %d to %d, heap %d to %d KiB", r.Spared,
			b.FDs, a.FDs, b.Goroutines, a.Goroutines, b.HeapBytes>>10, a.HeapBytes>>10)
	}
	var errs []error
	if broken {
		errs = append(errs, s.evidence())
	}
	if s.o.Report != "" {
		errs = append(errs, r.write(s.o.Report))
		s.n.say("the report is in %s", s.o.Report)
	}
	if s.o.JSON {
		errs = append(errs, writeJSON(out, r))
	}
	return errors.Join(append(errs, s.n.err())...)
}

func (r *SoakResult) write(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(writeJSON(f, r), f.Close())
}

// evidence writes what led to a breach: the last frames, the nodes' logs, and the
// result with the seed.
func (s *soak) evidence() error {
	dir := s.o.Evidence
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "frames.pcap"))
	if err != nil {
		return err
	}
	errs := []error{s.sniffer.WriteRecent(f), f.Close()}
	for _, d := range s.Daemons {
		text, err := os.ReadFile(d.Log())
		errs = append(errs, err, os.WriteFile(filepath.Join(dir, d.Host.Name+".log"), text, 0o644))
	}
	if s.result != nil {
		errs = append(errs, s.result.write(filepath.Join(dir, "result.json")))
	}
	s.n.say("the last frames, the logs and the result are in %s", dir)
	return errors.Join(errs...)
}

// usage asks a daemon, as a person would.
func (w *watched) usage(ctx context.Context, d *Daemon) (Usage, error) {
	var s struct {
		Process Usage `json:"process"`
		Workers []struct {
			Process Usage `json:"process"`
		} `json:"workers"`
	}
	if err := d.Ask(ctx, &s, "--gc"); err != nil {
		return Usage{}, err
	}
	all := s.Process
	for _, w := range s.Workers {
		all.FDs += w.Process.FDs
		all.Goroutines += w.Process.Goroutines
		all.HeapBytes += w.Process.HeapBytes
	}
	return all, nil
}

// near reports whether two measurements differ by no more than the tolerance.
func (u Usage) near(v Usage) bool {
	within := func(a, b, slack float64) bool { return b <= a*(1+soakTolerance)+slack }
	return within(float64(u.FDs), float64(v.FDs), 0) && within(float64(u.Goroutines), float64(v.Goroutines), 0) &&
		within(float64(u.HeapBytes), float64(v.HeapBytes), heapSlackBytes)
}
