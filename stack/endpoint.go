package stack

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"onevoice/link"
)

// EthernetBytes is the room at the start of each egress packet for the
// Ethernet header, which the caller of Egress fills in.
const EthernetBytes = 14

// maxSegmentBytes is the largest packet netstack may hand over in one piece:
// with its headers it has to stay below 64 KiB.
const maxSegmentBytes = 65_536 - 100

// headerBytes and headerBytes6 are those of IP and TCP, without options.
const (
	headerBytes  = header.IPv4MinimumSize + header.TCPMinimumSize
	headerBytes6 = header.IPv6MinimumSize + header.TCPMinimumSize
)

// linkEndpoint is netstack's network interface. Packets leave it through a
// queue that the loop empties, from whichever goroutine netstack sends in.
type linkEndpoint struct {
	six        *linkEndpoint6
	mtu        uint32
	wake       func()
	dispatcher netstack.NetworkDispatcher

	mu      sync.Mutex
	queue   []*netstack.PacketBuffer
	spare   []*netstack.PacketBuffer
	dropped atomic.Uint64

	// leaving are the packets of the last Egress, one reference each.
	delayed delayedACKs
	leaving []*netstack.PacketBuffer
	packets []Packet
}

var (
	_ netstack.LinkEndpoint = (*linkEndpoint)(nil)
	_ netstack.GSOEndpoint  = (*linkEndpoint)(nil)
)

func newLinkEndpoint(mtu uint32, wake func()) *linkEndpoint {
	l := &linkEndpoint{mtu: mtu, wake: wake, delayed: delayedACKs{most: ackSegments * (mtu - headerBytes)}}
	l.six = &linkEndpoint6{linkEndpoint: l}
	l.six.SetMTU(mtu)
	return l
}

// MTU implements netstack.LinkEndpoint.
func (l *linkEndpoint) MTU() uint32 { return l.mtu }

// SetMTU implements netstack.LinkEndpoint.
func (l *linkEndpoint) SetMTU(mtu uint32) { l.mtu = mtu }

// MaxHeaderLength implements netstack.LinkEndpoint.
func (l *linkEndpoint) MaxHeaderLength() uint16 { return EthernetBytes }

// LinkAddress implements netstack.LinkEndpoint. The caller of Egress writes
// the Ethernet header, so netstack needs no address.
func (l *linkEndpoint) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress implements netstack.LinkEndpoint.
func (l *linkEndpoint) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities implements netstack.LinkEndpoint: what is delivered has had its
// checksums judged by the gate. Transmit checksums are left to netstack, for
// declaring them offloaded leaves control segments without any.
func (l *linkEndpoint) Capabilities() netstack.LinkEndpointCapabilities {
	return netstack.CapabilityRXChecksumOffload
}

// Attach implements netstack.LinkEndpoint.
func (l *linkEndpoint) Attach(d netstack.NetworkDispatcher) { l.dispatcher = d }

// IsAttached implements netstack.LinkEndpoint.
func (l *linkEndpoint) IsAttached() bool { return l.dispatcher != nil }

// Wait implements netstack.LinkEndpoint.
func (l *linkEndpoint) Wait() {}

// ARPHardwareType implements netstack.LinkEndpoint.
func (l *linkEndpoint) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader implements netstack.LinkEndpoint: room only, see Egress.
func (l *linkEndpoint) AddHeader(pkt *netstack.PacketBuffer) { pkt.LinkHeader().Push(EthernetBytes) }

// ParseHeader implements netstack.LinkEndpoint.
func (l *linkEndpoint) ParseHeader(*netstack.PacketBuffer) bool { return true }

// Close implements netstack.LinkEndpoint.
func (l *linkEndpoint) Close() {}

// SetOnCloseAction implements netstack.LinkEndpoint.
func (l *linkEndpoint) SetOnCloseAction(func()) {}

// GSOMaxSize implements netstack.GSOEndpoint.
func (l *linkEndpoint) GSOMaxSize() uint32 { return maxSegmentBytes }

// SupportedGSO implements netstack.GSOEndpoint: the kernel cuts super-segments.
func (l *linkEndpoint) SupportedGSO() netstack.SupportedGSO { return netstack.HostGSOSupported }

// WritePackets implements netstack.LinkEndpoint.
func (l *linkEndpoint) WritePackets(list netstack.PacketBufferList) (int, tcpip.Error) {
	packets := list.AsSlice()
	l.mu.Lock()
	for _, p := range packets {
		if len(l.queue) >= MaxEgressPackets && !accepts(p) {
			l.dropped.Add(1)
			continue
		}
		l.queue = append(l.queue, p.IncRef())
	}
	l.mu.Unlock()
	l.wake()
	return len(packets), nil
}

// accepts reports a SYN-ACK. The gate judges each, and is to see the first of a half-open flow:
// it would take a repeat for that, and for the answer to a SYN that is just in. There are no
// more than the SYNs of a turn, and the repeats of what ListenBacklog bounds.
func accepts(p *netstack.PacketBuffer) bool {
	s, ok := readSegment(p)
	return ok && s.flags()&header.TCPFlagSyn != 0
}

func (l *linkEndpoint) deliver(ip []byte) {
	l.deliverView(buffer.NewViewWithData(ip))
}

// deliverView takes over the view, which is a whole packet.
func (l *linkEndpoint) deliverView(v *buffer.View) {
	six := v.Size() > 0 && v.AsSlice()[0]>>4 == header.IPv6Version
	pkt := netstack.NewPacketBuffer(netstack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
	if six {
		l.six.dispatcher.DeliverNetworkPacket(ipv6.ProtocolNumber, pkt)
	} else {
		l.dispatcher.DeliverNetworkPacket(ipv4.ProtocolNumber, pkt)
	}
	pkt.DecRef()
}

func (l *linkEndpoint) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) == 0
}

// take empties the queue into spare.
func (l *linkEndpoint) take() []*netstack.PacketBuffer {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue, l.spare = l.spare[:0], l.queue
	return l.spare
}

// discard drops what is queued.
func (l *linkEndpoint) discard() {
	for i, p := range l.take() {
		p.DecRef()
		l.spare[i] = nil
	}
	l.delayed.discard()
}

// Packet is one packet that netstack wants to send.
type Packet struct {
	// To is the client.
	To netip.Addr
	// Vector is the packet with EthernetBytes of room at the start of its first
	// piece, which has all of the packet's headers.
	Vector link.Vector
}

// Egress returns what netstack has emitted and need not wait any longer, in
// order for each flow. The packets are valid until Release, which must be called
// before the next Egress.
func (s *Stack) Egress(now time.Duration) []Packet {
	l := s.link
	l.delayed.batch++
	l.leaving = l.leaving[:0]
	for i, p := range l.take() {
		l.leaving = l.delayed.pass(now, p, l.leaving)
		l.spare[i] = nil
	}
	l.leaving = l.delayed.due(now, l.leaving)
	out := l.packets[:0]
	for _, p := range l.leaving {
		// Grow within capacity first: the pieces' arrays are used again.
		if len(out) < cap(out) {
			out = out[:len(out)+1]
		} else {
			out = append(out, Packet{})
		}
		fill(&out[len(out)-1], p)
	}
	l.packets = out
	return out
}

// Release gives the packets of Egress back to netstack.
func (s *Stack) Release() {
	l := s.link
	for i, p := range l.leaving {
		p.DecRef()
		l.leaving[i] = nil
	}
	l.leaving = kept(l.leaving)
	for i := range l.packets {
		clear(l.packets[i].Vector.Pieces)
	}
	if cap(l.packets) > keptPackets {
		l.packets = nil
	}
	l.spare = kept(l.spare)
}

// kept is the empty queue, or none where that would keep much room.
func kept(queue []*netstack.PacketBuffer) []*netstack.PacketBuffer {
	if cap(queue) > keptPackets {
		return nil
	}
	return queue[:0]
}

func fill(out *Packet, p *netstack.PacketBuffer) {
	if ip := p.NetworkHeader().Slice(); ip[0]>>4 == header.IPv6Version {
		out.To = netip.AddrFrom16([16]byte(ip[24:40]))
	} else {
		out.To = netip.AddrFrom4([4]byte(ip[16:20]))
	}
	pieces := out.Vector.Pieces[:0]
	views, offset := p.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		b := v.AsSlice()
		if offset >= len(b) {
			offset -= len(b)
			continue
		}
		pieces = append(pieces, b[offset:])
		offset = 0
	}
	out.Vector.Pieces = pieces
	out.Vector.Offload = offload(p)
}

// offload says in the device's terms what netstack left for the kernel to do.
func offload(p *netstack.PacketBuffer) link.Offload {
	if !partial(p) {
		return link.Offload{}
	}
	g := &p.GSOOptions
	o := link.Offload{
		Partial:        true,
		ChecksumStart:  EthernetBytes + g.L3HdrLen,
		ChecksumOffset: g.CsumOffset,
	}
	if p.Data().Size() > int(g.MSS) {
		o.Segmentation = link.SegmentationTCPv4
		if g.Type == netstack.GSOTCPv6 {
			o.Segmentation = link.SegmentationTCPv6
		}
		o.HeaderBytes = uint16(p.HeaderSize())
		o.SegmentBytes = g.MSS
	}
	return o
}

// partial reports whether netstack has left the checksum to the kernel.
func partial(p *netstack.PacketBuffer) bool {
	return p.GSOOptions.Type != netstack.GSONone && p.GSOOptions.NeedsCsum
}
