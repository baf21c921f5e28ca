package health

// weightStep is the least difference that is reported: each change of a
// weight moves buckets, and a trembling average must not.
const weightStep = 5

// Weight says what part of its share a node may carry.
type Weight struct {
	Percent int    // 0 to 100
	Reason  string // for people, one line, bounded
}

// Weigher makes one weight of a node's many: the least of its agents' and its
// uplink's, where the uplink is as good as the best of its hosts, for one host
// that is down says nothing about the way to the others. It is pure.
type Weigher struct {
	agents  []Weight
	hosts   []Weight
	present int // what was reported last
}

// NewWeigher returns a Weigher that has reported FullWeight.
func NewWeigher(agents, hosts int) *Weigher {
	w := &Weigher{agents: make([]Weight, agents), hosts: make([]Weight, hosts), present: FullWeight}
	for _, all := range [][]Weight{w.agents, w.hosts} {
		for i := range all {
			all[i].Percent = FullWeight
		}
	}
	return w
}

// Agent and Host take the weight of one source, by its number.
func (w *Weigher) Agent(i int, v Weight) { w.agents[i] = v }
func (w *Weigher) Host(i int, v Weight)  { w.hosts[i] = v }

// Step returns the node's weight, and whether it differs enough from what was
// reported last to be reported: by weightStep, or because it is 0 or 100.
func (w *Weigher) Step() (Weight, bool) {
	least := Weight{Percent: FullWeight, Reason: "nothing holds the node back"}
	for _, a := range w.agents {
		if a.Percent < least.Percent {
			least = a
		}
	}
	if len(w.hosts) > 0 {
		best := w.hosts[0]
		for _, h := range w.hosts {
			if h.Percent > best.Percent {
				best = h
			}
		}
		if best.Percent < least.Percent {
			least = best
		}
	}
	least.Reason = oneLine(least.Reason)
	far := max(least.Percent-w.present, w.present-least.Percent)
	edge := least.Percent == 0 || least.Percent == FullWeight
	if far == 0 || far < weightStep && !edge {
		return least, false
	}
	w.present = least.Percent
	return least, true
}
