package control

import (
	"fmt"
	"time"
)

// complainAgain is how long it is until the log says the same thing again.
const complainAgain = 10 * time.Minute

// complain logs what an operator should hear of datagrams that were refused: once
// for each verdict and twin, for a stranger can make up the rest.
func (l *Loop) complain(now time.Duration) {
	say := func(what string, text string) {
		if at, ok := l.told[what]; ok && now-at < complainAgain {
			return
		}
		l.told[what] = now
		l.Log.Warn(text)
	}
	for _, c := range l.Transport.Complaints() {
		if now-c.At < complainAgain {
			say(c.Verdict.String(), fmt.Sprintf("%s %s", c.From, c.Sentence))
		}
	}
	for _, id := range l.Transport.Twins(now) {
		say("twins", fmt.Sprintf("two hosts use the id %x: a state directory was copied; stop one of the two, remove its state directory and let it join anew", id))
	}
}

// tellOutage says loudly that a service is down on the last node, and when it is
// back.
func (l *Loop) tellOutage(now time.Duration) {
	status := l.Core.Status(now)
	warn, info := l.outage.Look(&status)
	if warn != "" {
		l.Log.Warn(warn)
	}
	if info != "" {
		l.Log.Info(info)
	}
}

// lookAtLANs opens paths anew whose interface was removed and is there again.
func (l *Loop) lookAtLANs() {
	for i, lan := range l.LANs {
		changed, err := lan.look()
		if err != nil {
			l.stats.ReceiveErrors++
		}
		switch {
		case !changed:
		case lan.gone:
			l.Log.Error("the interface was removed: no heartbeat leaves over it, and nothing for its VIPs is answered here until it is back", "interface", lan.name)
		default:
			if err := l.Poller.AddLevel(lan.device.FD(), uint64(lanToken+i)); err != nil {
				l.failed = err
			}
			l.Log.Info("the interface is there again", "interface", lan.name)
		}
	}
}
