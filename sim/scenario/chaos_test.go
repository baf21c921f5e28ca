package scenario

import (
	"flag"
	"os"
	"testing"
	"time"
)

var (
	seeds = flag.Uint64("seeds", 6, "how many seeds of chaos")
	first = flag.Uint64("seed", 1, "the first seed")
	tell  = flag.Bool("tell", false, "trace the run to standard error")
)

func TestChaos(t *testing.T) {
	counts := map[string]int{}
	many := *seeds
	if testing.Short() {
		many = min(many, 1) // a world is one goroutine: the race detector learns all in one
	}
	for seed := *first; seed < *first+many; seed++ {
		c := NewChaos(seed, 60*time.Second)
		if *tell {
			c.Trace(os.Stderr)
		}
		if breach := c.Run(); breach != "" {
			t.Fatalf("%v: %s", c, breach)
		}
		for k, n := range c.Counts {
			counts[k] += n
		}
		if testing.Verbose() {
			t.Logf("%v: %d served, %d not, %d events", c, c.Served, c.Refused, c.World.Events())
		}
	}
	t.Log(counts)
}
