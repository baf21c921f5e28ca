package library

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"onevoice/cluster"
	"onevoice/sim"
	"onevoice/sim/report"
	"onevoice/sim/scenario"
)

// Options of a run beside its Spec.
type Options struct {
	// Progress, if set, is called now and then with how far the virtual time is.
	Progress func(now, end time.Duration)
	// Frames, if set, gets every frame on the nodes' LAN, with its virtual time.
	// The frame is on loan.
	Frames func(at time.Duration, frame []byte)
	// Replay, if set, comes in the place of clients.
	Replay *Capture
}

// run is a Spec on its way.
type run struct {
	spec    *Spec
	cluster *scenario.Cluster
	site    *sim.Site
	network *network
	users   []*user
	watch   *watch
	report  *report.Report

	owned    []int // buckets of the service, by host, at the last sample
	complete bool  // every bucket has had an owner
	gapSince time.Duration
	gone     []absence
	said     map[string]time.Duration
	turns    []int // how often each node came or went
	doubled  int   // requests that two nodes answered
	// replay is a capture in the place of users; unanswered are its requests that
	// nobody answered.
	replay     *replay
	unanswered int
}

// absence is from when on a node was gone.
type absence struct {
	node int
	at   time.Duration
	// dead: its sessions were, too, and not by an operator's plan. Otherwise it was
	// evicted, and may serve on what it has.
	dead bool
}

const (
	// sampleEvery is how fine shares and failover are measured.
	sampleEvery = 5 * time.Millisecond
	slice       = 100 * time.Millisecond
	// plannedMove is what a move may leave a bucket without an owner.
	plannedMove = 50 * time.Millisecond
	// repeated is for how long a line of the log that another node says too is not
	// told again.
	repeated = 2 * time.Second
)

// Run simulates a Spec. It stops early only when ctx ends.
func Run(ctx context.Context, s *Spec, o Options) (*report.Report, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	r := &run{spec: s, said: map[string]time.Duration{}, gapSince: -1}
	err := r.build(o)
	if r.cluster != nil {
		defer r.cluster.Close()
	}
	if err != nil {
		return nil, err
	}
	for now := time.Duration(0); now < s.Duration && len(r.cluster.Breaches) == 0; now += slice {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r.cluster.Run(min(slice, s.Duration-now))
		if o.Progress != nil {
			o.Progress(r.cluster.World.Now(), s.Duration)
		}
	}
	r.judge()
	return r.report, nil
}

func (r *run) build(o Options) error {
	s := r.spec
	lan := netip.PrefixFrom(scenario.VIP(), 16).Masked()
	r.cluster = scenario.New(scenario.Options{
		Nodes: s.Nodes, Late: s.Late, Witness: s.TwoNodes == "witness", Preferred: s.TwoNodes == "preferred", Timing: s.Timing,
		DriftPPM: 100, Services: 1, Gates: true, Netstack: s.TCP == "netstack", Direct: s.Path == "direct", Prefix: lan, Affinity: &s.Affinity, LAN: s.newLAN, Switch: s.switchOf, MAC: s.clusterMAC(), Groups: s.groups(),
		Gateway: s.gateway(),
		Without: scenario.Without{ICMPOwner: s.has(icmpOwner), ARPOwner: s.has(arpOwner), Failover: s.has(failover), Lists: s.has(flowLists), LastSYN: s.has(lastSYN)},
	}, s.Seed)
	r.report = &report.Report{Name: s.Name, Title: s.title(), About: s.About, Links: s.Links, Command: s.command(), Duration: report.Time(s.Duration),
		Expected: append([]string{}, s.Expect...), Findings: []report.Finding{}}
	for _, k := range settings() {
		if k.show != nil && k.show(s) != "" {
			r.report.Settings = append(r.report.Settings, report.Setting{Key: k.name, Value: k.show(s)})
		}
	}
	r.owned, r.turns = make([]int, len(r.nodes())), make([]int, len(r.nodes()))
	r.watch = newWatch(scenario.VIP(), r.cluster.ClusterMAC())
	for i, h := range r.nodes() {
		r.watch.nodes[h.Name] = i
	}
	world := r.cluster.World
	if o.Frames != nil {
		r.watch.record = func(f []byte) { o.Frames(world.Now(), f) }
	}
	r.cluster.LANs[0].Tap = func(from *sim.Port, f []byte) { r.watch.frame(world.Now(), from, f) }
	if err := r.addUsers(o.Replay); err != nil {
		return err
	}
	r.cluster.Tell(r.note)
	if err := r.plan(); err != nil {
		return err
	}
	r.boot()
	r.sample()
	world.At(usersCome, r.cluster.FixOwners)
	return nil
}

// nodes are the hosts that may own buckets.
func (r *run) nodes() (out []*scenario.Host) {
	for _, h := range r.cluster.Hosts {
		if h.Port() != nil {
			out = append(out, h)
		}
	}
	return out
}

func (r *run) addUsers(replay *Capture) (err error) {
	if r.network, err = r.spec.newNetwork(r.cluster); err != nil {
		return err
	}
	if replay != nil {
		r.addReplay(replay)
		return nil
	}
	for i := range r.spec.Clients {
		c, err := r.network.client(r.spec, i)
		if err != nil {
			return err
		}
		u := &user{Client: c}
		r.users = append(r.users, u)
		r.begin(u)
	}
	return nil
}

// boot starts everybody who is not late.
func (r *run) boot() {
	late := r.spec.hosts()[r.spec.Nodes : r.spec.Nodes+r.spec.Late]
	for _, h := range r.cluster.Hosts {
		isLate := false
		for _, name := range late {
			isLate = isLate || h.Name == name
		}
		if !isLate {
			h.Start()
		}
	}
}

// note is a line of a host's log.
func (r *run) note(_ *scenario.Host, n cluster.Note) {
	now := r.cluster.World.Now()
	if at, ok := r.said[n.Text]; ok && now-at < repeated {
		return
	}
	r.said[n.Text] = now
	r.report.Tell(now, report.Cluster, "%s", n.Text)
	if name, _, ok := strings.Cut(n.Text, " was evicted"); ok {
		r.lost(name, false)
	}
	if name, _, ok := strings.Cut(n.Text, " is taken for dead"); ok {
		planned := slices.ContainsFunc(r.spec.Steps, func(st Step) bool { return st.Host == name && (st.Verb == "restart" || st.Verb == "drain") })
		r.lost(name, !planned)
	}
}

// lost notes that a node is gone.
func (r *run) lost(name string, dead bool) {
	if i, ok := r.watch.nodes[name]; ok {
		r.gone = append(r.gone, absence{i, r.cluster.World.Now(), dead})
	}
}

// diedBetween tells whether a node died in a time, and when.
func (r *run) diedBetween(node int, from, to time.Duration) (time.Duration, bool) {
	for _, g := range r.gone {
		if g.dead && g.node == node && g.at >= from && g.at <= to {
			return g.at, true
		}
	}
	return 0, false
}
