package sim

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Bounds of what a client does by itself.
const (
	MaxOpen         = 4096      // connections of one client at once
	MaxFloodRate    = 100_000   // SYNs a second of one client
	MaxFloodSYNs    = 1_000_000 // of one flood
	MaxTransfer     = 1 << 30   // bytes of one connection
	firstHabitPort  = 10000
	lastHabitPort   = 60999
	defaultMaxOpen  = 32
	floodBurst      = 10 * time.Millisecond // SYNs go out in bursts this far apart, at most
	firstFloodPort  = 1024
	floodPortsCount = 64512
)

// Habit is what a client does over and over, all at random times with the means
// that are given; 0 leaves a thing out.
type Habit struct {
	Service uint16 // the VIP's port
	// OpenEvery is the time between connections, Hold how long one stays open.
	OpenEvery, Hold time.Duration
	// Transfer is how many bytes go at once when a connection is open; SayBytes go
	// every SayEvery while it is.
	Transfer, SayBytes int
	SayEvery           time.Duration
	// ResetPercent of the connections end by a reset, VanishPercent by the host's
	// sudden end, the others by a FIN. Both are out of 100.
	ResetPercent, VanishPercent int
	// MaxOpen bounds the connections at once; 0 means 32.
	MaxOpen int
	// PingEvery and AskEvery are the times between echo requests and between ARP
	// requests.
	PingEvery, AskEvery time.Duration
	// Opened, if set, is called with each new connection.
	Opened func(*Conn)
}

// Life is a client that follows a habit.
type Life struct {
	// Opened counts its connections, Ended those that have come to each end.
	Opened uint64
	Ended  map[State]uint64
	// Skipped counts connections that were not opened because MaxOpen were.
	Skipped uint64

	c       *Client
	h       Habit
	open    int
	port    uint16
	stopped bool
}

func (h *Habit) check() error {
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"opens every", h.OpenEvery}, {"holds for", h.Hold}, {"says something every", h.SayEvery}, {"pings every", h.PingEvery}, {"asks every", h.AskEvery}} {
		if d.d < 0 {
			return fmt.Errorf("a client that %s %v: write a time above 0, or leave it out", d.name, d.d)
		}
	}
	switch {
	case h.OpenEvery > 0 && h.Service == 0:
		return errors.New("a client that opens connections needs the service's port")
	case h.ResetPercent < 0 || h.VanishPercent < 0 || h.ResetPercent+h.VanishPercent > 100:
		return fmt.Errorf("%d%% resets and %d%% sudden ends are not shares of 100%%", h.ResetPercent, h.VanishPercent)
	case h.MaxOpen < 0 || h.MaxOpen > MaxOpen:
		return fmt.Errorf("a client has 1 to %d connections at once, not %d", MaxOpen, h.MaxOpen)
	case h.Transfer < 0 || h.Transfer > MaxTransfer || h.SayBytes < 0 || h.SayBytes > MaxTransfer:
		return fmt.Errorf("a transfer is of 1 to %d bytes", MaxTransfer)
	}
	return nil
}

// Live lets the client follow a habit from now on, until Stop.
func (c *Client) Live(h Habit) (*Life, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("client %s: %w", c.Name, err)
	}
	if h.MaxOpen == 0 {
		h.MaxOpen = defaultMaxOpen
	}
	l := &Life{Ended: map[State]uint64{}, c: c, h: h, port: firstHabitPort}
	l.every(h.OpenEvery, l.openOne)
	l.every(h.PingEvery, func() { c.Ping(56) })
	l.every(h.AskEvery, c.Ask)
	return l, nil
}

// Stop lets it begin nothing new. What is open lives on to its end.
func (l *Life) Stop() { l.stopped = true }

// every does something at random times with this mean.
func (l *Life) every(mean time.Duration, do func()) {
	if mean == 0 {
		return
	}
	var again func()
	again = func() {
		if !l.stopped {
			do()
			l.c.w.After(l.random(mean), again)
		}
	}
	l.c.w.After(l.random(mean), again)
}

func (l *Life) random(mean time.Duration) time.Duration {
	return time.Duration(l.c.w.rng.ExpFloat64() * float64(mean))
}

// freePort is the next port without a connection that lives.
func (l *Life) freePort() uint16 {
	for {
		p := l.port
		if l.port++; l.port > lastHabitPort {
			l.port = firstHabitPort
		}
		if old := l.c.Conn(p, l.h.Service); old == nil || old.State.Over() {
			return p
		}
	}
}

func (l *Life) openOne() {
	if l.open >= l.h.MaxOpen {
		l.Skipped++
		return
	}
	l.open++
	l.Opened++
	n := l.c.Open(l.freePort(), l.h.Service)
	over := false
	n.Changed = func() {
		switch {
		case n.State == Established && n.Received == 0:
			l.begin(n)
		case n.State.Over() && !over:
			over = true
			l.open--
			l.Ended[n.State]++
		}
	}
	if l.h.Opened != nil {
		l.h.Opened(n)
	}
}

// begin is a connection's life once it is established.
func (l *Life) begin(n *Conn) {
	if l.h.Transfer > 0 {
		n.Write(l.h.Transfer)
	}
	if l.h.SayEvery > 0 && l.h.SayBytes > 0 {
		n.Chat(l.h.SayEvery, l.h.SayBytes)
	}
	if l.h.Hold > 0 {
		l.c.w.After(l.random(l.h.Hold), func() { l.finish(n) })
	}
}

func (l *Life) finish(n *Conn) {
	switch p := l.c.w.rng.IntN(100); {
	case n.State.Over():
	case p < l.h.ResetPercent:
		n.Abort()
	case p < l.h.ResetPercent+l.h.VanishPercent:
		n.Vanish()
	default:
		n.Close()
	}
}

// Flood is many SYNs that nobody follows up.
type Flood struct {
	Service   uint16
	PerSecond int
	For       time.Duration
	// From are the addresses that the SYNs claim to come from; the zero Prefix
	// means the client's own.
	From netip.Prefix
}

// Flood sends SYNs for a time, from random ports. Their number is bounded.
func (c *Client) Flood(f Flood) error {
	switch {
	case f.Service == 0:
		return fmt.Errorf("client %s: a flood needs the service's port", c.Name)
	case f.PerSecond < 1 || f.PerSecond > MaxFloodRate:
		return fmt.Errorf("client %s: a flood is of 1 to %d SYNs a second, not %d", c.Name, MaxFloodRate, f.PerSecond)
	case f.For <= 0 || f.For.Seconds()*float64(f.PerSecond) > MaxFloodSYNs:
		return fmt.Errorf("client %s: a flood has at most %d SYNs; %d a second for %v are more, or none", c.Name, MaxFloodSYNs, f.PerSecond, f.For)
	case f.From.IsValid() && !f.From.Addr().Is4():
		return fmt.Errorf("client %s: a flood comes from IPv4 addresses, not from %v", c.Name, f.From)
	}
	fl := &flood{c: c, Flood: f, began: c.w.now}
	fl.burst()
	return nil
}

// flood is one on its way.
type flood struct {
	Flood
	c     *Client
	began time.Duration
	sent  int
}

// burst sends what is due.
func (f *flood) burst() {
	w := f.c.w
	passed := min(w.now-f.began, f.For)
	for due := int(passed.Seconds()*float64(f.PerSecond) + 0.5); f.sent < due; f.sent++ {
		s := Segment{FromMAC: f.c.MAC, From: netip.AddrPortFrom(f.source(), uint16(firstFloodPort+w.rng.IntN(floodPortsCount))),
			To: netip.AddrPortFrom(f.c.VIP, f.Service), Flags: SYN, Seq: w.rng.Uint32(), Window: clientWnd, MSS: clientMSS}
		f.c.toVIP(s.Frame())
	}
	if passed < f.For {
		w.After(min(max(floodBurst, time.Second/time.Duration(f.PerSecond)), f.For-passed), f.burst)
	}
}

// source is a random address of those that the flood claims.
func (f *flood) source() netip.Addr {
	if !f.From.IsValid() {
		return f.c.IP
	}
	b, bits := f.From.Masked().Addr().As4(), f.From.Bits()
	r := f.c.w.rng.Uint32()
	if bits > 0 {
		r &= 1<<(32-bits) - 1
	}
	for i := range b {
		b[i] |= byte(r >> (24 - 8*i))
	}
	return netip.AddrFrom4(b)
}
