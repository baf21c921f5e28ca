package library

import (
	"net/netip"
	"strings"
	"testing"
)

// TestWrongStatements: each says where it is and what to write instead.
func TestWrongStatements(t *testing.T) {
	for text, says := range map[string]string{
		"node 4":                                `x:1: there is no "node"; settings are nodes, `,
		"nodes 4\n\nnodes 5":                    "x:3: nodes is set in line 1 already",
		"nodes many":                            "x:1: nodes is many; write a number from 1 to 32",
		"clients 20001":                         "write a number from 1 to 20000",
		"duration 61m":                          "write a time from 1s to 1h0m0s",
		"nodes 33":                              "write a number from 1 to 32",
		"nodes":                                 "nodes needs a value behind it",
		"lan star":                              `there is no lan "star"; write switch, hub,`,
		"mac-mode anycast":                      "write multicast, igmp or unicast",
		"router cisco":                          `there is no router "cisco"`,
		"affinity ip":                           "write source-ip, source-net",
		"duration long":                         "write a time from 1s to 1h0m0s",
		"duration 5s":                           "too short for a cluster",
		"seed -1":                               "write a number from 0",
		"without leases":                        `there is no rule "leases" to do without`,
		"expect happy":                          `nothing is ever found that is called "happy"`,
		"link example.com":                      "write one with https://",
		"off lan star":                          `x: off lan star: there is no lan "star"`,
		"kill n9@5s":                            `there is no host "n9"; there are n1, n2, n3, n4`,
		"kill n2 5s":                            "column",
		"kill n2@soon":                          `"soon" is not a time`,
		"smash n2@5s":                           `there is no "smash"`,
		"drain n2":                              "when is missing",
		"drain n9@5s":                           `there is no host "n9"`,
		"undrain n2@5s+1s":                      "undrain happens at once",
		"drain n2@5s+0s":                        "longer than 0",
		"weight n2@5s":                          "is not an amount",
		"weight n2=x@5s":                        `"x" is not an amount`,
		"trunk-down t1@5s":                      "this LAN has no trunk; use lan dual",
		"lan dual\ntrunk-down t2@5s":            `there is no trunk "t2"; there are t1`,
		"router-down r1@5s":                     "there is no router",
		"kill n2@30s":                           "the run ends at 20s",
		"start n2@5s":                           "n2 runs from the beginning",
		"nodes 2":                               "two-nodes witness",
		"two-nodes preferred":                   "is for two nodes, not for 4",
		"nodes 30\nlate 5":                      "more than the 32",
		"nat 30":                                "30 clients cannot share an address when there are 20",
		"lan hub\nwithout group-flooding":       "a hub cannot do without",
		"mac-mode unicast\nrouter pair-circles": "write router pair",
	} {
		_, err := Parse("x", text)
		if err == nil || !strings.Contains(err.Error(), says) || !strings.HasPrefix(err.Error(), "x:") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
	if _, err := Parse("x", strings.Repeat("# much\n", MaxFile/7+1)); err == nil {
		t.Error("a file without end was read")
	}
}

// TestCommentsAndOrder: steps may come before the settings that make their hosts.
func TestCommentsAndOrder(t *testing.T) {
	s, err := Parse("x", "# a scenario\nkill n6@5s # the last\n\tnodes   6\n")
	if err != nil || s.Nodes != 6 || len(s.Steps) != 1 || s.Steps[0].String() != "kill n6@5s" {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestKernelNode: the vectors of CLUSTERIP in its mode sourceip.
func TestKernelNode(t *testing.T) {
	if h := jhash1(0xc0a80001); h != 0x141c753e {
		t.Errorf("192.168.0.1: %08x", h)
	}
	for ip, want := range map[string]int{"192.168.0.1": 1, "10.0.0.2": 2} {
		if got := kernelNode(netip.MustParseAddr(ip), 4); got != want {
			t.Errorf("%s is node %d's, want %d", ip, got, want)
		}
	}
}

// FuzzParse: no file makes it panic.
func FuzzParse(f *testing.F) {
	for _, name := range Names() {
		f.Add(Text(name))
	}
	f.Fuzz(func(_ *testing.T, text string) { _, _ = Parse("x", text) })
}
