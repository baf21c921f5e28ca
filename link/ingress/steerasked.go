package ingress

import (
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// One SYN is answered by one node, and the kernel repeats its SYN-ACKs: in between, the
// right to answer may have gone to another node, which has answered the same SYN, and come
// back. So a SYN-ACK leaves only if the client has asked since this node's right began
// (OWNERSHIP.md R12, R13). The kernel's repeats are told from its first SYN-ACK by the SYNs
// that came in since: in the first minutes of a right the programs remember those.

const (
	// askedTime is for how long after a right has begun SYN-ACKs have to answer a SYN that
	// is remembered: longer than the kernel repeats them, 31 seconds, and 127 with
	// net.ipv4.tcp_synack_retries of 7 in place of 5.
	askedTime = 3 * time.Minute
	// maxAsked bounds the SYNs that are remembered, a power of two. Each has one place, and
	// the next that comes there takes it: a SYN-ACK follows its SYN at once, and repeats of
	// one that was forgotten stay until the client asks again.
	maxAsked = 1 << 14
)

// A place has who asked, when, in CLOCK_BOOTTIME, and the sum of both, by which one that two
// processors wrote at once is told and is nobody's. Who asked is node.FlowHash and the number
// that acknowledges the SYN, added: a client may ask for another connection from the same
// port, and it is not for that that the kernel repeats a SYN-ACK.
const (
	askedAt    = 8
	askedSum   = 16
	askedBytes = 24
)

// newAsked is the map of the SYNs that came.
func newAsked() (*ebpf.Map, error) {
	return ebpf.NewMap(&ebpf.MapSpec{Name: "onevoice_asked", Type: ebpf.Array, KeySize: 4, ValueSize: askedBytes, MaxEntries: maxAsked})
}

// began leaves in R3 since when the bucket is this node's to answer for without a gap. The
// lease's begin is the same as long as it is renewed. It is written before the end, and so
// has to be read after it: the end, of which nothing is left, is added to where the begin
// lies, for a processor may load out of order what does not hang on each other.
func (s *steerer) began(family, label string) {
	later := label + " " + family
	s.add(
		asm.LoadMem(asm.R3, asm.R10, lease, asm.DWord),
		asm.LoadMem(asm.R1, asm.R3, 0, asm.DWord),
		asm.And.Imm(asm.R1, 0),
		asm.Add.Reg(asm.R3, asm.R1),
		asm.LoadMem(asm.R3, asm.R3, leaseBegin, asm.DWord),
		asm.Mov.Reg(asm.R1, bucket),
		asm.LSh.Imm(asm.R1, 3),
		asm.Add.Reg(asm.R1, state),
		asm.LoadMem(asm.R1, asm.R1, rowSince, asm.DWord),
		asm.JLE.Reg(asm.R1, asm.R3, later),
		asm.Mov.Reg(asm.R3, asm.R1),
	)
	s.at(later, asm.LoadImm(asm.R1, int64(askedTime), asm.DWord))
	s.add(asm.Add.Reg(asm.R1, asm.R3))
}

// tcpOf is where the TCP header is.
func tcpOf(family string) int16 {
	if family == "6" {
		return tcp6
	}
	return tcp4
}

// placeOf leaves in R0 where a SYN is remembered, and on the stack who asked by it. number is
// where the TCP header has a number, to which more is added.
func (s *steerer) placeOf(family string, number int16, more int32, none string) {
	s.tupleOf(family)
	s.hashFlow(family)
	s.add(
		asm.LoadMem(asm.R1, asm.R10, tcpOf(family)+number, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.Add.Imm32(asm.R1, more),
		asm.Add.Reg(asm.R1, asm.R0),
		asm.StoreMem(asm.R10, asked, asm.R1, asm.DWord),
		asm.And.Imm(asm.R0, maxAsked-1),
		asm.StoreMem(asm.R10, flowHash, asm.R0, asm.Word),
	)
	s.get(s.fds.asked, flowHash)
	s.add(asm.JEq.Imm(asm.R0, 0, none))
}

// noteSYN passes a SYN of a bucket that is ours, and remembers it while that is new.
func (s *steerer) noteSYN(family string) {
	const sequence = 4
	s.began(family, "in since")
	s.add(
		asm.JGE.Reg(asm.R5, asm.R1, s.out(PassSYN)),
		asm.StoreMem(asm.R10, asked+askedAt, asm.R5, asm.DWord),
	)
	s.placeOf(family, sequence, 1, s.out(PassSYN))
	s.add(
		asm.LoadMem(asm.R1, asm.R10, asked, asm.DWord),
		asm.LoadMem(asm.R2, asm.R10, asked+askedAt, asm.DWord),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.StoreMem(asm.R0, askedAt, asm.R2, asm.DWord),
		asm.Add.Reg(asm.R1, asm.R2),
		asm.StoreMem(asm.R0, askedSum, asm.R1, asm.DWord),
		asm.Ja.Label(s.out(PassSYN)),
	)
}

// answersSYN lets a SYN-ACK of a bucket that is ours leave if it answers a SYN that came
// since it is.
func (s *steerer) answersSYN(family string) {
	const since, acknowledges = socket, 8
	s.began(family, "out since")
	s.add(
		asm.JGE.Reg(asm.R5, asm.R1, s.out(Elsewhere)),
		asm.Mov.Reg(since, asm.R3),
	)
	s.placeOf(family, acknowledges, 0, s.out(KeptSYNACK))
	s.add(
		asm.LoadMem(asm.R1, asm.R10, asked, asm.DWord),
		asm.LoadMem(asm.R2, asm.R0, 0, asm.DWord),
		asm.JNE.Reg(asm.R1, asm.R2, s.out(KeptSYNACK)),
		asm.LoadMem(asm.R2, asm.R0, askedAt, asm.DWord),
		asm.JLT.Reg(asm.R2, since, s.out(KeptSYNACK)),
		asm.Add.Reg(asm.R1, asm.R2),
		asm.LoadMem(asm.R2, asm.R0, askedSum, asm.DWord),
		asm.JNE.Reg(asm.R1, asm.R2, s.out(KeptSYNACK)),
		asm.Ja.Label(s.out(Elsewhere)),
	)
}
