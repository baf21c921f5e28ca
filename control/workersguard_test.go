package control

import (
	"testing"
	"time"

	"onevoice/node"
)

func TestGuardUntil(t *testing.T) {
	const end = 10 * time.Second
	for _, c := range []struct {
		now   time.Duration
		apart bool
		want  time.Duration
	}{
		{end - 1, false, end},
		{end, false, end},
		{end - 1, true, end},
		{end, true, node.Forever},
	} {
		if got := guardUntil(c.now, end, c.apart); got != c.want {
			t.Errorf("at %v, apart %v: until %v, want %v", c.now, c.apart, got, c.want)
		}
	}
}
