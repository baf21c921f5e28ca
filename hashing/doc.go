// Package hashing leads from a flow to its bucket and from a bucket to its
// owner.
//
// A Hasher turns the fields of a flow that a service's affinity names into one
// of 256 buckets, by SipHash-2-4 under a key that clients do not know. A Table
// says which node owns each bucket. Tables are made by First and changed by
// Next; both are pure functions of their arguments and use integers only, so
// that every node makes the same table on every machine.
package hashing
