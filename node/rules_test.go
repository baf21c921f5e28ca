package node

import (
	"maps"
	"testing"
	"time"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
)

// port is the client's in the tests of the rules.
const port = 40000

// segments are what a client may send, by what they are to the flow that hold
// makes.
func segments() map[string][]byte {
	const far, farACK = 1 << 30, ownISN - 1<<30
	return map[string][]byte{
		"SYN":        in(port, flagSYN, clientISN, 0, nil),
		"other SYN":  in(port, flagSYN, clientISN+777, 0, nil),
		"ACK":        in(port, flagACK, clientISN+1, ownISN+1, nil),
		"data":       in(port, flagACK, clientISN+1, ownISN+1, []byte("data")),
		"later data": in(port, flagACK, clientISN+60_000, ownISN+1, []byte("data")),
		"old data":   in(port, flagACK, clientISN-60_000, ownISN+1, []byte("data")),
		"bad ACK":    in(port, flagACK, clientISN+1, ownISN+2, nil),
		"short ACK":  in(port, flagACK, clientISN+1, ownISN, nil),
		"zero ACK":   in(port, flagACK, clientISN+1, 0, nil),
		"far":        in(port, flagACK, clientISN+far, ownISN+1, []byte("data")),
		"far ACK":    in(port, flagACK, clientISN+1, farACK, nil),
		"keep-alive": in(port, flagACK, clientISN, ownISN+1, nil),
		"SYN-ACK":    in(port, flagSYN|flagACK, clientISN+1, ownISN+1, nil),
		"FIN":        in(port, flagFIN|flagACK, clientISN+1, ownISN+1, nil),
		"RST":        in(port, flagRST, clientISN+1, 0, nil),
		"far RST":    in(port, flagRST, clientISN+far, 0, nil),
	}
}

// situation is what a node holds of a flow and what it knows of its bucket.
type situation struct {
	state flowstate.State
	// owned and the rest are the bucket's bits.
	owned, grace, shared, draining bool
	// over: the lease has run out. cookies: the listener has sent some. beside:
	// another flow of the bucket is open.
	over, cookies, beside bool
}

// make makes a node in the situation.
func (s situation) make(t *testing.T) (*Node, *modelFlows) {
	t.Helper()
	n, flows := newNode(t)
	n.Tick(time.Hour)
	if s.cookies {
		cookie(t, n)
	}
	if s.beside {
		hold(t, n, flows, port+5, flowstate.Open)
	}
	if s.state != flowstate.None {
		hold(t, n, flows, port, s.state)
	}
	bits := func(is bool) Bitmap {
		if is {
			return allBuckets()
		}
		return Bitmap{}
	}
	rows := []Rows{{Accept: bits(s.owned), Grace: bits(s.grace), Shared: bits(s.shared), Draining: bits(s.draining)}}
	o := &Ownership{Generation: 2, VIPs: rows, Services: rows, LeaseEnd: Forever}
	if s.over {
		o.LeaseEnd = time.Hour
	}
	if err := n.SetOwnership(o); err != nil {
		t.Fatal(err)
	}
	return n, flows
}

// cookie makes the listener send a SYN cookie: a SYN-ACK of a flow that the TCP
// does not hold.
func cookie(t *testing.T, n *Node) {
	t.Helper()
	if v := n.MayLeave(n.last, out(port+1, flagSYN|flagACK, 7, 8, nil)); v != Undecided {
		t.Fatalf("a SYN cookie: %v", v)
	}
}

// judge checks what becomes of segments in a situation, each on a node of its
// own.
func judge(t *testing.T, s situation, want map[string]Verdict) {
	t.Helper()
	all := segments()
	for name, v := range want {
		if all[name] == nil {
			t.Fatalf("no segment is called %q", name)
		}
		n, _ := s.make(t)
		h := n.Handle(n.last, frame(etherTypeIPv4, all[name]))
		if h.Verdict != v {
			t.Errorf("%+v, %s: %v, want %v", s, name, h.Verdict, v)
		}
		if delivered := h.Packet != nil; delivered != (v >= DeliverSYN && v <= DeliverError) {
			t.Errorf("%+v, %s: delivered is %v", s, name, delivered)
		}
		judgeAnswered(t, s, name, v)
	}
}

// What is let in: a SYN of an owned bucket, any segment of a flow that is held,
// an ACK that completes a half-open flow of ours or a SYN cookie of ours.
func TestR12In(t *testing.T) {
	judge(t, situation{owned: true}, map[string]Verdict{"SYN": DeliverSYN, "ACK": StrayAnswered, "RST": StrayReset})
	judge(t, situation{owned: true, cookies: true}, map[string]Verdict{
		"SYN": DeliverSYN, "ACK": DeliverStray, "FIN": DeliverStray, "RST": StrayReset, "SYN-ACK": StrayAnswered})
	judge(t, situation{owned: true, grace: true}, map[string]Verdict{"SYN": DeliverSYN, "ACK": StrayInGrace, "RST": StrayInGrace})
	judge(t, situation{owned: true, grace: true, cookies: true}, map[string]Verdict{"SYN": DeliverSYN, "ACK": StrayInGrace})
	judge(t, situation{owned: true, shared: true}, map[string]Verdict{"SYN": DeliverSYN, "ACK": StrayShared})
	judge(t, situation{owned: true, shared: true, cookies: true}, map[string]Verdict{
		"SYN": DeliverSYN, "ACK": DeliverStray, "RST": StrayShared, "SYN-ACK": StrayShared})
	judge(t, situation{}, map[string]Verdict{"SYN": NotOwner, "ACK": NotOwner})
	judge(t, situation{cookies: true}, map[string]Verdict{"SYN": NotOwner, "ACK": NotOwner})
	judge(t, situation{draining: true}, map[string]Verdict{"SYN": NotOwner, "ACK": NotOwner})
	judge(t, situation{draining: true, cookies: true}, map[string]Verdict{
		"SYN": NotOwner, "ACK": DeliverStray, "data": DeliverStray, "RST": NotOwner, "SYN-ACK": NotOwner})
	judge(t, situation{owned: true, over: true, cookies: true}, map[string]Verdict{"SYN": NoLease, "ACK": NoLease})

	half := map[string]Verdict{
		"ACK": DeliverHeld, "data": DeliverHeld, "later data": DeliverHeld, "FIN": DeliverHeld, "RST": DeliverHeld,
		"bad ACK": BadHandshakeACK, "short ACK": BadHandshakeACK, "zero ACK": BadHandshakeACK, "far": BadHandshakeACK, "keep-alive": BadHandshakeACK,
		"old data": BadHandshakeACK, "SYN-ACK": BadHandshakeACK, "far RST": BadHandshakeACK,
	}
	unsent := maps.Clone(half)
	unsent["bad ACK"], unsent["short ACK"], unsent["zero ACK"] = UnsentACK, UnsentACK, UnsentACK
	for s, want := range map[situation]map[string]Verdict{
		{owned: true}: unsent, {draining: true}: half, {owned: true, over: true}: half, {owned: true, grace: true, shared: true}: unsent,
	} {
		s.state = flowstate.HalfOpen
		judge(t, s, want)
	}
	judge(t, situation{state: flowstate.HalfOpen, owned: true}, map[string]Verdict{"SYN": DeliverSYN, "other SYN": SecondSYN})
	judge(t, situation{state: flowstate.Open, owned: true}, map[string]Verdict{
		"SYN": DeliverHeld, "data": DeliverHeld, "far": DeliverHeld, "RST": DeliverHeld, "SYN-ACK": DeliverHeld})
	judge(t, situation{state: flowstate.TimeWait, owned: true}, map[string]Verdict{
		"SYN": DeliverSYN, "ACK": DeliverHeld, "FIN": DeliverHeld})
}

// An ACK of a flow that began with a cookie is known for a flow of ours from
// then on, and nothing is taken for a cookie a minute after the last.
func TestR12CookiesAreGoodForAMinute(t *testing.T) {
	n, flows := situation{owned: true, cookies: true}.make(t)
	ack := frame(etherTypeIPv4, segments()["ACK"])
	if v := n.Handle(time.Hour+unprovenTime-1, ack).Verdict; v != DeliverStray {
		t.Errorf("the ACK of a cookie: %v", v)
	}
	flows.states[toFlow(port)] = flowstate.Open
	if v := n.Handle(time.Hour+unprovenTime-1, ack).Verdict; v != DeliverHeld {
		t.Errorf("once the cookie was taken: %v", v)
	}
	if v := n.Handle(2*time.Hour, ack).Verdict; v != DeliverHeld {
		t.Errorf("an hour later: %v", v)
	}
	n, _ = situation{owned: true, cookies: true}.make(t)
	if v := n.Handle(time.Hour+unprovenTime, ack).Verdict; v != StrayAnswered {
		t.Errorf("a minute after the last cookie: %v", v)
	}
}

// An ACK that does not fit a half-open flow may complete a cookie that went out
// for the same SYN; if it does not, netstack's reset stays here.
func TestR12CookieBeforeAHalfOpenFlow(t *testing.T) {
	n, flows := situation{state: flowstate.HalfOpen, owned: true, cookies: true}.make(t)
	ack, reset := frame(etherTypeIPv4, segments()["bad ACK"]), out(port, flagRST, ownISN+2, 0, nil)
	if v := n.Handle(n.last, ack).Verdict; v != DeliverHeld {
		t.Errorf("%v", v)
	}
	if v := n.MayLeave(n.last, reset); v != UnearnedReset {
		t.Errorf("the reset that it draws: %v", v)
	}
	flows.states[toFlow(port)] = flowstate.Open
	n.Handle(n.last, ack)
	if v := n.MayLeave(n.last, reset); v != Undecided {
		t.Errorf("a reset once the cookie was taken: %v", v)
	}
}

// A SYN for a bucket that is not ours is never answered, in any state: the flow
// of its tuple is forgotten in silence, half-open or closed; an open one stays
// and is not shown the SYN.
func TestR13Never(t *testing.T) {
	for state, c := range map[flowstate.State]struct {
		want   Verdict
		forgot bool
	}{
		flowstate.None:     {NotOwner, false},
		flowstate.HalfOpen: {ForgotFlow, true},
		flowstate.Open:     {NotOwner, false},
		flowstate.Closing:  {ForgotFlow, true},
		flowstate.TimeWait: {ForgotFlow, true},
	} {
		for _, name := range []string{"SYN", "other SYN"} {
			n, flows := situation{state: state, draining: true, beside: true}.make(t)
			h := n.Handle(n.last, frame(etherTypeIPv4, segments()[name]))
			if h.Verdict != c.want || h.Packet != nil || h.Reply != nil {
				t.Errorf("%v, %s: %v with a packet of %d bytes and a reply of %d", state, name, h.Verdict, len(h.Packet), len(h.Reply))
			}
			if forgot := len(flows.forgotten) == 1 && flows.forgotten[0] == toFlow(port); forgot != c.forgot {
				t.Errorf("%v, %s: forgotten are %v", state, name, flows.forgotten)
			}
			if !c.forgot {
				continue
			}
			// Whatever netstack says about it stays here, and later segments of the
			// tuple are the owner's.
			for _, flags := range []uint8{flagRST | flagACK, flagACK, flagFIN | flagACK} {
				if v := n.MayLeave(n.last, out(port, flags, ownISN+1, clientISN+1, nil)); v != Muted {
					t.Errorf("%v: a segment with flags %x leaves: %v", state, flags, v)
				}
			}
			if v := n.Handle(n.last, frame(etherTypeIPv4, segments()["data"])).Verdict; v != NotOwner {
				t.Errorf("%v: the next segment: %v", state, v)
			}
			own(t, n, allBuckets(), Forever)
			for _, flags := range []uint8{flagRST, flagSYN | flagACK} {
				if v := n.MayLeave(n.last, out(port, flags, ownISN, clientISN+1, nil)); v != Muted {
					t.Errorf("%v: a segment with flags %x leaves once the bucket is ours: %v", state, flags, v)
				}
			}
		}
	}
	// Without a lease, too, nothing answers; but the flow is not given up, for
	// nobody else answers for the bucket as far as this node knows.
	n, flows := situation{state: flowstate.HalfOpen, owned: true, over: true}.make(t)
	if v := n.Handle(n.last, frame(etherTypeIPv4, segments()["SYN"])).Verdict; v != NoLease || len(flows.forgotten) != 0 {
		t.Errorf("half-open, lease over: %v, forgotten %v", v, flows.forgotten)
	}
}

// A flow that was forgotten may begin again, with us.
func TestR13ForgottenTupleBeginsAgain(t *testing.T) {
	n, flows := situation{state: flowstate.HalfOpen}.make(t)
	n.Handle(n.last, frame(etherTypeIPv4, segments()["SYN"]))
	own(t, n, allBuckets(), Forever)
	if v := n.Handle(n.last, frame(etherTypeIPv4, segments()["SYN"])).Verdict; v != DeliverSYN {
		t.Fatalf("the SYN: %v", v)
	}
	flows.states[toFlow(port)] = flowstate.HalfOpen
	if v := n.MayLeave(n.last, out(port, flagSYN|flagACK, 5, clientISN+1, nil)); v != Undecided {
		t.Fatalf("the SYN-ACK: %v", v)
	}
	if v := n.Handle(n.last, frame(etherTypeIPv4, in(port, flagACK, clientISN+1, 6, nil))).Verdict; v != DeliverHeld {
		t.Errorf("the ACK: %v", v)
	}
	if v := n.MayLeave(n.last, out(port, flagRST, 6, clientISN+1, nil)); v != Undecided {
		t.Errorf("a reset of the new flow: %v", v)
	}
}

// A reset leaves only for a flow whose handshake this node saw complete, or for
// a stray that nobody else can hold.
func TestR14Out(t *testing.T) {
	reset := out(port, flagRST|flagACK, ownISN+1, clientISN+1, nil)
	for _, c := range []struct {
		situation
		want Verdict
	}{
		{situation{state: flowstate.HalfOpen, owned: true}, UnearnedReset},
		{situation{state: flowstate.HalfOpen, draining: true}, UnearnedReset},
		{situation{state: flowstate.Open, owned: true}, Undecided},
		{situation{state: flowstate.Open, draining: true}, Undecided},
		{situation{state: flowstate.Open, owned: true, over: true, grace: true}, Undecided},
		{situation{owned: true}, Undecided},
		{situation{owned: true, over: true}, UnearnedReset},
		{situation{owned: true, grace: true}, UnearnedReset},
		{situation{owned: true, shared: true}, UnearnedReset},
		{situation{owned: true, grace: true, cookies: true}, UnearnedReset},
		{situation{draining: true, cookies: true}, UnearnedReset},
		{situation{}, UnearnedReset},
	} {
		n, _ := c.make(t)
		if got := n.MayLeave(n.last, reset); got != c.want {
			t.Errorf("%+v: %v, want %v", c.situation, got, c.want)
		}
		if c.want != Undecided && n.Counts()[c.want] != 1 {
			t.Errorf("%+v: not counted", c.situation)
		}
		// What is no reset and no SYN-ACK leaves.
		if got := n.MayLeave(n.last, out(port, flagACK, ownISN+1, clientISN+1, []byte("data"))); got != Undecided {
			t.Errorf("%+v: data: %v", c.situation, got)
		}
		// But a bare ACK of a flow that is half-open: it answers a SYN that came
		// again, and the SYN-ACK may never have left.
		want := Undecided
		if c.state == flowstate.HalfOpen {
			want = EarlyACK
		}
		if got := n.MayLeave(n.last, out(port, flagACK, ownISN+1, clientISN+1, nil)); got != want {
			t.Errorf("%+v: bare ACK: %v, want %v", c.situation, got, want)
		}
	}
	// The reset that the gate itself makes is under the same rule.
	for s, want := range map[situation]bool{{owned: true}: true, {owned: true, grace: true}: false, {owned: true, shared: true}: false, {}: false} {
		n, _ := s.make(t)
		if got := n.Handle(n.last, frame(etherTypeIPv4, segments()["data"])).Reply != nil; got != want {
			t.Errorf("%+v: a stray is reset: %v", s, got)
		}
	}
}

// A SYN-ACK accepts a flow: it leaves for an owned bucket, under the lease.
func TestR14SYNACKsOfOthersBucketsStay(t *testing.T) {
	for s, want := range map[situation]Verdict{
		{owned: true}:             Undecided,
		{owned: true, over: true}: LateSYNACK,
		{draining: true}:          LateSYNACK,
		{state: flowstate.HalfOpen, owned: true, shared: true}: Undecided,
		{state: flowstate.HalfOpen, draining: true}:            LateSYNACK,
	} {
		n, flows := s.make(t)
		flows.states[toFlow(port)] = flowstate.HalfOpen
		if got := n.MayLeave(n.last, out(port, flagSYN|flagACK, ownISN, clientISN+1, nil)); got != want {
			t.Errorf("%+v: %v, want %v", s, got, want)
		}
		// One that the client never heard of is given up; the ACK of one that it
		// did hear of may still come.
		if gone := want == LateSYNACK && s.state == flowstate.None; gone != (len(flows.forgotten) == 1) {
			t.Errorf("%+v: forgotten are %v", s, flows.forgotten)
		}
	}
}

// A complete list that lacks a flow proves that no drainer holds it.
func TestR14Lists(t *testing.T) {
	stray := frame(etherTypeIPv4, segments()["data"])
	flow := toFlow(port)
	bucket := hashing.NewHasher(key).Bucket(hashing.SourceIP, &flow)
	for _, c := range []struct {
		name     string
		complete bool
		listed   bool
		others   int
		want     Verdict
	}{
		{"absent", true, false, 3, StrayAnswered},
		{"an empty list", true, false, 0, StrayAnswered},
		{"listed", true, true, 3, StrayListed},
		{"absent from a list that is not complete", false, false, 3, StrayShared},
		{"listed in one that is not complete", false, true, 3, StrayShared},
	} {
		n, _ := situation{owned: true, shared: true}.make(t)
		var hashes []uint64
		for i := range c.others {
			f := toFlow(uint16(50000 - i))
			hashes = append(hashes, n.FlowHash(&f))
		}
		if c.listed {
			hashes = append(hashes, n.FlowHash(&flow))
		}
		n.SetFlowLists(0, bucket, c.complete, hashes)
		if got := n.Handle(n.last, stray).Verdict; got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		leaves := n.MayLeave(n.last, out(port, flagRST, ownISN, 0, nil)) == Undecided
		if leaves != (c.want == StrayAnswered) {
			t.Errorf("%s: netstack's reset leaves: %v", c.name, leaves)
		}
	}
	// A list counts for the ownership that it was made for.
	n, _ := situation{owned: true, shared: true}.make(t)
	n.SetFlowLists(0, bucket, true, nil)
	again := *n.ownership
	if err := n.SetOwnership(&again); err != nil {
		t.Fatal(err)
	}
	if got := n.Handle(n.last, stray).Verdict; got != StrayShared {
		t.Errorf("with the list of an earlier ownership: %v", got)
	}
}

// Of a drained flow only what is inside its windows is let in: netstack would
// answer the rest with an acknowledgment, and the tuple may be another's by now.
func TestR14WindowsOfDrainedFlows(t *testing.T) {
	inside := map[string]Verdict{"data": DeliverHeld, "later data": DeliverHeld, "old data": DeliverHeld, "keep-alive": DeliverHeld,
		"FIN": DeliverHeld, "RST": DeliverHeld, "far": OutsideWindows, "far ACK": OutsideWindows, "bad ACK": OutsideWindows, "far RST": OutsideWindows}
	judge(t, situation{state: flowstate.Open, draining: true}, inside)
	judge(t, situation{state: flowstate.Open, owned: true, over: true}, inside)
	judge(t, situation{state: flowstate.Closing, draining: true}, inside)
	judge(t, situation{state: flowstate.TimeWait, draining: true}, map[string]Verdict{
		"FIN": DeliverHeld, "data": OutsideWindows, "ACK": OutsideWindows, "RST": OutsideWindows, "SYN": ForgotFlow})
	for _, s := range []flowstate.State{flowstate.Open, flowstate.Closing} {
		judge(t, situation{state: s, owned: true}, map[string]Verdict{"far": DeliverHeld, "bad ACK": DeliverUnsent, "far ACK": DeliverHeld})
	}
}

// UDP follows the bucket at once.
func TestR15DatagramsFollowTheBucket(t *testing.T) {
	old, _ := newNode(t)
	next, _ := newNode(t)
	flow := toFlow(port)
	flow.Proto = protoUDP
	own(t, next, Bitmap{}, Forever)
	if a, b := old.TakesDatagram(1, 0, &flow), next.TakesDatagram(1, 0, &flow); a != Undecided || b != NotOwner {
		t.Errorf("before the move: %v and %v", a, b)
	}
	own(t, old, Bitmap{}, Forever)
	own(t, next, allBuckets(), 100)
	if a, b := old.TakesDatagram(2, 0, &flow), next.TakesDatagram(2, 0, &flow); a != NotOwner || b != Undecided {
		t.Errorf("after the move: %v and %v", a, b)
	}
	if v := next.TakesDatagram(100, 0, &flow); v != NoLease {
		t.Errorf("after the lease: %v", v)
	}
}

// An acknowledgment of what was never sent is counted, where nobody else may have
// sent it.
func TestR22AcknowledgedAndNeverSent(t *testing.T) {
	for name, c := range map[string]struct {
		situation
		segment string
		want    uint64
	}{
		"handshake":                          {situation{state: flowstate.HalfOpen, owned: true}, "bad ACK", 1},
		"open":                               {situation{state: flowstate.Open, owned: true}, "bad ACK", 1},
		"handshake, right":                   {situation{state: flowstate.HalfOpen, owned: true}, "ACK", 0},
		"open, right":                        {situation{state: flowstate.Open, owned: true}, "ACK", 0},
		"open, old":                          {situation{state: flowstate.Open, owned: true}, "far ACK", 0},
		"handshake, out of order":            {situation{state: flowstate.HalfOpen, owned: true}, "far", 0},
		"a reset acknowledges nothing":       {situation{state: flowstate.Open, owned: true}, "RST", 0},
		"handshake, the lease is over":       {situation{state: flowstate.HalfOpen, owned: true, over: true}, "bad ACK", 0},
		"open, the lease is over":            {situation{state: flowstate.Open, owned: true, over: true}, "bad ACK", 0},
		"the owner may have sent it":         {situation{state: flowstate.HalfOpen, draining: true}, "bad ACK", 0},
		"the owner may have sent that, too":  {situation{state: flowstate.Open, draining: true}, "bad ACK", 0},
		"a cookie of ours may have gone out": {situation{state: flowstate.HalfOpen, owned: true, cookies: true}, "bad ACK", 0},
	} {
		n, _ := c.make(t)
		n.Handle(n.last, frame(etherTypeIPv4, segments()[c.segment]))
		if got := n.Unsent(); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	// What has left is not unsent.
	n, _ := situation{state: flowstate.Open, owned: true}.make(t)
	if v := n.MayLeave(n.last, out(port, flagACK, ownISN+1, clientISN+1, []byte("d"))); v != Undecided {
		t.Fatal(v)
	}
	if v := n.Handle(n.last, frame(etherTypeIPv4, segments()["bad ACK"])).Verdict; v != DeliverHeld || n.Unsent() != 0 {
		t.Errorf("an acknowledgment of what has left: %v, %d", v, n.Unsent())
	}
}
