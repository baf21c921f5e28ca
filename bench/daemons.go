package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"onevoice/hashing"
	"onevoice/lab"
)

// startDaemons starts ours on every node of the bed.
func (b *bed) startDaemons(ctx context.Context) error {
	if b.daemons == nil {
		if err := b.prepareDaemons(); err != nil {
			return err
		}
	}
	for _, d := range b.daemons {
		if err := errors.Join(ctx.Err(), d.Start()); err != nil {
			return err
		}
	}
	if len(b.daemons) == 1 {
		return nil
	}
	return b.untilFirstHasAll(ctx)
}

// settleTimeout bounds how long several nodes may take to agree.
const settleTimeout = 40 * time.Second

// untilFirstHasAll waits until every node holds a lease and the first one, where
// alone the services are, has all their buckets.
func (b *bed) untilFirstHasAll(ctx context.Context) error {
	const step = 100 * time.Millisecond
	for began := time.Now(); ; {
		var s clusterStatus
		if err := b.daemons[0].Ask(ctx, &s); err != nil {
			return err
		}
		if s.settled(len(b.daemons)) {
			return nil
		}
		if err := b.daemonEnded(); err != nil {
			return err
		}
		if time.Since(began) > settleTimeout {
			return fmt.Errorf("after %v the first of %d nodes has not all buckets", settleTimeout, len(b.daemons))
		}
		if err := pause(ctx, step); err != nil {
			return err
		}
	}
}

// clusterStatus is what the first node says of all.
type clusterStatus struct {
	Nodes []struct {
		Self      bool           `json:"self"`
		Leased    bool           `json:"leased"`
		BucketsOf map[string]int `json:"buckets_of"`
	} `json:"nodes"`
}

// settled reports whether so many nodes hold leases and those other than the
// first have no bucket of any service.
func (s *clusterStatus) settled(nodes int) bool {
	const vipTable = "vip"
	for _, n := range s.Nodes {
		if !n.Leased {
			return false
		}
		for table, buckets := range n.BucketsOf {
			if services := !strings.HasPrefix(table, vipTable); services && n.Self != (buckets == hashing.Buckets) {
				return false
			}
		}
	}
	return len(s.Nodes) == nodes
}

// ownFile is what peers/onevoice.toml leaves open.
type ownFile struct {
	Dir, Peers string
	Nodes      int
	// Idle: there is no backend on this node.
	Idle bool
}

// prepareDaemons writes their files.
func (b *bed) prepareDaemons() error {
	key := lab.NewKey()
	var peers []string
	for _, h := range b.lan.Nodes() {
		peers = append(peers, fmt.Sprintf("%q", h.Addrs[0]))
	}
	for _, h := range b.lan.Nodes() {
		dir := filepath.Join(b.dir, h.Name)
		config, err := peerFile("onevoice.toml", ownFile{dir, strings.Join(peers, ", "), len(peers), h != b.node})
		if err != nil {
			return err
		}
		d, err := lab.NewDaemon(h, dir, key, config)
		if err != nil {
			return err
		}
		b.daemons = append(b.daemons, d)
	}
	return nil
}

// stopDaemons ends those that run.
func (b *bed) stopDaemons() error {
	return lab.StopDaemons(b.daemons)
}

// daemonEnded is the end of a daemon's log when it has ended by itself, else nil.
func (b *bed) daemonEnded() error {
	for _, d := range b.daemons {
		if s := d.Status(); !s.Running {
			text, _ := os.ReadFile(d.Log())
			return fmt.Errorf("onevoice on %s has ended: %s", d.Host.Name, lastLines(string(text)))
		}
	}
	return nil
}
