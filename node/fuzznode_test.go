package node

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
	"onevoice/link"
	"onevoice/node/model"
)

// wholeNode is a node before a TCP that resets whatever it does not know, with what
// an onlooker on the LAN could have seen of both. What it judges by are the words of
// OWNERSHIP.md and the frames, and nothing that the node says of itself.
type wholeNode struct {
	t    *testing.T
	node *Node
	tcp  *model.TCP
	now  time.Duration
	// rows and the lease's begin and end are the ownership in force.
	rows                 Rows
	leaseBegin, leaseEnd time.Duration
	// frames is how many came in, and mayLeave how many may have left for it.
	frames uint64
	seen   map[netip.AddrPort]*witnessed
}

// witnessed is what an onlooker has seen of one client's port.
type witnessed struct {
	// syns are the numbers of the SYNs that came in while the node might answer, without a
	// gap until now.
	syns map[uint32]bool
	// synacks are the numbers of our SYN-ACKs, by the SYN's that they acknowledge.
	synacks map[uint32]uint32
	// acked: a segment came in that acknowledged one of them. heard: any segment did.
	acked, heard bool
}

func newWholeNode(t *testing.T, backlog uint8) *wholeNode {
	n, _ := newNode(t)
	isn := uint32(0x1000)
	w := &wholeNode{t: t, node: n, now: time.Hour, leaseEnd: Forever, seen: map[netip.AddrPort]*witnessed{}}
	w.tcp = model.New(func() uint32 { isn += 0x10_0000; return isn })
	w.tcp.Backlog = int(backlog % 4)
	n.flows = w.tcp
	w.rows = Rows{Accept: allBuckets()}
	w.publish()
	w.turn()
	return w
}

func (w *wholeNode) publish() {
	rows := []Rows{w.rows}
	if err := w.node.SetOwnership(&Ownership{Generation: 1, VIPs: rows, Services: rows, LeaseBegin: w.leaseBegin, LeaseEnd: w.leaseEnd}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wholeNode) mine() bool { return w.rows.Accept.Has(0) && w.now < w.leaseEnd }

func (w *wholeNode) of(client netip.AddrPort) *witnessed {
	if w.seen[client] == nil {
		w.seen[client] = &witnessed{syns: map[uint32]bool{}, synacks: map[uint32]uint32{}}
	}
	return w.seen[client]
}

// turn is what a loop does in a turn.
func (w *wholeNode) turn() {
	w.node.Tick(w.now)
	w.tcp.Tick(w.now)
	w.leave()
}

// leave lets out what the TCP has made, and judges it.
func (w *wholeNode) leave() (sent int) {
	for _, packet := range w.tcp.Take() {
		if w.node.MayLeave(w.now, packet) == Undecided {
			w.judge(packet)
			sent++
		}
	}
	return sent
}

// judge looks at a segment that leaves.
func (w *wholeNode) judge(packet []byte) {
	s := model.Parse(packet)
	c := w.of(s.Dst)
	switch {
	case s.Src.Addr() != vipAddr:
		w.t.Errorf("a segment leaves from %v", s.Src)
	case !c.heard:
		w.t.Errorf("%v was never heard and is told %+v", s.Dst, s)
	case s.Flags&flagSYN != 0:
		was, again := c.synacks[s.Ack-1]
		switch {
		case !c.syns[s.Ack-1]:
			w.t.Errorf("a SYN-ACK for a SYN that did not come since this node may answer: %+v", s)
		case !w.mine():
			w.t.Errorf("a SYN-ACK without the right to it: %+v", s)
		case again && was != s.Seq && w.tcp.Backlog > 0:
			// A tuple that is used again, and a cookie, may have another.
			if f := (hashing.Flow{Src: s.Dst.Addr(), SrcPort: s.Dst.Port(), Dst: s.Src.Addr(), DstPort: s.Src.Port(), Proto: protoTCP}); w.tcp.State(&f) == flowstate.Open {
				w.t.Errorf("an open flow is answered with %d and %d", was, s.Seq)
			}
		}
		c.synacks[s.Ack-1] = s.Seq
	case s.Flags&flagRST != 0:
		alone := w.mine() && !w.rows.Grace.Has(0) && !w.rows.Shared.Has(0)
		if !c.acked && !alone {
			w.t.Errorf("a reset that another node may owe: %+v", s)
		}
	case !c.acked:
		w.t.Errorf("%v has completed no handshake and is told %+v", s.Dst, s)
	}
}

// put lets a frame in, and wants no more than one frame for it.
func (w *wholeNode) put(data []byte) {
	var d Decoded
	if d.Decode(&link.Frame{Data: data}) == Undecided && d.EtherType == etherTypeIPv4 && d.Flow.Proto == protoTCP {
		c := w.of(netip.AddrPortFrom(d.Flow.Src, d.Flow.SrcPort))
		c.heard = true
		switch flags := d.TCP.Flags & (flagSYN | flagACK); {
		case flags == flagSYN && w.mine():
			c.syns[d.TCP.Seq] = true
		case flags == flagACK:
			for syn, ours := range c.synacks {
				c.acked = c.acked || d.TCP.Ack == ours+1 && int32(d.TCP.Seq-syn) > 0
			}
		}
	}
	before := w.node.Counts()
	h := w.node.Handle(w.now, &link.Frame{Data: append([]byte{}, data...)})
	if c := w.node.Counts(); c[h.Verdict] != before[h.Verdict]+1 {
		w.t.Fatalf("%v is not counted once", h.Verdict)
	}
	w.frames++
	sent := len(h.Rest)
	if h.Reply != nil {
		sent++
		checkReply(w.t, data, &h)
		if !w.mine() {
			w.t.Errorf("%v: a reply without the right to one", h.Verdict)
		}
	}
	if h.Packet != nil && h.Verdict != DeliverError {
		w.tcp.Deliver(w.now, h.Packet)
	}
	if sent += w.leave(); sent > 1 {
		w.t.Errorf("%v: %d frames leave for one", h.Verdict, sent)
	}
}

// segment is a client's, whose numbers are near those of its flow.
func (w *wholeNode) segment(port, flags, seq, ack, length byte) []byte {
	p := 40000 + uint16(port%3)
	f := toFlow(p)
	client, own, known := w.tcp.Numbers(&f)
	if !known {
		client, own = clientISN, ownISN
	}
	near := func(base uint32, by byte) uint32 {
		if by >= 240 {
			return base + uint32(by-240)<<27 // far off
		}
		return base + uint32(by%8) - 2
	}
	b := in(p, flags, near(client, seq), near(own, ack), make([]byte, length%32))
	return frame(etherTypeIPv4, b).Data
}

// step does what 6 bytes of a program say.
func (w *wholeNode) step(p []byte, raw [][]byte) {
	all := func(is byte) Bitmap {
		if is != 0 {
			return allBuckets()
		}
		return Bitmap{}
	}
	switch p[0] % 8 {
	default:
		w.put(w.segment(p[1], p[2]&0x3f, p[3], p[4], p[5]))
	case 3:
		data := append([]byte{}, raw[int(p[1])%len(raw)]...)
		data[int(binary.BigEndian.Uint16(p[2:]))%len(data)] ^= p[4]
		w.put(data)
	case 4:
		w.now += time.Duration(p[1])*time.Millisecond + time.Duration(p[2]%70)*time.Second
		w.turn()
	case 5:
		w.now++
		if w.now >= w.leaseEnd {
			w.leaseBegin = w.now
		}
		before := w.mine()
		w.rows = Rows{Accept: all(p[1] & 1), Grace: all(p[1] & 2), Shared: all(p[1] & 4)}
		if p[1]&1 == 0 {
			w.rows.Draining = all(p[1] & 8)
		}
		w.leaseEnd = Forever
		if p[1]&16 != 0 {
			w.leaseEnd = w.now + time.Duration(p[2])*time.Millisecond
		}
		if !before {
			for _, c := range w.seen {
				clear(c.syns)
			}
		}
		w.publish()
		w.turn()
	case 6:
		f := toFlow(40000 + uint16(p[1]%3))
		w.tcp.Finish(&f)
		w.leave()
	}
}

// FuzzNode: a whole node over a while, with flows, moves of its buckets, leases that
// end, grace and drainers. Whatever comes, in whatever order: no SYN-ACK without a SYN
// that is this node's to answer since it came, none without the right, nothing said in a flow whose
// handshake was not completed, no reset that another may owe, never more than one frame
// for a frame, and at the end nothing is kept of what has ended.
func FuzzNode(f *testing.F) {
	var raw [][]byte
	seeds(func(l *link.Frame) {
		if len(l.Data) > 0 {
			raw = append(raw, l.Data)
		}
	})
	syn, ack, data := []byte{0, 0, flagSYN, 2, 0, 0}, []byte{0, 0, flagACK, 3, 3, 0}, []byte{0, 0, flagACK, 3, 3, 9}
	disown, drained, back := []byte{5, 0, 0, 0, 0, 0}, []byte{5, 8, 0, 0, 0, 0}, []byte{5, 1, 0, 0, 0, 0}
	graced, shared, short := []byte{5, 3, 0, 0, 0, 0}, []byte{5, 5, 0, 0, 0, 0}, []byte{5, 17, 20, 0, 0, 0}
	wait, later, finish := []byte{4, 50, 0, 0, 0, 0}, []byte{4, 0, 65, 0, 0, 0}, []byte{6, 0, 0, 0, 0, 0}
	reset, second := []byte{0, 0, flagRST, 3, 3, 0}, []byte{0, 0, flagSYN, 5, 0, 0}
	for _, program := range [][][]byte{
		{syn, disown, back, {4, 0, 3, 0, 0, 0}, syn, ack}, {syn, short, wait, back, {4, 0, 3, 0, 0, 0}, second, ack},
		{syn, ack, data, finish, {0, 0, flagFIN | flagACK, 3, 4, 0}, later, syn},
		{syn, disown, ack, wait, back, syn, ack}, {syn, ack, drained, data, second, reset, later},
		{syn, short, wait, ack, syn, back, syn, ack}, {data, graced, data, shared, data, back, data},
		{syn, second, ack, later, data}, {{3, 5, 0, 20, 4, 0}, {3, 9, 0, 30, 1, 0}, syn, {3, 60, 0, 40, 9, 0}},
	} {
		for backlog := range uint8(2) {
			var all []byte
			for _, p := range program {
				all = append(all, p...)
			}
			f.Add(backlog, all)
		}
	}
	f.Fuzz(func(t *testing.T, backlog uint8, program []byte) {
		w := newWholeNode(t, backlog)
		for n := 0; len(program) >= 6 && n < 200; n++ {
			w.step(program[:6], raw)
			program = program[6:]
		}
		if n := len(w.node.table.order); uint64(n) > w.frames+3 {
			t.Errorf("%d flows are kept of %d frames", n, w.frames)
		}
		for range 200 {
			w.now += time.Second
			w.turn()
		}
		if open := len(w.tcp.Flows()); len(w.node.table.order) > open {
			t.Errorf("%d flows are kept, and the TCP has %d", len(w.node.table.order), open)
		}
	})
}
