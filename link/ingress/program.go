package ingress

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf/asm"
)

// Results of a socket filter (packet(7)): how many bytes of the frame pass.
const (
	refuse = 0
	accept = 0x40000
)

// Ethernet types, IP protocols and lengths, as the programs need them.
const (
	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeIPv6 = 0x86dd

	protoIGMP   = 2
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58

	nextHopByHop = 0

	ethernetBytes = 14
	ipv4Bytes     = 20
	ipv6Bytes     = 40
	tcpBytes      = 20
)

// The registers that helpers leave alone.
const (
	skb = asm.R6
	// service is the index of the service, and before that of its VIP.
	service = asm.R7
	// state is where the service's state lies in the map; before that it is how
	// much of the frame was read.
	state = asm.R8
)

// How much of a frame was read.
const (
	readEthernet = iota
	readIPv4
	readTCP
)

// A service's state in its map: the hash key in two words, and a bit for each
// bucket in four.
const (
	stateKey   = 0
	stateBits  = 16
	stateBytes = 64 // a cache line
)

// Where the program keeps things, from the frame pointer. The copy of the frame's
// first bytes lies such that the IP header is aligned to 8 bytes, as the verifier
// wants it of the stack.
const (
	ipHeader = -64
	frame    = ipHeader - ethernetBytes
	tcp4     = ipHeader + ipv4Bytes
	tcp6     = ipHeader + ipv6Bytes
	// scratch is a byte; heldKey is a key of the maps of held flows; usedKey is the
	// hash key that was used.
	scratch = -80
	heldKey = -104
	usedKey = -120
)

// Fields of struct __sk_buff (include/uapi/linux/bpf.h).
const (
	skbLength      = 0
	skbVLANPresent = 20
	skbVLANTCI     = 24
	skbData        = 76
	skbDataEnd     = 80
)

// maps are the descriptors of what the programs read and write. held and held6
// are of IPv4 and IPv6.
type maps struct{ state, held, held6, drops int }

// builder makes the socket filter.
type builder struct {
	*Config
	maps       maps
	processors int
	// row leads to the state of a service, in the register state.
	row  func(service int) asm.Instructions
	code asm.Instructions
}

// socketFilter is the whole socket filter.
//
// What it refuses is what link's classic filter refuses; see link.Filter. Beyond
// that it drops TCP segments of services in buckets that do not pass, if their flow
// is not held, and datagrams of services in such buckets, and nothing else: whatever is
// short, tagged, a fragment, with options or with a field that no TCP would send
// passes, so that the node can count it for what it is.
func socketFilter(c *Config, m maps, processors int) asm.Instructions {
	b := &builder{Config: c, maps: m, processors: processors}
	b.row = func(k int) asm.Instructions {
		return asm.Instructions{asm.LoadMapValue(state, m.state, uint32(k*stateBytes))}
	}
	b.read()
	b.link()
	b.packet4()
	b.packet6()
	b.services()
	// The verifier takes no code that nothing leads to.
	if b.jumpedTo("decide4") {
		b.decide("4", m.held, 4, ipHeader+12, tcp4)
	}
	if b.jumpedTo("decide6") {
		b.decide("6", m.held6, 16, ipHeader+8, tcp6)
	}
	b.end()
	return b.code
}

func (b *builder) add(p ...asm.Instruction) { b.code = append(b.code, p...) }

// at gives the next instruction a name to jump to.
func (b *builder) at(name string, p ...asm.Instruction) {
	p[0] = p[0].WithSymbol(name)
	b.add(p...)
}

// load copies n bytes of the frame, from where R2 says or at, to the stack and goes
// to a label; it falls through when the frame is too short. Relative to the MAC header
// only what is in the skb's linear part can be had, so the other helper is asked then:
// in a packet socket's filter it counts from the MAC header, too.
func (b *builder) load(at asm.Instructions, to, n int32, label string) {
	args := func() {
		b.add(asm.Mov.Reg(asm.R1, skb))
		b.add(at...)
		b.add(asm.Mov.Reg(asm.R3, asm.R10), asm.Add.Imm(asm.R3, to), asm.Mov.Imm(asm.R4, n))
	}
	const fromMAC = 0 // BPF_HDR_START_MAC
	args()
	b.add(asm.Mov.Imm(asm.R5, fromMAC), asm.FnSkbLoadBytesRelative.Call(), asm.JEq.Imm(asm.R0, 0, label))
	args()
	b.add(asm.FnSkbLoadBytes.Call(), asm.JEq.Imm(asm.R0, 0, label))
}

// read copies the frame's headers, as much as there is.
func (b *builder) read() {
	start := asm.Instructions{asm.Mov.Imm(asm.R2, 0)}
	b.add(asm.Mov.Reg(skb, asm.R1))
	for _, r := range []struct{ what, bytes int32 }{
		{readTCP, ethernetBytes + ipv4Bytes + tcpBytes},
		{readIPv4, ethernetBytes + ipv4Bytes},
		{readEthernet, ethernetBytes},
	} {
		b.add(asm.Mov.Imm(state, r.what))
		b.load(start, frame, r.bytes, "link")
	}
	b.add(asm.Ja.Label("refuse"))
}

// link goes by the Ethernet type.
func (b *builder) link() {
	b.at("link", asm.LoadMem(asm.R1, asm.R10, frame+12, asm.Half))
	b.add(asm.JEq.Imm(asm.R1, be16(typeIPv4), "ipv4"))
	if b.has6() {
		b.add(asm.JEq.Imm(asm.R1, be16(typeIPv6), "ipv6"))
	}
	b.add(asm.JNE.Imm(asm.R1, be16(typeARP), "refuse"))
	b.add(ifMAC(asm.R10, frame, append(b.ours(), net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}), "accept")...)
	b.add(asm.Ja.Label("refuse"))
}

// packet4 looks at the MAC and at the address, and leaves the number of the VIP in
// service.
func (b *builder) packet4() {
	if !b.has4() {
		b.at("ipv4", asm.Ja.Label("refuse"))
		return
	}
	b.at("ipv4", asm.JEq.Imm(state, readEthernet, "refuse"))
	b.add(ifMAC(asm.R10, frame, b.ours(), "ours4")...)
	b.add(asm.Ja.Label("refuse"))
	b.at("ours4", asm.LoadMem(asm.R1, asm.R10, ipHeader+9, asm.Byte))
	if b.Membership {
		b.add(asm.JEq.Imm(asm.R1, protoIGMP, "accept"))
	}
	b.add(asm.LoadMem(asm.R1, asm.R10, ipHeader+16, asm.Word))
	b.vips("4", func(i int) {
		v := b.Addresses[i].As4()
		b.add(asm.JEq.Imm32(asm.R1, native32(v[:]), fmt.Sprint("vip", i)))
	})
	b.at("any vip 4", asm.LoadMem(asm.R1, asm.R10, ipHeader+9, asm.Byte))
	b.add(asm.JEq.Imm(asm.R1, protoTCP, "segment4"))
	if b.Except != 0 || b.servesUDP("4") {
		b.add(asm.JEq.Imm(asm.R1, protoUDP, "datagram"))
	}
	b.add(asm.Ja.Label("accept"))
	b.datagram4()
	b.segment4()
}

// vips goes on, for any VIP of a family, with its number in service; compare jumps to
// "vip" and that number.
func (b *builder) vips(family string, compare func(int)) {
	for i, a := range b.Addresses {
		if a.Is4() == (family == "4") {
			compare(i)
		}
	}
	b.add(asm.Ja.Label("refuse"))
	for i, a := range b.Addresses {
		if a.Is4() == (family == "4") {
			b.at(fmt.Sprint("vip", i), asm.Mov.Imm(service, int32(i)))
			b.add(asm.Ja.Label("any vip " + family))
		}
	}
}

// segment4 lets pass what user space would not take for a segment, or cannot be
// told from its first 54 bytes, as far as that is cheap: node.Decoded has the rules.
// Not seen here are a wrong TCP checksum and bad TCP options.
func (b *builder) segment4() {
	const shortest = ipv4Bytes + tcpBytes
	b.at("segment4", asm.JNE.Imm(state, readTCP, "accept"))
	b.hostServes4()
	b.plain4(shortest)
	b.header(tcp4)
	b.whole4("whole4", shortest)
	b.add(asm.LoadMem(asm.R1, asm.R10, tcp4+2, asm.Half))
	b.ports("4", false)
}

// plain4 lets pass what is not a plain packet of a client with a transport header: it
// has a tag, options or a wrong checksum, is a fragment or shorter than that, or comes
// from where no client is. What the packet carries is then in R3.
func (b *builder) plain4(shortest int32) {
	b.untagged()
	b.add(
		asm.LoadMem(asm.R1, asm.R10, ipHeader, asm.Byte),
		asm.JNE.Imm(asm.R1, 0x45, "accept"),
		asm.LoadMem(asm.R1, asm.R10, ipHeader+6, asm.Half),
		asm.And.Imm(asm.R1, be16(0x3fff)), // more fragments, offset
		asm.JNE.Imm(asm.R1, 0, "accept"),
	)
	b.checksum()
	// The client's address.
	b.add(
		asm.LoadMem(asm.R1, asm.R10, ipHeader+12, asm.Byte),
		asm.JEq.Imm(asm.R1, 0, "accept"),
		asm.JEq.Imm(asm.R1, 127, "accept"),
		asm.JGE.Imm(asm.R1, 224, "accept"),
		asm.LoadMem(asm.R1, asm.R10, ipHeader+12, asm.Word),
		asm.LoadMem(asm.R2, asm.R10, ipHeader+16, asm.Word),
		asm.JEq.Reg(asm.R1, asm.R2, "accept"),
		asm.LoadMem(asm.R3, asm.R10, ipHeader+2, asm.Half),
		asm.HostTo(asm.BE, asm.R3, asm.Half),
		asm.JLT.Imm(asm.R3, shortest, "accept"),
		asm.Sub.Imm(asm.R3, ipv4Bytes),
	)
}

// whole4 lets pass what is cut short. Up to 54 bytes are there.
func (b *builder) whole4(label string, shortest uint16) {
	last := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R10, ipHeader+2, asm.Half),
		asm.HostTo(asm.BE, asm.R2, asm.Half),
		asm.Add.Imm(asm.R2, ethernetBytes-1),
	}
	b.add(
		asm.LoadMem(asm.R1, asm.R10, ipHeader+2, asm.Half),
		asm.JEq.Imm(asm.R1, be16(shortest), label),
	)
	b.load(last, scratch, 1, label)
	b.add(asm.Ja.Label("accept"))
	b.at(label, asm.Mov.Imm(asm.R1, 0))
}

// untagged lets pass what came with another VLAN tag, which is beside the data, than
// it is to have, and what comes from a MAC that is no client's.
func (b *builder) untagged() {
	b.add(asm.LoadMem(asm.R1, skb, skbVLANPresent, asm.Word))
	if b.VLAN == 0 {
		b.add(asm.JNE.Imm(asm.R1, 0, "accept"))
	} else {
		b.add(
			asm.JEq.Imm(asm.R1, 0, "accept"),
			asm.LoadMem(asm.R1, skb, skbVLANTCI, asm.Word),
			asm.And.Imm(asm.R1, 0xfff),
			asm.JNE.Imm(asm.R1, int32(b.VLAN), "accept"),
		)
	}
	b.add(
		asm.LoadMem(asm.R1, asm.R10, frame+6, asm.Byte),
		asm.And.Imm(asm.R1, 1),
		asm.JNE.Imm(asm.R1, 0, "accept"),
	)
	b.add(ifMAC(asm.R10, frame+6, b.ours(), "accept")...)
}

// checksum lets pass what has a wrong one in its IPv4 header of 20 bytes. The sum
// does not depend on the byte order (RFC 1071 section 2).
func (b *builder) checksum() {
	b.add(asm.LoadMem(asm.R1, asm.R10, ipHeader, asm.Word))
	for at := 4; at < ipv4Bytes; at += 4 {
		b.add(asm.LoadMem(asm.R2, asm.R10, int16(ipHeader+at), asm.Word), asm.Add.Reg(asm.R1, asm.R2))
	}
	for _, bits := range []int32{32, 16, 16} {
		b.add(asm.Mov.Reg(asm.R2, asm.R1), asm.RSh.Imm(asm.R2, bits))
		if bits == 32 {
			b.add(asm.LSh.Imm(asm.R1, 32), asm.RSh.Imm(asm.R1, 32))
		} else {
			b.add(asm.And.Imm(asm.R1, 0xffff))
		}
		b.add(asm.Add.Reg(asm.R1, asm.R2))
	}
	b.add(asm.Mov.Reg(asm.R2, asm.R1), asm.RSh.Imm(asm.R2, 16), asm.And.Imm(asm.R1, 0xffff), asm.Add.Reg(asm.R1, asm.R2))
	b.add(asm.JNE.Imm(asm.R1, 0xffff, "accept"))
}

// header lets pass what is no TCP header, of a segment of as many bytes as R3 says.
func (b *builder) header(at int16) {
	const fin, syn, rst, ack = 1, 2, 4, 16
	settled := fmt.Sprint("flags", at)
	b.add(
		asm.LoadMem(asm.R1, asm.R10, at+12, asm.Byte),
		asm.RSh.Imm(asm.R1, 4),
		asm.LSh.Imm(asm.R1, 2),
		asm.JLT.Imm(asm.R1, tcpBytes, "accept"),
		asm.JGT.Reg(asm.R1, asm.R3, "accept"),
		asm.LoadMem(asm.R1, asm.R10, at, asm.Half),
		asm.JEq.Imm(asm.R1, 0, "accept"),
		asm.LoadMem(asm.R1, asm.R10, at+13, asm.Byte),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.And.Imm(asm.R2, syn|ack|rst),
		asm.JEq.Imm(asm.R2, 0, "accept"),
		asm.And.Imm(asm.R2, syn),
		asm.JEq.Imm(asm.R2, 0, settled),
		asm.And.Imm(asm.R1, fin|rst),
		asm.JNE.Imm(asm.R1, 0, "accept"),
	)
	b.at(settled, asm.Mov.Imm(asm.R1, 0))
}

// decide takes the hash in R0: it lets pass what is in a bucket that passes, and
// the flows that are held, and drops the rest.
//
// Somebody else may write meanwhile; what must not happen is that a segment of ours
// is dropped because two moments were mixed. Writers set every bit, then change the
// key, then clear bits; they map a flow first, then clear its bit. So the key is looked
// at once more after the bit, and the flow after it. x86 loads in order. Where a
// processor does not, an address or a value that depends on the earlier load keeps the
// order: none is a number that is always 0, made of the bits.
func (b *builder) decide(family string, heldFD int, addressBytes int32, source, tcp int16) {
	const none = asm.R5
	b.at("decide"+family, asm.And.Imm(asm.R0, 255))
	if b.Config.cookies != nil && family == "4" {
		b.takeSYNs()
	}
	b.add(
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.RSh.Imm(asm.R1, 6),
		asm.LSh.Imm(asm.R1, 3),
		asm.Add.Reg(asm.R1, state),
		asm.LoadMem(asm.R2, asm.R1, stateBits, asm.DWord),
		asm.Mov.Reg(none, asm.R2),
		asm.And.Imm(none, 0),
		asm.And.Imm(asm.R0, 63),
		asm.RSh.Reg(asm.R2, asm.R0),
		asm.And.Imm(asm.R2, 1),
		asm.JNE.Imm(asm.R2, 0, "accept"),
		asm.Add.Reg(state, none),
	)
	for _, half := range []int16{0, 8} {
		b.add(
			asm.LoadMem(asm.R1, state, stateKey+half, asm.DWord),
			asm.LoadMem(asm.R2, asm.R10, usedKey+half, asm.DWord),
			asm.JNE.Reg(asm.R1, asm.R2, "accept"),
		)
	}
	for at := int32(0); at < addressBytes; at += 4 {
		b.add(
			asm.LoadMem(asm.R1, asm.R10, source+int16(at), asm.Word),
			asm.StoreMem(asm.R10, heldKey+int16(at), asm.R1, asm.Word),
		)
	}
	end := int16(heldKey + addressBytes)
	b.add(
		asm.LoadMem(asm.R1, asm.R10, tcp, asm.Half),
		asm.Add.Reg(asm.R1, none),
		asm.StoreMem(asm.R10, end, asm.R1, asm.Half),
		asm.StoreMem(asm.R10, end+2, service, asm.Half),
		asm.LoadMem(asm.R1, asm.R10, tcp+2, asm.Half),
		asm.StoreMem(asm.R10, end+4, asm.R1, asm.Half),
		asm.StoreImm(asm.R10, end+6, 0, asm.Half),
		asm.LoadMapPtr(asm.R1, heldFD),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, heldKey),
		asm.FnMapLookupElem.Call(),
		asm.JNE.Imm(asm.R0, 0, "accept"),
		asm.Ja.Label("foreign"),
	)
}

// end counts what is another node's, and returns.
func (b *builder) end() {
	if b.jumpedTo("foreign") {
		b.at("foreign", asm.Mov.Imm(asm.R0, 0))
		b.add(count(b.maps.drops, b.processors, dropForeign, "refuse")...)
	}
	b.at("refuse", asm.Mov.Imm(asm.R0, refuse))
	b.add(asm.Return())
	b.at("accept", asm.Mov.Imm(asm.R0, accept))
	b.add(asm.Return())
}

// ours are the MACs of frames for us.
func (c *Config) ours() []net.HardwareAddr {
	return append([]net.HardwareAddr{c.Own}, c.Groups...)
}

// serves reports a service on an address of a family.
func (c *Config) serves(family func(netip.Addr) bool) bool {
	return slices.ContainsFunc(c.Services, func(s Service) bool { return family(s.Listen.Addr()) })
}

func (c *Config) has4() bool { return slices.ContainsFunc(c.Addresses, netip.Addr.Is4) }

func (c *Config) has6() bool { return hasIPv6(c.Addresses) }

func hasIPv6(addrs []netip.Addr) bool {
	for _, a := range addrs {
		if !a.Is4() {
			return true
		}
	}
	return false
}

// count adds one in a row of this processor's counters, and goes to a label.
func count(dropsFD, processors int, row int16, label string) asm.Instructions {
	return asm.Instructions{
		asm.FnGetSmpProcessorId.Call(),
		asm.JGE.Imm(asm.R0, int32(processors), label),
		asm.LSh.Imm(asm.R0, 6), // dropsBytes
		asm.LoadMapValue(asm.R1, dropsFD, 0),
		asm.Add.Reg(asm.R1, asm.R0),
		asm.LoadMem(asm.R2, asm.R1, 8*row, asm.DWord),
		asm.Add.Imm(asm.R2, 1),
		asm.StoreMem(asm.R1, 8*row, asm.R2, asm.DWord),
		asm.Ja.Label(label),
	}
}

// ifMAC goes to a label if the MAC at an offset of base is one of macs. Loads are
// aligned where the frame's IP header is.
func ifMAC(base asm.Register, at int16, macs []net.HardwareAddr, label string) asm.Instructions {
	half, word := at, at+2
	if at%4 == 0 {
		half, word = at+4, at
	}
	p := asm.Instructions{
		asm.LoadMem(asm.R1, base, half, asm.Half),
		asm.LoadMem(asm.R2, base, word, asm.Word),
	}
	for _, m := range macs {
		next := asm.JNE.Imm(asm.R1, native16(m[half-at:]), "")
		next.Offset = 1
		p = append(p, next, asm.JEq.Imm32(asm.R2, native32(m[word-at:]), label))
	}
	return p
}

// be16 is a number of the wire as a load of it sees it on this machine.
func be16(v uint16) int32 {
	return native16(binary.BigEndian.AppendUint16(nil, v))
}

func native16(b []byte) int32 { return int32(binary.NativeEndian.Uint16(b)) }

func native32(b []byte) int32 { return int32(binary.NativeEndian.Uint32(b)) }
