// Package cluster is ownership as a pure core: which node may answer for which
// bucket, and until when. It is a state machine over raft (go.etcd.io/raft) with
// quorum leases beside it. It has no goroutine, clock, socket or file: Step
// takes the time and an event and returns what to do, Deadline says when it
// wants to be called again.
//
// # How a node may answer
//
// A node accepts what is new in a bucket while three things hold: the replicated
// Table names it, under its present epoch, as the bucket's owner with no move
// pending; its mapping is the table's; and its lease on the path of the service
// has not run out. The lease is made of promises: a voter that hears a node's
// heartbeat on a path promises, in its own next heartbeat, to give the node's
// buckets to nobody for a TTL. A majority of promises is a lease. A node is
// evicted by a log entry, and only after enough voters have let their promises
// run out and written down, durably, that they will never promise to that epoch
// again (a withdrawal). So at the moment an eviction can be agreed on, no
// majority of promises can be left, and none can come back: that is S1.
//
// Every duty (joining, releasing, evicting, moving) is found by comparing the
// table with what should be, and proposed again until the table shows it: a
// proposal that was lost costs time and nothing else.
//
// # Time
//
// All times are durations since an arbitrary start on the host's own clock,
// CLOCK_BOOTTIME in practice. Times of other hosts are only ever echoed back to
// them, never compared with ours.
package cluster
