package control

import (
	"testing"
	"time"
)

// A file is read when it was left alone, and not more than once a second; one that is
// gone gets its time to come back.
func TestLook(t *testing.T) {
	state := func(n int64) stamp { return stamp{inode: 1, bytes: n} }
	type step struct {
		at    time.Duration
		state stamp
		read  bool
	}
	const ms = time.Millisecond
	for name, steps := range map[string][]step{
		"nothing changes":        {{0, state(0), false}, {5000 * ms, state(0), false}, {10_000 * ms, state(0), false}},
		"it settles":             {{2000 * ms, state(1), false}, {2050 * ms, state(2), false}, {2100 * ms, state(2), false}, {2150 * ms, state(2), true}, {2300 * ms, state(2), false}},
		"it never settles":       {{2000 * ms, state(1), false}, {2090 * ms, state(2), false}, {2180 * ms, state(3), false}, {2900 * ms, state(4), false}, {3000 * ms, state(5), true}, {3100 * ms, state(6), false}, {3900 * ms, state(7), false}, {4000 * ms, state(8), false}, {4100 * ms, state(9), true}},
		"it is as it was":        {{2000 * ms, state(1), false}, {2050 * ms, state(0), false}, {7000 * ms, state(0), false}},
		"again within a second":  {{2000 * ms, state(1), false}, {2100 * ms, state(1), true}, {2200 * ms, state(2), false}, {2300 * ms, state(2), false}, {3099 * ms, state(2), false}, {3100 * ms, state(2), true}},
		"it is made anew":        {{2000 * ms, stamp{}, false}, {3999 * ms, stamp{}, false}, {3999 * ms, state(1), false}, {4099 * ms, state(1), true}},
		"it is gone":             {{2000 * ms, stamp{}, false}, {3999 * ms, stamp{}, false}, {4000 * ms, stamp{}, true}, {5000 * ms, stamp{}, false}},
		"it is gone for a while": {{2000 * ms, stamp{}, false}, {2500 * ms, state(0), false}, {4000 * ms, state(0), false}},
	} {
		l := look{}
		l.read(0, state(0), false)
		for i, s := range steps {
			read, next := l.at(s.at, s.state)
			waits := s.state != l.taken
			if read != s.read || next < s.at || waits && next > s.at+goneTime || !waits && next != never || !read && next == s.at {
				t.Errorf("%s: step %d, at %v: read %v, next at %v", name, i, s.at, read, next)
			}
			if read {
				l.read(s.at, s.state, false)
			}
		}
	}
}

// What could not be used is tried again now and then: the file may be as it was, and
// the rights of its directory not. A file that changed while it was read is read soon.
func TestLookAgain(t *testing.T) {
	l := look{}
	l.read(time.Second, stamp{}, true)
	for at, want := range map[time.Duration]bool{2 * time.Second: false, time.Second + slowLook: true} {
		if read, next := l.at(at, stamp{}); read != want || next > at+slowLook {
			t.Errorf("at %v: %v, next %v", at, read, next)
		}
	}
	l = look{readAt: -time.Minute}
	for _, s := range []struct {
		ms   time.Duration
		read bool
	}{{1000, false}, {1100, true}, {1200, false}, {2099, false}, {2100, true}} {
		now := s.ms * time.Millisecond
		read, next := l.at(now, stamp{inode: 1})
		if read != s.read || next > now+readInterval {
			t.Errorf("at %v: %v, next %v", now, read, next)
		}
		if read {
			l.changing(now)
		}
	}
}
