package doctor

import "fmt"

// sourceSeen is somebody who sends from a shared MAC: switches learn it there, and
// pass no frames for it to the nodes any more. It may have been long ago; what it does
// to the nodes is another finding.
func sourceSeen(f *Facts) []Finding {
	if f.FromClusterMAC == 0 {
		return nil
	}
	return []Finding{{
		Code: "shared-mac-sends",
		Text: fmt.Sprintf("%d frames came from a shared MAC or a group: switches that believe that send the VIP's frames there, and not to the nodes", f.FromClusterMAC),
		Mend: "find the port in the switches' tables of MACs, and take the MAC off what is there; a balancer of another kind may use it, too",
	}}
}
