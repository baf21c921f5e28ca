package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/cluster"
)

// LoadOptions say how a cluster is loaded.
type LoadOptions struct {
	Spec Spec
	For  time.Duration
	// Flows are open all the time.
	Flows int
	// Report, when not empty, is a file for the result as JSON; with JSON it is
	// also written instead of the story.
	Report string
	JSON   bool
	Colour bool
}

// MaxLoadFlows bounds the flows of a load: what one node may hold, for three of
// four may be gone.
const MaxLoadFlows = 50_000

// Check refuses what cannot be done.
func (o *LoadOptions) Check() error {
	if err := o.Spec.Check(); err != nil {
		return err
	}
	if o.Flows < 1 || o.Flows > MaxLoadFlows {
		return fmt.Errorf("--flows is %d; write 1 to %d", o.Flows, MaxLoadFlows)
	}
	if o.For <= 0 {
		return fmt.Errorf("--for is %s; write a time, as 10m", o.For)
	}
	return nil
}

// load is a cluster with all the traffic that the machine can carry.
type load struct {
	*Lab
	n      *narrator
	o      LoadOptions
	timing cluster.Timing
	flows  *loadFlows
	result *LoadResult
	told   time.Time
}

// RunLoad keeps many flows open through a cluster, moves as much over them as it
// can while new connections come, and checks that no node loses its lease, none
// is evicted and no flow is broken. The error names what did not hold. Nobody
// sniffs: at such rates the sniffer would lose frames, and take their time. It
// runs inside the namespaces that Enter makes.
func RunLoad(ctx context.Context, out io.Writer, o LoadOptions) (err error) {
	o.Spec.Beat = true
	if err := o.Check(); err != nil {
		return err
	}
	story := out
	if o.JSON {
		story = io.Discard
	}
	l := &load{n: newNarrator(story, o.Colour), o: o, result: newLoadResult(&o)}
	l.n.title("Full load on %d nodes on a %s, %s", o.Spec.Nodes, o.Spec.LAN, count(o.Flows, "flow"))
	if l.timing, err = cluster.TimingOf(cluster.LAN); err != nil {
		return err
	}
	if err := allowFiles(o.Flows); err != nil {
		return err
	}
	if l.Lab, err = New(o.Spec, &linePrefix{l.n}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := l.run(ctx); err != nil {
		return err
	}
	return l.report(out)
}

// filesBesides are what a process needs beside one file for each flow.
const filesBesides = MaxNewcomers + 1000

// allowFiles raises the limit of open files of this process and of those that it
// starts: a client, a worker and a service have one for each flow.
func allowFiles(flows int) error {
	need := uint64(flows + filesBesides)
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	if now.Max >= need {
		return nil
	}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: need, Max: need}) == nil {
		return nil
	}
	return fmt.Errorf("%d flows take %d open files in one process, and %d are allowed; raise the limit with `ulimit -Hn %d`, or write --flows=%d",
		flows, need, now.Max, need, max(1, int(now.Max)-filesBesides))
}

// run opens the flows, loads the cluster for the time, and judges.
func (l *load) run(ctx context.Context) error {
	began := time.Now()
	l.flows = newLoadFlows(l.LAN)
	defer l.flows.close()
	if err := l.flows.open(ctx, l.n, l.o.Flows); err != nil {
		return err
	}
	l.result.OpenSeconds = time.Since(began).Seconds()
	l.n.say("%s open after %s", count(l.o.Flows, "flow"), short(time.Since(began)))
	if err := l.untilAllSay(ctx, shared, "all have equal shares"); err != nil {
		return err
	}
	book, err := openLogs(l.Daemons)
	if err != nil {
		return err
	}
	before, err := l.cpu()
	if err != nil {
		return err
	}
	usual, heartbeat := bystanderApart{}, bystanderApart{raised: true}
	if err := errors.Join(usual.start(), heartbeat.start()); err != nil {
		return errors.Join(err, usual.close(), heartbeat.close())
	}
	began = time.Now()
	err = l.work(ctx)
	l.result.Seconds = time.Since(began).Seconds()
	after, errCPU := l.cpu()
	l.result.CPU = after.since(before)
	l.flows.finish()
	l.flows.tally(l.result)
	events, errLogs := book.read()
	if err := errors.Join(err, errCPU, errLogs, usual.close(), heartbeat.close()); err != nil {
		return err
	}
	l.result.MachineStalls, l.result.HeartbeatStalls = usual.seen.all(), heartbeat.seen.all()
	l.result.judge(events, &heartbeat.seen, l.timing)
	return nil
}

// loadNewcomerEvery is how often a client connects anew.
const loadNewcomerEvery = 10 * time.Millisecond

// work keeps the cluster busy.
func (l *load) work(ctx context.Context) error {
	n := newNewcomers(clientAddresses(l.LAN), loadNewcomerEvery)
	l.flows.start()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	began := time.Now()
	l.told = began
	var err error
	for err == nil && time.Since(began) < l.o.For {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			err = ctx.Err()
		}
		l.result.arrived(n.take())
		l.progress(time.Since(began))
	}
	n.close()
	l.result.arrived(n.take())
	l.result.Missed = n.missed
	return err
}

// progress tells how far it is: on a terminal always, else now and then.
func (l *load) progress(since time.Duration) {
	moved, broken := l.flows.soFar()
	text := fmt.Sprintf("%s of %s: %.1f GB moved, %d new connections, %d flows broken",
		since.Round(time.Second), l.o.For, float64(moved)/1e9, l.result.Connections, broken)
	l.n.progress("%s", text)
	if !l.n.live && time.Since(l.told) >= tellEvery {
		l.told = time.Now()
		l.n.say("%s", text)
	}
}

// clientAddresses are all of them, each beside its neighbour of another host.
func clientAddresses(lan *LAN) (out []from) {
	for i := 0; ; i++ {
		before := len(out)
		for _, h := range lan.Clients() {
			if i < len(h.Addrs) {
				out = append(out, from{h, h.Addrs[i]})
			}
		}
		if len(out) == before {
			return out
		}
	}
}

// report tells the result and writes it.
func (l *load) report(out io.Writer) error {
	l.result.tell(l.n)
	var errs []error
	if l.o.Report != "" {
		f, err := os.Create(l.o.Report)
		if err != nil {
			return err
		}
		errs = append(errs, writeJSON(f, l.result), f.Close())
		l.n.say("the report is in %s", l.o.Report)
	}
	if l.o.JSON {
		errs = append(errs, writeJSON(out, l.result))
	}
	return errors.Join(append(errs, l.n.err())...)
}

func writeJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
