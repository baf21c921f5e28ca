// Package ingress has the kernel drop the frames that are another node's, before
// anything is copied and before anybody is woken.
//
// A Filter is two programs. The socket filter takes the place of link's classic one
// on the packet socket: what that refuses is refused, and of what is left, the TCP
// segments of a service in buckets that do not pass are dropped, if their flow is not
// held. It computes the bucket as package hashing does. The TCX program drops, for
// the host's own stack, all packets for a VIP that came to a cluster MAC: that stack
// has no VIP, and would walk each to a route that is not there.
//
// In a flood of SYNs the two answer those of services, with the cookies that the process
// would have answered with; see Cookies.
//
// The order of tap and hook was measured; see docs/performance.md. A packet socket
// of all protocols (ETH_P_ALL) gets a frame before TCX does, so what the TCX program
// drops is dropped for no other worker: several stand side by side, each with its own
// buckets and flows. Heartbeats pass it, for the control process hears behind it.
//
// The socket filter needs Linux 5.5, the TCX program 6.6, and both the rights to load
// and attach programs. Without the one the other helps all the same; without both the
// node decides alone, and so it does about everything that passes here. The programs of
// the direct path need Linux 5.8, for the lease is compared in the kernel.
package ingress
