package cluster

import (
	"fmt"
	"time"
)

// Timing is a profile of intervals. It is part of the replicated table.
type Timing struct {
	// Heartbeat is the interval between the heartbeats of a node on a path.
	Heartbeat time.Duration `cbor:"1,keyasint"`
	// TTL is how long a promise lasts, from its voter's receipt of a heartbeat.
	TTL time.Duration `cbor:"2,keyasint"`
	// Election is raft's least election timeout; the most is twice that.
	Election time.Duration `cbor:"3,keyasint"`
}

// The profiles.
const (
	Fast = "fast"
	LAN  = "lan"
	Calm = "calm"
)

// TimingOf returns a profile by its name.
func TimingOf(name string) (Timing, error) {
	const ms = time.Millisecond
	switch name {
	case Fast:
		return Timing{25 * ms, 150 * ms, 100 * ms}, nil
	case LAN:
		return Timing{40 * ms, 250 * ms, 150 * ms}, nil
	case Calm:
		return Timing{100 * ms, 600 * ms, 400 * ms}, nil
	}
	return Timing{}, fmt.Errorf("%q is no timing; write %q, %q or %q", name, Fast, LAN, Calm)
}

func (t Timing) valid() bool {
	return t.Heartbeat >= 10*time.Millisecond && t.TTL >= 3*t.Heartbeat && t.TTL <= maxTTL &&
		t.Election >= 5*tick && t.Election <= 10*maxTTL
}

const (
	// tick is raft's unit of time, and the grain of all duties.
	tick = 10 * time.Millisecond
	// maxTTL bounds what a table may ask for.
	maxTTL = 5 * time.Second
	// Guard is the most that passes between the comparison of the clock with a
	// lease and the leaving of the frames that the comparison let through.
	Guard = 3 * time.Millisecond
	// DriftPPM bounds the rate by which two hosts' clocks differ from true time.
	DriftPPM = 1000
)

// leaseEnd is when a lease ends that a voter's promise of ttl gives for a
// heartbeat sent at a time of our own clock. The voter counts from its receipt,
// which is later, on a clock that may run faster than ours by twice the drift.
func leaseEnd(sent, ttl time.Duration) time.Duration {
	return sent + ttl - ttl*2*DriftPPM/1_000_000 - Guard
}
