package health

import (
	"math"
	"time"
)

const (
	// smoothing is the share of a new answer in the averages, as in TCP's
	// smoothed round-trip time (RFC 6298, section 2.3).
	smoothing = 1.0 / 8
	// calmDrift is the share by which the calm round-trip time follows a lasting
	// growth, so that a path that was changed for good is calm again in the end:
	// with a probe a second, after about half an hour.
	calmDrift = 1.0 / 1024
	// deadAfter lost probes in a row mean that nothing gets through, before the
	// average says so.
	deadAfter = 4
	// calmSlack is the growth that costs nothing whatever the ratio: on a LAN of
	// 200 µs a doubling is only the scheduler.
	calmSlack = time.Millisecond
)

// Uplink is the judgement about the way to one host, from its answers to
// pings. Its weight is
//
//	100 · (1 − loss) · min(1, (2·calm + 1 ms) / rtt)
//
// with loss and rtt averaged over about the last eight probes, and calm the
// least averaged rtt seen. So half the packets lost, or a round trip of four
// times the calm one, makes half the weight. It is pure.
type Uplink struct {
	Schedule
	probes int
	lost   int // in a row
	loss   float64
	rtt    float64 // seconds; 0 before the first answer
	calm   float64 // seconds
}

// NewUplink returns the judgement about a host that is pinged every interval.
func NewUplink(interval, first time.Duration) *Uplink {
	return &Uplink{Schedule: Schedule{interval: interval, due: first}}
}

// Step takes the result of a ping: its round-trip time, or that it was lost.
func (u *Uplink) Step(rtt time.Duration, lost bool) {
	u.end()
	if lost {
		u.lost++
		u.average(&u.loss, 1)
		if u.lost >= deadAfter {
			u.loss = 1
		}
	} else {
		u.lost = 0
		u.average(&u.loss, 0)
		u.answered(rtt.Seconds())
	}
	u.probes++
}

func (u *Uplink) average(of *float64, sample float64) {
	if u.probes == 0 {
		*of = sample
		return
	}
	*of += (sample - *of) * smoothing
}

func (u *Uplink) answered(seconds float64) {
	if u.rtt == 0 {
		u.rtt, u.calm = seconds, seconds
		return
	}
	u.rtt += (seconds - u.rtt) * smoothing
	if u.rtt < u.calm {
		u.calm = u.rtt
	} else {
		u.calm += (u.rtt - u.calm) * calmDrift
	}
}

// Known reports whether there is anything to judge by.
func (u *Uplink) Known() bool { return u.probes > 0 }

// Loss is the averaged loss, 0 to 1; RTT and Calm are the averaged round-trip
// time and the calm one.
func (u *Uplink) Loss() float64       { return u.loss }
func (u *Uplink) RTT() time.Duration  { return seconds(u.rtt) }
func (u *Uplink) Calm() time.Duration { return seconds(u.calm) }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Weight is the uplink's weight, 0 to 100; 100 before the first answer.
func (u *Uplink) Weight() int {
	slow := 1.0
	if allowed := 2*u.calm + calmSlack.Seconds(); u.rtt > allowed {
		slow = allowed / u.rtt
	}
	return int(math.Round(FullWeight * (1 - u.loss) * slow))
}
