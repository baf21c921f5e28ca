// Package proxy is the local side of a flow: it connects to the backend from
// the client's own address, copies bytes both ways with half-close kept, and
// knows whether the backend is there.
//
// All of it is non-blocking. A Conn is a socket for an event loop, a Pump is
// the state of one copied connection, Health is a pure state machine, and
// Routes are the host settings that let answers to a foreign address come back
// to the socket that has it.
package proxy
