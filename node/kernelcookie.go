package node

import (
	"net/netip"
	"slices"
	"time"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
	"onevoice/link/ingress"
)

// Answerer answers SYNs with cookies before this node sees them, in the kernel: an
// ingress.Filter. Its methods are called between frames.
type Answerer interface {
	// Answers reports whether it can for a service at all.
	Answers(service int) bool
	// SetCookies says what with, while SYNs of the service are not answered.
	SetCookies(service int, c *ingress.Cookies)
	// AnswerSYNs says in which buckets, from the next frame on; SettleAnswers waits until
	// no frame is judged by what was said before.
	AnswerSYNs(service int, buckets *Bitmap)
	SettleAnswers() error
	// SetAnswerLease says until when, SetAnswerTime how long the TCP's clock has gone.
	SetAnswerLease(service int, end time.Duration)
	SetAnswerTime(since time.Duration)
	// CountTuple leaves the SYNs of a flow of IPv4 to this node until UncountTuple;
	// UncountTuples takes back all.
	CountTuple(f *hashing.Flow)
	UncountTuple(f *hashing.Flow)
	UncountTuples()
	// AnsweredSYNs is how many SYNs were taken from this node so far, and how many of
	// them were answered, or lost.
	AnsweredSYNs() (taken, answered, lost uint64)
}

const (
	// answerWindow is for how long SYNs are counted.
	answerWindow = 20 * time.Millisecond
	// floodBegins is how many cookies of a service within it are a flood, whose SYNs the
	// kernel is to answer, 5,000 a second; when there are fewer than floodEnds in each of
	// quietWindows, it is over, and clients get what cookies cannot carry.
	floodBegins  = 100
	floodEnds    = 20
	quietWindows = 25
	// oddTime is for how long the kernel is not let again when it was quiet in the midst of
	// a flood: of SYNs that it leaves to this node.
	oddTime = 5 * time.Second
	// maxCompleting bounds the flows that may have begun with a cookie and are not in the
	// table yet, of a window. Beyond it no cookie is taken until the next.
	maxCompleting = 8192
	// maxAstray is how many of the SYNs that were taken may be unheard of: those of a
	// frame's way from one program to the other, on each processor.
	maxAstray = 4096
)

// kernelAnswers is what the kernel answers in the node's place.
type kernelAnswers struct {
	in Answerer // nil for nobody
	// on are the buckets in which it answers, by service, and was those in which it did
	// until this turn; any: there is one.
	on, was []Bitmap
	any     bool
	// kinds are those of what it answers with, by service.
	kinds []answerKinds
	// made are the cookies of this window that the node has made itself, by service.
	made   []int
	window time.Duration
	quiet  int
	// odd is until when it is not let again.
	odd time.Duration
	// answered are those of the kernel's that have been noted.
	answered uint64
	// failed: SYNs were taken and neither answered nor lost, because another program has
	// them. It is not tried again.
	failed bool
	// left: it is over, whatever comes.
	left bool
	// completing are flows whose cookie may have come back since the last window, and
	// completed those of the one before, also while the kernel does not answer: it may in
	// the next turn. Only while it does are they counted, as those of the table are.
	completing, completed []completion
}

// answerKinds are whether there is an answer without time stamps, and one with them.
type answerKinds struct{ plain, stamped bool }

func kindsOf(c *ingress.Cookies) answerKinds { return answerKinds{c.Plain != nil, c.Stamped != nil} }

// completion is a flow whose cookie may have come back.
type completion struct {
	flow    hashing.Flow
	service int
	bucket  uint8
}

// SetAnswerer gives the node somebody to answer floods of SYNs with cookies.
func (n *Node) SetAnswerer(in Answerer) {
	k := &n.kernel
	if n.answers == nil {
		return // the TCP tells nobody what its cookies are made from
	}
	k.in = in
	k.on, k.was = make([]Bitmap, len(n.services)), make([]Bitmap, len(n.services))
	k.kinds, k.made = make([]answerKinds, len(n.services)), make([]int, len(n.services))
}

// KernelAnswers reports whether the kernel answers SYNs now, and whether it was found that
// another program keeps it from that.
func (n *Node) KernelAnswers() (now, failed bool) { return n.kernel.any, n.kernel.failed }

// NoClients are addresses of IPv4 that no client has, besides the VIPs: this node's own, and
// those of the LANs and of all in them.
func (n *Node) NoClients() (out []netip.Addr) {
	if n.address.Is4() {
		out = append(out, n.address)
	}
	for i := range n.lans {
		if l := &n.lans[i]; n.vips[i].Addr.Is4() && l.host > 1 {
			out = append(out, addr4(l.net), addr4(l.net|l.host))
		}
	}
	return out
}

func addr4(v uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// tickAnswers has the kernel answer while there is a flood. It is called in each turn.
func (n *Node) tickAnswers(now time.Duration) {
	k := &n.kernel
	if k.in == nil {
		return
	}
	n.noteAnswered(now)
	if k.any {
		k.in.SetAnswerTime(n.answers.Since())
		for i := range k.on {
			if k.on[i] != (Bitmap{}) && !n.kernelMayAnswer(i) {
				n.AnswerAlone()
				break
			}
		}
	}
	if now < k.window {
		return
	}
	k.window = now + answerWindow
	n.endWindow(now)
	for i, made := range k.made {
		if k.made[i] = 0; made >= floodBegins && !k.failed && now >= k.odd && k.on[i] == (Bitmap{}) {
			n.letKernelAnswer(now, i)
		}
	}
}

// noteAnswered takes every bucket in which the kernel may have answered since the last turn
// as one in which it did: its cookies may come back (OWNERSHIP.md R12, R14, R17).
func (n *Node) noteAnswered(now time.Duration) {
	k := &n.kernel
	for i := range k.on {
		bits := k.on[i]
		for w := range bits {
			bits[w] |= k.was[i][w]
		}
		if bits == (Bitmap{}) {
			continue
		}
		k.was[i] = Bitmap{}
		n.cookies[i] = now
		for b := range hashing.Buckets {
			if bits.Has(uint8(b)) {
				n.cookiesOf[i][b] = now
			}
		}
	}
}

// endWindow counts what the kernel has answered, and has it stop when that is little, or
// when what is taken from this node does not come to where it is answered.
func (n *Node) endWindow(now time.Duration) {
	k := &n.kernel
	taken, answered, lost := k.in.AnsweredSYNs()
	more := answered - k.answered
	k.answered = answered
	n.counts[AnsweredSYN] += more
	n.answers.Sent(more)
	n.complete(now)
	switch {
	case !k.any:
	// The kernel counts meanwhile: more may have been answered by now than had been taken.
	case int64(taken-answered-lost) > maxAstray:
		k.failed = true
		n.AnswerAlone()
	case more >= floodEnds:
		// A burst now and then is no flood that lasts.
		k.quiet = max(k.quiet-1, 0)
	default:
		if k.quiet++; k.quiet == quietWindows {
			if slices.Max(k.made) >= floodBegins {
				k.odd = now + oddTime
			}
			n.AnswerAlone()
		}
	}
}

// kernelMayAnswer reports whether a SYN of the service, of whomever, would get a cookie
// here, and the one that the kernel makes.
func (n *Node) kernelMayAnswer(service int) bool {
	place := n.places[service]
	c, ok := n.answers.KernelCookies(place)
	return ok && !n.stopping && n.services[service].Admits == nil && n.flows.Up(place) && !n.flows.Full() && !n.table.full() &&
		kindsOf(&c) == n.kernel.kinds[service]
}

// letKernelAnswer has the kernel answer the SYNs of a service, in the buckets that are
// this node's under its lease.
func (n *Node) letKernelAnswer(now time.Duration, service int) {
	k := &n.kernel
	if k.left || !k.in.Answers(service) || !n.rights[service].lease.covers(now) {
		return
	}
	c, ok := n.answers.KernelCookies(n.places[service])
	k.kinds[service] = kindsOf(&c)
	if !ok || !n.kernelMayAnswer(service) {
		return
	}
	buckets := n.rights[service].accept
	if buckets == (Bitmap{}) {
		return
	}
	if !k.any {
		k.any, k.quiet = true, 0
		k.in.UncountTuples()
		for _, e := range n.table.order {
			k.count(&e.flow)
		}
		for _, list := range [][]completion{k.completing, k.completed} {
			for i := range list {
				k.count(&list[i].flow)
			}
		}
		n.table.answers = k
	}
	k.in.SetCookies(service, &c)
	k.in.SetAnswerTime(n.answers.Since())
	k.in.SetAnswerLease(service, n.rights[service].lease.end)
	k.on[service] = buckets
	k.in.AnswerSYNs(service, &buckets)
	// The next turn may begin with a move, before this would be noted.
	n.noteAnswered(now)
}

// AnswerAlone has the kernel answer nothing any more, and waits until that is so. Whose
// buckets they are may change after it (OWNERSHIP.md R17).
func (n *Node) AnswerAlone() {
	k := &n.kernel
	if !k.any {
		return
	}
	for i := range k.on {
		k.in.AnswerSYNs(i, &Bitmap{})
		k.in.SetAnswerLease(i, 0)
		for w := range k.on[i] {
			k.was[i][w] |= k.on[i][w]
		}
		k.on[i] = Bitmap{}
	}
	// Should it fail, the lease that was just taken keeps back what is not under way.
	_ = k.in.SettleAnswers()
	k.any, n.table.answers = false, nil
}

// LeaveAnswers has the kernel answer nothing any more, for good: its programs are to go.
func (n *Node) LeaveAnswers() {
	n.AnswerAlone()
	n.kernel.left = true
}

// leaseAnswers tells the kernel of a VIP's lease.
func (n *Node) leaseAnswers(vip int) {
	k := &n.kernel
	if !k.any {
		return
	}
	for i := range k.on {
		if n.rights[i].lease == &n.leases[vip] {
			k.in.SetAnswerLease(i, n.leases[vip].end)
		}
	}
}

// count leaves the SYNs of a flow to this node, which holds it (OWNERSHIP.md R13).
func (k *kernelAnswers) count(f *hashing.Flow) {
	if f.Dst.Is4() {
		k.in.CountTuple(f)
	}
}

func (k *kernelAnswers) uncount(f *hashing.Flow) {
	if f.Dst.Is4() {
		k.in.UncountTuple(f)
	}
}

// mayComplete notes that a segment goes to the TCP which may complete a cookie: its flow
// is then the TCP's, and in the table only when something is said of it again. It reports
// whether there was room to note it.
func (n *Node) mayComplete(service int, bucket uint8, f *hashing.Flow) bool {
	k := &n.kernel
	switch {
	case k.in == nil:
		return true
	case len(k.completing) == maxCompleting:
		return false
	case k.any:
		k.count(f)
	}
	k.completing = append(k.completing, completion{*f, service, bucket})
	return true
}

// complete takes those flows into the table that are the TCP's, a window after what may
// have completed them; while it is full, they wait.
func (n *Node) complete(now time.Duration) {
	k := &n.kernel
	waiting := k.completed[:0]
	for i := range k.completed {
		c := &k.completed[i]
		_, _ = n.lookup(now, c.service, c.bucket, &c.flow)
		if n.table.full() && n.flows.State(&c.flow) != flowstate.None && n.table.find(&c.flow) == nil {
			waiting = append(waiting, *c)
			continue
		}
		if k.any {
			k.uncount(&c.flow)
		}
	}
	k.completing, k.completed = waiting, k.completing
}
