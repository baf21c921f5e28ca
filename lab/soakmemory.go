package lab

import (
	"fmt"
	"math"
	"time"
)

// HeapSample is the heap of a daemon after a collection.
type HeapSample struct {
	// At is since the beginning of the soak.
	At    time.Duration `json:"at_ns"`
	Bytes uint64        `json:"bytes"`
}

// HeapSlope is by how much a heap grows in an hour: the slope of a line through the
// samples, and what is to be added to it and taken from it for an interval that has
// the true one in it in 95 of 100 cases.
type HeapSlope struct {
	Samples      int     `json:"samples"`
	BytesPerHour float64 `json:"bytes_per_hour"`
	PlusMinus    float64 `json:"plus_minus"`
}

const (
	// slopeBlocks are the parts of the time whose means the line is drawn through:
	// samples that follow each other are too much alike to count one by one.
	slopeBlocks = 12
	// slopeQuantile is that of Student's t for 0.975 and slopeBlocks-2 degrees of
	// freedom.
	slopeQuantile = 2.228
	// warmUp is the share of the time at its beginning that is left out, in which
	// buffers and tables get the size that they keep.
	warmUp = 0.1
)

// slopeOf is the slope over the time that the samples took; false when there are too
// few of them.
func slopeOf(samples []HeapSample, lasted time.Duration) (s HeapSlope, ok bool) {
	begin := time.Duration(warmUp * float64(lasted))
	var sum, at [slopeBlocks]float64
	var count [slopeBlocks]int
	for _, h := range samples {
		if h.At < begin || h.At >= lasted {
			continue
		}
		i := int(float64(h.At-begin) / float64(lasted-begin) * slopeBlocks)
		sum[i], at[i] = sum[i]+float64(h.Bytes), at[i]+h.At.Hours()
		count[i]++
		s.Samples++
	}
	var meanX, meanY float64
	for i, n := range count {
		if n == 0 {
			return s, false
		}
		sum[i], at[i] = sum[i]/float64(n), at[i]/float64(n)
		meanX, meanY = meanX+at[i]/slopeBlocks, meanY+sum[i]/slopeBlocks
	}
	var xx, xy, rest float64
	for i := range count {
		xx, xy = xx+(at[i]-meanX)*(at[i]-meanX), xy+(at[i]-meanX)*(sum[i]-meanY)
	}
	s.BytesPerHour = xy / xx
	for i := range count {
		d := sum[i] - meanY - s.BytesPerHour*(at[i]-meanX)
		rest += d * d
	}
	s.PlusMinus = slopeQuantile * math.Sqrt(rest/(slopeBlocks-2)/xx)
	return s, true
}

// grows reports whether the whole interval is above zero.
func (s *HeapSlope) grows() bool { return s.BytesPerHour-s.PlusMinus > 0 }

// String is for the report.
func (s *HeapSlope) String() string {
	return fmt.Sprintf("%+.0f ± %.0f KiB an hour, by %d samples", s.BytesPerHour/1024, s.PlusMinus/1024, s.Samples)
}
