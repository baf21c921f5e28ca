// Package virtual lets gVisor's netstack run on virtual time: a clock whose timers
// run when its owner says so, chance from a seed, a way to let netstack's own
// goroutines finish, and a client with a whole TCP.
//
// Netstack works in goroutines of its own, so one has to know when they have
// nothing more to do. Take makes that possible, and Settle waits for it.
// With both, one stack by itself repeats exactly; many of them nearly always, for
// the runtime may take the processor away from a goroutine at any time.
package virtual
