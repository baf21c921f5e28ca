package node

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
	"onevoice/internal/poller"
	"onevoice/link"
	"onevoice/node/model"
	"onevoice/proxy"
	"onevoice/responder"
	"onevoice/stack"
	"onevoice/stack/virtual"
)

// mutePoller is a loop's poller in memory. Connections to backends are there at once.
type mutePoller struct{ events []poller.Event }

func (p *mutePoller) AddEdge(_ int, token uint64) error {
	p.events = append(p.events, poller.Event{Token: token, Writable: true})
	return nil
}
func (p *mutePoller) AddLevel(int, uint64) error                     { return nil }
func (p *mutePoller) Sleep()                                         {}
func (p *mutePoller) Wake()                                          {}
func (p *mutePoller) Wait(time.Duration) (e []poller.Event, _ error) { return nil, nil }

// muteBackend is a service in memory that takes everything and says nothing.
type muteBackend struct{}

func (muteBackend) FD() int                     { return 9 }
func (muteBackend) Connected() error            { return nil }
func (muteBackend) Ready(_, _, _ bool)          {}
func (muteBackend) Flush() error                { return nil }
func (muteBackend) Urgent()                     {}
func (muteBackend) Queued() int                 { return 0 }
func (muteBackend) Close()                      {}
func (muteBackend) Abort()                      {}
func (muteBackend) CloseWrite() error           { return nil }
func (muteBackend) Write(p []byte) (int, error) { return len(p), nil }
func (muteBackend) Read([]byte) (int, error)    { return 0, proxy.ErrAgain }

// onlooker is a whole node, loop and netstack, on virtual time, and what somebody on
// the LAN has seen of it. It judges by OWNERSHIP.md and the RFCs, and by frames.
type onlooker struct {
	t        *testing.T
	loop     *Loop
	node     *Node
	stack    *stack.Stack
	poller   *mutePoller
	device   *fakeDevice
	clock    *virtual.Clock
	settler  *virtual.Settler
	now      time.Duration
	rows     Rows
	leaseEnd time.Duration
	started  uint64 // generations of ownership
	// answered is when the last SYN-ACK left.
	answered time.Duration
	clients  map[uint16]*opener // by port
}

// opener is what was seen of one client's port.
type opener struct {
	// syns are the options of the SYNs that came in while the node might answer, by number.
	syns map[uint32][]string
	// answers are our SYN-ACKs, the newest last.
	answers []answered
	// proven: a segment came in that acknowledged one of them.
	proven bool
}

type answered struct {
	syn, number uint32
	at          time.Duration
	// stamped: with time stamps. cookie: netstack remembers nothing of it.
	stamped, cookie bool
}

func newOnlooker(t *testing.T, backlog int) *onlooker {
	t.Helper()
	o := &onlooker{
		t: t, poller: &mutePoller{}, clock: &virtual.Clock{}, settler: virtual.NewSettler(), now: time.Hour,
		leaseEnd: Forever, rows: Rows{Accept: allBuckets()}, clients: map[uint16]*opener{},
	}
	t.Cleanup(virtual.Take())
	o.clock.Advance(o.now, o.settler.Settle)
	o.device = &fakeDevice{told: func(string) {}}
	listen := netip.AddrPortFrom(vipAddr, 22)
	var err error
	if o.stack, err = stack.New(stack.Config{
		MTU: 1500, Addresses: []netip.Addr{vipAddr}, Poller: o.poller, Clock: o.clock, Random: virtual.NewRandom(1), Backlog: backlog,
		Services: []stack.Service{{Name: "ssh", Listen: listen, Dial: func(netip.AddrPort) (stack.Local, error) { return muteBackend{}, nil }}},
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.stack.Close)
	if o.node, err = New(Config{
		Own: ownMAC, Address: ownAddr, MTU: 1500, VIPs: []VIP{{VIP: responder.VIP{Addr: vipAddr, MAC: clusterMAC}, LAN: lan}},
		Services: []Service{{Proto: TCP, Listen: listen}}, Hasher: hashing.NewHasher(key), Flows: o.stack, Cookies: o.stack,
	}); err != nil {
		t.Fatal(err)
	}
	if o.loop, err = NewLoop(LoopConfig{
		Node: o.node, Stack: o.stack, Device: o.device, Poller: o.poller, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Clock: func() time.Duration { return o.now }, Real: func() time.Duration { return o.now + realOffset }, Begin: o.begin,
	}); err != nil {
		t.Fatal(err)
	}
	o.own(o.rows, Forever)
	return o
}

// begin puts the ownership in force.
func (o *onlooker) begin(time.Duration) {
	if o.node.Generation() == o.started {
		return
	}
	rows := []Rows{o.rows}
	if err := o.node.SetOwnership(&Ownership{Generation: o.started, VIPs: rows, Services: rows, LeaseEnd: o.leaseEnd}); err != nil {
		o.t.Fatal(err)
	}
}

func (o *onlooker) own(rows Rows, until time.Duration) {
	o.rows, o.leaseEnd = rows, until
	o.started++
	o.turn(nil)
}

func (o *onlooker) mine() bool { return o.rows.Accept.Has(0) && o.now < o.leaseEnd }

// alone: nobody else can hold a flow.
func (o *onlooker) alone() bool { return o.mine() && !o.rows.Grace.Has(0) && !o.rows.Shared.Has(0) }

// turn lets the loop turn until nothing is left to do, and judges what leaves.
func (o *onlooker) turn(frames []link.Frame) (sent int) {
	o.device.queue = append(o.device.queue, frames...)
	for range 3 {
		events := o.poller.events
		o.poller.events = nil
		if len(o.device.queue) > 0 {
			events = append(events, poller.Event{Token: deviceToken, Readable: true})
		}
		if err := o.loop.turn(o.now, events); err != nil {
			o.t.Fatal(err)
		}
		o.settler.Settle()
	}
	for _, f := range o.device.sent {
		if binary.BigEndian.Uint16(f[12:]) == etherTypeIPv4 && f[23] == protoTCP {
			sent++
			o.judge(f[ethernetBytes:])
		}
	}
	o.device.sent = o.device.sent[:0]
	return sent
}

// pass lets time pass, a turn of the loop at each of netstack's timers.
func (o *onlooker) pass(d time.Duration) {
	for end := o.now + d; o.now < end; o.turn(nil) {
		at, ok := o.clock.Next()
		if !ok {
			at = end
		}
		o.now = min(end, max(at, o.now+MaxIdle))
		o.clock.Advance(o.now, o.settler.Settle)
	}
}

func (o *onlooker) of(port uint16) *opener {
	if o.clients[port] == nil {
		o.clients[port] = &opener{syns: map[uint32][]string{}}
	}
	return o.clients[port]
}

// judge looks at a segment that leaves.
func (o *onlooker) judge(packet []byte) {
	s := model.Parse(packet)
	c := o.of(s.Dst.Port())
	var d Decoded
	data := append(append(append(make([]byte, 0, 14+len(packet)), clientMAC[:]...), ownMAC[:]...), 8, 0)
	switch v := d.Decode(&link.Frame{Data: append(data, packet...), Offload: link.Offload{Validated: true}}); {
	case v != Undecided:
		o.t.Errorf("%v leaves: %x", v, packet)
	case s.Src != netip.AddrPortFrom(vipAddr, 22) || s.Dst.Addr() != asker:
		o.t.Errorf("a segment leaves from %v to %v", s.Src, s.Dst)
	case s.Flags&flagSYN != 0:
		o.judgeSYNACK(c, &s, packet)
	case s.Flags&flagRST != 0 && !c.proven && !o.alone():
		o.t.Errorf("a reset that another node may owe: %+v", s)
	case s.Flags&flagRST == 0 && !c.proven:
		o.t.Errorf("%v has completed no handshake and is told %+v", s.Dst, s)
	}
}

// judgeSYNACK: it answers a SYN that was ours to answer, says of options only what
// that SYN has said, and echoes its time stamp (RFC 7323 §3.2).
func (o *onlooker) judgeSYNACK(c *opener, s *model.Segment, packet []byte) {
	told := readOptions(packet[40:])
	stamp, stamped := told[8]
	fits := func(syn string) bool {
		asked := readOptions([]byte(syn))
		was, asks := asked[8]
		if stamped && (!asks || stamp[4:] != was[:4]) {
			return false
		}
		for _, kind := range []byte{3, 4} {
			if _, says := told[kind]; says {
				if _, said := asked[kind]; !said {
					return false
				}
			}
		}
		return true
	}
	switch size, sized := told[2]; {
	case s.Flags != flagSYN|flagACK:
		o.t.Errorf("flags %x leave", s.Flags)
	case len(c.syns[s.Ack-1]) == 0:
		o.t.Errorf("a SYN-ACK for a SYN that did not come while this node might answer: %+v", s)
	case !o.mine():
		o.t.Errorf("a SYN-ACK without the right to it: %+v", s)
	case !slices.ContainsFunc(c.syns[s.Ack-1], fits):
		o.t.Errorf("a SYN-ACK with %x for SYNs with %x", packet[40:], c.syns[s.Ack-1])
	case !sized || size != "\x05\xb4":
		o.t.Errorf("a segment size of %x is told", size)
	}
	flow := toFlow(s.Dst.Port())
	c.answers = append(c.answers, answered{s.Ack - 1, s.Seq, o.now, stamped, o.stack.State(&flow) == flowstate.None})
	o.answered = o.now
}

// optionBytes are the sizes of the options that are read; of another size they say nothing.
var optionBytes = map[byte]byte{2: 4, 3: 3, 4: 2, 8: 10}

// readOptions are TCP options by kind, up to what is cut.
func readOptions(b []byte) map[byte]string {
	out := map[byte]string{}
	for len(b) > 0 && b[0] != 0 {
		if b[0] == 1 {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			break
		}
		if optionBytes[b[0]] == b[1] {
			out[b[0]] = string(b[2:b[1]])
		}
		b = b[b[1]:]
	}
	return out
}

// completes: what counts of a cookie is how far it is from the client's number, as it
// is in Linux; and whoever has one knows those of the other segment sizes, at most 3
// from it.
func (a *answered) completes(seq, ack uint32) bool { return ack-a.number-(seq-a.syn)+3 <= 6 }

// goodCookie is how long netstack takes a cookie, and goodOverflow how long the node
// looks for one after the last that it has sent.
const (
	goodCookie   = 3 * 64 * time.Second
	goodOverflow = 60 * time.Second
)

// put lets a segment in from a port, and judges what becomes of it.
func (o *onlooker) put(port uint16, flags uint8, seq, ack uint32, options, payload []byte) {
	packet := optioned(port, flags, seq, ack, options, payload)
	c, flow := o.of(port), toFlow(port)
	before, had := o.stack.State(&flow), len(c.answers)
	var d Decoded
	f := frame(etherTypeIPv4, packet)
	whole := d.Decode(f) == Undecided
	f.Stamp = o.now + realOffset
	due, may := false, false
	switch {
	case !whole:
	case flags&(flagSYN|flagACK) == flagSYN && o.mine():
		c.syns[seq] = append(c.syns[seq], string(options))
	case flags&(flagSYN|flagACK|flagRST) == flagACK:
		for i := range c.answers {
			a := &c.answers[i]
			right := ack == a.number+1 && int32(seq-a.syn) > 0
			c.proven = c.proven || right
			may = may || right && before == flowstate.HalfOpen || a.completes(seq, ack) && o.now-a.at <= goodCookie
			due = due || right && a.cookie && seq == a.syn+1 && i == had-1 && o.now-a.at < goodOverflow && a.stamped == d.TCP.Stamped
		}
		may = may && (before == flowstate.HalfOpen || o.now-o.answered <= goodOverflow)
		if before == flowstate.None {
			may = may && (o.mine() && !o.rows.Grace.Has(0) || !o.rows.Accept.Has(0) && o.rows.Draining.Has(0))
			due = due && o.mine() && !o.rows.Grace.Has(0)
		}
	}
	c.proven = c.proven || may
	sent := o.turn([]link.Frame{*f})
	after := o.stack.State(&flow)
	begun := after != before && after != flowstate.None && after != flowstate.HalfOpen && (before == flowstate.None || before == flowstate.HalfOpen)
	switch {
	case begun && !may:
		o.t.Errorf("a flow begins (%v, %v) with %x, %d, %d, after %+v", before, after, flags, seq, ack, c.answers)
	case due && before == flowstate.None && after == flowstate.None:
		o.t.Errorf("no flow begins with %x, %d, %d, after %+v", flags, seq, ack, c.answers)
	case sent > 1 && !begun:
		o.t.Errorf("%d segments leave for one", sent)
	}
}

// optioned is a segment with options, to a multiple of 4 bytes.
func optioned(port uint16, flags uint8, seq, ack uint32, options, payload []byte) []byte {
	options = options[:len(options)&^3]
	b := in(port, flags, seq, ack, append(slices.Clone(options), payload...))
	b[32] = byte(5+len(options)/4) << 4
	fixTransport(b)
	return b
}

// openings are options of SYNs, good and bad.
func openings() [][]byte {
	return [][]byte{
		nil, {2, 4, 0x05, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7}, {2, 4, 0x05, 0xb4},
		{1, 1, 8, 10, 9, 9, 9, 9, 0, 0, 0, 0}, {2, 4, 0, 0}, {4, 2, 1, 1, 2, 4, 0x02, 0x18}, {3, 3, 14, 0},
	}
}

// step does what 6 bytes of a program say.
func (o *onlooker) step(p []byte) {
	port := 40000 + uint16(p[1]%4)
	c := o.of(port)
	near := func(base uint32, by byte) uint32 {
		if by >= 240 {
			return base + uint32(by-240)<<27
		}
		return base + uint32(by%8) - 2
	}
	all := func(is byte) Bitmap {
		if is != 0 {
			return allBuckets()
		}
		return Bitmap{}
	}
	switch p[0] % 8 {
	case 0, 1: // a SYN, of few numbers
		options := slices.Clone(openings()[int(p[3])%len(openings())])
		if len(options) > 0 && p[4] != 0 {
			options[int(p[4])%len(options)] ^= p[5]
		}
		o.put(port, flagSYN, clientISN+uint32(p[2]%3)<<16, 0, options, nil)
	case 2, 3, 4: // what follows one of our answers
		a := answered{syn: clientISN, number: ownISN}
		if n := len(c.answers); n > 0 {
			a = c.answers[n-1-int(p[5]>>5)%n]
		}
		var options []byte
		if a.stamped {
			options = []byte{1, 1, 8, 10, 1, 2, 3, 5, 0, 0, 0, 0}
		}
		o.put(port, p[2]&0x3f, near(a.syn, p[3]), near(a.number, p[4]), options, make([]byte, p[5]%32))
	case 5:
		o.pass(time.Duration(p[1])*time.Millisecond + time.Duration(p[2]%70)*time.Second)
	case 6:
		rows, until := Rows{Accept: all(p[1] & 1), Grace: all(p[1] & 2), Shared: all(p[1] & 4)}, Forever
		if p[1]&1 == 0 {
			rows.Draining = all(p[1] & 8)
		}
		if p[1]&16 != 0 {
			until = o.now + time.Duration(p[2])*time.Millisecond
		}
		o.own(rows, until)
	case 7:
		flow := toFlow(port)
		if st := o.stack.State(&flow); st == flowstate.Open {
			o.put(port, flagRST, 0, 0, nil, nil)
		}
	}
}

// FuzzCookies: a whole node with netstack, whose service may have one half-open
// connection or a few, so that SYNs are answered with cookies, of netstack's and ahead
// of it. Whatever comes, in whatever order, while buckets move and leases end: a
// SYN-ACK only for a SYN that was this node's to answer, with no more than that has
// asked for; a flow only from what completes a SYN-ACK of ours in time, and that one
// always; nothing said before, and no reset that another node may owe.
func FuzzCookies(f *testing.F) {
	syn, linux, ack, data := []byte{0, 0, 0, 0, 0, 0}, []byte{0, 0, 0, 1, 0, 0}, []byte{2, 0, flagACK, 3, 3, 0}, []byte{2, 0, flagACK, 3, 3, 9}
	second, third := []byte{0, 1, 0, 1, 0, 0}, []byte{0, 2, 0, 3, 0, 0}
	disown, drained, back := []byte{6, 0, 0, 0, 0, 0}, []byte{6, 8, 0, 0, 0, 0}, []byte{6, 1, 0, 0, 0, 0}
	graced, shared, short := []byte{6, 3, 0, 0, 0, 0}, []byte{6, 5, 0, 0, 0, 0}, []byte{6, 17, 20, 0, 0, 0}
	wait, later, wrong := []byte{5, 50, 0, 0, 0, 0}, []byte{5, 0, 61, 0, 0, 0}, []byte{2, 0, flagACK, 3, 8, 0}
	for _, program := range [][][]byte{
		{syn, ack, data}, {linux, ack, data}, {third, second, linux, ack, data, {2, 1, flagACK, 3, 3, 0}},
		{linux, wrong, ack}, {linux, later, ack, data}, {linux, disown, ack, back, ack}, {linux, drained, ack, data}, {linux, graced, ack, shared, ack},
		{linux, {0, 1, 0, 0, 0, 0}, {0, 2, 0, 2, 0, 0}, {2, 1, flagACK, 3, 3, 0}}, {linux, short, wait, ack, linux, back, syn, ack}, {linux, second, third, wait, wait, linux, {2, 1, flagACK, 3, 3, 1}, ack},
	} {
		for backlog := range uint8(3) {
			f.Add(backlog, slices.Concat(program...))
		}
	}
	f.Fuzz(func(t *testing.T, backlog uint8, program []byte) {
		o := newOnlooker(t, 1+int(backlog%4))
		for n := 0; len(program) >= 6 && n < 64 && !t.Failed(); n++ {
			o.step(program[:6])
			program = program[6:]
		}
	})
}
