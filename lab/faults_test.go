package lab

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func needNFT(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft to cut cables")
	}
}

// Who hears whom with each fault; group frames, broadcast and unicast alike, on
// a switch and on a hub. Afterwards all is as before.
func TestFaultsOfCables(t *testing.T) {
	needNFT(t)
	for _, kind := range []Kind{Switch, Hub} {
		l := buildLAN(t, Spec{Nodes: 4, Clients: 1, Addresses: 1, LAN: kind})
		all := stations(t, l)
		everybodySpeaks(t, all)
		for _, c := range []struct {
			name string
			make func() error
			undo func() error
			// lost are the ways "from>to" on which nothing passes.
			lost string
		}{
			{"deaf", func() error { return l.Deafen(all["n1"].Host, true) }, func() error { return l.Deafen(all["n1"].Host, false) }, "client1>n1 n2>n1 n3>n1 n4>n1"},
			{"mute", func() error { return l.Mute(all["n1"].Host, true) }, func() error { return l.Mute(all["n1"].Host, false) }, "n1>client1 n1>n2 n1>n3 n1>n4"},
			{"split", func() error {
				sides, err := l.Sides("n1,ov-n2/n3,n4")
				if err != nil {
					return err
				}
				return l.Split(sides)
			}, l.Join, "n1>n3 n1>n4 n2>n3 n2>n4 n3>n1 n3>n2 n4>n1 n4>n2"},
			{"split with the clients on one side", func() error {
				sides, err := l.Sides("n1,n2,n3,clients/n4")
				if err != nil {
					return err
				}
				return l.Split(sides)
			}, l.Heal, "n1>n4 n2>n4 n3>n4 client1>n4 n4>n1 n4>n2 n4>n3 n4>client1"},
		} {
			t.Run(string(kind)+" "+c.name, func(t *testing.T) {
				if err := c.make(); err != nil {
					t.Fatal(err)
				}
				onOneProcessor(t, func() {
					for _, from := range all {
						from.write(t, frameTo{broadcast(), "broadcast"})
						from.write(t, frameTo{ClusterMAC(), "group"})
						for _, to := range all {
							if to != from {
								from.write(t, frameTo{to.MAC, from.Name + " to " + to.Name})
							}
						}
					}
				})
				if err := c.undo(); err != nil {
					t.Fatal(err)
				}
				// This passes, and behind it comes nothing of before.
				onOneProcessor(t, func() {
					for _, s := range all {
						s.write(t, frameTo{broadcast(), end})
					}
				})
				for _, to := range all {
					wantHeard(t, to, to.heardFrom(t, all), strings.Fields(c.lost))
				}
			})
		}
	}
}

// wantHeard checks what a station heard of each other. What a hub repeats for
// somebody else is not looked at.
func wantHeard(t *testing.T, to *station, got map[string][]string, lost []string) {
	t.Helper()
	for from, heard := range got {
		mine := from + " to " + to.Name
		heard = slices.DeleteFunc(heard, func(s string) bool { return strings.Contains(s, " to ") && s != mine })
		want := []string{"broadcast", "group", mine}
		if slices.Contains(lost, from+">"+to.Name) {
			want = []string{}
		}
		if !slices.Equal(heard, want) {
			t.Errorf("%s heard of %s %q, want %q", to.Name, from, heard, want)
		}
	}
}

// heardFrom are the names of the frames of each station, until the last of all.
func (s *station) heardFrom(t *testing.T, all map[string]*station) map[string][]string {
	t.Helper()
	out, ended := map[string][]string{}, 0
	for _, other := range all {
		if other != s {
			out[other.Name] = nil
		}
	}
	for ended < len(all)-1 {
		name, src := s.next(t)
		if name == end {
			ended++
			continue
		}
		for _, other := range all {
			if src.String() == other.MAC.String() {
				out[other.Name] = append(out[other.Name], name)
			}
		}
	}
	return out
}

// The sniffer sits before the faults: what a mute node sends is seen, and a
// deaf node's silence is its own.
func TestSnifferHearsTheMute(t *testing.T) {
	needNFT(t)
	l := buildLAN(t, Spec{Nodes: 1, Clients: 1, Addresses: 1, LAN: Switch})
	s, err := NewSniffer(l, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := l.Mute(l.Nodes()[0], true); err != nil {
		t.Fatal(err)
	}
	all := stations(t, l)
	all["n1"].write(t, frameTo{broadcast(), "unheard"})
	v, err := s.Verdict()
	if err != nil {
		t.Fatal(err)
	}
	if v.Nodes["n1"].Frames != 1 {
		t.Errorf("the sniffer saw %d frames of a mute node, want 1", v.Nodes["n1"].Frames)
	}
}

func TestRulesOfFaults(t *testing.T) {
	const none = "table bridge onevoice_lab\ndelete table bridge onevoice_lab\n"
	const head = none + "table bridge onevoice_lab {\n chain passed_on {\n  type filter hook forward priority 0; policy accept;\n"
	for _, c := range []struct {
		faults *faults
		want   string
	}{
		{&faults{}, none},
		{&faults{deaf: map[string]bool{"n2": true, "n1": true}, mute: map[string]bool{"n3": true}},
			head + "  oifname \"n1\" drop\n  oifname \"n2\" drop\n  iifname \"n3\" drop\n }\n}\n"},
		{&faults{side: map[string]int{"n1": 1, "n3": 2, "n2": 1}},
			head + "  iifname { \"n1\", \"n2\" } oifname { \"n3\" } drop\n  iifname { \"n3\" } oifname { \"n1\", \"n2\" } drop\n }\n}\n"},
	} {
		if got := c.faults.rules(); got != c.want {
			t.Errorf("got\n%s\nwant\n%s", got, c.want)
		}
	}
}

// A wrong fault is refused with a word, and changes nothing.
func TestWrongFaults(t *testing.T) {
	l := &LAN{Hosts: []*Host{{Name: "n1", Node: true}, {Name: "n2", Node: true}, {Name: "client1"}}}
	for text, says := range map[string]string{
		"n1":                "a split has 2 to 8 sides",
		"n1/n9":             `there is no host "n9"`,
		"n1,n2/":            `there is no host ""`,
		"n1,n2/n2":          "n2 is on two sides",
		"n1/n2,client1/n1":  "n1 is on two sides",
		"n1/n2/clients/n1,": `there is no host ""`,
	} {
		sides, err := l.Sides(text)
		if err == nil {
			err = l.Split(sides)
		}
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
	if err := l.Split([][]*Host{{l.Hosts[0]}, {}}); err == nil || !strings.Contains(err.Error(), "one side of the split is empty") {
		t.Errorf("an empty side: %v", err)
	}
	if err := l.Heal(); err != nil {
		t.Errorf("nothing to heal: %v", err)
	}
	lab := &Lab{LAN: l}
	for _, c := range []struct {
		req  Request
		says string
	}{
		{Request{Verb: "stall", Host: "n1", For: 2 * time.Hour}, "--for is 2h0m0s; write up to 1h0m0s"},
		{Request{Verb: "mute", Host: "n1", For: -1}, "--for is -1ns"},
		{Request{Verb: "deafen", Host: "n1"}, `there is no node "n1"`},
	} {
		if err := lab.fault(t.Context(), &c.req); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, want %q", c.req, err, c.says)
		}
	}
}
