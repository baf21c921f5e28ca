package migrate

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"onevoice/config"
)

// rule is a line of iptables-save, taken apart.
type rule struct {
	line    int
	table   string
	options map[string]string
	// negated are the options that stand behind a "!".
	negated map[string]bool
	matches []string
}

// valueless are options of a rule that have no value.
func valueless(option string) bool {
	switch option {
	case "--new", "--syn", "-f", "--fragment", "--random", "--persistent", "--rsource", "--rdest", "--update", "--set", "--rcheck", "--remove", "--clamp-mss-to-pmtu":
		return true
	}
	return false
}

// iptables reads iptables-save(8) and ip6tables-save(8).
func (r *reading) iptables() {
	table := ""
	var rules []rule
	r.lines(func(n int, line string) {
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case strings.HasPrefix(line, "-A "):
			rules = append(rules, splitRule(n, table, line))
		}
	})
	for i := range rules {
		r.iptablesRule(&rules[i])
	}
	r.beside(rules)
}

func splitRule(n int, table, line string) rule {
	out := rule{line: n, table: table, options: map[string]string{}, negated: map[string]bool{}}
	words, not := strings.Fields(line), false
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "!":
			not = true
			continue
		case !strings.HasPrefix(w, "-"):
		case valueless(w) || i+1 == len(words):
			out.options[w] = ""
		default:
			i++
			if w == "-m" {
				out.matches = append(out.matches, words[i])
			} else {
				out.options[w], out.negated[w] = words[i], not
			}
		}
		not = false
	}
	return out
}

func (r *reading) iptablesRule(x *rule) {
	switch source, low := lowBits(x.options["-s"]); {
	case x.options["-j"] == "CLUSTERIP":
		r.clusterIP(x)
	case contains(x.matches, "cluster"):
		r.xtCluster(x)
	case low:
		r.netmaskRule(x, source)
	}
}

func contains(list []string, one string) bool {
	for _, s := range list {
		if s == one {
			return true
		}
	}
	return false
}

// common is what every rule says: address, interface, ports. Not ok: the rule is about
// something else, which was told.
func (r *reading) common(x *rule) (s Shared, ok bool) {
	if d := x.options["-d"]; d != "" {
		p, err := netip.ParsePrefix(d)
		if err != nil {
			a, errAddr := netip.ParseAddr(d)
			if err = errAddr; err == nil {
				p = netip.PrefixFrom(a, a.BitLen())
			}
		}
		if err != nil || !p.IsSingleIP() || x.negated["-d"] {
			r.leave(x.line, "the rule is about %s, which is not one address; onevoice shares single addresses", d)
			return s, false
		}
		s.Address = p.Addr()
	}
	s.Interface = x.options["-i"]
	if x.negated["-i"] || strings.HasSuffix(s.Interface, "+") {
		r.leave(x.line, "the rule is about all interfaces but one, or some; onevoice serves an address on one interface, which was left out")
		s.Interface = ""
	}
	proto := x.options["-p"]
	ports := x.options["--dport"] + x.options["--dports"]
	switch {
	case proto != "" && proto != "tcp" && proto != "udp":
		r.leave(x.line, "the rule is about protocol %s; onevoice has services of tcp and udp", proto)
		return s, false
	case ports == "":
		return s, true
	}
	for _, text := range strings.Split(ports, ",") {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 || x.negated["--dport"] || x.negated["--dports"] {
			r.leave(x.line, "ports %s are not carried over; write their services yourself", ports)
			continue
		}
		s.Ports = append(s.Ports, Port{proto, uint16(n)})
	}
	return s, true
}

// number reads an option, which must be there, in any of the bases that iptables reads.
func (r *reading) number(x *rule, option string, bits int) (uint64, bool) {
	n, err := strconv.ParseUint(x.options[option], 0, bits)
	if err != nil {
		r.leave(x.line, "%s is %q, which is no number; the rule is not carried over", option, x.options[option])
		return 0, false
	}
	return n, true
}

// affinityOf is CLUSTERIP's hashmode.
func affinityOf(mode string) (config.Affinity, bool) {
	a, ok := map[string]config.Affinity{
		"sourceip": config.SourceIP, "sourceip-sourceport": config.SourceIPPort, "sourceip-sourceport-destport": config.SourceIPPortDestPort,
	}[mode]
	return a, ok
}

// clusterIP reads -j CLUSTERIP. Only the first rule of an address has --new and the
// rest; the others make more packets go by it.
func (r *reading) clusterIP(x *rule) {
	s, ok := r.common(x)
	if !ok {
		return
	}
	if _, first := x.options["--new"]; !first {
		r.leave(x.line, "a further rule to CLUSTERIP, without --new; its ports are not carried over")
		return
	}
	total, okTotal := r.number(x, "--total-nodes", 8)
	local, okLocal := r.number(x, "--local-node", 8)
	init := uint64(0)
	if x.options["--hash-init"] != "" {
		if init, ok = r.number(x, "--hash-init", 32); !ok {
			return
		}
	}
	if s.Affinity, ok = affinityOf(x.options["--hashmode"]); !ok {
		r.leave(x.line, "--hashmode is %q, which CLUSTERIP does not have; the rule is not carried over", x.options["--hashmode"])
		return
	}
	mac, err := net.ParseMAC(x.options["--clustermac"])
	if err != nil || len(mac) != 6 {
		r.leave(x.line, "--clustermac is %q, which is no MAC; the rule is not carried over", x.options["--clustermac"])
		return
	}
	if okTotal && okLocal {
		s.MAC, s.Local = mac.String(), []int{int(local)}
		s.Sharing = config.Sharing{Hash: config.HashClusterIP, Seed: uint32(init), Nodes: int(total)}
		r.add(x.line, s)
	}
}

// xtCluster reads -m cluster. iptables-save prints the local node as a mask.
func (r *reading) xtCluster(x *rule) {
	s, ok := r.common(x)
	if !ok {
		return
	}
	total, ok := r.number(x, "--cluster-total-nodes", 8)
	if !ok || total > 32 {
		return
	}
	seed, ok := r.number(x, "--cluster-hash-seed", 32)
	if !ok {
		return
	}
	option := "--cluster-local-nodemask"
	var set []int
	if node := x.options["--cluster-local-node"]; node != "" {
		option = "--cluster-local-node"
		n, ok := r.number(x, option, 8)
		if !ok {
			return
		}
		set = []int{int(n)}
	} else {
		mask, ok := r.number(x, option, 32)
		if !ok {
			return
		}
		for n := range 32 {
			if mask&(1<<n) != 0 {
				set = append(set, n+1)
			}
		}
	}
	s.Sharing = config.Sharing{Hash: config.HashXTCluster, Seed: uint32(seed), Nodes: int(total)}
	s.Local = kept(set, x.negated[option], drops(x.options["-j"]), 1, int(total))
	r.add(x.line, s)
}

func drops(target string) bool { return target == "DROP" || target == "REJECT" }

// lowBits reads -s ADDRESS/MASK where the mask is the lowest bits of an address: it is
// how addresses are shared without any module.
func lowBits(text string) (source [2]uint32, ok bool) {
	address, mask, ok := strings.Cut(text, "/")
	a, errA := netip.ParseAddr(address)
	m, errM := netip.ParseAddr(mask)
	if !ok || errA != nil || errM != nil || !a.Is4() || !m.Is4() {
		return source, false
	}
	av, mv := a.As4(), m.As4()
	source = [2]uint32{binary.BigEndian.Uint32(av[:]), binary.BigEndian.Uint32(mv[:])}
	return source, isLowMask(source[1]) && source[0]&^source[1] == 0
}

// isLowMask: 1, 3, 7 and so on, up to as many as a table has buckets.
func isLowMask(m uint32) bool { return m != 0 && m&(m+1) == 0 && m < 256 }

func (r *reading) netmaskRule(x *rule, source [2]uint32) {
	s, ok := r.common(x)
	if !ok {
		return
	}
	s.Sharing = config.Sharing{Hash: config.HashNetmask, Nodes: int(source[1]) + 1}
	s.Local = kept([]int{int(source[0])}, x.negated["-s"], drops(x.options["-j"]), 0, s.Sharing.Nodes)
	r.add(x.line, s)
}

// serves takes the ports of a rule that lets clients in, where the rule that shares the
// address is about all ports.
func (r *reading) serves(a netip.Addr, x *rule) bool {
	n, err := strconv.ParseUint(x.options["--dport"], 10, 16)
	if err != nil || n == 0 || x.negated["--dport"] || x.options["-j"] != "ACCEPT" || x.options["-p"] != "tcp" && x.options["-p"] != "udp" || x.options["-s"] != "" {
		return false
	}
	for i := range r.shared {
		s := &r.shared[i]
		if s.Address == a && (len(s.Ports) == 0 || s.open) {
			s.Ports, s.open = append(s.Ports, Port{x.options["-p"], uint16(n)}), true
			return true
		}
	}
	return false
}

// beside tells of rules about a shared address that do something else, for the host's
// rules do not see the frames that onevoice takes. The rule that drops what xt_cluster
// has not marked is part of it.
func (r *reading) beside(rules []rule) {
	used := map[int]bool{}
	addresses := map[netip.Addr]bool{}
	for i := range r.shared {
		used[r.shared[i].From.Number] = true
		if a := r.shared[i].Address; a.IsValid() {
			addresses[a] = true
		}
	}
	told := map[int]bool{}
	for i := range r.left {
		told[r.left[i].Line.Number] = true
	}
	for i := range rules {
		x := &rules[i]
		p, err := netip.ParsePrefix(x.options["-d"])
		if used[x.line] || told[x.line] || err != nil || !p.IsSingleIP() || !addresses[p.Addr()] || contains(x.matches, "mark") && drops(x.options["-j"]) {
			continue
		}
		if r.serves(p.Addr(), x) {
			continue
		}
		r.leave(x.line, "a rule for %s with target %s; the host's rules do not see what onevoice takes, so it is not carried over", p.Addr(), x.options["-j"])
	}
}
