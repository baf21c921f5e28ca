// Package control is the shell around the cluster's core, and the control
// process's side of its workers: the processes that serve frames. It owns clock,
// sockets and files; what is decided is decided below it.
package control
