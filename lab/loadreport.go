package lab

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// LoadResult is what a load found.
type LoadResult struct {
	LAN     Kind    `json:"lan"`
	Nodes   int     `json:"nodes"`
	Flows   int     `json:"flows"`
	Seconds float64 `json:"seconds"`
	// OpenSeconds is how long the opening of all flows took.
	OpenSeconds float64 `json:"open_seconds"`
	// Lost leases and Evictions may only be excused ones.
	Lost      []LostLease    `json:"lost_leases"`
	Evictions []LoadEviction `json:"evictions"`
	// Broken flows may not be; Breaches are the first of them.
	Broken   int      `json:"broken"`
	Breaches []string `json:"breaches"`
	// FlowsOf and BytesOf are by nodes, bytes both ways.
	FlowsOf map[string]int    `json:"flows_of"`
	Bytes   uint64            `json:"bytes"`
	BytesOf map[string]uint64 `json:"bytes_of"`
	// Connections are new ones that were served, after Waits for the handshake.
	// Unserved ones gave up, and Missed ones were left out, for too many waited.
	Connections int       `json:"connections"`
	Waits       Quantiles `json:"waits"`
	Unserved    int       `json:"unserved"`
	Missed      int       `json:"missed"`
	CPU         CPUUse    `json:"cpu"`
	// MachineStalls are times in which not even a bystander ran, and
	// HeartbeatStalls those for one with the priority of a heartbeat.
	MachineStalls   []MachineStall `json:"machine_stalls"`
	HeartbeatStalls []MachineStall `json:"heartbeat_stalls"`

	waits waits
}

func newLoadResult(o *LoadOptions) *LoadResult {
	return &LoadResult{LAN: o.Spec.LAN, Nodes: o.Spec.Nodes, Flows: o.Flows, FlowsOf: map[string]int{}, BytesOf: map[string]uint64{}}
}

func (r *LoadResult) breach(format string, args ...any) {
	if len(r.Breaches) < MaxBreaches {
		r.Breaches = append(r.Breaches, fmt.Sprintf(format, args...))
	}
}

// toldOfLoad is how many losses or breaches are told one by one.
const toldOfLoad = 10

// tell tells the result, and claims what must hold.
func (r *LoadResult) tell(n *narrator) {
	r.Waits = r.waits.quantiles()
	n.title("What %.0f s of full load came to", r.Seconds)
	for _, name := range slices.SortedFunc(maps.Keys(r.BytesOf), byLengthAndName) {
		n.say("%-4s %5d flows  %8.2f GB  %3d leases lost  %5.0f s of CPU", name, r.FlowsOf[name],
			float64(r.BytesOf[name])/1e9, r.lostOf(name), r.CPU.Daemons[name])
	}
	n.say("%.2f GB in all, %.2f Gbit/s", float64(r.Bytes)/1e9, float64(r.Bytes)*8/1e9/max(r.Seconds, 1))
	n.say("new connections waited %s", r.Waits)
	n.say("%d of them gave up, %d were not tried", r.Unserved, r.Missed)
	n.say("%s", r.CPU)
	n.say("the whole machine stood still: %s", lengths(r.MachineStalls))
	n.say("so did heartbeat threads:      %s", lengths(r.HeartbeatStalls))
	r.tellLosses(n)
	for _, b := range r.Breaches[:min(toldOfLoad, len(r.Breaches))] {
		n.say("%s", b)
	}
	unexcused, evictions := 0, 0
	for i := range r.Lost {
		unexcused += one(!r.Lost[i].Excused)
	}
	for i := range r.Evictions {
		evictions += one(!r.Evictions[i].Excused)
	}
	n.claim(unexcused == 0, "%d leases lost but in stalls of the whole machine (%d in them)", unexcused, len(r.Lost)-unexcused)
	n.claim(evictions == 0, "%d nodes evicted but after such stalls (%d after them)", evictions, len(r.Evictions)-evictions)
	n.claim(r.Broken == 0, "%d flows broken", r.Broken)
	n.claim(r.Bytes > 0 && r.Connections > 0, "something was moved, and somebody came")
}

func (r *LoadResult) tellLosses(n *narrator) {
	for i := range r.Lost[:min(toldOfLoad, len(r.Lost))] {
		l := &r.Lost[i]
		why := ""
		if l.Worker {
			why = ", its worker stood still"
		}
		n.say("%s %s lost its lease for %s, machine still %s%s", l.At.Format(time.StampMilli), l.Node, short(l.OverFor), short(l.Stall), why)
	}
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (r *LoadResult) lostOf(name string) (n int) {
	for i := range r.Lost {
		n += one(r.Lost[i].Node == name)
	}
	return n
}
