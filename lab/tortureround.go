package lab

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Bounds of a round.
const (
	// recoverLimit is how long all may take to be well again after a fault: a
	// client that retransmits waits up to as long as the fault lasted.
	recoverLimit = 25 * time.Second
	// rejoinTime is how long a node that has come back has no rows, and some
	// (OWNERSHIP.md R7).
	rejoinTime = 1500 * time.Millisecond
	// recoverStep is how often it is looked.
	recoverStep = 20 * time.Millisecond
	// lookStep is how often the owners are looked at until they stay.
	lookStep = 300 * time.Millisecond
)

// trial is a round that is being done.
type trial struct {
	Round
	began, undone time.Time
	owners        map[netip.Addr]string
	flows         []*liveFlow
}

// doRound does something to the cluster, undoes it, and checks who noticed.
func (t *torture) doRound(ctx context.Context, r Round) error {
	// What came in the calm before is not of this round.
	t.judgeCalm(t.newcomers.take())
	tr := &trial{Round: r, owners: t.owners, flows: t.flows.living()}
	if !r.harmless() {
		if err := t.tellJudge((*Judge).Moving); err != nil {
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
	if err := t.settle(ctx, tr.undone); err != nil {
		return err
	}
	if !r.harmless() {
		if err := t.tellJudge((*Judge).Settled); err != nil {
			return err
		}
	}
	t.judgeRound(tr)
	return t.flows.replenish(ctx)
}

// harmless rounds move nothing.
func (r *Round) harmless() bool { return r.Kind == TortureStall && r.For <= harmlessStall }

// inflict begins a fault, tells the judge, and tells how to end it.
func (t *torture) inflict(r Round) (undo func() error, err error) {
	switch r.Kind {
	case TortureOff:
		return t.allOff()
	case TortureSplit:
		return t.split(r)
	}
	d, err := t.Daemon(r.Node)
	if err != nil {
		return nil, err
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
	if r.Kind == TortureKill {
		gone, back = (*Judge).Dead, (*Judge).Alive
	}
	if err := errors.Join(begin(), t.fates(gone, r.Node)); err != nil {
		return nil, err
	}
	return func() error { return errors.Join(t.fates(back, r.Node), end()) }, nil
}

// fates tells the judge one fate of some nodes.
func (t *torture) fates(fate func(*Judge, string, time.Duration), nodes ...string) error {
	return t.tellJudge(func(j *Judge, now time.Duration) {
		for _, n := range nodes {
			fate(j, n, now)
		}
	})
}

func (t *torture) allOff() (func() error, error) {
	var all []string
	for _, d := range t.Daemons {
		all = append(all, d.Host.Name)
	}
	if err := errors.Join(t.atOnce((*Daemon).Kill), t.fates((*Judge).Dead, all...)); err != nil {
		return nil, err
	}
	return func() error { return errors.Join(t.fates((*Judge).Alive, all...), t.atOnce((*Daemon).launch)) }, nil
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
	for deadline := time.Now().Add(recoverLimit); time.Now().Before(deadline); {
		open := slices.ContainsFunc(tr.flows, func(f *liveFlow) bool {
			heard, _, ended := f.state()
			return ended == nil && (tr.kills(f.node) || !heard.After(tr.undone))
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

// settle waits until the owners stay: every address has reached the same node
// twice, and where there are enough addresses, every node serves some.
func (t *torture) settle(ctx context.Context, since time.Time) error {
	if t.moves {
		if err := sleep(ctx, rejoinTime-time.Since(since)); err != nil {
			return err
		}
	}
	var before map[netip.Addr]string
	for deadline := time.Now().Add(recoverLimit); ; {
		now, err := t.look()
		switch {
		case err == nil && maps.Equal(before, now) && t.allServe(now):
			t.owners = now
			return nil
		case time.Now().After(deadline):
			t.owners = now
			t.breach("the owners have not settled within %s (%v)", recoverLimit, err)
			return nil
		}
		before = now
		if err := sleep(ctx, lookStep); err != nil {
			return err
		}
	}
}

// enoughAddresses is how many for each node make it certain that each serves
// one.
const enoughAddresses = 12

func (t *torture) allServe(owners map[netip.Addr]string) bool {
	serving := map[string]bool{}
	for _, node := range owners {
		serving[node] = true
	}
	return len(serving) == len(t.Daemons) || len(owners) < enoughAddresses*len(t.Daemons)
}

// look finds out who serves each address.
func (t *torture) look() (map[netip.Addr]string, error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	out, errs := map[netip.Addr]string{}, []error{}
	slots := make(chan struct{}, loginsAtOnce)
	for _, f := range t.addresses() {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			node := ""
			conn, err := dialVIP(f, beatPort, newcomerPatience)
			if err == nil {
				node, err = hearName(conn)
				conn.Close()
			}
			mu.Lock()
			defer mu.Unlock()
			out[f.addr] = node
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return out, errors.Join(errs...)
}
