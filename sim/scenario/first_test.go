package scenario

import (
	"os"
	"testing"
	"time"
)

func TestColdStart(t *testing.T) {
	c := New(Options{Nodes: 4, Timing: "lan", DriftPPM: 200, Services: 1}, 1)
	if testing.Verbose() {
		c.Trace(os.Stderr)
	}
	c.Boot(c.Hosts...)
	took, ok := c.Until(5*time.Second, c.AllOwned)
	t.Log(took, ok, c.Breaches)
	if !ok {
		t.Fatal(c.describe())
	}
	c.Hosts[0].crash()
	took, ok = c.Until(5*time.Second, c.AllOwned)
	t.Log("after crash", took, ok, c.Breaches)
	if !ok {
		t.Fatal(c.describe())
	}
}
