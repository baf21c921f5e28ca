package admission

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var key = [16]byte{1, 2, 3}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func list(text ...string) (out []netip.Prefix) {
	for _, s := range text {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestAccess(t *testing.T) {
	for name, c := range map[string]struct {
		access Access
		may    []string
		mayNot []string
	}{
		"nothing is said": {Access{}, []string{"192.0.2.1", "2001:db8::1"}, nil},
		"a list of those who may is of all": {Access{Allow: list("10.0.0.0/8", "2001:db8::/32")},
			[]string{"10.1.2.3", "2001:db8::1"}, []string{"192.0.2.1", "2001:db9::1"}},
		"a list of those who may not is of no others": {Access{Deny: list("10.0.0.0/8")},
			[]string{"192.0.2.1", "2001:db8::1"}, []string{"10.1.2.3"}},
		"the longest prefix wins": {Access{Allow: list("10.0.0.0/8", "10.1.2.0/24"), Deny: list("10.1.0.0/16", "10.1.2.3/32")},
			[]string{"10.0.0.1", "10.1.2.4"}, []string{"10.1.3.1", "10.1.2.3", "192.0.2.1"}},
		"of all services' too": {Access{Allow: list("10.0.0.0/8"), DenyAll: list("10.1.0.0/16")},
			[]string{"10.0.0.1"}, []string{"10.1.0.1", "192.0.2.1"}},
		"the service's wins a tie": {Access{Allow: list("10.1.0.0/16"), DenyAll: list("10.1.0.0/16")},
			[]string{"10.1.0.1"}, []string{"10.2.0.1"}},
		"bits beyond the length do not count": {Access{Deny: list("10.1.2.3/16")},
			[]string{"10.2.0.1"}, []string{"10.1.0.1"}},
		"everybody": {Access{Allow: list("0.0.0.0/0", "::/0"), Deny: list("2001:db8::1/128")},
			[]string{"192.0.2.1", "2001:db8::2"}, []string{"2001:db8::1"}},
	} {
		g := New([]Service{{}, {Access: c.access}}, key)
		for _, a := range c.may {
			if g.Denies(1, addr(a)) {
				t.Errorf("%s: %s is denied", name, a)
			}
		}
		for _, a := range c.mayNot {
			if !g.Denies(1, addr(a)) {
				t.Errorf("%s: %s is not denied", name, a)
			}
		}
		if n := g.Counts(1).Denied; n != uint64(len(c.mayNot)) {
			t.Errorf("%s: %d are counted", name, n)
		}
	}
}

// The longest prefix of random ones, in the rules and in lists that can be exchanged,
// beside a look at each.
func TestLongestPrefix(t *testing.T) {
	type one struct {
		netip.Prefix
		rank int
	}
	rapid.Check(t, func(t *rapid.T) {
		six := rapid.Bool().Draw(t, "IPv6")
		address := func() netip.Addr {
			part := func(name string) byte { return rapid.Byte().Draw(t, name) & 3 }
			if six {
				return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, part("b"), 8: part("c"), 15: part("d")})
			}
			return netip.AddrFrom4([4]byte{10, part("b"), part("c"), part("d")})
		}
		var slow []one
		draw := func() (out [4][]netip.Prefix) {
			for range rapid.IntRange(0, 12).Draw(t, "prefixes") {
				a := address()
				// Few lengths, so that two are often the same.
				p := netip.PrefixFrom(a, a.BitLen()-rapid.SampledFrom([]int{0, 0, 1, 7, 8, 15, 32}).Draw(t, "bits"))
				r := rapid.IntRange(0, 3).Draw(t, "rank")
				out[r] = append(out[r], p)
				slow = append(slow, one{p.Masked(), r})
			}
			return out
		}
		names := [4]string{"deny", "allow", "deny-all", "allow-all"}
		for r := range names {
			if rapid.Bool().Draw(t, "no list") {
				names[r] = ""
			}
		}
		rules := draw()
		g := New([]Service{{Access: Access{Deny: rules[0], Allow: rules[1], DenyAll: rules[2], AllowAll: rules[3],
			Files: Files{Deny: names[0], Allow: names[1], DenyAll: names[2], AllowAll: names[3]}}}}, key)
		others := len(rules[1])+len(rules[3]) == 0 && names[1] == "" && names[3] == ""
		fixed := len(slow)
		// The second lists take the place of the first.
		for range 2 {
			slow = slow[:fixed]
			lists := draw()
			slow = slices.DeleteFunc(slow, func(o one) bool {
				return names[o.rank] == "" && !slices.Contains(slow[:fixed], o)
			})
			for r, name := range names {
				if name != "" {
					g.SetList(name, NewList(lists[r]))
				}
			}
		}
		a := address()
		want, longest, rank := others, -1, 9
		for _, o := range slow {
			if o.Contains(a) && (o.Bits() > longest || o.Bits() == longest && o.rank < rank) {
				want, longest, rank = o.rank&1 == 1, o.Bits(), o.rank
			}
		}
		if got := !g.Denies(0, a); got != want {
			t.Fatalf("%v: may %v, want %v, by /%d of rank %d", a, got, want, longest, rank)
		}
	})
}

// Of two files that name the same prefix, the one that denies counts, and those of one
// service count before those of all.
func TestTiesOfFiles(t *testing.T) {
	names := [4]string{"deny", "allow", "deny-all", "allow-all"}
	client := netip.MustParseAddr("10.1.2.3")
	prefix := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	for first := range names {
		for second := first + 1; second < len(names); second++ {
			g := New([]Service{{Access: Access{Files: Files{Deny: names[0], Allow: names[1], DenyAll: names[2], AllowAll: names[3]}}}}, key)
			g.SetList(names[first], NewList(prefix))
			g.SetList(names[second], NewList(prefix))
			if may := !g.Denies(0, client); may != (first%2 == 1) {
				t.Errorf("%s and %s: may %v", names[first], names[second], may)
			}
		}
	}
}

// A list of those who may shuts out whom it does not name: also one in a file that has not been
// read yet, or is empty, and also beside lists of those who may not.
func TestListsOfWhoMayShutOthersOut(t *testing.T) {
	client := netip.MustParseAddr("10.1.2.3")
	others := []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}
	for name, c := range map[string]struct {
		access Access
		may    bool
	}{
		"no list":               {Access{}, true},
		"those who may not":     {Access{Deny: others, DenyAll: others, Files: Files{Deny: "a", DenyAll: "b"}}, true},
		"some may":              {Access{Allow: others}, false},
		"some may all":          {Access{AllowAll: others}, false},
		"a file of who may":     {Access{Files: Files{Allow: "a"}}, false},
		"a file of who may all": {Access{Files: Files{AllowAll: "a"}}, false},
		"a file beside who not": {Access{Deny: others, Files: Files{Deny: "a", Allow: "b"}}, false},
	} {
		g := New([]Service{{Access: c.access}}, key)
		for _, state := range []string{"unread", "empty"} {
			if may := !g.Denies(0, client); may != c.may {
				t.Errorf("%s, %s: may %v", name, state, may)
			}
			g.SetList("a", NewList(nil))
			g.SetList("b", NewList(nil))
		}
	}
}

// The rate beside a list of all that was admitted, of a few sources, over times
// longer than the stamps' clock.
func TestRateIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type taken struct {
			at         time.Duration
			connection uint64
			client     netip.Addr
		}
		limit := Limit{New: rapid.IntRange(1, 20).Draw(t, "new"), Bits4: 24, Bits6: 64,
			Per: time.Duration(rapid.IntRange(1, 5000).Draw(t, "per")) * time.Millisecond}
		g := newGate([]Service{{Limit: limit}}, key, 8*ways)
		slow := map[netip.Prefix][]taken{}
		now := time.Duration(0)
		for range 300 {
			step := rapid.SampledFrom([]time.Duration{0, time.Millisecond, limit.Per / 3, limit.Per, 50 * 24 * time.Hour}).Draw(t, "step")
			now += step.Truncate(time.Millisecond)
			client := netip.AddrFrom4([4]byte{10, 0, rapid.Byte().Draw(t, "net") & 1, rapid.Byte().Draw(t, "host") & 3})
			connection := uint64(rapid.IntRange(0, 5).Draw(t, "connection"))
			source, _ := client.Prefix(24)
			want, n, again := Admitted, 0, false
			for _, one := range slow[source] {
				if now-one.at < limit.Per {
					n++
					again = again || one.connection == connection && one.client == client
				}
			}
			switch {
			case again:
			case n >= limit.New:
				want = OverRate
			default:
				slow[source] = append(slow[source], taken{now, connection, client})
			}
			if got := g.Take(now, 0, client, connection); got != want {
				t.Fatalf("at %v of %v: %d, want %d with %d within %v", now, client, got, want, n, limit.Per)
			}
		}
	})
}

func TestServicesCountApart(t *testing.T) {
	one := Limit{New: 1, Per: time.Second, Bits4: 32, Bits6: 64}
	two := one
	two.Exempt = list("10.0.0.9/32")
	g := New([]Service{{Limit: one}, {Limit: two}, {}}, key)
	for service, want := range []Outcome{OverRate, OverRate, Admitted} {
		if got := g.Take(0, service, addr("10.0.0.1"), 1); got != Admitted {
			t.Errorf("service %d: the first is %d", service, got)
		}
		if got := g.Take(0, service, addr("10.0.0.1"), 2); got != want {
			t.Errorf("service %d: the second is %d, want %d", service, got, want)
		}
	}
	for i := range 3 {
		if got := g.Take(0, 1, addr("10.0.0.9"), uint64(i)); got != Admitted {
			t.Errorf("who is exempt meets %d", got)
		}
	}
	if g.Take(0, 0, addr("2001:db8::1"), 1) != Admitted || g.Take(0, 0, addr("2001:db8::2"), 2) != OverRate {
		t.Error("two addresses of a /64 are not one source")
	}
}

func TestFlows(t *testing.T) {
	g := New([]Service{{Limit: Limit{Flows: 2, PerNode: 5, Bits4: 32, Bits6: 64, Exempt: list("10.0.0.9/32")}}, {}}, key)
	for _, c := range []struct {
		client           string
		ofSource, ofNode int
		service          int
		want             Outcome
	}{
		{"10.0.0.1", 1, 4, 0, Admitted},
		{"10.0.0.1", 2, 4, 0, SourceFull},
		{"10.0.0.1", 0, 5, 0, NodeFull},
		{"10.0.0.9", 9, 9, 0, Admitted},
		{"10.0.0.1", 9, 9, 1, Admitted},
	} {
		if got := g.Fits(c.service, addr(c.client), Flows{c.ofSource, c.ofNode}); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	if !g.Limits(0) || g.Limits(1) {
		t.Error("which service limits flows is wrong")
	}
	if p := g.Source(0, addr("2001:db8::1")); p != netip.MustParsePrefix("2001:db8::/64") {
		t.Errorf("the source is %v", p)
	}
}

// A flood of forged sources fills what is remembered, and no more: it makes nobody
// refused, and those who were refused before it stay so.
func TestFloodOfForgedSources(t *testing.T) {
	limit := Limit{New: 3, Per: time.Minute, Bits4: 32, Bits6: 128}
	g := New([]Service{{Limit: limit}}, key)
	abuser := addr("192.0.2.1")
	for i := range 4 {
		g.Take(0, 0, abuser, uint64(i))
	}
	random := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for i := range 4 * MaxSources {
		forged := netip.AddrFrom4([4]byte{10, byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32())})
		if g.Take(time.Duration(i)*time.Microsecond, 0, forged, random.Uint64()) != Admitted {
			refused++
		}
	}
	remembered, forgotten := g.Sources()
	if remembered != MaxSources || forgotten == 0 {
		t.Errorf("%d sources are remembered and %d forgotten", remembered, forgotten)
	}
	// Of 2^24 addresses some come four times by chance.
	if refused > 100 {
		t.Errorf("%d forged ones were refused", refused)
	}
	if got := g.Take(time.Second, 0, abuser, 9); got != OverRate {
		t.Errorf("after the flood the abuser meets %d", got)
	}
	if got := g.Take(2*time.Second, 0, addr("198.51.100.7"), 1); got != Admitted {
		t.Errorf("a client meets %d", got)
	}
}

// A limit of many for each remembers fewer sources, in the same memory.
func TestMemoryIsBounded(t *testing.T) {
	for _, n := range []int{1, 16, 17, MaxNew, 1000} {
		g := New([]Service{{Limit: Limit{New: n, Per: time.Second}}}, key)
		if len(g.sources.stamps) > maxStamps || len(g.sources.places) < 4000 || len(g.sources.places)%ways != 0 {
			t.Errorf("new = %d: %d places, %d stamps", n, len(g.sources.places), len(g.sources.stamps))
		}
	}
	if g := New([]Service{{Limit: Limit{Flows: 1}}}, key); len(g.sources.places) != 0 {
		t.Error("sources are remembered for nothing")
	}
}

func BenchmarkTake(b *testing.B) {
	for _, n := range []int{2, 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			g := New([]Service{{Limit: Limit{New: n, Per: 7 * time.Second, Bits4: 32}}}, key)
			a := addr("10.0.0.1")
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				g.Take(time.Duration(i)*time.Second, 0, a, uint64(i))
			}
		})
	}
}

// BenchmarkDenies asks of clients whom a list of 100,000 prefixes denies and of those
// whom it does not.
func BenchmarkDenies(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, family := range []struct {
		name string
		make func() netip.Prefix
	}{
		{"IPv4", func() netip.Prefix {
			var a [4]byte
			binary.BigEndian.PutUint32(a[:], random.Uint32())
			return netip.PrefixFrom(netip.AddrFrom4(a), 16+random.IntN(17)).Masked()
		}},
		{"IPv6", func() netip.Prefix {
			a := [16]byte{0x20, 1}
			binary.BigEndian.PutUint64(a[2:], random.Uint64())
			binary.BigEndian.PutUint64(a[8:], random.Uint64())
			return netip.PrefixFrom(netip.AddrFrom16(a), 32+random.IntN(97)).Masked()
		}},
	} {
		var prefixes []netip.Prefix
		var clients []netip.Addr
		for range 100_000 {
			prefixes = append(prefixes, family.make())
		}
		for i := range 1024 {
			if clients = append(clients, prefixes[i*97].Addr()); i%2 == 0 {
				clients[i] = family.make().Addr()
			}
		}
		g := New([]Service{{Access: Access{Files: Files{Deny: "list"}}}}, key)
		b.Run(family.name+"/make", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				g.SetList("list", NewList(prefixes))
			}
		})
		b.Run(family.name+"/ask", func(b *testing.B) {
			b.ReportAllocs()
			denied := 0
			for i := 0; b.Loop(); i++ {
				if g.Denies(0, clients[i%len(clients)]) {
					denied++
				}
			}
			if denied == 0 || denied == b.N {
				b.Fatal(denied)
			}
		})
	}
}
