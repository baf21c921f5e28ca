package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

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
	return f
}

// addHost adds what this host's kernel tells. What it does not tell stays unknown.
func addHost(f *doctor.Facts) {
	for i := range f.VIPs {
		f.VIPs[i].Holder, _ = link.Holder(f.VIPs[i].Address.Addr())
	}
	if mac, err := os.ReadFile(filepath.Join("/sys/class/net", f.Interface, "address")); err == nil {
		f.OwnMAC = strings.TrimSpace(string(mac))
	}
	f.SnoopingBridge = snoopingBridge(f.Interface)
}

// snoopingBridge is the bridge that an interface is, or is a port of, if it snoops
// (Documentation/ABI/testing/sysfs-class-net, brport and bridge).
func snoopingBridge(name string) string {
	device := filepath.Join("/sys/class/net", name)
	for _, at := range []string{device, filepath.Join(device, "brport", "bridge")} {
		b, err := os.ReadFile(filepath.Join(at, "bridge", "multicast_snooping"))
		if err != nil || strings.TrimSpace(string(b)) != "1" {
			continue
		}
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Base(real)
		}
	}
	return ""
}

// addStatus adds what the daemon has seen.
func addStatus(f *doctor.Facts, s *admin.Status) {
	f.Uptime = seconds(s.Uptime)
	f.FromClusterMAC = s.Verdicts["cluster-mac-source"]
	for i := range s.Nodes {
		if n := &s.Nodes[i]; !n.Self && !n.Witness {
			f.Peers = append(f.Peers, doctor.Peer{Name: n.Name, Address: n.Address, Heard: seconds(n.Heard), Spoke: seconds(n.Spoke)})
		}
	}
	for i := range s.Workers {
		if w := &s.Workers[i]; !w.Retired {
			addWorker(f, w)
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

// lanWarnings is what the doctor finds harmful in what the daemon has seen, for those
// who ask for its status.
func (d *daemon) lanWarnings(s *admin.Status) (out []string) {
	f := fileFacts(d.cfg)
	f.Warnings = nil
	addGateways(f, d.cfg)
	addStatus(f, s)
	for _, x := range doctor.Examine(f) {
		if x.Harms {
			out = append(out, x.Text+"; "+x.Mend)
		}
	}
	return out
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
