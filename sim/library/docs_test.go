package library

import (
	"os"
	"strings"
	"testing"

	"onevoice/sim"
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
