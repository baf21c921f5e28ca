package node

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"onevoice/admission"
	"onevoice/hashing"
	"onevoice/internal/flowstate"
	"onevoice/responder"
)

// admitting is a node whose service admits what the rules say.
func admitting(t testing.TB, rules admission.Service, denied, limit Refusal) (*Node, *modelFlows) {
	t.Helper()
	flows := &modelFlows{states: map[hashing.Flow]flowstate.State{}}
	n, err := New(Config{
		Own: ownMAC, Address: ownAddr, MTU: 1500,
		VIPs:     []VIP{{VIP: responder.VIP{Addr: vipAddr, MAC: clusterMAC}, LAN: lan}},
		Services: []Service{{Proto: TCP, Listen: netip.AddrPortFrom(vipAddr, 22), Admits: &rules, OnDenied: denied, OnLimit: limit}},
		Hasher:   hashing.NewHasher(key), Flows: flows,
	})
	if err != nil {
		t.Fatal(err)
	}
	own(t, n, allBuckets(), Forever)
	return n, flows
}

func syn(port uint16, seq uint32) []byte { return in(port, flagSYN, seq, 0, nil) }

func limited(l admission.Limit) admission.Service {
	l.Bits4, l.Bits6 = 32, 64
	return admission.Service{Limit: l}
}

// prohibited reports whether a reply is the ICMP error about a packet, from the VIP
// to its sender, whole and with right checksums.
func prohibited(reply, about []byte) bool {
	if len(reply) != 14+20+8+len(about) || responder.MAC(reply[:6]) != clientMAC || responder.MAC(reply[6:12]) != ownMAC {
		return false
	}
	p := reply[14:]
	return slowSum(p[:20]) == 0xffff && p[9] == 1 && netip.AddrFrom4([4]byte(p[12:16])) == vipAddr && netip.AddrFrom4([4]byte(p[16:20])) == asker &&
		int(binary.BigEndian.Uint16(p[2:])) == len(p) && p[20] == 3 && p[21] == 13 && slowSum(p[20:]) == 0xffff && string(p[28:]) == string(about)
}

// What is not admitted is dropped, reset or answered with an ICMP error, as the
// service wants it, for those who are denied and those who have too much.
func TestRefusals(t *testing.T) {
	deny := admission.Service{Access: admission.Access{Deny: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")}}}
	none := limited(admission.Limit{New: 1, Per: time.Minute})
	for verdict, rules := range map[Verdict]admission.Service{Denied: deny, RateLimited: none} {
		for _, how := range []Refusal{Drop, Reset, Reject} {
			on := map[Verdict]Refusal{verdict: how}
			n, flows := admitting(t, rules, on[Denied], on[RateLimited])
			if verdict == RateLimited {
				if h := n.Handle(0, frame(etherTypeIPv4, syn(2000, 5))); h.Verdict != DeliverSYN {
					t.Fatal(h.Verdict)
				}
			}
			second := syn(2001, 7)
			h := n.Handle(0, frame(etherTypeIPv4, second))
			if h.Verdict != verdict || h.Packet != nil {
				t.Errorf("%v, %d: %v", verdict, how, h.Verdict)
			}
			reset := len(h.Reply) == 54 && h.Reply[14+9] == protoTCP && h.Reply[47] == flagRST|flagACK && binary.BigEndian.Uint32(h.Reply[42:]) == 8
			if (h.Reply == nil) != (how == Drop) || reset != (how == Reset) || prohibited(h.Reply, second) != (how == Reject) {
				t.Errorf("%v, %d: the reply is %x", verdict, how, h.Reply)
			}
			// A service that is down tells nobody who is denied.
			flows.down = true
			want := map[bool]Verdict{true: Denied, false: RateLimited}[verdict == Denied]
			if v := handle(n, frame(etherTypeIPv4, syn(2002, 9))); v != want {
				t.Errorf("%v, down: %v", verdict, v)
			}
		}
	}
}

// The answers to what is refused are bounded: their source may be forged.
func TestRefusalsAreBounded(t *testing.T) {
	deny := admission.Service{Access: admission.Access{Deny: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}}
	n, _ := admitting(t, deny, Reject, Drop)
	replies := 0
	for i := range resetBurst + 100 {
		h := n.Handle(0, frame(etherTypeIPv4, syn(uint16(2000+i), 5)))
		if h.Verdict != Denied {
			t.Fatal(h.Verdict)
		}
		if h.Reply != nil {
			replies++
		}
	}
	if replies != resetBurst || n.TurnedAway()[0].Denied != resetBurst+100 {
		t.Errorf("%d replies, %+v", replies, n.TurnedAway()[0])
	}
}

// A SYN that is sent again is the same connection: with its flow half-open, and when
// it was answered by a cookie, of which nothing is kept.
func TestRepeatedSYNsCountOnce(t *testing.T) {
	for _, cookies := range []bool{false, true} {
		n, flows := admitting(t, limited(admission.Limit{New: 2, Per: 7 * time.Second}), Drop, Drop)
		for _, port := range []uint16{2000, 2001} {
			for range 3 {
				if v := handle(n, frame(etherTypeIPv4, syn(port, clientISN))); v != DeliverSYN {
					t.Errorf("cookies %v: port %d: %v", cookies, port, v)
				}
				if !cookies {
					hold(t, n, flows, port, flowstate.HalfOpen)
				}
			}
		}
		if v := handle(n, frame(etherTypeIPv4, syn(2002, clientISN))); v != RateLimited {
			t.Errorf("cookies %v: the third: %v", cookies, v)
		}
		if v := n.Handle(7*time.Second, frame(etherTypeIPv4, syn(2002, clientISN))).Verdict; v != DeliverSYN {
			t.Errorf("cookies %v: seven seconds later: %v", cookies, v)
		}
	}
}

// Another node's bucket is judged there: nothing is counted here, or answered.
func TestOnlyTheOwnerLimits(t *testing.T) {
	n, _ := admitting(t, limited(admission.Limit{New: 1, Per: time.Minute}), Reject, Reject)
	own(t, n, Bitmap{}, Forever)
	for i := range 3 {
		if h := n.Handle(0, frame(etherTypeIPv4, syn(uint16(2000+i), 5))); h.Verdict != NotOwner || h.Reply != nil {
			t.Errorf("%v", h.Verdict)
		}
	}
	own(t, n, allBuckets(), Forever)
	if v := handle(n, frame(etherTypeIPv4, syn(2009, 5))); v != DeliverSYN {
		t.Errorf("the first of ours: %v", v)
	}
}

// Flows count from the end of their handshake until they have ended: a flood of
// forged SYNs keeps nobody out.
func TestOpenFlowsAreLimited(t *testing.T) {
	for name, c := range map[string]struct {
		limit admission.Limit
		want  Verdict
	}{
		"of a source":  {admission.Limit{Flows: 2}, SourceLimited},
		"of a service": {admission.Limit{PerNode: 2}, ServiceLimited},
	} {
		n, flows := admitting(t, limited(c.limit), Drop, Drop)
		for port := range uint16(10) { // forged
			hold(t, n, flows, 3000+port, flowstate.HalfOpen)
		}
		for _, port := range []uint16{2000, 2001} {
			if v := handle(n, frame(etherTypeIPv4, syn(port, clientISN))); v != DeliverSYN {
				t.Errorf("%s: port %d: %v", name, port, v)
			}
			hold(t, n, flows, port, flowstate.Open)
		}
		if v := handle(n, frame(etherTypeIPv4, syn(2002, clientISN))); v != c.want {
			t.Errorf("%s: the third: %v", name, v)
		}
		// One that was half-open meanwhile ends when its client says that it has heard.
		h := n.Handle(0, frame(etherTypeIPv4, in(3000, flagACK, clientISN+1, ownISN+1, nil)))
		if h.Verdict != c.want || len(h.Reply) != 54 || h.Reply[47] != flagRST || len(flows.ended) != 1 || flows.ended[0] != toFlow(3000) {
			t.Errorf("%s: the end of a handshake: %v, reply %x, ended %v", name, h.Verdict, h.Reply, flows.ended)
		}
		// What is open goes on.
		if v := handle(n, frame(etherTypeIPv4, in(2000, flagACK, clientISN+1, ownISN+1, []byte("x")))); v != DeliverHeld {
			t.Errorf("%s: an open flow: %v", name, v)
		}
		// One that has ended makes room: of a source at once, of a service when the
		// table was looked through.
		delete(flows.states, toFlow(2000))
		if name == "of a service" {
			for now := time.Duration(0); now <= 3*sweepTime; now += 10 * time.Millisecond {
				n.Tick(now)
			}
		}
		if v := handleLast(n, frame(etherTypeIPv4, syn(2002, clientISN)).Data); v != DeliverSYN {
			t.Errorf("%s: in the place of one that has ended: %v", name, v)
		}
		hold(t, n, flows, 2002, flowstate.Open)
		flows.states[toFlow(2001)] = flowstate.TimeWait
		if name == "of a service" {
			for now := n.last; now <= 6*sweepTime; now += 10 * time.Millisecond {
				n.Tick(now)
			}
		}
		if v := handleLast(n, frame(etherTypeIPv4, syn(2003, clientISN)).Data); v != DeliverSYN {
			t.Errorf("%s: in the place of one in TIME-WAIT: %v", name, v)
		}
	}
}

// With SYN cookies, of which nothing is known before they come back, the limit
// holds when they do.
func TestCookiesAreLimited(t *testing.T) {
	n, flows := admitting(t, limited(admission.Limit{Flows: 1}), Drop, Drop)
	hold(t, n, flows, 2000, flowstate.Open)
	cookie(t, n)
	h := n.Handle(0, frame(etherTypeIPv4, in(2001, flagACK, 5, 6, nil)))
	if h.Verdict != SourceLimited || len(h.Reply) != 54 || h.Reply[47] != flagRST {
		t.Errorf("a cookie beyond the limit: %v, reply %x", h.Verdict, h.Reply)
	}
	delete(flows.states, toFlow(2000))
	if v := handle(n, frame(etherTypeIPv4, in(2001, flagACK, 5, 6, nil))); v != DeliverStray {
		t.Errorf("a cookie within it: %v", v)
	}
}

// The census forgets what has ended, by whichever way.
func TestCensusEndsEmpty(t *testing.T) {
	n, flows := admitting(t, limited(admission.Limit{Flows: 100}), Drop, Drop)
	for port := range uint16(30) {
		hold(t, n, flows, 2000+port, flowstate.Open)
	}
	key := sourceKey{netip.PrefixFrom(asker, 32), 0}
	if have := n.table.census.have(key); have != (admission.Flows{OfSource: 30, OfService: 30}) {
		t.Errorf("%+v of 30 flows", have)
	}
	for i, port := range []uint16{5, 0, 29, 28, 6} {
		f := toFlow(2000 + port)
		if i%2 == 0 {
			n.forget(0, n.table.find(&f))
		} else {
			delete(flows.states, f)
			n.lookup(0, 0, n.bucketOf(0, &f), &f)
		}
	}
	if have := n.table.census.have(key); have != (admission.Flows{OfSource: 25, OfService: 25}) {
		t.Errorf("%+v of 25 flows", have)
	}
	clear(flows.states)
	for now := time.Duration(0); now <= 5*sweepTime; now += 10 * time.Millisecond {
		n.Tick(now)
	}
	if len(n.table.census.sources) != 0 || n.table.census.services[0] != 0 {
		t.Errorf("%d sources and %d flows are left", len(n.table.census.sources), n.table.census.services[0])
	}
}

// IPv6: a /64 is a source, and the error is ICMPv6's.
func TestRefusalsOfIPv6(t *testing.T) {
	n, _ := newNode6(t)
	rules := limited(admission.Limit{New: 1, Per: time.Minute})
	n.admission, n.services[1].OnLimit = admission.New([]admission.Service{{}, rules}, [16]byte{}), Reject
	if v := n.Handle(n.last, frame6(tcp6(asker6, 2000, 22, flagSYN, nil))).Verdict; v != DeliverSYN {
		t.Fatal(v)
	}
	b := asker6.As16()
	b[15] ^= 0xff
	about := tcp6(netip.AddrFrom16(b), 2000, 22, flagSYN, nil)
	h := n.Handle(n.last, frame6(about))
	p := h.Reply
	if h.Verdict != RateLimited || len(p) != 14+40+8+len(about) || p[20] != 58 || p[54] != 1 || p[55] != 1 || string(p[62:]) != string(about) {
		t.Fatalf("%v, reply %x", h.Verdict, p)
	}
	pseudo := append(append([]byte{}, p[22:54]...), 0, 0, byte((len(p)-54)>>8), byte(len(p)-54), 0, 0, 0, 58)
	if slowSum(append(pseudo, p[54:]...)) != 0xffff {
		t.Error("the checksum is wrong")
	}
}

// Of UDP what is new is a flow's first datagram, and what is denied is every one.
func TestDatagramsAreAdmitted(t *testing.T) {
	n, flows := newUDPNode(t, hashing.SourceIP)
	service, _ := n.byListen.find(0, protoUDP, 53)
	rules := make([]admission.Service, len(n.services))
	rules[service] = limited(admission.Limit{New: 2, Per: time.Minute})
	rules[service].Deny = []netip.Prefix{netip.PrefixFrom(strangerAddr, 32)}
	n.admission, n.services[service].OnLimit, n.services[service].OnDenied = admission.New(rules, [16]byte{}), Reject, Reset
	for _, port := range []uint16{4000, 4001, 4000, 4001, 4000} {
		if v := handle(n, frame(etherTypeIPv4, udp(asker, port, 53, []byte("x")))); v != DeliverDatagram {
			t.Errorf("port %d: %v", port, v)
		}
	}
	third := udp(asker, 4002, 53, []byte("x"))
	if h := n.Handle(0, frame(etherTypeIPv4, third)); h.Verdict != RateLimited || !prohibited(h.Reply, third) || len(flows.flows) != 2 {
		t.Errorf("the third flow: %v, reply %x", h.Verdict, h.Reply)
	}
	if h := n.Handle(0, frame(etherTypeIPv4, udp(strangerAddr, 4000, 53, nil))); h.Verdict != Denied || h.Reply != nil {
		t.Errorf("who is denied: %v, reply %x", h.Verdict, h.Reply)
	}
}

var strangerAddr = netip.MustParseAddr("10.77.0.199")
