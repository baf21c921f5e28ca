package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// The part of the demonstration about nodes that fail.

const (
	// votersNeeded is how many nodes it takes to lose one.
	votersNeeded = 3
	// demoSessions are open while nodes fail.
	demoSessions = 16
	// goOnWithin is how soon a session must be heard again, and toldWithin how
	// soon users of a dead node must know: its grace, and a retransmission.
	goOnWithin = 5 * time.Second
	toldWithin = 10 * time.Second
)

// failures: a node is killed under running sessions and comes back, and another
// is drained.
func failures(ctx context.Context, n *narrator, w *watched) error {
	if len(w.Daemons) < votersNeeded {
		return nil
	}
	sessions := newLiveFlows(w.SSH, w.addresses(), min(demoSessions, len(w.addresses())), 0)
	defer sessions.close()
	if err := sessions.replenish(ctx); err != nil {
		return err
	}
	owners, err := w.owners(ctx, n)
	if err != nil {
		return err
	}
	victim, err := w.Daemon(mostServing(sessions.living()))
	if err != nil {
		return err
	}
	if err := w.kills(ctx, n, victim, sessions, owners); err != nil {
		return err
	}
	if err := w.comesBack(ctx, n, victim, sessions); err != nil {
		return err
	}
	if err := sessions.replenish(ctx); err != nil {
		return err
	}
	return w.drains(ctx, n, sessions)
}

// owners are who serves each address now.
func (w *watched) owners(ctx context.Context, n *narrator) (map[netip.Addr]string, error) {
	all, err := w.loginAll(ctx, n)
	out := map[netip.Addr]string{}
	for a, r := range all {
		out[a] = r.Node
	}
	return out, err
}

// mostServing is the node with the most of these flows.
func mostServing(flows []*liveFlow) (most string) {
	count := map[string]int{}
	for _, f := range flows {
		count[f.node]++
		if c := count[f.node]; c > count[most] || c == count[most] && byLengthAndName(f.node, most) < 0 {
			most = f.node
		}
	}
	return most
}

// kills kills a node's daemon and tells what its users and the others notice.
func (w *watched) kills(ctx context.Context, n *narrator, d *Daemon, sessions *liveFlows, owners map[netip.Addr]string) error {
	name, all := d.Host.Name, sessions.living()
	n.title("%s is killed under %d running SSH sessions", name, len(all))
	if err := w.sniffer.Tell((*Judge).Moving); err != nil {
		return err
	}
	at := time.Now()
	if err := d.Kill(); err != nil {
		return err
	}
	if err := w.sniffer.Tell(func(j *Judge, now time.Duration) { j.Dead(name, now) }); err != nil {
		return err
	}
	logins, err := w.loginAll(ctx, n)
	n.claim(err == nil && len(logins) == len(owners), "%d of %d new logins were served at once by the others", len(logins), len(owners))
	if err != nil {
		n.say("%v", err)
	}
	w.tellNewLogins(n, name, owners, logins)
	of := func(f *liveFlow) bool { return f.node == name }
	lost, others := keep(all, of), keep(all, func(f *liveFlow) bool { return !of(f) })
	went, err := heardAgain(ctx, others, at.Add(time.Second), goOnWithin)
	n.claim(went == len(others), "%d of %d sessions with the other nodes went on", went, len(others))
	if err != nil {
		return err
	}
	told, last, err := endedWithin(ctx, lost, at)
	n.claim(told == len(lost), "%d of %d sessions with %s were told of its end, the last after %s", told, len(lost), name, short(last))
	return err
}

// tellNewLogins tells how long new logins waited for an answer to their SYN.
func (w *watched) tellNewLogins(n *narrator, dead string, owners map[netip.Addr]string, logins map[netip.Addr]Reached) {
	var its, others waits
	for a, r := range logins {
		if owners[a] == dead {
			its = append(its, r.Connected)
		} else {
			others = append(others, r.Connected)
		}
	}
	n.say("those of %s waited for an answer: %s", dead, its.quantiles())
	n.say("those of the others:           %s", others.quantiles())
	// What a first SYN waited for is what an answer takes on this machine now; a repeated
	// one waits for it as well.
	answer := time.Duration(0)
	for _, d := range others {
		if d < synTimer {
			answer = max(answer, d)
		}
	}
	n.claim(others.quantiles().Max <= synTimer+waitSlack && its.quantiles().Max <= synTimer+waitSlack+answer,
		"nobody waited longer than one retransmission, which is 1 s, and an answer")
}

// comesBack starts the node again and waits until it has its share.
func (w *watched) comesBack(ctx context.Context, n *narrator, d *Daemon, sessions *liveFlows) error {
	name, running := d.Host.Name, sessions.living()
	n.title("%s comes back", name)
	at := time.Now()
	if err := w.sniffer.Tell(func(j *Judge, now time.Duration) { j.Alive(name, now) }); err != nil {
		return err
	}
	if err := d.Start(); err != nil {
		return err
	}
	n.progress("waiting for its lease …")
	if err := w.untilAllSay(ctx, owned, name+" holds a lease"); err != nil {
		return err
	}
	n.say("it holds a lease again %s after its start", short(time.Since(at)))
	n.progress("waiting for its share …")
	err := w.untilAllSay(ctx, shared, "all have equal shares")
	n.claim(err == nil, "%s has taken its share back bit by bit, %s after its start", name, short(time.Since(at)))
	went, err2 := heardAgain(ctx, running, time.Now(), goOnWithin)
	n.claim(went == len(running), "%d of %d sessions did not notice", went, len(running))
	return errors.Join(err, err2, w.sniffer.Tell((*Judge).Settled))
}

// drains takes new clients from a node and gives them back.
func (w *watched) drains(ctx context.Context, n *narrator, sessions *liveFlows) error {
	all := sessions.living()
	name := mostServing(all)
	d, err := w.Daemon(name)
	if err != nil {
		return err
	}
	n.title("%s is drained, with %d sessions on it", name, len(keep(all, func(f *liveFlow) bool { return f.node == name })))
	if err := w.sniffer.Tell((*Judge).Moving); err != nil {
		return err
	}
	for _, step := range []struct {
		command string
		enough  func(buckets int) bool
		claim   string
	}{
		{"drain", func(buckets int) bool { return buckets == 0 }, "%s owns no bucket any more, %s after the command"},
		{"undrain", func(buckets int) bool { return buckets > 0 }, "undrained, %s owns buckets again, %s after the command"},
	} {
		at := time.Now()
		if text, err := w.output(ctx, d.Host, "env", "ONEVOICE_SOCKET="+d.Socket(), program, step.command, name); err != nil {
			return fmt.Errorf("onevoice %s %s: %w: %s", step.command, name, err, text)
		}
		err := w.untilAllSay(ctx, func(views []nodeView) bool {
			return owned(views) && slices.ContainsFunc(views, func(v nodeView) bool { return v.Name == name && step.enough(v.Buckets) })
		}, step.command+" is done")
		n.claim(err == nil, step.claim, name, short(time.Since(at)))
		if err != nil {
			return err
		}
		if err := w.drained(ctx, n, all, name, step.command == "drain"); err != nil {
			return err
		}
	}
	return nil
}

// drained checks who serves new logins, and that the sessions go on.
func (w *watched) drained(ctx context.Context, n *narrator, all []*liveFlow, name string, empty bool) error {
	if empty {
		logins, err := w.loginAll(ctx, n)
		elsewhere := 0
		for _, r := range logins {
			if r.Node != name {
				elsewhere++
			}
		}
		n.claim(err == nil && elsewhere == len(w.addresses()), "%d of %d new logins were served by the others", elsewhere, len(w.addresses()))
	}
	went, err := heardAgain(ctx, all, time.Now(), goOnWithin)
	n.claim(went == len(all), "%d of %d sessions went on, its own as well", went, len(all))
	return err
}

func keep(flows []*liveFlow, want func(*liveFlow) bool) (out []*liveFlow) {
	for _, f := range flows {
		if want(f) {
			out = append(out, f)
		}
	}
	return out
}

// heardAgain waits until all flows were heard after an instant, and counts those
// that were.
func heardAgain(ctx context.Context, flows []*liveFlow, after time.Time, limit time.Duration) (int, error) {
	for deadline := time.Now().Add(limit); ; {
		heard := len(keep(flows, func(f *liveFlow) bool { at, _, ended := f.state(); return ended == nil && at.After(after) }))
		if heard == len(flows) || time.Now().After(deadline) {
			return heard, nil
		}
		if err := sleep(ctx, recoverStep); err != nil {
			return heard, err
		}
	}
}

// endedWithin waits until all flows have ended, and tells how many have, and how
// long after an instant the last one did.
func endedWithin(ctx context.Context, flows []*liveFlow, since time.Time) (count int, last time.Duration, err error) {
	for {
		count, last = 0, 0
		for _, f := range flows {
			if _, at, ended := f.state(); ended != nil {
				count, last = count+1, max(last, at.Sub(since))
			}
		}
		if count == len(flows) || time.Since(since) > toldWithin {
			return count, last, nil
		}
		if err := sleep(ctx, recoverStep); err != nil {
			return count, last, err
		}
	}
}
