package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"onevoice/hashing"
	"onevoice/internal/boottime"
	"onevoice/internal/flowstate"
	"onevoice/link"
	"onevoice/link/ingress"
	"onevoice/responder"
)

// flooded is a bench beside whose node the kernel answers floods, at the end of a cable.
type flooded struct {
	*bench
	filter *ingress.Filter
	// next is a port that no client has used.
	next uint16
}

// everybody is the MAC of the group that all hosts are in, for IGMP.
var everybody = responder.MAC{1, 0, 0x5e, 0, 0, 1}

// newFlooded has netstack answer with cookies, of both kinds, and the kernel in its place.
func newFlooded(t *testing.T) *flooded {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to load programs (CAP_BPF, CAP_NET_ADMIN)")
	}
	layCable(t)
	b := &flooded{bench: newBenchFor(t, echoBackend(t))}
	b.lease.end = Forever
	var err error
	b.filter, err = ingress.Load(ingress.Config{
		Own: ownMAC[:], Groups: []net.HardwareAddr{clusterMAC[:], everybody[:]}, Addresses: []netip.Addr{vipAddr},
		Services: FilteredServices(b.node.services), Never: b.node.NoClients(),
	})
	if err == nil {
		t.Cleanup(func() { b.filter.Close() })
		err = b.filter.AttachHost("near")
	}
	if errors.Is(err, ebpf.ErrNotSupported) {
		t.Skip(err)
	}
	if err = errors.Join(err, b.filter.NoAnswers()); err != nil {
		t.Fatal(err)
	}
	b.node.SetFilter(KernelFilter(b.filter))
	b.node.SetAnswerer(KernelAnswerer(b.filter))
	b.next = b.overflow(10_000) + 1
	b.now += 50 * time.Millisecond // netstack is asked again
	b.put1(stampedSYN(b.next, 77))
	b.until("the cookie with time stamps is sent", func() bool { return len(b.sentTo(b.next)) > 0 })
	b.next++
	b.flood()
	if on, _ := b.node.KernelAnswers(); !on {
		t.Fatal("the kernel does not answer a flood")
	}
	return b
}

// stampedSYN is a SYN with time stamps.
func stampedSYN(port uint16, stamp uint32) []byte {
	return optionSYN(port, binary.BigEndian.AppendUint32([]byte{2, 4, 5, 180, 8, 10}, stamp), []byte{0, 0, 0, 0, 1, 1})
}

// optionSYN is a SYN with options.
func optionSYN(port uint16, options ...[]byte) []byte {
	b := in(port, flagSYN, clientISN, 0, bytes.Join(options, nil))
	b[32] = byte(len(b)-20) / 4 << 4
	fixTransport(b)
	return b
}

// flood has the node itself make as many cookies as a flood's, besides SYNs that ask
// netstack, and ends the window when netstack has answered those, too: what it leaves
// unanswered has the node make no cookies for a while.
func (b *flooded) flood() {
	b.t.Helper()
	const syns = floodBegins + 10
	before := len(b.device.sent)
	for i := range uint16(syns) {
		b.put(noStamp, frame(etherTypeIPv4, in(b.next+i, flagSYN, clientISN, 0, nil)))
	}
	b.until("a flood is answered", func() bool {
		answered := map[uint16]bool{}
		for _, f := range b.device.sent[before:] {
			if len(f) < 54 {
				continue
			}
			if port := binary.BigEndian.Uint16(f[36:]); port-b.next < syns {
				answered[port] = true
			}
		}
		return len(answered) == syns
	})
	b.next += syns
	b.now += answerWindow
	b.turn()
}

// answer is what the kernel answers to a packet, nil for nothing.
func (b *flooded) answer(packet []byte) []byte {
	b.t.Helper()
	out, err := b.filter.Answer(frame(etherTypeIPv4, packet).Data)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// fresh is a port that nobody has used and whose SYNs the kernel answers, with the answer:
// those of a few ports are left to the node.
func (b *flooded) fresh() (port uint16, reply []byte) {
	b.t.Helper()
	for range 50 {
		b.next++
		if reply = b.answer(in(b.next, flagSYN, clientISN, 0, nil)); reply != nil {
			return b.next, reply
		}
	}
	b.t.Fatal("the kernel answers nothing")
	return 0, nil
}

// window is one in which the flood goes on.
func (b *flooded) window() {
	b.t.Helper()
	for range floodEnds {
		b.fresh()
	}
	b.now += answerWindow
	b.turn()
}

// someSYN is a frame that opens a flow or looks like that: mostly as clients do, with one
// thing about it that may be odd.
func someSYN(random *rand.Rand) []byte {
	options := [][]byte{
		{}, {2, 4, 5, 180}, {2, 4, 5, 0xa0}, {2, 4, 5, 20}, {2, 4, 0, 1}, {2, 4, 0, 0}, {2, 3, 5}, {1}, {0}, {3, 3, 7}, {3, 4, 7, 7}, {4, 2}, {4, 3, 0},
		{8, 10, 1, 2, 3, 4, 0, 0, 0, 0}, {8, 10, 0xff, 2, 3, 4, 9, 9, 9, 9}, {8, 9, 1, 2, 3, 4, 0, 0, 0}, {34, 2}, {34, 10, 1, 2, 3, 4, 5, 6, 7, 8}, {254, 1}, {99},
	}
	usual := [][]byte{
		{2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7}, {2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2}, {2, 4, 5, 180},
		{2, 4, 5, 180, 1, 3, 3, 6, 1, 1, 8, 10, 9, 8, 7, 6, 0, 0, 0, 0, 4, 2, 0, 0}, {},
	}
	all := slices.Clone(usual[random.IntN(len(usual))])
	if random.IntN(3) == 0 {
		for range random.IntN(5) {
			all = append(all, options[random.IntN(len(options))]...)
		}
	}
	for len(all)%4 != 0 {
		all = append(all, byte(random.IntN(2)))
	}
	all = all[:min(len(all), 40)]
	length := byte(20 + len(all))
	if random.IntN(10) == 0 {
		all = append(all, make([]byte, random.IntN(9))...)
	}
	src := netip.AddrFrom4([4]byte{byte(1 + random.IntN(223)), byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32())})
	b := tcp(src, uint16(1+random.IntN(65535)), 22, flagSYN, all)
	b[32] = length / 4 << 4
	binary.BigEndian.PutUint32(b[24:], random.Uint32())
	odd := random.IntN(40)
	oddly := func() {
		switch odd {
		case 0:
			b[33] |= byte(1 << random.IntN(8))
		case 1:
			b[32] = byte(random.IntN(256))
		case 2:
			b[20+random.IntN(len(b)-20)] ^= byte(1 << random.IntN(8))
		case 3:
			b[random.IntN(20)] ^= byte(1 << random.IntN(8))
		case 4:
			copy(b[12:], [][]byte{{0, 1, 2, 3}, {127, 0, 0, 1}, {224, 0, 0, 1}, ownAddr.AsSlice(), vipAddr.AsSlice(), {10, 77, 0, 255}, {10, 77, 0, 0}}[random.IntN(7)])
		case 5:
			binary.BigEndian.PutUint16(b[22:], uint16(random.IntN(30)))
		case 6:
			b[6] = byte(random.IntN(256))
		case 7:
			copy(b[20:], []byte{0, 0})
		case 8:
			// What a kernel leaves to the device.
			copy(b[36:], []byte{0, 0})
			pseudo := append(append([]byte{}, b[12:20]...), 0, b[9], byte((len(b)-20)>>8), byte(len(b)-20))
			binary.BigEndian.PutUint16(b[36:], slowSum(pseudo))
		}
	}
	fixed := random.IntN(2) == 0
	if fixed && odd != 8 {
		oddly()
	}
	fixIP(b)
	fixTransport(b)
	if !fixed || odd == 8 {
		oddly()
	}
	f := frame(etherTypeIPv4, b).Data
	switch odd {
	case 20:
		f = append(f, make([]byte, random.IntN(20))...)
	case 21:
		f = f[:len(f)-random.IntN(min(len(f)-14, 30))]
	case 22:
		copy(f, [][]byte{ownMAC[:], everybody[:]}[random.IntN(2)])
	case 23:
		copy(f[6:], [][]byte{ownMAC[:], clusterMAC[:], {0, 0, 0, 0, 0, 0}, {1, 2, 3, 4, 5, 6}}[random.IntN(4)])
	}
	return f
}

// What the kernel answers, the node would have, with the same bytes; and what it does not
// answer goes to the node as it is, and is a SYN in bad order, or one that asks netstack.
func TestTheKernelAnswersAsTheNode(t *testing.T) {
	b := newFlooded(t)
	random := rand.New(rand.NewPCG(4, 5))
	// Netstack's clock stands still, and nobody is asked.
	b.stack.HoldTime()
	defer b.stack.ReleaseTime()
	b.filter.SetAnswerTime(b.stack.Since())
	now, answered, stamped, left := b.now-1, 0, 0, 0
	for range 20_000 {
		f := someSYN(random)
		if len(f) < 34 {
			continue // the kernel refuses to try it
		}
		before := bytes.Clone(f)
		out, err := b.filter.Answer(f)
		if err != nil {
			t.Fatal(err)
		}
		pass, err := b.filter.Passes(f)
		if err != nil {
			t.Fatal(err)
		}
		h := b.node.Handle(now, &link.Frame{Data: f})
		switch {
		case out == nil && h.Verdict == AnsweredSYN:
			// It may be odd, or ask.
			if left++; !pass {
				t.Fatalf("%x is answered by nobody", f)
			}
		case out == nil:
		case h.Verdict != AnsweredSYN || !bytes.Equal(h.Reply, out):
			t.Fatalf("%x\nis answered by the kernel\n%x\nand by the node, with %v\n%x", f, out, h.Verdict, h.Reply)
		default:
			if answered++; len(out) > 58 {
				stamped++
			}
		}
		if !bytes.Equal(f, before) {
			t.Fatal("the frame is not what it was")
		}
	}
	t.Logf("%d answered, %d of them with time stamps; %d left to the node", answered, stamped, left)
	if answered < 10_000 || stamped < 4_000 || left > 4_000 {
		t.Errorf("%d answered, %d of them with time stamps; %d left to the node", answered, stamped, left)
	}
}

// R13: a SYN of a tuple that is held, in any state, is the node's, and one whose cookie has
// just come back, too; also where its bucket and all else would have the kernel answer.
func TestR13TheKernelAnswersNoHeldTuple(t *testing.T) {
	b := newFlooded(t)
	opens := func(port uint16) []byte { return in(port, flagSYN, clientISN+70_000, 0, nil) }
	free, _ := b.fresh()
	if b.answer(opens(10_000)) != nil {
		t.Error("a SYN of a half-open flow is answered")
	}
	// A client that means it: the kernel's cookie comes back.
	means, reply := b.fresh()
	number := binary.BigEndian.Uint32(reply[38:])
	b.put(noStamp, frame(etherTypeIPv4, in(means, flagACK, clientISN+1, number+1, nil)))
	b.turn()
	if b.answer(opens(means)) != nil {
		t.Error("a SYN of a flow whose cookie has just come back is answered")
	}
	b.state(means, flowstate.Open)
	for range 3 {
		b.window()
		if b.answer(opens(means)) != nil {
			t.Error("a SYN of an open flow is answered")
		}
	}
	f := toFlow(means)
	if b.node.table.find(&f) == nil {
		t.Error("the flow is not in the table")
	}
	if b.answer(opens(free)) == nil {
		t.Error("the kernel answers nothing any more")
	}
	b.node.forget(b.now, b.node.table.find(&f))
	if b.answer(opens(means)) != nil {
		t.Error("a SYN of a flow that was forgotten a moment ago is answered")
	}
	b.node.drop(b.now, b.node.table.find(&f))
	if b.answer(opens(means)) == nil {
		t.Error("a SYN of a flow that is gone is not answered")
	}
	// An acknowledgment of nothing leaves no trace.
	stray, _ := b.fresh()
	b.put1(in(stray, flagACK, clientISN+1, 4711, nil))
	if b.answer(opens(stray)) != nil {
		t.Error("a SYN of a flow that may be netstack's is answered")
	}
	b.window()
	b.window()
	if b.answer(opens(stray)) == nil {
		t.Error("a SYN is not answered after a stray")
	}
}

// R10: the kernel compares the lease with its own clock, for the node may have stopped; a
// node that goes on tells it at once.
func TestR10TheKernelAnswersUnderTheLease(t *testing.T) {
	b := newFlooded(t)
	port, _ := b.fresh()
	syn, ended := in(port, flagSYN, clientISN, 0, nil), boottime.Now()
	b.node.SetLease(0, 0, ended+time.Hour)
	if b.answer(syn) == nil {
		t.Fatal("not answered under the lease")
	}
	before := b.filter.Stats()
	b.node.SetLease(0, 0, ended)
	if b.answer(syn) != nil {
		t.Error("answered after the lease")
	}
	if s := b.filter.Stats(); s.LostSYNs != before.LostSYNs+1 || s.AnsweredSYNs != before.AnsweredSYNs {
		t.Errorf("%+v after %+v", s, before)
	}
}

// settling is an Answerer that notes what the kernel does when it is said to be settled.
type settling struct {
	Answerer
	settled func()
}

func (s *settling) SettleAnswers() error {
	s.settled()
	return s.Answerer.SettleAnswers()
}

// R17: a node whose bucket is taken away has the kernel answer nothing before it says so,
// and is a drainer of what the kernel has answered for a minute.
func TestR17TheKernelsCookies(t *testing.T) {
	b := newFlooded(t)
	port, _ := b.fresh()
	syn := in(port, flagSYN, clientISN, 0, nil)
	settled, answers := false, b.node.kernel.in
	b.node.kernel.in = &settling{answers, func() {
		if settled = true; b.answer(syn) != nil {
			t.Error("a SYN is answered after it was settled")
		}
		if slices.Contains(b.told, "turned 2") {
			t.Error("the ownership was told before")
		}
	}}
	// The node itself has answered in this client's bucket only, half a minute ago.
	b.now += unprovenTime / 2
	b.put1(in(port, flagACK, 1, 1, nil))
	ended := b.now
	b.fresh()
	bucket := b.node.bucketOf(0, &hashing.Flow{Src: asker, Dst: vipAddr, SrcPort: b.next, DstPort: 22, Proto: protoTCP})
	b.told = nil
	b.disown()
	if !settled || b.answer(syn) != nil {
		t.Errorf("settled %v, and a SYN is answered %v", settled, b.answer(syn) != nil)
	}
	everything := allBuckets()
	unproven := func() bool {
		return slices.ContainsFunc(b.node.Held(b.now, 0, &everything), func(h Held) bool { return h.Bucket == bucket && h.Unproven && h.Overflow })
	}
	b.now = ended + unprovenTime - 1
	if !unproven() {
		t.Error("a node whose kernel's cookie may come back is no drainer")
	}
	b.now++
	if unproven() {
		t.Error("a node is a drainer for a cookie that is a minute old")
	}
}

// The kernel answers while there is a flood, whoever stops and whatever is full; what it
// has answered is counted; and clients get what cookies cannot carry when it is over.
func TestTheKernelAnswersFloodsOnly(t *testing.T) {
	b := newFlooded(t)
	counts, sent := b.node.Counts()[AnsweredSYN], b.stack.Counters().CookiesSent
	for range quietWindows + 1 {
		b.window()
	}
	const answered = floodEnds * (quietWindows + 1)
	if got := b.node.Counts()[AnsweredSYN] - counts; got != answered {
		t.Errorf("%d verdicts, want %d", got, answered)
	}
	if got := b.stack.Counters().CookiesSent - sent; got != answered {
		t.Errorf("%d cookies are counted, want %d", got, answered)
	}
	on := func() bool { on, _ := b.node.KernelAnswers(); return on }
	for i := range quietWindows {
		if !on() {
			t.Errorf("over after %d quiet windows", i)
		}
		b.now += answerWindow
		b.turn()
	}
	if on() || b.answer(in(b.next, flagSYN, clientISN, 0, nil)) != nil {
		t.Error("the kernel answers when the flood is over")
	}
	b.flood()
	for range 3 {
		for range quietWindows - 1 {
			b.now += answerWindow
			b.turn()
		}
		if on() {
			b.window()
		}
	}
	if on() {
		t.Error("some 40 SYNs a second, in bursts, keep the kernel answering")
	}
	for what, so := range map[string]func(){
		"a stop":      func() { b.node.Stop() },
		"no backend":  func() { b.node.flows = &modelFlows{down: true} },
		"no room":     func() { b.node.flows = &modelFlows{full: true} },
		"astray":      func() { b.node.kernel.in = &astray{b.node.kernel.in} },
		"other cooky": func() { b.node.answers = &cookies{} },
	} {
		flows, in, answers := b.node.flows, b.node.kernel.in, b.node.answers
		if b.flood(); !on() {
			t.Fatalf("before %s: the kernel does not answer", what)
		}
		so()
		b.now += answerWindow
		b.turn()
		_, failed := b.node.KernelAnswers()
		if on() || failed != (what == "astray") {
			t.Errorf("%s: the kernel answers %v, failed %v", what, on(), failed)
		}
		b.node.stopping, b.node.kernel.failed, b.node.flows, b.node.kernel.in, b.node.answers = false, false, flows, in, answers
	}
}

// A flood of SYNs that the kernel leaves to the node, as of those with room for no segment,
// does not have it begin and cease all the time.
func TestAFloodThatTheKernelLeaves(t *testing.T) {
	b := newFlooded(t)
	on := func() bool { on, _ := b.node.KernelAnswers(); return on }
	flood := func() {
		for range 2 * floodBegins {
			b.next++
			b.put(noStamp, frame(etherTypeIPv4, optionSYN(b.next, []byte{2, 4, 0, 0})))
		}
		b.turn()
		b.now += answerWindow
		b.turn()
	}
	// Netstack may have room for a moment, too, and then none.
	for i := 0; b.node.kernel.odd <= b.now; i++ {
		if flood(); i == 10*quietWindows {
			t.Fatal("the kernel is let all the time")
		}
	}
	for range 3 {
		if on() {
			t.Fatal("the kernel is let in a flood that it leaves")
		}
		flood()
	}
	b.now += oddTime
	b.until("the kernel is let again", func() bool { flood(); return on() })
}

// astray is an Answerer whose SYNs another program has.
type astray struct{ Answerer }

func (a *astray) AnsweredSYNs() (taken, answered, lost uint64) { return 1 << 20, 0, 0 }

// late is an Answerer that was asked while the kernel counted: a SYN was answered after those
// that were taken had been read.
type late struct{ Answerer }

func (l *late) AnsweredSYNs() (taken, answered, lost uint64) { return 1000, 1001, 0 }

// The counters of a processor are not read at one moment.
func TestTheKernelCountsMeanwhile(t *testing.T) {
	b := newFlooded(t)
	b.node.kernel.in = &late{b.node.kernel.in}
	b.now += answerWindow
	b.turn()
	if on, failed := b.node.KernelAnswers(); !on || failed {
		t.Errorf("the kernel answers %v, failed %v", on, failed)
	}
}

// Over a wire each SYN of a flood has one answer, to where it came from, and does not come
// to the node's socket; what is left to the node comes there.
func TestTheKernelAnswersOverAWire(t *testing.T) {
	b := newFlooded(t)
	device, err := link.Open("near", &link.Filter{Addresses: []netip.Addr{vipAddr}, Groups: []net.HardwareAddr{clusterMAC[:]}})
	if err == nil {
		t.Cleanup(func() { device.Close() })
		err = b.filter.AttachSocket(device.FD())
	}
	if err != nil {
		t.Fatal(err)
	}
	far := farEnd(t)
	heard := boundTo(t, "far")
	random := rand.New(rand.NewPCG(6, 7))
	frames, answered := make([]link.Frame, link.MaxBatch), 0
	for i := range 500 {
		f := frame(etherTypeIPv4, in(uint16(1+random.IntN(65535)), flagSYN, random.Uint32(), 0, nil)).Data
		if random.IntN(2) == 0 {
			f = frame(etherTypeIPv4, stampedSYN(uint16(1+random.IntN(65535)), random.Uint32())).Data
		}
		want, err := b.filter.Answer(f)
		if err == nil {
			err = unix.Send(far, f, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		var got [128]byte
		if want == nil {
			if n, err := device.Receive(frames); err != nil || n != 1 || !bytes.Equal(frames[0].Data, f) {
				t.Fatalf("frame %d, %x: the node has got %d frames, %v", i, f, n, err)
			}
			continue
		}
		answered++
		n, err := unix.Read(heard, got[:])
		if err != nil || !bytes.Equal(got[:n], want) {
			t.Fatalf("frame %d, %x: heard %x, want %x (%v)", i, f, got[:max(n, 0)], want, err)
		}
		if n, err := device.Receive(frames); n != 0 || err != nil {
			t.Fatalf("frame %d, %x: the node has got it, too (%v)", i, f, err)
		}
	}
	if answered < 400 {
		t.Errorf("%d of 500 were answered", answered)
	}
}

// boundTo is a socket that hears what comes in at an interface, waiting for it a while.
func boundTo(t *testing.T, name string) int {
	t.Helper()
	const all = unix.ETH_P_IP>>8 | unix.ETH_P_IP<<8&0xffff
	fd := cableSocket(t, name, all)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// R17: from the turn on in which the kernel is let, each of its buckets counts as one with
// cookies: the next turn may begin with the bucket's move, and be asked for its list at once.
func TestR17AFloodHasJustBegun(t *testing.T) {
	b := newFlooded(t)
	buckets := b.node.kernel.on[0]
	if buckets == (Bitmap{}) {
		t.Fatal("the kernel answers in no bucket")
	}
	o := *b.ownership
	o.Generation++
	o.Services = []Rows{{Draining: allBuckets()}}
	if err := b.node.SetOwnership(&o); err != nil {
		t.Fatal(err)
	}
	all, unproven := allBuckets(), Bitmap{}
	for _, h := range b.node.Held(b.now, 0, &all) {
		if h.Unproven && h.Overflow {
			unproven.Set(h.Bucket)
		}
	}
	if unproven != buckets {
		t.Errorf("cookies may come back in %v, and the kernel answered in %v", unproven, buckets)
	}
}

// Acknowledgments of nothing, more than are remembered, take no cookie from anybody, and
// nothing that is held is forgotten; in the next window there is room again.
func TestStraysBeyondWhatIsNoted(t *testing.T) {
	b := newFlooded(t)
	stray := func(i int) Verdict {
		client := netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
		return b.node.Handle(b.now, frame(etherTypeIPv4, ofClient(client, in(4711, flagACK, 1, 1, nil)))).Verdict
	}
	for i := range maxCompleting {
		if v := stray(i); v != DeliverStray {
			t.Fatalf("stray %d: %v", i, v)
		}
	}
	if v := stray(maxCompleting); v != FlowsFull {
		t.Errorf("one more: %v", v)
	}
	if on, _ := b.node.KernelAnswers(); !on {
		t.Error("the kernel does not answer any more")
	}
	b.window()
	if v := stray(maxCompleting); v != DeliverStray {
		t.Errorf("a window later: %v", v)
	}
}

// R13: a flow that began with a cookie of the node's own is held, too, though nothing was
// said of it since, when a flood begins.
func TestR13AFloodBeginsAfterACookie(t *testing.T) {
	for what, ends := range map[string]func(*flooded){
		"in its window": func(*flooded) {},
		"long before":   func(b *flooded) { b.now += 3 * answerWindow; b.turn(); b.turn() },
		"while the table is full": func(b *flooded) {
			table := &b.node.table
			order := table.order
			table.order = make([]*tracked, MaxTracked)
			for range 3 {
				b.now += answerWindow
				b.node.tickAnswers(b.now)
			}
			table.order = order
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newFlooded(t)
			b.node.AnswerAlone()
			b.next++
			means := b.next
			b.put1(in(means, flagSYN, clientISN, 0, nil))
			b.until("a cookie is sent", func() bool { return len(b.sentTo(means)) > 0 })
			b.put1(in(means, flagACK, clientISN+1, b.sentTo(means)[0].seq+1, nil))
			b.state(means, flowstate.Open)
			ends(b)
			b.next++
			b.flood()
			if on, _ := b.node.KernelAnswers(); !on {
				t.Fatal("the kernel does not answer")
			}
			b.fresh()
			if b.answer(in(means, flagSYN, clientISN+70_000, 0, nil)) != nil {
				t.Error("a SYN of an open flow is answered")
			}
		})
	}
}
