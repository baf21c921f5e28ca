// Package page is the memory that the control process and one worker share: a
// memfd(2) that both have mapped. Control writes the lease, the ownership and
// the mapping; the worker writes back what it has put in force, and that it is
// alive. Each side can read the other's half and not write it.
//
// No call waits and none makes a system call, so that a busy or dead side
// cannot delay the other: what is written together is guarded by a sequence
// count, which a reader checks before and after. A reader whose writer has died
// finds a lease that is not renewed, and needs nothing else.
package page
