package lab

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"onevoice/cluster"
)

// What is no fault of the cluster: that something came too late while the whole
// machine stood still. That something wrong came is never excused by it.

// stillOf is which part of a time the machine has to stand still to excuse that
// something took so long.
const stillOf = 10

// late reports whether an error is only that something did not come in time.
func late(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

// stoodStill reports whether the machine stood still for a good part of a time until
// now, for processes that do the work.
func (t *torture) stoodStill(since time.Time) bool {
	now := time.Now()
	return t.bystander.still(since, now) > now.Sub(since)/stillOf
}

// lostLease reports whether the machine stood still for so long that any node may
// have been without its lease until its flows were given up.
func (t *torture) lostLease(from, to time.Time) bool {
	return t.bystander.still(from.Add(-orphanTime), to) >= (orphanTime-orphanSlack)/2
}

// excusedNewcomer reports whether a new client's failure is the machine's: it had to
// wait for too long, or its node may have lost its lease for so long that it was
// given up.
func (t *torture) excusedNewcomer(c *newcomer) bool {
	end := c.began.Add(c.told)
	if late(c.err) {
		return t.bystander.worst(c.began, end) >= excuseStall
	}
	return lost(c.err) && t.lostLease(c.began, end)
}

// excusedWait reports whether the machine stood still while a new client waited, or had
// just taken a lease by doing so.
func (t *torture) excusedWait(c *newcomer) bool {
	return t.bystander.worst(c.began, c.began.Add(c.connected)) >= excuseStall || t.justTookALease(c.began)
}

// justTookALease reports whether the machine stood still for as long as takes a lease, so
// shortly before that the node's buckets need not be others' yet.
func (t *torture) justTookALease(at time.Time) bool {
	timing, err := cluster.TimingOf(cmp.Or(t.o.Spec.Timing, cluster.LAN))
	return err == nil && t.bystander.worst(at.Add(-t.ownedIn()), at) >= excusing(timing)
}

// lost reports whether an error is that of a connection that its peer has given up.
func lost(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE)
}
