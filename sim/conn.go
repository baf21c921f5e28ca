package sim

import (
	"fmt"
	"slices"
	"time"
)

// State is that of a connection (RFC 9293 §3.3.2), and how it ended.
type State int

// The states of an active opener, then the ends.
const (
	SynSent State = iota
	Established
	FinWait1
	FinWait2
	Closing
	TimeWait
	CloseWait
	LastAck
	Closed   // both sides said goodbye
	WasReset // by the peer
	Aborted  // by the client
	TimedOut // nobody answered
)

func (s State) String() string {
	names := [...]string{"SYN-SENT", "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2", "CLOSING", "TIME-WAIT", "CLOSE-WAIT", "LAST-ACK",
		"closed", "reset", "aborted", "timed out"}
	if s < 0 || int(s) >= len(names) {
		return fmt.Sprintf("state %d", int(s))
	}
	return names[s]
}

// Over says whether the connection has ended; one in TIME-WAIT has.
func (s State) Over() bool { return s == TimeWait || s >= Closed }

// SYNACK is one that came, in any state.
type SYNACK struct {
	Answer
	ISN   uint32
	Ack   uint32
	Taken bool // it completed the handshake
}

// Reset is one that came. Taken says that it ended the connection; the others
// had numbers that did not fit.
type Reset struct {
	Answer
	Seq   uint32
	Taken bool
}

// Acked is a segment of the client that took something of the sequence space,
// and who acknowledged it.
type Acked struct {
	Answer
	Seq, Length uint32
	Sent        time.Duration // for the first time
	Tries       int
}

// Speaker is who sent segments of a connection.
type Speaker struct {
	MAC      MAC
	Segments uint64
}

// Conn is one TCP connection that the client opened. It keeps to RFC 9293 §3.10.7
// and RFC 5961; it sends no options but MSS, and keeps nothing that comes out
// of order. The fields are its records, to be read only.
type Conn struct {
	Port, Service uint16
	State         State
	ISN           uint32
	Opened        time.Duration
	Connected     time.Duration // when the handshake was complete; 0 if it is not
	Ended         time.Duration // when the state became one that is Over; 0 before
	SYNs          []time.Duration
	SYNACKs       []SYNACK
	Resets        []Reset
	Acked         []Acked
	Speakers      []Speaker
	Received      uint64 // bytes of data, in order
	// Challenges counts ACKs for what did not fit, ResetsSent resets for ACKs
	// of no SYN of ours, AckOfUnsent ACKs of what was never sent.
	Challenges, ResetsSent, AckOfUnsent uint64
	Unrecorded                          uint64
	// KeepsHalf lets the client hold its own direction open when the peer has
	// closed the other. Otherwise it closes too.
	KeepsHalf bool
	// Data, if set, gets what was received, in order. The bytes are on loan.
	Data func([]byte)
	// Changed, if set, is called after each change of State.
	Changed func()

	c          *Client
	una, nxt   uint32 // oldest not acknowledged; next to send
	rcvNxt     uint32
	window     uint32 // the peer's
	wl1, wl2   uint32 // numbers of the segment that said so
	widest     uint32 // that it ever had
	mss        int
	unsent     int
	closing    bool // a FIN is to follow what is unsent
	flight     []inFlight
	timer      Timer // for the oldest in flight, or the end of TIME-WAIT
	rto        time.Duration
	challenged time.Duration
	everBefore bool // challenged is a time
}

// inFlight is a segment that was sent and not acknowledged. Its data follows
// from its number, so that none is kept.
type inFlight struct {
	seq, length uint32 // with SYN and FIN
	flags       byte
	sent, tried time.Duration // for the first time, and the last
	tries       int
}

// Open begins a connection from a port of the client to a port of the VIP. A
// connection of the same ports must be Over. The new one's ISN is beyond all
// that the last one of these ports sent, as one that follows a clock would be
// (RFC 9293 §3.4.1), so that a peer in TIME-WAIT can tell its SYN from an old one.
func (c *Client) Open(port, service uint16) *Conn {
	isn := c.w.rng.Uint32()
	if past, known := c.past[connKey{port, service}]; known {
		isn = past + clientWnd + 2 + c.w.rng.Uint32N(1<<16)
	}
	return c.OpenAt(port, service, isn)
}

// OpenAt is Open with an ISN of the caller's choice, such as one that a peer in
// TIME-WAIT must not take.
func (c *Client) OpenAt(port, service uint16, isn uint32) *Conn {
	key := connKey{port, service}
	if old := c.conns[key]; old != nil {
		if !old.State.Over() {
			panic(fmt.Sprintf("sim: %s opens port %d to %d, which is %v", c.Name, port, service, old.State))
		}
		old.timer.Stop()
	}
	n := &Conn{Port: port, Service: service, ISN: isn, Opened: c.w.now, c: c, una: isn, nxt: isn, mss: defaultMSS, rto: firstRTO}
	c.conns[key] = n
	n.transmit(inFlight{seq: isn, length: 1, flags: SYN})
	return n
}

// Conn is the client's connection of these ports, as long as it is not forgotten:
// one in TIME-WAIT is still there, one that has ended otherwise is not.
func (c *Client) Conn(port, service uint16) *Conn { return c.conns[connKey{port, service}] }

// ISNs are the different sequence numbers that SYN-ACKs offered, oldest first.
func (n *Conn) ISNs() (out []uint32) {
	for _, s := range n.SYNACKs {
		if !slices.Contains(out, s.ISN) {
			out = append(out, s.ISN)
		}
	}
	return out
}

// Waiting is for how long the oldest segment has been without an answer.
func (n *Conn) Waiting() time.Duration {
	if len(n.flight) == 0 {
		return 0
	}
	return n.c.w.now - n.flight[0].sent
}

// Unanswered reports whether something was last sent between two times, and nothing has
// said since that it came.
func (n *Conn) Unanswered(from, to time.Duration) bool {
	return slices.ContainsFunc(n.flight, func(f inFlight) bool { return from < f.tried && f.tried < to })
}

// Write sends so many bytes, at once as far as the peer's window allows, and
// says whether the connection takes them.
func (n *Conn) Write(bytes int) bool {
	if n.closing || n.State != SynSent && n.State != Established && n.State != CloseWait {
		return false
	}
	n.unsent += bytes
	n.flush()
	return true
}

// Chat writes so many bytes now and then, on average once in every, for as long
// as the connection takes them.
func (n *Conn) Chat(every time.Duration, bytes int) {
	n.c.w.After(n.c.w.between(every/2, every+every/2), func() {
		if n.Write(bytes) {
			n.Chat(every, bytes)
		}
	})
}

// Close sends a FIN behind all that was written.
func (n *Conn) Close() {
	if n.State == SynSent {
		n.end(Aborted)
		return
	}
	if !n.closing && (n.State == Established || n.State == CloseWait) {
		n.closing = true
		n.flush()
	}
}

// Abort sends a reset and forgets the connection.
func (n *Conn) Abort() {
	if n.State.Over() {
		return
	}
	if n.State != SynSent {
		n.c.Send(n.Port, n.Service, RST|ACK, n.nxt, n.rcvNxt, nil)
	}
	n.end(Aborted)
}

// Vanish forgets the connection without a word, as a host does that lost power.
// What still comes for it meets a reset.
func (n *Conn) Vanish() {
	if !n.State.Over() {
		n.end(Aborted)
	}
}

func (n *Conn) become(s State) {
	n.State = s
	n.c.w.Record(n.c.Name, fmt.Sprintf("%d > %d is %v", n.Port, n.Service, s))
	if s.Over() && n.Ended == 0 {
		n.Ended = n.c.w.now
	}
	if n.Changed != nil {
		n.Changed()
	}
}

// end forgets the connection; its records stay with whoever has it.
func (n *Conn) end(s State) {
	n.timer.Stop()
	n.flight = nil
	if key := (connKey{n.Port, n.Service}); n.c.conns[key] == n {
		delete(n.c.conns, key)
	}
	n.become(s)
}
