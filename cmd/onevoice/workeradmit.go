package main

import (
	"onevoice/admission"
	"onevoice/config"
	"onevoice/node"
)

// admitted puts what a service admits of what is new into the node's terms.
func admitted(to *node.Service, all *config.Access, s *config.Service) {
	to.OnDenied, to.OnLimit = refusalOf(s.DenyAction), refusalOf(s.Limit.Action)
	rules := admission.Service{
		Access: admission.Access{Allow: s.Access.Allow, Deny: s.Access.Deny, AllowAll: all.Allow, DenyAll: all.Deny,
			Files: admission.Files{Allow: s.Access.AllowFile, Deny: s.Access.DenyFile, AllowAll: all.AllowFile, DenyAll: all.DenyFile}},
		Limit: admission.Limit{
			New: s.Limit.New, Per: s.Limit.Per, Flows: s.Limit.Flows, PerNode: s.Limit.FlowsPerNode,
			Bits4: s.Limit.IPv4Prefix, Bits6: s.Limit.IPv6Prefix, Exempt: s.Limit.Exempt,
		},
	}
	if s.Limit.Any() || s.Access.Any() || all.Any() {
		to.Admits = &rules
	}
}

func refusalOf(a config.Action) node.Refusal {
	switch a {
	case config.ActionReject:
		return node.Reject
	case config.ActionReset:
		return node.Reset
	}
	return node.Drop
}
