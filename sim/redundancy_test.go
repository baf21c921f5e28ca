package sim

import (
	"net/netip"
	"testing"
	"time"
)

func shared() netip.Addr { return netip.MustParseAddr("10.77.0.254") }

// twins are two routers on two switches that share an address inside, and a host of
// the LAN, h, on the first switch.
type twins struct {
	w       *World
	l       *LAN
	routers [2]*Router
	h       *Client
}

func newTwins(t *testing.T, g Redundancy, priorities [2]int, preempt bool) *twins {
	t.Helper()
	w := New(1)
	l, err := w.NewLAN(row(2, nil))
	if err != nil {
		t.Fatal(err)
	}
	p := &twins{w: w, l: l}
	g.Number, g.Address, g.Preempt = 7, shared(), preempt
	for i, sw := range []string{"s1", "s2"} {
		own := g
		own.Priority = priorities[i]
		p.routers[i], err = NewRouter(RouterOptions{Name: "r" + sw, Legs: []Leg{{LAN: l, Switch: sw, MAC: MAC{2, 0, 0, 0, 9, byte(i)},
			Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, 0, byte(250 + i)}), 24), Group: &own}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	p.h, err = l.AddClient("s1", ClientOptions{Name: "h", MAC: clientMAC(), IP: theClient(), VIP: shared()})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// master is which of the two, "12" for both.
func (p *twins) master() string {
	out := ""
	for i, r := range p.routers {
		if r.Master(p.l) {
			out += string(rune('1' + i))
		}
	}
	return out
}

// The times of RFC 5798 §6.1 and of RFC 2281: a dead master is missed after three
// advertisements and a skew, or after the hold time.
func TestASharedAddress(t *testing.T) {
	for _, c := range []struct {
		name           string
		protocol       RedundancyProtocol
		priorities     [2]int
		preempt        bool
		first          string
		lo, hi         time.Duration
		after, comesTo string // when the first master is dead, and is back
	}{
		{"VRRP", VRRP, [2]int{200, 100}, true, "1", 2600 * ms, 3700 * ms, "2", "1"},
		{"VRRP, no preemption", VRRP, [2]int{200, 100}, false, "1", 2600 * ms, 3700 * ms, "2", "1"},
		{"VRRP, equals", VRRP, [2]int{0, 0}, true, "2", 2600 * ms, 3700 * ms, "1", "2"},
		{"HSRP", HSRP, [2]int{110, 100}, true, "1", 8 * time.Second, 12 * time.Second, "2", "1"},
		{"HSRP, no preemption", HSRP, [2]int{100, 110}, false, "2", 8 * time.Second, 12 * time.Second, "1", "2"},
	} {
		p := newTwins(t, Redundancy{Protocol: c.protocol}, c.priorities, c.preempt)
		p.w.Run(30 * time.Second)
		if got := p.master(); got != c.first {
			t.Errorf("%s: master %q, want %q", c.name, got, c.first)
			continue
		}
		ping := p.h.Ping(0)
		p.w.Run(p.w.Now() + time.Second)
		if len(ping.Answers) != 1 || len(p.h.Asks[0].Answers) != 1 || p.h.Asks[0].Answers[0].Is[0] != 0 {
			t.Errorf("%s: %+v, asked %+v", c.name, ping, p.h.Asks[0])
		}
		dead := p.routers[c.first[0]-'1']
		dead.Unplug(true)
		from := p.w.Now()
		for other := p.routers['2'-c.first[0]]; !other.Master(p.l) && p.w.Now() < from+time.Minute; {
			p.w.Run(p.w.Now() + 10*ms)
		}
		if took := p.w.Now() - from; took < c.lo || took > c.hi {
			t.Errorf("%s: taken over after %v, want %v to %v", c.name, took, c.lo, c.hi)
		}
		// The group's MAC is where the new master is: no client notices.
		ping = p.h.Ping(0)
		p.w.Run(p.w.Now() + time.Second)
		if len(ping.Answers) != 1 || len(p.h.Asks) != 1 {
			t.Errorf("%s: %d answers after the failover, asked %d times", c.name, len(ping.Answers), len(p.h.Asks))
		}
		dead.Unplug(false)
		p.w.Run(p.w.Now() + 30*time.Second)
		if got := p.master(); got != c.comesTo {
			t.Errorf("%s: master %q when the first is back, want %q", c.name, got, c.comesTo)
		}
	}
}

// A router that starts later takes over only if it is set to.
func TestPreemption(t *testing.T) {
	for _, protocol := range []RedundancyProtocol{VRRP, HSRP} {
		for preempt, want := range map[bool]string{true: "1", false: "2"} {
			p := newTwins(t, Redundancy{Protocol: protocol}, [2]int{200, 100}, preempt)
			p.routers[0].Unplug(true)
			p.w.Run(30 * time.Second)
			p.routers[0].legs[0].group.yield() // it has just started
			p.routers[0].Unplug(false)
			p.w.Run(p.w.Now() + 30*time.Second)
			if got := p.master(); got != want {
				t.Errorf("%v, preempt %v: master %q, want %q", protocol, preempt, got, want)
			}
		}
	}
}

// Without the trunk both are master; when it is back, one is.
func TestASplitPair(t *testing.T) {
	for _, protocol := range []RedundancyProtocol{VRRP, HSRP} {
		p := newTwins(t, Redundancy{Protocol: protocol}, [2]int{200, 100}, true)
		p.w.Run(30 * time.Second)
		p.l.Trunk("t1").Unplug(true)
		p.w.Run(p.w.Now() + 30*time.Second)
		if got := p.master(); got != "12" {
			t.Errorf("%v, split: master %q", protocol, got)
		}
		p.l.Trunk("t1").Unplug(false)
		p.w.Run(p.w.Now() + 5*time.Second)
		if got := p.master(); got != "1" {
			t.Errorf("%v, whole again: master %q", protocol, got)
		}
	}
}

// What is no advertisement of this group is not taken for one.
func TestForeignAdvertisements(t *testing.T) {
	for _, protocol := range []RedundancyProtocol{VRRP, HSRP} {
		p := newTwins(t, Redundancy{Protocol: protocol}, [2]int{100, 90}, true)
		p.w.Run(30 * time.Second)
		g := *p.routers[1].legs[0].group
		g.Priority = 254
		var frames [][]byte
		other := g
		other.Number = 8
		frames = append(frames, other.frame())
		f := g.frame()
		for _, at := range []int{MinFrame + 8, MinFrame + ipBytes} { // hops; the first byte
			bad := append([]byte(nil), f...)
			bad[at] ^= 0x40
			if at == MinFrame+8 {
				setIPSum(bad[MinFrame:])
			}
			frames = append(frames, bad)
		}
		if protocol == HSRP {
			frames = frames[:1] // its hops are not looked at, and the first byte is the port's
		}
		for _, bad := range frames {
			p.routers[1].legs[0].port.Send(bad)
			p.w.Run(p.w.Now() + 10*ms)
			if got := p.master(); got != "1" {
				t.Errorf("%v: master %q after % x", protocol, got, bad)
			}
		}
		p.routers[1].legs[0].port.Send(f)
		p.w.Run(p.w.Now() + 10*ms)
		if got := p.master(); got == "1" {
			t.Errorf("%v: a true advertisement changes nothing", protocol)
		}
	}
}
