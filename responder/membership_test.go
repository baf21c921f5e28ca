package responder

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var (
	memberMAC  = MAC{2, 0, 0, 0, 0, 0x11}
	querierMAC = MAC{2, 0, 0, 0, 0, 0x99}
	memberIP   = netip.MustParseAddr("10.77.0.11")
	member6    = netip.MustParseAddr("fe80::11")
	querierIP  = netip.MustParseAddr("10.77.0.1")
	querier6   = netip.MustParseAddr("fe80::1")
	group4     = netip.MustParseAddr("239.77.0.2")
	group4b    = netip.MustParseAddr("239.77.0.3")
	group6     = netip.MustParseAddr("ff12::8000:2")
)

func member(t testing.TB, seed uint64, groups ...netip.Addr) *Membership {
	t.Helper()
	addr := memberIP
	if groups[0].Is6() {
		addr = member6
	}
	m, err := NewMembership(memberMAC, addr, groups, rand.New(rand.NewPCG(seed, 0)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// said is a member's frame in words, judged with sums of the test's own.
func said(t testing.TB, f []byte) string {
	t.Helper()
	if MAC(f[6:12]) != memberMAC {
		t.Errorf("a frame from %v", MAC(f[6:12]))
	}
	b := f[14:]
	var to netip.Addr
	var body []byte
	if binary.BigEndian.Uint16(f[12:]) == 0x0800 {
		if b[0] != 0x46 || b[1] != 0xc0 || b[8] != 1 || b[9] != 2 || !bytes.Equal(b[20:24], []byte{148, 4, 0, 0}) ||
			int(binary.BigEndian.Uint16(b[2:])) != len(b) || netip.AddrFrom4([4]byte(b[12:])) != memberIP || onesSum(b[:24]) != 0xffff {
			t.Errorf("a bad IPv4 header: %x", b)
		}
		to, body = netip.AddrFrom4([4]byte(b[16:])), b[24:]
		if onesSum(body) != 0xffff {
			t.Errorf("a wrong IGMP checksum: %x", body)
		}
	} else {
		if b[0] != 0x6c || b[6] != 0 || b[7] != 1 || int(binary.BigEndian.Uint16(b[4:])) != len(b)-40 || netip.AddrFrom16([16]byte(b[8:])) != member6 ||
			!bytes.Equal(b[40:48], []byte{58, 0, 5, 2, 0, 0, 1, 0}) {
			t.Errorf("a bad IPv6 header: %x", b)
		}
		to, body = netip.AddrFrom16([16]byte(b[24:])), b[48:]
		pseudo := append(append([]byte{}, b[8:40]...), 0, 0, 0, byte(len(body)), 0, 0, 0, 58)
		if onesSum(append(pseudo, body...)) != 0xffff {
			t.Errorf("a wrong MLD checksum: %x", body)
		}
	}
	if GroupMAC(to) != MAC(f[:6]) {
		t.Errorf("a frame for %v goes to %v", to, MAC(f[:6]))
	}
	return messageText(to, body)
}

func messageText(to netip.Addr, body []byte) string {
	size, kind := 4, map[byte]string{0x12: "v1 report", 0x16: "v2 report", 0x17: "leave", 0x22: "v3"}[body[0]]
	if to.Is6() {
		size, kind = 16, map[byte]string{131: "v1 report", 132: "done", 143: "v2"}[body[0]]
	}
	text := fmt.Sprintf("%s to %s", kind, to)
	if kind != "v3" && kind != "v2" {
		g, _ := netip.AddrFromSlice(body[len(body)-size:])
		return text + " " + g.String()
	}
	rest := body[8:]
	for range binary.BigEndian.Uint16(body[6:]) {
		g, _ := netip.AddrFromSlice(rest[4 : 4+size])
		text += fmt.Sprintf(" %s %s", map[byte]string{2: "IS_EX", 3: "TO_IN", 4: "TO_EX"}[rest[0]], g)
		rest = rest[4+size:]
	}
	return text
}

// onesSum is RFC 1071's, the slow way.
func onesSum(b []byte) uint16 {
	sum := 0
	for i, v := range b {
		if i%2 == 0 {
			sum += int(v) << 8
		} else {
			sum += int(v)
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// igmpQueryFrame is a query; extra is what comes behind the group.
func igmpQueryFrame(code byte, group netip.Addr, extra ...byte) []byte {
	body := append([]byte{0x11, code, 0, 0}, group.AsSlice()...)
	body = append(body, extra...)
	binary.BigEndian.PutUint16(body[2:], ^onesSum(body))
	b := []byte{0x46, 0xc0, 0, byte(24 + len(body)), 0, 0, 0, 0, 1, 2, 0, 0}
	b = append(append(b, querierIP.AsSlice()...), 224, 0, 0, 1, 148, 4, 0, 0)
	binary.BigEndian.PutUint16(b[10:], ^onesSum(b))
	f := append([]byte{1, 0, 0x5e, 0, 0, 1}, querierMAC[:]...)
	return append(append(append(f, 0x08, 0x00), b...), body...)
}

func mldQueryFrame(code uint16, group netip.Addr, extra ...byte) []byte {
	body := append([]byte{130, 0, 0, 0, byte(code >> 8), byte(code), 0, 0}, group.AsSlice()...)
	body = append(body, extra...)
	to := netip.MustParseAddr("ff02::1")
	pseudo := append(append(querier6.AsSlice(), to.AsSlice()...), 0, 0, 0, byte(len(body)), 0, 0, 0, 58)
	binary.BigEndian.PutUint16(body[2:], ^onesSum(append(pseudo, body...)))
	f := append([]byte{0x33, 0x33, 0, 0, 0, 1}, querierMAC[:]...)
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(8+len(body)), 0, 1)
	f = append(append(f, querier6.AsSlice()...), to.AsSlice()...)
	f = append(f, 58, 0, 5, 2, 0, 0, 1, 0)
	return append(f, body...)
}

func version3Extra(qrv byte) []byte { return []byte{qrv, 125, 0, 0} }

// talk lets the time pass up to a moment and tells what is said, each with its
// time if stamps are wanted.
func talk(t testing.TB, m *Membership, until time.Duration) (out []string, at []time.Duration) {
	t.Helper()
	for {
		next, ok := m.Next()
		if !ok || next > until {
			return out, at
		}
		for _, f := range m.Due(next) {
			out, at = append(out, said(t, f)), append(at, next)
		}
	}
}

func wantSaid(t *testing.T, when string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "; ") != strings.Join(want, "; ") {
		t.Errorf("%s: said %q, want %q", when, got, want)
	}
}

// A join is told twice, a leave too, in the version of the querier that is there;
// a query is answered within its time.
func TestMembershipInEachVersion(t *testing.T) {
	const s = time.Second
	all4, all6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	for _, c := range []struct {
		name               string
		group              netip.Addr
		query              []byte
		within             time.Duration
		answer, left       string
		version, told, was int
	}{
		{"IGMPv3", group4, igmpQueryFrame(100, all4, version3Extra(2)...), 10 * s, "v3 to 224.0.0.22 IS_EX 239.77.0.2", "v3 to 224.0.0.22 TO_IN 239.77.0.2", 3, 3, 2},
		{"IGMPv3 for the group", group4, igmpQueryFrame(10, group4, version3Extra(2)...), s, "v3 to 224.0.0.22 IS_EX 239.77.0.2", "v3 to 224.0.0.22 TO_IN 239.77.0.2", 3, 3, 2},
		{"IGMPv3 for sources", group4, igmpQueryFrame(10, group4, 2, 125, 0, 1, 10, 0, 0, 1), s, "v3 to 224.0.0.22 IS_EX 239.77.0.2", "v3 to 224.0.0.22 TO_IN 239.77.0.2", 3, 3, 2},
		{"IGMPv2", group4, igmpQueryFrame(100, all4), 10 * s, "v2 report to 239.77.0.2 239.77.0.2", "leave to 224.0.0.2 239.77.0.2", 2, 2, 2},
		{"IGMPv1", group4, igmpQueryFrame(0, all4), 10 * s, "v1 report to 239.77.0.2 239.77.0.2", "", 1, 1, 0},
		{"MLDv2", group6, mldQueryFrame(10000, all6, version3Extra(2)...), 10 * s, "v2 to ff02::16 IS_EX ff12::8000:2", "v2 to ff02::16 TO_IN ff12::8000:2", 3, 2, 2},
		{"MLDv1", group6, mldQueryFrame(10000, all6), 10 * s, "v1 report to ff12::8000:2 ff12::8000:2", "done to ff02::2 ff12::8000:2", 2, 1, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := member(t, 1, c.group)
			joined := map[bool]string{true: "v3 to 224.0.0.22 TO_EX ", false: "v2 to ff02::16 TO_EX "}[c.group.Is4()] + c.group.String()
			got, at := talk(t, m, 60*s)
			wantSaid(t, "at the start", got, joined, joined)
			if len(at) == 2 && (at[0] != 0 || at[1] <= 0 || at[1] > s+1) {
				t.Errorf("the join was told at %v", at)
			}
			if o := m.Handle(60*s, c.query); o != MembershipAsked {
				t.Fatalf("the query: %d", o)
			}
			got, at = talk(t, m, 100*s)
			wantSaid(t, "asked", got, c.answer)
			if len(at) == 1 && (at[0] <= 60*s || at[0] > 60*s+c.within+1) {
				t.Errorf("answered at %v", at[0])
			}
			if q := m.Querier(); q.Version != c.told || q.At != 60*s || m.Version() != c.version {
				t.Errorf("querier %+v, version %d", q, m.Version())
			}
			var bye []string
			for _, f := range m.Leave(101 * s) {
				bye = append(bye, said(t, f))
			}
			if c.left == "" {
				wantSaid(t, "left", bye)
			} else {
				wantSaid(t, "left", bye, c.left, c.left)
			}
			if _, ok := m.Next(); ok {
				t.Error("something waits behind the leave")
			}
		})
	}
}

// All groups are answered for in one report of the newest version, and each by its
// own in older ones.
func TestMembershipOfSeveralGroups(t *testing.T) {
	m := member(t, 1, group4, group4b, group4)
	got, _ := talk(t, m, time.Minute)
	wantSaid(t, "joined", got[:1], "v3 to 224.0.0.22 TO_EX 239.77.0.2 TO_EX 239.77.0.3")
	m.Handle(time.Minute, igmpQueryFrame(100, netip.IPv4Unspecified(), version3Extra(2)...))
	got, _ = talk(t, m, 2*time.Minute)
	wantSaid(t, "asked", got, "v3 to 224.0.0.22 IS_EX 239.77.0.2 IS_EX 239.77.0.3")
	m.Handle(3*time.Minute, igmpQueryFrame(100, group4b, version3Extra(2)...))
	got, _ = talk(t, m, 4*time.Minute)
	wantSaid(t, "asked for one", got, "v3 to 224.0.0.22 IS_EX 239.77.0.3")
	if o := m.Handle(5*time.Minute, igmpQueryFrame(100, netip.MustParseAddr("239.1.1.1"), version3Extra(2)...)); o != MembershipNotOurs {
		t.Errorf("asked for another's group: %d", o)
	}
	m.Handle(6*time.Minute, igmpQueryFrame(100, netip.IPv4Unspecified()))
	got, _ = talk(t, m, 7*time.Minute)
	if len(got) != 2 || got[0] == got[1] {
		t.Errorf("asked in version 2: %q", got)
	}
}

// The older version is spoken for as long as its querier counts as present, and
// the oldest counts most.
func TestMembershipSpeaksTheOldestQueriersVersion(t *testing.T) {
	m := member(t, 1, group4)
	all := netip.IPv4Unspecified()
	version := func(at time.Duration) int {
		m.Due(at)
		return m.Version()
	}
	m.Handle(0, igmpQueryFrame(100, all))
	m.Handle(10*time.Second, igmpQueryFrame(0, all))
	m.Handle(20*time.Second, igmpQueryFrame(100, all))
	for _, c := range []struct {
		at   time.Duration
		want int
	}{{20 * time.Second, 1}, {270*time.Second - 1, 1}, {270 * time.Second, 2}, {280*time.Second - 1, 2}, {280 * time.Second, 3}} {
		if got := version(c.at); got != c.want {
			t.Errorf("at %v version %d, want %d", c.at, got, c.want)
		}
	}
	// An answer that waits is given up with its version, a join is not.
	anew := member(t, 1, group4)
	anew.Handle(0, igmpQueryFrame(100, group4b))
	got, _ := talk(t, anew, time.Hour)
	wantSaid(t, "asked before it could tell that it joined", got, "v2 report to 239.77.0.2 239.77.0.2", "v2 report to 239.77.0.2 239.77.0.2")
	anew.Handle(time.Hour, igmpQueryFrame(100, group4, version3Extra(2)...))
	anew.Handle(time.Hour, igmpQueryFrame(100, group4b))
	if got, _ := talk(t, anew, 2*time.Hour); len(got) != 0 {
		t.Errorf("after the version changed: said %q", got)
	}
	old := member(t, 1, group4)
	old.SetVersion(2)
	got, at := talk(t, old, time.Hour)
	wantSaid(t, "told to speak version 2", got, "v2 report to 239.77.0.2 239.77.0.2", "v2 report to 239.77.0.2 239.77.0.2")
	if at[1] > 10*time.Second+1 {
		t.Errorf("the join was told at %v", at)
	}
}

// The querier says how often a change is to be told (RFC 3376 §4.1.6).
func TestMembershipTakesTheQueriersRobustness(t *testing.T) {
	m := member(t, 1, group4)
	talk(t, m, time.Minute)
	m.Handle(time.Minute, igmpQueryFrame(1, netip.IPv4Unspecified(), version3Extra(5)...))
	talk(t, m, 2*time.Minute)
	m.Announce(2 * time.Minute)
	if got, _ := talk(t, m, 3*time.Minute); len(got) != 5 {
		t.Errorf("a change was told %d times, want 5", len(got))
	}
	if n := len(m.Leave(4 * time.Minute)); n != 5 {
		t.Errorf("the leave was told %d times, want 5", n)
	}
}

// Another host's report keeps nothing back.
func TestMembershipIsNotSuppressed(t *testing.T) {
	for _, c := range []struct {
		group         netip.Addr
		query, report []byte
	}{
		{group4, igmpQueryFrame(100, netip.IPv4Unspecified()), nil},
		{group6, mldQueryFrame(10000, netip.IPv6Unspecified()), nil},
	} {
		m, elses := member(t, 1, c.group), member(t, 2, c.group)
		talk(t, m, time.Minute)
		talk(t, elses, time.Minute)
		m.Handle(time.Minute, c.query)
		elses.Handle(time.Minute, c.query)
		at, _ := elses.Next()
		for _, f := range elses.Due(at) {
			f = append([]byte{}, f...)
			copy(f[6:], querierMAC[:])
			if o := m.Handle(time.Minute, f); o != MembershipNotOurs {
				t.Errorf("another's report: %d", o)
			}
		}
		if got, _ := talk(t, m, 2*time.Minute); len(got) != 1 {
			t.Errorf("%v: said %q after another's report", c.group, got)
		}
	}
}

// The answers' times are spread over all that the query gives.
func TestMembershipSpreadsItsAnswers(t *testing.T) {
	early, late := 0, 0
	for seed := range uint64(400) {
		m := member(t, seed, group4)
		talk(t, m, time.Minute)
		m.Handle(time.Minute, igmpQueryFrame(100, netip.IPv4Unspecified()))
		at, _ := m.Next()
		if at < time.Minute+2*time.Second {
			early++
		}
		if at > time.Minute+8*time.Second {
			late++
		}
	}
	if early < 40 || early > 140 || late < 40 || late > 140 {
		t.Errorf("of 400 answers %d were in the first fifth and %d in the last", early, late)
	}
}

func TestMembershipRefusesBadQueries(t *testing.T) {
	all4, all6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	change := func(f []byte, at int, to byte, seal bool) []byte {
		f = bytes.Clone(f)
		f[at] = to
		if seal && f[12] == 8 {
			f[24], f[25] = 0, 0
			binary.BigEndian.PutUint16(f[24:], ^onesSum(f[14:38]))
		}
		return f
	}
	good4, good6 := igmpQueryFrame(100, all4), mldQueryFrame(10000, all6)
	for name, f := range map[string][]byte{
		"time to live 2":               change(good4, 14+8, 2, true),
		"a wrong header checksum":      change(good4, 14+1, 0, false),
		"a wrong checksum":             change(good4, 14+24+1, 99, false),
		"another version":              change(good4, 14, 0x56, true),
		"a header that is too long":    change(good4, 14, 0x4f, true),
		"more than there is":           change(good4, 14+3, 200, true),
		"a fragment":                   change(good4, 14+6, 0x20, true),
		"a source route":               change(good4, 14+20, 131, true),
		"from our own MAC":             append(append(bytes.Clone(good4[:6]), memberMAC[:]...), good4[12:]...),
		"from a group":                 change(good4, 6, 1, false),
		"from a group address":         change(good4, 14+12, 224, true),
		"of 10 bytes":                  igmpQueryFrame(100, all4, 0, 0),
		"for an address of a host":     igmpQueryFrame(100, querierIP),
		"MLD, hop limit 255":           change(good6, 14+7, 255, false),
		"MLD, a wrong checksum":        change(good6, 14+48+5, 99, false),
		"MLD without a router alert":   change(good6, 14+42, 1, false),
		"MLD, another router alert":    change(good6, 14+45, 1, false),
		"MLD, an option overruns":      change(good6, 14+43, 9, false),
		"MLD, more than there is":      change(good6, 14+5, 200, false),
		"MLD from a global address":    change(good6, 14+8, 0x20, false),
		"MLD of 26 bytes":              mldQueryFrame(100, all6, 0, 0),
		"MLD for an address of a host": mldQueryFrame(100, querier6),
	} {
		m := member(t, 1, group4)
		if strings.HasPrefix(name, "MLD") {
			m = member(t, 1, group6)
		}
		talk(t, m, time.Minute)
		if o := m.Handle(time.Minute, f); o != MembershipBad {
			t.Errorf("%s: %d", name, o)
		}
		if got, _ := talk(t, m, time.Hour); len(got) != 0 {
			t.Errorf("%s: answered %q", name, got)
		}
	}
	m := member(t, 1, group4)
	for name, f := range map[string][]byte{"MLD for a member of IPv4": good6, "nothing": nil, "something else": make([]byte, 60)} {
		if o := m.Handle(0, f); o != MembershipNotOurs {
			t.Errorf("%s: %d", name, o)
		}
	}
	// A switch that has no address asks from 0.0.0.0.
	if o := m.Handle(0, change(change(change(good4, 14+12, 0, false), 14+13, 0, false), 14+15, 0, true)); o != MembershipAsked {
		t.Errorf("from 0.0.0.0: %d", o)
	}
}

// Whoever asks without end gets answers at a bounded rate.
func TestMembershipBoundsItsAnswers(t *testing.T) {
	m := member(t, 1, group4)
	talk(t, m, time.Minute)
	reports, limited := 0, 0
	for i := range 10_000 {
		now := time.Minute + time.Duration(i)*time.Millisecond
		// A tenth of a second is the least that a query can ask for.
		if m.Handle(now, igmpQueryFrame(1, netip.IPv4Unspecified(), version3Extra(2)...)) == MembershipLimited {
			limited++
		}
		reports += len(m.Due(now))
	}
	if most := queriesPerSecond*10 + queryBurst; reports > most || reports < most/2 || limited == 0 {
		t.Errorf("%d reports in ten seconds, and %d queries refused", reports, limited)
	}
}

func TestMembershipNeedsWhatItJoins(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	many := make([]netip.Addr, MaxGroups+1)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{239, 0, 1, byte(i)})
	}
	for name, c := range map[string]struct {
		mac    MAC
		addr   netip.Addr
		groups []netip.Addr
	}{
		"no groups":           {memberMAC, memberIP, nil},
		"too many":            {memberMAC, memberIP, many},
		"another family":      {memberMAC, memberIP, []netip.Addr{group6}},
		"no group":            {memberMAC, memberIP, []netip.Addr{querierIP}},
		"a group MAC":         {MAC{1}, memberIP, []netip.Addr{group4}},
		"a global address":    {memberMAC, netip.MustParseAddr("2001:db8::1"), []netip.Addr{group6}},
		"no address":          {memberMAC, netip.Addr{}, []netip.Addr{group4}},
		"the other family, 6": {memberMAC, member6, []netip.Addr{group4}},
	} {
		if _, err := NewMembership(c.mac, c.addr, c.groups, random); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if m, err := NewMembership(memberMAC, memberIP, many[:MaxGroups], random); err != nil || len(m.Due(0)) != 1 {
		t.Errorf("as many groups as may be: %v", err)
	}
}

// The numbers of RFC 3376 §4.1.1 and RFC 3810 §5.1.3 at their edges.
func TestFloatingNumbers(t *testing.T) {
	for code, want := range map[byte]int{0: 0, 1: 1, 127: 127, 128: 128, 0x8f: 248, 0xff: 31744} {
		if got := floating8(code); got != want {
			t.Errorf("%#x is %d, want %d", code, got, want)
		}
	}
	for code, want := range map[uint16]int{0: 0, 32767: 32767, 32768: 32768, 0xffff: 8387584} {
		if got := floating16(code); got != want {
			t.Errorf("%#x is %d, want %d", code, got, want)
		}
	}
}

// Any bytes may come; whatever they are, what waits is bounded.
func FuzzMembership(f *testing.F) {
	for _, b := range [][]byte{igmpQueryFrame(100, group4), igmpQueryFrame(255, netip.IPv4Unspecified(), version3Extra(7)...), mldQueryFrame(65535, group6, version3Extra(7)...), mldQueryFrame(1, group6)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, g := range []netip.Addr{group4, group6} {
			m := member(t, 1, g)
			before := hex.EncodeToString(b)
			m.Handle(time.Minute, b)
			if hex.EncodeToString(b) != before {
				t.Fatal("the frame was changed")
			}
			n := 0
			for at, ok := m.Next(); ok; at, ok = m.Next() {
				n += len(m.Due(at))
			}
			if n > 8 {
				t.Fatalf("%d reports", n)
			}
		}
	})
}
