// Package health finds out whether this host can serve: whether each service's
// backend answers, how much weight the node may carry, how good its uplink is,
// and whether its gateway is there.
//
// The judgements are pure: Checker, Agent, Uplink and Weigher take the time as
// an argument (CLOCK_BOOTTIME since boot) and never read a clock. Monitor is the
// thin shell around them that probes and calls back.
//
// A service's check is written as in the configuration file:
//
//	tcp                      connects, and takes it back before the service notices
//	udp                      a program has the port, as the kernel knows; nothing is sent
//	ssh-banner               reads the line that begins with "SSH-"
//	http://HOST[:PORT]/PATH  GET; 2xx and 3xx are up
//	http:/PATH               the same, at the service's backend
//	exec:/PROGRAM ARGUMENTS  exit status 0 is up; no shell
package health
