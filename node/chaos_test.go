package node

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"onevoice/hashing"
	"onevoice/node/model"
)

// chaos is some gates, each before a TCP that resets whatever it does not know,
// on a LAN that loses, delays and doubles frames, while buckets move and clients
// come back from the same ports. The table is right at all times, and a move
// releases before it begins; what is on trial is the gate.
type chaos struct {
	t       *testing.T
	seed    uint64
	rand    *rand.Rand
	now     time.Duration
	events  events
	hosts   []*chaosHost
	clients []*chaosClient
	// owner is who accepts in a bucket, -1 while a move is under way.
	owner [hashing.Buckets]int
	// drains are the drainers of a bucket.
	drains [hashing.Buckets][]int
	faulty bool
	// dying: a host is on its way out or back.
	dying  bool
	failed bool
	// synacks are the sequence numbers with which a SYN was answered.
	synacks map[string]synack
	moved   [hashing.Buckets]time.Duration
}

type synack struct {
	host int
	seq  uint32
	at   time.Duration
}

type chaosHost struct {
	*Node
	tcp  *model.TCP
	rows Rows
	gen  uint64
	// leaseEnd is Forever but while the host dies.
	leaseEnd time.Duration
	// down: it does nothing, and what comes in waits. orphaned: its flows were
	// given up. back: it came back before that.
	down, orphaned, back bool
	waiting              [][]byte
}

type event struct {
	at time.Duration
	n  int
	fn func()
}

type events struct {
	list []event
	n    int
}

func (e *events) Len() int { return len(e.list) }
func (e *events) Less(i, j int) bool {
	a, b := &e.list[i], &e.list[j]
	return a.at < b.at || a.at == b.at && a.n < b.n
}
func (e *events) Swap(i, j int) { e.list[i], e.list[j] = e.list[j], e.list[i] }
func (e *events) Push(x any)    { e.list = append(e.list, x.(event)) }
func (e *events) Pop() any {
	last := e.list[len(e.list)-1]
	e.list = e.list[:len(e.list)-1]
	return last
}

func (c *chaos) after(d time.Duration, fn func()) {
	c.events.n++
	heap.Push(&c.events, event{c.now + d, c.events.n, fn})
}

func (c *chaos) run(until time.Duration) {
	for len(c.events.list) > 0 && c.events.list[0].at <= until && !c.failed {
		e := heap.Pop(&c.events).(event)
		c.now = e.at
		e.fn()
	}
	c.now = until
}

func (c *chaos) fail(format string, args ...any) {
	c.failed = true
	c.t.Errorf("seed %d at %v: %s", c.seed, c.now, fmt.Sprintf(format, args...))
}

func newChaos(t *testing.T, seed uint64, hosts, clients int) *chaos {
	c := &chaos{t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 1)), now: time.Hour, synacks: map[string]synack{}, faulty: true}
	for range hosts {
		h := &chaosHost{}
		c.boot(h)
		c.hosts = append(c.hosts, h)
	}
	for b := range c.owner {
		c.owner[b] = c.rand.IntN(hosts)
		c.hosts[c.owner[b]].rows.Accept.Set(uint8(b))
	}
	for i := range c.hosts {
		c.publish(i)
		c.every(MaxIdle, func() { c.turn(i) })
	}
	for i := range clients {
		// Few ports, so that tuples come back.
		cl := &chaosClient{c: c, addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, 0, byte(100 + i%8)}), uint16(2000+i))}
		c.clients = append(c.clients, cl)
		c.after(c.span(0, time.Second), cl.begin)
	}
	c.every(40*time.Millisecond, c.move)
	c.every(100*time.Millisecond, c.lists)
	c.every(100*time.Millisecond, c.die)
	return c
}

func (c *chaos) turn(i int) {
	if h := c.hosts[i]; !h.down {
		h.Tick(c.now)
		h.tcp.Tick(c.now)
		c.flush(i)
	}
}

func (c *chaos) every(d time.Duration, fn func()) {
	c.after(d, func() { fn(); c.every(d, fn) })
}

func (c *chaos) span(from, to time.Duration) time.Duration {
	return from + time.Duration(c.rand.Int64N(int64(to-from)))
}

// publish puts a host's rows in force.
func (c *chaos) publish(i int) {
	h := c.hosts[i]
	h.gen++
	rows := []Rows{h.rows}
	if err := h.SetOwnership(&Ownership{Generation: h.gen, VIPs: rows, Services: rows, LeaseEnd: h.leaseEnd}); err != nil {
		c.t.Fatal(err)
	}
}

func clearBit(b *Bitmap, bucket int) { b[bucket/64] &^= 1 << (bucket % 64) }

// move gives a bucket with clients to another host: release, then begin.
func (c *chaos) move() {
	flow := hashing.Flow{Src: c.clients[c.rand.IntN(len(c.clients))].addr.Addr()}
	b := int(c.hosts[0].hasher.Bucket(hashing.SourceIP, &flow))
	from, to := c.owner[b], c.rand.IntN(len(c.hosts))
	if !c.faulty || c.dying || c.rand.IntN(20) > 0 || from < 0 || from == to {
		return
	}
	old, next := c.hosts[from], c.hosts[to]
	clearBit(&old.rows.Accept, b)
	clearBit(&old.rows.Shared, b)
	old.rows.Draining.Set(uint8(b))
	c.owner[b] = -1
	c.moved[b] = c.now
	if !slices.Contains(c.drains[b], from) {
		c.drains[b] = append(c.drains[b], from)
	}
	c.publish(from)
	c.after(c.span(0, 20*time.Millisecond), func() {
		// Its own old flows make the next owner no drainer of its own bucket.
		c.drains[b] = slices.DeleteFunc(c.drains[b], func(d int) bool { return d == to })
		clearBit(&next.rows.Draining, b)
		next.rows.Accept.Set(uint8(b))
		if len(c.drains[b]) > 0 {
			next.rows.Shared.Set(uint8(b))
		}
		c.owner[b] = to
		c.publish(to)
	})
}

// lists tells owners what drainers hold, and lets go of drainers that hold
// nothing.
func (c *chaos) lists() {
	if c.dying {
		return
	}
	for b := range c.drains {
		owner := c.owner[b]
		if owner < 0 || len(c.drains[b]) == 0 {
			continue
		}
		complete, hashes := true, []uint64(nil)
		c.drains[b] = slices.DeleteFunc(c.drains[b], func(d int) bool {
			wanted := bit(uint8(b))
			held := c.hosts[d].Held(c.now, 0, &wanted)
			if len(held) == 0 {
				clearBit(&c.hosts[d].rows.Draining, b)
				c.publish(d)
				return true
			}
			complete = complete && !held[0].Overflow
			hashes = append(hashes, held[0].Hashes...)
			return false
		})
		c.hosts[owner].SetFlowLists(0, uint8(b), complete, hashes)
		if len(c.drains[b]) == 0 {
			clearBit(&c.hosts[owner].rows.Shared, b)
			c.publish(owner)
		}
	}
}

// delay is how long a frame takes, and whether it comes at all.
func (c *chaos) delay() (time.Duration, bool) {
	d := c.span(50*time.Microsecond, 2*time.Millisecond)
	if !c.faulty {
		return d, true
	}
	switch c.rand.IntN(20) {
	case 0:
		return 0, false
	case 1:
		return c.span(0, 1500*time.Millisecond), true
	}
	return d, true
}

// fromClient brings a client's segment to every host.
func (c *chaos) fromClient(s *model.Segment) {
	packet := model.Packet(s)
	for i := range c.hosts {
		for range 1 + c.rand.IntN(20)/19 { // some come twice
			if d, ok := c.delay(); ok {
				c.after(d, func() { c.deliver(i, packet) })
			}
		}
	}
}

func (c *chaos) deliver(i int, packet []byte) {
	h := c.hosts[i]
	if h.down {
		h.waiting = append(h.waiting, packet)
		return
	}
	got := h.Handle(c.now, frame(etherTypeIPv4, packet))
	if got.Reply != nil {
		c.toClient(i, slices.Clone(got.Reply[ethernetBytes:]))
	}
	if got.Packet != nil {
		h.tcp.Deliver(c.now, got.Packet)
	}
	c.flush(i)
}

// flush sends what a TCP has made and its gate lets out.
func (c *chaos) flush(i int) {
	for _, p := range c.hosts[i].tcp.Take() {
		if c.hosts[i].MayLeave(c.now, p) == Undecided {
			c.toClient(i, p)
		}
	}
}

func (c *chaos) toClient(i int, packet []byte) {
	s := model.Parse(packet)
	if s.Flags&(flagSYN|flagACK) == flagSYN|flagACK {
		c.judgeSYNACK(i, &s)
	}
	for _, cl := range c.clients {
		if cl.addr != s.Dst {
			continue
		}
		if d, ok := c.delay(); ok {
			c.after(d, func() { cl.receive(i, s) })
		}
	}
}

// judgeSYNACK: only the owner accepts, and it answers a SYN and its repetitions
// with one number.
func (c *chaos) judgeSYNACK(i int, s *model.Segment) {
	flow := hashing.Flow{Src: s.Dst.Addr()}
	b := c.hosts[0].hasher.Bucket(hashing.SourceIP, &flow)
	if c.owner[b] != i {
		c.fail("host %d sends a SYN-ACK to %v; the owner is %d", i, s.Dst, c.owner[b])
	}
	// A SYN that comes late, after its flow has ended, begins another.
	if !slices.ContainsFunc(c.clients, func(cl *chaosClient) bool {
		return cl.addr == s.Dst && cl.state == clientConnecting && cl.isn == s.Ack-1
	}) {
		return
	}
	name := fmt.Sprint(s.Dst, s.Ack)
	was, again := c.synacks[name]
	cookies := c.hosts[i].tcp.Backlog == 1 // they have numbers of their own
	if again && was.host == i && was.seq != s.Seq && c.moved[b] < was.at && !cookies {
		c.fail("host %d answers the SYN of %v with %d and with %d", i, s.Dst, was.seq, s.Seq)
	}
	c.synacks[name] = synack{i, s.Seq, c.now}
}
