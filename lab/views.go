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
	// Of are its shares of all services' tables.
	Of      map[string]int `json:"buckets_of"`
	Witness bool           `json:"witness"`
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
	sum, of := 0, map[string]int{}
	for _, v := range views {
		if !v.Leased {
			return false
		}
		sum += v.Buckets
		for table, n := range v.Of {
			of[table] += n
		}
	}
	for _, n := range of {
		if n != hashing.Buckets {
			return false
		}
	}
	return sum == hashing.Buckets
}

// shared reports whether the nodes have equal shares besides.
func shared(views []nodeView) bool {
	if !owned(views) {
		return false
	}
	if !even(views, func(v nodeView) int { return v.Buckets }) {
		return false
	}
	for table := range views[0].Of {
		if !even(views, func(v nodeView) int { return v.Of[table] }) {
			return false
		}
	}
	return true
}

// even reports whether no share is larger than another by more than one bucket.
func even(views []nodeView, share func(nodeView) int) bool {
	fewer := func(a, b nodeView) int { return share(a) - share(b) }
	return share(slices.MaxFunc(views, fewer))-share(slices.MinFunc(views, fewer)) <= 1
}

// agreeTimeout bounds how long the nodes may take to agree: ten seconds of slow
// start, and a machine that is busy.
const agreeTimeout = time.Minute

// agreeStep is how often they are asked.
const agreeStep = 200 * time.Millisecond

// untilAllSay waits until each daemon's view of all nodes is as wanted. what
// ends the sentence of the error.
func (l *Lab) untilAllSay(ctx context.Context, want func([]nodeView) bool, what string) error {
	return l.untilAllSayWithin(ctx, agreeTimeout, want, what)
}

func (l *Lab) untilAllSayWithin(ctx context.Context, limit time.Duration, want func([]nodeView) bool, what string) error {
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
		if time.Since(began) > limit {
			return fmt.Errorf("after %v not all nodes say that %s; see `onevoice status` on them", limit, what)
		}
		if err := sleep(ctx, agreeStep); err != nil {
			return err
		}
	}
}
