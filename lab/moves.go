package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"time"
)

// Moves: one bucket goes from node to node, again and again, and its flows stay.

// MoveOptions say how often, and under how many flows.
type MoveOptions struct {
	Spec Spec
	// Times is how often the bucket moves, and Flows how many flows of its client run
	// at each move.
	Times, Flows int
	Colour       bool
}

// Bounds of MoveOptions.
const (
	MaxMoves     = 1000
	MaxMoveFlows = 1000
)

// Times of a move.
const (
	// movedWithin is how soon the next owner must take a new client, on a machine that is
	// busy with other things.
	movedWithin = 40 * time.Second
	// moveAgain is how long it is waited until the move is asked for once more.
	moveAgain = 2 * time.Second
)

// Check refuses what cannot be done.
func (o *MoveOptions) Check() error {
	switch {
	case o.Times < 1 || o.Times > MaxMoves:
		return fmt.Errorf("--times is %d; write 1 to %d", o.Times, MaxMoves)
	case o.Flows < 1 || o.Flows > MaxMoveFlows:
		return fmt.Errorf("--flows is %d; write 1 to %d", o.Flows, MaxMoveFlows)
	case o.Spec.Nodes < 2:
		return fmt.Errorf("--nodes is %d; a bucket moves between 2 or more", o.Spec.Nodes)
	}
	return nil
}

// RunMoves moves the bucket of one client from node to node under flows of that client,
// of which one is replaced at each move, so that in the end all nodes hold some. No flow
// may end, and no node may send a reset. It runs inside the namespaces that Enter makes.
func RunMoves(ctx context.Context, out io.Writer, o MoveOptions) error {
	if err := o.Check(); err != nil {
		return err
	}
	n := newNarrator(out, o.Colour)
	n.title("%d moves under %d flows each, %d nodes on a %s", o.Times, o.Flows, o.Spec.Nodes, o.Spec.LAN)
	return underWatch(o.Spec, n, func(w *watched) error { return w.moves(ctx, n, o) })
}

func (w *watched) moves(ctx context.Context, n *narrator, o MoveOptions) error {
	var running []*liveFlow
	defer func() {
		for _, f := range running {
			f.close()
		}
	}()
	client := w.addresses()[0]
	for range o.Flows {
		f, err := openFlow(w.SSH, client, false, tcpBeatEvery)
		if err != nil {
			return err
		}
		running = append(running, f)
	}
	bucket, err := w.bucketOf(ctx, client.addr)
	if err != nil {
		return err
	}
	n.say("%d flows of %s, in bucket %d, are with %s", len(running), client.addr, bucket, running[0].node)
	if err := w.sniffer.Tell((*Judge).Moving); err != nil {
		return err
	}
	owner, took := running[0].node, waits{}
	for i := range o.Times {
		to := w.next(owner)
		f, wait, err := w.moved(ctx, bucket, to, client)
		if err != nil {
			return fmt.Errorf("move %d, from %s to %s: %w", i+1, owner, to, err)
		}
		took = append(took, wait)
		went, err := heardAgain(ctx, running, time.Now(), goOnWithin)
		if err != nil {
			return err
		}
		n.progress("%d of %d moves", i+1, o.Times)
		if went != len(running) {
			return fmt.Errorf("move %d, from %s to %s: %d of %d flows went on", i+1, owner, to, went, len(running))
		}
		running[i%len(running)].close()
		running[i%len(running)], owner = f, to
	}
	holding := map[string]int{}
	for _, f := range running {
		holding[f.node]++
	}
	n.claim(true, "%d moves, %d flows at each, and none ended; in the end they are with %v", o.Times, o.Flows, holding)
	n.say("a new flow was with the next owner after %s", took.quantiles())
	v, err := w.sniffer.Verdict()
	if err != nil {
		return err
	}
	resets := uint64(0)
	for _, of := range v.Nodes {
		resets += of.Resets
	}
	n.claim(resets == 0, "the nodes sent %d resets", resets)
	return nil
}

// next is the node after another.
func (w *watched) next(name string) string {
	for i, d := range w.Daemons {
		if d.Host.Name == name {
			return w.Daemons[(i+1)%len(w.Daemons)].Host.Name
		}
	}
	return w.Daemons[0].Host.Name
}

// bucketOf asks which bucket of the beat service a client has.
func (w *watched) bucketOf(ctx context.Context, client netip.Addr) (uint8, error) {
	text, err := exec.CommandContext(ctx, program, "explain", "--json", "--socket", w.Daemons[0].Socket(), client.String(), beatService().String()).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("explain: %w: %s", err, text)
	}
	var said struct {
		Bucket *uint8 `json:"bucket"`
	}
	if err := json.Unmarshal(text, &said); err != nil || said.Bucket == nil {
		return 0, fmt.Errorf("explain names no bucket: %w: %s", err, text)
	}
	return *said.Bucket, nil
}

// moved moves the bucket and opens a new flow of the client with its next owner. Until
// then others may take one, or nobody.
func (w *watched) moved(ctx context.Context, bucket uint8, to string, client from) (*liveFlow, time.Duration, error) {
	began := time.Now()
	for asked := (time.Time{}); ; {
		// A node that lacks its lease for a moment takes no buckets, and loses those that
		// it has taken.
		if time.Since(asked) > moveAgain {
			text, err := exec.CommandContext(ctx, program, "move", "--service", "beat", "--socket", w.Daemons[0].Socket(), fmt.Sprint(bucket), to).CombinedOutput()
			if err != nil && time.Since(began) > movedWithin {
				return nil, 0, fmt.Errorf("%w: %s", err, text)
			}
			asked = time.Now()
		}
		f, err := openFlow(w.SSH, client, false, idleBeatEvery)
		switch {
		case err == nil && f.node == to:
			return f, time.Since(began), nil
		case err == nil:
			f.close()
			err = fmt.Errorf("new flows are with %s", f.node)
		}
		if time.Since(began) > movedWithin {
			return nil, 0, fmt.Errorf("after %v: %w", movedWithin, err)
		}
		if err := sleep(ctx, recoverStep); err != nil {
			return nil, 0, err
		}
	}
}
