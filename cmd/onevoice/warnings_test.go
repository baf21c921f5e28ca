package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"onevoice/admin"
	"onevoice/cluster"
)

// four is a healthy cluster of four as its first node sees it.
func four() *situation {
	s := &situation{Status: &cluster.Status{ID: 1, Phase: "member", Tables: map[string][256]uint64{"ssh": {}}}, leased: true, port: 7177}
	for i := range 4 {
		h := cluster.HostStatus{Self: i == 0, Voter: i < 3, Leased: true, Heard: 20 * time.Millisecond}
		h.ID, h.Name, h.Address, h.In, h.Weight, h.Percent = uint64(i+1), "n"+string(rune('1'+i)), "10.77.0.1"+string(rune('1'+i)), true, 100, 100
		s.Hosts = append(s.Hosts, h)
	}
	var owners [256]uint64
	for b := range owners {
		owners[b] = uint64(b%4 + 1)
	}
	s.Tables["ssh"] = owners
	return s
}

func silent(s *situation, hosts ...int) {
	for _, i := range hosts {
		s.Hosts[i].Heard = 2 * admin.SilentAfter
	}
}

// Each trouble has its sentence with what to do, the worst is told first, and
// what only follows from it is not told.
func TestWarnings(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(s *situation)
		// want are parts of the sentences, in order.
		want []string
	}{
		{"all is well", func(*situation) {}, nil},
		{"no cluster", func(s *situation) { *s = situation{Status: &cluster.Status{Phase: "blank"}, port: 7177} }, []string{"drops UDP port 7177; or see `onevoice bootstrap --help`"}},
		{"a node is dead", func(s *situation) { silent(s, 2); s.Hosts[2].In = false }, []string{"n3 (10.77.0.13) is away, and the others have its buckets; start onevoice there"}},
		{"cut off", func(s *situation) { silent(s, 1, 2, 3); s.leased = false }, []string{"hears none of the others"}},
		{"no majority", func(s *situation) { silent(s, 1, 2); s.leased, s.Hosts[3].Leased = false, false },
			[]string{"2 of 3 voters are away (n2, n3)", "n2 (10.77.0.12) is not heard", "n3", "n4 (10.77.0.14) speaks and holds no lease"}},
		{"forgotten, or not heard", func(s *situation) { s.leased = false }, []string{"gets no lease from them"}},
		{"the preferred is away", func(s *situation) {
			s.Hosts = s.Hosts[:2]
			s.Hosts[0].Voter, s.preferred, s.leased = false, true, false
			silent(s, 1)
		}, []string{"n2, the preferred node, is not heard"}},
		{"the preferred is left", func(s *situation) {
			s.Hosts, s.preferred = s.Hosts[:2], true
			s.Hosts[1].Voter, s.Hosts[1].In = false, false
			silent(s, 1)
		}, []string{"n2 (10.77.0.12) is away, and the others have its buckets; start onevoice there"}},
		{"the disk is full", func(s *situation) {
			s.disk, s.Warnings = "no space left on device", []string{"this node knows the table up to entry 7"}
			silent(s, 1)
		}, []string{"no space left on device", "up to entry 7", "n2"}},
		{"no witness", func(s *situation) { s.Hosts[2].Witness = true; silent(s, 2) }, []string{"n3 (10.77.0.13), the witness, is not heard"}},
		{"a service down here", func(s *situation) { s.Hosts[0].Health = []cluster.Health{{Service: "ssh"}} }, []string{"ssh is down on this node"}},
		{"a service down there", func(s *situation) { s.Hosts[1].Health = []cluster.Health{{Service: "ssh"}} }, []string{"ssh is down on n2 (10.77.0.12)"}},
		{"a service down here, and nobody takes its buckets", func(s *situation) {
			s.Hosts[0].Health, s.Hosts[0].Buckets = []cluster.Health{{Service: "ssh"}}, map[string]int{"ssh": 175}
		}, []string{"ssh is down on this node, and some of its buckets are there still, whose clients are refused"}},
		{"a service down everywhere, a node dead", func(s *situation) {
			for i := range s.Hosts {
				s.Hosts[i].Health = []cluster.Health{{Service: "ssh"}}
			}
			silent(s, 3)
		}, []string{"ssh is down on every node", "n4 (10.77.0.14) is not heard"}},
		{"files differ", func(s *situation) {
			s.Differs = []string{"ssh"}
			s.Hosts[0].Health = []cluster.Health{{Service: "ssh"}}
		}, []string{"not the same in this node's file"}},
		{"a VIP that is elsewhere in all files", func(s *situation) {
			s.Differs = []string{"vip 10.77.0.2"}
			for i := range s.Hosts {
				s.Hosts[i].Health = []cluster.Health{{Service: "vip 10.77.0.2"}}
			}
		}, []string{"no node answers for 10.77.0.2, for", "10.77.0.2 has another MAC, interface or VLAN"}},
		{"all drain", func(s *situation) {
			for i := range s.Hosts {
				s.Hosts[i].Draining = true
			}
		}, []string{"every node is to drain"}},
		{"the witness alone", func(s *situation) {
			s.Hosts = s.Hosts[:3]
			s.Hosts[2].Witness, s.leased = true, false
			silent(s, 1)
		}, []string{"hears the witness and no other node", "n2 (10.77.0.12) is not heard"}},
		{"the gateway is away", func(s *situation) { s.Hosts[0].Percent, s.unfit = 0, []string{"gateway 10.77.0.1 (no answer)"} },
			[]string{"by its own word: gateway 10.77.0.1 (no answer)"}},
		{"no owner", func(s *situation) { s.Tables["ssh"] = [256]uint64{1} }, []string{"255 buckets of ssh have no owner"}},
		{"another key, and cut off by it", func(s *situation) {
			silent(s, 1, 2, 3)
			s.leased, s.complaints = false, []string{"another cluster key"}
		}, []string{"hears none", "another cluster key"}},
	} {
		s := four()
		c.make(s)
		got := s.warnings()
		if len(got) != len(c.want) || !slices.EqualFunc(got, c.want, strings.Contains) {
			t.Errorf("%s:\n%s\nwant %q", c.name, strings.Join(got, "\n"), c.want)
		}
	}
}

func TestWrapped(t *testing.T) {
	text := strings.Repeat("a word or two ", 20)
	got := strings.Split(wrapped("WARNING  ", text), "\n")
	for i, line := range got {
		if len(line) > columns || i > 0 && !strings.HasPrefix(line, "         a") && line[9] == ' ' || len(line) < 60 && i < len(got)-1 {
			t.Errorf("%d columns: %q", len(line), line)
		}
	}
	if strings.Join(strings.Fields(strings.Join(got, " ")), " ") != "WARNING "+strings.TrimSpace(text) {
		t.Errorf("%q", got)
	}
}
