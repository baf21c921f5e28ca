package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"onevoice/control"
)

// told are the peers that have told of themselves, with their cards.
func (f *Facts) told() (out []Peer) {
	for _, p := range f.Peers {
		if p.Card != nil && f.Own != nil {
			out = append(out, p)
		}
	}
	return out
}

// hostKeys are SSH servers that show other keys than this node's: a client that comes
// to another node is warned that somebody may be listening in.
func hostKeys(f *Facts) (out []Finding) {
	for _, service := range slices.Sorted(maps.Keys(ownCard(f).HostKeys)) {
		own := f.Own.HostKeys[service]
		with := map[string][]string{} // nodes, by their keys
		for _, p := range f.told() {
			keys := p.Card.Card.HostKeys[service]
			if len(own) > 0 && len(keys) > 0 && !slices.Equal(keys, own) {
				shown := strings.Join(without(keys, own), ", ")
				with[shown] = append(with[shown], p.Name)
			}
		}
		var others []string
		for _, keys := range slices.Sorted(maps.Keys(with)) {
			others = append(others, "on "+strings.Join(with[keys], ", ")+" "+keys)
		}
		if len(others) > 0 {
			out = append(out, Finding{
				Code: "host-keys-unequal", Harms: true,
				Text: fmt.Sprintf("the SSH servers of service %s do not have the same host keys on all nodes, so that clients who come to another node are warned of an attack: here %s; %s", service, strings.Join(own, ", "), strings.Join(others, "; ")),
				Mend: "copy /etc/ssh/ssh_host_*_key and their .pub from one node to the others, and restart sshd there",
			})
		}
	}
	return out
}

// without are the entries of a list that another does not have; all of it if there are
// none.
func without(list, other []string) []string {
	out := slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(other, s) })
	if len(out) == 0 {
		return list
	}
	return out
}

func ownCard(f *Facts) *control.Card {
	if f.Own == nil {
		return &control.Card{}
	}
	return f.Own
}

// filesEqual are nodes whose files mean something else. Other versions may write a
// digest in another way.
func filesEqual(f *Facts) (out []Finding) {
	for _, p := range f.told() {
		c := &p.Card.Card
		if c.Version != f.Own.Version || len(c.File) == 0 {
			continue
		}
		var tables []string
		for _, table := range slices.Sorted(maps.Keys(f.Own.File)) {
			if c.File[table] != f.Own.File[table] {
				tables = append(tables, table)
			}
		}
		if len(tables) > 0 {
			out = append(out, Finding{
				Code: "files-unequal", Harms: true,
				Text: fmt.Sprintf("the file of %s is not the same as this node's in %s; a node takes no bucket of a service that its file has otherwise", p.Name, strings.Join(tables, ", ")),
				Mend: "make the files equal but for [node] and [admin] (`onevoice check` prints what each means), then `onevoice reload` where it was changed, or restart it if that refuses",
			})
		}
	}
	return out
}

// versions are those of the nodes, and who does not tell its own.
func versions(f *Facts) (out []Finding) {
	var other, silent []string
	for _, p := range f.Peers {
		switch {
		case f.Own == nil:
		case p.Card != nil && p.Card.Card.Version != f.Own.Version:
			other = append(other, p.Name+" "+p.Card.Card.Version)
		case p.Silent && p.Spoke >= 0 && p.Spoke <= spokeLately:
			silent = append(silent, p.Name)
		}
	}
	if len(other) > 0 {
		out = append(out, Finding{Code: "versions-unequal", Text: fmt.Sprintf("not all nodes run the same version: here %s, %s", f.Own.Version, strings.Join(other, ", ")), Mend: "go on with the upgrade; beside an older version what a newer one can do may wait"})
	}
	if len(silent) > 0 {
		out = append(out, Finding{Code: "tells-nothing", Unseen: true, Text: strings.Join(silent, ", ") + " did not answer, so that host keys, file, MTU and clock there are not known", Mend: "upgrade onevoice there, or run `onevoice doctor` there; ask again if it was busy"})
	}
	return out
}

// Limits of clocks.
const (
	// clockApart is how far wall clocks may be apart: tickets and logs are compared by
	// them.
	clockApart = time.Second
	// clockRate is what ownership bears, in millionths (OWNERSHIP.md, R7).
	clockRate = 1000
)

// clocks are those that differ. No lease is compared between hosts by the wall clock,
// but promises are counted on clocks that run alike.
func clocks(f *Facts) (out []Finding) {
	for _, p := range f.told() {
		c := p.Card
		if c.Card.Wall != 0 && max(c.Ahead, -c.Ahead) > clockApart.Seconds() {
			word := "ahead of"
			if c.Ahead < 0 {
				word = "behind"
			}
			out = append(out, Finding{Code: "clock-apart", Text: fmt.Sprintf("the clock of %s is %.1f s %s this node's: logs do not fit together, and services that compare times may refuse users on one node", p.Name, max(c.Ahead, -c.Ahead), word), Mend: "let NTP run on both (chronyc tracking, timedatectl)"})
		}
		if c.Over > 0 && max(c.Faster, -c.Faster) > clockRate {
			out = append(out, Finding{Code: "clock-rate", Harms: true, Text: fmt.Sprintf("the clock of %s went %.0f millionths faster than this node's over %.0f s (negative: slower): leases are safe up to %d", p.Name, c.Faster, c.Over, clockRate), Mend: "look at clocksource in /sys/devices/system/clocksource/clocksource0, and at the hypervisor's clock; drain the node meanwhile"})
		}
	}
	if f.Host != nil && !f.Host.Synchronised {
		out = append(out, Finding{Code: "clock-unsynchronised", Text: "this host's clock is not synchronised, as its kernel has been told", Mend: "let chrony or systemd-timesyncd run, if logs and tickets matter; leases do not need it"})
	}
	return out
}

// sysctls are settings that are not the same everywhere.
func sysctls(f *Facts) []Finding {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(ownCard(f).Sysctls)) {
		own := f.Own.Sysctls[name]
		var other []string
		for _, p := range f.told() {
			if v, told := p.Card.Card.Sysctls[name]; told && v != own {
				other = append(other, p.Name+" "+v)
			}
		}
		if len(other) > 0 {
			names = append(names, fmt.Sprintf("%s (here %s; %s)", name, cmp.Or(own, "empty"), strings.Join(other, ", ")))
		}
	}
	if len(names) == 0 {
		return nil
	}
	return []Finding{{Code: "sysctls-unequal", Text: "settings of the kernel differ between nodes: " + strings.Join(names, "; "), Mend: "write them alike into /etc/sysctl.d on all nodes, unless it is meant"}}
}
