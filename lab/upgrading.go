package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// A rolling upgrade: each node goes over to a new process, and nobody may notice.

// UpgradeOptions say how much there is to lose.
type UpgradeOptions struct {
	Spec Spec
	// Times is how often each node is upgraded, in turn, and Flows how many flows run
	// beside a session by SSH on each node.
	Times, Flows int
	Colour       bool
}

// Bounds of UpgradeOptions.
const (
	MaxUpgrades     = 1000
	MaxUpgradeFlows = 5000
)

// idleBeatEvery is how often a flow of many says something.
const idleBeatEvery = time.Second

// Check refuses what cannot be done.
func (o *UpgradeOptions) Check() error {
	switch {
	case o.Times < 1 || o.Times > MaxUpgrades:
		return fmt.Errorf("--times is %d; write 1 to %d", o.Times, MaxUpgrades)
	case o.Flows < 0 || o.Flows > MaxUpgradeFlows:
		return fmt.Errorf("--flows is %d; write 0 to %d", o.Flows, MaxUpgradeFlows)
	}
	return nil
}

// RunUpgrades upgrades every node, one after the other and as often as wanted, under
// sessions, flows, and new clients and logins all the time. It runs inside the
// namespaces that Enter makes.
func RunUpgrades(ctx context.Context, out io.Writer, o UpgradeOptions) error {
	n := newNarrator(out, o.Colour)
	n.title("%d upgrades of %d nodes on a %s", o.Times, o.Spec.Nodes, o.Spec.LAN)
	return underWatch(o.Spec, n, func(w *watched) error { return w.upgrades(ctx, n, o) })
}

func (w *watched) upgrades(ctx context.Context, n *narrator, o UpgradeOptions) error {
	running, err := w.oneEach()
	defer func() {
		for _, f := range running {
			f.close()
		}
	}()
	for i := 0; i < o.Flows && err == nil; i++ {
		var f *liveFlow
		if f, err = openFlow(w.SSH, w.addresses()[i%len(w.addresses())], false, idleBeatEvery); err == nil {
			running = append(running, f)
		}
	}
	if err != nil {
		return err
	}
	n.say("a session is open on each of %d nodes, and %d flows", len(w.Daemons), o.Flows)
	if err := w.sniffer.Tell((*Judge).Moving); err != nil {
		return err
	}
	clients, logins := newNewcomers(w.addresses(), rollingEvery), w.newLogins()
	for i := 0; i < o.Times && err == nil; i++ {
		for k, d := range w.Daemons {
			if err = w.upgraded(ctx, n, d, running[k].from, running); err != nil {
				break
			}
		}
	}
	clients.close()
	n.title("New clients meanwhile")
	return errors.Join(err, clients.tell(n), logins.tell(n))
}

// upgraded upgrades a node, and sees that all flows go on. Where old workers have flows
// of newcomers yet, there may be too many of them for a moment.
// own is an address whose clients it serves, or served when all began.
func (w *watched) upgraded(ctx context.Context, n *narrator, d *Daemon, own from, running []*liveFlow) error {
	n.title("%s is upgraded", d.Host.Name)
	scp, err := w.copyThrough(ctx, own)
	if err != nil {
		return err
	}
	before := scp.copied()
	at := time.Now()
	text, err := exec.CommandContext(ctx, program, "upgrade", "--socket", d.Socket()).CombinedOutput()
	first, _, _ := strings.Cut(string(text), "\n")
	n.claim(err == nil, "%s", first)
	if err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	during := scp.copied()
	if err := w.untilAllSay(ctx, owned, "every bucket has an owner"); err != nil {
		return err
	}
	n.say("every bucket has an owner %s after the command", short(time.Since(at)))
	went, err := heardAgain(ctx, running, time.Now(), goOnWithin)
	n.claim(went == len(running), "%d of %d flows went on", went, len(running))
	if scp == nil || err != nil {
		return err
	}
	if err := scp.finish(); err != nil {
		n.claim(false, "scp: %v", err)
		return nil
	}
	n.claim(true, "scp had copied %.1f MB when it began and %.1f when it was done, and then all %d, with the same SHA-256", float64(before)/1e6, float64(during)/1e6, liveCopyBytes/1_000_000)
	return nil
}
