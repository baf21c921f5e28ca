// Package stack terminates clients' TCP in gVisor's netstack and hands each
// accepted connection to the proxy. It is the only package that imports gVisor.
//
// A Stack belongs to one event loop: the loop delivers packets, lets netstack's
// own goroutines run, calls Turn, and sends what Egress holds. Netstack works
// in goroutines of its own (its segment processors and its timers); they reach
// the loop only through two queues, the ready flows and the egress packets,
// and wake it through the poller.
//
// Netstack answers whatever it does not know with a reset. Only packets that
// the gate in package node has let through may be delivered here.
package stack
