package doctor

import (
	"fmt"
	"strings"
	"time"
)

// Times of being heard.
const (
	// heardLately: heartbeats come ten times a second or more.
	heardLately = time.Second
	// spokeLately: those who look for a leader send datagrams more often.
	spokeLately = 3 * time.Second
	// heardAfter is when a node that has started should be heard by all others, and
	// their cards should say so.
	heardAfter = 20 * time.Second
)

// notHeard are nodes whose datagrams arrive while their frames to the shared MAC do
// not: what is between passes on no frames to that MAC, and clients' neither.
func notHeard(f *Facts) []Finding { return append(notHeardHere(f), notHeardThere(f)...) }

func notHeardHere(f *Facts) []Finding {
	var missing []string
	heard := 0
	for _, p := range f.Peers {
		switch {
		case p.Witness:
		case p.Heard >= 0 && p.Heard <= heardLately:
			heard++
		case p.Spoke >= 0 && p.Spoke <= spokeLately && (p.Heard < 0 || p.Heard-p.Spoke >= heardLately):
			// One that has stopped is silent in both ways since the same moment.
			missing = append(missing, p.Name)
		}
	}
	if len(missing) == 0 || len(f.VIPs) == 0 {
		return nil
	}
	one := Finding{Code: "shared-mac-not-heard", Harms: true}
	macs, groups := macsOf(f.VIPs), f.grouped()
	one.Text = fmt.Sprintf("datagrams of %s arrive here, and frames to the shared MAC %s do not", strings.Join(missing, ", "), macs)
	if heard == 0 {
		one.Text += ", from no node: clients' are not heard either"
	}
	one.Mend = "let the switches flood unicast frames whose MAC they do not know, at all nodes' ports, and see that nobody sends from the shared MAC"
	if len(groups) > 0 {
		one.Mend = "a switch keeps frames to groups back: it snoops by IP destination, as a Linux bridge does, or it floods no group that it knows no member of; use mac_mode = \"unicast\" on all nodes, or switch snooping off for this LAN"
	}
	return []Finding{one}
}

// macsOf are the MACs of VIPs, each once.
func macsOf(vips []VIP) string {
	var out []string
	for _, v := range vips {
		if !strings.Contains(strings.Join(out, " "), v.MAC) {
			out = append(out, v.MAC)
		}
	}
	return strings.Join(out, ", ")
}
