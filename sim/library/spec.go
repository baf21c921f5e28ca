package library

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"onevoice/cluster"
	"onevoice/hashing"
	"onevoice/sim"
)

// Spec is what is to be simulated.
type Spec struct {
	// Name is the scenario's in the library, or its file's.
	Name, Title, About string
	// Links lead to the standards and documents that say why.
	Links []string

	Nodes, Late int
	TwoNodes    string // "", "witness" or "preferred"
	LAN         string
	MACMode     string
	Router      string
	// Membership is a snooping switch's group membership interval.
	Membership time.Duration
	Clients    int
	Users      string
	// TCP is "model", or "netstack" for the daemon's own workers.
	TCP string
	// Path is the service's: "netstack", or "direct" for one that the host's kernel
	// serves.
	Path string
	// NAT is how many of the clients share one address; the others have their own.
	NAT      int
	Every    time.Duration
	Affinity hashing.Affinity
	Timing   string
	Seed     uint64
	Duration time.Duration
	// Without are rules that are switched off.
	Without []string
	Steps   []Step

	// Expect are the codes of the findings that are to come; none for healthy.
	Expect []string
	// Off are statements each of which, put on top, turns the verdict red.
	Off []string
}

// Step is something that happens at a time: a fault of sim's language, or one of
// this package's own verbs.
type Step struct {
	At, For time.Duration
	Verb    string
	// Host and Amount are of own verbs.
	Host   string
	Amount int
	// Fault is set when Verb is a fault of package sim.
	Fault *sim.Fault
	line  string
}

// String is the step as it was written.
func (s *Step) String() string { return s.line }

// Bounds and defaults of a Spec.
const (
	MaxNodes    = cluster.MaxHosts
	MaxClients  = 20_000
	MaxDuration = time.Hour

	defaultDuration = 20 * time.Second
	// usersCome is when the clients begin, lastOrders how long before the end they
	// begin nothing new, so that what they have begun can be answered.
	usersCome  = 3 * time.Second
	lastOrders = 4 * time.Second
	// shortest is the shortest run that leaves clients some time.
	shortest = 10 * time.Second
	// leastMembership leaves two queries and the response interval within it.
	leastMembership = 2 * responseInterval
	// responseInterval is RFC 2236 §8.3's.
	responseInterval = 10 * time.Second
)

// New is a Spec with the defaults.
func New() *Spec {
	return &Spec{Nodes: 4, LAN: "switch", MACMode: "multicast", Router: "none", Membership: sim.DefaultMembership, Clients: 20, Users: "web", TCP: "model", Path: "netstack",
		Every: time.Second, Timing: cluster.LAN, Seed: 1, Duration: defaultDuration}
}

// hosts are the names that steps may use.
func (s *Spec) hosts() (out []string) {
	for i := range s.Nodes + s.Late {
		out = append(out, fmt.Sprintf("n%d", i+1))
	}
	if s.TwoNodes == "witness" {
		out = append(out, "w")
	}
	return out
}

// Check says what cannot be about a Spec as a whole, and what to write instead.
func (s *Spec) Check() error {
	switch {
	case s.Nodes+s.Late > MaxNodes:
		return fmt.Errorf("%d nodes and %d late ones are more than the %d of a cluster; use fewer, or several clusters (docs/scaling.md)", s.Nodes, s.Late, MaxNodes)
	case s.Nodes == 2 && s.TwoNodes == "":
		return errors.New("two nodes that do not hear each other cannot know who is to go on; say who decides with `two-nodes witness` or `two-nodes preferred`")
	case s.TwoNodes == "preferred" && s.Nodes != 2:
		return fmt.Errorf("`two-nodes preferred` is for two nodes, not for %d; leave it out", s.Nodes)
	case s.NAT > s.Clients:
		return fmt.Errorf("%d clients cannot share an address when there are %d; raise clients or lower nat", s.NAT, s.Clients)
	case s.Path == "direct" && s.TCP == "netstack":
		return errors.New("with `path direct` the host's kernel speaks TCP, and there is no netstack; leave `tcp netstack` out")
	case s.has(flowLists) && s.Path != "direct":
		return errors.New("without flow-lists is of the direct path alone, for elsewhere a run has no such lists; write `path direct`, or leave it out")
	case s.has(lastSYN) && s.TCP == "netstack":
		return errors.New("without last-syn is of `tcp model` and `path direct`, for the daemon's own worker keeps that rule itself; leave one of them out")
	case s.Duration < shortest:
		return fmt.Errorf("a run of %v is too short for a cluster to come up and be used; write %v or more", s.Duration, shortest)
	}
	if err := s.checkNetwork(); err != nil {
		return err
	}
	return s.checkSteps()
}

// ForReplay makes the run as long as a capture.
func (s *Spec) ForReplay(c *Capture) {
	s.Duration = max(shortest, usersCome+c.Length.Round(time.Second)+time.Second+lastOrders)
	s.Title = fmt.Sprintf("%d nodes, LAN %s, and what clients said to %v", s.Nodes, s.LAN, c.VIP)
}

func (s *Spec) checkSteps() error {
	for i := range s.Steps {
		st := &s.Steps[i]
		switch {
		case st.At >= s.Duration:
			return fmt.Errorf("`%v` begins at %v, but the run ends at %v; raise duration", st, st.At, s.Duration)
		case st.Verb == "start" && !slices.Contains(s.hosts()[s.Nodes:], st.Host):
			return fmt.Errorf("`%v`: %s runs from the beginning; only a late host is started (`late 1` adds n%d)", st, st.Host, s.Nodes+1)
		}
	}
	return nil
}

// title is what it is in a line.
func (s *Spec) title() string {
	if s.Title != "" {
		return s.Title
	}
	title := fmt.Sprintf("%d nodes, LAN %s, mac_mode %s", s.Nodes, s.LAN, s.MACMode)
	if s.Router != "none" {
		title += ", router " + s.Router
	}
	return title + fmt.Sprintf(", %d clients", s.Clients)
}

// command makes this run again.
func (s *Spec) command() string {
	var b strings.Builder
	b.WriteString("onevoice sim")
	if s.Name != "" {
		b.WriteString(" --scenario " + s.Name)
	}
	base := New()
	if s.Name != "" {
		if known, err := Load(s.Name); err == nil {
			base = known
		}
	}
	for _, k := range settings() {
		if k.show == nil {
			continue
		}
		if now := k.show(s); now != k.show(base) {
			fmt.Fprintf(&b, " --%s %s", k.name, now)
		}
	}
	for i := range s.Steps {
		line := s.Steps[i].line
		if slices.ContainsFunc(base.Steps, func(o Step) bool { return o.line == line }) {
			continue
		}
		verb, rest, _ := strings.Cut(line, " ")
		fmt.Fprintf(&b, " --%s '%s'", verb, strings.TrimSpace(rest))
	}
	return b.String()
}
