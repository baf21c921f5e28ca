package ingress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// MaxHeartbeatBytes is the longest frame that Heartbeats hears, and heartbeatRingBytes has
// room for all that wait.
const (
	MaxHeartbeatBytes  = 9216
	heartbeatRingBytes = 2 << 20
)

// heartbeatSlots are the sizes of what waits: each takes the least that it fits in, so that
// a flood of short ones does not take the room of long ones.
func heartbeatSlots() []int32 { return []int32{512, 2048, MaxHeartbeatBytes} }

// slotHead is before the frame in a slot: its length, in a word.
const slotHead = 8

// HeartbeatConfig is what Heartbeats hears: datagrams to a port of one of some addresses, of
// one family.
type HeartbeatConfig struct {
	Addresses []netip.Addr
	Port      uint16
}

// Heartbeats hears the cluster's heartbeats on an interface where the direct path's frames
// go on to the host's own stack. A packet socket would cost something for each of those: one
// of all protocols is asked about it, and beside one of its family the stack is given a copy
// (ip_rcv_core in net/ipv4/ip_input.c). So a TCX program looks for heartbeats, behind the one
// of the direct path, and puts them into a ring that it shares with us
// (Documentation/bpf/ringbuf.rst in the kernel). MACs are not looked at. Its methods are
// called by one goroutine.
type Heartbeats struct {
	ring    *ebpf.Map
	lost    *ebpf.Map // a word: how many there was no room for
	lostBy  []byte
	program *ebpf.Program
	link    link.Link
	reader  *ringbuf.Reader
	broken  uint64
}

// HearHeartbeats hears them on the named interface until Close. In pins, if it is not "", are
// the pins of the direct path's programs. Errors are those of LoadDirect.
func HearHeartbeats(name, pins string, c HeartbeatConfig) (*Heartbeats, error) {
	if len(c.Addresses) == 0 || c.Port == 0 {
		return nil, fmt.Errorf("ingress: heartbeats to %d addresses and port %d", len(c.Addresses), c.Port)
	}
	h := &Heartbeats{}
	if err := h.open(name, pins, &c); err != nil {
		return nil, errors.Join(fmt.Errorf("ingress: interface %s: heartbeats: %w", name, named(err, "Linux 6.6 or later is needed")), h.Close())
	}
	return h, nil
}

func (h *Heartbeats) open(name, pins string, c *HeartbeatConfig) (err error) {
	if h.ring, err = ebpf.NewMap(&ebpf.MapSpec{Name: "onevoice_beats", Type: ebpf.RingBuf, MaxEntries: heartbeatRingBytes}); err != nil {
		return fmt.Errorf("ring: %w", err)
	}
	if h.lost, h.lostBy, err = shared("onevoice_lost", 8, unix.PROT_READ); err != nil {
		return err
	}
	if h.reader, err = ringbuf.NewReader(h.ring); err != nil {
		return err
	}
	// It waits for nothing: whoever calls has waited.
	h.reader.SetDeadline(time.Unix(1, 0))
	h.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "onevoice_beat", Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress,
		Instructions: heartbeatProgram(c, h.ring.FD(), h.lost.FD()),
	})
	if err != nil {
		return fmt.Errorf("program: %w", err)
	}
	device, err := interfaceOf(name)
	if err != nil {
		return err
	}
	o := link.TCXOptions{Interface: device.Index, Program: h.program, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()}
	if pins != "" {
		// Foreign frames end at the other. If it comes later, it goes before this by itself.
		if l := pinnedAt(filepath.Join(pins, pinIn), device.Index); l != nil {
			defer l.Close()
			o.Anchor = link.AfterLink(l)
		}
	}
	h.link, err = link.AttachTCX(o)
	return err
}

// FD is the descriptor to wait on for heartbeats.
func (h *Heartbeats) FD() int { return h.ring.FD() }

// Receive hands out the next frame, in a memory, which it exchanges for a larger one if that
// is needed. It does not wait; nil where there is none.
func (h *Heartbeats) Receive(memory *[]byte) ([]byte, error) {
	r := ringbuf.Record{RawSample: *memory}
	defer func() { *memory = r.RawSample }()
	for {
		if err := h.reader.ReadInto(&r); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return nil, nil
			}
			return nil, fmt.Errorf("ingress: heartbeats: %w", err)
		}
		if size := binary.NativeEndian.Uint64(r.RawSample); size <= uint64(len(r.RawSample)-slotHead) {
			return r.RawSample[slotHead : slotHead+size], nil
		}
		h.broken++
	}
}

// Lost is how many there was no room for; after Close, 0.
func (h *Heartbeats) Lost() uint64 {
	if h.lostBy == nil {
		return 0
	}
	return h.broken + atomic.LoadUint64((*uint64)(unsafe.Pointer(&h.lostBy[0])))
}

// Close ends it; a second one does nothing.
func (h *Heartbeats) Close() error {
	var errs []error
	if h.link != nil {
		errs = append(errs, h.link.Close())
	}
	if h.reader != nil {
		errs = append(errs, h.reader.Close())
	}
	if h.lostBy != nil {
		errs = append(errs, unix.Munmap(h.lostBy))
	}
	errs = append(errs, h.program.Close(), h.lost.Close(), h.ring.Close())
	*h = Heartbeats{}
	return errors.Join(errs...)
}

// heartbeatProgram puts UDP datagrams to the port of one of the addresses, whole
// ones without options, into a ring, and lets every frame go on.
func heartbeatProgram(c *HeartbeatConfig, ring, lost int) asm.Instructions {
	b := &builder{}
	const length, slot = asm.R7, asm.R8
	b.add(
		asm.Mov.Reg(skb, asm.R1), // R6, which LoadAbs reads
		asm.LoadMem(asm.R1, skb, skbVLANPresent, asm.Word),
		asm.JNE.Imm(asm.R1, 0, "next"),
		asm.LoadMem(length, skb, skbLength, asm.Word),
	)
	if c.Addresses[0].Is4() {
		b.soon(typeIPv4, ethernetBytes+9)
		b.beat4(c, length)
	} else {
		b.soon(typeIPv6, ethernetBytes+6)
		b.beat6(c, length)
	}
	slots := heartbeatSlots()
	for i, n := range slots {
		next := fmt.Sprint("longer than ", n)
		if i == len(slots)-1 {
			next = "lost"
		}
		b.add(
			asm.JGT.Imm(length, n, next),
			asm.LoadMapPtr(asm.R1, ring),
			asm.Mov.Imm(asm.R2, slotHead+n),
			asm.Mov.Imm(asm.R3, 0),
			asm.FnRingbufReserve.Call(),
			asm.JEq.Imm(asm.R0, 0, "lost"),
			asm.Mov.Reg(slot, asm.R0),
			asm.StoreMem(slot, 0, length, asm.DWord),
			asm.Mov.Reg(asm.R1, skb),
			asm.Mov.Imm(asm.R2, 0),
			asm.Mov.Reg(asm.R3, slot),
			asm.Add.Imm(asm.R3, slotHead),
			asm.Mov.Reg(asm.R4, length),
			asm.FnSkbLoadBytes.Call(),
			asm.Mov.Reg(asm.R1, slot),
			asm.Mov.Imm(asm.R2, 0),
			asm.FnRingbufSubmit.Call(),
			asm.Ja.Label("next"),
		)
		if next != "lost" {
			b.at(next, asm.Mov.Imm(asm.R1, 0))
		}
	}
	b.at("lost", asm.LoadMapValue(asm.R1, lost, 0))
	b.add(asm.Mov.Imm(asm.R2, 1), asm.AddAtomic.Mem(asm.R1, asm.R2, asm.DWord, 0))
	b.at("next", asm.Mov.Imm(asm.R0, tcxNext))
	b.add(asm.Return())
	return b.code
}

// soon goes to "next" with what is no datagram, where the headers lie in one piece: most
// frames are of TCP, and a load of the other kind is a call.
func (b *builder) soon(kind uint16, protocol int16) {
	b.add(
		asm.LoadMem(asm.R1, skb, skbData, asm.Word),
		asm.LoadMem(asm.R2, skb, skbDataEnd, asm.Word),
		asm.Mov.Reg(asm.R3, asm.R1),
		asm.Add.Imm(asm.R3, int32(protocol)+1),
		asm.JGT.Reg(asm.R3, asm.R2, "in pieces"),
		asm.LoadMem(asm.R3, asm.R1, 12, asm.Half), asm.JNE.Imm(asm.R3, be16(kind), "next"),
		asm.LoadMem(asm.R3, asm.R1, protocol, asm.Byte), asm.JNE.Imm(asm.R3, protoUDP, "next"),
	)
	b.at("in pieces", asm.Mov.Imm(asm.R1, 0))
}

// beat4 goes to "next" with what is no heartbeat. A load beyond the end would end the
// program, and let the frame pass for good.
func (b *builder) beat4(c *HeartbeatConfig, length asm.Register) {
	const fragment = 0x3fff
	b.add(
		asm.JLT.Imm(length, ethernetBytes+ipv4Bytes+udpBytes, "next"),
		asm.LoadAbs(12, asm.Half), asm.JNE.Imm(asm.R0, typeIPv4, "next"),
		asm.LoadAbs(ethernetBytes+9, asm.Byte), asm.JNE.Imm(asm.R0, protoUDP, "next"),
		asm.LoadAbs(ethernetBytes, asm.Byte), asm.JNE.Imm(asm.R0, 0x45, "next"),
		asm.LoadAbs(ethernetBytes+6, asm.Half), asm.JSet.Imm(asm.R0, fragment, "next"),
		asm.LoadAbs(ethernetBytes+ipv4Bytes+2, asm.Half), asm.JNE.Imm(asm.R0, int32(c.Port), "next"),
		asm.LoadAbs(ethernetBytes+16, asm.Word),
	)
	for _, a := range c.Addresses {
		b.add(asm.JEq.Imm32(asm.R0, int32(binary.BigEndian.Uint32(a.AsSlice())), "beat"))
	}
	b.add(asm.Ja.Label("next"))
	b.at("beat", asm.Mov.Imm(asm.R1, 0))
}

// beat6 is beat4 for IPv6.
func (b *builder) beat6(c *HeartbeatConfig, length asm.Register) {
	b.add(
		asm.JLT.Imm(length, ethernetBytes+ipv6Bytes+udpBytes, "next"),
		asm.LoadAbs(12, asm.Half), asm.JNE.Imm(asm.R0, typeIPv6, "next"),
		asm.LoadAbs(ethernetBytes+6, asm.Byte), asm.JNE.Imm(asm.R0, protoUDP, "next"),
		asm.LoadAbs(ethernetBytes+ipv6Bytes+2, asm.Half), asm.JNE.Imm(asm.R0, int32(c.Port), "next"),
	)
	for i, a := range c.Addresses {
		other, v := fmt.Sprint("not address ", i), a.As16()
		for at := 0; at < len(v); at += 4 {
			b.add(
				asm.LoadAbs(int32(ethernetBytes+24+at), asm.Word),
				asm.JNE.Imm32(asm.R0, int32(binary.BigEndian.Uint32(v[at:])), other),
			)
		}
		b.add(asm.Ja.Label("beat"))
		b.at(other, asm.Mov.Imm(asm.R1, 0))
	}
	b.add(asm.Ja.Label("next"))
	b.at("beat", asm.Mov.Imm(asm.R1, 0))
}
