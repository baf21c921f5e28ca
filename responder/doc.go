// Package responder answers the small questions of a LAN for a shared address:
// ARP requests, echo requests, TCP segments that are owed a reset; and it knows
// the next hop of what the node sends.
//
// Everything here is a pure state machine: the frame and the time come in as
// arguments, and what is to be sent is returned to the caller, who sends it.
// Nothing blocks, starts a goroutine, or reads a clock.
//
// What every returned frame keeps to: its Ethernet source is the node's own
// MAC and never a cluster MAC; where it speaks for a VIP in ARP it names that
// VIP's cluster MAC and no other; an ARP request names the node's own address
// and own MAC as its sender, so that asking teaches the LAN nothing about a VIP.
//
// Any bytes may be handed in. What is malformed becomes an outcome with a name
// and earns no reply.
package responder
