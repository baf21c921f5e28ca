package ingress

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf/asm"
)

// The map of the direct path: a word that says which of two copies of the rows counts,
// one until when connections end without a word, the key of drainers' lists, the end and the
// begin of each path's lease, and then the two copies. A row is a service's hash key, for
// each 64 buckets a word of each bitmap, so that what is asked about a bucket lies together,
// and a word for each bucket: since when it is owned.
const (
	steerIndex   = 0
	steerQuiet   = 8
	steerListKey = 16
	steerLeases  = 64
	steerRows    = 512
	leaseBytes   = 16
	leaseBegin   = 8

	rowOwned   = stateBits
	rowSettled = rowOwned + 8
	rowLinger  = rowSettled + 8
	rowListed  = rowLinger + 8
	rowWords   = 32 // from one 64 buckets to the next
	rowSince   = stateBits + 4*rowWords
	rowBytes   = rowSince + 8*buckets

	// MaxPaths bounds the leases.
	MaxPaths = (steerRows - steerLeases) / leaseBytes
)

// copyBytes is the size of a copy, a power of two: the program shifts by it.
func copyBytes(services int) int {
	return 1 << bits.Len(uint(max(services, 1)*rowBytes-1))
}

// Where the programs of the direct path keep things beyond what builder's have.
const (
	tuple      = -160 // of a socket: 12 bytes, or 36
	lease      = -168 // where it is
	transport  = -176 // the protocol
	isFirst    = -184 // of several fragments, firstOf4 or firstOf6
	fragment4  = -208 // a key of the map of fragments: 12 bytes; its value behind it
	fragmentAt = -192
	quote      = -320 // a header that an ICMP error quotes, from its ICMP header on
	quotePorts = -328
	// headAt is where the transport's header is in the frame if it is at tcp4 already.
	headAt = -336
	// fragment6 is as fragment4, 36 bytes, and fragmentHeader the extension header.
	fragment6      = -376
	fragmentHeader = -384
	// flowHash is a key of the map of drainers' flows, or of that of SYNs, and asked who
	// asked by a SYN and when.
	flowHash = -392
	asked    = -408
)

// Of what family the first fragment is.
const (
	firstOf4 = 1 + iota
	firstOf6
)

// How much of a bucket is ours, in the register rights.
const (
	isOwned = 1 << iota
	isSettled
	isLingering
	isListed
)

const (
	// offset is where the transport's header is in the frame, until the bucket is
	// known; rights is what the bucket is to us, from then on, and the ruling at last.
	offset = asm.R9
	rights = asm.R9
	// bucket is the bucket, and then the socket.
	bucket = asm.R7
	socket = asm.R7
	// found is what the kernel has for the segment.
	found = asm.R8
)

// States of sockets (include/net/tcp_states.h), and fields of struct bpf_sock and struct
// bpf_tcp_sock (include/uapi/linux/bpf.h).
const (
	tcpSYNRecv    = 3
	tcpTimeWait   = 6
	tcpListen     = 10
	tcpNewSYNRecv = 12
	// tcpDistant is ours: a connection far from whose windows a segment is.
	tcpDistant = 100
	// tcpNone is ours: no socket.
	tcpNone = 101

	sockType   = 8
	sockState  = 72
	sockStream = 1

	tcpRcvNxt = 16
	tcpSndNxt = 20

	skbSocket = 168
)

// window is how far from what a connection expects a segment may be where others may hold
// flows: more than any window that is in use, and little enough that a tuple which
// was used again is nearly never taken for the flow before.
const window = 1 << 25

// fragmentSeconds is how long the first fragment of a packet vouches for the others; the
// kernel waits as long for them (net.ipv4.ipfrag_time).
const fragmentSeconds = 30

// steerMaps are the descriptors of what the programs read and write.
type steerMaps struct{ state, listed, asked, fragments4, fragments6, counts int }

// steerer makes the programs of the direct path.
type steerer struct {
	builder
	fds steerMaps
	// paths are the leases' numbers, by service.
	paths []int
	// other is the ruling on a port that is no service's.
	other Ruling
	// inPieces: headers are copied by calls alone, as of frames that do not lie in one
	// piece. It is for tests.
	inPieces bool
	// tell: the program returns the ruling, and counts nothing.
	tell bool
	used [RulingCount]bool
}

func newSteerer(c *DirectConfig, m steerMaps, processors int) *steerer {
	s := &steerer{builder: builder{Config: &c.Config, processors: processors}, fds: m, paths: c.Paths, other: NotForKernel}
	s.row = s.serviceRow
	return s
}

// out is the label at which a program ends with a ruling.
func (s *steerer) out(r Ruling) string {
	s.used[r] = true
	return r.String()
}

// in is the program on the way in: the rule is node.SteerIn, and here is what it is
// asked about.
func (s *steerer) in() asm.Instructions {
	s.begin()
	// A tag that the interface does not take out leads to another device.
	s.add(asm.LoadMem(asm.R1, skb, skbVLANPresent, asm.Word), asm.JNE.Imm(asm.R1, 0, s.out(Elsewhere)))
	s.head()
	s.add(asm.LoadMem(asm.R1, asm.R10, frame+12, asm.Half))
	if s.has4() {
		s.add(asm.JEq.Imm(asm.R1, be16(typeIPv4), "ipv4"))
	}
	if s.has6() {
		s.add(asm.JEq.Imm(asm.R1, be16(typeIPv6), "ipv6"))
	}
	s.add(asm.Ja.Label(s.out(Elsewhere)))
	if s.has4() {
		s.in4()
	}
	if s.has6() {
		s.in6()
	}
	s.services()
	for _, family := range []string{"4", "6"} {
		if s.servesFamily(family) {
			s.rights(family)
			s.judge(family)
		}
	}
	s.rulings()
	return s.code
}

// begin sets what every way to the end reads.
func (s *steerer) begin() {
	s.add(asm.Mov.Reg(skb, asm.R1), asm.StoreImm(asm.R10, isFirst, 0, asm.Word))
	if s.has6() {
		s.add(asm.StoreImm(asm.R10, fragmentHeader+4, 0, asm.Word))
	}
}

// servesFamily reports a service on an address of a family.
func (s *steerer) servesFamily(family string) bool {
	return s.serves(func(a netip.Addr) bool { return a.Is4() == (family == "4") })
}

// servesTCP reports a TCP service on an address of a family.
func (s *steerer) servesTCP(family string) bool {
	return slices.ContainsFunc(s.Services, func(v Service) bool { return !v.UDP && v.Listen.Addr().Is4() == (family == "4") })
}

// serviceRow leads to a service's row in the copy that counts, and to its lease.
func (s *steerer) serviceRow(k int) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapValue(asm.R1, s.fds.state, uint32(steerLeases+leaseBytes*s.paths[k])),
		asm.StoreMem(asm.R10, lease, asm.R1, asm.DWord),
		asm.LoadMapValue(state, s.fds.state, 0),
		asm.LoadMem(asm.R1, state, steerIndex, asm.DWord),
		asm.And.Imm(asm.R1, 1),
		asm.LSh.Imm(asm.R1, int32(bits.TrailingZeros(uint(copyBytes(len(s.Services)))))),
		asm.Add.Reg(state, asm.R1),
		asm.Add.Imm(state, int32(steerRows+k*rowBytes)),
	}
}

// rights takes the hash in R0 and leaves in rights what its bucket is to us, and in R5 what
// time it is. The lease is compared with the clock here: whoever renews it may have stopped.
func (s *steerer) rights(family string) {
	s.at("decide"+family, asm.Mov.Reg(bucket, asm.R0))
	s.add(
		asm.And.Imm(bucket, 255),
		asm.FnKtimeGetBootNs.Call(),
		asm.Mov.Reg(asm.R5, asm.R0),
		asm.Mov.Reg(asm.R1, bucket),
		asm.RSh.Imm(asm.R1, 6),
		asm.LSh.Imm(asm.R1, int32(bits.TrailingZeros(rowWords))),
		asm.Add.Reg(asm.R1, state),
		asm.Mov.Reg(asm.R4, bucket),
		asm.And.Imm(asm.R4, 63),
	)
	for i, at := range []int16{rowOwned, rowSettled, rowLinger, rowListed} {
		to := []asm.Register{asm.R0, asm.R2, asm.R3, asm.R1}[i]
		s.add(
			asm.LoadMem(to, asm.R1, at, asm.DWord),
			asm.RSh.Reg(to, asm.R4),
			asm.And.Imm(to, 1),
		)
	}
	none := "no lease " + family
	s.add(
		// What is owned may be held, too.
		asm.Or.Reg(asm.R3, asm.R0),
		asm.LSh.Imm(asm.R3, 2),
		asm.LSh.Imm(asm.R2, 1),
		asm.LSh.Imm(asm.R1, 3),
		asm.Or.Reg(asm.R2, asm.R1),
		asm.LoadMem(asm.R1, asm.R10, lease, asm.DWord),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
		asm.Mov.Reg(rights, asm.R3),
		asm.JGE.Reg(asm.R5, asm.R1, none),
		asm.Or.Reg(rights, asm.R0),
		asm.Or.Reg(rights, asm.R2),
	)
	s.at(none, asm.Mov.Imm(asm.R1, 0))
}

// judge is node.SteerIn and node.SteerDatagram, in the order in which little is asked.
func (s *steerer) judge(family string) {
	flags := int16(tcp4 + 13)
	if family == "6" {
		flags = tcp6 + 13
	}
	tcp, stray := "segment "+family, "stray "+family
	if s.servesUDP(family) {
		if s.servesTCP(family) {
			s.add(asm.LoadMem(asm.R1, asm.R10, transport, asm.DWord), asm.JEq.Imm(asm.R1, protoTCP, tcp))
		}
		s.add(
			asm.And.Imm(rights, isOwned),
			asm.JNE.Imm(rights, 0, s.out(PassDatagram)),
			asm.Ja.Label(s.out(Foreign)),
		)
	}
	if !s.servesTCP(family) {
		return
	}
	s.at(tcp, asm.LoadMem(asm.R1, asm.R10, flags, asm.Byte))
	s.add(
		asm.And.Imm(asm.R1, synFlag|ackFlag),
		asm.Mov.Reg(asm.R2, rights),
		asm.And.Imm(asm.R2, isOwned),
		asm.JNE.Imm(asm.R1, synFlag, "known "+family),
		asm.JEq.Imm(asm.R2, 0, s.out(ForeignSYN)),
	)
	s.noteSYN(family)
	s.at("known "+family, asm.Mov.Reg(asm.R1, rights))
	s.add(
		asm.And.Imm(asm.R1, isOwned|isLingering),
		asm.JEq.Imm(asm.R1, 0, s.out(Foreign)),
		// The kernel looks for the socket anyway.
		asm.Mov.Reg(asm.R2, rights),
		asm.And.Imm(asm.R2, isOwned|isSettled),
		asm.JEq.Imm(asm.R2, isOwned|isSettled, s.out(PassAlone)),
	)
	s.find(family)
	s.add(
		asm.LoadMem(asm.R1, asm.R10, flags, asm.Byte),
		asm.JEq.Imm(found, tcpNone, stray),
		asm.JEq.Imm(found, tcpListen, stray),
		asm.JEq.Imm(found, tcpDistant, s.out(Outside)),
		asm.JNE.Imm(found, tcpTimeWait, s.out(PassHeld)),
		asm.JSet.Imm(asm.R1, finFlag, s.out(PassHeld)),
		asm.Ja.Label(s.out(ForeignTimeWait)),
	)
	s.at(stray, asm.Mov.Reg(asm.R2, rights))
	s.add(
		asm.And.Imm(asm.R2, isOwned|isListed),
		asm.JNE.Imm(asm.R2, isOwned|isListed, "shared "+family),
	)
	s.excluded(family, s.out(PassStray))
	s.at("shared "+family, asm.JNE.Imm(found, tcpListen, "nobody "+family))
	s.add(
		asm.LoadMem(asm.R1, asm.R10, flags, asm.Byte),
		asm.And.Imm(asm.R1, synFlag|ackFlag|rstFlag),
		asm.JEq.Imm(asm.R1, ackFlag, s.out(PassCookie)),
	)
	s.at("nobody "+family, asm.JSet.Imm(rights, isOwned, s.out(Unsettled)))
	s.add(asm.Ja.Label(s.out(Foreign)))
}

// rulings end the program: for each that is used, a count and what becomes of the frame.
func (s *steerer) rulings() {
	// What services say of ports that are none of theirs.
	if s.jumpedTo("accept") {
		s.at("accept", asm.Ja.Label(s.out(s.other)))
	}
	delivers := false
	for r := range RulingCount {
		if !s.used[r] {
			continue
		}
		to := "next"
		switch {
		case r.delivers():
			to, delivers = "deliver", true
		case !r.Passes():
			to = "drop"
		}
		if r == Elsewhere && !s.tell {
			// Most frames: they are not counted.
			to = "pass"
		}
		s.at(r.String(), asm.Mov.Imm(rights, int32(r)))
		s.add(asm.Ja.Label(to))
	}
	if delivers {
		s.deliver()
	}
	if s.jumpedTo("next") {
		s.at("next", asm.Mov.Imm(asm.R7, tcxNext))
		s.add(asm.Ja.Label("end"))
	}
	s.at("drop", asm.Mov.Imm(asm.R7, tcxDrop))
	if s.tell {
		s.at("end", asm.Mov.Reg(asm.R0, rights))
		s.add(asm.Return())
		return
	}
	s.at("end", asm.FnGetSmpProcessorId.Call())
	s.add(
		asm.JGE.Imm(asm.R0, int32(s.processors), "counted"),
		asm.LSh.Imm(asm.R0, int32(bits.TrailingZeros(rulingBytes))),
		asm.LSh.Imm(rights, 3),
		asm.Add.Reg(asm.R0, rights),
		asm.LoadMapValue(asm.R1, s.fds.counts, 0),
		asm.Add.Reg(asm.R1, asm.R0),
		asm.LoadMem(asm.R2, asm.R1, 0, asm.DWord),
		asm.Add.Imm(asm.R2, 1),
		asm.StoreMem(asm.R1, 0, asm.R2, asm.DWord),
	)
	s.at("counted", asm.Mov.Reg(asm.R0, asm.R7))
	s.add(asm.Return())
	s.at("pass", asm.Mov.Imm(asm.R0, tcxNext))
	s.add(asm.Return())
}

// rulingBytes are a processor's counters, a power of two.
const rulingBytes = 256

// deliver has the host's stack take the frame, whatever MAC it came to, and lets the
// fragments that follow it pass.
func (s *steerer) deliver() {
	const host = 0 // PACKET_HOST, include/uapi/linux/if_packet.h
	s.at("deliver", asm.LoadMem(asm.R1, asm.R10, isFirst, asm.Word))
	s.add(asm.JEq.Imm(asm.R1, 0, "type"))
	if s.has6() {
		s.add(asm.JNE.Imm(asm.R1, firstOf6, "first4"))
		s.fragmentKey6()
		s.remember(s.fds.fragments6, fragment6)
	}
	s.at("first4", asm.Mov.Imm(asm.R1, 0))
	if s.has4() {
		s.fragmentKey4()
		s.remember(s.fds.fragments4, fragment4)
	}
	s.at("type", asm.Mov.Reg(asm.R1, skb))
	s.add(
		asm.Mov.Imm(asm.R2, host),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkbChangeType.Call(),
		asm.Ja.Label("next"),
	)
}

// remember lets the fragments pass that have the key at hand, from now on.
func (s *steerer) remember(fd int, key int32) {
	s.add(
		asm.FnKtimeGetBootNs.Call(),
		asm.StoreMem(asm.R10, fragmentAt, asm.R0, asm.DWord),
	)
	s.put(fd, key, fragmentAt)
	s.add(
		asm.Ja.Label("type"),
	)
}

// TCP's flags as numbers of a program.
const (
	finFlag = 1
	synFlag = 2
	rstFlag = 4
	ackFlag = 16
)

func vipLabel(i int) string { return fmt.Sprint("vip", i) }
