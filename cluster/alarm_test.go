package cluster

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// alone is a cluster of one node, with a lease, and a second member that only the
// table knows.
type alone struct {
	*Core
	t     *testing.T
	at    time.Duration
	beats []*heartbeat
	notes []string
}

func newAlone(t *testing.T) *alone {
	t.Helper()
	timing, err := TimingOf("lan")
	if err != nil {
		t.Fatal(err)
	}
	self := netip.MustParseAddr("10.77.0.11")
	o := Options{Cluster: "one", Name: "n1", Address: self, Peers: []Peer{{Address: self}}, Timing: timing, Paths: []string{"mac"}, Weight: 100,
		Services: []ServiceSpec{{Name: "vip"}, {Name: "ssh"}}, Random: rand.New(rand.NewPCG(1, 2)), NewCluster: [16]byte{1}, NewKey: Key{2}}
	a := &alone{t: t, at: time.Second}
	if a.Core, err = New(o, Saved{}, a.at, false); err != nil {
		t.Fatal(err)
	}
	for a.rights.last.Services == nil || !a.Leased(0, a.at) || a.rights.last.Services[1].Accept != (buckets{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}) {
		if a.pass(5 * time.Millisecond); a.at > time.Minute {
			t.Fatalf("no lease: %+v", a.Status(a.at))
		}
	}
	a.table.Hosts = append(a.table.Hosts, Host{ID: ^uint64(0), Slot: 1, Name: "n2", Address: "10.77.0.12", Orphaned: true, Epoch: 1})
	return a
}

// step tells the core of an event and does what it wants.
func (a *alone) step(ev Event) {
	a.t.Helper()
	e := a.Step(a.at, ev)
	for _, n := range e.Notes {
		if n.Warn {
			a.notes = append(a.notes, n.Text)
		}
	}
	for _, b := range e.Heartbeats {
		h, err := a.codec.heartbeat(b.Data)
		if err != nil {
			a.t.Fatal(err)
		}
		a.beats = append(a.beats, h)
	}
	if e.Write != nil {
		a.step(Wrote{Seq: e.Write.Seq})
	}
}

func (a *alone) pass(d time.Duration) {
	a.t.Helper()
	for end := a.at + d; a.at < end; {
		a.at += 5 * time.Millisecond
		a.step(nil)
	}
}

// other is a heartbeat of the second member, twice a heartbeat's interval long.
func (a *alone) other(alarm, leased bool, c *claims) {
	a.t.Helper()
	a.step(Heard{Data: a.codec.marshal(&heartbeat{Version: Version, From: ^uint64(0), Path: "mac", Low: 1, High: 1, Sent: a.at,
		Leased: leased, Alarm: alarm, Claims: c})})
	a.pass(2 * a.table.Timing.Heartbeat)
}

// told are the services of the claims since the last call.
func (a *alone) told() (out []string) {
	for _, h := range a.beats {
		if h.Claims != nil {
			out = append(out, h.Claims.Service)
			if h.Claims.Accept != (buckets{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}) {
				a.t.Errorf("claims %+v", h.Claims)
			}
		}
	}
	a.beats = nil
	return out
}

// An alarm makes those who have it and those who hear of it say what they claim.
func TestR22AlarmsMakeNodesTellTheirClaims(t *testing.T) {
	a := newAlone(t)
	a.other(false, true, nil)
	if got := a.told(); len(got) != 0 {
		t.Errorf("without an alarm %v", got)
	}
	a.step(Beat{Alarm: true})
	a.pass(time.Second)
	if got := a.told(); len(got) < 20 || got[0] == got[1] || got[0] != got[2] {
		t.Errorf("with an alarm %v", got)
	}
	if s := a.Status(a.at); len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "never sent") {
		t.Errorf("warnings %q", s.Warnings)
	}
	a.step(Beat{})
	a.told()
	a.other(false, true, nil)
	if got := a.told(); len(got) != 0 || len(a.Status(a.at).Warnings) != 0 {
		t.Errorf("when it is over %v", got)
	}
	a.other(true, true, nil)
	if got := a.told(); len(got) == 0 {
		t.Error("nothing is claimed after another's alarm")
	}
	a.pass(alarmTime)
	a.told()
	a.pass(time.Second)
	if got := a.told(); len(got) != 0 {
		t.Errorf("long after another's alarm %v", got)
	}
	// Where there is no room, the heartbeat goes without.
	a.step(Beat{Alarm: true})
	for i := range uint64(29) {
		a.table.addHost(Host{ID: 1<<40 + i, Address: "10.0.0.9"})
		m := a.voter.of(1<<40 + i)
		m.below = 1 << 40
		m.heardOn = []heard{{path: "mac", at: a.now, low: 1 << 40, high: 1 << 40, sent: 1 << 50, ttl: time.Second, promised: true, set: a.table.voters().Index}}
	}
	var h heartbeat
	if b := a.sayHeartbeat("mac", 0); len(b) <= maxAlarmBytes || a.codec.dec.Unmarshal(b, &h) != nil || h.Claims != nil || len(h.Withdrawn) < 29 {
		t.Errorf("a heartbeat of %d bytes, claims %v", len(b), h.Claims)
	}
	if len(a.notes) != 0 {
		t.Errorf("notes %q", a.notes)
	}
}

// Two nodes that claim a bucket under a lease are named, once it has lasted. An
// alarm alone, or what passes, does not.
func TestR22ClashIsNamed(t *testing.T) {
	one := &claims{Service: "ssh", Accept: buckets{0, 1 << 9}}
	for name, c := range map[string]struct {
		hear func(a *alone, round int)
		want bool
	}{
		"alarm alone":         {func(a *alone, _ int) { a.other(true, true, nil) }, false},
		"the same bucket":     {func(a *alone, _ int) { a.other(false, true, one) }, true},
		"without a lease":     {func(a *alone, _ int) { a.other(true, false, one) }, false},
		"no bucket":           {func(a *alone, _ int) { a.other(true, true, &claims{Service: "ssh"}) }, false},
		"an unknown service":  {func(a *alone, _ int) { a.other(true, true, &claims{Service: "web", Accept: one.Accept}) }, false},
		"one of two services": {func(a *alone, i int) { a.other(true, true, []*claims{one, {Service: "vip"}}[i%2]) }, true},
		"only for a moment": {func(a *alone, i int) {
			if a.other(true, true, &claims{Service: "ssh"}); i%3 == 0 {
				a.other(true, true, one)
				a.other(true, true, one)
			}
		}, false},
	} {
		a := newAlone(t)
		for i := range 10 {
			c.hear(a, i)
		}
		if len(a.notes) != 0 != c.want || len(a.notes) > 1 {
			t.Errorf("%s: notes %q", name, a.notes)
		}
		said := strings.Join(a.Status(a.at).Warnings, "\n")
		if said != strings.Join(a.notes, "\n") {
			t.Errorf("%s: warnings %q", name, said)
		}
		if c.want && !strings.Contains(said, "n1 (10.77.0.11) and n2 (10.77.0.12) both claim bucket 73 of ssh") {
			t.Errorf("%s: %q", name, said)
		}
		if a.pass(clashTime); len(a.Status(a.at).Warnings) != 0 {
			t.Errorf("%s: a minute later %q", name, a.Status(a.at).Warnings)
		}
	}
	// Without a lease of our own there is nothing to claim.
	a := newAlone(t)
	a.holder.drop()
	a.rights.leases = nil
	a.alarmed(&heartbeat{From: ^uint64(0), Leased: true, Claims: one})
	if len(a.rights.alarms.clashes) != 0 {
		t.Error("a clash without a lease")
	}
}
