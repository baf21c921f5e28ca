package library

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"onevoice/sim"
	"onevoice/sim/scenario"
)

// user is one client and what it does.
type user struct {
	*sim.Client
	conns   []*sim.Conn
	session *sim.Conn
	// said is when the session said something first.
	next uint16
}

// What users do.
const (
	firstPort   = 20_000
	sessionPort = 1023
	pingBytes   = 16
	askEach     = 5 // cycles from one ARP request to the next
	pageBytes   = 200
	pageTime    = 300 * time.Millisecond
	sayEvery    = time.Second
	sayBytes    = 40
	// patience is for how long a client may be without any answer before that is a
	// fault: a lost SYN is repeated after 1 s, and again after 3 s (RFC 6298).
	patience = 3500 * time.Millisecond
)

// begin lets a user come.
func (r *run) begin(u *user) {
	w := r.cluster.World
	w.At(usersCome+time.Duration(w.Rand().Int64N(int64(r.spec.Every))), func() {
		if r.spec.Users == "ssh" {
			u.session = u.Open(sessionPort, scenario.ServicePort)
			u.session.Chat(sayEvery, sayBytes)
		}
		r.cycle(u, 0)
	})
}

// cycle is a round of requests, and then the next.
func (r *run) cycle(u *user, n int) {
	w := r.cluster.World
	if w.Now() > r.spec.Duration-lastOrders {
		return
	}
	if n%askEach == 0 {
		u.Ask()
	}
	u.Ping(pingBytes)
	if r.spec.Users != "ping" {
		r.connect(u)
	}
	every := r.spec.Every
	w.After(every/2+time.Duration(w.Rand().Int64N(int64(every))), func() { r.cycle(u, n+1) })
}

// connect opens a connection, asks for a page, or logs in, and closes.
func (r *run) connect(u *user) {
	port := firstPort + u.next
	if old := u.Conn(port, scenario.ServicePort); old != nil && !old.State.Over() {
		return
	}
	u.next = (u.next + 1) % 30_000
	n := u.Open(port, scenario.ServicePort)
	u.conns = append(u.conns, n)
	n.Changed = func() {
		if n.State == sim.Established {
			n.Write(pageBytes)
			r.cluster.World.After(pageTime, n.Close)
		}
	}
}

// moment is a request, or an answer.
type moment struct {
	at     time.Duration
	answer bool
}

// waited is the longest that a user got no answer at all to anything, and whether
// that is so at the end.
func (u *user) waited(end time.Duration) (longest time.Duration, still bool) {
	var all []moment
	for _, p := range u.Pings {
		all = append(all, moment{p.At, false})
		if len(p.Answers) > 0 {
			all = append(all, moment{p.Answers[0].At, true})
		}
	}
	for _, n := range u.conns {
		all = append(all, moment{n.Opened, false})
		if len(n.SYNACKs) > 0 {
			all = append(all, moment{n.SYNACKs[0].At, true})
		}
	}
	slices.SortStableFunc(all, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
	since := time.Duration(-1)
	for _, m := range all {
		switch {
		case !m.answer && since < 0:
			since = m.at
		case m.answer && since >= 0:
			longest, since = max(longest, m.at-since), -1
		}
	}
	if since >= 0 && end-since > longest {
		longest, still = end-since, end-since > patience
	}
	return longest, still
}

// addresses of clients: on the nodes' LAN from 10.77.4.0 on, behind a router from
// 10.99.4.0 on.
func clientAddress(second byte, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, second, byte(4 + i/250), byte(1 + i%250)})
}

func clientMAC(i int) sim.MAC { return sim.MAC{2, 0, 0, 1, byte(i >> 8), byte(i)} }

func clientName(i int) string { return fmt.Sprintf("c%d", i+1) }
