// Package egress keeps a node silent after its lease, in the kernel: a TCX
// program on the interface drops what speaks for a VIP to somebody new, once
// CLOCK_BOOTTIME has reached the lease's end.
//
// A node compares the lease with the clock before it sends (OWNERSHIP.md R10),
// but may be stopped between the look and the send, for as long as the machine
// pleases. The program looks again in the very call that hands the frame to the
// device. So it covers frames of packet sockets as well as the kernel's own; it
// does not cover those of a socket with PACKET_QDISC_BYPASS, which pass no TCX
// program.
//
// It drops, over Ethernet with up to two VLAN tags in the frame's data:
//
//   - IPv4 from a VIP: TCP segments with SYN and ACK, and ICMP echo replies
//   - IPv6 from a VIP: the same, and neighbour advertisements
//   - ARP replies whose sender protocol address is a VIP
//
// All else passes to the next program: running flows outlive a lease. What is
// malformed passes too, for nobody takes it for an answer. To the sender a drop
// is ENOBUFS.
//
// It needs Linux 6.6 and the rights to load and attach a program; without them
// a node goes on with its own looks alone.
package egress
