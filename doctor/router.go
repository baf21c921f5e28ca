package doctor

import (
	"fmt"
	"slices"
	"time"
)

// refusedAnswers is a station that was told again and again where a VIP is, and did
// not believe it.
func refusedAnswers(f *Facts) (out []Finding) {
	for i := range f.Unbelievers {
		out = append(out, f.refusedBy(&f.Unbelievers[i]))
	}
	return out
}

func (f *Facts) refusedBy(u *Unbeliever) Finding {
	one := Finding{Code: "answers-refused", Harms: slices.Contains(f.Gateways, u.Address)}
	who := "a station"
	if one.Harms {
		who = "the gateway"
	}
	one.Text = fmt.Sprintf("%s, %s, was told %d times in a row where %s is, and asks again, last %s ago: it does not believe the answers", who, u.Address, u.Times, u.VIP, u.Ago.Truncate(time.Second))
	if f.mode(u.VIP) == modeUnicast {
		one.Mend = "it, or a switch on the way, compares the sender in ARP with the frame's source (Dynamic ARP Inspection, src-mac validation): switch that off for the nodes' ports, or enter the VIP and the shared MAC there by hand"
		return one
	}
	one.Mend = "RFC 1812 has routers believe no group MAC: use mac_mode = \"unicast\" on all nodes, or enter the VIP and the shared MAC there by hand (a static ARP entry)"
	return one
}
