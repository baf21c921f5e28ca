package sim

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// The cluster's addresses in igmp mode (FACTS of cluster MACs): the VIP's MAC is
// that of a group which the nodes join.
func joinedGroup() netip.Addr { return netip.MustParseAddr("239.77.0.2") }

// snoopRig is one switch with hosts a and b, which join the group when they are
// told to, c, a client, and r, a router.
type snoopRig struct {
	*rig
	members map[string]*Member
}

func newSnoopRig(t *testing.T, o *Snooping) *snoopRig {
	r := &snoopRig{build(t, New(1), row(1, func(s *SwitchOptions) { s.Snooping = o }), "s1 s1 s1 s1"), map[string]*Member{}}
	for i, p := range r.l.Ports()[:2] {
		m := NewMember(p, MAC(address('a'+byte(i))), netip.AddrFrom4([4]byte{10, 77, 0, byte(i + 1)}), netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: byte(i + 1)}))
		r.members[p.Name] = m
		hear := p.Receive
		p.Receive = func(f []byte) {
			if !m.Hear(f) {
				hear(f)
			}
		}
	}
	return r
}

func (r *snoopRig) join(names string, group netip.Addr) {
	r.t.Helper()
	for _, n := range strings.Split(names, "") {
		if err := r.members[n].Join(group); err != nil {
			r.t.Fatal(err)
		}
	}
	r.w.Run(r.w.Now() + 11*time.Second) // both reports
}

// query is one of a multicast router at port d.
func (r *snoopRig) query() {
	for _, q := range queries(netip.Addr{}, MAC(address('d')), netip.MustParseAddr("10.77.0.200"), queryResponse) {
		r.l.Ports()[3].Send(q)
	}
	r.w.Run(r.w.Now() + 11*time.Second)
}

// heardOf is who hears a frame of c: to the group's MAC with the VIP in it, as a
// client's; with the group in it; and of a foreign type.
func (r *snoopRig) heardOf() string {
	mac := groupMAC(joinedGroup())
	ports := func(ip netip.Addr) netip.AddrPort { return netip.AddrPortFrom(ip, 22) }
	client := ports(netip.MustParseAddr("10.77.0.9"))
	toVIP := udpFrame(mac, MAC(address('c')), client, ports(theVIP()), []byte("x"))
	toGroup := udpFrame(mac, MAC(address('c')), client, ports(joinedGroup()), []byte("x"))
	foreign := append(append(append([]byte(nil), mac[:]...), address('c')...), 0x88, 0xb5, 1, 2, 3)
	var out []string
	for _, f := range [][]byte{toVIP, toGroup, foreign} {
		r.heard = nil
		r.l.Ports()[2].Send(f)
		r.w.Run(r.w.Now() + ms)
		out = append(out, strings.Join(r.heard, "")+"-")
	}
	return strings.Join(out, " ")
}

// The table of what each kind of switch does with a frame for the VIP, one for the
// group, and one of another EtherType, all to the group's MAC: FACTS.md's trial on
// a Linux bridge, and RFC 4541.
func TestWhoHearsTheClusterMAC(t *testing.T) {
	for _, c := range []struct {
		name             string
		o                Snooping
		before           string // nobody has joined
		joined           string // a and b have, no router was heard
		queried          string // and d has asked
		muchLater        string // nobody has asked for longer than the membership
		prunedIsAFinding bool
	}{
		{"by MAC", Snooping{}, "- - -", "ab- ab- ab-", "abd- abd- abd-", "- - -", true},
		{"by MAC, unregistered flooded", Snooping{FloodUnregistered: true}, "abd- abd- abd-", "ab- ab- ab-", "abd- abd- abd-", "abd- abd- abd-", true},
		{"Linux", *LinuxSnooping(), "abd- abd- abd-", "abd- abd- abd-", "d- abd- abd-", "abd- abd- abd-", true},
		{"by IP", Snooping{Key: ByIP}, "- - abd-", "- ab- abd-", "d- abd- abd-", "- - abd-", true},
		{"by MAC, a querier", Snooping{Querier: true}, "- - -", "ab- ab- ab-", "abd- abd- abd-", "ab- ab- ab-", false},
		{"Linux, a querier", Snooping{Key: ByIP, FloodWithoutQuerier: true, Querier: true}, "- - abd-", "- ab- abd-", "d- abd- abd-", "- ab- abd-", false},
	} {
		r := newSnoopRig(t, &c.o)
		r.w.Run(ms)
		check := func(when, want string) {
			t.Helper()
			if got := r.heardOf(); got != want {
				t.Errorf("%s, %s: heard by %q, want %q", c.name, when, got, want)
			}
		}
		check("before", c.before)
		r.join("ab", joinedGroup())
		check("joined", c.joined)
		r.query()
		check("queried", c.queried)
		r.w.Run(r.w.Now() + 290*time.Second)
		check("much later", c.muchLater)
		f, found := r.l.Found(Pruned)
		if found != c.prunedIsAFinding || found && !strings.Contains(f.What, "no querier asks") {
			t.Errorf("%s: findings %v", c.name, r.l.Findings())
		}
	}
}

// The deafness comes with the end of the membership interval, to the second, and
// not while a querier asks.
func TestDeafAfterTheMembershipInterval(t *testing.T) {
	r := newSnoopRig(t, &Snooping{})
	if err := r.members["a"].Join(joinedGroup()); err != nil {
		t.Fatal(err)
	}
	r.w.Run(ms)
	r.members["a"].groups[0].timer.Stop() // the second report is lost
	for at, want := range map[time.Duration]string{DefaultMembership - time.Second: "a- a- a-", DefaultMembership + time.Second: "- - -"} {
		if r.w.Now() > at {
			continue
		}
		r.w.Run(at)
		if got := r.heardOf(); got != want {
			t.Errorf("after %v: %q, want %q", at, got, want)
		}
	}
	r.w.Run(DefaultMembership + time.Second)
	if got := r.heardOf(); got != "- - -" {
		t.Errorf("after the interval: %q", got)
	}

	r = newSnoopRig(t, &Snooping{Querier: true})
	r.join("ab", joinedGroup())
	r.members["b"].Silent = true // its host does not answer
	for range 10 {
		r.w.Run(r.w.Now() + time.Minute)
		if got := r.heardOf(); !strings.HasPrefix(got, "a") {
			t.Fatalf("after %v with a querier: %q", r.w.Now(), got)
		}
	}
	if f, found := r.l.Found(Pruned); !found || f.Where != "s1 b" || !strings.Contains(f.What, "though it was asked") {
		t.Errorf("findings %v", r.l.Findings())
	}
}

func TestLeaving(t *testing.T) {
	for _, c := range []struct {
		name         string
		o            Snooping
		at500ms, at3 string
	}{
		{"nobody asks", Snooping{}, "a b", "a b"},
		{"fast", Snooping{FastLeave: true}, "b", "b"},
		{"asked", Snooping{Querier: true}, "a b", "b"},
	} {
		r := newSnoopRig(t, &c.o)
		r.join("ab", joinedGroup())
		r.members["a"].Leave(joinedGroup())
		for _, at := range []struct {
			after time.Duration
			want  string
		}{{500 * ms, c.at500ms}, {2500 * ms, c.at3}} {
			r.w.Run(r.w.Now() + at.after)
			if got := strings.Join(r.l.Switches()[0].Members(joinedGroup()), " "); got != at.want {
				t.Errorf("%s, %v later: members %q, want %q", c.name, at.after, got, at.want)
			}
		}
	}
}

// 224.0.0.x is for everybody, whoever has joined (RFC 4541 §2.1.2 (2)), and groups
// that share a MAC are one to a switch that goes by it ((5) there).
func TestGroupsThatAreSpecial(t *testing.T) {
	to := func(r *snoopRig, group string) string {
		ip := netip.MustParseAddr(group)
		var f []byte
		if ip.Is4() {
			f = udpFrame(groupMAC(ip), MAC(address('c')), netip.MustParseAddrPort("10.77.0.9:1"), netip.AddrPortFrom(ip, 1), nil)
		} else {
			f = appendEthernet(nil, groupMAC(ip), MAC(address('c')), etherIPv6)
			f = append(f, 0x60, 0, 0, 0, 0, 0, protoUDP, 1)
			f = append(append(f, make([]byte, 16)...), ip.AsSlice()...)
		}
		r.heard = nil
		r.l.Ports()[2].Send(f)
		r.w.Run(r.w.Now() + ms)
		return strings.Join(r.heard, "")
	}
	for _, c := range []struct {
		key   SnoopKey
		wants map[string]string
	}{
		{ByMAC, map[string]string{"224.0.0.251": "abd", "239.77.0.2": "a", "239.205.0.2": "a", "225.1.1.1": "", "ff02::1": "abd", "ff15::77": "a", "ff15::78": ""}},
		{ByIP, map[string]string{"224.0.0.251": "abd", "239.77.0.2": "a", "239.205.0.2": "", "225.1.1.1": "", "ff02::1": "abd", "ff15::77": "a", "ff15::78": ""}},
	} {
		r := newSnoopRig(t, &Snooping{Key: c.key})
		r.join("a", joinedGroup())
		r.join("a", netip.MustParseAddr("ff15::77"))
		for group, want := range c.wants {
			if got := to(r, group); got != want {
				t.Errorf("key %d, to %s: heard by %q, want %q", c.key, group, got, want)
			}
		}
	}
}

// Members behind another switch are known there and here only if the querier is
// one that switches take for a router.
func TestSnoopingOverATrunk(t *testing.T) {
	for from, want := range map[string]string{"": "", "10.77.0.250": "b"} {
		var querier netip.Addr
		if from != "" {
			querier = netip.MustParseAddr(from)
		}
		top := row(2, func(o *SwitchOptions) { o.Snooping = &Snooping{} })
		top.Switches[0].Snooping = &Snooping{Querier: true, QuerierIP: querier}
		r := build(t, New(1), top, "s1 s2 s1")
		b := r.l.Ports()[1]
		m := NewMember(b, MAC(address('b')), netip.MustParseAddr("10.77.0.2"), netip.Addr{})
		hear := b.Receive
		b.Receive = func(f []byte) {
			if !m.Hear(f) {
				hear(f)
			}
		}
		if err := m.Join(joinedGroup()); err != nil {
			t.Fatal(err)
		}
		r.w.Run(3 * DefaultMembership)
		r.heard = nil
		r.l.Ports()[0].Send(udpFrame(groupMAC(joinedGroup()), MAC(address('a')), netip.MustParseAddrPort("10.77.0.9:1"), netip.AddrPortFrom(theVIP(), 22), nil))
		r.w.Run(r.w.Now() + ms)
		if got := strings.Join(r.heard, ""); got != want {
			t.Errorf("a querier at %q: heard by %q, want %q", from, got, want)
		}
	}
}

func TestAFullGroupTable(t *testing.T) {
	r := newSnoopRig(t, &Snooping{})
	for i := range MaxGroups + 1 {
		g := netip.AddrFrom4([4]byte{239, 1, byte(i >> 8), byte(i)})
		r.l.Ports()[0].Send(igmpFrame(MAC(address('a')), netip.MustParseAddr("10.77.0.1"), g, igmpReportV2, 0, g))
	}
	r.w.Run(ms)
	sw := r.l.Switches()[0]
	if got := len(sw.snoop.groups); got != MaxGroups {
		t.Errorf("%d groups, want %d", got, MaxGroups)
	}
	if _, found := r.l.Found(TableFull); !found {
		t.Errorf("findings %v", r.l.Findings())
	}
	sw.Forget()
	if got := sw.Members(netip.MustParseAddr("239.1.0.0")); got != nil {
		t.Errorf("a restarted switch knows %v", got)
	}
}

// Version 3's records, and messages that are broken.
func TestMembershipMessages(t *testing.T) {
	g := joinedGroup()
	v3 := func(records ...byte) []byte {
		b := append([]byte{igmpReportV3, 0, 0, 0, 0, 0, 0, byte(len(records) / 8)}, records...)
		sum := ^onesSum(0, b)
		b[2], b[3] = byte(sum>>8), byte(sum)
		return groupFrame(MAC{2}, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("224.0.0.22"), protoIGMP, 1, b)
	}
	addr := g.As4()
	record := func(kind byte) []byte { return append([]byte{kind, 0, 0, 0}, addr[:]...) }
	good := igmpFrame(MAC{2}, netip.MustParseAddr("10.0.0.1"), g, igmpReportV2, 0, g)
	wrong := append([]byte(nil), good...)
	wrong[len(wrong)-1] ^= 1
	mld := mldFrame(MAC{2}, netip.MustParseAddr("fe80::1"), netip.MustParseAddr("ff15::77"), mldReport, 0, netip.MustParseAddr("ff15::77"))
	wrong6 := append([]byte(nil), mld...)
	wrong6[len(wrong6)-1] ^= 1
	for name, c := range map[string]struct {
		frame  []byte
		kind   membershipKind
		groups int
	}{
		"v2 report":            {good, membershipReport, 1},
		"v2 report, broken":    {wrong, 0, 0},
		"v2 leave":             {igmpFrame(MAC{2}, netip.MustParseAddr("10.0.0.1"), allRouters4(), igmpLeave, 0, g), membershipLeave, 1},
		"of no group":          {igmpFrame(MAC{2}, netip.MustParseAddr("10.0.0.1"), g, igmpReportV2, 0, netip.MustParseAddr("10.0.0.9")), 0, 0},
		"v3 is exclude":        {v3(record(2)...), membershipReport, 1},
		"v3 to exclude":        {v3(record(4)...), membershipReport, 1},
		"v3 to include none":   {v3(record(3)...), membershipLeave, 1},
		"v3 block":             {v3(record(6)...), 0, 0},
		"v3 two records":       {v3(append(record(4), record(3)...)...), membershipReport, 1},
		"v3 cut":               {v3(4, 0, 0, 9, 239, 1, 1, 1), 0, 0},
		"mld report":           {mld, membershipReport, 1},
		"mld report, broken":   {wrong6, 0, 0},
		"mld done":             {mldFrame(MAC{2}, netip.MustParseAddr("fe80::1"), allRouters(), mldDone, 0, netip.MustParseAddr("ff15::77")), membershipLeave, 1},
		"a general query":      {queries(netip.Addr{}, MAC{2}, netip.Addr{}, time.Second)[0], membershipQuery, 0},
		"a query for one":      {queries(g, MAC{2}, netip.Addr{}, time.Second)[0], membershipQuery, 1},
		"a general query, mld": {queries(netip.Addr{}, MAC{2}, netip.Addr{}, time.Second)[1], membershipQuery, 0},
		"udp":                  {udpFrame(MAC{2}, MAC{2}, netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:1"), nil), 0, 0},
	} {
		m, ok := parseMembership(c.frame)
		if ok != (c.kind != 0) || m.kind != c.kind || len(m.groups) != c.groups {
			t.Errorf("%s: read as %+v, %v", name, m, ok)
		}
	}
}

func FuzzMembership(f *testing.F) {
	f.Add(igmpFrame(MAC{2}, netip.MustParseAddr("10.0.0.1"), joinedGroup(), igmpReportV2, 0, joinedGroup()))
	f.Add(mldFrame(MAC{2}, netip.MustParseAddr("fe80::1"), allNodes(), mldQuery, 0, netip.Addr{}))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < MinFrame {
			return
		}
		m, ok := parseMembership(frame)
		for _, g := range m.groups {
			if ok && !g.IsMulticast() && m.kind != membershipQuery {
				t.Errorf("a report of %v, which is no group", g)
			}
		}
		parseBPDU(frame)
		l, _ := New(1).NewLAN(row(1, func(o *SwitchOptions) { o.Snooping, o.InspectARP = LinuxSnooping(), true }))
		l.Attach("a", nil, nil).Send(frame)
		l.w.Run(time.Second)
	})
}

func TestMembersAreBounded(t *testing.T) {
	r := newSnoopRig(t, &Snooping{})
	m := r.members["a"]
	for i := range MaxMemberships {
		if err := m.Join(netip.AddrFrom4([4]byte{239, 0, 1, byte(i)})); err != nil {
			t.Fatal(err)
		}
	}
	for want, group := range map[string]string{"has joined 64 groups": "239.0.0.1", "which is no group": "10.0.0.1"} {
		if err := m.Join(netip.MustParseAddr(group)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := NewMember(r.l.Ports()[2], MAC{2}, netip.Addr{}, netip.Addr{}).Join(joinedGroup()); err == nil || !strings.Contains(err.Error(), "no address to join") {
		t.Error(err)
	}
}

// After a change of the tree the querier asks at once (RFC 4541 §2.1.1 (4)), so that
// groups find their new way without waiting for the next query.
func TestSnoopingFollowsTheTree(t *testing.T) {
	top := ring(nil)
	for i := range top.Switches {
		top.Switches[i].Snooping = &Snooping{}
	}
	top.Switches[0].Snooping = &Snooping{Querier: true, QuerierIP: netip.MustParseAddr("10.77.0.250")}
	r := build(t, New(1), top, "s1 s3")
	b := r.l.Ports()[1]
	m := NewMember(b, MAC(address('b')), netip.MustParseAddr("10.77.0.2"), netip.Addr{})
	hear := b.Receive
	b.Receive = func(f []byte) {
		if !m.Hear(f) {
			hear(f)
		}
	}
	if err := m.Join(joinedGroup()); err != nil {
		t.Fatal(err)
	}
	heard := func() string {
		r.heard = nil
		r.l.Ports()[0].Send(udpFrame(groupMAC(joinedGroup()), MAC(address('a')), netip.MustParseAddrPort("10.77.0.9:1"), netip.AddrPortFrom(theVIP(), 22), nil))
		r.w.Run(r.w.Now() + ms)
		return strings.Join(r.heard, "")
	}
	r.w.Run(DefaultQueryInterval + 15*time.Second)
	if got := heard(); got != "b" {
		t.Fatalf("before: heard by %q", got)
	}
	r.l.Trunk("t3").Unplug(true)
	r.w.Run(r.w.Now() + 20*time.Second)
	if got := heard(); got != "" {
		t.Errorf("while the tree changes: heard by %q", got)
	}
	r.w.Run(r.w.Now() + 22*time.Second) // 30 for the way around, up to 10 for the report
	if got := heard(); got != "b" {
		t.Errorf("42 s after the change: heard by %q", got)
	}
}
