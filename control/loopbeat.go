package control

import (
	"slices"
	"time"

	"onevoice/cluster"
)

// tellLease logs that this node may answer now, or not any more, and counts the
// leases that were lost. One that ended and was given again in the same turn has
// another beginning.
func (l *Loop) tellLease(leases []cluster.Lease) {
	held := func(x cluster.Lease) bool { return x.End > 0 }
	before, after, lost := slices.ContainsFunc(l.leases, held), slices.ContainsFunc(leases, held), false
	for i, was := range l.leases {
		if held(was) && was.Begin != leases[i].Begin {
			l.stats.LeasesLost++
			lost = true
		}
	}
	l.leases = append(l.leases[:0], leases...)
	switch {
	case after && !before:
		l.Log.Info("answering: this node holds a lease")
	case before && !after:
		l.Log.Warn("the lease is over: nothing new is accepted, running flows go on")
	case lost:
		l.Log.Warn("the lease was over and is held again")
	}
}

// beat sends the heartbeats, but for those of paths whose workers, that are to keep
// what they claim, stand still.
func (l *Loop) beat(beats []cluster.PathMessage) {
	if len(beats) == 0 {
		return
	}
	l.seen.due = true
	for _, b := range beats {
		if l.standsStill(b.Path) {
			l.stats.HeartbeatsHeld++
			continue
		}
		sealedBeat, err := l.Transport.SealHeartbeat(l.sealed[:0], b.Data)
		l.sealed = sealedBeat
		if err == nil {
			err = l.LANs[b.Path].send(sealedBeat)
		}
		if err != nil {
			l.stats.SendErrors++
			continue
		}
		l.stats.HeartbeatsSent++
	}
}

// standsStill reports whether the workers of a path have not ended a turn within the
// lease's time, and logs when that changes: once for an interface, whose first path
// tells of all.
func (l *Loop) standsStill(path int) bool {
	silent := l.Servers.Beat(path) > l.TTL
	if silent == l.silent[path] {
		return silent
	}
	l.silent[path] = silent
	name := l.LANs[path].name
	switch first := slices.IndexFunc(l.LANs, func(o *LAN) bool { return o.name == name }) == path; {
	case !first:
	case silent:
		l.Log.Warn("no worker has ended a turn within the lease's time: this node stops claiming its buckets", "interface", name, "ttl", l.TTL)
	default:
		l.Log.Info("the workers turn again", "interface", name)
	}
	return silent
}

// Evidence is what this host has seen of clients, besides leases. A witness judges
// by it, and peers look after an alarm whether two nodes claim a bucket.
type Evidence struct {
	// Clients counts the frames that came from no node of the cluster.
	Clients uint64
	// Gateway: it answers.
	Gateway bool
	// Unsent counts acknowledgments of what this host never sent.
	Unsent uint64
	// Flows are those that it serves, of old workers as well.
	Flows int
}

// alarmTime is for how long an acknowledgment of what was never sent is an alarm,
// and noAlarmTime how long it is until the log says so again.
const (
	alarmTime   = 5 * time.Second
	noAlarmTime = time.Minute
)

// seen is the evidence that the core was told.
type seen struct {
	// due: a heartbeat has left, so that the next one is to tell what is new.
	due    bool
	unsent uint64
	// alarmed is when an alarm was last raised, logged when the log last said so;
	// 0 for never.
	alarmed, logged time.Duration
}

// tellEvidence tells the core once for each heartbeat. It asks no process.
func (l *Loop) tellEvidence(now time.Duration) {
	s := &l.seen
	if l.Evidence == nil || !s.due {
		return
	}
	s.due = false
	e := l.Evidence()
	// A new worker counts from 0.
	if e.Unsent > s.unsent {
		s.alarmed = now
		if s.logged == 0 || now-s.logged >= noAlarmTime {
			s.logged = now
			l.Log.Warn("a client has acknowledged what this node never sent: somebody forges, or another node answers for its buckets too", "times", e.Unsent)
		}
	}
	s.unsent = e.Unsent
	alarm := s.alarmed > 0 && now-s.alarmed < alarmTime
	for i := range l.LANs {
		l.step(now, cluster.Beat{Path: i, Clients: e.Clients, Gateway: e.Gateway, Alarm: alarm})
	}
}
