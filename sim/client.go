package sim

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Bounds and defaults of a Client.
const (
	MaxRecords = 4096 // of each kind that a Client or a Conn keeps; the rest is counted in Unrecorded

	arpRetry   = time.Second // RFC 1122 §2.3.2.1: at most one request a second
	arpTries   = 3           // as Linux's mcast_solicit
	arpQueue   = 3           // packets that wait for an answer; the oldest goes first
	arpLife    = time.Minute // what an answer is good for
	firstRTO   = time.Second // RFC 6298 §2.1
	leastRTO   = 200 * time.Millisecond
	mostRTO    = 2 * time.Minute // as Linux's TCP_RTO_MAX
	synRetries = 6               // as Linux's tcp_syn_retries: the seventh time-out gives up
	tcpRetries = 15              // as Linux's tcp_retries2
	timeWait   = time.Minute
	clientMSS  = 1460
	defaultMSS = 536 // RFC 9293 §3.7.1, MUST-15
	clientWnd  = 65535
	// oowGap is how often a segment without data earns a challenge ACK, as
	// Linux's tcp_invalid_ratelimit; RFC 5961 §7 asks for such a limit.
	oowGap = 500 * time.Millisecond
)

// ClientOptions say who a client is.
type ClientOptions struct {
	Name string
	MAC  MAC
	IP   netip.Addr
	// VIP is the address that the client talks to: on its own LAN, or behind
	// Gateway if there is one. What is said below of the VIP's MAC is then said of
	// the gateway's.
	VIP, Gateway netip.Addr
	// RefusesGroupMAC makes it one that believes no ARP answer which names a
	// group address (RFC 1812 §3.3.2, of routers).
	RefusesGroupMAC bool
}

// Answer is one frame that came, and from whom.
type Answer struct {
	At   time.Duration
	From MAC // the frame's Ethernet source
}

// Ask is an ARP request of the client, and what came. Answers without a request
// count for the last one.
type Ask struct {
	At      time.Duration
	Answers []ARPAnswer
}

// ARPAnswer is what an answer says: where the VIP is.
type ARPAnswer struct {
	Answer
	Is MAC
}

// Ping is an echo request of the client, and what came.
type Ping struct {
	At      time.Duration
	Seq     uint16
	Answers []Answer
}

// StrayReset is a reset that came for no connection of the client.
type StrayReset struct {
	Answer
	From, To netip.AddrPort
	Seq, Ack uint32
}

// Client is a station that talks to one VIP, frame by frame: ARP, echo, TCP. It
// behaves as a host of its own does, and writes down what it sees. All its lists
// are in the order of time and may be read at any time.
type Client struct {
	ClientOptions
	Asks        []*Ask
	Pings       []*Ping
	StrayResets []StrayReset
	// TCP, if set, is the client's TCP in place of its own: it gets the VIP's
	// segments, whole frames, and sends with SendPacket. The frame is on loan.
	TCP func(frame []byte)
	// Unwelcome counts frames to the client that no honest peer would have
	// sent: broken, or with a wrong checksum.
	Unwelcome uint64
	// ResetsSent counts resets for segments of no connection.
	ResetsSent uint64
	// Unreachable counts packets given up because nobody answered for the VIP.
	Unreachable uint64
	// Unrecorded counts what did not fit into the lists.
	Unrecorded uint64

	w       *World
	port    *Port
	hop     netip.Addr // whose MAC packets to the VIP go to
	vipMAC  MAC
	known   bool
	static  bool
	learned time.Duration
	asking  Timer
	tries   int
	queue   [][]byte // frames that wait for the VIP's MAC
	conns   map[connKey]*Conn
	past    map[connKey]uint32 // what the last connection of these ports would have sent next
	pingID  uint16
}

type connKey struct{ port, service uint16 }

// NewClient plugs a client into the first switch of a LAN. AddClient is the same
// with errors for what cannot be.
func NewClient(l *LAN, o ClientOptions) *Client {
	if !o.IP.Is4() || !o.VIP.Is4() {
		panic(fmt.Sprintf("sim: client %s needs IPv4 addresses, not %v and %v", o.Name, o.IP, o.VIP))
	}
	c := newClient(l, o)
	c.port = l.Attach(o.Name, nil, c.receive)
	c.port.Wants = c.wants
	return c
}

func newClient(l *LAN, o ClientOptions) *Client {
	c := &Client{ClientOptions: o, w: l.w, hop: o.VIP, conns: map[connKey]*Conn{}, past: map[connKey]uint32{}, pingID: uint16(l.w.rng.Uint32())}
	if o.Gateway.IsValid() {
		c.hop = o.Gateway
	}
	return c
}

// wants is the client's network card.
func (c *Client) wants(f []byte) bool { return MAC(f) == c.MAC || MAC(f) == broadcast() }

// concerns says whether the client would do anything with a frame: one for its MAC,
// or a broadcast that is not ARP about two others.
func (c *Client) concerns(f []byte) bool {
	if MAC(f) != broadcast() {
		return MAC(f) == c.MAC
	}
	b := f[MinFrame:]
	return binary.BigEndian.Uint16(f[12:]) != etherARP || len(b) < arpBytes ||
		netip.AddrFrom4([4]byte(b[14:])) == c.hop || netip.AddrFrom4([4]byte(b[24:])) == c.IP
}

// Port is the client's port on the LAN.
func (c *Client) Port() *Port { return c.port }

// VIPMAC is where the client believes the VIP to be.
func (c *Client) VIPMAC() (MAC, bool) { return c.vipMAC, c.known }

// SetVIPMAC is a static entry: the client neither asks nor believes answers.
func (c *Client) SetVIPMAC(mac MAC) {
	c.learn(mac)
	c.static = true
}

// Forget makes the client ask for the VIP's MAC again.
func (c *Client) Forget() { c.known, c.static = false, false }

// Ask sends an ARP request for the VIP, whatever is known.
func (c *Client) Ask() {
	if len(c.Asks) < MaxRecords {
		c.Asks = append(c.Asks, &Ask{At: c.w.now})
	} else {
		c.Unrecorded++
	}
	a := arpPacket{operation: arpRequest, senderMAC: c.MAC, sender: c.IP, target: c.hop}
	c.port.Send(a.frame(broadcast(), c.MAC))
}

// Ping sends an echo request with n bytes of data to the VIP.
func (c *Client) Ping(n int) *Ping {
	p := &Ping{At: c.w.now, Seq: uint16(len(c.Pings))}
	if len(c.Pings) < MaxRecords {
		c.Pings = append(c.Pings, p)
	} else {
		c.Unrecorded++
	}
	c.toVIP(echoFrame(MAC{}, c.MAC, c.IP, c.VIP, echoRequest, c.pingID, p.Seq, make([]byte, n)))
	return p
}

// Send sends a segment of the client's making to a port of the VIP: a stray ACK,
// a SYN of a flood. Addresses and window are filled in.
func (c *Client) Send(port, service uint16, flags byte, seq, ack uint32, data []byte) {
	s := Segment{From: netip.AddrPortFrom(c.IP, port), To: netip.AddrPortFrom(c.VIP, service),
		FromMAC: c.MAC, Flags: flags, Seq: seq, Ack: ack, Window: clientWnd, Data: data}
	if flags&SYN != 0 {
		s.MSS = clientMSS
	}
	c.toVIP(s.Frame())
}

// SendPacket sends an IPv4 packet to the VIP. The bytes stay the caller's.
func (c *Client) SendPacket(ip []byte) {
	frame := make([]byte, MinFrame, MinFrame+len(ip))
	copy(frame[6:], c.MAC[:])
	binary.BigEndian.PutUint16(frame[12:], etherIPv4)
	c.toVIP(append(frame, ip...))
}

// toVIP sends a frame whose destination is still empty, now or when the VIP's
// MAC is known. An old entry is used while the client asks anew, as Linux does.
func (c *Client) toVIP(frame []byte) {
	if c.known {
		copy(frame, c.vipMAC[:])
		c.port.Send(frame)
		if !c.static && c.w.now-c.learned >= arpLife {
			c.resolve()
		}
		return
	}
	if len(c.queue) >= arpQueue {
		c.queue = slices.Delete(c.queue, 0, 1)
		c.Unreachable++
	}
	c.queue = append(c.queue, frame)
	c.resolve()
}

// resolve asks, if the client does not ask already, and asks again while nobody
// answers.
func (c *Client) resolve() {
	if !c.asking.Pending() {
		c.tries = 0
		c.askAgain()
	}
}

func (c *Client) askAgain() {
	if c.tries++; c.tries > arpTries {
		c.Unreachable += uint64(len(c.queue))
		c.queue, c.known = nil, false
		return
	}
	c.Ask()
	c.asking = c.w.After(arpRetry, c.askAgain)
}

func (c *Client) learn(mac MAC) {
	c.vipMAC, c.known, c.learned = mac, true, c.w.now
	c.asking.Stop()
	waiting := c.queue
	c.queue = nil
	for _, f := range waiting {
		copy(f, mac[:])
		c.port.Send(f)
	}
}

func (c *Client) receive(frame []byte) {
	if a, ok := parseARP(frame); ok {
		c.receiveARP(frame, a)
		return
	}
	if binary.BigEndian.Uint16(frame[12:]) != etherIPv4 {
		return
	}
	src, dst, proto, body, ok := parseIPv4(frame)
	switch {
	case !ok:
		c.Unwelcome++
	case dst != c.IP || src != c.VIP:
	case proto == protoICMP:
		c.receiveEcho(MAC(frame[6:]), body)
	case proto == protoTCP && c.TCP != nil:
		c.TCP(frame)
	case proto == protoTCP:
		c.receiveTCP(frame)
	}
}

// receiveARP answers who asks for the client, and believes what is said of the
// VIP in answer to the client, or to anybody once the VIP is known (RFC 826,
// Packet Reception).
func (c *Client) receiveARP(frame []byte, a arpPacket) {
	from := MAC(frame[6:])
	if a.operation == arpReply && a.sender == c.hop {
		c.recordARP(ARPAnswer{Answer{c.w.now, from}, a.senderMAC})
	}
	if !c.static && a.sender == c.hop && (a.target == c.IP || c.known) && !(c.RefusesGroupMAC && group(a.senderMAC)) {
		c.learn(a.senderMAC)
	}
	if a.operation == arpRequest && a.target == c.IP {
		reply := arpPacket{operation: arpReply, senderMAC: c.MAC, sender: c.IP, targetMAC: a.senderMAC, target: a.sender}
		c.port.Send(reply.frame(from, c.MAC))
	}
}

func (c *Client) recordARP(a ARPAnswer) {
	if len(c.Asks) == 0 {
		c.Unrecorded++
		return
	}
	last := c.Asks[len(c.Asks)-1]
	if len(last.Answers) >= MaxRecords {
		c.Unrecorded++
		return
	}
	last.Answers = append(last.Answers, a)
}

func (c *Client) receiveEcho(from MAC, b []byte) {
	if len(b) < echoBytes || onesSum(0, b) != 0xffff {
		c.Unwelcome++
		return
	}
	id, seq := binary.BigEndian.Uint16(b[4:]), int(binary.BigEndian.Uint16(b[6:]))
	if b[0] != echoReply || id != c.pingID {
		return
	}
	if seq >= len(c.Pings) || len(c.Pings[seq].Answers) >= MaxRecords {
		c.Unrecorded++
		return
	}
	c.Pings[seq].Answers = append(c.Pings[seq].Answers, Answer{c.w.now, from})
}

// receiveTCP hands a segment to its connection. One of no connection is answered
// with a reset, as RFC 9293 §3.10.7.1 has it for CLOSED.
func (c *Client) receiveTCP(frame []byte) {
	s, ok := ParseSegment(frame)
	if !ok {
		c.Unwelcome++
		return
	}
	if conn := c.conns[connKey{s.To.Port(), s.From.Port()}]; conn != nil {
		conn.receive(&s)
		return
	}
	switch {
	case s.Has(RST) && len(c.StrayResets) < MaxRecords:
		c.StrayResets = append(c.StrayResets, StrayReset{Answer{c.w.now, s.FromMAC}, s.From, s.To, s.Seq, s.Ack})
	case s.Has(RST):
		c.Unrecorded++
	case s.Has(ACK):
		c.ResetsSent++
		c.Send(s.To.Port(), s.From.Port(), RST, s.Ack, 0, nil)
	default:
		c.ResetsSent++
		c.Send(s.To.Port(), s.From.Port(), RST|ACK, 0, s.Seq+s.Length(), nil)
	}
}
