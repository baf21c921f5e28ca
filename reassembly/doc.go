// Package reassembly puts the fragments of IP datagrams together again, of IPv4
// and of IPv6.
//
// A Table is a pure state machine: it takes the time as an argument, and its caller
// gives it the fragments that are for an address of ours. Every node of a cluster
// does so by itself, for each hears every frame; whose the datagram is, is decided
// once it is whole, as with any other. So it may need ports for that, and still no
// datagram reaches two nodes.
//
// What overlaps is refused whole, in both families. RFC 8200 §4.5 wants that of
// IPv6. RFC 791 §3.2 would have the fragment that came last win, which lets whoever
// sends two choose which one is looked at; no sender of today makes such fragments.
package reassembly
