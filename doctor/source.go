package doctor

import (
	"fmt"
	"time"
)

// sourceSeen is somebody who sends from a shared MAC: switches learn it there, and
// pass no frames for it to the nodes any more. It may have been long ago; what it does
// to the nodes is another finding.
func sourceSeen(f *Facts) (out []Finding) {
	for _, w := range f.Workers {
		if m := w.Stranger; m != nil {
			ago := time.Duration(m.Seconds * float64(time.Second)).Truncate(time.Second)
			out = append(out, Finding{Code: "stranger", Note: true, Text: fmt.Sprintf("somebody claimed %s in ARP %s ago, as being at %s; the frame came from %s", m.Address, ago, m.MAC, m.From), Mend: "find the port in the switches' tables of MACs: a host has the VIP by mistake, or somebody forges"})
		}
	}
	if f.FromClusterMAC == 0 {
		return out
	}
	return append(out, Finding{
		Code: "shared-mac-sends",
		Text: fmt.Sprintf("%d frames came from a shared MAC or a group: switches that believe that send the VIP's frames there, and not to the nodes", f.FromClusterMAC),
		Mend: "find the port in the switches' tables of MACs, and take the MAC off what is there; a balancer of another kind may use it, too",
	})
}
