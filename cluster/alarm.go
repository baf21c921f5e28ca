package cluster

import (
	"fmt"
	"math/bits"
	"slices"
	"time"
)

// Times of alarms (R22).
const (
	// alarmTime is for how long an alarm that was heard makes this host tell what
	// it claims.
	alarmTime = 5 * time.Second
	// clashTime is for how long a clash is told in the status, and how long it is
	// until it is noted again.
	clashTime = time.Minute
)

// maxAlarmBytes bounds a heartbeat with claims: whoever forges acknowledgments
// must not make it too long for a frame.
const maxAlarmBytes = 1200

// claims is what a host takes for its own of one service, under its lease.
type claims struct {
	_       struct{} `cbor:",toarray"`
	Service string
	Accept  buckets
}

// alarms is what this host knows of others who answer for its buckets.
type alarms struct {
	// until: an alarm was heard, so that everybody tells what they claim until then.
	until time.Duration
	// next is the service whose claims are told next.
	next    int
	clashes []clash
}

// clash is another host that claims what this one claims.
type clash struct {
	peer    uint64
	service string
	bucket  uint8
	// since is when it first did, told when it was noted, 0 for not yet. What is on
	// its way while a bucket moves is no clash: it has to last for a TTL.
	since, told time.Duration
}

// claim is what this host claims of its next service while there is an alarm, nil
// without one.
func (c *Core) claim() *claims {
	a := &c.rights.alarms
	if len(c.rights.last.Services) == 0 || !c.outside.alarm && c.now >= a.until {
		return nil
	}
	a.next = (a.next + 1) % len(c.rights.last.Services)
	spec := &c.o.Services[a.next]
	if !c.Leased(spec.Path, c.now) {
		return nil
	}
	return &claims{Service: spec.Name, Accept: c.rights.last.Services[a.next].Accept}
}

// alarmed looks, while there is an alarm, whether another host claims what this
// one claims. By itself an alarm proves nothing: anybody can forge an
// acknowledgment, but not a heartbeat.
func (c *Core) alarmed(h *heartbeat) {
	a := &c.rights.alarms
	if h.Alarm {
		a.until = c.now + alarmTime
	}
	if h.Claims == nil || !h.Leased {
		return
	}
	i := slices.IndexFunc(c.o.Services, func(s ServiceSpec) bool { return s.Name == h.Claims.Service })
	if i < 0 || i >= len(c.rights.last.Services) {
		return
	}
	mine := c.rights.last.Services[i].Accept
	bucket, both := overlap(mine, h.Claims.Accept)
	at := slices.IndexFunc(a.clashes, func(x clash) bool { return x.peer == h.From && x.service == h.Claims.Service })
	switch {
	case !both || !c.Leased(c.o.Services[i].Path, c.now):
		if at >= 0 && a.clashes[at].told == 0 {
			a.clashes = slices.Delete(a.clashes, at, at+1)
		}
	case at < 0:
		a.clashes = append(a.clashes, clash{peer: h.From, service: h.Claims.Service, bucket: bucket, since: c.now})
	case c.now-a.clashes[at].since >= c.table.Timing.TTL && (a.clashes[at].told == 0 || c.now-a.clashes[at].told >= clashTime):
		a.clashes[at].told, a.clashes[at].bucket = c.now, bucket
		c.note(true, "%s", c.clashText(&a.clashes[at]))
	}
}

// overlap is the first bucket of both.
func overlap(a, b buckets) (uint8, bool) {
	for i := range a {
		if both := a[i] & b[i]; both != 0 {
			return uint8(64*i + bits.TrailingZeros64(both)), true
		}
	}
	return 0, false
}

func (c *Core) clashText(x *clash) string {
	name := func(id uint64) string {
		if h := c.table.host(id); h != nil {
			return fmt.Sprintf("%s (%s)", h.Name, h.Address)
		}
		return fmt.Sprintf("host %x", id)
	}
	return fmt.Sprintf("%s and %s both claim bucket %d of %s under a lease, and clients acknowledge what was never sent: stop one of them and look at its clock and state directory",
		name(c.id), name(x.peer), x.bucket, x.service)
}

// alarmWarnings are for people.
func (c *Core) alarmWarnings() (out []string) {
	if c.outside.alarm {
		out = append(out, "clients acknowledge what this node has never sent: somebody forges, or another node answers for its buckets too")
	}
	for i := range c.rights.alarms.clashes {
		if x := &c.rights.alarms.clashes[i]; x.told > 0 && c.now-x.told < clashTime {
			out = append(out, c.clashText(x))
		}
	}
	return out
}
