package bench

import (
	"fmt"
	"math"
	"slices"
)

// Spread is what samples say together.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// spreadOf is of one sample at least. Of an even number the median is the mean of
// the two in the middle.
func spreadOf(samples []float64) Spread {
	s := slices.Sorted(slices.Values(samples))
	n := len(s)
	return Spread{(s[(n-1)/2] + s[n/2]) / 2, s[0], s[n-1]}
}

// percent is how far the samples lie apart: half the distance from the lowest to
// the highest, in percent of the median.
func (s Spread) percent() float64 {
	if s.Median == 0 {
		return 0
	}
	return 100 * (s.High - s.Low) / 2 / math.Abs(s.Median)
}

// percentText is that for people; what is beyond all bounds is only called so.
func (s Spread) percentText() string {
	const most = 999
	if p := s.percent(); p <= most {
		return fmt.Sprintf("±%.0f%%", p)
	}
	return fmt.Sprintf(">%d%%", most)
}
