// Package rights gives up what a process does not need: its user, its capabilities, and
// the files that it may open.
//
// All of these belong to a thread in Linux, not to a process (capabilities(7),
// landlock(7)). libcap's psx makes each call on every thread, which without cgo is
// syscall.AllThreadsSyscall; threads that come later have the rights of the one that
// makes them.
package rights
