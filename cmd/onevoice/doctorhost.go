package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onevoice/config"
	"onevoice/doctor"
	"onevoice/link"
	"onevoice/proxy"
)

// addHost adds what this host's kernel tells. What it does not tell stays unknown.
func addHost(f *doctor.Facts, c *config.Config) {
	addHolders(f)
	if device, err := net.InterfaceByName(f.Interface); err == nil {
		f.OwnMAC = device.HardwareAddr.String()
	}
	f.SnoopingBridge = snoopingBridge(f.Interface)
	h := &doctor.Host{Synchronised: synchronised(), Forwards: isOne("net.ipv4.ip_forward"), Disk: measureDisk(c.Node.StateDir)}
	f.Host = h
	var names []string
	for _, u := range c.Uplinks() {
		if !slices.Contains(names, u.Interface) {
			names = append(names, u.Interface)
			h.Interfaces = append(h.Interfaces, interfaceFacts(u.Interface))
			h.Redirects = h.Redirects || isOne("net.ipv4.conf."+u.Interface+".send_redirects")
		}
	}
	h.Redirects = h.Redirects || isOne("net.ipv4.conf.all.send_redirects")
	h.StrictSource = isOne("net.ipv4.conf.all.rp_filter") || isOne("net.ipv4.conf."+f.Interface+".rp_filter")
	h.Elsewhere = elsewhere(f.Interface, c.Cluster.Peers)
	addRules(h, c)
	h.Fail2ban = fail2ban()
	h.Firewall = firewall(f)
	if errors.Is(diskRight(c.Node.StateDir), os.ErrPermission) {
		h.Disk = doctor.Disk{}
		f.Forbidden = append(f.Forbidden, "the state directory "+c.Node.StateDir)
	}
}

// addHolders adds who has the VIPs on this host.
func addHolders(f *doctor.Facts) {
	for i := range f.VIPs {
		f.VIPs[i].Holder, _ = link.Holder(f.VIPs[i].Address.Addr())
	}
}

func isOne(name string) bool {
	text, _ := sysctl(name)
	return text == "1"
}

func interfaceFacts(name string) doctor.Interface {
	i := doctor.Interface{Name: name}
	x, err := link.FeaturesOf(name)
	if err != nil {
		return i
	}
	have, _ := link.Addresses(name)
	i.Exists, i.Up, i.Carrier, i.Addressed, i.HalfDuplex, i.LRO = true, x.Up, x.Carrier, len(have) > 0, x.HalfDuplex, x.LRO
	if !x.Hardware {
		return i // one without hardware gets its frames joined
	}
	for word, on := range map[string]bool{"gro": x.GRO, "gso": x.GSO, "tso": x.TSO} {
		if !on {
			i.Off = append(i.Off, word)
		}
	}
	slices.Sort(i.Off)
	return i
}

// synchronised is what the kernel has been told of its clock (adjtimex(2), which
// needs no right to ask).
func synchronised() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err != nil || state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}

// Bounds of what a disk is asked.
const (
	diskWrites = 100
	diskTime   = 2 * time.Second
	// diskBytes is about what a promise takes.
	diskBytes = 512
)

// diskRight is why the state directory may not be looked at, nil when it may.
func diskRight(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }

// measureDisk writes and syncs a file of its own in the state directory, as the daemon
// does, and takes it away again. There may be no directory before the first start.
func measureDisk(dir string) doctor.Disk {
	d := doctor.Disk{Path: dir}
	var room unix.Statfs_t
	if err := unix.Statfs(dir, &room); err != nil {
		return doctor.Disk{}
	}
	d.Free = room.Bavail * uint64(room.Bsize)
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err == nil {
		defer os.Remove(f.Name())
		defer f.Close()
		d.P99, d.Times, err = timeWrites(f)
	}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		d.Full = true
	case err != nil:
		d.Refused = err.Error()
	}
	return d
}

// timeWrites is the 99th percentile of the times that writes took, and how many there
// were.
func timeWrites(f *os.File) (p99 time.Duration, times int, err error) {
	var took []time.Duration
	for begun := time.Now(); len(took) < diskWrites && time.Since(begun) < diskTime; {
		from := time.Now()
		if _, err := f.WriteAt(make([]byte, diskBytes), int64(len(took)*diskBytes)); err != nil {
			return 0, 0, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, 0, os.NewSyscallError("fdatasync", err)
		}
		took = append(took, time.Since(from))
	}
	slices.Sort(took)
	return took[(len(took)*99-1)/100], len(took), nil
}

// elsewhere are the peers to which this host's way does not lead over an interface.
func elsewhere(name string, peers []netip.Addr) (out []string) {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return nil
	}
	own, _ := link.Addresses(name)
	for _, p := range peers {
		if slices.Contains(own, p) {
			continue
		}
		routes, err := netlink.RouteGet(p.AsSlice())
		if err != nil || len(routes) == 0 || routes[0].LinkIndex == dev.Attrs().Index {
			continue
		}
		by := "another interface"
		if l, err := netlink.LinkByIndex(routes[0].LinkIndex); err == nil {
			by = l.Attrs().Name
		}
		out = append(out, fmt.Sprintf("%s (by %s)", p, by))
	}
	return out
}

// addRules looks at the rules of routing: whether ours are there, and whether others
// that are for everything come first. The local table's (priority 0) has to.
func addRules(h *doctor.Host, c *config.Config) {
	rules, err := netlink.RuleList(unix.AF_INET)
	if err != nil {
		return
	}
	table := proxy.TableFor(c.VIPs[0].Address.Addr())
	ours := map[netip.Addr]bool{}
	for i := range rules {
		r := &rules[i]
		switch {
		case r.Table == table && r.Dst != nil:
			a, _ := netip.AddrFromSlice(r.Dst.IP)
			ours[a.Unmap()] = true
		case r.Priority > 0 && r.Priority < proxy.RulePriority && r.Src == nil && r.Dst == nil && r.Mark == 0 && r.OifName == "" && (r.IifName == "" || r.IifName == "lo"):
			h.RulesBefore = append(h.RulesBefore, fmt.Sprintf("%d: from all lookup %d", r.Priority, r.Table))
		}
	}
	for _, a := range ruledVIPs(c) {
		if a.Is4() && !ours[a] {
			h.RulesGone = true
		}
	}
}

// fail2ban is which program that bans addresses runs here.
func fail2ban() string {
	for name, socket := range map[string]string{"fail2ban": "/run/fail2ban/fail2ban.sock", "crowdsec": "/run/crowdsec.sock"} {
		if _, err := os.Stat(socket); err == nil {
			return name
		}
	}
	return ""
}

// firewallTime bounds how long nft may take.
const firewallTime = 2 * time.Second

// firewall names the tables with a chain for what comes in, as nft lists them, which
// knows those of iptables as well.
func firewall(f *doctor.Facts) string {
	path, err := exec.LookPath("nft")
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), firewallTime)
	defer cancel()
	text, err := exec.CommandContext(ctx, path, "list", "chains").Output()
	if err != nil {
		f.Forbidden = append(f.Forbidden, "the packet filter (nft list chains)")
		return ""
	}
	return strings.Join(inputTables(string(text)), ", ")
}

// inputTables are the tables of a listing that have a chain at the hook input.
func inputTables(text string) (out []string) {
	table := regexp.MustCompile(`^table (\S+ \S+) \{`)
	at := ""
	for line := range strings.Lines(text) {
		if m := table.FindStringSubmatch(line); m != nil {
			at = m[1]
		}
		if family, _, _ := strings.Cut(at, " "); strings.Contains(line, "hook input ") && slices.Contains([]string{"ip", "ip6", "inet"}, family) && !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	return out
}

// openFilesOf is how many files a process may have open, 0 for unknown (proc(5)).
func openFilesOf(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return 0
	}
	m := regexp.MustCompile(`(?m)^Max open files +(\d+)`).FindSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}
