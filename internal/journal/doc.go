// Package journal is a state directory: what a node must not forget, a snapshot
// and the records after it, as opaque bytes.
//
// # On the disk
//
// One file, journal, holds both, so that a new snapshot takes the place of the
// old one and of its records in one rename. All numbers are big-endian, all sums
// CRC-32C.
//
//	file   = header batch(snapshot) batch...
//	header = magic 8, version 4, generation 8, random id of the file 16,
//	         length when made 8, sum of these 4
//	batch  = mark 4, number 8, length of body 4, sum of these 4,
//	         body, sum 4, end mark 1
//	body   = (length 4, record)...
//
// Each sum goes on from the one before it, so a batch fits only where it was
// written: not in another file, and not in another generation. Append writes one
// batch with one write and one fdatasync, and a batch counts whole or not at
// all. Replace makes journal.new, syncs it, renames it and syncs the directory.
//
// # What loads
//
// A crash leaves a prefix of the last batch, or a batch whose tail is zeros
// because the file was made longer before its bytes were there. Both were never
// acknowledged; they are cut off, with a note. Everything else that does not fit
// is damage, and refused even in the last batch: a bit that has flipped in it
// may be a promise that others rely on. The header has a sum of its own, so a
// damaged length is not taken for an end, and the end mark is not zero, so an
// intact end is not taken for a torn one. A file system that shows the bytes of
// an unsynced batch out of order can leave one that is refused though it was
// never acknowledged: that costs an operator's look, and no promise.
//
// What nobody can see is a whole directory put back from a backup. Never do
// that: remove it, and let the node join as a new one.
//
// # One holder
//
// The lock is a flock(2) on the directory itself, which cannot be removed while
// it is held, as a lock file could. It belongs to the open file description and
// so can be passed to a successor (Pass, Adopt) without a moment in between.
package journal
