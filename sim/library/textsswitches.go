package library

// textsOfSwitches are about the nodes' LAN.
func textsOfSwitches() []named {
	return []named{
		{"snooping-without-querier", `
title  Snooping without a querier prunes the nodes after some minutes
about  The nodes join the group, and nobody asks again: after the membership interval, 260 s by default and 30 s here, the
about  switch takes their ports out. The nodes lose their leases, report anew, and hold them again. In fact they report each
about  minute where nobody asks, so that one switch never comes to that; behind a second one no members are known.
link   https://www.manualshelf.com/manual/dell/emc-powerswitch-n3100-series/1-users-guide-english/page-929.html
link   https://www.potaroo.net/ietf/idref/rfc4541/index.html
lan    snooping
mac-mode igmp
membership 30s
clients 6
every  2s
duration 50s
expect pruned-group
off    lan snooping-querier
off    mac-mode unicast
`}, {"snooping-with-querier", `
title  Snooping by MAC with a querier is what mac_mode = "igmp" is for
link   https://www.potaroo.net/ietf/idref/rfc4541/index.html
lan    snooping-querier
mac-mode igmp
membership 30s
clients 6
every  2s
duration 50s
expect healthy
off    mac-mode multicast
off    lan snooping
`}, {"snooping-by-ip-destination", `
title  Snooping by IP destination is deaf to the shared MAC, querier or not
about  A Linux bridge finds a group by the packet's IP destination. Clients' packets are for the VIP, which is no group:
about  no member gets them, though all have joined.
link   https://gfiber.googlesource.com/kernel/bruno/+/20c45108e62e49198b5a8fa939d805849408a7a9
lan    snooping-by-ip
mac-mode igmp
expect group-not-flooded, no-cluster, never-served
off    lan snooping-querier
off    mac-mode unicast
`}, {"groups-are-not-flooded", `
title  A switch that floods no group that nobody has joined
about  With unregistered flooding off, frames to the shared MAC go nowhere.
link   https://manualarchiveguide.com/manuals/Dell-Force10-C150-Configuration-Manual-3014915?page=413
lan    snooping
expect group-not-flooded, no-cluster, never-served
off    lan switch
off    mac-mode unicast
`}, {"storm-without-spanning-tree", `
title  Two trunks without spanning tree are a storm
about  Frames to groups go round for ever, and every copy makes others.
link   https://learn.nsrc.org/cndo/switching_loops
lan    dual-loop
clients 4
every  3s
duration 12s
expect storm, node-out, never-served
off    lan dual-tree
off    lan dual
`}, {"a-trunk-fails", `
title  With spanning tree a trunk may fail
link   https://learn.nsrc.org/cndo/switching_loops
lan    dual-tree
duration 25s
trunk-down t1@8s
expect healthy
off    lan dual
`}, {"one-way-trunk", `
title  A trunk that carries one way only
about  A fibre of two is broken: the second switch hears nothing of the first. Its nodes do not hear the leases' answers,
about  and answer nothing new; nobody is served by two.
link   https://www.easymanua.ls/cisco/catalyst-2960-xr/manual/126309?p=183
lan    dual
duration 25s
trunk-oneway t1@8s
expect node-out, never-served
off    lan dual-tree
`}, {"deaf-node", `
title  A node that speaks and does not hear is put out, and comes back
about  A receive path is broken for a while, as with one fibre of two.
link   https://www.easymanua.ls/cisco/catalyst-2960-xr/manual/126309?p=183
duration 25s
deafen n4@8s+6s
expect healthy
off    without failover
`}, {"port-isolation", `
title  Isolated ports: each node reaches the router, and none another
link   https://www.easymanua.ls/interlogix/ifs-ns3502-8p-2s/manual?p=129
lan    isolated
router believes
expect ports-isolated, no-cluster, never-served
off    lan switch
`},
	}
}
