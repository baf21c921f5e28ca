package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Host is what this host's kernel tells.
type Host struct {
	Interfaces []Interface
	Disk       Disk
	// Synchronised tells whether the kernel's clock is (adjtimex(2)).
	Synchronised bool
	// Forwards: it passes packets on. Redirects: it tells senders of shorter ways.
	Forwards, Redirects bool
	// RulesGone: of the rules that lead clients' answers back some are missing.
	// RulesBefore are others' that come first and may catch them.
	RulesGone   bool
	RulesBefore []string
	// Elsewhere are peers to which this host's way does not lead over the cluster's
	// interface, which StrictSource says drops what comes from them.
	Elsewhere    []string
	StrictSource bool
	// Fail2ban and Firewall: there is something of that kind.
	Fail2ban, Firewall string
}

// Interface is one with VIPs.
type Interface struct {
	Name string
	// Exists, Up and Carrier: it is there, is switched on, and has a cable with
	// somebody at its end. Addressed: it has an IP address.
	Exists, Up, Carrier, Addressed bool
	// HalfDuplex: it cannot send and receive at a time.
	HalfDuplex bool
	// LRO is large receive offload. Off are offloads that are switched off, and cost
	// speed.
	LRO bool
	Off []string
}

// Disk is the state directory.
type Disk struct {
	Path string
	// Refused is why nothing can be written there, and Full whether it is for want of
	// room.
	Refused string
	Full    bool
	// Free is the room, in bytes; P99 is the hundredth part's least of Times synced
	// writes, 0 for unknown.
	Free  uint64
	P99   time.Duration
	Times int
}

// interfaces are those that cannot carry the cluster's frames.
func interfaces(f *Facts) (out []Finding) {
	for _, w := range f.Workers {
		if w.Changed != "" {
			out = append(out, Finding{Code: "interface-changed", Note: true, Text: fmt.Sprintf("interface %s is not as it was when this node started: %s", w.Uplink, w.Changed), Mend: "restart onevoice here"})
		}
	}
	if f.Host == nil {
		return out
	}
	bad := func(text, mend string) {
		out = append(out, Finding{Code: "interface", Harms: true, Text: text, Mend: mend})
	}
	for _, i := range f.Host.Interfaces {
		switch {
		case !i.Exists:
			bad("there is no interface "+i.Name+" on this host", "set [cluster] interface to one that `ip link` lists, or bring it back")
		case !i.Up:
			bad("interface "+i.Name+" is switched off", "ip link set "+i.Name+" up")
		case !i.Carrier:
			bad("interface "+i.Name+" has no carrier", "look at the cable and at the switch's port")
		case !i.Addressed:
			bad("interface "+i.Name+" has no address, so this host does not know which peer it is", "give it the address that [cluster] peers names")
		case i.HalfDuplex:
			out = append(out, Finding{Code: "interface", Text: "interface " + i.Name + " runs at half duplex, so that frames collide", Mend: "let both ends of the cable negotiate, or set both alike: ethtool -s " + i.Name + " autoneg on"})
		}
	}
	return out
}

// Limits of a disk.
const (
	// diskSlow is what L1's 500 ms allow a synced write to take.
	diskSlow = 10 * time.Millisecond
	// diskLow is when room grows short: a state takes some MiB at most.
	diskLow = 64 << 20
)

// stateDirectory is where promises have to be written down before they are kept.
func stateDirectory(f *Facts) []Finding {
	if f.Host == nil {
		return nil
	}
	d := &f.Host.Disk
	switch {
	case d.Full:
		return []Finding{{Code: "disk-full", Harms: true, Text: "there is no room in the state directory " + d.Path + ", so this node can take part in nothing new", Mend: "make room there; the node goes on by itself"}}
	case d.Refused != "":
		return []Finding{{Code: "state-directory", Harms: true, Text: "nothing can be written to the state directory " + d.Path + ": " + d.Refused, Mend: "let the daemon's user write there, or set [node] state_dir to another one"}}
	case d.P99 > diskSlow:
		return []Finding{{Code: "slow-disk", Text: fmt.Sprintf("of %d synced writes to %s the slowest hundredth took %v; with more than %v a dead node's buckets may wait longer than 500 ms for their next owner", d.Times, d.Path, d.P99.Round(time.Millisecond), diskSlow), Mend: "put [node] state_dir on a faster disk, or use timing = \"calm\" on all nodes"}}
	case d.Times > 0 && d.Free < diskLow:
		return []Finding{{Code: "disk-nearly-full", Text: fmt.Sprintf("%d MiB are left for the state directory %s", d.Free>>20, d.Path), Mend: "make room before it is full: then this node could take part in nothing new"}}
	}
	return nil
}

// rights are what could not be looked at, and what the kernel does not let the daemon
// do.
func rights(f *Facts) (out []Finding) {
	if len(f.Forbidden) > 0 {
		out = append(out, Finding{Code: "rights", Unseen: true, Text: "there was no right to look at " + strings.Join(f.Forbidden, ", "), Mend: "run `onevoice doctor` as root"})
	}
	for _, w := range f.Workers {
		if w.Filter != "" {
			out = append(out, Finding{Code: "filter", Text: "the kernel does not drop all of the other nodes' frames before they cost anything on " + w.Uplink + ": " + w.Filter, Mend: "use Linux 6.6 or later, and let the daemon have CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; it works without, and costs processor time"})
		}
		if w.Guard != "" {
			out = append(out, Finding{Code: "guard", Text: "no program in the kernel keeps answers back after the lease on " + w.Uplink + ": " + w.Guard, Mend: "use Linux 6.6 or later, and let the daemon have CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; without it a host that stands still between a look at its clock and a send may answer late"})
		}
	}
	return out
}

// forwards is a host that passes packets for a VIP on.
func forwards(f *Facts) []Finding {
	sees := f.NotRunning == "" && slices.ContainsFunc(f.Workers, func(w Worker) bool { return w.HostSees })
	if f.Host == nil || !f.Host.Forwards || !sees {
		return nil
	}
	text := "this host forwards packets (net.ipv4.ip_forward = 1) and its own stack sees those for the VIPs: one that comes to this host's own MAC goes out into the LAN once more"
	if f.Host.Redirects {
		text += ", and its sender is told to go elsewhere (send_redirects = 1)"
	}
	return []Finding{{Code: "forwards", Text: text, Mend: "write net.ipv4.ip_forward = 0 to /etc/sysctl.d if this host is no router; else net.ipv4.conf.all.send_redirects = 0 and that of the interface, and let the daemon load its TCX program"}}
}

// rules are what stands between a client's answer and the worker.
func rules(f *Facts) (out []Finding) {
	h := f.Host
	if h == nil {
		return nil
	}
	if h.RulesGone && f.NotRunning == "" {
		out = append(out, Finding{Code: "rules-gone", Harms: true, Text: "rules that lead backends' answers to the clients back into this daemon are gone: another program has taken them away", Mend: "restart onevoice here; with systemd-networkd, write ManageForeignRoutingPolicyRules=no into /etc/systemd/networkd.conf"})
	}
	if len(h.RulesBefore) > 0 {
		out = append(out, Finding{Code: "rule-before-ours", Text: "rules of routing come before this daemon's (7078) and may lead backends' answers elsewhere: " + strings.Join(h.RulesBefore, "; "), Mend: "give them a priority above 7078, or let them be for one interface or mark (`ip rule`)"})
	}
	if h.StrictSource && len(h.Elsewhere) > 0 {
		out = append(out, Finding{Code: "rp-filter", Text: fmt.Sprintf("the way to %s does not lead over %s, and rp_filter = 1 drops what comes from there", strings.Join(h.Elsewhere, ", "), f.Interface), Mend: "mend the route, or write net.ipv4.conf." + cmp.Or(f.Interface, "all") + ".rp_filter = 2 to /etc/sysctl.d"})
	}
	return out
}

// ownHost are services that this host itself does not reach.
func ownHost(f *Facts) (out []Finding) {
	for _, w := range f.Workers {
		for _, at := range w.NotReached {
			out = append(out, Finding{Code: "own-host", Note: true, Text: fmt.Sprintf("this host itself does not reach %s, for a program listens on that port of all addresses (clients do reach it)", at), Mend: "have it listen on 127.0.0.1 and this host's own address"})
		}
	}
	return out
}

// packetFilters are of those that see no frame for a VIP from the network, but those for
// services that this host's own stack serves.
func packetFilters(f *Facts) (out []Finding) {
	for _, w := range f.Workers {
		if w.KeptOut {
			out = append(out, Finding{Code: "kept-out", Harms: true, Text: "new clients of " + strings.Join(f.Direct, ", ") + " come to this host's stack on " + w.Uplink + ", and it takes none of them: its packet filter drops them, most likely", Mend: "let the services' ports in, on all nodes; `nft list ruleset` or `iptables-save -c` shows what drops them, and `nstat -az TcpExtIPReversePathFilter` whether it is rp_filter"})
		}
	}
	if f.Host == nil {
		return out
	}
	if f.Host.Fail2ban != "" && len(f.Netstack) > 0 {
		out = append(out, Finding{Code: "bans", Text: f.Host.Fail2ban + " runs here. This host's packet filter sees a client's packets for a VIP on lo alone, as a connection from the client's address to the backend: a ban holds if it names no interface and comes before lo is accepted, and on this node alone" + except(f), Mend: "ban an address and try it; or have it write to a deny_file (docs/lists.md)"})
	} else if f.Host.Fail2ban != "" {
		out = append(out, Finding{Code: "bans", Text: f.Host.Fail2ban + " runs here: a ban holds on this node alone, and a client may be another node's after a move", Mend: "let the nodes share their bans, or ban at the router"})
	}
	if f.Host.Firewall != "" && len(f.Netstack) > 0 {
		out = append(out, Finding{Code: "firewall", Text: "the packet filter of this host (" + f.Host.Firewall + ") does not see clients' packets for the VIPs as they come in: what it keeps from the host's ports, it does not keep from the VIPs'" + except(f), Mend: "write allow and deny, or files of them, in [access] or [[service]] (docs/lists.md); nothing is to be done if the services are for everybody"})
	} else if f.Host.Firewall != "" {
		out = append(out, Finding{Code: "firewall", Text: "the packet filter of this host (" + f.Host.Firewall + ") sees the clients of " + strings.Join(f.Direct, ", ") + " as those of any port of this host, for its own stack serves them", Mend: "have it let the same in on all nodes, by the same rules; a client may be any node's"})
	}
	return out
}

// except are the services of which that is not so.
func except(f *Facts) string {
	if len(f.Direct) == 0 {
		return ""
	}
	return "; those of " + strings.Join(f.Direct, ", ") + " it sees as any others, for this host's own stack serves them"
}

// offloads are what the interface does or does not do for the kernel.
func offloads(f *Facts) (out []Finding) {
	if f.Host == nil {
		return nil
	}
	for _, i := range f.Host.Interfaces {
		if i.LRO {
			out = append(out, Finding{Code: "lro", Text: "interface " + i.Name + " joins segments by LRO, which loses where each ended", Mend: "ethtool -K " + i.Name + " lro off gro on"})
		}
		if len(i.Off) > 0 {
			out = append(out, Finding{Code: "offload-off", Text: fmt.Sprintf("interface %s has %s switched off, so that each segment is handled by itself", i.Name, strings.Join(i.Off, ", ")), Mend: "ethtool -K " + i.Name + " " + strings.Join(i.Off, " on ") + " on"})
		}
	}
	return out
}

// fewFiles is below what a busy service may take in a worker.
const fewFiles = 8192

func openFiles(f *Facts) (out []Finding) {
	for _, w := range f.Workers {
		if w.Files > 0 && w.Files < fewFiles {
			out = append(out, Finding{Code: "few-files", Text: fmt.Sprintf("the worker of %s may have %d files open, and each flow takes one: beyond that clients are reset", w.Uplink, w.Files), Mend: "LimitNOFILE=1048576 in the unit, or ulimit -n before `onevoice run`"})
		}
	}
	return out
}
