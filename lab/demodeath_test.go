package lab

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"
)

// flowOf is a flow with a node, heard or ended so long after an instant.
func flowOf(node string, at time.Duration, ended error) *liveFlow {
	f := &liveFlow{node: node, heard: after(at)}
	if ended != nil {
		f.ended, f.endedAt = ended, after(at)
	}
	return f
}

func TestMostServing(t *testing.T) {
	for want, nodes := range map[string][]string{
		"":    nil,
		"n1":  {"n1"},
		"n2":  {"n1", "n2", "n2"},
		"n3":  {"n10", "n3", "n10", "n3", "n1"},
		"n10": {"n2", "n10", "n10"},
	} {
		var flows []*liveFlow
		for _, n := range nodes {
			flows = append(flows, flowOf(n, 0, nil))
		}
		if got := mostServing(flows); got != want {
			t.Errorf("%v: %s, want %s", nodes, got, want)
		}
	}
}

// Who was heard again, and who has ended, of those that were looked at.
func TestHeardAndEnded(t *testing.T) {
	const s = time.Second
	flows := []*liveFlow{flowOf("n1", 3*s, nil), flowOf("n2", s, nil), flowOf("n3", 3*s, io.EOF), flowOf("n4", s, io.EOF)}
	if got, err := heardAgain(t.Context(), flows, after(2*s), 0); got != 1 || err != nil {
		t.Errorf("%d heard again, %v", got, err)
	}
	if got, err := heardAgain(t.Context(), flows[:2], after(0), patience); got != 2 || err != nil {
		t.Errorf("%d heard again, %v", got, err)
	}
	if count, last, err := endedWithin(t.Context(), flows, after(0)); count != 2 || last != 3*s || err != nil {
		t.Errorf("%d ended, the last after %v, %v", count, last, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := heardAgain(ended, flows, after(2*s), patience); !errors.Is(err, context.Canceled) {
		t.Errorf("it went on: %v", err)
	}
	if _, _, err := endedWithin(ended, flows, time.Now()); !errors.Is(err, context.Canceled) {
		t.Errorf("it went on: %v", err)
	}
}
