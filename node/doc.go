// Package node turns a frame into a verdict.
//
// Node is the pipeline: it decodes a frame once, hashes once, and decides what
// becomes of it: delivered to netstack, answered here, or dropped for a named
// reason. It has no socket and no clock. Loop is the thin shell around it: the
// one goroutine that owns the device, the stack, the poller and the clock.
//
// Ownership comes from outside as a value (see Ownership), so that whoever
// decides it can change without touching the frame path.
package node
