package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of a round.
const (
	// recoverLimit is how long all may take to be well again after a fault: a
	// client that retransmits waits up to as long as the fault lasted.
	recoverLimit = 25 * time.Second
	// settleEvery so many rounds it is waited until nothing moves. A node that
	// has come back takes ten seconds to get its share.
	settleEvery = 10
	// longestPatience is how long it is waited for a machine that stands still.
	longestPatience = 10 * time.Minute
	// restlessSettle is how long it is waited for a calm that may not come.
	restlessSettle = 20 * time.Second
	// stillPatience is how long it is waited for flows then: their timers grow.
	stillPatience = 3 * time.Minute
	// recoverStep is how often it is looked.
	recoverStep = 20 * time.Millisecond
)

// trial is a round that is being done.
type trial struct {
	Round
	began, undone time.Time
	// owners are who served each address before, exactly so when nothing moved,
	// and after who does then.
	owners, after map[netip.Addr]string
	settled       bool
	flows         []*liveFlow
}

// doRound does something to the cluster, undoes it, and checks who noticed.
func (t *torture) doRound(ctx context.Context, r Round) error {
	if r.harmless() || t.round%settleEvery == 1 {
		if err := t.settle(ctx); err != nil {
			return err
		}
	}
	tr := &trial{Round: r, owners: t.look(), settled: t.settled && !t.restless, flows: t.flows.living()}
	// What came before is not of this round.
	t.judgeCalm(t.newcomers.take())
	if !r.harmless() {
		t.settled = false
		if err := t.sniffer.Tell((*Judge).Moving); err != nil {
			return err
		}
	}
	tr.began = time.Now()
	undo, err := t.inflict(r)
	if err != nil {
		return err
	}
	err = sleep(ctx, r.For)
	if err = errors.Join(err, undo()); err != nil {
		return err
	}
	tr.undone = time.Now()
	if err := t.recovered(ctx, tr); err != nil {
		return err
	}
	if err := t.agreed(ctx, owned, "every bucket has an owner"); err != nil {
		return err
	}
	if r.Kind == TortureBackend {
		if err := t.serving(true); err != nil {
			return err
		}
	}
	tr.after = t.look()
	broken := t.result.Broken
	t.judgeRound(tr)
	t.last = tr
	if t.result.Broken > broken {
		t.tellStrays(ctx)
	}
	return t.replenish(ctx)
}

// tellStrays tells, after a breach, what the nodes have done with segments of
// flows that they do not hold, for that is where most faults show.
func (t *torture) tellStrays(ctx context.Context) {
	for _, d := range t.Daemons {
		all, err := d.verdicts(ctx)
		if err != nil {
			t.n.say("%v", err)
			continue
		}
		var counts []string
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if all[name] > 0 && (strings.HasPrefix(name, "stray-") || name == "reset-limited" || name == "unearned-reset") {
				counts = append(counts, fmt.Sprintf("%s %d", name, all[name]))
			}
		}
		t.n.say("strays at %s: %s", d.Host.Name, strings.Join(counts, ", "))
	}
}

// agreed waits until the nodes are as wanted; that they are not in time is a
// breach.
func (t *torture) agreed(ctx context.Context, want func([]nodeView) bool, what string) error {
	for began := time.Now(); ; {
		err := t.untilAllSay(ctx, want, what)
		if err != nil && t.stoodStill(began) && time.Since(began) < longestPatience && ctx.Err() == nil {
			continue
		}
		if err != nil {
			t.breach("%v", err)
		}
		return ctx.Err()
	}
}

// settle waits until all nodes have their shares and nothing moves any more, and
// asks for the VIP then.
func (t *torture) settle(ctx context.Context) error {
	if t.settled {
		return nil
	}
	if t.restless {
		// It may never come to that.
		if err := t.untilAllSayWithin(ctx, restlessSettle, shared, "all have equal shares"); err != nil {
			return ctx.Err()
		}
	} else {
		if err := t.agreed(ctx, shared, "all have equal shares"); err != nil {
			return err
		}
		if err := t.sniffer.Tell((*Judge).Settled); err != nil {
			return err
		}
	}
	t.calmFrom = time.Now()
	t.judgeCalm(t.newcomers.take())
	t.settled = true
	return t.askEverybody()
}

// replenish opens as many flows as are missing.
func (t *torture) replenish(ctx context.Context) error {
	began := time.Now()
	if err := t.flows.replenish(ctx); err != nil && ctx.Err() == nil && !t.stoodStill(began) {
		t.breach("in a calm: %v", err)
	}
	return ctx.Err()
}

// harmless rounds move nothing.
func (r *Round) harmless() bool { return r.Kind == TortureStall && r.For <= harmlessStall }

// inflict begins a fault, tells the judge, and tells how to end it.
func (t *torture) inflict(r Round) (undo func() error, err error) {
	switch r.Kind {
	case TortureOff:
		return t.allOff(r)
	case TortureSplit:
		return t.split(r)
	case TortureFlood:
		return t.flood()
	}
	d, err := t.Daemon(r.Node)
	if err != nil {
		return nil, err
	}
	if order := t.orders()[r.Kind]; order != nil {
		return order(r, d)
	}
	begin, end := map[TortureKind]func() error{
		TortureKill: d.Kill, TortureControl: d.KillControl, TortureStall: d.Stall,
		TortureDeafen: func() error { return t.LAN.Deafen(d.Host, true) },
		TortureMute:   func() error { return t.LAN.Mute(d.Host, true) },
	}[r.Kind], map[TortureKind]func() error{
		TortureKill: d.launch, TortureControl: d.launch, TortureStall: d.Resume,
		TortureDeafen: func() error { return t.LAN.Deafen(d.Host, false) },
		TortureMute:   func() error { return t.LAN.Mute(d.Host, false) },
	}[r.Kind]
	gone, back := (*Judge).Cut, (*Judge).Whole
	if r.kills(r.Node) {
		gone, back = (*Judge).Dead, (*Judge).Alive
	}
	if err := errors.Join(begin(), t.fates(gone, r.Node)); err != nil {
		return nil, err
	}
	return func() error { return errors.Join(t.fates(back, r.Node), end()) }, nil
}

// fates tells the judge one fate of some nodes.
func (t *torture) fates(fate func(*Judge, string, time.Duration), nodes ...string) error {
	return t.sniffer.Tell(func(j *Judge, now time.Duration) {
		for _, n := range nodes {
			fate(j, n, now)
		}
	})
}

func (t *torture) allOff(r Round) (func() error, error) {
	gone, back := (*Judge).Dead, (*Judge).Alive
	if r.Direct {
		gone, back = (*Judge).Cut, (*Judge).Whole
	}
	var all []string
	for _, d := range t.Daemons {
		all = append(all, d.Host.Name)
	}
	if err := errors.Join(t.atOnce((*Daemon).Kill), t.fates(gone, all...)); err != nil {
		return nil, err
	}
	return func() error { return errors.Join(t.fates(back, all...), t.atOnce((*Daemon).launch)) }, nil
}

func (t *torture) split(r Round) (func() error, error) {
	var sides [][]*Host
	for i, names := range r.Sides {
		var hosts []*Host
		for _, name := range names {
			h, _ := t.LAN.Host(name)
			hosts = append(hosts, h)
		}
		if r.Clients == clientsFirst && i == 0 || r.Clients == clientsSecond && i == 1 {
			hosts = append(hosts, t.LAN.Clients()...)
		}
		sides = append(sides, hosts)
	}
	if err := errors.Join(t.LAN.Split(sides), t.fates((*Judge).Cut, r.Sides[1]...)); err != nil {
		return nil, err
	}
	return func() error { return errors.Join(t.LAN.Join(), t.fates((*Judge).Whole, r.Sides[1]...)) }, nil
}

// recovered waits until every flow is known to live or to have ended, and every
// newcomer of the fault is served. What has not come by the limit is told by
// judgeRound.
func (t *torture) recovered(ctx context.Context, tr *trial) error {
	limit := recoverLimit
	if cookies := cookieMemory - time.Since(t.flooded); cookies > 0 && !t.restless {
		// The segment that has an answer may come as late again: its timer doubles.
		limit += 2 * cookies
	}
	for began := time.Now(); time.Since(began) < limit || time.Since(began) < stillPatience && t.stoodStill(began); {
		open := slices.ContainsFunc(tr.flows, func(f *liveFlow) bool {
			heard, _, ended := f.state()
			return ended == nil && (tr.ends(f) || !heard.After(tr.undone))
		})
		if !open && t.newcomers.waiting(tr.undone) == 0 {
			return nil
		}
		if err := sleep(ctx, recoverStep); err != nil {
			return err
		}
	}
	return nil
}

// askEverybody asks for the VIP, and pings it, from every address of the next
// client in turn. In a calm each gets exactly one answer.
func (t *torture) askEverybody() error {
	clients := t.LAN.Clients()
	h := clients[t.round%len(clients)]
	for name, probe := range map[string]func(*Host) (Answers, error){"ARP request": ProbeARP, "ping": ProbeEcho, "datagram to a closed port": ProbeClosedPort} {
		asked := time.Now()
		answers, err := probe(h)
		if err != nil {
			return err
		}
		t.judgeAnswers(name, asked, answers)
	}
	return nil
}

// everyone are all clients: each address, and with IPv6 the one beside every third.
func (t *torture) everyone() []from {
	const ofSoMany = 3
	four := t.addresses()
	all := four
	for i, f := range four {
		if t.o.Spec.IPv6 && i%ofSoMany == 0 {
			all = append(all, from{f.host, beside(f.addr)})
		}
	}
	return all
}

// look finds out who serves each address.
func (t *torture) look() map[netip.Addr]string {
	var mu sync.Mutex
	var wg sync.WaitGroup
	out := map[netip.Addr]string{}
	slots := make(chan struct{}, loginsAtOnce)
	for _, f := range t.everyone() {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			node, began := "", time.Now()
			conn, err := dialVIP(f, beatPort, newcomerPatience)
			if err == nil {
				node, err = hearName(conn)
				conn.Close()
			}
			mu.Lock()
			defer mu.Unlock()
			if out[f.addr] = node; err != nil && !(late(err) && t.stoodStill(began)) {
				t.breach("in a calm, %s was not served: %v", f.addr, err)
			}
		})
	}
	wg.Wait()
	return out
}
