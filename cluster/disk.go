package cluster

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Write is what is to be made durable, all of it or nothing. With an Image it
// takes the place of everything before; the Records come after it.
type Write struct {
	Seq     uint64
	Image   []byte
	Records [][]byte
}

// Saved is what a host has made durable: the last image and the records after
// it. Both empty is a blank host.
type Saved struct {
	Image   []byte
	Records [][]byte
}

func (s Saved) empty() bool { return len(s.Image) == 0 && len(s.Records) == 0 }

// own is what a host knows of itself and may never forget.
type own struct {
	ID uint64 `cbor:"1,keyasint"`
	// UUID is the cluster's, zero while blank.
	UUID [16]byte `cbor:"2,keyasint"`
	// Epoch is the highest that this host has used, or will.
	Epoch uint64 `cbor:"3,keyasint"`
	// Pledge is the founder that a blank host is pledged to.
	Pledge uint64 `cbor:"5,keyasint,omitempty"`
	// Below are its withdrawals.
	Below []withdrawal `cbor:"4,keyasint"`
}

// record is one write after the image.
type record struct {
	Own     *own     `cbor:"1,keyasint,omitempty"`
	Hard    []byte   `cbor:"2,keyasint,omitempty"`
	Entries [][]byte `cbor:"3,keyasint,omitempty"`
}

// image is everything at once.
type image struct {
	Version  uint16   `cbor:"1,keyasint"`
	Own      own      `cbor:"2,keyasint"`
	Hard     []byte   `cbor:"3,keyasint"`
	Snapshot []byte   `cbor:"4,keyasint"`
	Entries  [][]byte `cbor:"5,keyasint"`
}

// disk is the order of writes: one at a time.
type disk struct {
	busy bool
	seq  uint64
	// begun is when the write under way was given to the shell.
	begun time.Duration
	// own is what shall be known of this host; dirty when not all of it has been
	// given to the shell.
	own   own
	dirty bool
	// flying is the own of the write under way.
	flying *own
	// image: the next write is to take the place of all before.
	image bool
}

// write begins a write. There must be none under way.
func (c *Core) write(w *Write) {
	d := &c.disk
	d.seq++
	w.Seq = d.seq
	d.busy, d.begun = true, c.now
	c.effects.Write = w
}

// takeOwn is the part of a record that says what has changed of own.
func (c *Core) takeOwn() *own {
	d := &c.disk
	if !d.dirty {
		return nil
	}
	d.dirty = false
	o := d.own
	o.Below = append([]withdrawal(nil), d.own.Below...)
	d.flying = &o
	return &o
}

// flush writes what waits and has no raft entries to go with.
func (c *Core) flush() {
	if c.disk.busy || c.failed != nil {
		return
	}
	switch {
	case c.disk.image && c.raft != nil:
		c.disk.image = false
		o := c.takeOwn()
		if o == nil {
			o = &c.disk.own
		}
		c.write(&Write{Image: c.codec.marshal(c.raft.image(*o))})
	case c.disk.dirty:
		c.write(&Write{Records: [][]byte{c.codec.marshal(record{Own: c.takeOwn()})}})
	}
}

// wrote goes on after a write.
func (c *Core) wrote(seq uint64) {
	d := &c.disk
	if !d.busy || seq != d.seq {
		return
	}
	d.busy = false
	if o := d.flying; o != nil {
		d.flying = nil
		c.ownDurable(o)
	}
	if c.raft != nil && c.raft.ready != nil {
		c.finish()
	}
}

// ownDurable uses what could not be used before it was safe.
func (c *Core) ownDurable(o *own) {
	if c.voter != nil {
		c.voter.durable(o.Below)
	}
	if c.holder != nil {
		c.epochDurable(o.Epoch)
	}
}

// load reads what was saved, and starts under a new epoch.
func (c *Core) load(saved Saved) error {
	var im image
	if err := c.codec.dec.Unmarshal(saved.Image, &im); len(saved.Image) > 0 && err != nil {
		return fmt.Errorf("cluster: the saved image is damaged: %w", err)
	}
	if im.Version > Version {
		return fmt.Errorf("cluster: the state was written by version %d, and this is version %d; install that one or a later one", im.Version, Version)
	}
	c.disk.own = im.Own
	r, err := restoreRaft(&im)
	if err != nil {
		return err
	}
	for _, b := range saved.Records {
		var rec record
		if err := c.codec.dec.Unmarshal(b, &rec); err != nil {
			return fmt.Errorf("cluster: a saved record is damaged: %w", err)
		}
		if rec.Own != nil {
			c.disk.own = *rec.Own
		}
		if err := r.restore(&rec); err != nil {
			return err
		}
	}
	c.id = c.disk.own.ID
	if c.id == 0 {
		return errors.New("cluster: the saved state is damaged: this host has no id in it")
	}
	if c.disk.own.UUID == [16]byte{} {
		return c.startBlank()
	}
	return c.startSaved(r)
}

// startSaved is start with what a file says. Raft panics at what cannot be; in a
// state that was saved it is damage, which the user can mend.
func (c *Core) startSaved(r *raftState) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("cluster: the saved state is damaged: %v", p)
		}
	}()
	return c.start(r)
}

func unmarshalEntries(list [][]byte) ([]*raftpb.Entry, error) {
	out := make([]*raftpb.Entry, len(list))
	for i, b := range list {
		out[i] = &raftpb.Entry{}
		if err := proto.Unmarshal(b, out[i]); err != nil {
			return nil, fmt.Errorf("cluster: a saved entry is damaged: %w", err)
		}
	}
	return out, nil
}

func marshalProto(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("cluster: encode %T: %v", m, err))
	}
	return b
}
