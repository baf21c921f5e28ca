package doctor

import "fmt"

// addressHeld is a VIP on an interface of this host: the kernel answers ARP for it
// with its own MAC, and resets every connection.
func addressHeld(f *Facts) (out []Finding) {
	for _, v := range f.VIPs {
		if v.Holder != "" {
			out = append(out, Finding{
				Code: "vip-on-interface", Harms: true,
				Text: fmt.Sprintf("%s is configured on %s, so that this host's kernel answers for it besides, and resets its connections", v.Address.Addr(), v.Holder),
				Mend: fmt.Sprintf("remove it there: ip address del %s dev %s", v.Address, v.Holder),
			})
		}
	}
	return out
}
