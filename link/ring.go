package link

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bounds of a ring.
const (
	// slotBytes has room for a frame of 1,500 bytes and what the kernel writes before
	// it; a longer frame comes by the socket's queue.
	slotBytes = 2048
	// ringSlots is how many frames may wait, and more than the widest window of a
	// flow has in frames of 1,500 bytes.
	ringSlots = 4096
	// blockBytes is what the kernel finds in one piece of memory.
	blockBytes = 64 << 10
)

// tpacketV2 is TPACKET_V2 of include/uapi/linux/if_packet.h.
const tpacketV2 = 1

// ring is frames in memory that the kernel shares with us: receiving one costs no
// part of a system call (Documentation/networking/packet_mmap.rst in the kernel).
// Each slot begins with a struct tpacket2_hdr:
//
//	0         4      8          12     14     16      20       24          26
//	| status  | len  | snaplen  | mac  | net  | sec   | nsec   | vlan_tci  | vlan_tpid
//
// mac is where in the slot the frame begins; the virtio-net header ends there. A
// frame that does not fit has COPY in its status and lies in the socket's queue whole
// (tpacket_rcv in net/packet/af_packet.c).
type ring struct {
	memory []byte
	// next is the slot that the kernel fills next; held slots before it are what we
	// look at and have not given back.
	next, held int
}

// openRing gives the socket its ring. It must have all its options by then, for the
// kernel does not change them afterwards.
func openRing(fd int) (*ring, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, tpacketV2); err != nil {
		return nil, os.NewSyscallError("setsockopt PACKET_VERSION", err)
	}
	// Any value lets a frame that does not fit wait in the queue.
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_COPY_THRESH, 1); err != nil {
		return nil, os.NewSyscallError("setsockopt PACKET_COPY_THRESH", err)
	}
	size := unix.TpacketReq{
		Block_size: blockBytes, Block_nr: ringSlots * slotBytes / blockBytes,
		Frame_size: slotBytes, Frame_nr: ringSlots,
	}
	if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &size); err != nil {
		return nil, os.NewSyscallError("setsockopt PACKET_RX_RING", err)
	}
	memory, err := unix.Mmap(fd, 0, ringSlots*slotBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err == nil {
		return &ring{memory: memory}, nil
	}
	// Else all frames would go where nobody looks.
	none := unix.TpacketReq{}
	return nil, errors.Join(os.NewSyscallError("mmap of the ring", err),
		unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &none))
}

func (r *ring) close() error {
	if r == nil {
		return nil
	}
	return os.NewSyscallError("munmap of the ring", unix.Munmap(r.memory))
}

func (r *ring) slot(i int) []byte {
	i = (i + ringSlots) % ringSlots
	return r.memory[i*slotBytes : (i+1)*slotBytes : (i+1)*slotBytes]
}

func status(slot []byte) *uint32 { return (*uint32)(unsafe.Pointer(&slot[0])) }

// release gives the slots back that take has handed out.
func (r *ring) release() {
	for ; r.held > 0; r.held-- {
		atomic.StoreUint32(status(r.slot(r.next-r.held)), unix.TP_STATUS_KERNEL)
	}
}

// take takes the next slots that the kernel has filled, at most so many, and says how
// many of their frames wait in the socket's queue.
func (r *ring) take(most int) (count, long int) {
	for ; count < most; count++ {
		slot := r.slot(r.next)
		if atomic.LoadUint32(status(slot))&unix.TP_STATUS_USER == 0 {
			break
		}
		if queued(slot) {
			long++
		}
		r.next = (r.next + 1) % ringSlots
	}
	r.held += count
	return count, long
}

// stampOf is when the kernel filled the slot.
func stampOf(slot []byte) time.Duration {
	return time.Duration(binary.NativeEndian.Uint32(slot[16:]))*time.Second + time.Duration(binary.NativeEndian.Uint32(slot[20:]))
}

// queued reports whether the slot's frame waits in the socket's queue.
func queued(slot []byte) bool { return *status(slot)&unix.TP_STATUS_COPY != 0 }

// read makes a frame of a slot. False when its end is missing, for the queue was full.
func (f *Frame) read(slot []byte) bool {
	const fixed = 32
	size, taken := binary.NativeEndian.Uint32(slot[4:]), int(binary.NativeEndian.Uint32(slot[8:]))
	mac := int(binary.NativeEndian.Uint16(slot[12:]))
	if int(size) != taken || mac < fixed+offloadBytes || mac+taken > len(slot) {
		return false
	}
	f.Data = slot[mac : mac+taken : mac+taken]
	f.Offload = decodeOffload(slot[mac-offloadBytes:])
	f.Stamp = stampOf(slot)
	f.setTag(*status(slot), binary.NativeEndian.Uint16(slot[24:]))
	return true
}

// receiveShared is Receive with a ring. Frames of the socket's queue are in the order
// of their slots, and are fetched with one call.
func (d *Packet) receiveShared(frames []Frame) (int, error) {
	r := d.ring
	r.release()
	count, long := r.take(min(len(frames), MaxBatch))
	if count == 0 {
		return 0, d.socketError()
	}
	got := 0
	if long > 0 {
		var err error
		if got, err = d.fetch(long); err != nil {
			return 0, err
		}
	}
	n, fetched := 0, 0
	for i := range count {
		slot, f := r.slot(r.next-count+i), &frames[n]
		ok := false
		if queued(slot) {
			ok = fetched < got && d.in.read(fetched, f)
			f.Stamp = stampOf(slot)
			fetched++
		} else {
			ok = f.read(slot)
		}
		if !ok {
			d.stats.Truncated++
			continue
		}
		n++
	}
	d.stats.ReceivedFrames += uint64(n)
	return n, nil
}

// socketError is what has happened to the socket: an interface that goes down wakes
// whoever waits for frames, and a ring does not say why.
func (d *Packet) socketError() error {
	errno, err := unix.GetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	if err != nil {
		return &net.OpError{Op: "receive", Net: "packet", Err: err}
	}
	return nil
}
