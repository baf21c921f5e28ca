// Package bench measures paths to the same service on the same node, one beside
// the other in one run: the kernel without a proxy, the kernel's cluster match,
// HAProxy, nginx and ours.
//
// A run lives inside the namespaces of a lab. In each round every path has its
// turn in each test, in an order that changes from round to round; a path is
// switched on for its turn and off after it, so that nobody pays for another.
// What a test gives is a sample of each of its rows; a report has the medians
// and how far the samples spread. A turn that fails has no sample and is told.
package bench
