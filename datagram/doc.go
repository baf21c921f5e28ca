// Package datagram is the UDP behind the gate: the flows of a node's UDP services,
// their sockets to the backends, and the packets that carry the answers.
//
// Table is pure: which flows there are, which of them are over, and which has to go
// when there are too many. Relay is the thin shell around it, with one connected
// socket for each flow. A Relay belongs to one event loop: the loop asks for room
// (Take), gives it what the gate has let in (Deliver), tells it what the poller has
// seen (Ready), and sends what Egress holds.
//
// Whose a datagram is, is decided by the gate alone, for each anew (OWNERSHIP.md
// R15). What a relay has taken it answers, also after the bucket has moved.
package datagram
