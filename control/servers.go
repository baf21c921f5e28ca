package control

import (
	"slices"

	"onevoice/cluster"
	"onevoice/hashing"
	"onevoice/internal/page"
	"onevoice/node"
)

// servers is Workers as a Loop sees them, if there is one interface alone. The core's services are those of the
// VIPs, in the order of the configuration, and then the services.
type servers struct {
	*Workers
	affinities []hashing.Affinity
	// draining are, by service, the buckets that this node drains.
	draining []node.Bitmap
}

func serversOf(w *Workers) (*servers, error) {
	s := &servers{Workers: w}
	for _, svc := range w.cfg.Settings.Config.Services {
		a, err := hashing.ParseAffinity(string(svc.Affinity))
		if err != nil {
			return s, err
		}
		s.affinities = append(s.affinities, a)
	}
	return s, nil
}

// Grant implements Servers.
func (s *servers) Grant(r *cluster.Rights) error {
	o := &node.Ownership{Generation: r.Generation, Elsewhere: r.Elsewhere}
	vips := len(s.cfg.Settings.Config.VIPs)
	var m Mappings
	s.draining = s.draining[:0]
	for i := range r.Services {
		rights := &r.Services[i]
		rows := node.Rows{
			Accept: node.Bitmap(rights.Accept), Grace: node.Bitmap(rights.Grace),
			Shared: node.Bitmap(rights.Shared), Draining: node.Bitmap(rights.Draining),
		}
		mapping := page.Mapping{Generation: rights.Mapping.Generation, Key: rights.Mapping.Key}
		if i < vips {
			o.VIPs, m.VIPs = append(o.VIPs, rows), append(m.VIPs, mapping)
			continue
		}
		mapping.Affinity = uint8(s.affinities[i-vips])
		s.draining = append(s.draining, rows.Draining)
		o.Services, m.Services = append(o.Services, rows), append(m.Services, mapping)
	}
	return s.Publish(o, m)
}

// Report implements Servers.
func (s *servers) Report() cluster.Report {
	holding := s.Holding()
	r := cluster.Report{Written: s.WrittenBack(), Looked: holding.Generation, Others: s.Accompanied()}
	for range s.cfg.Settings.Config.VIPs {
		r.Holding = append(r.Holding, [4]uint64{}) // answers leave no flow behind
	}
	for _, b := range holding.Services {
		r.Holding = append(r.Holding, b)
	}
	return r
}

// Held implements FlowServers. VIPs have answers, and no flows.
func (s *servers) Held(wanted [][4]uint64) (HeldFlows, error) {
	vips := len(s.cfg.Settings.Config.VIPs)
	ask := make([]node.Bitmap, len(wanted)-vips)
	for i := range ask {
		ask[i] = node.Bitmap(wanted[vips+i])
	}
	held, err := s.Workers.Held(ask)
	held.Services, held.All = append(make([][]node.Held, vips), held.Services...), append(slices.Repeat([]bool{true}, vips), held.All...)
	return held, err
}

// SetFlowLists implements FlowServers.
func (s *servers) SetFlowLists(generation uint64, lists []FlowList) error {
	vips := len(s.cfg.Settings.Config.VIPs)
	var told []FlowList
	for _, l := range lists {
		if l.Service -= vips; l.Service >= 0 {
			told = append(told, l)
		}
	}
	if len(told) == 0 {
		return nil
	}
	return s.Workers.SetFlowLists(generation, told)
}

// Forget implements Servers.
func (s *servers) Forget() {
	s.EndFlows(slices.Repeat([]node.Bitmap{node.Bitmap(every())}, len(s.cfg.Settings.Config.Services)), true)
}

// EndDrained implements Servers.
func (s *servers) EndDrained() { s.EndFlows(slices.Clone(s.draining), false) }
