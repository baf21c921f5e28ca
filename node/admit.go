package node

import (
	"time"

	"onevoice/admission"
	"onevoice/hashing"
	"onevoice/responder"
)

// Refusal is what becomes of a connection that a service does not admit.
type Refusal uint8

// Refusals.
const (
	// Drop: nothing is said, and the client tries again until it gives up.
	Drop Refusal = iota
	// Reset: a reset, as from a port where nobody listens.
	Reset
	// Reject: an ICMP error, "administratively prohibited".
	Reject
)

// admit judges something new of a client, which connection names: Admitted, or why
// it may not begin. The bucket is ours, and its lease valid: nobody else judges it.
func (n *Node) admit(now time.Duration, service int, f *hashing.Flow, connection uint64) admission.Outcome {
	if n.admission.Denies(service, f.Src) {
		return admission.Denied
	}
	if out := n.fits(now, service, f); out != admission.Admitted {
		return out
	}
	out := n.admission.Take(now, service, f.Src, connection)
	if out != admission.Admitted {
		n.admission.Refused(service, out)
	}
	return out
}

// admitDatagram judges a datagram: the rate is that of new flows.
func (n *Node) admitDatagram(now time.Duration, service int, f *hashing.Flow) admission.Outcome {
	if n.admission.Denies(service, f.Src) {
		return admission.Denied
	}
	if n.datagrams.Has(f) {
		return admission.Admitted
	}
	out := n.admission.Take(now, service, f.Src, uint64(f.SrcPort)<<48|uint64(f.DstPort)<<32)
	if out != admission.Admitted {
		n.admission.Refused(service, out)
	}
	return out
}

// fits judges by the flows that are there. Those of a source that have ended lately
// are found first.
func (n *Node) fits(now time.Duration, service int, f *hashing.Flow) admission.Outcome {
	if !n.admission.Limits(service) {
		return admission.Admitted
	}
	source := sourceKey{n.admission.Source(service, f.Src), service}
	out := n.admission.Fits(service, f.Src, n.table.census.have(source))
	if out == admission.SourceFull && n.recount(now, source) {
		out = n.admission.Fits(service, f.Src, n.table.census.have(source))
	}
	if out != admission.Admitted {
		n.admission.Refused(service, out)
	}
	return out
}

// connectionOf names a TCP connection apart from others of its source: a SYN that
// is sent again has the same.
func connectionOf(d *Decoded) uint64 {
	return uint64(d.Flow.SrcPort)<<48 | uint64(d.Flow.DstPort)<<32 | uint64(d.TCP.Seq)
}

// turnAway answers what was not admitted, as the service wants it, at the rate that
// bounds resets: its source may be forged. frame is a segment's, nil for a datagram,
// which nothing resets.
func (n *Node) turnAway(now time.Duration, service int, why admission.Outcome, frame []byte) Verdict {
	v := verdictOn(why)
	s := &n.services[service]
	how := s.OnLimit
	if why == admission.Denied {
		how = s.OnDenied
	}
	if how == Drop || how == Reset && frame == nil {
		return v
	}
	d := &n.decoded
	var reply []byte
	made := false
	if how == Reset {
		var outcome responder.Outcome
		reply, outcome = n.appendReset(frame)
		made = outcome == responder.ResetSent
	} else {
		if reply, made = responder.AppendFrame(n.reply[:0], n.own, d.From, !d.Flow.Src.Is4()); made {
			reply, made = responder.AppendProhibited(reply, d.IP)
		}
	}
	n.reply = reply[:0]
	if made && n.resets.Allow(now) {
		return n.also(Handled{Verdict: v, Reply: reply, vip: n.vip(d.Flow.Dst)})
	}
	return v
}

// resetAway is turnAway for a client that has heard our SYN-ACK, and has to be told
// that it is over.
func (n *Node) resetAway(now time.Duration, why admission.Outcome, frame []byte) Verdict {
	// Whether the reset may leave, at its rate, is no other verdict.
	_ = n.reset(now, n.resets, verdictOn(why), frame)
	return verdictOn(why)
}

func verdictOn(why admission.Outcome) Verdict {
	switch why {
	case admission.Denied:
		return Denied
	case admission.OverRate:
		return RateLimited
	case admission.SourceFull:
		return SourceLimited
	}
	return ServiceLimited
}

// TurnedAway is how often each service has turned away what was new, by reason; nil
// when none has rules for it.
func (n *Node) TurnedAway() (out []admission.Counts) {
	if n.admission == nil {
		return nil
	}
	for i := range n.services {
		out = append(out, n.admission.Counts(i))
	}
	return out
}

// SetPrefixList puts another list in the place of those of a name, see
// admission.Files.
func (n *Node) SetPrefixList(name string, l *admission.List) {
	if n.admission != nil {
		n.admission.SetList(name, l)
	}
}

// newAdmission is the gate of the services' rules, nil when they have none.
func newAdmission(cfg *Config) *admission.Gate {
	rules, any := make([]admission.Service, len(cfg.Services)), false
	for i := range cfg.Services {
		if r := cfg.Services[i].Admits; r != nil {
			rules[i], any = *r, true
		}
	}
	if !any {
		return nil
	}
	return admission.New(rules, cfg.AdmissionKey)
}
