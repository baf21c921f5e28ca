package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"onevoice/admin"
	"onevoice/cluster"
	"onevoice/config"
	"onevoice/control"
	"onevoice/internal/boottime"
	"onevoice/link"
	"onevoice/stack"
)

// status is the admin.Source of the daemon.
func (d *daemon) status(want admin.Wanted) (*admin.Status, error) {
	workers, err := d.workers.Status(want.Flows, want.Collect)
	if err != nil {
		return nil, errors.Join(errors.New("the daemon is stopping, or its worker is"), err)
	}
	s := &admin.Status{
		Node: d.cfg.Node.Name, Cluster: d.cfg.Cluster.Name, Version: version(),
		Uptime: (boottime.Now() - d.began).Seconds(), Workers: workers, Rights: d.held.status(),
	}
	for _, v := range d.cfg.VIPs {
		s.VIPs = append(s.VIPs, admin.VIPStatus{Address: v.Address.Addr().String(), MAC: v.MAC.String(), MACMode: string(v.MACMode)})
	}
	c, err := d.clusterStatus(s)
	if err != nil {
		return nil, err
	}
	d.fillCluster(s, &c, want.Table)
	d.fillSpoke(s, &c)
	d.fillTold(s)
	d.services(s, &c)
	s.Sum()
	s.PrefixFiles = d.prefixes.Status()
	stuck := d.workerWarnings(workers)
	harms, notes, unseen := d.lanWarnings(s)
	s.News = slices.Concat(oldWorkers(workers), floods(workers), unseen)
	s.Warnings = slices.Concat([]string{}, stuck, harms, prefixWarnings(s.PrefixFiles), s.Warnings, notes)
	s.Found = slices.Concat(harms, notes)
	return s, nil
}

// floods are those that last, of the workers that take what is new.
func floods(workers []control.WorkerStatus) (out []string) {
	for i := range workers {
		if f := workers[i].Flood; f != nil && !workers[i].Retired {
			out = append(out, f.String())
		}
	}
	return out
}

// services are those of the file, as the worker that takes new flows sees them.
func (d *daemon) services(s *admin.Status, c *cluster.Status) {
	failing := d.failing()
	for _, svc := range d.cfg.Services {
		one := admin.ServiceStatus{
			Affinity: string(svc.Affinity), Hash: string(svc.Sharing.Hash), Buckets: ownedBy(c, svc.Name, c.ID), BucketsIn: c.Sizes[svc.Name],
		}
		for k := range s.Workers {
			if w := &s.Workers[k]; !w.Retired {
				if at := slices.IndexFunc(w.Services, func(o stack.ServiceStatus) bool { return o.Name == svc.Name }); at >= 0 {
					one.ServiceStatus = w.Services[at]
					if at < len(w.TurnedAway) {
						one.TurnedAway = &w.TurnedAway[at]
					}
				}
			}
		}
		one.Name, one.Listen, one.Backend = svc.Name, svc.ListenText(), svc.BackendText()
		if reason, down := failing[svc.Name]; down {
			one.Up, one.Reason = false, reason
		}
		s.Services = append(s.Services, one)
	}
}

// failing are the services whose check calls them down on this node, and why.
func (d *daemon) failing() map[string]string {
	out := map[string]string{}
	watch := d.watched.Load()
	if watch == nil {
		return out
	}
	for _, r := range watch.Report() {
		if name, ok := strings.CutPrefix(r.Name, "service "); ok && r.Known && !r.Up {
			out[name] = r.Text
		}
	}
	return out
}

// unfit is what else this node's checks find wrong with it: its gateway, uplinks,
// agents.
func (d *daemon) unfit() (out []string) {
	watch := d.watched.Load()
	if watch == nil {
		return nil
	}
	for _, r := range watch.Report() {
		if !strings.HasPrefix(r.Name, "service ") && r.Known && r.Percent == 0 && !r.Up {
			out = append(out, fmt.Sprintf("%s (%s)", r.Name, r.Text))
		}
	}
	return out
}

// workerWarnings are about the workers that take what is new.
func (d *daemon) workerWarnings(workers []control.WorkerStatus) (stuck []string) {
	still := d.workers.Stuck(staleBeat)
	for _, name := range d.cfg.Uplinks() {
		switch there, err := link.Exists(name.Interface); {
		case err == nil && !there:
			stuck = append(stuck, fmt.Sprintf("interface %s was removed; nothing is answered on it until it is back, with its address", name.Interface))
		case slices.Contains(still, name):
			stuck = append(stuck, fmt.Sprintf("the worker that serves this node's frames of %s does not turn; nothing new is accepted there", name))
		}
	}
	return stuck
}

// staleBeat is when a worker counts as stuck in a status.
const staleBeat = 250 * time.Millisecond

// fillCluster tells what the core knows.
func (d *daemon) fillCluster(s *admin.Status, c *cluster.Status, withTable bool) {
	first := vipService(d.cfg.VIPs[0].Address.Addr())
	s.Phase, s.Index = c.Phase, c.Index
	slices.SortFunc(c.Hosts, func(a, b cluster.HostStatus) int { return cmp.Compare(a.Order, b.Order) })
	for i := range c.Hosts {
		h := &c.Hosts[i]
		if h.Foreign {
			if f := d.foreign(c, h); len(f.Numbers) > 0 {
				s.Foreign = append(s.Foreign, f)
			}
			continue
		}
		n := admin.NodeStatus{
			Name: h.Name, Address: h.Address, ID: fmt.Sprintf("%x", h.ID), Self: h.Self, Voter: h.Voter, Leader: h.Leader, Witness: h.Witness,
			In: h.In, Leased: h.Leased, Epoch: h.Epoch, Heard: h.Heard.Seconds(), Orphaned: h.Orphaned, Weight: h.Weight, Percent: h.Percent,
			Draining: h.Draining, Slow: h.In && (h.Slow || h.Waits), Buckets: h.Buckets[first], BucketsOf: h.Buckets, DrainsOf: h.Drains,
		}
		for _, x := range h.Health {
			if !x.Up {
				n.Down = append(n.Down, x.Service)
			}
		}
		n.State = admin.StateOf(&n)
		s.Nodes = append(s.Nodes, n)
	}
	for _, l := range c.Leases {
		s.Leased = s.Leased || boottime.Now() < l.End
	}
	s.Warnings = append(s.Warnings, d.situation(c, s.Leased).warnings()...)
	if !withTable {
		return
	}
	s.Table = map[string][]string{}
	for name, owners := range c.Tables {
		row := make([]string, c.Sizes[name])
		for b := range row {
			for i := range c.Hosts {
				if h := &c.Hosts[i]; h.ID == owners[b] && h.Foreign {
					row[b] = cluster.ForeignPrefix + h.Name
				} else if h.ID == owners[b] {
					row[b] = h.Address
				}
			}
		}
		s.Table[admin.TableName(name)] = row
	}
	s.Table["vip"] = s.Table[admin.TableName(first)]
}

// foreign is another system's node, with its numbers as that system counts.
func (d *daemon) foreign(c *cluster.Status, h *cluster.HostStatus) admin.ForeignStatus {
	f := admin.ForeignStatus{Name: h.Name, Numbers: map[string][]int{}}
	for i := range d.cfg.Services {
		s := &d.cfg.Services[i]
		owners := c.Tables[s.Name]
		for b, id := range owners {
			if id == h.ID {
				f.Numbers[s.Name] = append(f.Numbers[s.Name], b+s.Sharing.First())
			}
		}
	}
	return f
}

// situation is what there is to warn about.
func (d *daemon) situation(c *cluster.Status, leased bool) *situation {
	var pinned []string
	for i := range d.cfg.Pins {
		pinned = append(pinned, d.cfg.Pins[i].Node)
	}
	slices.Sort(pinned)
	return &situation{Status: c, pinned: slices.Compact(pinned), leased: leased, preferred: d.cfg.Cluster.TwoNodes == config.TwoNodesPreferred,
		port: d.cfg.Cluster.ControlPort, complaints: d.complaints(c), failing: d.failing(), unfit: d.unfit(), disk: d.state.Trouble()}
}

// complaints are about what came in over the control port.
func (d *daemon) complaints(c *cluster.Status) (out []string) {
	var list []control.Complaint
	var twins []uint64
	var now time.Duration
	// A loop that has ended has nothing to complain about.
	_ = d.loop.Call(func(at time.Duration) {
		now, list, twins = at, d.transport.Complaints(), d.transport.Twins(at)
	})
	for _, one := range list {
		if now-one.At >= complainFor {
			continue
		}
		from, mended := one.From.String(), false
		for i := range c.Hosts {
			if h := &c.Hosts[i]; h.Address == one.From.String() {
				from = fmt.Sprintf("%s (%s)", h.Name, from)
				mended = heard(h) && now-one.At > mendedFor
			}
		}
		if mended {
			continue
		}
		out = append(out, fmt.Sprintf("%s %s (%d times, last %s ago)", from, one.Sentence, one.Count, (now-one.At).Truncate(time.Second)))
	}
	for _, id := range twins {
		out = append(out, fmt.Sprintf("two hosts use the id %x: a state directory was copied; give one of them an empty one", id))
	}
	return out
}

// complainFor is how long a status tells of a complaint after it was met last, and
// mendedFor how long if the host that it is about is heard as it should be.
const (
	complainFor = time.Minute
	mendedFor   = 5 * time.Second
)

// ownedBy is a host's number of buckets of a service.
func ownedBy(c *cluster.Status, service string, id uint64) int {
	n := 0
	owners := c.Tables[service]
	for _, o := range owners {
		if o == id && id != 0 {
			n++
		}
	}
	return n
}
