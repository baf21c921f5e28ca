package scenario

import (
	"flag"
	"os"
	"testing"
	"time"
)

var (
	seeds = flag.Uint64("seeds", 20, "how many seeds of chaos")
	first = flag.Uint64("seed", 1, "the first seed")
	trace = flag.Bool("tell", false, "trace the run to standard error")
)

func TestChaos(t *testing.T) {
	for seed := *first; seed < *first+*seeds; seed++ {
		c := NewChaos(seed, 60*time.Second)
		if *trace {
			c.Trace(os.Stderr)
		}
		if breach := c.Run(); breach != "" {
			t.Errorf("%v: %s", c, breach)
			return
		}
	}
}
