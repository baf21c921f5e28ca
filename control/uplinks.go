package control

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"onevoice/cluster"
	"onevoice/config"
	"onevoice/hashing"
	"onevoice/node"
)

// Uplinks are the Workers of all interfaces and VLANs: a process of its own takes the
// frames of each, so that an answer leaves where its question came in. To a Loop they are
// one; the core's services are those of the VIPs, in the order of the configuration,
// and then the services.
type Uplinks struct {
	all     []*uplink
	paths   []place // by the core's path
	reports chan Report
}

// uplink is one interface, with the places of its VIPs and services among all.
type uplink struct {
	*servers
	vips, services []int
	count          int // of all VIPs
}

// place is a path of an uplink.
type place struct{ uplink, path int }

var (
	_ Servers     = (*Uplinks)(nil)
	_ FlowServers = (*Uplinks)(nil)
)

// StartUplinks starts workers for each interface of the configuration that has VIPs,
// or takes up those of an earlier run, see StartWorkers. selves are this host's
// addresses, by interface.
func StartUplinks(cfg WorkersConfig, selves map[config.Uplink]netip.Addr) (*Uplinks, error) {
	u := &Uplinks{reports: make(chan Report, maxReports)}
	whole := cfg.Settings.Config
	for _, v := range whole.PathVIPs() {
		at := slices.Index(whole.Uplinks(), v.Uplink)
		u.paths = append(u.paths, place{at, slices.IndexFunc(whole.On(v.Uplink).PathVIPs(), func(o config.VIP) bool { return o.Address == v.Address })})
	}
	for i, name := range whole.Uplinks() {
		one := cfg
		one.reports = u.reports
		one.Settings.Config, one.Settings.Self = whole.On(name), selves[name]
		if i > 0 && one.Settings.Capture != "" {
			one.Settings.Capture += "." + strings.ReplaceAll(name.String(), " ", "-")
		}
		w, err := StartWorkers(one)
		if err != nil {
			return nil, errors.Join(err, u.Close())
		}
		s, err := serversOf(w)
		u.all = append(u.all, newUplink(s, whole, name))
		if err != nil {
			return nil, errors.Join(err, u.Close())
		}
	}
	return u, nil
}

func newUplink(s *servers, whole *config.Config, name config.Uplink) *uplink {
	l := &uplink{servers: s, count: len(whole.VIPs)}
	for i := range whole.VIPs {
		if whole.VIPs[i].Uplink == name {
			l.vips = append(l.vips, i)
		}
	}
	for i := range whole.Services {
		if whole.UplinkOf(&whole.Services[i]) == name {
			l.services = append(l.services, i)
		}
	}
	return l
}

// places are the core's services that are this uplink's, in its own order.
func (l *uplink) places() []int {
	out := slices.Clone(l.vips)
	for _, s := range l.services {
		out = append(out, l.count+s)
	}
	return out
}

// Grant implements Servers.
func (u *Uplinks) Grant(r *cluster.Rights) error {
	var errs []error
	for _, l := range u.all {
		part := *r
		part.Services = nil
		for _, at := range l.places() {
			part.Services = append(part.Services, r.Services[at])
		}
		errs = append(errs, l.Grant(&part))
	}
	return errors.Join(errs...)
}

// SetLease implements Servers.
func (u *Uplinks) SetLease(path int, begin, end time.Duration) {
	p := u.paths[path]
	u.all[p.uplink].SetLease(p.path, begin, end)
}

// Beat implements Servers.
func (u *Uplinks) Beat(path int) time.Duration { return u.all[u.paths[path].uplink].Workers.Beat() }

// WrittenBack implements Servers.
func (u *Uplinks) WrittenBack() uint64 {
	back := u.all[0].WrittenBack()
	for _, l := range u.all[1:] {
		back = min(back, l.WrittenBack())
	}
	return back
}

// Report implements Servers.
func (u *Uplinks) Report() cluster.Report {
	var all cluster.Report
	for i, l := range u.all {
		r := l.Report()
		if i == 0 {
			all = cluster.Report{Written: r.Written, Looked: r.Looked, Holding: make([][4]uint64, l.count+u.serviceCount())}
		}
		all.Others = all.Others || r.Others
		all.Written, all.Looked = min(all.Written, r.Written), min(all.Looked, r.Looked)
		for k, at := range l.places() {
			all.Holding[at] = r.Holding[k]
		}
	}
	return all
}

func (u *Uplinks) serviceCount() (n int) {
	for _, l := range u.all {
		n += len(l.services)
	}
	return n
}

// Forget implements Servers.
func (u *Uplinks) Forget() {
	for _, l := range u.all {
		l.Forget()
	}
}

// EndDrained implements Servers.
func (u *Uplinks) EndDrained() {
	for _, l := range u.all {
		l.EndDrained()
	}
}

// Held implements FlowServers. Only those are asked that have a wanted bucket.
func (u *Uplinks) Held(wanted [][4]uint64) (HeldFlows, error) {
	out := HeldFlows{Generation: ^uint64(0), All: make([]bool, len(wanted)), Services: make([][]node.Held, len(wanted))}
	for _, l := range u.all {
		var part [][4]uint64
		any := false
		for _, at := range l.places() {
			part = append(part, wanted[at])
			any = any || wanted[at] != [4]uint64{}
		}
		if !any {
			continue
		}
		held, err := l.Held(part)
		if err != nil {
			return HeldFlows{}, err
		}
		out.Generation = min(out.Generation, held.Generation)
		for k, at := range l.places() {
			if k < len(held.Services) {
				out.Services[at], out.All[at] = held.Services[k], held.All[k]
			}
		}
	}
	return out, nil
}

// SetFlowLists implements FlowServers.
func (u *Uplinks) SetFlowLists(generation uint64, lists []FlowList) error {
	var errs []error
	for _, l := range u.all {
		var part []FlowList
		places := l.places()
		for _, f := range lists {
			if k := slices.Index(places, f.Service); k >= 0 {
				f.Service = k
				part = append(part, f)
			}
		}
		if len(part) > 0 {
			errs = append(errs, l.SetFlowLists(generation, part))
		}
	}
	return errors.Join(errs...)
}

// Reports are what all workers do by themselves, see Workers.Reports.
func (u *Uplinks) Reports() <-chan Report { return u.reports }

// Frames and Unsent are of all interfaces, see Workers.
func (u *Uplinks) Frames() (n uint64) {
	for _, l := range u.all {
		n += l.Frames()
	}
	return n
}

// Unsent is of all interfaces, see Workers.Unsent.
func (u *Uplinks) Unsent() (n uint64) {
	for _, l := range u.all {
		n += l.Unsent()
	}
	return n
}

// Flows is of all interfaces, see Workers.
func (u *Uplinks) Flows() (n int) {
	for _, l := range u.all {
		n += l.Flows()
	}
	return n
}

// Survived reports whether workers of an earlier control process were alive, on any
// interface.
func (u *Uplinks) Survived() bool {
	return slices.ContainsFunc(u.all, func(l *uplink) bool { return l.Survived() })
}

// ListKey is the workers' key of flow hashes.
func (u *Uplinks) ListKey() hashing.Key { return u.all[0].ListKey() }

// Stuck are those whose active worker has not ended a turn for a time.
func (u *Uplinks) Stuck(after time.Duration) (names []config.Uplink) {
	for _, l := range u.all {
		if l.Workers.Beat() > after {
			names = append(names, l.cfg.Settings.Config.VIPs[0].Uplink)
		}
	}
	return names
}

// Status asks every worker, active ones first, in the order of the interfaces.
func (u *Uplinks) Status(flows, collect bool) ([]WorkerStatus, error) {
	var all []WorkerStatus
	for _, l := range u.all {
		s, err := l.Status(flows, collect)
		if err != nil {
			return nil, err
		}
		all = append(all, s...)
	}
	rank := map[bool]int{true: 1}
	slices.SortStableFunc(all, func(a, b WorkerStatus) int { return cmp.Compare(rank[a.Retired], rank[b.Retired]) })
	return all, nil
}

// Stop makes all workers accept nothing new, see Workers.Stop.
func (u *Uplinks) Stop(grace time.Duration) {
	for _, l := range u.all {
		l.Stop(grace)
	}
}

// Kill ends flows on all interfaces, see Workers.Kill.
func (u *Uplinks) Kill(k Kill) (n int, err error) {
	for _, l := range u.all {
		killed, err := l.Workers.Kill(k)
		if n += killed; err != nil {
			return n, err
		}
	}
	return n, nil
}

// Wait waits until Stop has ended all workers.
func (u *Uplinks) Wait() error {
	var errs []error
	for _, l := range u.all {
		errs = append(errs, l.Wait())
	}
	return errors.Join(errs...)
}

// Close ends the workers that this process has started, see Workers.Close.
func (u *Uplinks) Close() error {
	var errs []error
	for _, l := range u.all {
		errs = append(errs, l.Workers.Close())
	}
	return errors.Join(errs...)
}
