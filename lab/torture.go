package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// TortureOptions say how a cluster is tortured.
type TortureOptions struct {
	Spec   Spec
	Counts TortureCounts
	// Rounds, when not 0, ends it after so many.
	Rounds int
	// Seed chooses the rounds, their nodes and their times.
	Seed uint64
	// SSH and TCP are how many flows of each kind live all the time.
	SSH, TCP int
	// Report, when not empty, is a file for the result as JSON.
	Report string
	// Pcap, when not empty, is a file for the headers of all frames.
	Pcap   string
	Colour bool
}

// Bounds of the flows of a torture.
const (
	MaxTortureFlows = 1000
	// toldInRound is how many breaches of a round are told at once.
	toldInRound = 3
	// newcomerEvery is how often a client connects anew.
	newcomerEvery = 50 * time.Millisecond
)

// Check refuses what cannot be done.
func (o *TortureOptions) Check() error {
	if err := o.Spec.Check(); err != nil {
		return err
	}
	if o.Spec.Nodes < votersNeeded {
		return fmt.Errorf("--nodes is %d; a cluster that loses one needs %d or more", o.Spec.Nodes, votersNeeded)
	}
	if all := o.SSH + o.TCP; o.SSH < 0 || o.TCP < 0 || all < 1 || all > MaxTortureFlows {
		return fmt.Errorf("--ssh and --tcp are %d and %d; write 1 to %d flows together", o.SSH, o.TCP, MaxTortureFlows)
	}
	return nil
}

// torture is a cluster that is tortured.
type torture struct {
	*watched
	n         *narrator
	o         TortureOptions
	result    *TortureResult
	flows     *liveFlows
	newcomers *newcomers
	// bystander has the priority of what serves, heartbeat that of heartbeats.
	bystander, heartbeat *bystander
	// settled: every node has its share, so that nothing moves, since calmFrom.
	settled  bool
	calmFrom time.Time
	// last is the round before.
	last *trial
	// restless: the judge is not told of calms, for on a machine that stands still
	// for seconds a lease may be lost in the middle of one.
	restless bool
	// round is the number of the present one, from 1.
	round int
	told  time.Time
	// floods counts those of SYNs, and flooded is when the last one ended.
	floods  int
	flooded time.Time
	// orphaned is when a node was last back from a fault in which its flows may have been
	// given up.
	orphaned map[string]time.Time
	// toldTimes breaches have been told of the round toldOf.
	toldOf, toldTimes int
}

// RunTorture does to a cluster what happens to clusters, under live flows, and
// checks after each round that nobody noticed more than must be. The error
// names what did not hold. It runs inside the namespaces that Enter makes.
func RunTorture(ctx context.Context, out io.Writer, o TortureOptions) (err error) {
	o.Spec.Beat = true
	if err := o.Check(); err != nil {
		return err
	}
	n := newNarrator(out, o.Colour)
	n.title("Torture of %d nodes on a %s, seed %d", o.Spec.Nodes, o.Spec.LAN, o.Seed)
	w, err := newWatched(DemoOptions{Spec: o.Spec, Pcap: o.Pcap}, n, &hostSettings{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	t := &torture{watched: w, n: n, o: o, result: newTortureResult(&o), told: time.Now(), orphaned: map[string]time.Time{}}
	if err := t.run(ctx); err != nil {
		return err
	}
	return t.report()
}

// run does all rounds. The error is of what keeps it from going on; breaches
// are in the result.
func (t *torture) run(ctx context.Context) (err error) {
	rounds := t.plan()
	t.bystander, t.heartbeat = newBystander(false), newBystander(true)
	defer t.bystander.close()
	defer t.heartbeat.close()
	t.flows = newLiveFlows(t.SSH, t.everyone(), t.o.SSH, t.o.TCP)
	defer t.flows.close()
	if err := t.replenish(ctx); err != nil {
		return err
	}
	t.newcomers = newNewcomers(t.everyone(), newcomerEvery)
	defer t.newcomers.close()
	t.n.say("%s, and a new one every %s", count(len(t.flows.living()), "live flow"), newcomerEvery)
	began := time.Now()
	for i, r := range rounds {
		t.round = i + 1
		t.progress(r, len(rounds))
		if err := t.doRound(ctx, r); err != nil {
			return fmt.Errorf("round %d, %s: %w", t.round, r, err)
		}
	}
	if err := t.settle(ctx); err != nil {
		return err
	}
	t.result.Seconds = time.Since(began).Seconds()
	t.result.Opens = t.flows.opens.quantiles()
	t.result.MachineStalls, t.result.HeartbeatStalls = t.bystander.all(), t.heartbeat.all()
	t.result.Verdict, err = t.sniffer.Verdict()
	return err
}

// plan are the rounds.
func (t *torture) plan() []Round {
	var names []string
	for _, h := range t.LAN.Nodes() {
		names = append(names, h.Name)
	}
	rounds := planTorture(rand.New(rand.NewPCG(t.o.Seed, 0)), names, t.o.Counts, 0)
	for i := range rounds {
		rounds[i].Direct = t.o.Spec.Path == pathDirect
	}
	if t.o.Rounds > 0 {
		rounds = rounds[:min(t.o.Rounds, len(rounds))]
	}
	return rounds
}

// progress tells how far it is: on a terminal always, else now and then.
func (t *torture) progress(r Round, all int) {
	text := fmt.Sprintf("%d of %d: %s; %s so far", t.round, all, r, breaches(t.result.Broken))
	t.n.progress("%s", text)
	if !t.n.live && (time.Since(t.told) > tellEvery || t.round == 1) {
		t.told = time.Now()
		t.n.say("%s", text)
	}
}

// breaches is how many there are.
func breaches(n int) string {
	if n == 1 {
		return "1 breach"
	}
	return fmt.Sprintf("%d breaches", n)
}

// breach notes what must not be.
func (t *torture) breach(format string, args ...any) {
	b := TortureBreach{Round: t.round, At: time.Now(), Text: fmt.Sprintf(format, args...)}
	if len(t.result.Breaches) < MaxBreaches {
		t.result.Breaches = append(t.result.Breaches, b)
	}
	t.result.Broken++
	if t.toldOf != t.round {
		t.toldOf, t.toldTimes = t.round, 0
	}
	if t.toldTimes++; t.toldTimes <= toldInRound {
		t.n.say("round %d: %s", t.round, b.Text)
	}
}

// report tells the result and writes it.
func (t *torture) report() error {
	t.result.tell(t.n)
	if t.o.Report != "" {
		if err := t.result.write(t.o.Report); err != nil {
			return err
		}
		t.n.say("the report is in %s", t.o.Report)
	}
	return t.n.err()
}

// sleep waits.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
