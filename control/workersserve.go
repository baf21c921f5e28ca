package control

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/internal/page"
	"onevoice/node"
	"onevoice/stack"
)

// lookInterval is how often a worker that waits for control looks whether it is
// still needed.
const lookInterval = 250 * time.Millisecond

// serve is the goroutine `control.Guest.serve`; it ends with Close. It serves
// control, and after its death the next.
func (g *Guest) serve() {
	defer g.serving.Done()
	g.say(newMessage(sayReady, 0, g.ready()))
	for w := g.first; w != nil; w = g.accept() {
		g.hear(w)
		g.mu.Lock()
		g.link = nil
		g.mu.Unlock()
		w.close()
		if !g.over() {
			g.log.Warn("the control process is gone; running flows go on, nothing new is accepted")
		}
	}
}

func (g *Guest) ready() ready { return ready{Settings: g.settings, Retired: g.retired.Load()} }

// hear obeys messages until the wire breaks.
func (g *Guest) hear(w *wire) {
	for !g.over() {
		if g.retired.Load() && g.quiet.Load() {
			g.log.Info("no flow of the earlier configuration is left; this worker ends")
			g.parts.Loop.Stop(0)
			// Close is next.
			<-g.ended
			return
		}
		// The deadline only leads back to here.
		_ = w.conn.SetReadDeadline(time.Now().Add(lookInterval))
		m, files, err := w.receive()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case errors.Is(err, errGarbage):
		case err != nil:
			return
		default:
			err = g.obey(w, m)
			closeAll(files)
		}
		if err != nil {
			g.refused.Add(1)
			g.log.Warn("control said what makes no sense", "error", err)
		}
	}
}

// obey does what a message asks.
func (g *Guest) obey(w *wire, m *message) error {
	switch m.Type {
	case askStatus:
		want, err := decode[statusWanted](m)
		if err != nil {
			return err
		}
		g.answer(w, m.ID, g.status(want))
	case tellStop:
		want, err := decode[stopWanted](m)
		if err != nil {
			return err
		}
		if g.parts.Direct != nil {
			g.parts.Direct.Stop()
		}
		g.parts.Loop.Stop(max(want.Grace, 0))
	case askHeld:
		want, err := decode[heldWanted](m)
		if err != nil {
			return err
		}
		var held HeldFlows
		if g.parts.Loop.Call(func(now time.Duration) { held = g.held(now, &want) }) == nil {
			g.heldDirect(&want, &held)
			g.answer(w, m.ID, held)
		}
	case tellLists:
		told, err := decode[listsTold](m)
		if err != nil {
			return err
		}
		if g.parts.Loop.Call(func(time.Duration) { err = g.list(&told) }) == nil {
			return err
		}
	case tellEnd:
		want, err := decode[endWanted](m)
		if err != nil {
			return err
		}
		_ = g.parts.Loop.Call(func(now time.Duration) { g.end(now, &want) })
		return g.endDirect(&want)
	case askKill:
		k, err := decode[Kill](m)
		if err != nil {
			return err
		}
		var done killed
		if g.parts.Loop.Call(func(time.Duration) { done = g.kill(&k) }) == nil {
			n, err := g.killDirect(&k)
			if err != nil {
				g.log.Warn("a connection of the direct path could not be ended", "error", err)
			}
			done.Flows += n
			g.answer(w, m.ID, done)
		}
	case tellPrefixes:
		told, err := decode[prefixesTold](m)
		if err != nil {
			return err
		}
		return g.takePrefixes(&told)
	case tellRetire:
		g.retire()
		g.answer(w, m.ID, struct{}{})
	default:
		return garbage("a message of type %q", m.Type)
	}
	return nil
}

// retire leaves everything new to another worker.
func (g *Guest) retire() {
	g.parts.OwnHost.Retire()
	// A loop that has ended has retired by itself.
	_ = g.parts.Loop.Call(func(now time.Duration) {
		g.busyAt = now
		g.quiet.Store(false)
		g.parts.Node.LeaveAnswers()
		g.closeGuards()
		g.leaveHost()
	})
	g.leaveDirect()
	g.retired.Store(true)
}

// answer waits for room in the outbox, for somebody waits for the answer.
func (g *Guest) answer(w *wire, id uint64, body any) {
	select {
	case g.outbox <- outgoing{w, newMessage(sayAnswer, id, body)}:
	case <-g.ended:
	}
}

// accept waits for a new control process, nil when the worker ends. One that is
// not needed any more ends by itself.
func (g *Guest) accept() *wire {
	for alone := time.Now(); !g.over(); {
		if g.quiet.Load() && time.Since(alone) > linger {
			g.log.Info("no flow is left and nobody has taken this worker up; it ends")
			g.parts.Loop.Stop(0)
			<-g.ended
			return nil
		}
		c, err := g.acceptOne()
		if err != nil {
			continue
		}
		w := newWire(c)
		if err := g.taken(w); err != nil {
			g.refused.Add(1)
			g.log.Warn("a control process could not take this worker up", "error", err)
			w.close()
			continue
		}
		return w
	}
	return nil
}

// acceptOne waits up to lookInterval for a connection. An error that comes at
// once, as of a process without a free descriptor, takes that long, too.
func (g *Guest) acceptOne() (*net.UnixConn, error) {
	end := time.Now().Add(lookInterval)
	if err := g.listener.SetDeadline(end); err != nil {
		return nil, err
	}
	c, err := g.listener.AcceptUnix()
	if err != nil {
		select {
		case <-time.After(time.Until(end)):
		case <-g.ended:
		}
	}
	return c, err
}

// over reports whether Close was called.
func (g *Guest) over() bool {
	select {
	case <-g.ended:
		return true
	default:
		return false
	}
}

// taken is the worker's part of a take-up. A page that cannot be used leaves the
// worker without a lease, under a control process that knows it.
func (g *Guest) taken(w *wire) error {
	if err := sameUser(w.conn); err != nil {
		return err
	}
	if err := w.conn.SetReadDeadline(time.Now().Add(firstWait)); err != nil {
		return err
	}
	m, files, err := w.receive()
	defer func() { closeAll(files) }()
	if err != nil {
		return err
	}
	if m.Type != tellTakeUp || len(files) != maxFiles {
		return garbage("%q with %d descriptors instead of a take-up", m.Type, len(files))
	}
	p, err := page.Open(int(files[0].Fd()))
	reply := newMessage(sayReady, 0, g.ready())
	if err != nil {
		reply = newMessage(sayFailed, 0, failed{err.Error()})
		g.retire()
	}
	wake := files[1]
	files = files[:1]
	if err := g.parts.Loop.Call(func(time.Duration) { g.exchange(p, wake) }); err != nil {
		return errors.Join(err, wake.Close())
	}
	// The turn in which the page was exchanged has ended when the next one runs
	// this: the new page tells how many flows there are.
	if err := g.parts.Loop.Call(func(time.Duration) {}); err != nil {
		return err
	}
	g.mu.Lock()
	g.link = w
	g.mu.Unlock()
	g.log.Info("taken up by a new control process")
	if err := w.send(reply); err != nil {
		return err
	}
	return nil
}

// exchange puts another page in place of the old one; nothing of the old one's
// lease stays. It runs on the loop's goroutine.
func (g *Guest) exchange(p *page.Worker, wake *os.File) {
	if g.page != nil {
		g.page.Close()
	}
	g.wake.Close()
	g.page, g.wake = p, wake
	g.edition, g.generation = 0, 0
	g.holding = Holding{}
	if g.parts.Direct != nil {
		g.parts.Direct.TakenUp()
	}
	g.parts.Node.TakenUp()
	clear(g.leases)
	for vip := range g.settings.Config.VIPs {
		g.parts.Node.SetLease(vip, 0, 0)
	}
	if err := g.parts.Poller.AddEdge(int(wake.Fd()), wakeToken); err != nil {
		// The page is looked at every node.MaxIdle anyway.
		g.log.Warn("control cannot wake this worker", "error", err)
	}
}

// sameUser refuses a socket whose other side belongs to another user.
func sameUser(c *net.UnixConn) error {
	cred, err := peerOf(c)
	if err != nil {
		return err
	}
	if int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("control: process %d belongs to user %d, not %d", cred.Pid, cred.Uid, os.Geteuid())
	}
	return nil
}

// peerOf is SO_PEERCRED of unix(7): who connected, or listened.
func peerOf(c *net.UnixConn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var inner error
	if err := raw.Control(func(fd uintptr) {
		cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return cred, os.NewSyscallError("getsockopt SO_PEERCRED", inner)
}

// workerNames is how the names of a VIP's workers begin. They are abstract, see
// unix(7): the kernel frees them when the process ends, and they belong to the
// network namespace.
func workerNames(vip netip.Addr) string { return "@onevoice/worker/" + vip.String() + "/" }

// workerName is the name of a VIP's worker.
func workerName(vip netip.Addr, pid int) string { return fmt.Sprint(workerNames(vip), pid) }

// listenForControl takes a worker's name, under which a new control process
// finds it once its own is gone.
func listenForControl(vip netip.Addr) (*net.UnixListener, error) {
	return net.ListenUnix("unixpacket", &net.UnixAddr{Name: workerName(vip, os.Getpid()), Net: "unixpacket"})
}

// status tells of this worker.
func (g *Guest) status(want statusWanted) *WorkerStatus {
	s := &WorkerStatus{Process: MeasureProcess(want.Collect), Uplink: g.settings.Config.VIPs[0].Uplink.String(), Version: g.settings.Program, Retired: g.retired.Load(), Refused: g.refused.Load(), Verdicts: map[string]uint64{}}
	if g.parts.Rights != nil {
		s.Rights = g.parts.Rights()
	}
	// A loop that has ended leaves the rest empty: the worker is going.
	_ = g.parts.Loop.Call(func(now time.Duration) { g.fill(s, now, want.Flows) })
	g.fillDirect(s, want.Flows)
	return s
}

// fill runs on the loop's goroutine.
func (g *Guest) fill(s *WorkerStatus, now time.Duration, flows bool) {
	p := &g.parts
	counts := p.Node.Counts()
	for v := node.Undecided + 1; v < node.VerdictCount; v++ {
		s.Verdicts[v.String()] = counts[v]
	}
	s.Generation, s.Guard, s.Filter = g.generation, g.guardStatus(), g.filterStatus()
	for vip := range g.settings.Config.VIPs {
		if begin, end := p.Node.Lease(vip); now < end && !s.Lease.Held {
			s.Lease = LeaseStatus{Held: true, Since: (now - begin).Seconds(), Left: (end - now).Seconds()}
		}
	}
	s.Services = g.services()
	s.Flood = g.floodStatus(now)
	s.TurnedAway = p.Node.TurnedAway()
	if m := p.Node.LastStranger(); m.Address.IsValid() {
		s.Stranger = &StrangerStatus{Address: m.Address, MAC: m.MAC.String(), From: m.From.String(), Seconds: (now - m.At).Seconds()}
	}
	if u := p.Node.LastUnbeliever(); u.Address.IsValid() {
		s.Unbeliever = &UnbelieverStatus{Address: u.Address, MAC: u.MAC.String(), VIP: u.VIP, Times: u.Times, Seconds: (now - u.At).Seconds()}
	}
	s.Prefixes = map[string]int{}
	for file, list := range g.lists {
		s.Prefixes[file] = list.Len()
	}
	s.Neighbours = p.Node.Neighbours()
	s.Groups = groupsStatus(now, p.Node.Members())
	s.Flows = FlowsStatus{Running: p.Stack.FlowCount(), Limit: p.Stack.Limit(), Counters: p.Stack.Counters()}
	s.Memory = p.Stack.Memory().String()
	s.OwnHost, s.NotReached = p.OwnHost.Conns(), p.OwnHost.Taken()
	if p.Watch != nil {
		s.Changed = p.Watch.Changed(now)
	}
	f := p.Node.FragmentCounters()
	s.Fragments = FragmentsStatus{Waiting: f.Waiting, Bytes: f.Bytes, TimedOut: f.TimedOut, GivenUp: f.GivenUp}
	s.Device = p.Device.Stats()
	s.Loop = p.Loop.Stats()
	if flows {
		s.Running = p.Stack.Flows(now, stack.MaxFlows)
	}
	if r := p.Datagrams; r != nil {
		s.Datagrams = DatagramsStatus{Flows: r.FlowCount(), Limit: r.FlowLimit(), Counters: r.Counters()}
		if flows {
			s.Running = append(s.Running, datagramFlows(r, now)...)
		}
	}
}
