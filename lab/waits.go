package lab

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// waits are how long things took.
type waits []time.Duration

// Quantiles of waits, in milliseconds in JSON.
type Quantiles struct {
	Count         int
	P50, P99, Max time.Duration
}

// quantiles are by the nearest rank.
func (w waits) quantiles() Quantiles {
	if len(w) == 0 {
		return Quantiles{}
	}
	sorted := slices.Sorted(slices.Values(w))
	rank := func(percent int) time.Duration { return sorted[max(0, (len(sorted)*percent+99)/100-1)] }
	return Quantiles{len(sorted), rank(50), rank(99), rank(100)}
}

// String is for the report.
func (q Quantiles) String() string {
	if q.Count == 0 {
		return "none"
	}
	return fmt.Sprintf("p50 %s, p99 %s, max %s of %d", short(q.P50), short(q.P99), short(q.Max), q.Count)
}

// short is a time with about three digits.
func short(d time.Duration) time.Duration {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond)
	case d < time.Second:
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Millisecond)
}

// MarshalJSON implements json.Marshaler.
func (q Quantiles) MarshalJSON() ([]byte, error) {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return json.Marshal(map[string]any{"count": q.Count, "p50_ms": ms(q.P50), "p99_ms": ms(q.P99), "max_ms": ms(q.Max)})
}
