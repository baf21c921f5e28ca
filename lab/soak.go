package lab

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"
)

// SoakOptions say how a soak runs.
type SoakOptions struct {
	Spec   Spec
	For    time.Duration
	JSON   bool
	Colour bool
}

// What a soak allows: its daemons' descriptors, goroutines and heap after
// collection are within tolerance of what they were, restTime after the last
// login. TIME-WAIT on loopback lasts 60 s.
const (
	soakTolerance = 0.05
	restTime      = 70 * time.Second
	// heapSlackBytes is what the heap may differ beside that: a few of the
	// runtime's own spans, which matter only because the heap is small.
	heapSlackBytes = 256 << 10
)

// tellEvery is how often a soak tells how far it is.
const tellEvery = 10 * time.Second

// Usage is what a daemon, control and workers together, takes of its host.
type Usage struct {
	FDs        int    `json:"fds"`
	Goroutines int    `json:"goroutines"`
	HeapBytes  uint64 `json:"heap_bytes_after_gc"`
}

// SoakResult is what a soak found.
type SoakResult struct {
	Logins  int              `json:"logins"`
	Failed  int              `json:"failed"`
	Seconds float64          `json:"seconds"`
	Before  map[string]Usage `json:"before"`
	After   map[string]Usage `json:"after"`
	Verdict *Verdict         `json:"verdict"`
}

// RunSoak logs in again and again from every address for the time given, rests,
// and compares what the daemons take of their hosts with before.
func RunSoak(ctx context.Context, out io.Writer, o SoakOptions) (err error) {
	story := out
	if o.JSON {
		story = io.Discard
	}
	n := newNarrator(story, o.Colour)
	n.title("Logins for %s on a %s with %d nodes", o.For, o.Spec.LAN, o.Spec.Nodes)
	w, err := newWatched(DemoOptions{Spec: o.Spec}, n, &hostSettings{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	r := &SoakResult{}
	if err := w.soak(ctx, n, o.For, r); err != nil {
		return err
	}
	n.title("What is left of it")
	for _, d := range w.Daemons {
		b, a := r.Before[d.Host.Name], r.After[d.Host.Name]
		n.claim(b.near(a), "%s: descriptors %d to %d, goroutines %d to %d, heap %d to %d KiB", d.Host.Name,
			b.FDs, a.FDs, b.Goroutines, a.Goroutines, b.HeapBytes>>10, a.HeapBytes>>10)
	}
	w.tellVerdict(n)
	if o.JSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return errors.Join(enc.Encode(r), n.err())
	}
	return n.err()
}

// soak runs logins between two measurements.
func (w *watched) soak(ctx context.Context, n *narrator, duration time.Duration, r *SoakResult) (err error) {
	// The first logins make what stays: buffers, tables, the runtime's threads.
	for range 3 {
		if _, err := w.loginAll(ctx, n); err != nil {
			return err
		}
	}
	if err := w.rest(ctx, n); err != nil {
		return err
	}
	if r.Before, err = w.usage(ctx); err != nil {
		return err
	}
	began, told := time.Now(), time.Now()
	for time.Since(began) < duration && ctx.Err() == nil {
		done, err := w.loginAll(ctx, n)
		r.Logins += len(done)
		if err != nil {
			r.Failed += len(w.addresses()) - len(done)
			n.say("%v", err)
		}
		if time.Since(told) > tellEvery {
			told = time.Now()
			n.say("%6s  %d logins", time.Since(began).Round(time.Second), r.Logins)
		}
	}
	r.Seconds = time.Since(began).Seconds()
	n.claim(r.Failed == 0 && r.Logins > 0, "%d logins, %d failed", r.Logins, r.Failed)
	if err := w.rest(ctx, n); err != nil {
		return err
	}
	if r.After, err = w.usage(ctx); err != nil {
		return err
	}
	r.Verdict, err = w.sniffer.Verdict()
	return err
}

// rest waits until TIME-WAIT is over everywhere.
func (w *watched) rest(ctx context.Context, n *narrator) error {
	n.say("resting for %s", restTime)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for began := time.Now(); ; {
		left := restTime - time.Since(began)
		if left <= 0 {
			return nil
		}
		n.progress("%s left", left.Round(time.Second))
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// usage asks every daemon, as a person would.
func (w *watched) usage(ctx context.Context) (map[string]Usage, error) {
	out := map[string]Usage{}
	for _, d := range w.Daemons {
		var s struct {
			Process Usage `json:"process"`
			Workers []struct {
				Process Usage `json:"process"`
			} `json:"workers"`
		}
		if err := d.Ask(ctx, &s, "--gc"); err != nil {
			return nil, err
		}
		all := s.Process
		for _, w := range s.Workers {
			all.FDs += w.Process.FDs
			all.Goroutines += w.Process.Goroutines
			all.HeapBytes += w.Process.HeapBytes
		}
		out[d.Host.Name] = all
	}
	return out, nil
}

// near reports whether two measurements differ by no more than the tolerance.
func (u Usage) near(v Usage) bool {
	within := func(a, b, slack float64) bool { return b <= a*(1+soakTolerance)+slack }
	return within(float64(u.FDs), float64(v.FDs), 0) && within(float64(u.Goroutines), float64(v.Goroutines), 0) &&
		within(float64(u.HeapBytes), float64(v.HeapBytes), heapSlackBytes)
}
