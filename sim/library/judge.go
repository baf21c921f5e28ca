package library

import (
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"onevoice/sim"
	"onevoice/sim/report"
)

// judge makes the report of what was seen.
func (r *run) judge() {
	if r.gapSince >= 0 {
		r.report.Failover = max(r.report.Failover, report.Time(r.cluster.World.Now()-r.gapSince))
	}
	r.countARP()
	if r.replay != nil {
		r.countReplay()
		r.replayLimits()
	} else {
		r.countPings()
		r.countConns()
		r.countSessions()
	}
	r.countNodes()
	r.findings()
	for _, f := range r.site.Quiet() {
		if len(r.cluster.Breaches) > 0 {
			break // the run stopped, perhaps before it could strike
		}
		r.report.Quiet = append(r.report.Quiet, f.String())
	}
	var codes []string
	for _, f := range r.report.Findings {
		codes = append(codes, f.Code)
	}
	slices.Sort(codes)
	want := slices.Sorted(slices.Values(r.spec.Expect))
	r.report.AsExpected = slices.Equal(slices.Compact(codes), want)
	slices.SortStableFunc(r.report.Timeline, func(a, b report.Event) int { return int(a.At - b.At) })
}

// settled are requests from a time before which an answer had time to come.
func (r *run) settled(at time.Duration) bool { return at < r.spec.Duration-lastOrders/2 }

func tally(a *report.Answers, nodes int) {
	a.Asked++
	switch {
	case nodes == 0:
		a.None++
	case nodes == 1:
		a.One++
	default:
		a.More++
	}
}

func (r *run) countARP() {
	a := report.Answers{What: "ARP requests"}
	for i := range r.watch.asks {
		k := &r.watch.asks[i]
		if !r.settled(k.at) {
			continue
		}
		if r.network.lan.Counts()[sim.DroppedInspection] > 0 {
			tally(&a, 0) // the answers were sent, and the switch kept them all
		} else {
			tally(&a, bits.OnesCount64(k.nodes))
			if bits.OnesCount64(k.nodes) > 1 {
				r.doubled++
			}
		}
	}
	r.report.Answers = append(r.report.Answers, a)
}

// countPings counts by what the client saw, copies of one node's answer too.
func (r *run) countPings() {
	a := report.Answers{What: "pings"}
	for _, u := range r.users {
		for _, p := range u.Pings {
			if r.settled(p.At) {
				tally(&a, len(p.Answers))
			}
		}
	}
	for _, nodes := range r.watch.pings {
		if bits.OnesCount64(nodes) > 1 {
			r.doubled++
		}
	}
	r.report.Answers = append(r.report.Answers, a)
}

func (r *run) countConns() {
	if r.spec.Users == "ping" {
		return
	}
	a := report.Answers{What: "connections"}
	for _, u := range r.users {
		for _, n := range u.conns {
			if r.settled(n.Opened) {
				tally(&a, min(len(n.SYNACKs), 1))
			}
		}
	}
	for _, f := range r.watch.flows {
		if f.twice {
			a.More++
			a.One--
			r.doubled++
		}
	}
	r.report.Answers = append(r.report.Answers, a)
}

// countSessions tells how the long connections ended.
func (r *run) countSessions() {
	s := &r.report.Sessions
	for _, u := range r.users {
		n := u.session
		if n == nil || n.Connected == 0 {
			continue
		}
		s.Open++
		since, gone := r.sessionNodeGone(u, n)
		switch {
		case n.State == sim.WasReset && gone:
			s.Reset++
			s.SlowestReset = max(s.SlowestReset, report.Time(n.Ended-since))
		case n.State.Over():
			s.Cut++
		case n.Waiting() > patience:
			s.Hanging++
		default:
			s.Untouched++
		}
	}
}

// sessionNodeGone tells whether the node of a session was lost while it was open.
// Behind a box that translates, any node may be the one.
func (r *run) sessionNodeGone(u *user, n *sim.Conn) (since time.Duration, gone bool) {
	end := r.cluster.World.Now()
	if n.Ended > 0 {
		end = n.Ended
	}
	if f := r.watch.flows[netip.AddrPortFrom(u.IP, sessionPort)]; f != nil {
		return r.diedBetween(f.first, n.Connected, end)
	}
	for i := range r.nodes() {
		if since, gone = r.diedBetween(i, n.Connected, end); gone {
			return since, true
		}
	}
	return 0, false
}

// countNodes tells who served whom, and who came to another node than before.
func (r *run) countNodes() {
	hosts := r.nodes()
	for i, h := range hosts {
		r.report.Nodes = append(r.report.Nodes, report.Node{Name: h.Name, Buckets: r.owned[i], Alive: h.Alive(),
			Heard: r.network.lan.PortCounts(h.Port().Index)[sim.Delivered]})
	}
	first, last := map[netip.Addr]*answered{}, map[netip.Addr]*answered{}
	before := r.firstStep()
	for key, f := range r.watch.flows {
		r.report.Nodes[f.first].Served++
		a := key.Addr()
		if f.at < before && (first[a] == nil || f.at > first[a].at) {
			first[a] = f
		}
		if last[a] == nil || f.at > last[a].at {
			last[a] = f
		}
	}
	m := &r.report.Moved
	m.Kernel = -1
	was, is := r.spec.Nodes, 0
	for _, n := range r.report.Nodes {
		if n.Buckets > 0 {
			is++
		}
	}
	if was != is && is > 0 {
		m.Kernel = 0
	}
	for a, l := range last {
		r.report.Nodes[l.first].Clients++
		f := first[a]
		if f == nil || f == l {
			continue
		}
		m.Clients++
		if f.first != l.first {
			m.Moved++
		}
		if m.Kernel >= 0 && kernelNode(a, was) != kernelNode(a, is) {
			m.Kernel++
		}
	}
}

// firstStep is when the first thing happens, the middle of the run if nothing does.
func (r *run) firstStep() time.Duration {
	at := r.spec.Duration / 2
	for i := range r.spec.Steps {
		at = min(at, r.spec.Steps[i].At)
	}
	return at
}

// idealMoves is the share of clients that has to move when the number of nodes
// changes, and what chance may add to it among so many.
func idealMoves(was, is, clients int) float64 {
	share := math.Abs(float64(is-was)) / float64(max(was, is))
	return share*float64(clients) + 3*math.Sqrt(float64(clients)*share*(1-share)) + 1
}

// waited are the clients' longest times without an answer.
func (r *run) waited() (longest time.Duration, out, still int) {
	end := r.spec.Duration - lastOrders/2
	for _, u := range r.users {
		w, now := u.waited(end)
		longest = max(longest, w)
		if w > patience {
			out++
		}
		if now {
			still++
		}
	}
	return longest, out, still
}

func percent(n, of int) string { return fmt.Sprintf("%d of %d", n, of) }

// shares that are far from even: who served more than this many times as much as
// it should.
const unbalancedBy = 2

// busiest is the node that served most, and how much was served in all.
func (r *run) busiest() (name string, most, all int) {
	for _, n := range r.report.Nodes {
		all += n.Served
		if n.Served > most {
			name, most = n.Name, n.Served
		}
	}
	return name, most, all
}
