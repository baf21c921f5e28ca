package sim

// receive takes a segment of this connection, whose checksums are right.
func (n *Conn) receive(s *Segment) {
	n.heard(s.FromMAC)
	here := Answer{n.c.w.now, s.FromMAC}
	if s.Has(SYN | ACK) {
		if len(n.SYNACKs) < MaxRecords {
			n.SYNACKs = append(n.SYNACKs, SYNACK{here, s.Seq, s.Ack, false})
		} else {
			n.Unrecorded++
		}
	}
	if s.Has(RST) {
		if len(n.Resets) < MaxRecords {
			n.Resets = append(n.Resets, Reset{here, s.Seq, false})
		} else {
			n.Unrecorded++
		}
	}
	if n.State == SynSent {
		n.inSynSent(s)
		return
	}
	n.inOthers(s)
}

func (n *Conn) heard(from MAC) {
	for i := range n.Speakers {
		if n.Speakers[i].MAC == from {
			n.Speakers[i].Segments++
			return
		}
	}
	if len(n.Speakers) < MaxRecords {
		n.Speakers = append(n.Speakers, Speaker{from, 1})
	} else {
		n.Unrecorded++
	}
}

// inSynSent is RFC 9293 §3.10.7.3. An ACK of something else than our SYN, such
// as the challenge ACK of a server that still has an old connection of these
// ports, is answered with the reset that ends that one; our SYN goes again later.
func (n *Conn) inSynSent(s *Segment) {
	if s.Has(ACK) && s.Ack != n.nxt {
		if !s.Has(RST) {
			n.ResetsSent++
			n.c.Send(n.Port, n.Service, RST, s.Ack, 0, nil)
		}
		return
	}
	switch {
	case s.Has(RST | ACK):
		n.reset()
	case s.Has(RST):
	case s.Has(SYN | ACK):
		n.connect(s)
	}
	// A SYN without ACK would be a simultaneous open, which no listener makes.
}

func (n *Conn) connect(s *Segment) {
	n.rcvNxt = s.Seq + 1
	n.window, n.widest, n.wl1, n.wl2 = uint32(s.Window), uint32(s.Window), s.Seq, s.Ack
	if s.MSS != 0 {
		n.mss = min(int(s.MSS), clientMSS)
	}
	if k := len(n.SYNACKs); k > 0 {
		n.SYNACKs[k-1].Taken = true
	}
	n.acknowledged(s.Ack, s.FromMAC)
	n.Connected = n.c.w.now
	n.segment(ACK, n.nxt, nil)
	n.become(Established)
	n.flush()
}

func (n *Conn) reset() {
	if k := len(n.Resets); k > 0 {
		n.Resets[k-1].Taken = true
	}
	switch n.State {
	case Closing, LastAck, TimeWait: // both have said goodbye
		n.end(Closed)
	default:
		n.end(WasReset)
	}
}

// inOthers is RFC 9293 §3.10.7.4, step by step, with RFC 5961 in it.
func (n *Conn) inOthers(s *Segment) {
	withData := len(s.Data) > 0
	switch {
	case !n.acceptable(s): // first, the sequence number
		if !s.Has(RST) {
			n.challenge(withData || s.Has(FIN))
			if n.State == TimeWait && s.Has(FIN) {
				n.linger(timeWait)
			}
		}
	case s.Has(RST): // second; RFC 5961 §3.2
		if s.Seq == n.rcvNxt {
			n.reset()
		} else {
			n.challenge(false)
		}
	case s.Has(SYN): // fourth; RFC 5961 §4.2
		n.challenge(false)
	case !s.Has(ACK): // fifth
	case before(n.nxt, s.Ack):
		n.AckOfUnsent++
		n.challenge(withData)
	case before(s.Ack, n.una-n.widest): // RFC 5961 §5.2
		n.challenge(withData)
	default:
		n.takeACK(s)
		n.takeData(s)
	}
}

// acceptable says whether any of the segment is in the window.
func (n *Conn) acceptable(s *Segment) bool {
	in := func(seq uint32) bool { return seq-n.rcvNxt < clientWnd }
	if length := s.Length(); length > 0 {
		return in(s.Seq) || in(s.Seq+length-1)
	}
	return in(s.Seq)
}

// takeACK is the fifth step, for an ACK that fits.
func (n *Conn) takeACK(s *Segment) {
	if newer := before(n.wl1, s.Seq) || n.wl1 == s.Seq && !before(s.Ack, n.wl2); newer && !before(s.Ack, n.una) {
		n.window, n.wl1, n.wl2 = uint32(s.Window), s.Seq, s.Ack
		n.widest = max(n.widest, n.window)
	}
	if before(n.una, s.Ack) {
		n.acknowledged(s.Ack, s.FromMAC)
	}
	n.flush()
	if n.una != n.nxt {
		return
	}
	switch n.State { // our FIN, and so everything, is acknowledged
	case FinWait1:
		n.become(FinWait2)
	case Closing:
		n.become(TimeWait)
		n.linger(timeWait)
	case LastAck:
		n.end(Closed)
	}
}

// takeData is the seventh and eighth step: data and FIN, in order only.
func (n *Conn) takeData(s *Segment) {
	if len(s.Data) == 0 && !s.Has(FIN) {
		return
	}
	switch n.State {
	case Established, FinWait1, FinWait2:
	default:
		return
	}
	old := n.rcvNxt - s.Seq // what of it came before
	if before(n.rcvNxt, s.Seq) {
		n.challenge(true) // a gap
		return
	}
	if fresh := s.Data[min(old, uint32(len(s.Data))):]; len(fresh) > 0 {
		n.rcvNxt += uint32(len(fresh))
		n.Received += uint64(len(fresh))
		if n.Data != nil {
			n.Data(fresh)
		}
	}
	if !s.Has(FIN) {
		n.segment(ACK, n.nxt, nil)
		return
	}
	n.rcvNxt++
	n.segment(ACK, n.nxt, nil)
	n.takeFIN()
}

func (n *Conn) takeFIN() {
	switch n.State {
	case Established:
		n.become(CloseWait)
		if !n.KeepsHalf {
			n.Close()
		}
	case FinWait1:
		n.become(Closing)
	case FinWait2:
		n.become(TimeWait)
		n.linger(timeWait)
	}
}
