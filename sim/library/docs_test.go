package library

import (
	"os"
	"strings"
	"testing"

	"onevoice/config"
	"onevoice/sim"
	"onevoice/sim/scenario"
)

// TestDocsNameEverything: docs/sim.md has every kind of LAN and router, every
// finding, rule and scenario, and each of its commands can be run.
func TestDocsNameEverything(t *testing.T) {
	b, err := os.ReadFile("../../docs/sim.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for what, names := range map[string][]string{"LAN": lans(), "router": routers()} {
		for _, n := range names {
			if !strings.Contains(text, n+"`") {
				t.Errorf("the %s %s is not there", what, n)
			}
		}
	}
	for what, names := range map[string][]string{"finding": Codes(), "rule": rules(), "scenario": Names()} {
		for _, n := range names {
			if !strings.Contains(text, "`"+n+"`") {
				t.Errorf("the %s %s is not there", what, n)
			}
		}
	}
	for _, v := range ownVerbs() {
		if v.name != "undrain" && v.name != "weight" && !strings.Contains(text, "--"+v.name) {
			t.Errorf("the step %s is not there", v.name)
		}
	}
	_, file, _ := strings.Cut(text, "```\n")
	file, _, _ = strings.Cut(file, "```")
	if s, err := Parse("docs/sim.md", file); err != nil || len(s.Steps) != 2 {
		t.Errorf("its scenario: %v", err)
	}
}

// TestHelpOfAllFaults: a kind of fault that is new needs its help.
func TestHelpOfAllFaults(t *testing.T) {
	for _, k := range sim.Kinds() {
		if stepHelp(k) == "" {
			t.Errorf("%s has no help", k)
		}
	}
}

// TestMACsAreTheFiles: the shared MAC and the group of each mode are those that the
// file gives the VIP of the simulated LAN.
func TestMACsAreTheFiles(t *testing.T) {
	b, err := os.ReadFile("../../config/testdata/reference.toml")
	if err != nil {
		t.Fatal(err)
	}
	const line = `# mac_mode = "multicast"`
	if !strings.Contains(string(b), line) {
		t.Fatal("the reference has no mac_mode")
	}
	for _, mode := range []string{"multicast", "igmp", "unicast"} {
		text := strings.Replace(string(b), line, `mac_mode = "`+mode+`"`, 1)
		c, err := config.Parse("x", []byte(text), "unix1")
		if err != nil {
			t.Fatal(err)
		}
		s := New()
		s.MACMode = mode
		mac, groups := s.clusterMAC(), s.groups()
		if mac == (sim.MAC{}) {
			mac = scenario.New(scenario.Options{}, 1).ClusterMAC()
		}
		if v := c.VIPs[0]; v.Address.Addr() != scenario.VIP() || sim.MAC(v.MAC) != mac {
			t.Errorf("mac_mode %s: the file has %s at %s, the simulator %x", mode, v.Address, v.MAC, mac)
		}
		if g := c.VIPs[0].Group(); g.IsValid() != (len(groups) == 1) || g.IsValid() && g != groups[0] {
			t.Errorf("mac_mode %s: the file joins %v, the simulator %v", mode, g, groups)
		}
	}
}
