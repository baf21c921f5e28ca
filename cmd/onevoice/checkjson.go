package main

import "onevoice/config"

// checkedConfig is a configuration as `check --json` prints it. Times are in the
// form of time.ParseDuration; what is not set is left out.
type checkedConfig struct {
	Cluster     string           `json:"cluster"`
	Interface   string           `json:"interface"`
	Peers       []checkedPeer    `json:"peers"`
	ControlPort uint16           `json:"control_port"`
	TwoNodes    string           `json:"two_nodes,omitempty"`
	Witness     string           `json:"witness,omitempty"`
	Timing      string           `json:"timing"`
	Node        checkedNode      `json:"node"`
	VIPs        []checkedVIP     `json:"vips"`
	Services    []checkedService `json:"services"`
	PrefixFiles []checkedList    `json:"prefix_files,omitempty"`
	Warnings    []string         `json:"warnings"`
}

type checkedPeer struct {
	Address string `json:"address"`
	Control string `json:"control,omitempty"`
}

type checkedNode struct {
	Name          string   `json:"name"`
	StateDir      string   `json:"state_dir"`
	User          string   `json:"user,omitempty"`
	StopTimeout   string   `json:"stop_timeout"`
	Weight        int      `json:"weight"`
	Voter         *bool    `json:"voter,omitempty"`
	Agent         string   `json:"agent,omitempty"`
	AgentInterval string   `json:"agent_interval"`
	Ping          []string `json:"ping,omitempty"`
	GatewayCheck  bool     `json:"gateway_check"`
	MemoryMiB     int      `json:"memory_mib,omitempty"`
}

type checkedVIP struct {
	Address string `json:"address"`
	Uplink  string `json:"uplink"`
	MAC     string `json:"mac"`
	MACMode string `json:"mac_mode"`
}

type checkedService struct {
	Name     string `json:"name"`
	Listen   string `json:"listen"`
	Backend  string `json:"backend"`
	Affinity string `json:"affinity"`
	Source   string `json:"source"`
	Check    string `json:"check"`
	Interval string `json:"check_interval"`
	Timeout  string `json:"check_timeout"`
	Rise     int    `json:"check_rise"`
	Fall     int    `json:"check_fall"`
	HoldDown string `json:"hold_down"`
	// Of another system's hash. Homes are the names of whom the numbers belong to,
	// from FirstNumber on.
	Hash        string   `json:"hash,omitempty"`
	HashSeed    uint32   `json:"hash_seed,omitempty"`
	TotalNodes  int      `json:"total_nodes,omitempty"`
	FirstNumber int      `json:"first_number,omitempty"`
	Homes       []string `json:"homes,omitempty"`

	Allow      []string      `json:"allow,omitempty"`
	Deny       []string      `json:"deny,omitempty"`
	AllowFile  string        `json:"allow_file,omitempty"`
	DenyFile   string        `json:"deny_file,omitempty"`
	DenyAction string        `json:"deny_action"`
	Limit      *checkedLimit `json:"limit,omitempty"`
}

func checked(c *config.Config, files []checkedList) checkedConfig {
	cl := &c.Cluster
	out := checkedConfig{
		Cluster: cl.Name, Interface: cl.Interface, ControlPort: cl.ControlPort, TwoNodes: cl.TwoNodes,
		Timing: string(cl.Timing), Node: nodeChecked(&c.Node), PrefixFiles: files, Warnings: append([]string{}, c.Warnings...),
	}
	if cl.Witness.IsValid() {
		out.Witness = cl.Witness.String()
	}
	for i, p := range cl.Peers {
		peer := checkedPeer{Address: p.String()}
		if a := cl.Controls[i]; a.IsValid() {
			peer.Control = a.String()
		}
		out.Peers = append(out.Peers, peer)
	}
	for _, v := range c.VIPs {
		out.VIPs = append(out.VIPs, checkedVIP{v.Address.String(), v.Uplink.String(), v.MAC.String(), string(v.MACMode)})
	}
	for _, s := range c.Services {
		out.Services = append(out.Services, serviceChecked(&s))
	}
	return out
}

func nodeChecked(n *config.Node) checkedNode {
	out := checkedNode{
		Name: n.Name, StateDir: n.StateDir, User: n.User, StopTimeout: n.StopTimeout.String(), Weight: n.Weight, Voter: n.Voter,
		Agent: agentText(&n.Agent), AgentInterval: n.AgentInterval.String(), GatewayCheck: n.GatewayCheck, MemoryMiB: n.MemoryMiB,
	}
	for _, a := range n.Ping {
		out.Ping = append(out.Ping, a.String())
	}
	return out
}

func serviceChecked(s *config.Service) checkedService {
	k := &s.Check
	return checkedService{
		Name: s.Name, Listen: s.ListenText(), Backend: s.BackendText(), Affinity: string(s.Affinity), Source: string(s.Source),
		Check: k.Text(), Interval: k.Interval.String(), Timeout: k.Timeout.String(), Rise: k.Rise, Fall: k.Fall, HoldDown: k.HoldDown.String(),
		Hash: string(s.Sharing.Hash), HashSeed: s.Sharing.Seed, TotalNodes: s.Sharing.Nodes, FirstNumber: s.Sharing.First(), Homes: s.Sharing.Homes,
		Allow: prefixesText(s.Access.Allow), Deny: prefixesText(s.Access.Deny), AllowFile: s.Access.AllowFile, DenyFile: s.Access.DenyFile, DenyAction: string(s.DenyAction), Limit: limitChecked(&s.Limit),
	}
}
