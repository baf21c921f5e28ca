package stack

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"onevoice/internal/poller"
	"onevoice/proxy"
	"onevoice/stack/virtual"
)

var (
	choiceSeeds = flag.Int("choice", 0, "measure TCP's settings with so many seeds each; make tcp-choice does")
	choiceOnly  = flag.String("choice-only", "", "only lines whose beginning matches, such as 'clean *download *reno'")
	choiceBytes = flag.Int("choice-bytes", 16<<20, "how much is transferred")
)

// setting is one choice of a node's TCP. The zero value is tcpOptions'.
type setting struct {
	congestion string
	rack       bool
	// buffer is what a connection's buffers have at first, and most what they may
	// grow to, in MiB.
	buffer, most int
}

func (s setting) String() string {
	rack := "off"
	if s.rack {
		rack = "on"
	}
	return fmt.Sprintf("%-5s RACK %-3s %d/%d MiB", s.congestion, rack, s.buffer, s.most)
}

// apply sets it in a stack without services.
func (s setting) apply(t testing.TB, to *netstack.Stack) {
	t.Helper()
	if s == (setting{}) {
		return
	}
	congestion := tcpip.CongestionControlOption(s.congestion)
	recovery := tcpip.TCPRecovery(0)
	if s.rack {
		recovery = tcpip.TCPRACKLossDetection
	}
	sack := tcpip.TCPSACKEnabled(true)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: minBufferBytes, Default: s.buffer << 20, Max: s.most << 20}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: minBufferBytes, Default: s.buffer << 20, Max: s.most << 20}
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &congestion, &recovery, &receive, &send} {
		if err := to.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			t.Fatalf("set %T: %s", o, err)
		}
	}
}

// transfer is one connection over a path, that moves bytes one way.
type transfer struct {
	t       testing.TB
	clock   *virtual.Clock
	settler *virtual.Settler
	now     time.Duration

	node   *Stack
	woken  atomic.Bool
	token  uint64
	opened bool

	client *netstack.Stack
	wire   *channel.Endpoint
	ep     tcpip.Endpoint
	// gather joins what the client has at once, as a kernel does.
	gather *Stack

	up, down way // from and to the client
	upload   bool
	left     int // to be written
	got      int
	ended    bool // the client has said its last
}

var (
	_ Poller = (*transfer)(nil)
	_ Local  = (*transfer)(nil)
)

// AddEdge and Wake make it the poller of the node's loop.
func (x *transfer) AddEdge(_ int, token uint64) error {
	x.token = token
	return nil
}
func (x *transfer) Wake() { x.woken.Store(true) }

// The others make it the backend, which is as fast as can be.
func (x *transfer) FD() int            { return 7 }
func (x *transfer) Connected() error   { return nil }
func (x *transfer) Ready(_, _, _ bool) {}
func (x *transfer) Flush() error       { return nil }
func (x *transfer) Urgent()            {}
func (x *transfer) Close()             {}
func (x *transfer) Abort()             {}
func (x *transfer) Queued() int {
	if x.upload {
		return 0
	}
	return x.left
}
func (x *transfer) CloseWrite() error {
	x.ended = true
	return nil
}

func (x *transfer) Write(p []byte) (int, error) {
	x.got += len(p)
	return len(p), nil
}

func (x *transfer) Read(p []byte) (int, error) {
	switch {
	case !x.upload && x.left > 0:
		n := min(x.left, len(p))
		x.left -= n
		return n, nil
	case x.upload && !x.ended:
		return 0, proxy.ErrAgain
	}
	return 0, io.EOF
}

// newTransfer makes both ends. The client's own settings are no bound: SACK, reno,
// no RACK, and a buffer for all that is on its way.
func newTransfer(t testing.TB, p path, s setting, seed uint64, upload bool, size int) *transfer {
	x := &transfer{t: t, clock: &virtual.Clock{}, settler: virtual.NewSettler(), upload: upload, left: size}
	chance := rand.New(rand.NewPCG(seed, 0))
	x.up, x.down = way{path: p, chance: chance}, way{path: p, chance: chance}
	var err error
	x.node, err = New(Config{MTU: mtu, Addresses: []netip.Addr{vip}, Poller: x, Clock: x.clock, Random: virtual.NewRandom(seed)})
	if err != nil {
		t.Fatal(err)
	}
	s.apply(t, x.node.net)
	err = x.node.listen(Service{Name: "choice", Listen: netip.AddrPortFrom(vip, 22), Dial: func(netip.AddrPort) (Local, error) { return x, nil }})
	if err != nil {
		t.Fatal(err)
	}
	x.wire = channel.New(1<<16, mtu, "")
	x.wire.LinkEPCapabilities = netstack.CapabilityRXChecksumOffload
	x.gather = &Stack{link: newLinkEndpoint(mtu, func() {})}
	x.gather.link.Attach(dispatcher{x.wire})
	random := virtual.NewRandom(seed + 1<<32)
	x.client = netstack.New(netstack.Options{
		NetworkProtocols:   []netstack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []netstack.TransportProtocolFactory{tcp.NewProtocol},
		Clock:              x.clock, SecureRNG: random, RandSource: source{random},
	})
	setting{congestion: "reno", buffer: 32, most: 32}.apply(t, x.client)
	if err := x.client.CreateNIC(nicID, x.wire); err != nil {
		t.Fatal(err)
	}
	if err := x.client.AddProtocolAddress(nicID, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: toAddress(client).WithPrefix()}, netstack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	x.client.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nicID}})
	return x
}

func (x *transfer) close() {
	x.client.Destroy()
	x.wire.Close()
	x.node.Close()
}

// run moves all, and tells how long it took from the first SYN to the last byte.
func (x *transfer) run() time.Duration {
	size := x.left
	var queue waiter.Queue
	ep, terr := x.client.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, &queue)
	if terr != nil {
		x.t.Fatal(terr)
	}
	x.ep = ep
	defer ep.Close()
	ep.Connect(tcpip.FullAddress{NIC: nicID, Addr: toAddress(vip), Port: 22})
	for {
		x.turnClient()
		x.turnNode()
		x.turnClient()
		if x.got == size {
			return x.now
		}
		if !x.next() || x.now > time.Hour {
			x.t.Fatalf("%d of %d bytes have come after %v, and no more do", x.got, size, x.now)
		}
	}
}

// next lets the time pass to what happens next.
func (x *transfer) next() bool {
	first := time.Duration(-1)
	for _, f := range []func() (time.Duration, bool){x.up.due, x.down.due, x.clock.Next, x.node.Next} {
		if at, ok := f(); ok && (first < 0 || at < first) {
			first = at
		}
	}
	x.now = max(x.now, first)
	x.clock.Advance(x.now, x.settler.Settle)
	return first >= 0
}

// turnNode is a turn of the node's loop.
func (x *transfer) turnNode() {
	for _, a := range x.up.take(x.now) {
		x.node.Gather(a.ip)
	}
	x.node.Flush()
	for again := true; again; again = x.woken.Load() || !x.node.Idle() || x.token != 0 && !x.opened {
		x.settler.Settle()
		x.woken.Store(false)
		if x.token != 0 && !x.opened {
			x.opened = true
			x.node.Ready(&poller.Event{Token: x.token, Writable: true}, x.now)
		}
		x.node.Turn(x.now)
		x.settler.Settle()
		for _, p := range x.node.Egress(x.now) {
			for _, ip := range cut(&p.Vector) {
				x.down.send(x.now, ip)
			}
		}
		x.node.Release()
	}
}

// turnClient is one of the client's.
func (x *transfer) turnClient() {
	for _, a := range x.down.take(x.now) {
		x.gather.Gather(a.ip)
	}
	x.gather.Flush()
	x.settler.Settle()
	switch tcp.EndpointState(x.ep.State()) {
	case tcp.StateEstablished, tcp.StateCloseWait:
		x.moveClient()
		x.settler.Settle()
	}
	for p := x.wire.Read(); p != nil; p = x.wire.Read() {
		v := p.ToView()
		x.up.send(x.now, slices.Clone(v.AsSlice()))
		v.Release()
		p.DecRef()
	}
}

func (x *transfer) moveClient() {
	for x.upload && x.left > 0 {
		n, err := x.ep.Write(&zeros{min(x.left, 64<<10)}, tcpip.WriteOptions{})
		x.left -= int(n)
		if err != nil || n == 0 {
			break
		}
	}
	for !x.upload {
		r, err := x.ep.Read(io.Discard, tcpip.ReadOptions{})
		x.got += r.Count
		if err != nil || r.Count == 0 {
			break
		}
	}
}

// dispatcher takes packets for a client.
type dispatcher struct{ wire *channel.Endpoint }

var _ netstack.NetworkDispatcher = dispatcher{}

func (d dispatcher) DeliverNetworkPacket(protocol tcpip.NetworkProtocolNumber, p *netstack.PacketBuffer) {
	d.wire.InjectInbound(protocol, p)
}
func (dispatcher) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *netstack.PacketBuffer) {}

// zeros is a payload of so many bytes.
type zeros struct{ n int }

func (z *zeros) Len() int { return z.n }
func (z *zeros) Read(p []byte) (int, error) {
	n := min(z.n, len(p))
	z.n -= n
	return n, nil
}

// result is what one transfer came to.
type result struct {
	megabits                float64 // a second
	again, spurious, queued int     // segments
}

// measure moves size bytes over a path whose length the seed changes by a tenth at
// most.
func measure(t testing.TB, p path, s setting, seed uint64, upload bool, size int) result {
	t.Helper()
	// Without loss, chance has no other say.
	p.rtt = time.Duration(float64(p.rtt) * (0.9 + 0.2*rand.New(rand.NewPCG(seed, 1)).Float64()))
	x := newTransfer(t, p, s, seed, upload, size)
	defer x.close()
	took := x.run()
	w := &x.down
	if upload {
		w = &x.up
	}
	return result{float64(size) * 8 / 1e6 / took.Seconds(), w.again, w.spurious, w.full}
}

// choices are the paths that are measured. On a LAN the sender's own interface is
// the narrowest link, and drops nothing; a long path has a router's queue of 1 MiB.
func choices() []path {
	const ms, lan, router = time.Millisecond, 64 << 20, 1 << 20
	return []path{
		{name: "LAN, clean", rtt: ms / 10, gigabits: 10, queue: lan},
		{name: "LAN, 0.1 % lost", rtt: ms / 10, gigabits: 10, queue: lan, loss: 0.001},
		{name: "LAN, 1 % lost", rtt: ms / 10, gigabits: 10, queue: lan, loss: 0.01},
		{name: "LAN, 3 % lost", rtt: ms / 10, gigabits: 10, queue: lan, loss: 0.03},
		{name: "0.5 ms, 1 % late by 1 ms", rtt: ms / 2, gigabits: 10, queue: lan, late: 0.01, lateBy: ms},
		{name: "40 ms, clean", rtt: 40 * ms, gigabits: 1, queue: router},
		{name: "40 ms, 0.1 % lost", rtt: 40 * ms, gigabits: 1, queue: router, loss: 0.001},
		{name: "40 ms, 1 % lost", rtt: 40 * ms, gigabits: 1, queue: router, loss: 0.01},
		{name: "100 ms, clean", rtt: 100 * ms, gigabits: 1, queue: router},
		{name: "100 ms, 0.1 % lost", rtt: 100 * ms, gigabits: 1, queue: router, loss: 0.001},
		{name: "100 ms, 1 % lost", rtt: 100 * ms, gigabits: 1, queue: router, loss: 0.01},
	}
}

// TestTCPChoice measures what tcpOptions chooses among; docs/performance.md has the
// table. Without -choice it sees that the choice fills a clean LAN, where nothing is
// sent again, and that on one with loss what was lost is.
func TestTCPChoice(t *testing.T) {
	defer virtual.Take()()
	if *choiceSeeds == 0 {
		for _, upload := range []bool{false, true} {
			clean := measure(t, choices()[0], setting{}, 1, upload, 8<<20)
			lossy := measure(t, choices()[2], setting{}, 1, upload, 1<<20)
			if clean.again != 0 || clean.megabits < 5000 || lossy.again == 0 || lossy.megabits >= clean.megabits {
				t.Errorf("upload %v: on a clean LAN %+v, on one that loses 1 %% %+v", upload, clean, lossy)
			}
		}
		return
	}
	for _, p := range choices() {
		for _, s := range []setting{
			{"cubic", false, 1, 4}, {"cubic", true, 1, 4}, {"reno", false, 1, 4}, {"reno", true, 1, 4},
			{"cubic", false, 4, 8}, {"reno", false, 1, 1}, {"reno", false, 1, 2}, {"reno", false, 4, 8},
		} {
			report(t, p, s, false)
		}
		// For what it receives, a node's buffers are all that it chooses.
		for _, size := range []int{1, 2, 4, 8} {
			report(t, p, setting{"reno", false, size, size}, true)
		}
	}
}

// report measures with all seeds.
func report(t *testing.T, p path, s setting, upload bool) {
	what := "download"
	if upload {
		what = "upload"
	}
	head := fmt.Sprintf("%-25s %-8s %v", p.name, what, s)
	if !regexp.MustCompile(*choiceOnly).MatchString(head) {
		return
	}
	var rates []float64
	var sum result
	for seed := range *choiceSeeds {
		r := measure(t, p, s, uint64(seed+1), upload, *choiceBytes)
		rates = append(rates, r.megabits)
		sum.again, sum.spurious, sum.queued = sum.again+r.again, sum.spurious+r.spurious, sum.queued+r.queued
	}
	slices.Sort(rates)
	n := len(rates)
	fmt.Printf("%s  %6.0f Mb/s (%.0f to %.0f)  %d sent again, %d spurious, %d dropped by the queue\n",
		head, rates[n/2], rates[0], rates[n-1], sum.again/n, sum.spurious/n, sum.queued/n)
}
