package doctor

import (
	"fmt"
	"time"
)

// membershipTime is for how long a switch keeps a member that nobody asks (RFC 2236
// §8.4).
const membershipTime = 260 * time.Second

// bridgeSnoops is a bridge of this host, as virtual machines are on: it finds groups by
// the packets' IP destination, which is the VIP.
func bridgeSnoops(f *Facts) []Finding {
	if f.SnoopingBridge == "" || len(f.grouped()) == 0 {
		return nil
	}
	return []Finding{{
		Code: "bridge-snoops",
		Text: fmt.Sprintf("%s is on the bridge %s, which snoops: once it hears a querier, no frame for a VIP reaches a group's members by it", f.Interface, f.SnoopingBridge),
		Mend: fmt.Sprintf("use mac_mode = \"unicast\" on all nodes, or: ip link set %s type bridge mcast_snooping 0", f.SnoopingBridge),
	}}
}

// noQuerier is a LAN on which nobody asks for the members of groups. One that asks each
// 125 s may not have been heard yet.
func noQuerier(f *Facts) (out []Finding) {
	for _, g := range f.Groups {
		heard := g.Querier.IsValid() && g.Asked <= membershipTime
		if heard {
			continue
		}
		protocol := "IGMP"
		if g.Address.Is6() {
			protocol = "MLD"
		}
		one := Finding{
			Code: "no-querier", Note: true,
			Text: fmt.Sprintf("nobody on this LAN asks for members of groups by %s. The nodes tell of %s by themselves each minute, which keeps one switch from forgetting them; behind a second one they are not known", protocol, g.Address),
			Mend: "let a switch or the router be the querier, or use mac_mode = \"unicast\", or \"multicast\" if the switches do not snoop",
		}
		if !g.Querier.IsValid() && f.Uptime <= membershipTime {
			one.Unseen = true
			one.Text = fmt.Sprintf("nobody has asked for the members of %s by %s in the %v since this node started; a querier asks every 125 s, so that after %v there is none", g.Address, protocol, f.Uptime.Truncate(time.Second), membershipTime)
			one.Mend += ". Run `onevoice doctor` again then, to be sure"
		}
		out = append(out, one)
	}
	return out
}
