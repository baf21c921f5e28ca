package main

import (
	"onevoice/link/ingress"
	"onevoice/node"
)

// openFilter has the kernel drop other nodes' frames. Without it they come up here
// and are dropped by the node.
func (s *serving) openFilter(services []node.Service) {
	takes := s.filter()
	filter, err := ingress.Load(ingress.Config{
		Own: s.parts.Device.HardwareAddr(), Groups: takes.Groups, Addresses: takes.Addresses, Except: takes.Except, VLAN: s.settings.Config.VIPs[0].Uplink.VLAN, Membership: takes.Membership,
		Services: node.FilteredServices(services), Never: s.parts.Node.NoClients(),
	})
	if err == nil {
		s.opened(filter.Close)
		err = filter.AttachSocket(s.parts.Device.FD())
	}
	if err != nil {
		s.withoutFilter("other nodes' frames are dropped in user space, which costs more", err)
		return
	}
	s.parts.Filter = filter
	s.parts.Node.SetFilter(node.KernelFilter(filter))
	if err := filter.AttachHost(s.settings.Config.Cluster.Interface); err != nil {
		s.withoutFilter("this host's own stack looks at each frame for a VIP, too, which costs more", err)
		return
	}
	s.parts.Node.SetAnswerer(node.KernelAnswerer(filter))
	if err := filter.NoAnswers(); err != nil {
		s.log.Warn("floods of SYNs are answered in user space, which costs more", "error", err)
	}
}

// withoutFilter goes on without a program, whatever is wrong with it: it spares work
// and decides nothing that the node does not decide.
func (s *serving) withoutFilter(consequence string, err error) {
	s.parts.NoFilter = err.Error()
	s.log.Warn(consequence, "error", err)
}
