package main

import (
	"net/netip"
	"time"

	"onevoice/control"
	"onevoice/hashing"
	"onevoice/node"
)

// The lease of static ownership: nobody else can own a bucket, so that it only
// has to end some time after this process has.
const (
	staticRenewal = 100 * time.Millisecond
	staticTTL     = time.Second
)

// nodeID is a peer's number in the static table, equal on all nodes.
func nodeID(a netip.Addr) hashing.NodeID {
	b := a.As4()
	return hashing.NodeID(b[0])<<24 | hashing.NodeID(b[1])<<16 | hashing.NodeID(b[2])<<8 | hashing.NodeID(b[3])
}

// setStaticOwnership gives every peer of the file its share, for ever.
func (d *daemon) setStaticOwnership() error {
	shares := make([]hashing.Share, len(d.cfg.Cluster.Peers))
	for i, p := range d.cfg.Cluster.Peers {
		shares[i] = hashing.Share{Node: nodeID(p), Weight: 100}
	}
	table, err := hashing.First(shares)
	if err != nil {
		return err
	}
	d.table = table
	mine := node.Rows{Accept: node.OwnedBy(&d.table, nodeID(d.self))}
	o := &node.Ownership{Generation: 1}
	for range d.cfg.VIPs {
		o.VIPs = append(o.VIPs, mine)
	}
	for range d.cfg.Services {
		o.Services = append(o.Services, mine)
	}
	if err := d.workers.Publish(o, control.Mappings{}); err != nil {
		return err
	}
	d.renewLease()
	return nil
}

// renewLease holds every path's lease, from when this process began on.
func (d *daemon) renewLease() {
	for path := range d.workers.Paths() {
		d.workers.SetLease(path, d.began, boottime()+staticTTL)
	}
}
