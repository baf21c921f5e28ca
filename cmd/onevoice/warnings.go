package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"onevoice/admin"
	"onevoice/cluster"
	"onevoice/control"
)

// situation is what warnings are made of: what the core knows, and what came in
// over the control port.
type situation struct {
	*cluster.Status
	// leased: this node holds a lease now.
	leased bool
	// preferred: of two nodes, the first decides.
	preferred bool
	port      uint16
	// complaints are sentences about refused datagrams.
	complaints []string
	// failing are the services whose check calls them down on this node, and why.
	failing map[string]string
	// unfit is what is wrong with this node beside its services.
	unfit []string
	// pinned are the nodes that pins name.
	pinned []string
	// disk is why the state directory cannot be written, or nothing.
	disk string
}

// warnings are sentences about what is wrong and what to do, worst first: what
// stops the whole cluster, then this node, then others.
func (s *situation) warnings() []string {
	out := slices.Concat(s.stateDirectory(), s.Warnings, s.phase(), s.everywhere(), s.lease(), s.complaints, s.pins())
	for _, name := range s.Differs {
		out = append(out, differs(name))
	}
	// Without a lease, that nobody is heard says it of all; with one, the others are away.
	if !s.alone() || s.leased {
		for i := range s.Hosts {
			out = append(out, s.other(&s.Hosts[i])...)
		}
	}
	out = append(out, s.services()...)
	if me := s.self(); me != nil && me.In && !me.Witness && me.Percent == 0 {
		out = append(out, "this node takes nothing new, by its own word: "+cmp.Or(strings.Join(s.unfit, "; "), "its gateway, uplinks or agent say so, or did a moment ago; its log tells which"))
	}
	return out
}

// differs tells of what this node's file says otherwise than the cluster.
func differs(name string) string {
	if vip, ok := strings.CutPrefix(name, vipPrefix); ok {
		return fmt.Sprintf("%s has another MAC, interface or VLAN in this node's file than in the cluster, so this node does not answer for it; make the files equal, then restart onevoice here; or when all nodes were restarted with this file, `onevoice remap %[1]s`", vip)
	}
	return fmt.Sprintf("service %s is not the same in this node's file as in the cluster, so this node takes no bucket of it; make the files equal, then restart onevoice here; or if this file is the right one, `onevoice remap %[1]s`", name)
}

// pins tells of those that name nobody.
func (s *situation) pins() (out []string) {
	for _, node := range s.pinned {
		if !slices.ContainsFunc(s.Hosts, func(h cluster.HostStatus) bool { return !h.Witness && (h.Name == node || h.Address == node) }) {
			out = append(out, fmt.Sprintf("a [[pin]] is for %s, and no node has that name or address, so others have its clients; write the name that `onevoice status` shows, on all nodes", node))
		}
	}
	return out
}

// stateDirectory tells of a disk that is full.
func (s *situation) stateDirectory() []string {
	if s.disk == "" {
		return nil
	}
	return []string{"this node's state cannot be saved, so it takes part in nothing new until it can: " + s.disk + "; make room, it goes on by itself"}
}

// phase tells of a node that has no table yet.
func (s *situation) phase() []string {
	switch s.Phase {
	case "blank":
		return []string{fmt.Sprintf("this node has no cluster yet: it waits until all of [cluster] peers are there, or until one that has a cluster lets it join. It can take some seconds; if it does not end, start onevoice on the others, and look whether a firewall between them drops UDP port %d; or see `onevoice bootstrap --help`", s.port)}
	case "joining":
		return []string{"this node has joined and waits for the cluster's table; a majority of the voters has to be there"}
	}
	return nil
}

// everywhere tells of what nobody can serve.
func (s *situation) everywhere() (out []string) {
	for _, name := range control.DownEverywhere(s.Status) {
		if vip, ok := strings.CutPrefix(name, vipPrefix); ok {
			out = append(out, fmt.Sprintf("no node answers for %s, for the cluster has another MAC, interface or VLAN for it than their files; when all were restarted with the same file, `onevoice remap %[1]s` on one of them", vip))
			continue
		}
		out = append(out, fmt.Sprintf("service %s is down on every node: nobody serves it, and its buckets stay where they are; start its backend%s", name, s.reason(name)))
	}
	if !slices.ContainsFunc(s.Hosts, func(h cluster.HostStatus) bool { return h.In && !h.Witness && !h.Foreign && !h.Draining }) &&
		slices.ContainsFunc(s.Hosts, func(h cluster.HostStatus) bool { return h.In && !h.Witness && !h.Foreign }) {
		out = append(out, "every node is to drain, so the buckets stay where they are; take one back with `onevoice undrain`")
	}
	for _, name := range sortedNames(s.Tables) {
		n := 0
		owners := s.Tables[name]
		for b, id := range owners {
			if size, known := s.Sizes[name]; id == 0 && (!known || b < size) {
				n++
			}
		}
		if n > 0 {
			out = append(out, fmt.Sprintf("%d buckets of %s have no owner: no node may take them; undrain one, or give one a weight", n, name))
		}
	}
	return out
}

// lease tells why this node has none.
func (s *situation) lease() []string {
	me := s.self()
	if me == nil || me.Witness || s.leased {
		return nil
	}
	away, votes := s.awayVoters()
	nodes := slices.ContainsFunc(s.Hosts, func(h cluster.HostStatus) bool { return !h.Self && !h.Witness && heard(&h) })
	switch {
	case s.preferred && votes == 1 && len(away) > 0:
		return []string{fmt.Sprintf("%s, the preferred node, is not heard, so nothing new is accepted; start onevoice there, or look at the cables and whether a firewall drops UDP port %d. If it is lost for good, see `onevoice recover --help`", strings.Join(away, ", "), s.port)}
	case s.alone():
		return []string{fmt.Sprintf("this node hears none of the others, so it holds no lease and accepts nothing new; look at its cable, at the switch, and whether a firewall drops UDP port %d; or start onevoice on the others", s.port)}
	case 2*len(away) >= votes:
		return []string{fmt.Sprintf("%d of %d voters are away (%s): without a majority nobody holds a lease, and nothing new is accepted; start onevoice there. If they are lost for good, see `onevoice recover --help`", len(away), votes, strings.Join(away, ", "))}
	}
	if !nodes {
		return []string{"this node hears the witness and no other node, so it holds no lease and accepts nothing new: its cable to the LAN is bad, or the witness has chosen another node"}
	}
	return []string{"this node hears the others and gets no lease from them, so it accepts nothing new: they do not hear it, or it was removed with `onevoice forget`, or it has just started. `onevoice status` on another node tells; one that was removed needs an empty state directory"}
}

// awayVoters are those that were not heard lately, and how many there are.
func (s *situation) awayVoters() (away []string, votes int) {
	for i := range s.Hosts {
		if h := &s.Hosts[i]; h.Voter {
			votes++
			if !heard(h) {
				away = append(away, h.Name)
			}
		}
	}
	return away, votes
}

// alone: there are others, and this node hears none of them.
func (s *situation) alone() bool {
	others := slices.DeleteFunc(slices.Clone(s.Hosts), func(h cluster.HostStatus) bool { return h.Self || h.Foreign })
	return len(others) > 0 && !slices.ContainsFunc(others, func(h cluster.HostStatus) bool { return heard(&h) })
}

func (s *situation) self() *cluster.HostStatus {
	for i := range s.Hosts {
		if s.Hosts[i].Self {
			return &s.Hosts[i]
		}
	}
	return nil
}

// heard reports whether this node hears a host, or is it.
func heard(h *cluster.HostStatus) bool {
	return h.Self || h.Heard >= 0 && h.Heard <= admin.SilentAfter
}

// other tells of another host.
func (s *situation) other(h *cluster.HostStatus) []string {
	name := fmt.Sprintf("%s (%s)", h.Name, h.Address)
	switch {
	case h.Self:
		return nil
	case h.Foreign:
		return s.foreign(h)
	case h.Witness && !heard(h):
		return []string{fmt.Sprintf("%s, the witness, is not heard: should a node die now, no majority may be left; start `onevoice witness` there", name)}
	case h.Witness:
		return nil
	case !heard(h) && h.In:
		return []string{name + " is not heard any more"}
	case !heard(h):
		return []string{fmt.Sprintf("%s is away, and the others have its buckets; start onevoice there, or if it never comes back, `onevoice forget %s`", name, h.Name)}
	case !h.In || !h.Leased:
		return []string{name + " speaks and holds no lease: it accepts nothing new; `onevoice status` there tells why"}
	}
	return nil
}

// foreign tells of another system's node that has numbers left, while one of ours has
// come in its place.
func (s *situation) foreign(h *cluster.HostStatus) []string {
	owns := false
	for _, n := range h.Buckets {
		owns = owns || n > 0
	}
	if !owns || !slices.ContainsFunc(s.Hosts, func(o cluster.HostStatus) bool { return !o.Foreign && o.Name == h.Name && heard(&o) }) {
		return nil
	}
	return []string{fmt.Sprintf("%s is a node of this cluster now, and its numbers still count as answered by what it ran before, so nobody answers its clients if that is gone; `onevoice takeover %s` lets it", h.Name, h.Name)}
}

// services tells of those that are down on some nodes.
func (s *situation) services() (out []string) {
	everywhere := control.DownEverywhere(s.Status)
	for i := range s.Hosts {
		h := &s.Hosts[i]
		for _, x := range h.Health {
			switch {
			case x.Up || slices.Contains(everywhere, x.Service) || h.Self && slices.Contains(s.Differs, x.Service):
			case h.Self:
				out = append(out, fmt.Sprintf("service %s is down on this node, and %s; start its backend%s", x.Service, taken(h.Buckets[x.Service]), s.reason(x.Service)))
			default:
				out = append(out, fmt.Sprintf("service %s is down on %s (%s), and %s; `onevoice status` there tells why", x.Service, h.Name, h.Address, taken(h.Buckets[x.Service])))
			}
		}
	}
	return out
}

// taken says where the buckets of a service are that is down on a node: there still while
// they are given away, and for as long as all others drain or have no room.
func taken(left int) string {
	if left == 0 {
		return "the others have its buckets"
	}
	return "some of its buckets are there still, whose clients are refused"
}

// reason is what the check of a service says here, in brackets.
func (s *situation) reason(service string) string {
	if why := s.failing[service]; why != "" {
		return " (here: " + why + ")"
	}
	return ""
}

func sortedNames[T any](of map[string]T) []string {
	var out []string
	for name := range of {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
