package ingress

// Ruling is what the programs of the direct path decided about a frame, and why. It
// is the row of their counters, too.
type Ruling uint8

// Rulings. The first is of frames that are not the direct path's, the next group goes
// to the host's own stack, the third is dropped on its way in, the last on its way out.
const (
	// Elsewhere: for no VIP of the direct path, or a heartbeat. Others' programs and
	// the stack see it as it came.
	Elsewhere Ruling = iota

	// PassSYN: opens a connection in a bucket that is ours.
	PassSYN
	// PassAlone: anything else in a bucket that is ours and where nobody else can hold
	// a connection: the kernel has it, or resets it, or takes it for the end of a SYN
	// cookie. It is not asked which.
	PassAlone
	// PassHeld: of a connection, or of a half-open one, that the kernel has, in a bucket
	// where others may hold some, too.
	PassHeld
	// PassCookie: an acknowledgment for a listening socket, in a bucket where others
	// may hold flows: it completes a SYN cookie, or draws a reset that is kept back.
	PassCookie
	// PassStray: of no connection that the kernel has, in a bucket that is ours and that
	// others drain, none of whom has it: the kernel resets it, or takes it for the end of
	// a SYN cookie.
	PassStray
	// PassError: an ICMP error that quotes a connection which the kernel has.
	PassError
	// PassDatagram: of a UDP service, in a bucket that is ours.
	PassDatagram
	// PassFragment: belongs to a packet whose first fragment has passed.
	PassFragment

	// ForeignSYN: opens a connection in a bucket that is not ours, or not under a
	// valid lease.
	ForeignSYN
	// Foreign: anything else in such a bucket that this host's kernel knows nothing of.
	Foreign
	// ForeignTimeWait: of a connection that is over here, in a bucket where others may hold
	// flows: the tuple may have been used again with one of them.
	ForeignTimeWait
	// Outside: far outside the windows of a connection that the kernel has, in such a
	// bucket.
	Outside
	// Unsettled: of no connection that the kernel has, in a bucket that is ours and of
	// which another has it, or may have it.
	Unsettled
	// UnknownQuoted: an ICMP error about a connection that the kernel does not have.
	UnknownQuoted
	// LostFragment: belongs to a packet whose first fragment has not passed.
	LostFragment
	// Malformed: with addresses, lengths or flags that no client sends.
	Malformed
	// NotForKernel: for a VIP, and for no service of the direct path: the node answers
	// it, or nobody does.
	NotForKernel

	// KeptSYNACK: a SYN-ACK from a VIP for a bucket that is not ours, or not under a
	// valid lease, or that has been so only since the SYN that it answers.
	KeptSYNACK
	// KeptReset: a reset from a VIP that no connection of this host has sent, of a flow
	// that others may hold.
	KeptReset
	// KeptSilent: a reset of a connection that is to end without a word.
	KeptSilent
	// KeptAddress: ARP from the kernel that names a VIP as its sender.
	KeptAddress
	// KeptSource: a frame whose source is a cluster MAC.
	KeptSource

	// RulingCount is the number of rulings.
	RulingCount
)

// String is the ruling's name in counters: lower case, words joined by hyphens.
func (r Ruling) String() string {
	names := [RulingCount]string{
		Elsewhere: "elsewhere", PassSYN: "pass-syn", PassAlone: "pass-alone", PassHeld: "pass-held", PassCookie: "pass-cookie", PassStray: "pass-stray",
		PassError: "pass-error", PassDatagram: "pass-datagram", PassFragment: "pass-fragment",
		ForeignSYN: "foreign-syn", Foreign: "foreign", ForeignTimeWait: "foreign-time-wait", Outside: "outside-windows",
		Unsettled: "unsettled", UnknownQuoted: "unknown-quote", LostFragment: "lost-fragment", Malformed: "malformed", NotForKernel: "not-for-kernel",
		KeptSYNACK: "kept-syn-ack", KeptReset: "kept-reset", KeptSilent: "kept-silent", KeptAddress: "kept-address", KeptSource: "kept-source",
	}
	if r < RulingCount {
		return names[r]
	}
	return "unknown"
}

// Passes reports whether the frame goes on: to the host's stack, or to the wire.
func (r Ruling) Passes() bool { return r < ForeignSYN }

// delivers reports whether the frame is one that the host's stack is to take for its
// own, whatever MAC it came to.
func (r Ruling) delivers() bool { return r > Elsewhere && r.Passes() }
