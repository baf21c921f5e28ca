package library

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"onevoice/cluster"
	"onevoice/sim"
	"onevoice/sim/report"
)

// Codes of findings.
const (
	twoOwners    = "two-owners"
	twoAnswers   = "two-answers"
	neverServed  = "never-served"
	outage       = "outage"
	unanswered   = "unanswered"
	sessionsCut  = "sessions-cut"
	sessionsHang = "sessions-hang"
	unbalanced   = "unbalanced"
	movedTooMany = "moved-too-many"
	nodeOut      = "node-out"
	flapping     = "flapping"
	badFrames    = "bad-frames"
	noCluster    = "no-cluster"
	noMajority   = "no-majority"
	copied       = "copied-frames"

	refusesGroups = "router-refuses-group-mac"
	validatesARP  = "router-validates-arp"
	inspectsARP   = "arp-inspection"
	storms        = "storm"
	circles       = "routed-in-circles"
	pruned        = "pruned-group"
	unregistered  = "group-not-flooded"
	isolated      = "ports-isolated"
)

// Codes are all that may be found.
func Codes() []string {
	return []string{twoOwners, twoAnswers, neverServed, outage, unanswered, sessionsCut, sessionsHang, unbalanced, movedTooMany, nodeOut, flapping, badFrames,
		noCluster, noMajority, copied, refusesGroups, validatesARP, inspectsARP, storms, circles, pruned, unregistered, isolated}
}

func (r *run) find(code, mend, format string, args ...any) {
	r.report.Findings = append(r.report.Findings, report.Finding{Code: code, Text: fmt.Sprintf(format, args...), Mend: mend})
}

// findings says what is wrong: first causes, then what clients notice.
func (r *run) findings() {
	if b := r.cluster.Breaches; len(b) > 0 {
		mend := "report this with the command below: it must not happen"
		if r.badClock() {
			mend = "drain a node before its virtual machine is moved, suspended or given more memory, and keep clocks within 1,000 ppm: for up to a lease's time it accepts what another accepts, for its clock does not tell it that time has passed"
		}
		r.find(twoOwners, mend, "a rule of the cluster was broken, and the run stopped: %s", firstLine(b[0]))
		return // the rest is of a run that was not finished
	}
	if r.watch.strange != "" {
		r.find(badFrames, "report this with the command below: it must not happen", "%s", r.watch.strange)
	}
	r.findLAN()
	r.findOut()
	r.findAnswers()
	r.findWaits()
	r.findSessions()
	r.findShares()
}

func firstLine(s string) string {
	for i, c := range s {
		if c == '\n' {
			return s[:i]
		}
	}
	return s
}

// badClock tells whether a clock is worse than what the cluster rests on: one that
// stands still, or drifts beyond its bound.
func (r *run) badClock() bool {
	return slices.ContainsFunc(r.spec.Steps, func(st Step) bool {
		return st.Fault != nil && (st.Fault.Kind == sim.Freeze || st.Fault.Kind == sim.Drift && max(st.Fault.Amount, -st.Fault.Amount) > cluster.DriftPPM)
	})
}

// findLAN is what the LAN found in itself, and what it did to the nodes.
func (r *run) findLAN() {
	lan := r.network.lan
	for _, f := range lan.Findings() {
		r.report.Tell(f.At, report.LAN, "%s: %s", f.Where, f.What)
		if code, mend := r.mendOf(f); code != "" && !r.found(code) {
			r.find(code, mend, "%s: %s", f.Where, f.What)
		}
	}
	c := lan.Counts()
	if c[sim.DroppedIsolated] > 0 {
		r.find(isolated, "take the nodes' ports out of isolation (protected ports, private VLAN), or put them into one community",
			"the switch passes nothing between the nodes' ports: it dropped %d frames from one isolated port to another, so that no node hears another", c[sim.DroppedIsolated])
	}
	if dropped := r.keptFromNodes(); dropped > 0 && !r.found(pruned) && len(r.out()) > 0 {
		r.find(unregistered, "let the switch flood this group (switch snooping off for this VLAN, or enter the MAC at the nodes' ports by hand), or "+useUnicast,
			"the switch keeps frames to the shared MAC from the nodes: it dropped %d copies, for it knows no member of a group behind those ports", dropped)
	}
	if n := c[sim.DroppedInspection]; n > 0 {
		r.find(inspectsARP, "trust the nodes' ports (ip arp inspection trust), or leave src-mac out of the validation",
			"the switch dropped %d ARP packets, for they name the shared MAC as the sender's, and their frames come from the node's own", n)
	}
	if !r.complete {
		r.find(noCluster, "", "the nodes never had an owner for every bucket, for they do not hear each other on the shared MAC; nobody answers, rather than two at once")
	}
}

// keptFromNodes is how many copies of frames to groups the switches kept from the
// nodes' ports.
func (r *run) keptFromNodes() (n uint64) {
	for _, h := range r.nodes() {
		n += r.network.lan.PortCounts(h.Port().Index)[sim.DroppedUnregistered]
	}
	return n
}

// mendOf is the code of what a LAN found, and what to do about it.
func (r *run) mendOf(f sim.Finding) (code, mend string) {
	switch f.Kind {
	case sim.Storm:
		return storms, "switch spanning tree on, on both switches, or take one of the trunks out"
	case sim.Pruned:
		return pruned, "let a switch or router ask (IGMP querier), switch snooping off for this VLAN, or " + useUnicast
	case sim.RefusedARP:
		if router := r.network.routers[f.Where]; router != nil && router.Counts.RefusedInvalid > 0 {
			return validatesARP, "enter the VIP with the shared MAC in the router by hand, or switch the check of source MACs off for it"
		}
		return refusesGroups, useUnicast + ", for your router refuses group MACs; or enter the VIP with the shared MAC in the router by hand"
	case sim.RoutedInCircles:
		return circles, "let the routers route no frames that came to a group MAC (RFC 1812, 5.3.4), or " + useUnicast
	}
	return "", ""
}

func (r *run) found(code string) bool {
	return slices.ContainsFunc(r.report.Findings, func(f report.Finding) bool { return f.Code == code })
}

// out are the nodes that run and answer for nothing at the end, though nobody
// asked for that.
func (r *run) out() (out []string) {
	for i, h := range r.nodes() {
		if h.Alive() && r.owned[i] == 0 && !r.drained(h.Name) {
			out = append(out, h.Name)
		}
	}
	return out
}

// findOut is about nodes that are out.
func (r *run) findOut() {
	out := r.out()
	serving := slices.ContainsFunc(r.owned, func(n int) bool { return n > 0 })
	switch {
	case len(out) == 0 || !r.complete:
	case !serving && r.spec.TwoNodes == "preferred":
		r.find(noMajority, "use two_nodes = \"witness\" and a third box, on which little depends",
			"%s waits for n1, which decides alone: two nodes that do not hear each other cannot know which of them is gone", strings.Join(out, ", "))
	case !serving:
		r.find(noMajority, "bring the others back; if most are gone for good, see `onevoice recover --help`",
			"%s run, are no majority of those who vote, and answer nothing new: the others might be alive elsewhere", strings.Join(out, ", "))
	default:
		r.find(nodeOut, "look at its cable, its switch port and its disk; `onevoice status` on any node tells what it lacks",
			"%s: up, and answering for nothing, for the others are not heard on the shared MAC, do not hear it, or it does not follow the log", strings.Join(out, ", "))
	}
}

// drained tells whether a node has nothing because that was asked for.
func (r *run) drained(name string) bool {
	drained := false
	for i := range r.spec.Steps {
		st := &r.spec.Steps[i]
		if st.Host != name {
			continue
		}
		switch st.Verb {
		case "drain", "service-down":
			drained = st.For == 0 || st.At+st.For > r.spec.Duration
		case "weight":
			drained = st.Amount == 0
		case "undrain":
			drained = false
		}
	}
	return drained
}

func (r *run) findAnswers() {
	for _, a := range r.report.Answers {
		switch {
		case a.More == 0:
		case r.doubled == 0:
			r.find(copied, "look for a loop, or for two routers that both bring the same frame",
				"%s %s had several answers of one node: frames come in copies; ping shows such as DUP!", percent(a.More, a.Asked), a.What)
		default:
			r.find(twoAnswers, "every frame of a kind has to fall under the rule of who answers it: ARP, echo and TCP alike",
				"two nodes or more answered %s %s; ping shows such as DUP!", percent(a.More, a.Asked), a.What)
		}
	}
}

func (r *run) findWaits() {
	if r.unanswered > 0 {
		r.find(unanswered, "", "%d requests of the capture had no answer", r.unanswered)
	}
	longest, out, still := r.waited()
	r.report.Waited = report.Time(longest)
	switch {
	case still > 0:
		r.find(neverServed, "", "%s clients get no answer any more at the end", percent(still, len(r.users)))
	case out > 0:
		r.find(outage, "", "%s clients had no answer for more than %v, the longest for %v", percent(out, len(r.users)), patience, longest.Round(time.Millisecond))
	}
}

func (r *run) findSessions() {
	s := &r.report.Sessions
	if s.Cut > 0 {
		r.find(sessionsCut, "", "%s sessions were cut though their node lived", percent(s.Cut, s.Open))
	}
	if s.Hanging > 0 {
		r.find(sessionsHang, "", "%s sessions hang: what they say is neither acknowledged nor reset", percent(s.Hanging, s.Open))
	}
}

// Enough connections, and clients for each node, to judge shares by.
const (
	enough  = 100
	perNode = 10
)

func (r *run) findShares() {
	name, most, all := r.busiest()
	serving := 0
	for _, n := range r.report.Nodes {
		if n.Buckets > 0 {
			serving++
		}
	}
	many := max(len(r.users), len(r.report.Clients)) >= perNode*serving
	if many && all >= enough && serving > 1 && most*serving > unbalancedBy*all && !r.weighed() {
		r.find(unbalanced, "use affinity = \"source-ip-port\" where a user's connections need not stay together",
			"%s served %s connections: most clients are one address for the nodes", name, percent(most, all))
	}
	m := &r.report.Moved
	if m.Kernel >= 0 && m.Clients >= enough && r.spec.Affinity.String() == "source-ip" && float64(m.Moved) > idealMoves(r.spec.Nodes, serving, m.Clients) {
		r.find(movedTooMany, "", "%s clients came to another node than before; %.0f would do", percent(m.Moved, m.Clients),
			idealMoves(r.spec.Nodes, serving, m.Clients))
	}
	for i, n := range r.turns {
		if n > maxTurns {
			r.find(flapping, "mend what comes and goes; a check with more patience (`check_fall`, `check_rise`, `hold_down`) keeps it from users",
				"%s came and went %d times", r.report.Nodes[i].Name, n)
		}
	}
}

// maxTurns of one node are no flap yet: out and back, three times.
const maxTurns = 6

func (r *run) weighed() bool {
	return slices.ContainsFunc(r.spec.Steps, func(st Step) bool { return st.Verb == "weight" })
}
