package doctor

import (
	"fmt"
	"strings"
)

// protocolMAC is a shared MAC that a protocol uses besides: hosts that take part in it
// get each frame for the VIP, and the nodes its frames. What switches treat in their
// own way (01:00:5e:00:00:xx, 01:80:c2:…) the file refuses.
func protocolMAC(f *Facts) (out []Finding) {
	for _, v := range f.VIPs {
		for _, p := range []struct{ mac, protocol string }{
			{"01:00:5e:7f:ff:fa", "SSDP (239.255.255.250)"},
			{"01:00:5e:7f:ff:fd", "SLP (239.255.255.253)"},
			{"01:00:5e:00:01:01", "NTP (224.0.1.1)"},
			{"01:00:5e:00:01:81", "PTP (224.0.1.129)"},
			{"01:00:0c:cc:cc:cc", "CDP and VTP of Cisco's switches"},
			{"01:00:0c:cc:cc:cd", "PVST of Cisco's switches"},
			{"01:1b:19:00:00:00", "PTP"},
		} {
			if strings.EqualFold(v.MAC, p.mac) {
				out = append(out, Finding{
					Code: "protocol-mac", Harms: true,
					Text: fmt.Sprintf("the shared MAC %s of %s is that of %s", v.MAC, v.Address.Addr(), p.protocol),
					Mend: "write another with mac = in [[vip]] on all nodes, or take another address",
				})
			}
		}
		if f.OwnMAC != "" && strings.EqualFold(v.MAC, f.OwnMAC) {
			out = append(out, Finding{
				Code: "own-mac", Harms: true,
				Text: fmt.Sprintf("the shared MAC %s of %s is that of %s itself, so that switches learn where it is and the other nodes hear nothing", v.MAC, v.Address.Addr(), f.Interface),
				Mend: "give the interface its own MAC, or write another with mac = in [[vip]] on all nodes",
			})
		}
	}
	return out
}
