package cluster

import (
	"errors"
	"net/netip"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Event is something that a core is told.
type Event interface{ happen(c *Core) }

// Heard is a heartbeat that came in on a path, authenticated.
type Heard struct {
	Path int
	Data []byte
}

// Received is a datagram, authenticated. Blank tells that it came under the
// all-zero UUID.
type Received struct {
	From  netip.Addr
	Blank bool
	Data  []byte
}

// Wrote says that a Write is durable, or that it failed.
type Wrote struct {
	Seq uint64
	Err error
}

// Report is what this host's workers say: the generation of rights that all of
// them have written back at the end of a batch, its frames sent; and, by
// service, in which buckets flows, half-open ones or the cookies of the last
// minute may be held, as found under the generation Looked, 0 for not yet.
type Report struct {
	Written, Looked uint64
	Holding         [][4]uint64
	// Others: workers of an earlier file may hold flows of services that Options do
	// not have.
	Others bool
}

// Beat tells what was heard on a path besides heartbeats: client frames so far,
// and whether the gateway answers.
type Beat struct {
	Path    int
	Clients uint64
	Gateway bool
	// Alarm: a client acknowledged what was never sent.
	Alarm bool
}

// Checked is the outcome of a service's health check that has changed.
type Checked struct {
	Service string
	Up      bool
}

// Loaded is how much of its weight this host can take, by its own load, 0 to 100.
type Loaded struct{ Percent uint8 }

// Leave says that this host is about to stop: it gives its rows away, keeps its
// flows, and does not join again.
type Leave struct{}

// Ask is an operator's request. Its answer comes in Effects.Answers.
type Ask struct {
	Request uint64
	Wish    Wish
}

// message kinds of datagrams.
const (
	messageRaft    = 'r'
	messageBeat    = 'b' // a heartbeat between a node and a witness
	messageHello   = 'h' // a blank host looks for its cluster
	messageWelcome = 'w' // to a blank host that may join
	messagePassed  = 'p' // a hello that a member passes on to the leader
)

func (e Heard) happen(c *Core) {
	if c.table == nil || e.Path < 0 || e.Path >= len(c.o.Paths) {
		return
	}
	h, err := c.codec.heartbeat(e.Data)
	if errors.Is(err, ErrVersion) {
		c.tellOnce("version", true, "a node on the LAN is refused: %v; run the same release on all nodes", err)
	}
	if err != nil || h.Path != c.o.Paths[e.Path] {
		return
	}
	c.hear(h)
}

func (e Received) happen(c *Core) {
	if len(e.Data) < 2 {
		return
	}
	body := e.Data[1:]
	switch e.Data[0] {
	case messageRaft:
		c.stepRaft(body)
	case messageBeat:
		if h, err := c.codec.heartbeat(body); err == nil && h.Path == "" && c.offLAN(h.From) {
			c.hear(h)
		}
	case messagePassed:
		c.meetPassed(body)
	case messageHello, messageWelcome:
		if e.Blank {
			c.meet(e.From, e.Data[0], body)
		}
	}
}

// offLAN reports whether heartbeats of a member come off the LAN: only between a
// witness and a node do they. Any other that did would prove no path.
func (c *Core) offLAN(id uint64) bool {
	if c.table == nil {
		return false
	}
	h := c.table.host(id)
	return h != nil && h.Witness != (c.o.Role == Witness)
}

func (c *Core) stepRaft(body []byte) {
	m := &raftpb.Message{}
	if c.raft == nil || proto.Unmarshal(body, m) != nil || m.GetTo() != c.id || !c.acceptable(m) {
		return
	}
	c.raft.step(m)
	c.heardLeader(m)
}

func (e Wrote) happen(c *Core) {
	if e.Err != nil {
		c.fail(e.Err)
		return
	}
	c.wrote(e.Seq)
}

func (e Report) happen(c *Core) {
	c.outside.written, c.outside.looked, c.outside.others = e.Written, e.Looked, e.Others
	for i := range min(len(e.Holding), len(c.outside.holding)) {
		c.outside.holding[i] = e.Holding[i]
	}
	if c.raft == nil || c.table == nil || c.failed != nil {
		return
	}
	c.noteWritten()
	if me := c.table.host(c.id); me != nil {
		c.doRelease(me) // a move waits for it
	}
}

func (e Beat) happen(c *Core) {
	if e.Path >= 0 && e.Path < len(c.outside.clients) {
		c.outside.clients[e.Path] = e.Clients
	}
	c.outside.gateway, c.outside.alarm = e.Gateway, e.Alarm
}

func (e Checked) happen(c *Core) {
	for i := range c.outside.health {
		if c.outside.health[i].Service == e.Service {
			c.outside.health[i].Up = e.Up
			return
		}
	}
	c.outside.health = append(c.outside.health, Health(e))
}

func (e Loaded) happen(c *Core) { c.outside.percent = min(e.Percent, 100) }

func (e Leave) happen(c *Core) { c.outside.leaving = true }
