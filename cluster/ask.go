package cluster

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Wish is what an operator asks for, on any node. Nodes are named by name,
// address or id.
type Wish interface {
	command(t *Table) (*command, error)
}

// Wishes.
type (
	// Drain a node, or take it back: it is to own nothing, and keeps its flows.
	Drain struct {
		Node string
		Undo bool
	}
	// EndFlows ends, with resets, the flows that a node only drains.
	EndFlows struct{ Node string }
	// Forget removes a node that is out, for good.
	Forget struct{ Node string }
	// Foreign adds an owner that is no host of ours, see Host.
	Foreign struct {
		ID   uint64
		Name string
	}
	// Weigh gives a node another weight.
	Weigh struct {
		Node   string
		Weight uint32
	}
	// Pin a bucket to a node; no node unpins it.
	Pin struct {
		Service string
		Bucket  uint8
		Node    string
	}
	// Move a bucket to a node.
	Move struct {
		Service string
		Bucket  uint8
		Node    string
	}
	// Remap a service: its new definition, or another hash key.
	Remap struct {
		Service string
		Mapping Mapping
	}
	// Retime the cluster.
	Retime struct{ Timing Timing }
)

var (
	// ErrNoAnswer: no majority agreed in time. The wish may still come true.
	ErrNoAnswer = errors.New("no majority of the voters answered in time; the wish may still come true")
	errRemoved  = errors.New("this host was removed from the cluster; give it an empty state directory to join anew")
	errCopied   = errors.New("the cluster has seen a later epoch of this host than it knows itself: its state directory was put back from a copy; give it an empty one")
)

// patience is how long an operator's wish gets.
const patience = 5 * time.Second

type ask struct {
	request uint64
	wish    Wish
	by      time.Duration
	// going is the host that the log has marked to be removed: the answer comes
	// once it is.
	going uint64
}

// resolve finds the host that an operator means.
func (t *Table) resolve(name string) (*Host, error) {
	var found *Host
	for i := range t.Hosts {
		h := &t.Hosts[i]
		if !h.Foreign && (name == fmt.Sprintf("%x", h.ID) || name == h.Address) {
			return h, nil
		}
		if h.Name == name && !h.Foreign {
			if found != nil {
				return nil, fmt.Errorf("two nodes are called %q; name one by its address", name)
			}
			found = h
		}
	}
	if found != nil {
		return found, nil
	}
	if h, err := t.resolveForeign(name); err == nil {
		return h, nil
	}
	return nil, fmt.Errorf("%w called %q", errNoHost, name)
}

func (w Drain) command(t *Table) (*command, error) {
	h, err := t.resolve(w.Node)
	if err != nil {
		return nil, err
	}
	drain := !w.Undo
	return &command{Kind: kindSet, ID: h.ID, Drain: &drain}, nil
}

func (w EndFlows) command(t *Table) (*command, error) {
	h, err := t.resolve(w.Node)
	if err != nil {
		return nil, err
	}
	return &command{Kind: kindEnd, ID: h.ID}, nil
}

func (w Forget) command(t *Table) (*command, error) {
	h, err := t.resolve(w.Node)
	if err != nil {
		return nil, err
	}
	return &command{Kind: kindForget, ID: h.ID}, nil
}

func (w Foreign) command(*Table) (*command, error) {
	return &command{Kind: kindForeign, ID: w.ID, Name: w.Name}, nil
}

func (w Weigh) command(t *Table) (*command, error) {
	h, err := t.resolve(w.Node)
	if err != nil {
		return nil, err
	}
	return &command{Kind: kindSet, ID: h.ID, Weight: &w.Weight}, nil
}

func (w Pin) command(t *Table) (*command, error) {
	cmd := &command{Kind: kindPin, Service: w.Service, Bucket: w.Bucket}
	if w.Node == "" {
		return cmd, nil
	}
	h, err := t.resolve(w.Node)
	if err != nil {
		return nil, err
	}
	cmd.ID = h.ID
	return cmd, nil
}

func (w Move) command(t *Table) (*command, error) {
	h, err := t.resolve(w.Node)
	if err != nil {
		return nil, err
	}
	return &command{Kind: kindMove, Moves: []move{{Service: w.Service, Bucket: w.Bucket, To: h.ID}}}, nil
}

func (w Remap) command(*Table) (*command, error) {
	return &command{Kind: kindDefine, Service: w.Service, Mapping: &w.Mapping}, nil
}

func (w Retime) command(*Table) (*command, error) {
	return &command{Kind: kindRetime, Timing: &w.Timing}, nil
}

func (e Ask) happen(c *Core) {
	switch {
	case c.table == nil:
		c.answer(e.Request, errors.New("this host has not found its cluster yet"))
	case len(c.asks) >= 64:
		c.answer(e.Request, errors.New("too many wishes at once; try again"))
	default:
		c.asks = append(c.asks, ask{request: e.Request, wish: e.Wish, by: c.now + patience})
		if c.raft != nil && c.failed == nil {
			c.doAsks()
		}
	}
}

func (c *Core) answer(request uint64, err error) {
	c.effects.Answers = append(c.effects.Answers, Answer{request, err})
}

// whyNoAnswer is why a wish was not decided in time. A leader without a disk gives the
// lead away, and neither passes the wish on nor learns what becomes of it.
func (c *Core) whyNoAnswer() error {
	const slow = time.Second
	if d := &c.disk; d.busy && c.now-d.begun > slow {
		return fmt.Errorf("this node has been trying to save its state for %v, and decides nothing before; make room on its disk, or ask another node; the wish may still come true", (c.now - d.begun).Round(time.Second))
	}
	return ErrNoAnswer
}

// doAsks proposes the wishes until the log answers them.
func (c *Core) doAsks() {
	kept := c.asks[:0]
	for _, a := range c.asks {
		switch {
		case a.going != 0 && c.table.host(a.going) == nil:
			c.answer(a.request, nil)
			continue
		case c.now >= a.by:
			c.answer(a.request, c.whyNoAnswer())
			continue
		case a.going != 0:
			kept = append(kept, a)
			continue
		}
		cmd, err := a.wish.command(c.table)
		if err == nil {
			cmd.Request = a.request
			_, err = c.codec.command(c.codec.marshal(cmd))
		}
		if err != nil {
			c.answer(a.request, err)
			continue
		}
		c.propose("ask "+number(a.request), cmd)
		kept = append(kept, a)
	}
	c.asks = kept
}

// tell answers a wish that the log has decided, and notes what matters.
func (c *Core) tell(cmd *command, err error, news bool) {
	if cmd.Request != 0 && cmd.From == c.id {
		i := slices.IndexFunc(c.asks, func(a ask) bool { return a.request == cmd.Request })
		switch {
		case i >= 0 && err == nil && cmd.Kind == kindForget && c.table.host(cmd.ID) != nil:
			c.asks[i].going = cmd.ID
		case i >= 0:
			c.asks = slices.Delete(c.asks, i, i+1)
			c.answer(cmd.Request, err)
		}
	}
	if err == nil && cmd.Kind == kindMove && cmd.Request != 0 {
		c.duties.wish(cmd.Moves)
	}
	if err != nil || !news {
		return
	}
	name := ""
	if h := c.table.host(cmd.ID); h != nil {
		name = h.Name
	}
	switch cmd.Kind {
	case kindJoin:
		c.note(false, "%s is in, under epoch %d", name, cmd.Epoch)
	case kindEvict:
		c.note(true, "%s was evicted: nobody has heard it, or it does not hear; its buckets went to the others", name)
	case kindOrphaned:
		c.note(true, "%s is taken for dead: its flows are reset when they speak", name)
	case kindHealth:
		c.note(!cmd.Up, "%s says that service %s is %s", name, cmd.Service, map[bool]string{true: "up", false: "down"}[cmd.Up])
	case kindSet:
		if cmd.Drain != nil {
			c.note(false, "%s is to %s", name, map[bool]string{true: "drain", false: "take buckets again"}[*cmd.Drain])
		}
	}
}
