package library

import (
	"context"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"onevoice/sim/report"
)

func simulate(t *testing.T, s *Spec) *report.Report {
	t.Helper()
	r, err := Run(context.Background(), s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// text is the report as it is printed, with every line in 80 columns but those
// that are to be copied.
func text(t *testing.T, r *report.Report) string {
	t.Helper()
	var b strings.Builder
	if err := r.Text(&b, false); err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(b.String(), "\n") {
		if utf8.RuneCountInString(line) > report.Columns && !strings.Contains(line, "http") && !strings.HasPrefix(line, "again: ") {
			t.Errorf("%d columns: %s", utf8.RuneCountInString(line), line)
		}
	}
	return b.String()
}

// quick are those that a short run tries.
func quick() []string {
	return []string{"router-refuses-group-mac", "two-nodes-one-decides"}
}

// TestScenarios: each scenario's verdict is what its source says, and is red with
// the rule, or the fault of the network, switched off.
func TestScenarios(t *testing.T) {
	names := Names()
	if len(names) < 15 {
		t.Fatalf("%d scenarios", len(names))
	}
	for _, name := range names {
		if testing.Short() && !slices.Contains(quick(), name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			s, err := Load(name)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Links) == 0 || len(s.Off) == 0 || s.Title == "" {
				t.Errorf("%d links, %d ways to turn it red, title %q", len(s.Links), len(s.Off), s.Title)
			}
			r := simulate(t, s)
			out := text(t, r)
			if !r.AsExpected || len(r.Quiet) > 0 {
				t.Errorf("the verdict is not what was expected, or a fault struck nothing:\n%s", out)
			}
			switch n := &r.Sessions; {
			case name == "a-new-node":
				movesFew(t, r)
			case name == "direct-path-outlives-onevoice" && (n.Open != s.Clients || n.Untouched != n.Open):
				t.Errorf("%+v", n)
			}
			for _, off := range s.Off {
				turned, err := s.With(off)
				if err != nil {
					t.Fatal(err)
				}
				if r := simulate(t, turned); r.AsExpected {
					t.Errorf("with %q the verdict is green still:\n%s", off, text(t, r))
				}
			}
		})
	}
}

// TestAgain: the command that a report names makes the same run.
func TestAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("three runs")
	}
	s, err := Load("one-in-four-never-served")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Flags([]string{"drain n3@9s", "clients 12", "without failover"}); err != nil {
		t.Fatal(err)
	}
	want := "onevoice sim --scenario one-in-four-never-served --clients 12 --without failover --drain 'n3@9s'"
	if s.command() != want {
		t.Errorf("%s\nwant %s", s.command(), want)
	}
	a, b := text(t, simulate(t, s)), text(t, simulate(t, s))
	if a != b {
		t.Errorf("two runs differ:\n%s\n%s", a, b)
	}
	s.Seed++
	if c := text(t, simulate(t, s)); c == a {
		t.Error("another seed changes nothing")
	}
}

// movesFew: one client in five against the kernel hashes' half, and no session is
// touched.
func movesFew(t *testing.T, r *report.Report) {
	m := r.Moved
	if m.Clients != 120 || m.Moved == 0 || m.Moved*4 > m.Clients || m.Kernel*10 < m.Clients*4 || m.Kernel*10 > m.Clients*6 {
		t.Errorf("%+v", m)
	}
	if r.Sessions.Untouched != r.Sessions.Open || r.Sessions.Open != 120 {
		t.Errorf("%+v", r.Sessions)
	}
}

// TestNetstackAgrees: with the daemon's own workers the verdicts are the same.
func TestNetstackAgrees(t *testing.T) {
	if testing.Short() {
		t.Skip("netstack has processors of its own to wait for")
	}
	for _, name := range []string{"ping-is-answered-once", "one-in-four-never-served", "ssh-users-and-a-dead-node", "ssh-users-and-an-upgrade", "router-refuses-group-mac"} {
		s, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		s.TCP = "netstack"
		if r := simulate(t, s); !r.AsExpected {
			t.Errorf("%s", text(t, r))
		}
		turned, err := s.With(s.Off[0])
		if err != nil {
			t.Fatal(err)
		}
		if r := simulate(t, turned); r.AsExpected {
			t.Errorf("with %q the verdict is green still:\n%s", s.Off[0], text(t, r))
		}
	}
}

// TestAFaultThatStruckNothingIsTold: of one that nothing was there for.
func TestAFaultThatStruckNothingIsTold(t *testing.T) {
	s := New()
	if err := s.Flags([]string{"break n2@8s", "users ping", "clients 2"}); err != nil {
		t.Fatal(err)
	}
	if out := text(t, simulate(t, s)); !strings.Contains(out, "this fault struck nothing: break n2@8s") {
		t.Error(out)
	}
}
