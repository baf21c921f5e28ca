package control

import (
	"testing"
	"time"
)

// That this host drops the services' clients is said when some have tried for a while and
// none has come in, and no longer when one has, or nobody tries any more.
func TestKeptOut(t *testing.T) {
	type seen struct {
		at            time.Duration
		passed, begun uint64
		half          bool
		want          bool
	}
	for name, moments := range map[string][]seen{
		"nobody tries":       {{0, 10, 5, false, false}, {time.Hour, 10, 5, false, false}},
		"all come in":        {{0, 10, 5, false, false}, {1, 13, 8, false, false}, {10 * time.Second, 16, 11, false, false}},
		"too few":            {{0, 10, 5, false, false}, {1, 12, 5, false, false}, {10 * time.Second, 12, 5, false, false}},
		"too soon":           {{0, 10, 5, false, false}, {keptOutAfter - 1, 20, 5, false, false}},
		"none comes in":      {{0, 10, 5, false, false}, {1, 12, 5, false, false}, {keptOutAfter, 13, 5, false, true}, {keptOutAfter + 1, 13, 5, false, true}},
		"half-open ones":     {{0, 10, 5, false, false}, {1, 12, 5, true, false}, {keptOutAfter, 13, 5, false, false}},
		"one comes in again": {{0, 10, 5, false, false}, {keptOutAfter, 13, 5, false, true}, {keptOutAfter + 1, 14, 6, false, false}, {keptOutAfter + 2, 14, 6, false, false}},
		"they give up":       {{0, 10, 5, false, false}, {keptOutAfter, 13, 5, false, true}, {keptOutAfter + keptOutUntil, 13, 5, false, true}, {keptOutAfter + keptOutUntil + 1, 13, 5, false, false}},
		"a long quiet":       {{0, 10, 5, false, false}, {time.Hour, 10, 5, false, false}, {time.Hour + 1, 20, 5, false, false}},
	} {
		var k keptOut
		for i, s := range moments {
			if k.look(s.at, s.passed, s.begun, s.half); k.is != s.want {
				t.Errorf("%s, moment %d: %v", name, i, k.is)
			}
		}
	}
}

// Both counters are there on this kernel, and a name that is not is an error.
func TestKernelCounts(t *testing.T) {
	for _, count := range []func() (uint64, error){cookiesSent, connectionsBegun} {
		if _, err := count(); err != nil {
			t.Error(err)
		}
	}
	if _, err := counted(snmp, "Tcp:", "NoSuchCounter"); err == nil {
		t.Error("a counter that is not there has a value")
	}
}
