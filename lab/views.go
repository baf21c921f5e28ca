package lab

import (
	"context"
	"fmt"
	"slices"
	"time"

	"onevoice/hashing"
)

// nodeView is what a daemon's status says of a node.
type nodeView struct {
	Name    string `json:"name"`
	Leased  bool   `json:"leased"`
	Epoch   uint64 `json:"epoch"`
	Buckets int    `json:"buckets"`
	Witness bool   `json:"witness"`
}

// views are what a daemon knows of all nodes, but the witness.
func (d *Daemon) views(ctx context.Context) ([]nodeView, error) {
	var s struct {
		Nodes []nodeView `json:"nodes"`
	}
	err := d.Ask(ctx, &s)
	return slices.DeleteFunc(s.Nodes, func(v nodeView) bool { return v.Witness }), err
}

// owned reports whether every node holds a lease and every bucket has an owner.
func owned(views []nodeView) bool {
	sum := 0
	for _, v := range views {
		if !v.Leased {
			return false
		}
		sum += v.Buckets
	}
	return sum == hashing.Buckets
}

// shared reports whether the nodes have equal shares besides.
func shared(views []nodeView) bool {
	if !owned(views) {
		return false
	}
	fewer := func(a, b nodeView) int { return a.Buckets - b.Buckets }
	return slices.MaxFunc(views, fewer).Buckets-slices.MinFunc(views, fewer).Buckets <= 1
}

// agreeTimeout bounds how long the nodes may take to agree: ten seconds of slow
// start, and a machine that is busy.
const agreeTimeout = time.Minute

// agreeStep is how often they are asked.
const agreeStep = 200 * time.Millisecond

// untilAllSay waits until each daemon's view of all nodes is as wanted. what
// ends the sentence of the error.
func (l *Lab) untilAllSay(ctx context.Context, want func([]nodeView) bool, what string) error {
	for began := time.Now(); ; {
		said := 0
		for _, d := range l.Daemons {
			views, err := d.views(ctx)
			if err == nil && len(views) == len(l.Daemons) && want(views) {
				said++
			} else {
				break
			}
		}
		if said == len(l.Daemons) {
			return nil
		}
		if time.Since(began) > agreeTimeout {
			return fmt.Errorf("after %v not all nodes say that %s; see `onevoice status` on them", agreeTimeout, what)
		}
		if err := sleep(ctx, agreeStep); err != nil {
			return err
		}
	}
}
