package admin

import (
	"testing"

	"onevoice/control"
	"onevoice/node"
)

// Counters of several workers are added up; of the longest turns the longest counts.
func TestSumOfWorkers(t *testing.T) {
	s := &Status{}
	for _, l := range []node.LoopStats{{Turns: 3, LongestTurn: 0.25}, {Turns: 4, LongestTurn: 0.02}} {
		s.Workers = append(s.Workers, control.WorkerStatus{Loop: l})
	}
	s.Sum()
	if s.Loop != (node.LoopStats{Turns: 7, LongestTurn: 0.25}) {
		t.Errorf("%+v", s.Loop)
	}
}
