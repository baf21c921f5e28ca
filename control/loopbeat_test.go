package control

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"onevoice/cluster"
)

// Every lease that is lost is counted and said, and nothing else is.
func TestLostLeasesAreTold(t *testing.T) {
	none, first, longer, second := cluster.Lease{}, cluster.Lease{Begin: 1, End: 10}, cluster.Lease{Begin: 1, End: 20}, cluster.Lease{Begin: 12, End: 30}
	for name, c := range map[string]struct {
		leases [][]cluster.Lease
		lost   uint64
		says   string
	}{
		"taken":                  {[][]cluster.Lease{{none}, {first}}, 0, "answering"},
		"renewed":                {[][]cluster.Lease{{first}, {longer}}, 0, "answering"},
		"run out":                {[][]cluster.Lease{{first}, {none}}, 1, "the lease is over:"},
		"run out and stays so":   {[][]cluster.Lease{{first}, {none}, {none}}, 1, "the lease is over:"},
		"run out and held again": {[][]cluster.Lease{{first}, {none}, {second}}, 1, "answering"},
		"held again at once":     {[][]cluster.Lease{{first}, {second}}, 1, "the lease was over and is held again"},
		"of one path of two":     {[][]cluster.Lease{{first, first}, {none, longer}}, 1, "the lease was over and is held again"},
		"of both paths":          {[][]cluster.Lease{{first, first}, {none, none}}, 2, "the lease is over:"},
	} {
		var out bytes.Buffer
		l := &Loop{LoopConfig: LoopConfig{Log: slog.New(slog.NewTextHandler(&out, nil))}}
		for _, leases := range c.leases {
			l.tellLease(leases)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if last := lines[len(lines)-1]; l.stats.LeasesLost != c.lost || !strings.Contains(last, c.says) {
			t.Errorf("%s: %d lost, and at last %q; want %d and %q", name, l.stats.LeasesLost, last, c.lost, c.says)
		}
	}
}
