package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"

	"onevoice/admin"
	"onevoice/cluster"
	"onevoice/config"
	"onevoice/control"
	"onevoice/doctor"
	"onevoice/link"
)

// configFromEnvironment is the file that the doctor looks at by default.
func configFromEnvironment() string {
	if file := os.Getenv("ONEVOICE_CONFIG"); file != "" {
		return file
	}
	return defaultConfig
}

// fileFacts are those of the file.
func fileFacts(c *config.Config) *doctor.Facts {
	f := &doctor.Facts{Interface: c.Cluster.Interface, Warnings: c.Warnings}
	for _, v := range c.VIPs {
		f.VIPs = append(f.VIPs, doctor.VIP{Address: v.Address, MAC: v.MAC.String(), Mode: string(v.MACMode)})
	}
	for i := range c.Services {
		to := &f.Netstack
		if c.Services[i].Direct {
			to = &f.Direct
		}
		*to = append(*to, c.Services[i].Name)
	}
	return f
}

// snoopingBridge is the bridge that an interface is, or is a port of, if it snoops
// (IFLA_BR_MCAST_SNOOPING of rtnetlink, which tells of this network namespace; /sys may be
// that of another).
func snoopingBridge(name string) string {
	device, err := netlink.LinkByName(name)
	if err == nil && device.Type() != "bridge" && device.Attrs().MasterIndex != 0 {
		device, err = netlink.LinkByIndex(device.Attrs().MasterIndex)
	}
	if err != nil {
		return ""
	}
	if b, is := device.(*netlink.Bridge); is && b.MulticastSnooping != nil && *b.MulticastSnooping {
		return b.Name
	}
	return ""
}

// addStatus adds what the daemon has seen.
func addStatus(f *doctor.Facts, s *admin.Status) {
	f.Uptime = seconds(s.Uptime)
	f.FromClusterMAC = s.Verdicts["cluster-mac-source"]
	for i := range s.Nodes {
		n := &s.Nodes[i]
		id, _ := strconv.ParseUint(n.ID, 16, 64)
		if n.Self {
			f.ID = id
			continue
		}
		f.Peers = append(f.Peers, doctor.Peer{Name: n.Name, Address: n.Address, ID: id, Witness: n.Witness, Heard: seconds(n.Heard), Spoke: seconds(n.Spoke)})
	}
	for i := range s.Workers {
		if w := &s.Workers[i]; !w.Retired {
			addWorker(f, w)
		}
	}
}

// addExamined adds what the other nodes have told, and what came of what they sent.
func addExamined(f *doctor.Facts, x *control.Examined) {
	f.Own = x.Own
	for i := range f.Peers {
		p := &f.Peers[i]
		id := fmt.Sprintf("%x", p.ID)
		if at := slices.IndexFunc(x.Cards, func(c control.HeardCard) bool { return c.ID == id }); at >= 0 {
			p.Card = &x.Cards[at]
		}
		p.Silent = slices.Contains(x.Silent, id)
		for _, one := range x.Probes {
			if one.ID == id {
				p.Probes = append(p.Probes, one)
			}
		}
	}
}

// addWorker adds what the worker of an interface has seen.
func addWorker(f *doctor.Facts, w *control.WorkerStatus) {
	for _, g := range w.Groups {
		for _, a := range g.Groups {
			one := doctor.Group{Address: a}
			if g.Querier != nil {
				one.Querier, one.Asked = g.Querier.Address, seconds(g.Querier.Seconds)
			}
			f.Groups = append(f.Groups, one)
		}
	}
	one := doctor.Worker{
		Uplink: w.Uplink, Changed: w.Changed, NotReached: w.NotReached, Stranger: w.Stranger, Filter: w.Filter.Reason, HostSees: !w.Filter.Whole(),
	}
	one.KeptOut = w.Direct != nil && w.Direct.KeptOut
	if reason, missing := w.Guard.Missing(); missing {
		one.Guard = reason
	}
	f.Workers = append(f.Workers, one)
	if u := w.Unbeliever; u != nil && seconds(u.Seconds) < unbelieverFor {
		f.Unbelievers = append(f.Unbelievers, doctor.Unbeliever{Address: u.Address, VIP: u.VIP, MAC: u.MAC, Times: u.Times, Ago: seconds(u.Seconds)})
	}
}

// addGateways adds the routers of the VIPs' LANs.
func addGateways(f *doctor.Facts, c *config.Config) {
	names := []string{c.Cluster.Interface}
	for _, v := range c.VIPs {
		names = append(names, v.Uplink.Interface)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if gateway, err := link.Gateway(name); err == nil && gateway.IsValid() {
			f.Gateways = append(f.Gateways, gateway)
		}
	}
}

// unbelieverFor is how long it is told that somebody has not believed an answer. Who
// has given up asks no more.
const unbelieverFor = 15 * time.Minute

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// lanWarnings is what the doctor finds in what the daemon has seen, for those who ask
// for its status: what harms, notes, and what is not known yet.
func (d *daemon) lanWarnings(s *admin.Status) (harms, notes, news []string) {
	f := fileFacts(d.cfg)
	f.Warnings = nil
	addHolders(f)
	addGateways(f, d.cfg)
	addStatus(f, s)
	// A loop that has ended knows nothing of others.
	_ = d.loop.Call(func(now time.Duration) {
		cards := d.loop.Cards(now)
		addExamined(f, &cards)
	})
	for _, x := range doctor.Examine(f) {
		switch {
		case x.Harms:
			harms = append(harms, x.Text+"; "+x.Mend)
		case x.Note && x.Unseen:
			news = append(news, x.Text)
		case x.Note:
			notes = append(notes, x.Text+"; "+x.Mend)
		}
	}
	return harms, notes, news
}

// fillSpoke fills in when the nodes have last sent a datagram to this one alone.
func (d *daemon) fillSpoke(s *admin.Status, c *cluster.Status) {
	ago := map[string]float64{}
	// A loop that has ended leaves them as never.
	_ = d.loop.Call(func(now time.Duration) {
		for i := range c.Hosts {
			if at, ok := d.transport.Spoke(c.Hosts[i].ID); ok {
				ago[fmt.Sprintf("%x", c.Hosts[i].ID)] = (now - at).Seconds()
			}
		}
	})
	for i := range s.Nodes {
		s.Nodes[i].Spoke = -1
		if seconds, ok := ago[s.Nodes[i].ID]; ok {
			s.Nodes[i].Spoke = seconds
		}
	}
}

// examine asks the other nodes of themselves.
func (d *daemon) examine(ctx context.Context) (control.Examined, error) {
	if d.loop == nil {
		return control.Examined{}, errors.New("the daemon is starting")
	}
	return d.loop.Examine(ctx)
}
