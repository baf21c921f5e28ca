package config

// datagrams reads what is of UDP services alone, and refuses what is not for them.
func (p *problems) datagrams(key string, raw *rawService, s *Service) {
	if !s.UDP {
		if raw.Idle != nil && s.Listen.IsValid() {
			p.at(key+".idle_timeout", "is for UDP services; leave it out, connections end by themselves")
		}
		return
	}
	if s.Limit.Flows > 0 || s.Limit.FlowsPerNode > 0 {
		p.at(key+".limit", "flows and flows_per_node are for connections; write new and per alone, the flows of UDP are bounded for each client as it is")
	}
	for i, a := range []Action{s.DenyAction, s.Limit.Action} {
		if a == ActionReset {
			p.at(key+[]string{".deny_action", ".limit.action"}[i], "nothing resets a datagram; write %q or %q", ActionReject, ActionDrop)
		}
	}
	s.Idle = p.duration(key+".idle_timeout", raw.Idle, DefaultIdle, MinIdle, MaxIdle)
	switch {
	case s.BackendPath != "":
		p.at(key+".backend", "a UDP service cannot be on a unix socket; write an address and port, such as \"127.0.0.1:53\"")
	case s.Source == SourceProxyV1 || s.Source == SourceProxyV2:
		p.at(key+".source", "%q is for connections, and a datagram has no place for it; write %q or %q", string(s.Source), SourceTransparent, SourcePlain)
	case !s.Direct && s.Source == SourceTransparent && s.Backend.IsValid() && !s.Backend.Addr().IsLoopback():
		p.at(key+".backend", "%s is not on loopback, from where the answers of a UDP service would not come back to this program with source = \"transparent\"; write a loopback address, or source = \"plain\"", s.Backend.Addr())
	}
}
