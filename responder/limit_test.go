package responder

import (
	"testing"
	"time"
)

func TestLimit(t *testing.T) {
	for _, tc := range []struct {
		name             string
		perSecond, burst int
		step             time.Duration
		calls, want      int
	}{
		{"burst at one instant", 100, 20, 0, 1000, 20},
		{"burst and rate for a second", 100, 20, time.Millisecond, 1001, 120},
		{"slower than the rate", 100, 1, 10 * time.Millisecond, 500, 500},
		{"a little faster than the rate", 100, 1, 9 * time.Millisecond, 100, 50},
		{"one a second", 1, 1, 100 * time.Millisecond, 100, 10},
		{"a rate that does not divide a second", 3, 1, time.Millisecond, 3001, 9},
		{"nothing", 0, 10, time.Second, 10, 0},
		{"no burst", 10, 0, time.Second, 10, 0},
		{"negative", -1, -1, time.Second, 10, 0},
		{"without bound", 1 << 40, 1 << 50, 0, 1000, 1000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, got := NewLimit(tc.perSecond, tc.burst), 0
			for i := range tc.calls {
				if l.Allow(time.Hour + time.Duration(i)*tc.step) {
					got++
				}
			}
			if got != tc.want {
				t.Errorf("%d of %d allowed, want %d", got, tc.calls, tc.want)
			}
		})
	}
	var zero Limit
	if zero.Allow(time.Hour) {
		t.Error("the zero value allows")
	}
}

// TestLimitSavesNoMoreThanABurst: a quiet night is not saved up.
func TestLimitSavesNoMoreThanABurst(t *testing.T) {
	l := NewLimit(10, 5)
	for _, now := range []time.Duration{0, 24 * time.Hour} {
		got := 0
		for range 100 {
			if l.Allow(now) {
				got++
			}
		}
		if got != 5 {
			t.Errorf("%d at %v, want 5", got, now)
		}
	}
}

func BenchmarkLimit(b *testing.B) {
	l, now := NewLimit(1000, 1000), time.Duration(0)
	b.ReportAllocs()
	for b.Loop() {
		now += time.Microsecond
		l.Allow(now)
	}
}
