package node

// windows are the sequence numbers of a flow in both directions, as our own
// segments tell them: they cannot be forged, and do not say more than the client
// has been told.
type windows struct {
	// known: a segment of ours has left since the flow is tracked.
	known bool
	// ownNext is the number behind the last that we have sent, clientNext the
	// one that we expect next.
	ownNext, clientNext uint32
	// size is the widest receive window that we have offered, in bytes; scale is
	// our shift (RFC 7323 §2.2), 0 when we offered none.
	size  uint32
	scale uint8
}

// maxInFlight bounds how old an acknowledgment may be: it is more than the send
// buffer of a flow.
const maxInFlight = 8 << 20

// told notes a segment of ours: its sequence number, its length with SYN and FIN
// (RFC 9293 §3.4), its acknowledgment and the bare window field.
func (w *windows) told(s *outgoing) {
	end := s.seq + s.length()
	if !w.known || int32(end-w.ownNext) > 0 {
		w.ownNext = end
	}
	if s.flags&flagACK == 0 {
		return
	}
	if !w.known || int32(s.ack-w.clientNext) > 0 {
		w.clientNext = s.ack
	}
	size := uint32(s.window)
	if s.flags&flagSYN == 0 {
		size <<= w.scale
	}
	w.size = max(w.size, size)
	w.known = true
}

// beyond reports whether an acknowledgment is of something that we have not sent.
func (w *windows) beyond(ack uint32) bool { return w.known && int32(ack-w.ownNext) > 0 }

// contain reports whether a client's segment can belong to the flow: it begins
// within the window, or within one window behind it, where a retransmission or a
// keep-alive does, and acknowledges what we have sent. What another node's flow
// of the same tuple sends does so once in some hundred thousand times.
func (w *windows) contain(seq, ack uint32, flags uint8) bool {
	if !w.known {
		return true
	}
	reach := max(w.size, 1)
	if seq-(w.clientNext-reach) > 2*reach {
		return false
	}
	return flags&flagACK == 0 || w.ownNext-ack <= maxInFlight
}
