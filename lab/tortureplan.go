package lab

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// TortureKind is what is done to the cluster in a round.
type TortureKind string

// Kinds of rounds.
const (
	// TortureKill kills a node and starts it again.
	TortureKill TortureKind = "kill"
	// TortureControl kills a node's control process alone and starts it again.
	TortureControl TortureKind = "control"
	// TortureStall stops all processes of a node for a while.
	TortureStall TortureKind = "stall"
	// TortureDeafen and TortureMute cut a node's cable one way.
	TortureDeafen TortureKind = "deafen"
	TortureMute   TortureKind = "mute"
	// TortureSplit parts the LAN.
	TortureSplit TortureKind = "split"
	// TortureOff kills all nodes and starts them all.
	TortureOff TortureKind = "off"
	// TortureStop stops a node as its service manager would and starts it again.
	TortureStop TortureKind = "stop"
	// TortureDrain drains a node and takes it back, and TortureWeight gives it
	// another weight for a while.
	TortureDrain  TortureKind = "drain"
	TortureWeight TortureKind = "weight"
	// TortureUpgrade has a node go on in a new process.
	TortureUpgrade TortureKind = "upgrade"
	// TortureBackend kills what is behind a node and starts it again.
	TortureBackend TortureKind = "backend"
	// TortureFlood sends SYNs that nobody means, as many as the nodes' kernels answer.
	TortureFlood TortureKind = "flood"
)

// Bounds of the times in a plan.
const (
	// harmlessStall moves nothing (issue: Ownership, figures).
	harmlessStall = 150 * time.Millisecond
	shortestStall = 100 * time.Millisecond
	longestStall  = 5 * time.Second
	shortestDown  = 300 * time.Millisecond
	longestDown   = 4 * time.Second
	shortestCut   = 1500 * time.Millisecond
	longestCut    = 4 * time.Second
	shortestOff   = 200 * time.Millisecond
	longestOff    = 2 * time.Second
)

// Round is one thing that is done to the cluster, and undone after a time.
type Round struct {
	Kind TortureKind `json:"kind"`
	// Node is whom it is done to; of a split, of all off and of a flood, nobody.
	Node string        `json:"node,omitempty"`
	For  time.Duration `json:"for_ns"`
	// Weight is the other one of TortureWeight.
	Weight int `json:"weight,omitempty"`
	// Sides of a split, and whether the clients are on Sides[0], on both, or on
	// Sides[1].
	Sides   [2][]string `json:"sides,omitzero"`
	Clients string      `json:"clients,omitempty"`
	// Direct: the hosts' own TCP serves, so that a kill ends no flow by itself.
	Direct bool `json:"direct,omitempty"`
}

// Where clients are in a split.
const (
	clientsFirst  = "first"
	clientsBoth   = "both"
	clientsSecond = "second"
)

// String is a line of the progress.
func (r Round) String() string {
	d := r.For.Round(time.Millisecond)
	switch r.Kind {
	case TortureSplit:
		return fmt.Sprintf("split %s/%s for %s, clients on %s", strings.Join(r.Sides[0], ","), strings.Join(r.Sides[1], ","), d, r.Clients)
	case TortureOff:
		return fmt.Sprintf("all off for %s", d)
	case TortureFlood:
		return fmt.Sprintf("flood of SYNs for %s", d)
	case TortureControl:
		return fmt.Sprintf("kill control of %s for %s", r.Node, d)
	case TortureWeight:
		return fmt.Sprintf("weight %s %d for %s", r.Node, r.Weight, d)
	case TortureBackend:
		return fmt.Sprintf("kill the backend of %s for %s", r.Node, d)
	}
	return fmt.Sprintf("%s %s for %s", r.Kind, r.Node, d)
}

// TortureCounts are how many rounds of each kind there are.
type TortureCounts map[TortureKind]int

// FullTorture is what the figures are about.
func FullTorture() TortureCounts {
	return TortureCounts{TortureKill: 100, TortureControl: 20, TortureStall: 100, TortureDeafen: 25, TortureMute: 25, TortureSplit: 30, TortureOff: 20, TortureFlood: 20}
}

// ShortTorture has one or two of each and takes less than a minute.
func ShortTorture() TortureCounts {
	return TortureCounts{TortureKill: 1, TortureControl: 1, TortureStall: 2, TortureDeafen: 1, TortureMute: 1, TortureSplit: 1, TortureOff: 1, TortureFlood: 1}
}

// kindsInTurn are all kinds of rounds.
func kindsInTurn() []TortureKind {
	return []TortureKind{TortureKill, TortureControl, TortureStall, TortureDeafen, TortureMute, TortureSplit, TortureOff,
		TortureStop, TortureDrain, TortureWeight, TortureUpgrade, TortureBackend, TortureFlood}
}

// ends reports whether processes of a daemon end in a round of the kind.
func (k TortureKind) ends() bool {
	return slices.Contains([]TortureKind{TortureKill, TortureControl, TortureOff, TortureStop, TortureUpgrade}, k)
}

// planTorture makes the rounds, in an order by chance; the same source makes
// the same. Every tenth stall is one that moves nothing. The processes of the
// first nodes, as many as are spared, are not ended.
func planTorture(rng *rand.Rand, nodes []string, counts TortureCounts, spared int) []Round {
	var rounds []Round
	for _, kind := range kindsInTurn() {
		for i := range counts[kind] {
			some := nodes
			if kind.ends() {
				some = nodes[spared:]
			}
			r := Round{Kind: kind, Node: some[rng.IntN(len(some))]}
			switch kind {
			case TortureKill, TortureControl, TortureStop, TortureDrain, TortureBackend:
				r.For = between(rng, shortestDown, longestDown)
			case TortureWeight:
				r.For, r.Weight = between(rng, shortestDown, longestDown), []int{0, 50, 300}[i%3]
			case TortureStall:
				r.For = between(rng, shortestStall, longestStall)
				if i%10 == 0 {
					r.For = harmlessStall
				}
			case TortureDeafen, TortureMute, TortureSplit:
				r.For = between(rng, shortestCut, longestCut)
			case TortureOff:
				r.For = between(rng, shortestOff, longestOff)
			case TortureFlood:
				r.For = between(rng, shortestFlood, longestFlood)
			}
			switch kind {
			case TortureSplit:
				r.Node, r.Sides = "", sidesByChance(rng, nodes)
				r.Clients = []string{clientsFirst, clientsBoth, clientsSecond}[i%3]
			case TortureOff, TortureFlood:
				r.Node = ""
			}
			rounds = append(rounds, r)
		}
	}
	rng.Shuffle(len(rounds), func(i, j int) { rounds[i], rounds[j] = rounds[j], rounds[i] })
	return rounds
}

func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from)+1))
}

// sidesByChance parts the nodes into two sides, none empty. The first has the
// majority of the voters.
func sidesByChance(rng *rand.Rand, nodes []string) (sides [2][]string) {
	order := rng.Perm(len(nodes))
	cut := 1 + rng.IntN(len(nodes)-1)
	for i, n := range order {
		s := 0
		if i >= cut {
			s = 1
		}
		sides[s] = append(sides[s], nodes[n])
	}
	if !majority(sides[0], nodes) {
		sides[0], sides[1] = sides[1], sides[0]
	}
	for i := range sides {
		slices.SortFunc(sides[i], byLengthAndName)
	}
	return sides
}

// voterCount is how many of so many peers vote: the first odd number up to 5
// (OWNERSHIP.md R1).
func voterCount(peers int) int { return min(peers-(peers+1)%2, 5) }

// majority reports whether most voters are among some nodes.
func majority(some, nodes []string) bool {
	voters, here := nodes[:voterCount(len(nodes))], 0
	for _, v := range voters {
		if slices.Contains(some, v) {
			here++
		}
	}
	return 2*here > len(voters)
}
