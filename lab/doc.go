// Package lab is a cluster on one machine: the real daemon, as real processes,
// in network namespaces on a LAN of its own.
//
// A lab lives inside a supervisor process that has mount and process
// namespaces of its own (and, without root, a user namespace). Everything in
// it, namespaces, processes and files, ends with that process, however it ends:
// nothing can be left behind on the machine.
//
// The demonstration logs in through the shared address and checks what it
// claims; a sniffer on every port of the LAN judges all frames meanwhile.
package lab
