package sim

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// table is a client and, by hand, whatever it talks to.
type table struct {
	t     *testing.T
	w     *World
	l     *LAN
	c     *Client
	peer  *Port
	heard []Segment
	asks  int
	mute  bool // the peer answers no ARP
}

func theVIP() netip.Addr    { return netip.MustParseAddr("10.77.0.2") }
func theClient() netip.Addr { return netip.MustParseAddr("10.77.0.50") }
func clientMAC() MAC        { return MAC{2, 0, 0, 0, 0, 0x50} }
func clusterMAC() MAC       { return MAC{1, 0, 0x5e, 0x4d, 0, 2} }
func nodeMAC(n byte) MAC    { return MAC{2, 0, 0, 0, 1, n} }

func newTable(t *testing.T, seed uint64) *table {
	w := New(seed)
	b := &table{t: t, w: w, l: w.NewHub()}
	b.c = NewClient(b.l, ClientOptions{Name: "client", MAC: clientMAC(), IP: theClient(), VIP: theVIP()})
	b.peer = b.l.Attach("peer", nil, b.receive)
	for _, p := range b.l.Ports() {
		p.Down.DelayMin, p.Down.DelayMax = ms, ms
	}
	return b
}

func (b *table) receive(f []byte) {
	if a, ok := parseARP(f); ok && a.operation == arpRequest && a.target == theVIP() {
		b.asks++
		if !b.mute {
			b.answerARP(1, clusterMAC())
		}
		return
	}
	if s, ok := ParseSegment(f); ok {
		s.Data = bytes.Clone(s.Data)
		b.heard = append(b.heard, s)
	}
}

func (b *table) answerARP(node byte, is MAC) {
	a := arpPacket{operation: arpReply, senderMAC: is, sender: theVIP(), targetMAC: clientMAC(), target: theClient()}
	b.peer.Send(a.frame(clientMAC(), nodeMAC(node)))
}

// say sends a segment from the VIP's port 22 to the client's port 4000.
func (b *table) say(node byte, flags byte, seq, ack uint32, data string) {
	s := Segment{FromMAC: nodeMAC(node), ToMAC: clientMAC(), From: netip.AddrPortFrom(theVIP(), 22), To: netip.AddrPortFrom(theClient(), 4000),
		Flags: flags, Seq: seq, Ack: ack, Window: 60000, Data: []byte(data)}
	if flags&SYN != 0 {
		s.MSS = 1000
	}
	b.peer.Send(s.Frame())
	b.run(10 * ms)
}

func (b *table) run(d time.Duration) { b.w.Run(b.w.Now() + d) }

// got are the segments heard since the last call, with numbers relative to the
// client's ISN and to theirs.
func (b *table) got(isn uint32) string {
	var out []string
	for _, s := range b.heard {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %d %d %s", flagText(s.Flags), s.Seq-isn, int32(s.Ack-serverISN), lengthText(s.Data))))
	}
	b.heard = nil
	return strings.Join(out, ", ")
}

func lengthText(data []byte) string {
	if len(data) == 0 {
		return ""
	}
	return fmt.Sprintf("%dB", len(data))
}

const serverISN = 0xfffffff0 // so that numbers wrap soon

// connect opens 4000 > 22 and answers as node 1.
func (b *table) connect() *Conn {
	b.t.Helper()
	n := b.c.Open(4000, 22)
	b.run(10 * ms)
	b.say(1, SYN|ACK, serverISN, n.ISN+1, "")
	if n.State != Established {
		b.t.Fatalf("state %v", n.State)
	}
	b.heard = nil
	return n
}

func TestHandshake(t *testing.T) {
	b := newTable(t, 1)
	b.mute = true
	n := b.c.Open(4000, 22)
	b.run(1500 * ms) // two ARP requests go unanswered
	b.mute = false
	b.run(7 * time.Second)
	if b.asks != 3 || len(b.c.Asks) != 3 || len(b.c.Asks[2].Answers) != 1 {
		t.Errorf("%d requests, %d recorded", b.asks, len(b.c.Asks))
	}
	if got, want := fmt.Sprint(n.SYNs), "[0s 1s 3s 7s]"; got != want {
		t.Errorf("SYNs at %s, want %s", got, want)
	}
	// The first waited for ARP together with the second.
	for i, s := range b.heard {
		if s.Seq != n.ISN || s.Flags != SYN || s.ToMAC != clusterMAC() || s.MSS != clientMSS || s.FromMAC != clientMAC() {
			t.Errorf("SYN %d: %+v", i, s)
		}
	}
	if len(b.heard) != 4 {
		t.Errorf("%d SYNs heard", len(b.heard))
	}
	b.heard = nil
	b.say(3, SYN|ACK, serverISN, n.ISN+1, "")
	if got := b.got(n.ISN); got != "A 1 1" {
		t.Errorf("answered with %q", got)
	}
	if n.State != Established || n.Connected != 8501*ms {
		t.Errorf("%v, connected at %v", n.State, n.Connected)
	}
	if len(n.SYNACKs) != 1 || !n.SYNACKs[0].Taken || n.SYNACKs[0].From != nodeMAC(3) || n.SYNACKs[0].ISN != serverISN {
		t.Errorf("SYN-ACKs %+v", n.SYNACKs)
	}
	if len(n.Acked) != 1 || n.Acked[0].From != nodeMAC(3) || n.Acked[0].Tries != 4 || n.Acked[0].Sent != 0 {
		t.Errorf("acknowledged %+v", n.Acked)
	}
	b.run(time.Minute)
	if got := b.got(n.ISN); got != "" {
		t.Errorf("an idle connection says %q", got)
	}
}

func TestNobodyAnswers(t *testing.T) {
	b := newTable(t, 1)
	n := b.c.Open(4000, 22)
	b.run(5 * time.Minute)
	if n.State != TimedOut || n.Ended != 127*time.Second || len(n.SYNs) != 7 {
		t.Errorf("%v at %v after %d SYNs", n.State, n.Ended, len(n.SYNs))
	}
	b = newTable(t, 1)
	b.mute = true
	b.c.Open(4000, 22)
	b.run(2500 * ms)
	b.c.Ping(1)
	b.c.Ping(2)
	b.run(time.Second)
	if b.asks != 3 || b.c.Unreachable != 5 {
		t.Errorf("%d requests, %d unreachable: three SYNs, two pings are 5", b.asks, b.c.Unreachable)
	}
}

// What a connection does with a segment that does or does not fit, as RFC 9293
// §3.10.7.4 and RFC 5961 have it. The client has sent 100 bytes, 50 of them
// acknowledged, and received 10.
func TestSegmentsOfAConnection(t *testing.T) {
	for _, c := range []struct {
		name     string
		flags    byte
		seq, ack int // relative to what is expected next, to what was sent next
		data     string
		state    State
		answer   string
	}{
		{"an ACK", ACK, 0, 0, "", Established, ""},
		{"an ACK of a part", ACK, 0, -20, "", Established, ""},
		{"data", ACK, 0, 0, "hello", Established, "A 101 16 "},
		{"data once more", ACK, -10, 0, "0123456789", Established, "A 101 11 "},
		{"data half new", ACK, -2, 0, "89ab", Established, "A 101 13 "},
		{"data behind a gap", ACK, 1, 0, "x", Established, "A 101 11 "},
		{"exact reset", RST, 0, 0, "", WasReset, ""},
		{"exact reset with ACK", RST | ACK, 0, 0, "", WasReset, ""},
		{"reset in the window", RST, 1, 0, "", Established, "A 101 11 "},
		{"reset below the window", RST, -1, 0, "", Established, ""},
		{"reset beyond the window", RST, clientWnd, 0, "", Established, ""},
		{"SYN in the window", SYN, 100, 0, "", Established, "A 101 11 "},
		{"SYN-ACK of another ISN", SYN | ACK, 1 << 30, -100, "", Established, "A 101 11 "},
		{"SYN-ACK again", SYN | ACK, -11, -100, "", Established, "A 101 11 "},
		{"ACK of what was not sent", ACK, 0, 1, "", Established, "A 101 11 "},
		{"ACK far too old", ACK, 0, -60000 - 60, "", Established, "A 101 11 "},
		{"ACK outside", ACK, -1, 0, "", Established, "A 101 11 "},
		{"data without ACK", 0, 0, 0, "x", Established, ""},
		{"FIN", FIN | ACK, 0, 0, "", LastAck, "A 101 12 , FA 101 12 "},
		{"data and FIN", FIN | ACK, 0, 0, "bye", LastAck, "A 101 15 , FA 101 15 "},
		{"FIN behind a gap", FIN | ACK, 5, 0, "", Established, "A 101 11 "},
	} {
		b := newTable(t, 1)
		n := b.connect()
		n.Write(50)
		b.run(5 * ms)
		b.say(1, ACK, serverISN+1, n.ISN+51, "0123456789")
		n.Write(50)
		b.run(5 * ms)
		b.heard = nil
		b.say(1, c.flags, serverISN+11+uint32(c.seq), n.ISN+101+uint32(c.ack), c.data)
		got := b.got(n.ISN)
		var want []string
		for s := range strings.SplitSeq(c.answer, ",") {
			want = append(want, strings.TrimSpace(s))
		}
		if got != strings.Join(want, ", ") || n.State != c.state {
			t.Errorf("%s: %v, answered %q, want %v, %q", c.name, n.State, got, c.state, c.answer)
		}
		if c.flags&RST != 0 && (len(n.Resets) != 1 || n.Resets[0].Taken != (c.state == WasReset) || n.Resets[0].From != nodeMAC(1)) {
			t.Errorf("%s: recorded %+v", c.name, n.Resets)
		}
		if unsent := c.name == "ACK of what was not sent"; unsent != (n.AckOfUnsent == 1) {
			t.Errorf("%s: %d ACKs of what was not sent", c.name, n.AckOfUnsent)
		}
	}
}

func TestChallengesAreLimited(t *testing.T) {
	b := newTable(t, 1)
	n := b.connect()
	for range 5 {
		b.say(1, ACK, serverISN+1, n.ISN+999, "")
	}
	if got := b.got(n.ISN); got != "A 1 1" {
		t.Errorf("answered %q", got)
	}
	b.run(oowGap)
	b.say(1, ACK, serverISN+1, n.ISN+999, "")
	if got := b.got(n.ISN); got != "A 1 1" {
		t.Errorf("later answered %q", got)
	}
}

func TestSegmentsInSynSent(t *testing.T) {
	for _, c := range []struct {
		name   string
		flags  byte
		ack    int
		state  State
		answer string
	}{
		{"SYN-ACK", SYN | ACK, 1, Established, "A 1 1"},
		{"SYN-ACK of another SYN", SYN | ACK, 7, SynSent, "R 7 16"},
		{"SYN-ACK of an old SYN", SYN | ACK, -3, SynSent, fmt.Sprintf("R %d 16", uint32(1<<32-3))},
		{"challenge ACK", ACK, 5000, SynSent, "R 5000 16"},
		{"reset", RST | ACK, 1, WasReset, ""},
		{"reset without ACK", RST, 0, SynSent, ""},
		{"reset for another", RST | ACK, 2, SynSent, ""},
		{"bare ACK of the SYN", ACK, 1, SynSent, ""},
	} {
		b := newTable(t, 1)
		n := b.c.Open(4000, 22)
		b.run(10 * ms)
		b.heard = nil
		ack := n.ISN + uint32(c.ack)
		if c.flags&ACK == 0 {
			ack = 0
		}
		b.say(1, c.flags, serverISN, ack, "")
		if got := b.got(n.ISN); got != c.answer || n.State != c.state {
			t.Errorf("%s: %v, answered %q, want %v, %q", c.name, n.State, got, c.state, c.answer)
		}
	}
}

func TestTwoServersAnswer(t *testing.T) {
	b := newTable(t, 1)
	n := b.connect()
	b.say(2, SYN|ACK, 12345, n.ISN+1, "")
	if len(n.ISNs()) != 2 || len(n.Speakers) != 2 || n.Speakers[1] != (Speaker{nodeMAC(2), 1}) {
		t.Errorf("ISNs %v, speakers %v", n.ISNs(), n.Speakers)
	}
	if n.SYNACKs[1].Taken || n.State != Established {
		t.Error("the second SYN-ACK was taken")
	}
	if got := b.got(n.ISN); got != "A 1 1" {
		t.Errorf("answered %q: the living flow's numbers are wanted", got)
	}
}

func TestDataIsSentAgainUntilAcknowledged(t *testing.T) {
	b := newTable(t, 1)
	n := b.connect()
	n.Write(2500) // the peer's MSS is 1000
	b.run(650 * ms)
	if got := b.got(n.ISN); got != "PA 1 1 1000B, PA 1001 1 1000B, PA 2001 1 500B, PA 1 1 1000B, PA 1 1 1000B" {
		t.Errorf("sent %q: three at once, the first again after 200 and 600 ms", got)
	}
	b.say(1, ACK, serverISN+1, n.ISN+1501, "")
	if n.Waiting() == 0 {
		t.Error("nothing waits, though 1000 bytes are not acknowledged")
	}
	b.heard = nil
	b.run(250 * ms)
	if got := b.got(n.ISN); got != "PA 1501 1 500B" {
		t.Errorf("sent again %q", got)
	}
	b.say(1, ACK, serverISN+1, n.ISN+2501, "")
	if len(n.Acked) != 4 || n.Waiting() != 0 {
		t.Errorf("acknowledged %+v", n.Acked)
	}
	n.Write(10)
	b.run(24 * time.Hour)
	if n.State != TimedOut {
		t.Errorf("a day without an answer: %v", n.State)
	}
}

func TestWindowIsKept(t *testing.T) {
	b := newTable(t, 1)
	n := b.connect()
	n.window = 1500
	n.Write(3000)
	b.run(10 * ms)
	if got := b.got(n.ISN); got != "PA 1 1 1000B" {
		t.Errorf("sent %q into a window of 1500", got)
	}
	n.Close()
	b.say(1, ACK, serverISN+1, n.ISN+1001, "")
	if got := b.got(n.ISN); got != "PA 1001 1 1000B, PA 2001 1 1000B, FA 3001 1" {
		t.Errorf("sent %q", got)
	}
}

func TestAnOldACKDoesNotOpenTheWindow(t *testing.T) {
	b := newTable(t, 1)
	n := b.connect()
	n.Write(50)
	b.run(5 * ms)
	b.say(1, ACK, serverISN+1, n.ISN+51, "")
	n.window = 0
	b.say(1, ACK, serverISN+1, n.ISN+31, "")
	if n.window != 0 {
		t.Errorf("the window is %d", n.window)
	}
	b.say(1, ACK, serverISN+1, n.ISN+51, "")
	if n.window != 60000 {
		t.Errorf("the window is %d", n.window)
	}
}

func TestClosing(t *testing.T) {
	b := newTable(t, 1)
	n := b.connect()
	n.Close()
	n.Close()
	b.run(5 * ms)
	b.say(1, ACK, serverISN+1, n.ISN+2, "more")
	if n.State != FinWait2 || n.Received != 4 || n.Write(1) {
		t.Errorf("%v, received %d", n.State, n.Received)
	}
	b.say(1, FIN|ACK, serverISN+5, n.ISN+2, "")
	if n.State != TimeWait || !n.State.Over() {
		t.Errorf("%v", n.State)
	}
	b.heard = nil
	b.run(30 * time.Second)
	b.say(1, FIN|ACK, serverISN+5, n.ISN+2, "") // our ACK was lost
	if got := b.got(n.ISN); got != "A 2 6" {
		t.Errorf("answered %q", got)
	}
	b.run(59 * time.Second)
	if b.c.Conn(4000, 22) != n {
		t.Error("TIME-WAIT did not begin anew")
	}
	again := b.c.Open(4000, 22) // reuses the tuple
	if d := again.ISN - n.nxt; d < clientWnd || d > 1<<20 {
		t.Errorf("the new ISN is %d above what the old connection sent", d)
	}
	b.run(time.Hour)
	if again.State != TimedOut || n.State != TimeWait {
		t.Errorf("new %v, old %v", again.State, n.State)
	}
	if b.c.Conn(4000, 22) != nil {
		t.Error("the connection is not forgotten")
	}
}

func TestSimultaneousClose(t *testing.T) {
	b := newTable(t, 1)
	n := b.connect()
	n.Close()
	b.say(1, FIN|ACK, serverISN+1, n.ISN+1, "")
	if n.State != Closing {
		t.Errorf("%v", n.State)
	}
	b.say(1, ACK, serverISN+2, n.ISN+2, "")
	if n.State != TimeWait {
		t.Errorf("%v", n.State)
	}
	b.run(timeWait)
	if n.State != Closed {
		t.Errorf("%v", n.State)
	}
}

func TestThePeerClosesFirst(t *testing.T) {
	b := newTable(t, 1)
	n := b.connect()
	n.KeepsHalf = true
	b.say(1, FIN|ACK, serverISN+1, n.ISN+1, "")
	if n.State != CloseWait || !n.Write(10) {
		t.Errorf("%v", n.State)
	}
	n.Close()
	b.say(1, ACK, serverISN+2, n.ISN+12, "")
	if n.State != Closed || n.Ended == 0 {
		t.Errorf("%v", n.State)
	}
}

func TestAbortAndVanish(t *testing.T) {
	b := newTable(t, 1)
	n := b.connect()
	var states []State
	n.Changed = func() { states = append(states, n.State) }
	n.Abort()
	n.Abort()
	b.run(10 * ms)
	if got := b.got(n.ISN); got != "RA 1 1" || !slices.Equal(states, []State{Aborted}) {
		t.Errorf("said %q, went through %v", got, states)
	}
	n = b.connect()
	n.Vanish()
	b.run(10 * ms)
	if got := b.got(n.ISN); got != "" {
		t.Errorf("said %q", got)
	}
	b.say(1, ACK|PSH, serverISN+1, n.ISN+1, "are you there?")
	b.say(1, SYN, serverISN, 0, "")
	if got := b.got(n.ISN); got != "R 1 16, RA "+fmt.Sprint(-n.ISN)+" 1" || b.c.ResetsSent != 2 {
		t.Errorf("a host without the connection said %q", got)
	}
}

func TestStrays(t *testing.T) {
	b := newTable(t, 1)
	b.c.Send(4000, 22, ACK, 77, 88, nil)
	b.run(10 * ms)
	if s := b.heard[0]; s.Seq != 77 || s.Ack != 88 || s.Flags != ACK || s.ToMAC != clusterMAC() {
		t.Errorf("sent %+v", s)
	}
	b.say(2, RST, 88, 0, "")
	if r := b.c.StrayResets; len(r) != 1 || r[0].From.Port() != 22 || r[0].Seq != 88 || r[0].Answer.From != nodeMAC(2) {
		t.Errorf("recorded %+v", r)
	}
}

func TestARPOfTheClient(t *testing.T) {
	b := newTable(t, 1)
	var answer arpPacket
	b.peer.Receive = func(f []byte) {
		if a, ok := parseARP(f); ok && a.operation == arpReply {
			answer = a
		}
	}
	node := netip.MustParseAddr("10.77.0.11")
	a := arpPacket{operation: arpRequest, senderMAC: nodeMAC(1), sender: node, target: theClient()}
	b.peer.Send(a.frame(broadcast(), nodeMAC(1)))
	b.run(10 * ms)
	want := arpPacket{operation: arpReply, senderMAC: clientMAC(), sender: theClient(), targetMAC: nodeMAC(1), target: node}
	if answer != want {
		t.Errorf("answered %+v", answer)
	}
	if _, known := b.c.VIPMAC(); known {
		t.Error("a node's own request taught the VIP's MAC")
	}
	other := arpPacket{operation: arpReply, senderMAC: clusterMAC(), sender: theVIP(), targetMAC: nodeMAC(7), target: node}
	b.peer.Send(other.frame(broadcast(), nodeMAC(1)))
	b.run(10 * ms)
	if _, known := b.c.VIPMAC(); known || b.c.Unrecorded != 1 {
		t.Error("an answer to another was believed")
	}
	b.c.Ask()
	b.answerARP(1, clusterMAC())
	b.answerARP(2, clusterMAC())
	b.run(10 * ms)
	if got := b.c.Asks[0].Answers; len(got) != 2 || got[0].From != nodeMAC(1) || got[1].From != nodeMAC(2) || got[0].Is != clusterMAC() {
		t.Errorf("answers %+v", got)
	}
	b.c.SetVIPMAC(nodeMAC(9))
	b.answerARP(1, clusterMAC())
	b.run(10 * ms)
	if mac, _ := b.c.VIPMAC(); mac != nodeMAC(9) {
		t.Error("an answer replaced a static entry")
	}
	b.c.Forget()
	b.c.RefusesGroupMAC = true
	b.answerARP(1, clusterMAC())
	b.run(10 * ms)
	if _, known := b.c.VIPMAC(); known {
		t.Error("a group MAC was believed")
	}
}

func TestAnOldEntryIsUsedWhileAskingAnew(t *testing.T) {
	b := newTable(t, 1)
	n := b.connect()
	b.run(2 * arpLife)
	b.mute, b.asks = true, 0
	n.Write(1)
	b.run(10 * ms)
	if got := b.got(n.ISN); got != "PA 1 1 1B" || b.asks != 1 {
		t.Errorf("sent %q, asked %d times", got, b.asks)
	}
	b.run(5 * time.Second)
	if _, known := b.c.VIPMAC(); known || b.asks < 3 {
		t.Errorf("still known after %d requests without an answer", b.asks)
	}
}

func TestPings(t *testing.T) {
	b := newTable(t, 1)
	b.c.SetVIPMAC(clusterMAC())
	b.peer.Receive = func(f []byte) {
		_, _, proto, body, ok := parseIPv4(f)
		if !ok || proto != protoICMP || body[0] != echoRequest || onesSum(0, body) != 0xffff || len(body) != echoBytes+40 {
			t.Errorf("sent % x", f)
			return
		}
		for node := range byte(2) { // both answer
			id, seq := uint16(body[4])<<8|uint16(body[5]), uint16(body[6])<<8|uint16(body[7])
			b.peer.Send(echoFrame(clientMAC(), nodeMAC(node), theVIP(), theClient(), echoReply, id, seq, body[8:]))
		}
	}
	b.c.Ping(40)
	b.run(time.Second)
	p := b.c.Ping(40)
	b.run(time.Second)
	if len(b.c.Pings) != 2 || len(p.Answers) != 2 || p.Answers[1].From != nodeMAC(1) || p.Answers[0].At-p.At != 2*ms {
		t.Errorf("pings %+v", b.c.Pings)
	}
	// A foreign identifier and a sequence number never sent.
	b.peer.Send(echoFrame(clientMAC(), nodeMAC(0), theVIP(), theClient(), echoReply, b.c.pingID+1, 0, nil))
	b.peer.Send(echoFrame(clientMAC(), nodeMAC(0), theVIP(), theClient(), echoReply, b.c.pingID, 9, nil))
	b.run(time.Second)
	if len(p.Answers) != 2 || b.c.Unrecorded != 1 {
		t.Errorf("%d unrecorded", b.c.Unrecorded)
	}
}

// What does not fit into a list is counted, and the client goes on.
func TestRecordsAreBounded(t *testing.T) {
	const more = 10
	b := newTable(t, 1)
	b.c.SetVIPMAC(clusterMAC())
	for range MaxRecords + more {
		b.c.Ping(0)
		b.c.Ask()
		b.say(1, RST, 1, 0, "")
	}
	if len(b.c.Pings) != MaxRecords || len(b.c.Asks) != MaxRecords || len(b.c.StrayResets) != MaxRecords || b.c.Unrecorded < 3*more {
		t.Errorf("%d pings, %d requests, %d resets, %d unrecorded", len(b.c.Pings), len(b.c.Asks), len(b.c.StrayResets), b.c.Unrecorded)
	}
	n := b.connect()
	for range MaxRecords + more {
		b.say(1, SYN|ACK, serverISN, n.ISN+1, "")
		b.say(1, RST, serverISN, 0, "")
		n.Write(1)
		b.run(2 * ms)
		b.say(1, ACK, serverISN+1, n.nxt, "")
	}
	if len(n.SYNACKs) != MaxRecords || len(n.Resets) != MaxRecords || len(n.Acked) != MaxRecords || n.Unrecorded < 3*more || n.State != Established {
		t.Errorf("%d SYN-ACKs, %d resets, %d acknowledged, %d unrecorded", len(n.SYNACKs), len(n.Resets), len(n.Acked), n.Unrecorded)
	}
	for i := range MaxRecords + more {
		b.say(byte(i), ACK, serverISN+1, n.nxt, "")
	}
	if len(n.Speakers) != 256 {
		t.Errorf("%d speakers", len(n.Speakers))
	}
}

// A frame with any one bit wrong is never taken for a good one, save where the
// bit is under no checksum.
func TestWrongBits(t *testing.T) {
	s := Segment{FromMAC: nodeMAC(1), ToMAC: clientMAC(), From: netip.AddrPortFrom(theVIP(), 22), To: netip.AddrPortFrom(theClient(), 4000),
		Flags: SYN | ACK, Seq: 1, Ack: 2, Window: 3, MSS: 1460, Data: []byte("odd")}
	good := s.Frame()
	got, ok := ParseSegment(good)
	if !ok || fmt.Sprint(got) != fmt.Sprint(s) {
		t.Fatalf("parsed %+v", got)
	}
	for bit := 12 * 8; bit < 8*len(good); bit++ {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, ok := ParseSegment(bad); ok {
			t.Errorf("bit %d went unnoticed", bit)
		}
	}
	for n := range good {
		if _, ok := ParseSegment(good[:n]); ok {
			t.Errorf("the first %d bytes went as a frame", n)
		}
		Describe(good[:n]) // must not fail
	}
	b := newTable(t, 1)
	b.peer.Up.Corrupt = 1
	for range 200 {
		b.peer.Send(good)
	}
	b.run(time.Second)
	if b.c.Unwelcome < 100 {
		t.Errorf("%d unwelcome", b.c.Unwelcome)
	}
}

func TestMSSAmongOptions(t *testing.T) {
	for _, c := range []struct {
		options []byte
		want    uint16
	}{
		{nil, 0}, {[]byte{2, 4, 5, 180}, 1460}, {[]byte{1, 1, 2, 4, 5, 180}, 1460}, {[]byte{3, 3, 7, 2, 4, 2, 0}, 512},
		{[]byte{0, 2, 4, 5, 180}, 0}, {[]byte{2, 4, 5}, 0}, {[]byte{8, 0, 2, 4, 5, 180}, 0}, {[]byte{2, 3, 9}, 0}, {[]byte{2}, 0},
	} {
		if got := findMSS(c.options); got != c.want {
			t.Errorf("%v: %d, want %d", c.options, got, c.want)
		}
	}
}
