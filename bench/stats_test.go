package bench

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Half of the samples lie on each side of the median, all between low and high,
// in whatever order they came.
func TestSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		samples := rapid.SliceOfN(rapid.Float64Range(0.001, 1e6), 1, 20).Draw(t, "samples")
		s := spreadOf(samples)
		below, above := 0, 0
		for _, x := range samples {
			if x < s.Low || x > s.High {
				t.Fatalf("%v outside of %+v", x, s)
			}
			if x < s.Median {
				below++
			}
			if x > s.Median {
				above++
			}
		}
		if 2*below > len(samples) || 2*above > len(samples) {
			t.Fatalf("%+v of %v", s, samples)
		}
		slices.Reverse(samples)
		if spreadOf(samples) != s {
			t.Fatalf("the order matters: %v", samples)
		}
	})
}

func TestSpreadByHand(t *testing.T) {
	s := spreadOf([]float64{12, 8, 10, 9})
	if s != (Spread{9.5, 8, 12}) || math.Abs(s.percent()-100*2/9.5) > 1e-9 {
		t.Errorf("%+v, %v %%", s, s.percent())
	}
	if text := s.percentText(); text != "±21%" {
		t.Errorf("told as %s", text)
	}
	if text := (Spread{1, 0, 100}).percentText(); text != ">999%" {
		t.Errorf("a wide one is told as %s", text)
	}
	if p := (Spread{}).percent(); p != 0 {
		t.Errorf("nothing spreads by %v %%", p)
	}
}
