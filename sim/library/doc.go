// Package library runs what an administrator asks of a network before putting one
// address on many hosts: a cluster of real cores and gates on a LAN of a given
// kind, clients, faults. It has a language for that, the same in files and on
// the command line, and a library of scenarios taken from known failures, each
// with its source and with the verdict that is expected.
//
// Cores and gates are the daemon's own. The TCP behind the gates is a model, or
// the daemon's own worker with netstack; LAN, routers and clients are models.
package library
