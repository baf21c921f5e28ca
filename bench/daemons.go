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

// Files of ours: what netstack and the proxy serve, and what the host's own stack does.
// They are daemons of their own, so that neither pays for what the other has loaded.
const (
	ownProxy  = "onevoice.toml"
	ownDirect = "onevoice-direct.toml"
)

// startDaemons starts ours on every node of the bed, with one of its files.
func (b *bed) startDaemons(ctx context.Context, file string) error {
	if b.prepared[file] == nil {
		all, err := b.prepareDaemons(file)
		if err != nil {
			return err
		}
		b.prepared[file] = all
	}
	b.daemons = b.prepared[file]
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

// ownFile is what our files leave open.
type ownFile struct {
	Dir, Peers string
	Nodes      int
	MACMode    string
	// Idle: there is no backend on this node.
	Idle bool
}

// prepareDaemons writes their files.
func (b *bed) prepareDaemons(file string) (all []*lab.Daemon, err error) {
	key := lab.NewKey()
	var peers []string
	for _, h := range b.lan.Nodes() {
		peers = append(peers, fmt.Sprintf("%q", h.Addrs[0]))
	}
	for _, h := range b.lan.Nodes() {
		dir := filepath.Join(b.dir, h.Name, strings.TrimSuffix(file, ".toml"))
		config, err := peerFile(file, ownFile{dir, strings.Join(peers, ", "), len(peers), b.macMode, h != b.node})
		if err != nil {
			return nil, err
		}
		d, err := lab.NewDaemon(h, dir, key, config)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

// stopDaemons ends those that run.
func (b *bed) stopDaemons() error {
	defer func() { b.daemons = nil }()
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
