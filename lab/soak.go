package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// SoakOptions say how a soak runs.
type SoakOptions struct {
	Spec Spec
	For  time.Duration
	// Seed chooses the faults, their nodes and their times.
	Seed uint64
	// Rate is how many connections are made in a second.
	Rate int
	// SSH and TCP are how many flows of each kind live all the time.
	SSH, TCP int
	// Evidence is the directory that is made at a breach.
	Evidence string
	// Report, when not empty, is a file for the result as JSON.
	Report string
	JSON   bool
	Colour bool
}

// Bounds of a soak.
const (
	MaxSoakRate = 2000
	// MaxSoakNewcomers connect at a time: while nobody is served, they wait.
	MaxSoakNewcomers = 8192
	// MaxSoakFor is a week.
	MaxSoakFor = 7 * 24 * time.Hour
)

// The loads of a soak beside live flows.
const (
	// soakTurn is how often newcomers come, as many as make the rate.
	soakTurn = 20 * time.Millisecond
	// pageBytes is what most of them say at most, as requests and pages on the web,
	// and one of bulkOf so much as bulkBytes.
	pageBytes = 16 << 10
	bulkBytes = 1 << 20
	bulkOf    = 200
	// askEvery is how often a name is asked for.
	askEvery = 50 * time.Millisecond
	// endedSSH and endedTCP flows that are the oldest end in a calm by themselves.
	endedSSH, endedTCP = 2, 8
	// sampleEvery is how often the memory is looked at, in calms.
	sampleEvery = 5 * time.Second
)

// What a soak allows: its daemons' descriptors, goroutines and heap after
// collection are within tolerance of what they were, restTime after the last
// connection. TIME-WAIT on loopback lasts 60 s.
const (
	soakTolerance = 0.05
	restTime      = 70 * time.Second
	// heapSlackBytes is what the heap may differ beside that: a few of the
	// runtime's own spans, which matter only because the heap is small.
	heapSlackBytes = 256 << 10
)

// longSoak is from how long on a soak begins with a flood, whose room tables keep: it is no
// growth of what comes after it.
const longSoak = 10 * time.Minute

// tellEvery is how often a soak tells how far it is.
const tellEvery = 10 * time.Second

// soakCounts are the rounds of each kind in a part of a soak.
func soakCounts() TortureCounts {
	return TortureCounts{TortureKill: 4, TortureControl: 2, TortureStall: 4, TortureDeafen: 2, TortureMute: 2, TortureSplit: 3,
		TortureStop: 2, TortureDrain: 2, TortureWeight: 3, TortureUpgrade: 2, TortureBackend: 2, TortureFlood: 1}
}

// spared nodes live through all of a soak, so that their memory can be looked at.
const spared = 1

// Check refuses what cannot be done.
func (o *SoakOptions) Check() error {
	t := o.torture()
	if err := t.Check(); err != nil {
		return err
	}
	if o.Rate < 1 || o.Rate > MaxSoakRate {
		return fmt.Errorf("--rate is %d; write 1 to %d connections a second", o.Rate, MaxSoakRate)
	}
	if o.For <= 0 || o.For > MaxSoakFor {
		return fmt.Errorf("--for is %s; write a time, as 8h, up to %s", o.For, MaxSoakFor)
	}
	return nil
}

// torture is what a soak has in common with one.
func (o *SoakOptions) torture() TortureOptions {
	return TortureOptions{Spec: o.Spec, Seed: o.Seed, SSH: o.SSH, TCP: o.TCP, Colour: o.Colour}
}

// soak is a torture without an end, with more clients.
type soak struct {
	*torture
	o       SoakOptions
	asks    *nameAsks
	began   time.Time
	logs    loadLogs
	heap    []HeapSample
	sampled time.Time
	result  *SoakResult
}

// RunSoak puts all loads on a cluster and lets faults come by chance, until the time
// is over or something breaks that must hold. Then it writes what led to it. It
// runs inside the namespaces that Enter makes.
func RunSoak(ctx context.Context, out io.Writer, o SoakOptions) (err error) {
	o.Spec.Beat, o.Spec.Names, o.Spec.IPv6 = true, true, true
	if err := o.Check(); err != nil {
		return err
	}
	if err := allowFiles(o.SSH + o.TCP + MaxSoakNewcomers); err != nil {
		return err
	}
	story := out
	if o.JSON {
		story = io.Discard
	}
	n := newNarrator(story, o.Colour)
	n.title("A soak of %s, %d nodes on a %s, %d connections a second, seed %d", o.For, o.Spec.Nodes, o.Spec.LAN, o.Rate, o.Seed)
	w, err := newWatched(DemoOptions{Spec: o.Spec}, n, &hostSettings{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	t := o.torture()
	s := &soak{torture: &torture{watched: w, n: n, o: t, result: newTortureResult(&t), told: time.Now(), orphaned: map[string]time.Time{}, restless: true}, o: o}
	if err := errors.Join(w.sniffer.Remember(), w.sniffer.Tell((*Judge).Moving)); err != nil {
		return err
	}
	if err := s.run(ctx); err != nil {
		return errors.Join(err, s.evidence())
	}
	return s.report(out)
}

// run begins the loads, has faults until the time is over or a breach, and rests.
// The error is of what keeps it from going on; breaches are in the result.
func (s *soak) run(ctx context.Context) (err error) {
	s.bystander, s.heartbeat = newBystander(false), newBystander(true)
	defer s.bystander.close()
	defer s.heartbeat.close()
	s.flows = newLiveFlows(s.SSH, s.everyone(), s.o.SSH, s.o.TCP)
	defer s.flows.close()
	s.result = &SoakResult{Seed: s.o.Seed, Spared: s.Daemons[0].Host.Name}
	if err := s.replenish(ctx); err != nil {
		return err
	}
	if s.o.For >= longSoak {
		if err := s.firstFlood(ctx); err != nil {
			return err
		}
	}
	if s.result.Before, err = s.usage(ctx, s.Daemons[0]); err != nil {
		return err
	}
	if s.logs, err = openLogs(s.Daemons); err != nil {
		return err
	}
	s.newcomers = s.newSoakNewcomers()
	s.asks = newNameAsks(s.everyone(), askEvery)
	s.began = time.Now()
	err = s.rounds(ctx)
	s.result.Seconds = time.Since(s.began).Seconds()
	s.newcomers.close()
	s.asks.close()
	if ctx.Err() == nil {
		// Else there was no calm: a round was under way.
		s.torture.judgeCalm(s.newcomers.take())
	}
	s.flows.close()
	return errors.Join(err, s.end(ctx))
}

// firstFlood is a flood before anything is measured, and the time until its half-open
// connections are given up.
func (s *soak) firstFlood(ctx context.Context) error {
	s.n.say("a first flood of SYNs")
	undo, err := s.flood()
	if err != nil {
		return err
	}
	err = sleep(ctx, longestFlood)
	if err = errors.Join(err, undo()); err != nil {
		return err
	}
	return s.rest(ctx, s.n, cookieMemory)
}

// newSoakNewcomers begins the connections: pages mostly, and bulk.
func (s *soak) newSoakNewcomers() *newcomers {
	n := &newcomers{addresses: s.everyone(), every: soakTurn, most: MaxSoakNewcomers, pattern: newPattern(), says: soakBytes}
	n.atOnce = max(1, int(int64(s.o.Rate)*int64(soakTurn)/int64(time.Second)))
	n.every = time.Duration(n.atOnce) * time.Second / time.Duration(s.o.Rate)
	n.start()
	return n
}

// soakBytes is what the newcomer of a turn says.
func soakBytes(turn int) int {
	if turn%bulkOf == 0 {
		return bulkBytes
	}
	// Small ones are many, as on the web.
	return pageBytes >> (turn % 8) * (1 + turn%3) / 3
}

// rounds has faults, one after the other.
func (s *soak) rounds(ctx context.Context) error {
	var names []string
	for _, h := range s.LAN.Nodes() {
		names = append(names, h.Name)
	}
	rng := rand.New(rand.NewPCG(s.o.Seed, 0))
	for {
		for _, r := range planTorture(rng, names, soakCounts(), spared) {
			r.Direct = s.LAN.Spec.Path == pathDirect
			s.round++
			s.tell(r)
			if err := s.doRound(ctx, r); err != nil && ctx.Err() == nil {
				return fmt.Errorf("round %d, %s: %w", s.round, r, err)
			}
			if ctx.Err() != nil {
				s.n.say("interrupted: what follows is of the time until now")
				return nil
			}
			if held, err := s.look(ctx); err != nil || !held || time.Since(s.began) >= s.o.For {
				return err
			}
		}
	}
}

// look looks whether all still holds, and now and then at the memory.
func (s *soak) look(ctx context.Context) (held bool, err error) {
	for _, text := range s.asks.take() {
		s.breach("%s", text)
	}
	if err := s.forgive(); err != nil {
		return false, err
	}
	v, err := s.sniffer.Verdict()
	if err != nil || !v.Held() || s.torture.result.Broken > 0 {
		return false, err
	}
	// A flood's half-open connections take megabytes until they are given up.
	if time.Since(s.sampled) >= sampleEvery && time.Since(s.flooded) >= cookieMemory {
		s.sampled = time.Now()
		u, err := s.usage(ctx, s.Daemons[0])
		if err != nil {
			return false, err
		}
		s.heap = append(s.heap, HeapSample{time.Since(s.began), u.HeapBytes})
	}
	s.flows.endOldest(true, endedSSH)
	s.flows.endOldest(false, endedTCP)
	return true, s.replenish(ctx)
}

// tell tells how far it is: on a terminal always, else now and then.
func (s *soak) tell(r Round) {
	connections, _, _ := s.newcomers.sums()
	text := fmt.Sprintf("%s of %s: round %d, %s; %d connections, %s", time.Since(s.began).Round(time.Second), s.o.For, s.round, r, connections, breaches(s.torture.result.Broken))
	s.n.progress("%s", text)
	if !s.n.live && (time.Since(s.told) >= tellEvery || s.round == 1) {
		s.told = time.Now()
		s.n.say("%s", text)
	}
}

// end takes the results together; when all held, after a rest, that nothing is left.
func (s *soak) end(ctx context.Context) (err error) {
	s.fill()
	if err := s.forgive(); err != nil {
		return err
	}
	if s.result.Verdict, err = s.sniffer.Verdict(); err != nil {
		return err
	}
	if s.torture.result.Broken > 0 || !s.result.Verdict.Held() || ctx.Err() != nil {
		return nil
	}
	if err := s.rest(ctx, s.n, restTime); err != nil {
		return err
	}
	s.result.After, err = s.usage(ctx, s.Daemons[0])
	return err
}

// rest waits until what is left of connections is given up: TIME-WAIT everywhere is over after
// restTime.
func (w *watched) rest(ctx context.Context, n *narrator, long time.Duration) error {
	n.say("resting for %s", long)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for began := time.Now(); ; {
		left := long - time.Since(began)
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
