package control

import (
	"math"
	"os"
	"syscall"
	"time"
)

// Times of a look at a file of prefixes.
const (
	// settleTime is how long a file has to be left alone before it is read: whoever
	// writes it may not be done. One that is gone gets goneTime to come back.
	settleTime = 100 * time.Millisecond
	goneTime   = 2 * time.Second
	// readInterval is between two reads of a file, which may be long, and so the most
	// that a file is waited for that is written to all the time.
	readInterval = time.Second
	// slowLook is how often a file is looked at unasked: not every change of a
	// file system is told. So often is one that could not be used tried again.
	slowLook = 5 * time.Second
)

// stamp tells one state of a file from another. The zero value is that of a file that
// cannot be found.
type stamp struct {
	device, inode    uint64
	bytes            int64
	modified, status syscall.Timespec
}

func stampOf(info os.FileInfo) (s stamp) {
	if info == nil {
		return s
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s = stamp{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}
	}
	return s
}

// look decides when a file is read. It is pure.
type look struct {
	// taken is the state that was read last, and seen the one that was seen last.
	taken, seen stamp
	// failed: what was read last could not be used.
	failed bool
	// seenAt is when seen was new, since when it first was not taken, and readAt the
	// last read.
	seenAt, since, readAt time.Duration
	waiting               bool
}

// never is when nothing has to be looked at again by itself.
const never = time.Duration(math.MaxInt64)

// at is what to do about a file in a state: read it now, or look again at next.
func (l *look) at(now time.Duration, s stamp) (read bool, next time.Duration) {
	if s == l.taken && !(l.failed && now-l.readAt >= slowLook) {
		l.seen, l.waiting = s, false
		if l.failed {
			return false, l.readAt + slowLook
		}
		return false, never
	}
	if !l.waiting || l.seen == (stamp{}) && s != l.seen {
		l.waiting, l.since = true, now
	}
	if s != l.seen {
		l.seen, l.seenAt = s, now
	}
	due := min(l.seenAt+settleTime, l.since+readInterval)
	if s == (stamp{}) {
		due = l.seenAt + goneTime
	}
	if due = max(due, l.readAt+readInterval); now < due {
		return false, due
	}
	return true, now
}

// read takes in that a file was read in a state, and whether it could be used.
func (l *look) read(now time.Duration, s stamp, failed bool) {
	l.taken, l.seen, l.failed, l.readAt, l.waiting = s, s, failed, now, false
}

// changing takes in that a file changed while it was read.
func (l *look) changing(now time.Duration) { l.readAt = now }
