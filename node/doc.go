// Package node turns a frame into a verdict.
//
// Node is the pipeline: it decodes a frame once, hashes once, and decides what
// becomes of it: delivered to netstack, answered here, or dropped for a named
// reason. It has no socket and no clock. Loop is the thin shell around it: the
// one goroutine that owns the device, the stack, the poller and the clock.
//
// Ownership comes from outside as a value (see Ownership), so that whoever
// decides it can change without touching the frame path. The lease is a word of
// its own (SetLease), for it is renewed all the time.
//
// # The gate
//
// The gate stands on both sides of the TCP (OWNERSHIP.md R12 to R18): Handle
// judges what comes in, MayLeave what the TCP wants to send. From the SYN-ACKs
// that leave, Node learns which flows are half-open and what completes them; from
// all other segments, the windows of each flow. The TCP itself it asks three
// things only (Flows): where a flow stands, to forget it, to end it.
//
// So the gate needs no netstack. A simulator drives it like this, with a Flows of
// its own, such as node/model's, and its own `now`:
//
//   - SetOwnership and SetLease whenever they change;
//   - for each frame: h := Handle(now, frame); give h.Packet to the TCP, send
//     h.Reply. A frame with a Stamp is judged by its age if SetReal was called
//     with the CLOCK_REALTIME that belongs to now; one without is not;
//   - for each IPv4 packet that the TCP makes: send it if MayLeave(now, packet)
//     is Undecided. A TCP has to hand its SYN-ACKs to MayLeave while State says
//     HalfOpen of their flow; one of a flow that it does not hold is taken for a
//     SYN cookie;
//   - Tick(now) at least every MaxIdle.
//
// A worker does the same by Loop: LoopConfig.Begin is the place for SetOwnership
// and SetLease, and LoopConfig.Turned tells the generation under which all frames
// of the turn were judged, after they were sent.
package node
