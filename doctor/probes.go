package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// framesLost are paths on which some frames arrive and some do not. That none does is
// another finding.
func framesLost(f *Facts) []Finding {
	var lost []string
	for _, p := range f.Peers {
		for _, x := range p.Probes {
			if x.ShortHeard > 0 && x.ShortHeard < x.Short {
				lost = append(lost, fmt.Sprintf("of %d frames of %s to %s %d came", x.Short, p.Name, x.Path, x.ShortHeard))
			}
		}
	}
	if len(lost) == 0 {
		return nil
	}
	return []Finding{{
		Code: "frames-lost",
		Text: "frames to the shared MAC are lost, as clients' then are: " + strings.Join(lost, "; "),
		Mend: "a switch's storm control (broadcast, multicast and unknown unicast) has to let the VIPs' traffic through at full rate: switch it off at the nodes' and the router's ports, or raise it; port security there has to allow the nodes' MACs; a busy host loses some by itself, so try again",
	}}
}

// mtu is that of the nodes, and of what is between them.
func mtu(f *Facts) (out []Finding) {
	for _, name := range slices.Sorted(maps.Keys(ownCard(f).MTU)) {
		own := f.Own.MTU[name]
		var other []string
		for _, p := range f.told() {
			if m := p.Card.Card.MTU[name]; m > 0 && m != own {
				other = append(other, fmt.Sprintf("%s %d", p.Name, m))
			}
		}
		if len(other) > 0 {
			out = append(out, Finding{
				Code: "mtu-unequal", Harms: true,
				Text: fmt.Sprintf("the MTU of %s is not the same on all nodes: here %d, %s; long frames of clients do not reach the nodes with the least, so that their connections hang", name, own, strings.Join(other, ", ")),
				Mend: fmt.Sprintf("set it alike on all nodes, as on the rest of the LAN: ip link set %s mtu N, and restart onevoice where it was changed", name),
			})
		}
	}
	for _, p := range f.Peers {
		for _, x := range p.Probes {
			if x.Long > 0 && x.LongHeard == 0 && x.ShortHeard > 0 {
				out = append(out, Finding{
					Code: "mtu-path", Harms: true,
					Text: fmt.Sprintf("short frames of %s to %s arrive here, and those with %d bytes, its MTU, do not: clients' long ones are lost as well", p.Name, x.Path, x.Bytes),
					Mend: "let all ports of the switches pass frames of that length (jumbo frames), or give all nodes the least MTU of the LAN",
				})
			}
		}
	}
	return out
}

// notHeardThere are nodes that hear this one's datagrams and not its frames to the
// shared MAC. Who hears nobody has just started, or finds more by itself.
func notHeardThere(f *Facts) []Finding {
	var deaf []string
	for _, p := range f.told() {
		lately := p.Spoke >= 0 && p.Spoke <= spokeLately
		hears := p.Card.Card.Hears
		if lately && !p.Witness && f.Uptime > heardAfter && len(hears) > 0 && !slices.Contains(hears, f.ID) {
			deaf = append(deaf, p.Name)
		}
	}
	if len(deaf) == 0 || len(f.VIPs) == 0 {
		return nil
	}
	return []Finding{{
		Code: "shared-mac-not-heard-there", Harms: true,
		Text: fmt.Sprintf("%s hears this node's datagrams, and not its frames to the shared MAC %s", strings.Join(deaf, ", "), macsOf(f.VIPs)),
		Mend: "run `onevoice doctor` there; if no node hears them, the port of this one keeps them: port security that allows too few MACs, or storm control",
	}}
}
