package sim

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Generator makes plans by chance.
type Generator struct {
	Hosts []string
	// Every fault begins and ends within From and Until.
	From, Until time.Duration
	// PerSecond is how many faults begin in a second, on average.
	PerSecond float64
	// Kinds to choose from, each as often as it is named; nil: all but Wipe and
	// Break, after which a host needs help.
	Kinds []Kind
	// Net lets a third of the faults of a network strike the Net.
	Net bool
	// Shortest and Longest bound how long a fault lasts; short ones are as
	// frequent as long ones on a scale of ratios. 0: 10 ms and 5 s.
	Shortest, Longest time.Duration
	// DriftPPM bounds Drift. 0: 400.
	DriftPPM int
}

// Plan draws a plan, ordered by time. The same source gives the same plan.
func (g Generator) Plan(rng *rand.Rand) Plan {
	if g.Kinds == nil {
		g.Kinds = []Kind{Kill, Reboot, Pause, Freeze, Drift, Fsync, Deafen, Mute, Unplug, Cut, Partition, Loss, Dup, Corrupt, Reorder}
	}
	if g.Shortest <= 0 {
		g.Shortest = 10 * time.Millisecond
	}
	if g.Longest <= 0 {
		g.Longest = 5 * time.Second
	}
	if g.DriftPPM <= 0 {
		g.DriftPPM = 400
	}
	var p Plan
	span := g.Until - g.From
	if span <= 0 || len(g.Hosts) == 0 {
		return p
	}
	for range min(MaxFaults, int(math.Round(g.PerSecond*span.Seconds()))) {
		if f, ok := g.fault(rng); ok {
			p = append(p, f)
		}
	}
	slices.SortStableFunc(p, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	return p
}

// fault draws one fault. There is none that needs two hosts among one.
func (g *Generator) fault(rng *rand.Rand) (f Fault, ok bool) {
	f.Kind = g.Kinds[rng.IntN(len(g.Kinds))]
	hosts := slices.Clone(g.Hosts)
	rng.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	f.Net = g.Net && f.Kind.what().network && rng.IntN(3) == 0
	ratio := float64(g.Longest) / float64(g.Shortest)
	f.For = round(min(time.Duration(float64(g.Shortest)*math.Pow(ratio, rng.Float64())), g.Until-g.From))
	f.At = round(g.From + time.Duration(rng.Float64()*float64(g.Until-g.From-f.For)))
	switch f.Kind.what().form {
	case twoHosts:
		if len(hosts) < 2 {
			return f, false
		}
		f.Hosts, f.OneWay = hosts[:2], rng.IntN(2) == 0
	case groups:
		if len(hosts) < 2 {
			return f, false
		}
		cut := 1 + rng.IntN(len(hosts)-1)
		f.Group = [][]string{hosts[:cut], hosts[cut:]}
	case withPPM:
		f.Hosts, f.Amount = hosts[:1], rng.IntN(2*g.DriftPPM+1)-g.DriftPPM
	case withPercent:
		f.Hosts, f.Amount = hosts[:1], 1+rng.IntN(50)
	default:
		f.Hosts = hosts[:1]
	}
	return f, f.For > 0
}

// round keeps a plan readable, and inside its bounds: downwards.
func round(d time.Duration) time.Duration { return d.Truncate(100 * time.Microsecond) }
