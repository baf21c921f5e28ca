// Package sim is a LAN on virtual time: an event clock, hosts' clocks, hubs,
// switches and trunks, routers, datagrams beside them, disks, client stations, and
// faults. It knows frames, not nodes.
//
// Everything happens in one goroutine, in events ordered by time and, at equal
// times, by when they were asked for. All chance comes from the one seed given
// to New, so that the same seed and the same calls give the same trace, byte
// for byte. Times are virtual, counted from the start of the world; nothing
// here reads a clock or sleeps.
//
// The models, and what they follow:
//
//	Switch        IEEE 802.1D-2004 clause 7 and net/bridge/br_input.c: learning, ageing, flooding, static entries
//	SpanningTree  IEEE 802.1D-1998 clause 8, with the outcome of 802.1D-2004 clause 17
//	Snooping      RFC 4541 and net/bridge/br_multicast.c
//	Member        RFC 2236 and RFC 2710: a host that joins groups
//	Router        RFC 1812 §3.3.2, §5.2.1 and §5.3.4, RFC 826; Masquerade: RFC 3022
//	Redundancy    RFC 5798 (VRRP), RFC 2281 (HSRP)
//	Client        RFC 9293, RFC 5961, RFC 6298, RFC 1122
//
// What goes wrong in a LAN by its own make (a storm, a group that was pruned, an
// ARP answer that a router does not believe) is among its Findings.
//
// What is not modelled: collisions on a hub, pause frames, VLAN tags, and the
// frame check sequence (a corrupted frame arrives with a wrong bit in it).
package sim
