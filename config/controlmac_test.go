package config

import (
	"strings"
	"testing"
)

// CLUSTERIP's manuals have 01:00:5e:00:00:20 for an example. Beside nodes that use it it
// is taken, with a warning, and not without.
func TestAMACOfAProtocolBesideOtherSystems(t *testing.T) {
	const mac = "[[vip]]\nmac = \"01:00:5e:00:00:20\"\n"
	if _, err := Parse("f", []byte(edited(t, good, "[[vip]]\n", mac)), "h"); err == nil || !strings.Contains(err.Error(), "belongs to a protocol") {
		t.Errorf("%v", err)
	}
	text := edited(t, edited(t, good, "[[vip]]\n", mac), `name = "ssh"`, "name = \"ssh\"\nhash = \"clusterip\"\ntotal_nodes = 2")
	c, err := Parse("f", []byte(text), "h")
	if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "change it when the last of them is gone") {
		t.Errorf("%v, %v", c, err)
	}
}
