package sim

import (
	"time"
)

// flush sends what the window has room for; one segment goes in any case, so
// that a window of 0 is probed (RFC 9293 §3.8.6.1). A FIN follows the last byte.
func (n *Conn) flush() {
	if n.State != Established && n.State != CloseWait {
		return
	}
	for n.unsent > 0 {
		length := min(n.unsent, n.mss)
		if len(n.flight) > 0 && n.nxt-n.una+uint32(length) > n.window {
			return
		}
		n.unsent -= length
		n.transmit(inFlight{seq: n.nxt, length: uint32(length), flags: ACK | PSH})
	}
	if !n.closing {
		return
	}
	n.transmit(inFlight{seq: n.nxt, length: 1, flags: ACK | FIN})
	if n.State == CloseWait {
		n.become(LastAck)
	} else {
		n.become(FinWait1)
	}
}

// transmit sends a new segment and waits for its acknowledgment.
func (n *Conn) transmit(f inFlight) {
	f.sent = n.c.w.now
	n.nxt = f.seq + f.length
	n.c.past[connKey{n.Port, n.Service}] = n.nxt
	n.flight = append(n.flight, f)
	n.emit(&n.flight[len(n.flight)-1])
	if !n.timer.Pending() {
		n.timer = n.c.w.After(n.rto, n.timeout)
	}
}

func (n *Conn) emit(f *inFlight) {
	f.tries, f.tried = f.tries+1, n.c.w.now
	if f.flags&SYN != 0 {
		if len(n.SYNs) < MaxRecords {
			n.SYNs = append(n.SYNs, n.c.w.now)
		} else {
			n.Unrecorded++
		}
	}
	var data []byte
	if f.flags&(SYN|FIN) == 0 {
		data = make([]byte, f.length)
		for i := range data {
			data[i] = DataAt(uint64(f.seq-n.ISN-1) + uint64(i))
		}
	}
	n.segment(f.flags, f.seq, data)
}

// DataAt is the byte that a Conn writes at an offset of its stream, so that a
// server can tell whether it got the right one. The offset counts modulo 2^32.
func DataAt(offset uint64) byte { return byte(offset) ^ byte(offset>>8) }

func (n *Conn) segment(flags byte, seq uint32, data []byte) {
	ack := n.rcvNxt
	if flags&ACK == 0 {
		ack = 0
	}
	n.c.Send(n.Port, n.Service, flags, seq, ack, data)
}

// timeout sends the oldest segment again, later each time (RFC 6298 §5.5), and
// gives up in the end.
func (n *Conn) timeout() {
	f := &n.flight[0]
	limit := tcpRetries
	if f.flags&SYN != 0 {
		limit = synRetries
	}
	if f.tries > limit {
		n.end(TimedOut)
		return
	}
	n.rto = min(2*n.rto, mostRTO)
	n.timer = n.c.w.After(n.rto, n.timeout)
	n.emit(f)
}

// acknowledged takes out of flight what ends at or before ack, and records who
// said so.
func (n *Conn) acknowledged(ack uint32, from MAC) {
	n.una = ack
	for len(n.flight) > 0 {
		f := &n.flight[0]
		if before(ack, f.seq+f.length) {
			if before(f.seq, ack) { // a part
				f.length -= ack - f.seq
				f.seq = ack
			}
			break
		}
		if len(n.Acked) < MaxRecords {
			n.Acked = append(n.Acked, Acked{Answer{n.c.w.now, from}, f.seq, f.length, f.sent, f.tries})
		} else {
			n.Unrecorded++
		}
		n.flight = n.flight[1:]
	}
	n.timer.Stop()
	n.rto = leastRTO
	if len(n.flight) > 0 {
		n.timer = n.c.w.After(n.rto, n.timeout)
	}
}

// challenge answers what does not fit with where the connection stands, which
// is both the ACK that RFC 9293 §3.10.7.4 wants for a segment outside the window
// and the challenge ACK of RFC 5961. For what carries no data it does so once in
// oowGap.
func (n *Conn) challenge(withData bool) {
	now := n.c.w.now
	if !withData {
		if n.everBefore && now-n.challenged < oowGap {
			return
		}
		n.everBefore, n.challenged = true, now
	}
	n.Challenges++
	n.segment(ACK, n.nxt, nil)
}

// linger is TIME-WAIT: it begins anew with each FIN that comes again.
func (n *Conn) linger(d time.Duration) {
	n.timer.Stop()
	n.timer = n.c.w.After(d, func() { n.end(Closed) })
}
