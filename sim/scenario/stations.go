package scenario

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"onevoice/sim"
)

// station is a client of the LAN and the connections that it opened.
type station struct {
	*sim.Client
	conns []*sim.Conn
	// closed is when it closed each.
	closed map[*sim.Conn]time.Duration
	// usedAgain are those whose port another has taken since.
	usedAgain map[*sim.Conn]bool
	strays    []*stray
}

// Bounds of stations.
const (
	maxConns   = 30 // at once, of a station
	newConn    = 150 * time.Millisecond
	sayEvery   = 300 * time.Millisecond
	connsLive  = 20 * time.Second
	usedAgain  = time.Second
	firstPort  = 20000
	pingEvery  = 700 * time.Millisecond
	patienceOf = 3*time.Second + 500*time.Millisecond
	// onTheWire is how long a SYN-ACK is on its way at most: its node may die meanwhile.
	onTheWire = time.Millisecond
)

// addStations plugs clients in, and lets them come and go.
func (c *Cluster) addStations() {
	for i := range c.o.Stations {
		s := &station{closed: map[*sim.Conn]time.Duration{}, usedAgain: map[*sim.Conn]bool{}, Client: sim.NewClient(c.LANs[0], sim.ClientOptions{
			Name: fmt.Sprintf("c%d", i+1), MAC: sim.MAC{2, 0, 0, 1, 0, byte(i)},
			IP: netip.AddrFrom4([4]byte{10, 77, 0, byte(100 + i)}), VIP: VIP(),
		})}
		c.stations = append(c.stations, s)
		c.World.After(2*time.Second, func() { c.comeAndGo(s); c.ping(s); c.straysOf(s) })
	}
	if c.o.Stations == 0 {
		return
	}
	c.LANs[0].Tap = func(from *sim.Port, frame []byte) {
		if sim.MAC(frame[6:12])[0]&1 != 0 {
			c.breach("%s sends a frame from the group address %x", from.Name, frame[6:12])
		}
	}
}

// comeAndGo opens connections, talks, and closes some.
func (c *Cluster) comeAndGo(s *station) {
	if c.quiet {
		return
	}
	r := c.World.Rand()
	c.World.After(time.Duration(r.ExpFloat64()*float64(newConn)), func() {
		open := 0
		for _, n := range s.conns {
			if !n.State.Over() {
				open++
			}
		}
		if open < maxConns {
			n := s.Open(c.portOf(s), servicePort)
			s.conns = append(s.conns, n)
			n.Chat(sayEvery, 20)
			c.World.After(time.Duration(r.Int64N(int64(connsLive))), func() {
				s.closed[n] = c.World.Now()
				n.Close()
			})
		}
		c.comeAndGo(s)
	})
}

// portOf is the port of a station's next connection. On the direct path it is often that
// of one that has ended a while ago, for the kernel may still have that one's TIME-WAIT.
func (c *Cluster) portOf(s *station) uint16 {
	fresh := uint16(firstPort + len(s.conns))
	if !c.o.Direct || c.World.Rand().IntN(3) == 0 {
		return fresh
	}
	for range 8 {
		if len(s.conns) == 0 {
			break
		}
		n := s.conns[c.World.Rand().IntN(len(s.conns))]
		now := s.Conn(n.Port, servicePort)
		ended := n.Ended > 0 && c.World.Now()-n.Ended > usedAgain && (n.State == sim.TimeWait || n.State == sim.Closed)
		if ended && (now == nil || now == n) && !s.usedAgain[n] {
			s.usedAgain[n] = true
			return n.Port
		}
	}
	return fresh
}

func (c *Cluster) ping(s *station) {
	if c.quiet {
		return
	}
	s.Ping(16)
	if c.World.Rand().IntN(4) == 0 {
		s.Ask()
	}
	c.World.After(pingEvery, func() { c.ping(s) })
}

// ownerOf is the host with a MAC.
func (c *Cluster) ownerOf(mac sim.MAC) *Host {
	for _, h := range c.Hosts {
		if sim.MAC(h.mac(0)) == mac {
			return h
		}
	}
	return nil
}

// judgeStations checks DESIGN.md's "What must hold", 2 to 5, by what the clients
// saw. It returns what must not be.
func (c *Cluster) judgeStations() (out []string) {
	out = c.judgeStrays()
	for _, s := range c.stations {
		// An answer counts for the last request, of which there may be two at once.
		answers := 0
		for i, a := range s.Asks {
			if answers += len(a.Answers); answers > i+1 {
				out = append(out, fmt.Sprintf("%s: %d answers to the first %d ARP requests", s.Name, answers, i+1))
				break
			}
		}
		for _, p := range s.Pings {
			if len(p.Answers) > 1 {
				out = append(out, fmt.Sprintf("%s: %d answers to an echo request", s.Name, len(p.Answers)))
			}
		}
		if s.Unwelcome > 0 {
			out = append(out, fmt.Sprintf("%s: %d broken frames", s.Name, s.Unwelcome))
		}
		for _, n := range s.conns {
			if why := c.judgeConn(s, n); why != "" {
				out = append(out, fmt.Sprintf("%s port %d, opened at %v, %v: %s", s.Name, n.Port, n.Opened, n.State, why))
			}
		}
	}
	return out
}

// judgeConn: one initial sequence number from each node; one node for a
// connection's life; a reset only when that node has died or was without a lease
// for too long since, or by itself for a connection that has ended there.
func (c *Cluster) judgeConn(s *station, n *sim.Conn) string {
	isns := map[sim.MAC]uint32{}
	for _, a := range n.SYNACKs {
		if isn, ok := isns[a.From]; ok && isn != a.ISN && !c.lostSince(c.ownerOf(a.From), n.Opened) {
			return fmt.Sprintf("%x answers its SYN with %d and %d", a.From, isn, a.ISN)
		}
		isns[a.From] = a.ISN
	}
	i := slices.IndexFunc(n.SYNACKs, func(a sim.SYNACK) bool { return a.Taken })
	if i < 0 {
		return ""
	}
	by := c.ownerOf(n.SYNACKs[i].From)
	lost := c.lostSince(by, n.Connected-onTheWire)
	for _, r := range n.Resets {
		closed, ok := s.closed[n]
		if r.Taken && !lost && !(ok && r.At > closed && r.From == n.SYNACKs[i].From) {
			return fmt.Sprintf("%s serves it and lives, and %x resets it at %v", by, r.From, r.At)
		}
	}
	for _, sp := range n.Speakers {
		// Who still has an old connection of the tuple says so to a SYN, which the client
		// answers with a reset (RFC 9293 3.10.7.3).
		may := n.ResetsSent + c.lateFINs(sp.MAC, netip.AddrPortFrom(s.IP, n.Port))
		if sp.MAC != n.SYNACKs[i].From && !lost && len(n.SYNACKs) == 1 && sp.Segments > may {
			return fmt.Sprintf("%s serves it and lives, and %x speaks", by, sp.MAC)
		}
	}
	return ""
}

// lateFINs is how often a host's kernel has answered a client from TIME-WAIT, which is no
// fault; see kernel.
func (c *Cluster) lateFINs(mac sim.MAC, client netip.AddrPort) uint64 {
	if h := c.ownerOf(mac); h != nil {
		return h.lateFINs[client]
	}
	return 0
}

// lostSince reports whether a host has lost the right to its flows since a time.
func (c *Cluster) lostSince(h *Host, t time.Duration) bool { return h == nil || h.lostAt >= t }
