// Package inetdiag asks the host's own TCP which sockets it has, and ends some
// (sock_diag(7), include/uapi/linux/inet_diag.h).
package inetdiag
