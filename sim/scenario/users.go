package scenario

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"onevoice/sim"
	"onevoice/stack/virtual"
)

// Use is what users do. Zero fields have defaults.
type Use struct {
	// Every is the mean time between two connections of one user: 2 s.
	Every time.Duration
	// Open is how many connections a user has at once at most: 4.
	Open int
	// Bytes is the most that an exchange is about, half of it the mean: 64 KiB.
	Bytes int
	// Talk is for how long some of them last at most, as sessions do in which a
	// little is said now and then: 10 s.
	Talk time.Duration
}

func (u Use) withDefaults() Use {
	if u.Every == 0 {
		u.Every = 2 * time.Second
	}
	if u.Open == 0 {
		u.Open = 4
	}
	if u.Bytes == 0 {
		u.Bytes = 64 << 10
	}
	if u.Talk == 0 {
		u.Talk = 10 * time.Second
	}
	return u
}

// Bounds of users.
const (
	// MaxUsers is how many addresses the LAN has for them.
	MaxUsers = 60_000
	// usersFrom is when the first of them come.
	usersFrom = 2 * time.Second
	// talkEvery is how often something is said in a session, and wordBytes at most
	// how much.
	talkEvery = 250 * time.Millisecond
	wordBytes = 2000
)

// users are the clients with a whole TCP. They share a clock of netstack's.
type users struct {
	c     *Cluster
	use   Use
	clock *virtual.Clock
	all   []*user
	alarm sim.Timer
	rings time.Duration
	// Exchanges are all that were begun.
	exchanges []*Exchange
	judge     *watch

	mu    sync.Mutex
	ready []*user // in which something has happened
}

// user is one of them.
type user struct {
	*sim.Client
	us     *users
	index  int
	tcp    *virtual.Client
	queued bool // in ready
	open   []*session
}

// addUsers plugs users in, and lets them come and go.
func (c *Cluster) addUsers() {
	if c.o.Users == 0 {
		return
	}
	if c.o.Users > MaxUsers {
		panic("scenario: more than MaxUsers")
	}
	us := &users{c: c, use: c.o.Use.withDefaults(), clock: &virtual.Clock{}}
	c.users = us
	for i := range c.o.Users {
		us.all = append(us.all, us.newUser(i))
	}
	us.judge = newWatch(c)
	for _, u := range us.all {
		c.World.After(usersFrom+c.between(0, us.use.Every), func() { u.comeAndGo() })
	}
}

// between draws a time.
func (c *Cluster) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(c.World.Rand().Int64N(int64(hi-lo)))
}

func (us *users) newUser(i int) *user {
	c := us.c
	u := &user{us: us, index: i}
	// Users have the addresses 10.77.1.0 and up: nodes and stations lie below.
	ip := netip.AddrFrom4([4]byte{10, 77, byte(1 + i/256), byte(i)})
	u.Client = sim.NewClient(c.LANs[0], sim.ClientOptions{
		Name: fmt.Sprintf("u%d", i+1), MAC: sim.MAC{2, 0, 0, 2, byte(i / 256), byte(i)}, IP: ip, VIP: VIP(),
	})
	port := u.Port()
	port.Up = sim.Link{DelayMin: 20 * time.Microsecond, DelayMax: 100 * time.Microsecond, Loss: c.o.Loss, Dup: c.o.Dup, Reorder: c.o.Reorder, HoldBack: 5 * time.Millisecond}
	port.Down = port.Up
	tcp, err := virtual.NewClient(virtual.ClientConfig{
		Address: ip, MTU: mtu, Clock: us.clock, Random: virtual.NewRandom(c.World.Rand().Uint64()),
		Woken: func() { us.note(u) },
	})
	if err != nil {
		panic(fmt.Sprintf("scenario: %v", err)) // a mistake of ours
	}
	u.tcp = tcp
	u.Client.TCP = u.segment
	return u
}

// note remembers that something has happened to a user; from any goroutine.
func (us *users) note(u *user) {
	us.mu.Lock()
	defer us.mu.Unlock()
	if !u.queued {
		u.queued = true
		us.ready = append(us.ready, u)
	}
}

// take empties ready, in the order of the users.
func (us *users) take() []*user {
	us.mu.Lock()
	defer us.mu.Unlock()
	out := us.ready
	us.ready = nil
	for _, u := range out {
		u.queued = false
	}
	slices.SortFunc(out, func(a, b *user) int { return a.index - b.index })
	return out
}

// segment is one that came for a user.
func (u *user) segment(frame []byte) {
	const synACK = 0x12
	if flags, port := frame[47], binary.BigEndian.Uint16(frame[36:]); flags&0x3f == synACK {
		for _, s := range u.open {
			if s.x.Port == port && s.x.Connected == 0 {
				s.x.By = sim.MAC(frame[6:])
			}
		}
	}
	u.tcp.Deliver(frame[sim.MinFrame:])
	u.us.wakeIn(0)
}

// wakeIn makes the users' TCPs run after d at the latest.
func (us *users) wakeIn(d time.Duration) {
	at := us.c.World.Now() + d
	if us.alarm.Pending() && us.rings <= at {
		return
	}
	us.alarm.Stop()
	us.rings = at
	us.alarm = us.c.World.At(at, us.turn)
}

// turn does what is due: netstack's timers, what users have to do, what they send.
func (us *users) turn() {
	settle := us.c.virtual.Settle
	us.clock.Advance(us.c.World.Now(), settle)
	for {
		settle()
		ready := us.take()
		if len(ready) == 0 {
			break
		}
		for _, u := range ready {
			for _, s := range slices.Clone(u.open) {
				s.step()
			}
			for p := u.tcp.Take(); p != nil; p = u.tcp.Take() {
				u.SendPacket(p)
			}
		}
	}
	us.alarm.Stop()
	if at, ok := us.clock.Next(); ok {
		us.wakeIn(at - us.c.World.Now())
	}
}

// comeAndGo opens connections now and then.
func (u *user) comeAndGo() {
	if u.us.c.quiet {
		return
	}
	if len(u.open) < u.us.use.Open {
		u.begin()
	}
	u.us.c.World.After(time.Duration(u.us.c.World.Rand().ExpFloat64()*float64(u.us.use.Every)), u.comeAndGo)
}

// heard is the backend's word on a user's direction that has ended.
func (us *users) heard(p progress, err error) {
	if us == nil {
		return
	}
	if err == nil && p.id >= uint32(len(us.exchanges)) {
		err = fmt.Errorf("the backend got exchange %d, which nobody has begun", p.id)
	}
	if err != nil {
		us.c.breach("%v", err)
	}
}

func (us *users) close() {
	us.alarm.Stop()
	for _, u := range us.all {
		u.tcp.Close()
	}
}
