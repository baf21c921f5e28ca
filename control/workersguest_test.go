package control

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/config"
	"onevoice/hashing"
	"onevoice/internal/page"
	"onevoice/internal/poller"
	"onevoice/link"
	"onevoice/node"
	"onevoice/proxy"
	"onevoice/responder"
	"onevoice/stack"
)

// testClock is CLOCK_BOOTTIME.
func testClock() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}

// quietDevice is an interface on which nothing happens.
type quietDevice struct{ fd int }

func (d quietDevice) Receive([]link.Frame) (int, error) { return 0, nil }
func (d quietDevice) Release()                          {}
func (d quietDevice) Send([]link.Vector) error          { return nil }
func (d quietDevice) FD() int                           { return d.fd }
func (d quietDevice) HardwareAddr() net.HardwareAddr    { return net.HardwareAddr{2, 0, 0, 0, 0, 1} }
func (d quietDevice) MTU() int                          { return 1500 }
func (d quietDevice) Present() bool                     { return true }
func (d quietDevice) Stats() link.Stats                 { return link.Stats{} }
func (d quietDevice) Close() error                      { return nil }

// testSettings are those of one VIP with one service.
func testSettings(t *testing.T) WorkerSettings {
	t.Helper()
	c := &config.Config{
		VIPs:     []config.VIP{{Address: netip.MustParsePrefix("10.77.0.2/24"), MAC: net.HardwareAddr{1, 0, 0x5e, 77, 0, 2}}},
		Services: []config.Service{{Name: "ssh", Listen: netip.MustParseAddrPort("10.77.0.2:22"), Backend: netip.MustParseAddrPort("127.0.0.1:22"), Affinity: config.SourceIP}},
	}
	s, err := NewWorkerSettings(c, netip.MustParseAddr("10.77.0.11"), make([]byte, config.KeyBytes), "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// rig is a worker in this process, without an interface, and control's end.
type rig struct {
	t     *testing.T
	one   *worker
	guest *Guest
	ended chan error
}

// newRig makes one. VIPs are besides the one of its settings.
func newRig(t *testing.T, vips ...config.VIP) *rig {
	t.Helper()
	r := &rig{t: t, ended: make(chan error, 1)}
	one, theirs := wiredWorker(t, testClock())
	r.one = one
	settings := testSettings(t)
	settings.Config.VIPs = append(settings.Config.VIPs, vips...)
	if err := one.tell(tellSettings, &settings); err != nil {
		t.Fatal(err)
	}
	dup := func(f *os.File) *os.File {
		fd, err := unix.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		return os.NewFile(uintptr(fd), f.Name())
	}
	var err error
	if r.guest, err = newGuest(slog.New(slog.DiscardHandler), theirs, dup(one.page.File()), dup(one.wake)); err != nil {
		t.Fatal(err)
	}
	r.run()
	if err := one.welcome(firstWait); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { one.close() })
	return r
}

// run starts the worker's loop.
func (r *rig) run() {
	r.t.Helper()
	must := func(err error) {
		r.t.Helper()
		if err != nil {
			r.t.Fatal(err)
		}
	}
	var p WorkerParts
	var err error
	p.Poller, err = poller.New(poller.ByKernel)
	must(err)
	p.OwnHost, err = proxy.ServeOwnHost(nil)
	must(err)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	must(err)
	p.Device = quietDevice{fd}
	settings := r.guest.Settings()
	vip, svc := settings.Config.VIPs[0], settings.Config.Services[0]
	var vips []node.VIP
	for _, v := range settings.Config.VIPs {
		vips = append(vips, node.VIP{VIP: responder.VIP{Addr: v.Address.Addr(), MAC: responder.MAC(v.MAC)}, LAN: v.Address.Masked()})
	}
	p.Stack, err = stack.New(stack.Config{MTU: 1500, Poller: p.Poller, Addresses: []netip.Addr{vip.Address.Addr()},
		Services: []stack.Service{{Name: svc.Name, Listen: svc.Listen, Backend: proxy.Backend{Addr: svc.Backend}}}})
	must(err)
	p.Node, err = node.New(node.Config{
		Own: responder.MAC{2, 0, 0, 0, 0, 1}, Address: settings.Self, MTU: 1500, Hasher: hashing.NewHasher(settings.HashKey), Flows: p.Stack,
		VIPs:     vips,
		Services: []node.Service{{Proto: node.TCP, Listen: svc.Listen, Affinity: hashing.SourceIP}},
	})
	must(err)
	p.Loop, err = node.NewLoop(node.LoopConfig{Node: p.Node, Stack: p.Stack, Device: p.Device, Poller: p.Poller,
		Clock: testClock, Log: slog.New(slog.DiscardHandler), Begin: r.guest.Begin, Turned: r.guest.Turned})
	must(err)
	must(r.guest.Start(p))
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := p.Loop.Run()
		r.ended <- errors.Join(err, r.guest.Close())
		p.Stack.Close()
		p.Poller.Close()
		unix.Close(fd)
	}()
	r.t.Cleanup(func() {
		p.Loop.Stop(0)
		<-done
	})
}

// next is the next message of the worker of a type, past others.
func next(t *testing.T, w *wire, kind string) *message {
	t.Helper()
	_ = w.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		m, files, err := w.receive()
		closeAll(files)
		if err != nil {
			t.Fatalf("waiting for %q: %v", kind, err)
		}
		if m.Type == kind {
			return m
		}
	}
}

// status asks as control does.
func status(t *testing.T, w *wire) *WorkerStatus {
	t.Helper()
	if err := w.send(newMessage(askStatus, 7, statusWanted{})); err != nil {
		t.Fatal(err)
	}
	m := next(t, w, sayAnswer)
	for m.ID != 7 {
		m = next(t, w, sayAnswer)
	}
	var s WorkerStatus
	if err := json.Unmarshal(m.Body, &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

// ownership of one VIP and one service, everything accepted.
func everything(generation uint64) *page.Table {
	row := page.Row{Accept: every()}
	return &page.Table{Generation: generation, VIPs: []page.Row{row}, Services: []page.Row{row}}
}

// Whatever comes over the socket, a worker goes on, and counts it.
func TestWorkerRefusesGarbage(t *testing.T) {
	r := newRig(t)
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	text := func(s string) [][]byte { return [][]byte{append([]byte{packetLast}, s...)} }
	refused, before := uint64(0), descriptorsOf(t, "/dev/null")
	for _, c := range []struct {
		name    string
		packets [][]byte
		files   int
		counted uint64
	}{
		{"no message", text(""), 0, 1},
		{"no JSON", text("hello"), 0, 1},
		{"another beginning", [][]byte{{9, '{', '}'}}, 0, 1},
		{"no type", text("{}"), 0, 1},
		{"an unknown type", text(`{"type":"dance"}`), 0, 1},
		{"settings again", text(`{"type":"settings","body":{}}`), 0, 1},
		{"a take-up under control", text(`{"type":"take-up"}`), 2, 1},
		{"a body of another type", text(`{"type":"stop","body":"now"}`), 0, 1},
		{"no body", text(`{"type":"end"}`), 0, 1},
		{"a service that is not there", text(`{"type":"lists","body":[{"Service":1}]}`), 0, 1},
		{"a service before the first", text(`{"type":"lists","body":[{"Service":-1}]}`), 0, 1},
		{"an end of more services than there are", text(`{"type":"end","body":{"Services":[[1,1,1,1],[1,1,1,1]]}}`), 0, 0},
		{"a question about more services", text(`{"type":"held","id":9,"body":{"Services":[[1,1,1,1],[1,1,1,1]]}}`), 0, 0},
		{"descriptors that nobody asked for", text(`{"type":"held","id":9,"body":{}}`), 2, 0},
		{"more descriptors than there is room for", text(`{"type":"held","id":9,"body":{}}`), maxFiles + 2, 1},
		{"a message without end", slices.Repeat([][]byte{append([]byte{packetMore}, make([]byte, maxPacketBytes-1)...)}, maxMessageBytes/(maxPacketBytes-1)+2), 0, 1},
	} {
		for i, p := range c.packets {
			var rights []byte
			if c.files > 0 && i == 0 {
				rights = unix.UnixRights(slices.Repeat([]int{int(file.Fd())}, c.files)...)
			}
			// An earlier send has left its own deadline.
			_ = r.one.wire.conn.SetWriteDeadline(time.Now().Add(patience))
			if _, _, err := r.one.wire.conn.WriteMsgUnix(p, rights, nil); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		if c.name == "a message without end" {
			// What is still of it is a message that makes no sense, too.
			if _, err := r.one.wire.conn.Write([]byte{packetLast}); err != nil {
				t.Fatal(err)
			}
			c.counted++
		}
		s := status(t, r.one.wire)
		if got := s.Refused - refused; got != c.counted {
			t.Errorf("%s: %d counted, want %d", c.name, got, c.counted)
		}
		refused = s.Refused
		if n := descriptorsOf(t, "/dev/null"); n != before {
			t.Errorf("%s: %d descriptors are open, before %d", c.name, n, before)
		}
	}
}

// descriptorsOf counts this process's descriptors of a file.
func descriptorsOf(t *testing.T, name string) (n int) {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range dir {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && to == name {
			n++
		}
	}
	return n
}

// What is published is in force long before the loop would have turned anyway,
// and is told as held.
func TestTableIsInForceAtOnce(t *testing.T) {
	r := newRig(t)
	var took []time.Duration
	for g := uint64(1); g <= 50; g++ {
		began := time.Now()
		if err := r.one.publish(everything(g)); err != nil {
			t.Fatal(err)
		}
		for r.one.page.WrittenBack() != g {
			if time.Since(began) > patience {
				t.Fatalf("generation %d is not in force", g)
			}
			runtime.Gosched()
		}
		took = append(took, time.Since(began))
		h, err := decode[Holding](next(t, r.one.wire, sayHolding))
		if err != nil || h.Generation != g || len(h.Services) != 1 || h.Services[0] != (node.Bitmap{}) {
			t.Errorf("holding %+v, %v", h, err)
		}
	}
	slices.Sort(took)
	t.Logf("in force after %s (least), %s (median), %s (most)", took[0], took[len(took)/2], took[len(took)-1])
	// A loop that nobody wakes takes the whole time each time, a starved one now and then.
	if took[0] > node.MaxIdle/4 {
		t.Errorf("in force after %s at best", took[0])
	}
}

// A lease is used as it is, never beyond, and never under an older table.
func TestLeaseGoesWithItsTable(t *testing.T) {
	r := newRig(t)
	lease := func() LeaseStatus { t.Helper(); return status(t, r.one.wire).Lease }
	if lease().Held {
		t.Error("a lease that nobody gave")
	}
	if err := r.one.publish(everything(1)); err != nil {
		t.Fatal(err)
	}
	now := testClock()
	r.one.page.SetLease(0, now, now+time.Hour)
	if l := lease(); !l.Held || l.Left > 3600 || l.Left < 3500 {
		t.Errorf("lease %+v, want an hour", l)
	}
	r.one.page.SetLease(0, now, now)
	if lease().Held {
		t.Error("a lease that is over")
	}
	// The next table cannot be read, as far as the worker is concerned.
	if err := r.guest.parts.Loop.Call(func(time.Duration) {
		if err := r.one.page.Publish(everything(2)); err != nil {
			t.Error(err)
		}
		r.guest.edition = r.guest.page.Edition()
		r.one.page.SetLease(0, now, now+time.Hour)
	}); err != nil {
		t.Fatal(err)
	}
	if lease().Held {
		t.Error("a lease is used under an older table")
	}
}

// TestR6EachPathHasItsLease: VIPs that share a cluster MAC share a lease, and the
// others have their own.
func TestR6EachPathHasItsLease(t *testing.T) {
	first := net.HardwareAddr{1, 0, 0x5e, 77, 0, 2}
	r := newRig(t,
		config.VIP{Address: netip.MustParsePrefix("10.77.0.3/24"), MAC: net.HardwareAddr{1, 0, 0x5e, 77, 0, 3}},
		config.VIP{Address: netip.MustParsePrefix("10.77.0.4/24"), MAC: first})
	table := everything(1)
	table.VIPs = []page.Row{table.VIPs[0], table.VIPs[0], table.VIPs[0]}
	if err := r.one.publish(table); err != nil {
		t.Fatal(err)
	}
	now := testClock()
	for lost := range 2 {
		r.one.page.SetLease(lost, 0, 0)
		r.one.page.SetLease(1-lost, now, now+time.Hour)
		// A turn begins with the leases; the first may have begun before.
		if err := r.guest.parts.Loop.Call(func(time.Duration) {}); err != nil {
			t.Fatal(err)
		}
		if err := r.guest.parts.Loop.Call(func(now time.Duration) {
			for vip, path := range []int{0, 1, 0} {
				if _, end := r.guest.parts.Node.Lease(vip); (end > now) != (path != lost) {
					t.Errorf("path %d lost: the lease of VIP %d ends at %v", lost, vip, end)
				}
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// dialWorker connects to the worker's name as a new control process does.
func dialWorker(t *testing.T) *wire {
	t.Helper()
	names, err := FindWorkers(netip.MustParseAddr("10.77.0.2"))
	if err != nil || len(names) != 1 {
		t.Fatalf("workers %v, %v; want one", names, err)
	}
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: names[0], Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return newWire(c)
}

// refusedWire waits until the worker hangs up.
func hangsUp(t *testing.T, w *wire) {
	t.Helper()
	_ = w.conn.SetReadDeadline(time.Now().Add(patience))
	if m, _, err := w.receive(); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("message %v, %v; want the end", m, err)
	}
}

// Only a control process of the same user that knows how takes a worker up, and
// then gets all of it.
func TestTakeUp(t *testing.T) {
	r := newRig(t)
	now := testClock()
	if err := r.one.publish(everything(5)); err != nil {
		t.Fatal(err)
	}
	r.one.page.SetLease(0, now, now+time.Hour)
	if s := status(t, r.one.wire); !s.Lease.Held || s.Generation != 5 {
		t.Fatalf("status %+v", s)
	}
	r.one.wire.close()
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()

	stranger := dialWorker(t)
	if err := stranger.send(newMessage(askStatus, 1, statusWanted{})); err != nil {
		t.Fatal(err)
	}
	hangsUp(t, stranger)
	other := dialWorker(t)
	if err := other.send(newMessage(tellSettings, 0, struct{}{}), null, null); err != nil {
		t.Fatal(err)
	}
	hangsUp(t, other)
	short := dialWorker(t)
	if err := short.send(newMessage(tellTakeUp, 0, struct{}{}), null); err != nil {
		t.Fatal(err)
	}
	hangsUp(t, short)
	if os.Geteuid() == 0 {
		hangsUp(t, asNobody(t, func() *wire { return dialWorker(t) }))
	}

	other = dialWorker(t)
	if err := other.send(newMessage(tellTakeUp, 0, struct{}{}), null, null); err != nil {
		t.Fatal(err)
	}
	f, err := decode[failed](next(t, other, sayFailed))
	if err != nil || !strings.Contains(f.Error, "not a page") {
		t.Errorf("%+v, %v", f, err)
	}
	if s := status(t, other); s.Lease.Held || !s.Retired {
		t.Errorf("without a page: %+v", s)
	}
	other.close()

	heir, err := newWorker(now)
	if err != nil {
		t.Fatal(err)
	}
	heir.wire = dialWorker(t)
	defer heir.close()
	if err := heir.wire.send(newMessage(tellTakeUp, 0, struct{}{}), heir.page.File(), heir.wake); err != nil {
		t.Fatal(err)
	}
	if err := heir.welcome(firstWait); err != nil {
		t.Fatal(err)
	}
	settings := testSettings(t)
	if heir.page.WorkerBeat() == 0 {
		t.Error("nothing is known of the worker's flows")
	}
	if !heir.retired || heir.settings != string(newMessage("", 0, &settings).Body) {
		t.Errorf("retired %v, settings %s", heir.retired, heir.settings)
	}
	// Nothing of the old page is in force or written back, and the new one is.
	if s := status(t, heir.wire); s.Lease.Held || heir.page.WrittenBack() != 0 {
		t.Errorf("the old lease or table went along: %+v, %d", s.Lease, heir.page.WrittenBack())
	}
	if err := heir.publish(everything(3)); err != nil {
		t.Fatal(err)
	}
	heir.page.SetLease(0, now, now+time.Hour)
	if s := status(t, heir.wire); !s.Lease.Held || s.Generation != 3 {
		t.Errorf("under the new page: %+v", s)
	}
}

// asNobody connects as another user: the credentials of one thread, which ends
// with its goroutine.
func asNobody(t *testing.T, connect func() *wire) *wire {
	t.Helper()
	done := make(chan *wire)
	go func() {
		runtime.LockOSThread()
		const nobody = 65534
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			t.Error(errno)
		}
		done <- connect()
	}()
	return <-done
}

// A worker that nobody takes up ends by itself, and so does a retired one.
func TestWorkerEndsWhenItIsNotNeeded(t *testing.T) {
	for name, leave := range map[string]func(r *rig){
		"left alone": func(r *rig) { r.one.wire.close() },
		"retired": func(r *rig) {
			if err := r.one.wire.send(newMessage(tellRetire, 1, struct{}{})); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			began := time.Now()
			leave(r)
			select {
			case err := <-r.ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(patience):
				t.Fatal("it is still there")
			}
			if took := time.Since(began); took < linger {
				t.Errorf("it ended after %s, before a new control process could come", took)
			}
		})
	}
}
