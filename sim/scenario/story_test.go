package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"onevoice/cluster"
	"onevoice/sim"
)

// story is a file in testdata/stories: what the cluster is, what happens, what is
// expected, and behind a line of dashes what the cluster said. Lines are
//
//	nodes 4, witness, preferred, late 1, services 1, clients 50, run 20s
//	kill n2@5s+3s                 a fault, see sim.ParseFault; kill is of control alone
//	start n5@4s                   a late host is switched on
//	drain n2@5s, undrain n2@9s    an operator's wish
//	gateway n1@3s                 the gateway answers n1
//	expect all owned@5.5s         also: nobody owns; n1 owns some, nothing, all; n1 holds flows
type story struct {
	o       Options
	run     time.Duration
	faults  []string
	steps   []step
	started map[string]bool // by a step of their own
}

// step is something that is done or expected at a time.
type step struct {
	line string
	at   time.Duration
	what []string
}

func parseStory(t *testing.T, text string) story {
	t.Helper()
	s := story{o: Options{Timing: cluster.LAN, DriftPPM: 200}, run: 15 * time.Second, started: map[string]bool{}}
	for n, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "nodes", "witness", "preferred", "late", "services", "clients", "run":
			s.option(t, line)
		case "start", "drain", "undrain", "gateway", "expect":
			what, at, _ := strings.Cut(line, "@")
			d, err := time.ParseDuration(strings.TrimSpace(at))
			if err != nil {
				t.Fatalf("line %d: %v", n+1, err)
			}
			s.steps = append(s.steps, step{strings.TrimSpace(line), d, strings.Fields(what)})
			if words[0] == "start" {
				s.started[s.steps[len(s.steps)-1].what[1]] = true
			}
		default:
			s.faults = append(s.faults, line)
		}
	}
	return s
}

func (s *story) option(t *testing.T, line string) {
	for _, o := range strings.Split(line, ",") {
		var name, value string
		_, _ = fmt.Sscan(o, &name, &value)
		n := 0
		_, _ = fmt.Sscan(value, &n)
		switch name {
		case "nodes":
			s.o.Nodes = n
		case "late":
			s.o.Late = n
		case "services":
			s.o.Services = n
		case "clients":
			s.o.Flows = float64(n)
		case "witness":
			s.o.Witness = true
		case "preferred":
			s.o.Preferred = true
		case "run":
			d, err := time.ParseDuration(value)
			if err != nil {
				t.Fatal(err)
			}
			s.run = d
		default:
			t.Fatalf("%q is no option of a story", name)
		}
	}
}

func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/stories/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d stories: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			script, golden, _ := strings.Cut(string(text), "\n----\n")
			got := tellStory(t, parseStory(t, script))
			switch {
			case *update && !t.Failed():
				if err := os.WriteFile(file, []byte(script+"\n----\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
			case got != golden:
				t.Errorf("the cluster tells it in another way; see the difference with -update and git diff\n%s", got)
			}
		})
	}
}

// owners is what shares says of who owns anything at all.
func owners(shares string) string {
	out := ""
	for _, w := range strings.Fields(shares) {
		if w[0] > '9' {
			out += w
		}
	}
	return out
}

// tellStory runs a story and returns what the cluster said, and who owned how
// much at the end of each quarter of a second in which that changed.
func tellStory(t *testing.T, s story) string {
	c := New(s.o, 1)
	var out strings.Builder
	said := map[string]time.Duration{}
	for _, h := range c.Hosts {
		h.story = func(h *Host, n cluster.Note) {
			if at, ok := said[n.Text]; ok && c.World.Now()-at < 2*time.Second {
				return // all say the same within a moment
			}
			said[n.Text] = c.World.Now()
			fmt.Fprintf(&out, "%7.3fs  %s\n", c.World.Now().Seconds(), n.Text)
		}
		if !s.started[h.Name] {
			h.boot()
		}
	}
	c.site(t, s.faults)
	for _, st := range s.steps {
		c.World.At(st.at, func() { c.step(t, st) })
	}
	last := ""
	for c.World.Now() < s.run && len(c.Breaches) == 0 {
		c.Run(250 * ms)
		// Shares that only grow or shrink are told every 4 s.
		if now := c.shares(); now != last && (owners(now) != owners(last) || c.World.Now()%(4*time.Second) == 0) {
			fmt.Fprintf(&out, "%7.3fs      %s\n", c.World.Now().Seconds(), now)
			last = now
		}
	}
	if len(c.Breaches) > 0 {
		t.Fatal(c.Breaches[0])
	}
	return out.String()
}

// site lets the plan's faults strike here.
func (c *Cluster) site(t *testing.T, faults []string) {
	site := sim.NewSite(c.LANs[0], c.Net)
	off := c.World.NewHub() // a witness is on another LAN
	for _, h := range c.Hosts {
		port := off.Attach(h.Name, h.clock, nil)
		if h.ports != nil {
			port = h.ports[0]
		}
		site.Host(port, h.net, h.clock, h.disk)
	}
	site.Down = func(f sim.Fault) {
		map[sim.Kind]func(*Host){sim.Kill: (*Host).kill, sim.Reboot: (*Host).crash, sim.Wipe: (*Host).wipe}[f.Kind](c.host(f.Hosts[0]))
	}
	site.Up = func(f sim.Fault) { c.host(f.Hosts[0]).restart() }
	plan, err := sim.ParsePlan(strings.Join(faults, "\n"), site.Names())
	if err == nil {
		err = site.Run(plan)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// host finds a host by its name.
func (c *Cluster) host(name string) *Host {
	for _, h := range c.Hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// shares is who owns how many buckets of the VIP.
func (c *Cluster) shares() string {
	out := "owners:"
	for _, h := range c.Hosts {
		if n := h.owns(); n > 0 {
			out += fmt.Sprintf(" %s %d", h.Name, n)
		}
	}
	return out
}

func (c *Cluster) step(t *testing.T, s step) {
	t.Helper()
	if len(s.what) < 2 {
		t.Fatalf("%q is not a step", s.line)
	}
	h := c.host(s.what[1])
	anybody := c.Hosts[0]
	for _, o := range c.Hosts {
		if o.up && o.role == cluster.Node {
			anybody = o
		}
	}
	switch s.what[0] {
	case "start":
		h.boot()
	case "drain", "undrain":
		anybody.ask(cluster.Drain{Node: h.Name, Undo: s.what[0] == "undrain"})
	case "gateway":
		h.step(cluster.Beat{Gateway: true})
	case "expect":
		if !c.expect(h, strings.Join(s.what[1:], " ")) {
			t.Errorf("%s: it is not so; %s\n%s", s.line, c.shares(), c.describe())
		}
	}
}

func (c *Cluster) expect(h *Host, what string) bool {
	switch what {
	case "all owned":
		return c.AllOwned()
	case "nobody owns":
		return c.Owned(0) == 0
	}
	if h == nil {
		return false
	}
	switch _, rest, _ := strings.Cut(what, " "); rest {
	case "owns some":
		return h.owns() > 0
	case "owns nothing":
		return h.owns() == 0
	case "owns all":
		return h.owns() == 256
	case "holds flows":
		return h.held() > 0
	case "holds nothing":
		return h.held() == 0
	}
	return false
}
