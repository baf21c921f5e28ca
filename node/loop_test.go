package node

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
	"onevoice/internal/poller"
	"onevoice/link"
	"onevoice/proxy"
	"onevoice/responder"
	"onevoice/stack"
)

// patience is how long a starved machine may take.
const patience = time.Minute

// fakeDevice gives the frames that a test puts into it and keeps what is sent.
type fakeDevice struct {
	fd    int
	queue []link.Frame
	sent  [][]byte
	told  func(what string)
}

func (d *fakeDevice) Receive(frames []link.Frame) (int, error) {
	n := copy(frames, d.queue)
	d.queue = d.queue[n:]
	return n, nil
}

func (d *fakeDevice) Send(vectors []link.Vector) error {
	for _, v := range vectors {
		d.sent = append(d.sent, slices.Concat(v.Pieces...))
	}
	d.told("sent")
	return nil
}

func (d *fakeDevice) Release()                       {}
func (d *fakeDevice) FD() int                        { return d.fd }
func (d *fakeDevice) HardwareAddr() net.HardwareAddr { return ownMAC[:] }
func (d *fakeDevice) MTU() int                       { return 1500 }
func (d *fakeDevice) Present() bool                  { return true }
func (d *fakeDevice) Stats() link.Stats              { return link.Stats{} }
func (d *fakeDevice) Close() error                   { return nil }

// bench is a loop on a fake device and clocks that the test sets.
type bench struct {
	t      testing.TB
	loop   *Loop
	node   *Node
	stack  *stack.Stack
	device *fakeDevice
	now    time.Duration
	told   []string
	lease
	ownership *Ownership
}

// realOffset is what the bench's CLOCK_REALTIME is ahead of its `now`.
const realOffset = 1_000_000 * time.Second

func newBench(t *testing.T) *bench {
	t.Helper()
	return newBenchFor(t, netip.MustParseAddrPort("127.0.0.1:1"))
}

// newBenchFor makes a bench whose service has that backend.
func newBenchFor(t testing.TB, backend netip.AddrPort) *bench {
	t.Helper()
	return newBenchAt(t, backend, func(*stack.Config) {})
}

// newBenchAt is newBenchFor with a TCP that is made otherwise.
func newBenchAt(t testing.TB, backend netip.AddrPort, otherwise func(*stack.Config)) *bench {
	t.Helper()
	p, err := poller.New(poller.ByKernel)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	b := &bench{t: t, now: 100 * time.Second, lease: lease{end: Forever}}
	b.device = &fakeDevice{fd: fd, told: b.tell}
	b.ownership = &Ownership{Generation: 1, VIPs: []Rows{{Accept: allBuckets()}}, Services: []Rows{{Accept: allBuckets()}}}
	listen := netip.AddrPortFrom(vipAddr, 22)
	tcp := stack.Config{
		MTU: 1500, Addresses: []netip.Addr{vipAddr}, Poller: p,
		Services: []stack.Service{{Name: "ssh", Listen: listen, Backend: proxy.Backend{Addr: backend}}},
	}
	otherwise(&tcp)
	b.stack, err = stack.New(tcp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.stack.Close)
	b.node, err = New(Config{
		Own: ownMAC, Address: ownAddr, MTU: 1500,
		VIPs:     []VIP{{VIP: responder.VIP{Addr: vipAddr, MAC: clusterMAC}, LAN: lan}},
		Services: []Service{{Proto: TCP, Listen: listen}},
		Hasher:   hashing.NewHasher(key), Flows: b.stack, Cookies: b.stack,
	})
	if err != nil {
		t.Fatal(err)
	}
	// It has had its right for a while.
	if err := b.node.SetOwnership(b.ownership); err != nil {
		t.Fatal(err)
	}
	b.node.settle(b.now - time.Minute)
	b.loop, err = NewLoop(LoopConfig{
		Node: b.node, Stack: b.stack, Device: b.device, Poller: p,
		Clock:  func() time.Duration { b.tell("clock"); return b.now },
		Real:   func() time.Duration { return b.now + realOffset },
		Begin:  b.begin,
		Turned: func(_ time.Duration, generation uint64) { b.tell("turned " + string(rune('0'+generation))) },
		Log:    slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) tell(what string) { b.told = append(b.told, what) }

func (b *bench) begin(time.Duration) {
	b.tell("begin")
	if b.node.Generation() != b.ownership.Generation {
		if err := b.node.SetOwnership(b.ownership); err != nil {
			b.t.Error(err)
		}
	}
	b.node.SetLease(0, b.lease.begin, b.lease.end)
}

// put queues frames; stamp is when they came in, on the bench's clock, or none.
func (b *bench) put(stamp time.Duration, frames ...*link.Frame) {
	for _, f := range frames {
		if stamp >= 0 {
			f.Stamp = stamp + realOffset
		}
		b.device.queue = append(b.device.queue, *f)
	}
}

const noStamp = -1

// turn runs one turn, in which the device is readable if it has frames.
func (b *bench) turn() {
	b.t.Helper()
	waiting, err := b.loop.poller.Wait(0)
	if err != nil {
		b.t.Fatal(err)
	}
	events := slices.Clone(waiting)
	if len(b.device.queue) > 0 {
		events = append(events, poller.Event{Token: deviceToken, Readable: true})
	}
	if err := b.loop.turn(b.now, events); err != nil {
		b.t.Fatal(err)
	}
}

// settle turns until so many frames have been sent in all.
func (b *bench) settle(want int) {
	b.t.Helper()
	b.until("frames are sent", func() bool { return len(b.device.sent) >= want })
}

// until turns until something is so: netstack works in goroutines of its own.
func (b *bench) until(what string, so func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !so(); runtime.Gosched() {
		if time.Now().After(deadline) {
			b.t.Fatalf("waited in vain until %s; %d frames sent", what, len(b.device.sent))
		}
		b.turn()
	}
}

// segments are the TCP segments among what was sent, by their flags.
func (b *bench) segments() (flags []uint8) {
	for _, f := range b.device.sent {
		if len(f) >= 54 && binary.BigEndian.Uint16(f[12:]) == etherTypeIPv4 && f[23] == protoTCP {
			flags = append(flags, f[14+20+13])
		}
	}
	return flags
}

func synFrom(port uint16) *link.Frame {
	return frame(etherTypeIPv4, tcp(asker, port, 22, flagSYN, nil))
}

// R10: a SYN and an ARP request are judged by the lease when their batch comes
// in, and once more when the answers leave.
func TestR10AnswersLeaveOnlyUnderTheLease(t *testing.T) {
	b := newBench(t)
	b.lease = lease{begin: time.Second, end: b.now + 10*time.Millisecond}
	b.put(b.now, synFrom(40000), arpRequest(asker, vipAddr))
	// The turn takes 10 ms between its look at the lease and its sending.
	clock := b.loop.clock
	reads := 0
	b.loop.clock = func() time.Duration {
		if reads++; reads > 1 {
			b.now = b.lease.end
		}
		return clock()
	}
	b.turn()
	counts := b.node.Counts()
	if counts[DeliverSYN] != 1 || counts[AnsweredARP] != 1 {
		t.Fatalf("%d SYNs and %d ARP requests were let in", counts[DeliverSYN], counts[AnsweredARP])
	}
	b.until("netstack has answered", func() bool { return b.node.Counts()[LateSYNACK] > 0 || len(b.segments()) > 0 })
	if len(b.device.sent) != 0 || b.loop.Stats().LateReplies != 1 {
		t.Errorf("%d frames left after the lease, %d replies counted as late", len(b.device.sent), b.loop.Stats().LateReplies)
	}
	if f := toFlow(40000); b.stack.State(&f) != flowstate.None {
		t.Error("the flow that nobody heard of stays")
	}
}

// A turn may have more to send than leaves within G: the clock is read for each
// call of the device.
func TestR10ClockIsReadForEachBatchThatLeaves(t *testing.T) {
	b := newBench(t)
	b.lease = lease{begin: time.Second, end: b.now + time.Second}
	const requests = link.MaxBatch + 10
	for range requests {
		b.put(b.now, arpRequest(asker, vipAddr))
	}
	tell := b.device.told
	b.device.told = func(what string) { tell(what); b.now = b.lease.end }
	b.turn()
	if got := len(b.device.sent); got != link.MaxBatch || b.loop.Stats().LateReplies != requests-link.MaxBatch {
		t.Errorf("%d replies left, %d were late, want %d and %d", got, b.loop.Stats().LateReplies, link.MaxBatch, requests-link.MaxBatch)
	}
}

func TestR10AnswersLeaveBeforeTheLeaseEnds(t *testing.T) {
	b := newBench(t)
	b.lease = lease{begin: time.Second, end: b.now + 1}
	b.put(b.now, synFrom(40000), arpRequest(asker, vipAddr))
	b.settle(2)
	if got := b.segments(); len(got) != 1 || got[0] != flagSYN|flagACK || b.loop.Stats().LateReplies != 0 {
		t.Errorf("sent segments with flags %x, %d late replies", got, b.loop.Stats().LateReplies)
	}
}

// R10: a SYN's age is the batch's CLOCK_REALTIME minus its stamp; a negative one,
// or one that reaches before the lease, drops it.
func TestR10AgeOfASYN(t *testing.T) {
	const begin = 90 * time.Second
	for _, c := range []struct {
		name  string
		stamp time.Duration
		want  Verdict
	}{
		{"just now", 100 * time.Second, DeliverSYN},
		{"from the future", 100*time.Second + 1, Stale},
		{"when the lease began", begin, DeliverSYN},
		{"before the lease began", begin - 1, Stale},
		{"without a stamp", noStamp, DeliverSYN},
	} {
		b := newBench(t)
		b.lease = lease{begin: begin, end: Forever}
		b.now -= 20 * time.Second
		b.turn() // ownership and lease are known from here on
		b.now += 20 * time.Second
		b.turn()
		b.put(c.stamp, synFrom(40000))
		b.turn()
		if counts := b.node.Counts(); counts[c.want] != 1 {
			t.Errorf("%s: not %v", c.name, c.want)
		}
	}
}

// R10: after a gap the queue is emptied before a new lease is used: of a frame
// without a stamp nobody knows when it came in. What belongs to flows that are
// held is not kept back, and the first frame after the queue was empty is new.
func TestR10QueueIsEmptiedAfterAGap(t *testing.T) {
	for name, gap := range map[string]func(b *bench){
		"a new lease": func(b *bench) { b.lease.begin = b.now },
		"a late turn": func(b *bench) { b.now += maxGap + 1 },
	} {
		b := newBench(t)
		b.lease = lease{begin: 90 * time.Second, end: Forever}
		b.turn()
		gap(b)
		// More than one turn can take in.
		const waiting = batchesPerTurn*link.MaxBatch + 10
		for i := range waiting {
			b.put(noStamp, synFrom(uint16(40000+i)))
		}
		b.turn()
		b.turn()
		if got := b.node.Counts()[Stale]; got != waiting {
			t.Errorf("%s: %d of %d waiting frames are stale", name, got, waiting)
		}
		b.put(noStamp, synFrom(50000))
		b.turn()
		if got := b.node.Counts()[DeliverSYN]; got != 1 {
			t.Errorf("%s: %d SYNs let in after the queue was empty, want 1", name, got)
		}
	}
}

// The longest time between two turns is what flows have waited at most.
func TestLongestTurn(t *testing.T) {
	b := newBench(t)
	for _, d := range []time.Duration{0, 5 * time.Millisecond, 60 * time.Millisecond, 20 * time.Millisecond} {
		b.now += d
		b.turn()
	}
	if got := b.loop.Stats().LongestTurn; got != 0.06 {
		t.Errorf("%v s, want 0.06", got)
	}
}

// R10, for a bucket that moves under a lease that goes on: what came in before it
// was ours, its old owner may have answered.
func TestR10BucketIsOursFromNowOn(t *testing.T) {
	b := newBench(t)
	none, all := *b.ownership, *b.ownership
	none.VIPs, none.Services = []Rows{{}}, []Rows{{}}
	none.Generation, all.Generation = 2, 3
	b.ownership = &none
	b.turn()
	before := b.now
	b.now += 10 * time.Millisecond
	b.ownership = &all
	b.put(before, synFrom(40000), arpRequest(asker, vipAddr))
	b.turn()
	if got := b.node.Counts()[Stale]; got != 2 {
		t.Errorf("%d frames from before the move are stale, want 2", got)
	}
	b.put(b.now, synFrom(40000), arpRequest(asker, vipAddr))
	b.turn()
	if c := b.node.Counts(); c[DeliverSYN] != 1 || c[AnsweredARP] != 1 {
		t.Errorf("after the move %d SYNs are let in and %d ARP requests answered, want 1 and 1", c[DeliverSYN], c[AnsweredARP])
	}
}

// R17: a generation is reported only after the frames judged under it have left.
func TestR17GenerationIsToldAfterSending(t *testing.T) {
	b := newBench(t)
	b.turn()
	b.told = nil
	o := *b.ownership
	o.Generation = 2
	b.ownership = &o
	b.put(noStamp, arpRequest(asker, vipAddr))
	b.turn()
	if want := []string{"begin", "clock", "clock", "sent", "turned 2"}; !slices.Equal(b.told, want) {
		t.Errorf("the turn went %v, want %v", b.told, want)
	}
}

// A loop with a Begin turns at least every MaxIdle, and when it is woken.
func TestLoopTurnsWithoutFrames(t *testing.T) {
	b := newBench(t)
	b.turn()
	b.loop.timeout(b.now) // what the turn has left behind is seen
	if got := b.loop.timeout(b.now); got != MaxIdle {
		t.Errorf("an idle loop waits %v, want %v", got, MaxIdle)
	}
	b.loop.Wake()
	if got := b.loop.timeout(b.now); got != 0 {
		t.Errorf("a loop that was woken waits %v", got)
	}
	b.turn()
	if got := b.loop.timeout(b.now); got != MaxIdle {
		t.Errorf("a loop that has turned waits %v", got)
	}
	b.loop.begin = nil
	if got := b.loop.timeout(b.now); got >= 0 && got <= MaxIdle {
		t.Errorf("a loop without a page waits %v", got)
	}
}

// Wake ends a wait that is under way.
func TestWakeReachesAWaitingLoop(t *testing.T) {
	b := newBench(t)
	turns := make(chan struct{}, 1)
	b.loop.begin = nil
	b.loop.turned = func(time.Duration, uint64) {
		select {
		case turns <- struct{}{}:
		default:
		}
	}
	b.loop.clock = func() time.Duration { return time.Second }
	ended := make(chan error)
	go func() { ended <- b.loop.Run() }()
	for range 3 {
		b.loop.Wake()
		select {
		case <-turns:
		case <-time.After(patience):
			t.Fatal("the loop does not turn")
		}
	}
	b.loop.Stop(0)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A second word to stop may make the grace shorter, and not longer.
func TestStopAgain(t *testing.T) {
	b := newBench(t)
	for _, call := range []struct{ grace, left time.Duration }{{time.Hour, time.Hour}, {time.Minute, time.Minute}, {time.Hour, time.Minute}} {
		told := make(chan struct{})
		go func() { b.loop.Stop(call.grace); close(told) }()
		for done := false; !done; {
			b.turn()
			select {
			case <-told:
				done = true
			default:
			}
		}
		if left := b.loop.stopBy - b.now; left > call.left || left < call.left-time.Second {
			t.Errorf("told to stop in %v it has %v left, want %v", call.grace, left, call.left)
		}
	}
}
