package lab

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"time"
)

// TortureResult is what a torture found.
type TortureResult struct {
	Seed    uint64  `json:"seed"`
	LAN     Kind    `json:"lan"`
	Nodes   int     `json:"nodes"`
	Flows   int     `json:"flows"`
	Seconds float64 `json:"seconds"`
	// Opens are how long new live flows took in a calm, log-in and all.
	Opens  Quantiles                   `json:"opens"`
	Kinds  map[TortureKind]*KindResult `json:"kinds"`
	Rounds []RoundResult               `json:"rounds"`
	// Asked counts ARP requests and pings in the calms between the rounds.
	Asked int `json:"asked"`
	// FloodSYNs were sent in floods, of which AnsweredInKernels were answered before the
	// nodes' processes saw them.
	FloodSYNs         int `json:"flood_syns"`
	AnsweredInKernels int `json:"flood_syns_answered_in_kernels"`
	// Broken counts the breaches that the clients noticed; Breaches are the
	// first of them.
	Broken   int             `json:"broken"`
	Breaches []TortureBreach `json:"breaches"`
	// MachineStalls are times in which not even a bystander ran, and
	// HeartbeatStalls those for one with the priority of a heartbeat.
	MachineStalls   []MachineStall `json:"machine_stalls"`
	HeartbeatStalls []MachineStall `json:"heartbeat_stalls"`
	// Verdict is the sniffer's.
	Verdict *Verdict `json:"verdict"`
}

// RoundResult is what became of the flows of a round.
type RoundResult struct {
	Round
	At       time.Time `json:"at"`
	Flows    int       `json:"flows"`
	Lost     int       `json:"lost"`
	Orphaned int       `json:"orphaned"`
	Broken   int       `json:"broken"`
}

// TortureBreach is something that a client noticed and may not.
type TortureBreach struct {
	Round int       `json:"round"`
	At    time.Time `json:"at"`
	Text  string    `json:"text"`
}

// tortureCalm stands for the time between the rounds.
const tortureCalm TortureKind = "calm"

// KindResult is what came of the rounds of one kind.
type KindResult struct {
	Rounds int `json:"rounds"`
	// Flows lived when the rounds began. Lost ones were of nodes that were
	// killed, Orphaned ones of nodes without a lease for too long, and Broken
	// ones may not be.
	Flows    int `json:"flows"`
	Lost     int `json:"lost"`
	Orphaned int `json:"orphaned"`
	Broken   int `json:"broken"`
	// Unserved newcomers died with their node or met nobody, as must be. Late
	// ones waited too long, Excused ones while the whole machine stood still.
	Unserved int `json:"unserved"`
	Late     int `json:"late"`
	Excused  int `json:"excused"`
	// Silent flows had heard nothing when it was waited no longer, for a machine
	// that stood still, or for the end of a flood's cookies.
	Silent int `json:"silent"`
	// Touched are the waits of newcomers whose node it was done to, Others
	// those of the others, Ownerless how long newcomers of a round began that
	// had to wait, and Told how long users of a dead node did not know.
	Touched   Quantiles `json:"touched"`
	Others    Quantiles `json:"others"`
	Ownerless Quantiles `json:"ownerless"`
	Told      Quantiles `json:"told"`

	touched, others, ownerless, told waits
}

func newTortureResult(o *TortureOptions) *TortureResult {
	return &TortureResult{Seed: o.Seed, LAN: o.Spec.LAN, Nodes: o.Spec.Nodes, Flows: o.SSH + o.TCP, Kinds: map[TortureKind]*KindResult{}}
}

func (r *TortureResult) kind(k TortureKind) *KindResult {
	if r.Kinds[k] == nil {
		r.Kinds[k] = &KindResult{}
	}
	return r.Kinds[k]
}

// sum computes the quantiles.
func (r *TortureResult) sum() {
	for _, k := range r.Kinds {
		k.Touched, k.Others = k.touched.quantiles(), k.others.quantiles()
		k.Ownerless, k.Told = k.ownerless.quantiles(), k.told.quantiles()
	}
}

// tell tells the result, and claims that nothing was broken.
func (r *TortureResult) tell(n *narrator) {
	r.sum()
	n.title("What %.0f s of torture came to", r.Seconds)
	n.say("%-8s %6s %6s %6s %8s %6s %6s %7s %6s", "", "rounds", "flows", "lost", "orphaned", "broken", "late", "excused", "silent")
	for _, name := range slices.Sorted(maps.Keys(r.Kinds)) {
		k := r.Kinds[name]
		n.say("%-8s %6d %6d %6d %8d %6d %6d %7d %6d", name, k.Rounds, k.Flows, k.Lost, k.Orphaned, k.Broken, k.Late, k.Excused, k.Silent)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Kinds)) {
		r.tellWaits(n, name)
	}
	n.say("live flows opened in %s", r.Opens)
	n.say("%d ARP requests and pings in the calms between", r.Asked)
	if r.FloodSYNs > 0 {
		n.say("%d SYNs in floods, of which kernels answered %d", r.FloodSYNs, r.AnsweredInKernels)
	}
	n.say("the whole machine stood still: %s", lengths(r.MachineStalls))
	n.say("so did heartbeat threads:      %s", lengths(r.HeartbeatStalls))
	n.claim(r.Broken == 0, "clients noticed nothing that they may not (%d times they did)", r.Broken)
	r.Verdict.tell(n)
}

func (r *TortureResult) tellWaits(n *narrator, name TortureKind) {
	k := r.Kinds[name]
	for _, w := range []struct {
		what string
		q    Quantiles
	}{
		{"new clients of it waited", k.Touched}, {"other new clients waited", k.Others},
		{"without an owner for", k.Ownerless}, {"users of the dead told after", k.Told},
	} {
		if w.q.Count > 0 {
			n.say("%-7s %-24s %s", name, w.what, w.q)
		}
	}
}

func lengths(stalls []MachineStall) Quantiles {
	var all waits
	for _, s := range stalls {
		all = append(all, s.For)
	}
	return all.quantiles()
}

// write writes the result as JSON.
func (r *TortureResult) write(path string) error {
	r.sum()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(f)
	enc.SetIndent("", "  ")
	return errors.Join(enc.Encode(r), f.Close())
}
