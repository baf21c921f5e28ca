package sim

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// campus is a router between clients outside and a server for the VIP inside.
type campus struct {
	w              *World
	outside, inner *LAN
	r              *Router
	server         *server
	clients        []*Client
}

func routerOptions(inner, outside *LAN) RouterOptions {
	return RouterOptions{Name: "r1", Legs: []Leg{
		{LAN: outside, MAC: MAC{2, 0, 0, 0, 9, 1}, Address: netip.MustParsePrefix("192.0.2.1/24")},
		{LAN: inner, MAC: MAC{2, 0, 0, 0, 9, 2}, Address: netip.MustParsePrefix("10.77.0.1/24")},
	}}
}

func newCampus(t *testing.T, clients int, is MAC, change func(*RouterOptions)) *campus {
	t.Helper()
	w := New(1)
	c := &campus{w: w}
	c.outside, _ = w.NewSwitch()
	c.inner, _ = w.NewSwitch()
	o := routerOptions(c.inner, c.outside)
	if change != nil {
		change(&o)
	}
	var err error
	if c.r, err = NewRouter(o); err != nil {
		t.Fatal(err)
	}
	c.server = newServer(t, c.inner)
	c.server.is = is
	for i := range clients {
		cl, err := c.outside.AddClient("", ClientOptions{Name: fmt.Sprint("c", i), MAC: MAC{2, 0, 0, 0, 8, byte(i)},
			IP: netip.AddrFrom4([4]byte{192, 0, 2, byte(50 + i)}), VIP: theVIP(), Gateway: netip.MustParseAddr("192.0.2.1")})
		if err != nil {
			t.Fatal(err)
		}
		c.clients = append(c.clients, cl)
	}
	return c
}

// The matrix of routers and of what the cluster says of its MAC. The server's frames
// come from its own MAC in each case.
func TestWhatRoutersBelieve(t *testing.T) {
	static := map[netip.Addr]MAC{theVIP(): clusterMAC()}
	single := MAC{0x02, 0xbf, 10, 77, 0, 2}
	for _, c := range []struct {
		name    string
		is      MAC
		change  func(*RouterOptions)
		reached bool
		why     string // in a finding
	}{
		{"believes, group", clusterMAC(), nil, true, ""},
		{"believes, single", single, nil, true, ""},
		{"RFC 1812, group", clusterMAC(), func(o *RouterOptions) { o.RefusesGroups = true }, false, "RFC 1812, 3.3.2"},
		{"RFC 1812, single", single, func(o *RouterOptions) { o.RefusesGroups = true }, true, ""},
		{"RFC 1812, own", nodeMAC(1), func(o *RouterOptions) { o.RefusesGroups = true }, true, ""},
		{"RFC 1812, static", clusterMAC(), func(o *RouterOptions) { o.RefusesGroups, o.Static = true, static }, true, ""},
		{"validates, group", clusterMAC(), func(o *RouterOptions) { o.ValidatesARP = true }, false, "comes from 02:00:00:00:01:01"},
		{"validates, single", single, func(o *RouterOptions) { o.ValidatesARP = true }, false, "comes from 02:00:00:00:01:01"},
		{"validates, own", nodeMAC(1), func(o *RouterOptions) { o.ValidatesARP = true }, true, ""},
		{"validates, static", clusterMAC(), func(o *RouterOptions) { o.ValidatesARP, o.Static = true, static }, true, ""},
	} {
		s := newCampus(t, 1, c.is, c.change)
		n := s.clients[0].Open(4000, 22)
		p := s.clients[0].Ping(10)
		s.w.Run(10 * time.Second)
		if got := n.State == Established; got != c.reached || (len(p.Answers) == 1) != c.reached {
			t.Errorf("%s: the connection is %v, %d answers to a ping; want reached %v", c.name, n.State, len(p.Answers), c.reached)
		}
		if mac, known := s.r.MACOf(theVIP()); known != c.reached || known && mac != c.is {
			t.Errorf("%s: the router has the VIP at %x, %v", c.name, mac, known)
		}
		f, found := s.inner.Found(RefusedARP)
		if found != (c.why != "") || !strings.Contains(f.What, c.why) {
			t.Errorf("%s: %v, want %q", c.name, s.inner.Findings(), c.why)
		}
	}
}

// What was entered by hand stays, whoever says otherwise.
func TestStaticARPStays(t *testing.T) {
	s := newCampus(t, 1, clusterMAC(), func(o *RouterOptions) { o.Static = map[netip.Addr]MAC{theVIP(): clusterMAC()} })
	a := arpPacket{operation: arpReply, senderMAC: nodeMAC(1), sender: theVIP(), targetMAC: MAC{2, 0, 0, 0, 9, 2}, target: netip.MustParseAddr("10.77.0.1")}
	s.server.port.Send(a.frame(broadcast(), nodeMAC(1)))
	s.w.Run(time.Second)
	if mac, _ := s.r.MACOf(theVIP()); mac != clusterMAC() {
		t.Errorf("the router has the VIP at %x", mac)
	}
}

// A packet loses a hop on its way, keeps its bytes, and comes from the router's MAC.
func TestForwarding(t *testing.T) {
	s := newCampus(t, 1, clusterMAC(), nil)
	var seen []byte
	s.inner.Tap = func(from *Port, f []byte) {
		if _, dst, _, _, ok := parseIPv4(f); ok && dst == theVIP() {
			seen = append([]byte(nil), f...)
		}
	}
	s.clients[0].Ping(3)
	s.w.Run(time.Second)
	if len(seen) == 0 || MAC(seen) != clusterMAC() || MAC(seen[6:]) != (MAC{2, 0, 0, 0, 9, 2}) || seen[MinFrame+8] != 63 {
		t.Fatalf("the VIP got % x", seen)
	}
	send := func(hops byte, dst string, to MAC) {
		f := echoFrame(to, MAC{2, 0, 0, 0, 8, 0}, netip.MustParseAddr("192.0.2.50"), netip.MustParseAddr(dst), echoRequest, 1, 1, nil)
		f[MinFrame+8] = hops
		setIPSum(f[MinFrame:])
		s.clients[0].Port().Send(f)
		s.w.Run(s.w.Now() + 10*time.Second)
	}
	router := MAC{2, 0, 0, 0, 9, 1}
	before := s.server.pings
	send(1, "10.77.0.2", router)
	send(0, "10.77.0.2", router)
	send(64, "203.0.113.1", router)
	send(64, "10.77.0.99", router)
	send(64, "10.77.0.2", broadcast())
	send(64, "10.77.0.2", MAC{1, 0, 0x5e, 1, 2, 3})
	send(64, "192.0.2.1", router)
	send(64, "10.77.0.1", router)
	got := s.r.Counts
	want := RouterCounts{Forwarded: got.Forwarded, NoHops: 2, NoRoute: 1, Unreachable: 1, GroupFrames: 2, Echoes: 2}
	if got != want || s.server.pings != before {
		t.Errorf("counts %+v, want %+v; %d pings", got, want, s.server.pings-before)
	}
}

// An answer is believed for ARPLife; then the router asks again.
func TestARPLife(t *testing.T) {
	s := newCampus(t, 1, clusterMAC(), func(o *RouterOptions) { o.ARPLife = time.Minute })
	asks := 0
	s.inner.Tap = func(from *Port, f []byte) {
		if a, ok := parseARP(f); ok && a.operation == arpRequest {
			asks++
		}
	}
	for range 40 {
		s.clients[0].Ping(0)
		s.w.Run(s.w.Now() + 5*time.Second)
	}
	if asks != 4 || s.server.pings != 40 {
		t.Errorf("%d requests and %d pings in 200 s, want 4 and 40", asks, s.server.pings)
	}
}

func TestNeighboursAreBounded(t *testing.T) {
	w := New(1)
	l := w.NewHub()
	r, err := NewRouter(RouterOptions{Name: "r", Legs: []Leg{{LAN: l, MAC: MAC{2}, Address: netip.MustParsePrefix("10.0.0.1/8")}},
		Static: map[netip.Addr]MAC{netip.MustParseAddr("10.9.9.9"): {2, 1}}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range MaxNeighbours + 10 {
		r.legs[0].neighbour(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
	}
	if got := len(r.legs[0].neighbours); got != MaxNeighbours {
		t.Errorf("%d neighbours, want %d", got, MaxNeighbours)
	}
	if mac, _ := r.MACOf(netip.MustParseAddr("10.9.9.9")); mac != (MAC{2, 1}) {
		t.Error("an entry by hand made room for others")
	}
}

// Two routers hear each other's frames to the cluster MAC. If they route those, a
// packet goes to and fro until its hops are used up; the VIP gets it each time.
func TestTwoRoutersThatRouteGroupFrames(t *testing.T) {
	for routes, want := range map[bool]int{false: 1, true: 63} {
		s := newCampus(t, 1, clusterMAC(), func(o *RouterOptions) { o.ForwardsGroupFrames = routes })
		o := routerOptions(s.inner, s.outside)
		o.Name, o.ForwardsGroupFrames = "r2", routes
		for i := range o.Legs {
			o.Legs[i].MAC[4] = 10
		}
		o.Legs[0].Address, o.Legs[1].Address = netip.MustParsePrefix("192.0.2.3/24"), netip.MustParsePrefix("10.77.0.3/24")
		if _, err := NewRouter(o); err != nil {
			t.Fatal(err)
		}
		s.clients[0].Ping(0)
		s.w.Run(10 * time.Second)
		if s.server.pings != want {
			t.Errorf("routing group frames %v: the VIP got the ping %d times, want %d", routes, s.server.pings, want)
		}
		if _, found := s.inner.Found(RoutedInCircles); found != routes {
			t.Errorf("routing group frames %v: findings %v", routes, s.inner.Findings())
		}
	}
}

// Clients behind a masked address are one client with many flows; each gets its own
// answers.
func TestMaskedClients(t *testing.T) {
	s := newCampus(t, 20, clusterMAC(), func(o *RouterOptions) { o.Legs[1].Masquerade = true })
	var conns []*Conn
	var pings []*Ping
	for _, c := range s.clients {
		n := c.Open(4000, 22) // all from one port
		n.Write(2000)
		conns = append(conns, n)
	}
	s.w.Run(30 * time.Second)
	for _, c := range s.clients {
		pings = append(pings, c.Ping(5))
	}
	for i, n := range conns {
		n.Write(2000)
		s.w.Run(s.w.Now() + 10*time.Second)
		if n.State != Established || n.Received != 4000 || len(pings[i].Answers) != 1 {
			t.Errorf("client %d: %v, %d bytes back, %d answers to its ping", i, n.State, n.Received, len(pings[i].Answers))
		}
	}
	ports := map[uint16]bool{}
	for from := range s.server.flows {
		if from.Addr() != netip.MustParseAddr("10.77.0.1") {
			t.Errorf("a flow from %v", from)
		}
		ports[from.Port()] = true
	}
	if len(ports) != 20 || !ports[4000] {
		t.Errorf("%d ports, one of them 4000: %v", len(ports), ports[4000])
	}
	if s.r.Counts.Untranslated != 0 {
		t.Errorf("counts %+v", s.r.Counts)
	}
}

func TestTranslationsAreBounded(t *testing.T) {
	tr := newTranslator(theVIP())
	from := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 5000)
	}
	for i := range MaxTranslations {
		if tr.enter(natKey{protoTCP, from(i)}, 0) == nil {
			t.Fatalf("no room for entry %d", i)
		}
	}
	if tr.enter(natKey{protoTCP, from(MaxTranslations)}, time.Hour) != nil {
		t.Error("an entry too many")
	}
	if tr.enter(natKey{protoUDP, from(0)}, 0) == nil {
		t.Error("another protocol has no ports")
	}
	if e := tr.enter(natKey{protoTCP, from(MaxTranslations)}, translationIdleTCP); e == nil || len(tr.back4) != MaxTranslations+1 {
		t.Error("an entry that was long unused was not given away")
	}
}

func TestImpossibleRouters(t *testing.T) {
	for want, change := range map[string]func(*RouterOptions){
		"a router needs a name":                func(o *RouterOptions) { o.Name = "" },
		"it has 1 to 8 legs, not 0":            func(o *RouterOptions) { o.Legs = nil },
		"a leg needs a LAN":                    func(o *RouterOptions) { o.Legs[0].LAN = nil },
		"a leg needs an IPv4 address":          func(o *RouterOptions) { o.Legs[0].Address = netip.Prefix{} },
		"that of a single station, not 01:":    func(o *RouterOptions) { o.Legs[0].MAC = clusterMAC() },
		"two legs are on one LAN":              func(o *RouterOptions) { o.Legs[0].LAN = o.Legs[1].LAN },
		"overlap":                              func(o *RouterOptions) { o.Legs[0].Address = netip.MustParsePrefix("10.0.0.1/8") },
		"is in no subnet of its legs":          func(o *RouterOptions) { o.Static = map[netip.Addr]MAC{netip.MustParseAddr("1.1.1.1"): {2}} },
		"for more than no time":                func(o *RouterOptions) { o.ARPLife = -1 },
		`no switch "s9"`:                       func(o *RouterOptions) { o.Legs[0].Switch = "s9" },
		"r1 has the address 10.77.0.1 on this": func(o *RouterOptions) { o.Name = "r2"; o.Legs = o.Legs[1:]; o.Legs[0].MAC = MAC{2, 2} },
		"r1 has the MAC 02:00:00:00:09:02": func(o *RouterOptions) {
			o.Name = "r2"
			o.Legs = o.Legs[1:]
			o.Legs[0].Address = netip.MustParsePrefix("10.77.0.9/24")
		},
		"a VRRP group has a number from 1":      group1(Redundancy{Address: netip.MustParseAddr("10.77.0.254")}),
		"is not in the leg's subnet":            group1(Redundancy{Number: 1, Address: netip.MustParseAddr("10.78.0.254")}),
		"is the leg's own":                      group1(Redundancy{Number: 1, Address: netip.MustParseAddr("10.77.0.1")}),
		"priority is from 1 to 254, not 255":    group1(Redundancy{Number: 1, Address: netip.MustParseAddr("10.77.0.254"), Priority: 255}),
		"speaks every 10ms to 40s, not every -": group1(Redundancy{Number: 1, Address: netip.MustParseAddr("10.77.0.254"), Advertise: -1}),
		"by protocol 9":                         group1(Redundancy{Protocol: 9, Number: 1, Address: netip.MustParseAddr("10.77.0.254")}),
	} {
		w := New(1)
		inner, outside := w.NewHub(), w.NewHub()
		if strings.HasPrefix(want, "r1 has") {
			if _, err := NewRouter(routerOptions(inner, outside)); err != nil {
				t.Fatal(err)
			}
		}
		o := routerOptions(inner, outside)
		change(&o)
		if _, err := NewRouter(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func group1(g Redundancy) func(*RouterOptions) {
	return func(o *RouterOptions) { o.Legs[1].Group = &g }
}

func TestImpossibleClients(t *testing.T) {
	good := ClientOptions{Name: "c", MAC: clientMAC(), IP: theClient(), VIP: theVIP()}
	for want, change := range map[string]func(*ClientOptions){
		"it needs IPv4 addresses":               func(o *ClientOptions) { o.IP = netip.MustParseAddr("::1") },
		"its address is the VIP's own":          func(o *ClientOptions) { o.IP = theVIP() },
		"that of a single station, not 01:00":   func(o *ClientOptions) { o.MAC = clusterMAC() },
		"its gateway has an IPv4 address":       func(o *ClientOptions) { o.Gateway = netip.MustParseAddr("::1") },
		"it cannot be its own gateway":          func(o *ClientOptions) { o.Gateway = o.IP },
		"first has the address 10.77.0.50 on t": func(o *ClientOptions) { o.MAC = MAC{2, 9} },
		"first has the MAC 02:00:00:00:00:50 o": func(o *ClientOptions) { o.IP = netip.MustParseAddr("10.77.0.51") },
	} {
		l := New(1).NewHub()
		first := good
		first.Name = "first"
		if strings.HasPrefix(want, "first") {
			if _, err := l.AddClient("", first); err != nil {
				t.Fatal(err)
			}
		}
		o := good
		change(&o)
		if _, err := l.AddClient("", o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
