// Package local makes VIPs addresses of the host's own TCP and UDP, and keeps them to
// themselves: for the direct path, where package link/ingress says what of them the
// host's stack may see.
//
// Set are, for each VIP, a route in the table of local addresses, which takes no
// interface ("AnyIP"), and a link-layer address on the interface, so that frames to the
// cluster MAC are heard while no process is there; and for the interface arp_ignore and
// arp_announce, for the kernel would else say in ARP that the VIP is this host's alone
// (Documentation/networking/ip-sysctl.rst). IPv6 needs nothing of the kind: neighbours
// are told only of addresses that an interface has (net/ipv6/ndisc.c, ndisc_recv_ns).
//
// All of it outlives the process. What was changed is written into a file first, so
// that it can be taken back by whoever comes next.
package local
