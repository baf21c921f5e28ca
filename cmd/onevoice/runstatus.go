package main

import (
	"errors"
	"fmt"
	"time"

	"onevoice/admin"
	"onevoice/control"
	"onevoice/hashing"
)

// status is the admin.Source of the daemon.
func (d *daemon) status(want admin.Wanted) (*admin.Status, error) {
	workers, err := d.workers.Status(want.Table, want.Collect)
	if err != nil {
		return nil, errors.Join(errors.New("the daemon is stopping, or its worker is"), err)
	}
	s := &admin.Status{
		Node: d.cfg.Node.Name, Cluster: d.cfg.Cluster.Name, Version: version(),
		Uptime: (boottime() - d.began).Seconds(), Workers: workers,
	}
	for _, v := range d.cfg.VIPs {
		s.VIPs = append(s.VIPs, admin.VIPStatus{Address: v.Address.Addr().String(), MAC: v.MAC.String(), MACMode: string(v.MACMode)})
	}
	for _, p := range d.cfg.Cluster.Peers {
		s.Nodes = append(s.Nodes, admin.NodeStatus{Address: p.String(), Self: p == d.self, Buckets: d.table.Count(nodeID(p))})
	}
	d.services(s)
	s.Sum()
	s.Warnings = append(d.warnings(workers), s.Warnings...)
	if want.Table {
		s.Table = map[string][]string{"vip": d.owners()}
	}
	return s, nil
}

// services are those of the file, as the worker that takes new flows sees them.
func (d *daemon) services(s *admin.Status) {
	for i, svc := range d.cfg.Services {
		one := admin.ServiceStatus{Affinity: string(svc.Affinity), Buckets: d.table.Count(nodeID(d.self))}
		one.Name, one.Listen, one.Backend = svc.Name, svc.Listen.String(), svc.Backend.String()
		if w := s.Active(); w != nil && i < len(w.Services) {
			one.ServiceStatus = w.Services[i]
		}
		s.Services = append(s.Services, one)
	}
}

// warnings are about the workers.
func (d *daemon) warnings(workers []control.WorkerStatus) (out []string) {
	if beat := d.workers.Beat(); beat > staleBeat {
		out = append(out, "the worker that serves this node's frames does not turn; nothing new is accepted")
	}
	for i := range workers {
		w := &workers[i]
		if w.Retired {
			out = append(out, fmt.Sprintf("process %d serves %d flows of an earlier configuration to their end", w.Process.PID, w.Flows.Running))
		}
		if m := w.Stranger; m != nil {
			ago := time.Duration(m.Seconds * float64(time.Second)).Truncate(time.Second)
			out = append(out, fmt.Sprintf("somebody claimed %s in ARP %s ago, as being at %s; the frame came from %s", m.Address, ago, m.MAC, m.From))
		}
	}
	return out
}

// staleBeat is when a worker counts as stuck in a status.
const staleBeat = 250 * time.Millisecond

func (d *daemon) owners() []string {
	out := make([]string, hashing.Buckets)
	for _, p := range d.cfg.Cluster.Peers {
		for b, owner := range d.table {
			if owner == nodeID(p) {
				out[b] = p.String()
			}
		}
	}
	return out
}
