package library

// textsOfRouters are about what is between clients and nodes.
func textsOfRouters() []named {
	return []named{
		{"router-refuses-group-mac", `
title  A router that keeps to RFC 1812 does not believe a group MAC
about  RFC 1812, 3.3.2: a router must not believe an ARP reply that names a broadcast or multicast address.
about  FreeBSD, pfSense and many Cisco routers keep to it: nobody behind such a router reaches the VIP.
link   https://blog.ipspace.net/2012/05/arp-reply-with-multicast-source-mac-is.html
router rfc1812
expect router-refuses-group-mac, never-served
off    router believes
off    mac-mode unicast
`}, {"router-with-a-static-entry", `
title  A static ARP entry is the mend where the router is yours
link   https://kb.vmware.com/selfservice/microsites/search.do?language=en_US&cmd=displayKC&externalId=1006525
router static
expect healthy
off    router rfc1812
`}, {"router-and-a-single-mac", `
title  A router that refuses group MACs believes a single one
about  With mac_mode = "unicast" the shared MAC is one that nobody ever sends from, so that switches flood it.
link   https://wiki.3av.us/doku.php?do=export_raw&id=hpe%3Aswitch%3A5500%3Aconfiguration%3Amulticast%3Abalancing_using_multicasts
router rfc1812
mac-mode unicast
expect healthy
off    mac-mode multicast
`}, {"router-validates-arp", `
title  A router that compares ARP's sender with the frame's source believes nothing
about  The answer names the shared MAC, and the frame comes from the node's own, as it must.
link   https://www.easymanua.ls/cisco/sf500-24/manual?p=438
router validates
expect router-validates-arp, never-served
off    router static
`}, {"arp-inspection", `
title  Dynamic ARP Inspection with src-mac drops the nodes' ARP answers
about  The switch compares ARP's sender with the frame's source on ports that it does not trust.
link   https://www.easymanua.ls/cisco/sf500-24/manual?p=438
lan    inspecting
expect arp-inspection, never-served
off    lan switch
`}, {"two-routers-in-circles", `
title  Two routers that route frames to a group send them in circles
about  Both hear what is for the shared MAC. One that routes what came in a frame to a group, which RFC 1812, 5.3.4
about  forbids, sends it back to the same LAN, and the other does the same, until the hops are used up.
link   http://www.freesoft.org/CIE/RFC/1812/116.htm
link   https://community.cisco.com/t5/switching/microsoft-nlb-on-6509s/m-p/2128509
router pair-circles
clients 3
every  2s
expect routed-in-circles, copied-frames
off    router pair
`}, {"two-routers-one-dies", `
title  One of two routers dies, and the other takes its address
about  VRRP takes over after three advertisements and a skew, 3.2 s here. The nodes answer by whom a frame came from.
link   https://support.hpe.com/techhub/eginfolib/networking/docs/switches/12900E/5200-4934_hi-avail_cg/content/504980181.htm
lan    dual
router pair
duration 30s
router-down r1@8s
expect healthy
off    router believes
`},
	}
}
