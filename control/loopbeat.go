package control

import (
	"slices"

	"onevoice/cluster"
)

// tellLease logs that this node may answer now, or not any more.
func (l *Loop) tellLease(leases []cluster.Lease) {
	leased := slices.ContainsFunc(leases, func(x cluster.Lease) bool { return x.End > 0 })
	if leased == l.leased {
		return
	}
	l.leased = leased
	if leased {
		l.Log.Info("answering: this node holds a lease")
	} else {
		l.Log.Warn("the lease is over: nothing new is accepted, running flows go on")
	}
}

// beat sends the heartbeats, unless the workers that are to keep what they claim
// stand still.
func (l *Loop) beat(beats []cluster.PathMessage) {
	if len(beats) == 0 {
		return
	}
	silent := l.Servers.Beat() > l.TTL
	if silent != l.silent {
		l.silent = silent
		if silent {
			l.Log.Warn("no worker has ended a turn within the lease's time: this node stops claiming its buckets", "ttl", l.TTL)
		} else {
			l.Log.Info("the workers turn again")
		}
	}
	if silent {
		l.stats.HeartbeatsHeld += uint64(len(beats))
		return
	}
	for _, b := range beats {
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
