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
	// maxAsked bounds the SYNs that are remembered. The one that was not looked for the
	// longest makes room; a SYN-ACK follows its SYN at once, and repeats of one that was
	// forgotten stay until the client asks again.
	maxAsked = 8192
)

// askedBytes are those of a SYN that is remembered: when it came, in CLOCK_BOOTTIME, and
// the number that acknowledges it. A client may ask for another connection from the same
// port, and it is not for that that the kernel repeats a SYN-ACK.
const (
	askedBytes  = 16
	askedNumber = 8
)

// newAsked is the map of the SYNs that came, by node.FlowHash: of each flow the last.
func newAsked() (*ebpf.Map, error) {
	return ebpf.NewMap(&ebpf.MapSpec{Name: "onevoice_asked", Type: ebpf.LRUHash, KeySize: 8, ValueSize: askedBytes, MaxEntries: maxAsked})
}

// began leaves in R3 since when the bucket is this node's to answer for without a gap. The
// lease's begin is the same as long as it is renewed.
func (s *steerer) began(family, label string) {
	later := label + " " + family
	s.add(
		asm.LoadMem(asm.R3, asm.R10, lease, asm.DWord),
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

// noteSYN passes a SYN of a bucket that is ours, and remembers it while that is new.
func (s *steerer) noteSYN(family string) {
	s.began(family, "in since")
	s.add(
		asm.JGE.Reg(asm.R5, asm.R1, s.out(PassSYN)),
		asm.StoreMem(asm.R10, asked, asm.R5, asm.DWord),
		asm.LoadMem(asm.R1, asm.R10, tcpOf(family)+4, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.Add.Imm32(asm.R1, 1),
		asm.StoreMem(asm.R10, asked+askedNumber, asm.R1, asm.DWord),
	)
	s.tupleOf(family)
	s.hashFlow(family)
	s.put(s.fds.asked, flowHash, asked)
	s.add(
		asm.Ja.Label(s.out(PassSYN)),
	)
}

// answersSYN lets a SYN-ACK of a bucket that is ours leave if it answers a SYN that came
// since it is.
func (s *steerer) answersSYN(family string) {
	const since = socket
	s.began(family, "out since")
	s.add(
		asm.JGE.Reg(asm.R5, asm.R1, s.out(Elsewhere)),
		asm.Mov.Reg(since, asm.R3),
	)
	s.tupleOf(family)
	s.hashFlow(family)
	s.get(s.fds.asked, flowHash)
	s.add(
		asm.JEq.Imm(asm.R0, 0, s.out(KeptSYNACK)),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.JLT.Reg(asm.R1, since, s.out(KeptSYNACK)),
		asm.LoadMem(asm.R1, asm.R0, askedNumber, asm.DWord),
		asm.LoadMem(asm.R2, asm.R10, tcpOf(family)+8, asm.Word),
		asm.HostTo(asm.BE, asm.R2, asm.Word),
		asm.JNE.Reg(asm.R1, asm.R2, s.out(KeptSYNACK)),
		asm.Ja.Label(s.out(Elsewhere)),
	)
}
