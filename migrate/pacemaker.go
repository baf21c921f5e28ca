package migrate

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"onevoice/config"
)

// resource is an IPaddr2 of Pacemaker's, in whatever form it was written.
type resource struct {
	line int
	id   string
	// agent is its class, provider and type, such as ocf:heartbeat:IPaddr2.
	agent string
	// params are its own, and meta those of the clone that it is in.
	params, meta map[string]string
	cloned       bool
}

func newResource(line int, id, agent string) *resource {
	return &resource{line: line, id: id, agent: agent, params: map[string]string{}, meta: map[string]string{}}
}

func isTrue(v string) bool {
	switch strings.ToLower(v) {
	case "true", "yes", "1", "on", "y":
		return true
	}
	return false
}

// resources reads what was found of Pacemaker: its resources, and its nodes' names.
func (r *reading) resources(list []*resource, nodes []string) {
	for _, one := range list {
		if strings.HasSuffix(one.agent, "IPaddr2") || strings.HasSuffix(one.agent, "IPaddr3") {
			r.ipaddr2(one, nodes)
		}
	}
}

// ipaddr2 reads a resource as its agent does (resource-agents, heartbeat/IPaddr2).
func (r *reading) ipaddr2(x *resource, nodes []string) {
	// The agent's own default.
	mode := "sourceip-sourceport"
	if h := x.params["clusterip_hash"]; h != "" {
		mode = h
	}
	if h := x.meta["clusterip_hash"]; h != "" && x.params["clusterip_hash"] == "" {
		r.leave(x.line, "clusterip_hash of %s is written as an attribute of the clone, where the agent does not see it; it uses %s", x.id, mode)
	}
	switch {
	case !x.cloned:
		r.leave(x.line, "%s is not cloned: one host has the address, and the others wait; onevoice shares it, with %q as a VIP", x.id, x.params["ip"])
		return
	case !isTrue(x.meta["globally-unique"]):
		r.leave(x.line, "the clone of %s is not globally-unique, so its instances do not know which numbers are theirs; it is not carried over", x.id)
		return
	case isTrue(x.params["unique_clone_address"]):
		r.leave(x.line, "%s has unique_clone_address: each instance has an address of its own; it is not carried over", x.id)
		return
	}
	s := Shared{Interface: x.params["nic"], Nodes: nodes}
	// A label behind the interface is no part of it.
	s.Interface, _, _ = strings.Cut(s.Interface, ":")
	var err error
	if s.Address, err = netip.ParseAddr(x.params["ip"]); err != nil || !s.Address.Is4() {
		r.leave(x.line, "ip of %s is %q; CLUSTERIP has IPv4 addresses alone, so it is not carried over", x.id, x.params["ip"])
		return
	}
	var ok bool
	if s.Affinity, ok = affinityOf(mode); !ok {
		r.leave(x.line, "clusterip_hash of %s is %q, which CLUSTERIP does not have; it is not carried over", x.id, mode)
		return
	}
	total := len(nodes)
	if text := x.meta["clone-max"]; text != "" {
		if total, err = strconv.Atoi(text); err != nil {
			total = 0
		}
	}
	if total < 1 || total > 16 {
		r.leave(x.line, "clone-max of %s is %q, and CLUSTERIP takes 1 to 16; it is not carried over", x.id, x.meta["clone-max"])
		return
	}
	s.Sharing = config.Sharing{Hash: config.HashClusterIP, Nodes: total}
	mask := x.params["cidr_netmask"]
	if mask == "" {
		mask = x.params["netmask"]
	}
	if s.Bits, err = strconv.Atoi(mask); err != nil || s.Bits < 8 || s.Bits > 30 {
		s.Bits = 0
	}
	if mac, err := net.ParseMAC(x.params["mac"]); err == nil && len(mac) == 6 {
		s.MAC = mac.String()
	} else {
		r.leave(x.line, "%s has no mac, so the agent made one by itself; `iptables-save` on a host that has the address tells it: read that besides, or write it as mac", x.id)
	}
	for _, other := range []string{"lvs_support", "iflabel", "arp_sender", "broadcast"} {
		if v := x.params[other]; v != "" && v != "false" {
			r.leave(x.line, "%s of %s is not carried over; onevoice has no need of it", other, x.id)
		}
	}
	r.add(x.line, s)
}

// crm reads `crm configure show` (crmsh): a line for each object, continued by
// backslashes.
func (r *reading) crm() {
	var nodes []string
	byID, groups := map[string]*resource{}, map[string][]string{}
	var list []*resource
	clones := map[string]map[string]string{}
	r.statements(func(n int, words []string) {
		switch words[0] {
		case "node":
			name := words[1:]
			if len(name) > 1 && strings.HasSuffix(name[0], ":") {
				name = name[1:] // its number
			}
			if len(name) > 0 {
				nodes = append(nodes, strings.Trim(name[0], `"`))
			}
		case "primitive":
			if len(words) < 3 {
				return
			}
			x := newResource(n, words[1], words[2])
			x.params = assignments(words[3:], "params")
			byID[x.id], list = x, append(list, x)
		case "group":
			if len(words) > 2 {
				groups[words[1]] = words[2:]
			}
		case "clone":
			if len(words) > 2 {
				clones[words[2]] = assignments(words[3:], "meta")
			}
		}
	})
	for id, meta := range clones {
		for _, member := range append(groups[id], id) {
			if x := byID[member]; x != nil {
				x.cloned, x.meta = true, meta
			}
		}
	}
	r.resources(list, nodes)
}

// statements are lines without their continuations, as words.
func (r *reading) statements(each func(n int, words []string)) {
	begun, text := 0, ""
	r.lines(func(n int, line string) {
		if begun == 0 {
			begun = n
		}
		rest, more := strings.CutSuffix(line, `\`)
		text += " " + rest
		if more {
			return
		}
		if words := strings.Fields(text); len(words) > 1 {
			each(begun, words)
		}
		begun, text = 0, ""
	})
}

// assignments are name=value words of a section, such as those between params and op.
func assignments(words []string, section string) map[string]string {
	out, in := map[string]string{}, false
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		switch {
		case !ok:
			in = w == section
		case in:
			out[name] = strings.Trim(value, `"'`)
		}
	}
	return out
}

// pcs reads `pcs resource config`, `pcs resource show --full` and `pcs config`: what is
// in something else stands further to the right.
func (r *reading) pcs() {
	var nodes []string
	var list []*resource
	var at *resource
	var clone map[string]string
	cloneAt, resourceAt, section, number := 0, 0, "", 0
	for line := range strings.Lines(string(r.in.Data)) {
		number++
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		indent := len(line) - len(strings.TrimLeft(line, " \t"))
		head, isHead := strings.CutSuffix(words[0], ":")
		switch {
		case section == "nodes" && !isHead:
			nodes = append(nodes, words...)
			continue
		case isHead && head == "Clone" && len(words) > 1:
			at, clone, cloneAt, section = nil, map[string]string{}, indent, ""
		case isHead && head == "Resource" && len(words) > 1:
			if indent <= cloneAt {
				clone = nil
			}
			at, resourceAt, section = newResource(number, words[1], pcsAgent(words[2:])), indent, ""
			if clone != nil {
				at.cloned, at.meta = true, clone
			}
			list = append(list, at)
		case strings.HasPrefix(line, "Pacemaker Nodes:"):
			section = "nodes"
		case strings.Contains(line, "Meta Att"):
			section = "meta"
		case strings.Contains(line, "Attributes:"):
			section = "params"
		case isHead:
			section = ""
		}
		for _, w := range words {
			name, value, ok := strings.Cut(w, "=")
			value = strings.Trim(value, `"',`)
			switch {
			case !ok:
			case section == "params" && at != nil && indent > resourceAt:
				at.params[name] = value
			case section == "meta" && clone != nil && (at == nil || indent <= resourceAt):
				clone[name] = value
			}
		}
	}
	r.resources(list, nodes)
}

// pcsAgent is (class=ocf provider=heartbeat type=IPaddr2) in one word.
func pcsAgent(words []string) string {
	var out []string
	for _, w := range words {
		if _, value, ok := strings.Cut(strings.Trim(w, "()"), "="); ok {
			out = append(out, value)
		}
	}
	return strings.Join(out, ":")
}
