package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The ring into which the kernel writes frames (packet_mmap.rst, TPACKET_V2).
// Its length does not depend on the system's limit of socket queues, which an
// ordinary user cannot raise and which a few super-frames would fill.
const (
	// slotBytes hold a frame of 1,514 bytes whole, with its descriptor. Longer
	// ones are super-frames, of which the beginning is enough.
	slotBytes  = 2048
	blockBytes = 128 << 10
	ringSlots  = 32768
	ringBytes  = ringSlots * slotBytes
)

// vnetBytes is the length of the virtio-net header before a frame; its first
// byte are flags, of which any says that the checksum need not be looked at
// (VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_F_DATA_VALID).
const vnetBytes = 10

// ring is a packet socket with its ring. It belongs to one goroutine.
type ring struct {
	fd     int
	memory []byte
	slot   int
}

// openRing opens a ring for what comes in at the interfaces with these indexes.
func openRing(ports []int) (*ring, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	r := &ring{fd: fd}
	if err := r.setUp(ports); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *ring) setUp(ports []int) error {
	for _, o := range [][2]int{
		{unix.PACKET_VERSION, unix.TPACKET_V2},
		{unix.PACKET_VNET_HDR, 1},
		{unix.PACKET_IGNORE_OUTGOING, 1},
	} {
		if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, o[0], o[1]); err != nil {
			return os.NewSyscallError(fmt.Sprintf("setsockopt %#x", o[0]), err)
		}
	}
	if err := attachPorts(r.fd, ports); err != nil {
		return err
	}
	req := unix.TpacketReq{
		Block_size: blockBytes, Block_nr: ringBytes / blockBytes,
		Frame_size: slotBytes, Frame_nr: ringSlots,
	}
	if err := unix.SetsockoptTpacketReq(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return os.NewSyscallError("setsockopt PACKET_RX_RING", err)
	}
	var err error
	if r.memory, err = unix.Mmap(r.fd, 0, ringBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return os.NewSyscallError("mmap", err)
	}
	// Only now do frames come, all with their virtio-net header.
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	return os.NewSyscallError("bind", unix.Bind(r.fd, &unix.SockaddrLinklayer{Protocol: all}))
}

// attachPorts keeps out what does not come in at these interfaces: the bridge's
// own interface repeats what came in at a port.
func attachPorts(fd int, ports []int) error {
	prog := []bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtInterfaceIndex}}
	for i, p := range ports {
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(p), SkipTrue: uint8(len(ports) - i)})
	}
	prog = append(prog, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: slotBytes})
	raw, err := bpf.Assemble(prog)
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, in := range raw {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}))
}

// header is the descriptor at the beginning of the present slot.
func (r *ring) header() *unix.Tpacket2Hdr {
	return (*unix.Tpacket2Hdr)(unsafe.Pointer(&r.memory[r.slot*slotBytes]))
}

// next reads the next frame; false when there is none. The frame is the ring's
// until release.
func (r *ring) next(c *Capture) (at time.Time, port int, ok bool) {
	h := r.header()
	status := atomic.LoadUint32(&h.Status)
	if status&unix.TP_STATUS_USER == 0 {
		return time.Time{}, 0, false
	}
	slot := r.memory[r.slot*slotBytes : (r.slot+1)*slotBytes]
	// A struct sockaddr_ll follows the descriptor: family, protocol, index.
	port = int(binary.NativeEndian.Uint32(slot[unix.SizeofTpacket2Hdr+4:]))
	c.Data = slot[h.Mac : uint32(h.Mac)+h.Snaplen]
	c.Bytes = int(h.Len)
	c.Vouched = slot[int(h.Mac)-vnetBytes] != 0
	c.Tagged = status&unix.TP_STATUS_VLAN_VALID != 0
	return time.Unix(int64(h.Sec), int64(h.Nsec)), port, true
}

// release gives the present slot back to the kernel.
func (r *ring) release() {
	atomic.StoreUint32(&r.header().Status, unix.TP_STATUS_KERNEL)
	r.slot = (r.slot + 1) % ringSlots
}

// dropped is how many frames the kernel could not put into the ring since the
// last call.
func (r *ring) dropped() uint64 {
	st, err := unix.GetsockoptTpacketStats(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		// Not to know is as bad as a loss.
		return 1
	}
	return uint64(st.Drops)
}

func (r *ring) close() error {
	var errs []error
	if r.memory != nil {
		errs = append(errs, unix.Munmap(r.memory))
	}
	return errors.Join(append(errs, unix.Close(r.fd))...)
}
