package lab

import "time"

// A node that held no lease for orphanTime is none that lives, and others may reset
// its flows (DESIGN's third invariant, OWNERSHIP.md R18). The judge knows of such times
// by the faults that it is told of; when the machine itself has stopped a node for so
// long, the node's own log is the witness.

// gap is a time in which a node held no lease.
type gap struct{ from, to time.Time }

// leaseGaps are the gaps of each node that were long enough to give up its flows. One
// that still lasts ends now.
func leaseGaps(events []loadEvent, now time.Time) map[string][]gap {
	lost, out := map[string]time.Time{}, map[string][]gap{}
	end := func(node string, at time.Time) {
		if from, ok := lost[node]; ok && at.Sub(from) >= orphanTime-orphanSlack {
			out[node] = append(out[node], gap{from, at})
		}
		delete(lost, node)
	}
	for _, e := range events {
		switch e.kind {
		case leaseLost:
			if _, ok := lost[e.node]; !ok {
				lost[e.node] = e.at
			}
		case leaseHeld:
			end(e.node, e.at)
		}
	}
	for node := range lost {
		end(node, now)
	}
	return out
}

// givenUp reports whether a breach is a reset of a flow that its holder had for longer
// than it had its lease. began is when the judge's clock did.
func givenUp(b *Breach, gaps map[string][]gap, began time.Time) bool {
	// The frames are the SYN, the SYN-ACK of the holder, …, the reset.
	const synACK = 1
	if b.Rule != RuleResetForeign && b.Rule != RuleResetEarly || len(b.Frames) <= synACK {
		return false
	}
	accepted, reset := began.Add(b.Frames[synACK].At), began.Add(b.Frames[len(b.Frames)-1].At)
	for _, g := range gaps[b.Frames[synACK].Host] {
		if accepted.Before(g.to) && !reset.Before(g.from.Add(orphanTime-orphanSlack)) {
			return true
		}
	}
	return false
}

// forgive forgets the breaches for which f is true, and tells how many they are.
func (j *Judge) forgive(f func(*Breach) bool) (forgiven int) {
	rest := j.breaches[:0]
	for _, b := range j.breaches {
		if !f(&b) {
			rest = append(rest, b)
			continue
		}
		forgiven++
		if j.byRule[b.Rule]--; j.byRule[b.Rule] == 0 {
			delete(j.byRule, b.Rule)
		}
	}
	j.breaches = rest
	return forgiven
}

// forgive forgets the breaches of the judge that are no fault of the cluster.
func (s *soak) forgive() error {
	v, err := s.sniffer.Verdict()
	if err != nil || len(v.Rules) == 0 {
		return err
	}
	events, err := s.logs.read()
	if err != nil {
		return err
	}
	gaps := leaseGaps(events, time.Now())
	return s.sniffer.Ask(func(j *Judge) {
		s.result.GivenUp += j.forgive(func(b *Breach) bool { return givenUp(b, gaps, s.sniffer.began) })
	})
}
