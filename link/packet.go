package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Queue lengths asked of the kernel, in bytes. The receive queue has to hold
// what arrives while the loop is busy with one batch.
const (
	receiveQueueBytes = 8 << 20
	sendQueueBytes    = 8 << 20
)

// Packet is a Device on an AF_PACKET socket. See packet(7).
type Packet struct {
	fd    int
	index int
	name  string
	mac   net.HardwareAddr
	mtu   int

	in  inbound
	out outbound
	// ring, when there is one, has the frames; the queue has those that are longer
	// than a slot.
	ring *ring

	stats Stats
}

var _ Device = (*Packet)(nil)

// Open opens an AF_PACKET device on the named interface that receives what
// filter lets pass, for the cluster MACs of the filter too. The error says which
// step failed; os.ErrPermission when the right CAP_NET_RAW is missing.
//
// The order matters: the socket rejects everything from before bind until the
// last option is set, so that no frame is queued without its virtio-net header
// or from our own transmit path.
func Open(name string, filter *Filter) (*Packet, error) {
	if n := len(filter.Addresses) + len(filter.Groups); n > MaxFilterAddresses {
		return nil, fmt.Errorf("link: %d addresses and groups, at most %d are supported on one interface", n, MaxFilterAddresses)
	}
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("link: interface %s: %w", name, err)
	}
	if len(ifi.HardwareAddr) != 6 {
		return nil, fmt.Errorf("link: interface %s has no Ethernet address", name)
	}
	d := &Packet{index: ifi.Index, name: ifi.Name, mac: ifi.HardwareAddr, mtu: ifi.MTU}
	if d.fd, err = openSocket(ifi, filter); err != nil {
		return nil, fmt.Errorf("link: interface %s: %w", name, err)
	}
	if filter.Port == 0 {
		// Without the memory for it, the socket's queue does.
		if d.ring, _ = openRing(d.fd); d.ring == nil {
			err = stampFrames(d.fd)
		}
	}
	if err == nil {
		err = attach(d.fd, filter.Program(ifi.HardwareAddr))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("link: interface %s: %w", name, err), d.Close())
	}
	d.in.init()
	d.out.init()
	return d, nil
}

// openSocket opens the socket through mdlayher/packet, sets it up, and takes
// the descriptor out of Go's own poller, which would otherwise be woken by
// every frame as well. It rejects all frames yet.
func openSocket(ifi *net.Interface, filter *Filter) (int, error) {
	reject, err := rejectAll()
	if err != nil {
		return -1, err
	}
	protocol, err := filter.protocol(ifi)
	if err != nil {
		return -1, err
	}
	conn, err := packet.Listen(ifi, packet.Raw, protocol, &packet.Config{Filter: reject})
	if err != nil {
		return -1, err
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	groups := filter.Groups
	if filter.Port == 0 {
		groups = slices.Concat(groups, NeighbourGroups(filter.Addresses))
	}
	for _, m := range groups {
		if m[0]&1 == 0 {
			err = addUnicast(raw, ifi.Index, m)
		} else {
			err = conn.JoinGroup(m)
		}
		if err != nil {
			return -1, fmt.Errorf("receive for %s: %w", m, err)
		}
	}
	fd := -1
	var inner error
	if err := raw.Control(func(s uintptr) {
		if inner = setOptions(int(s)); inner != nil {
			return
		}
		// The copy shares socket, options and memberships with the original.
		fd, inner = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return -1, err
	}
	if inner != nil {
		return -1, inner
	}
	return fd, nil
}

// addUnicast has the device take in frames for a MAC that is not its own, for as
// long as the socket lives (packet(7), PACKET_MR_UNICAST): it goes into the
// device's list of addresses, and a device that has no such list is made to take
// all frames. To the kernel's own protocols such a frame is another host's
// (eth_type_trans in net/ethernet/eth.c), which they neither answer nor forward.
func addUnicast(raw syscall.RawConn, index int, mac net.HardwareAddr) error {
	request := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_UNICAST, Alen: uint16(len(mac))}
	copy(request.Address[:], mac)
	var inner error
	if err := raw.Control(func(fd uintptr) {
		inner = unix.SetsockoptPacketMreq(int(fd), unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &request)
	}); err != nil {
		return err
	}
	return os.NewSyscallError("setsockopt PACKET_ADD_MEMBERSHIP", inner)
}

func setOptions(fd int) error {
	for _, o := range []struct {
		name         string
		level, value int
		opt          int
	}{
		{"PACKET_VNET_HDR", unix.SOL_PACKET, 1, unix.PACKET_VNET_HDR},
		{"PACKET_IGNORE_OUTGOING", unix.SOL_PACKET, 1, unix.PACKET_IGNORE_OUTGOING},
		{"PACKET_AUXDATA", unix.SOL_PACKET, 1, unix.PACKET_AUXDATA},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil {
			return os.NewSyscallError("setsockopt "+o.name, err)
		}
	}
	for _, q := range []struct{ force, plain, bytes int }{
		{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, receiveQueueBytes},
		{unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendQueueBytes},
	} {
		// Without CAP_NET_ADMIN the queue is as long as the system allows.
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, q.force, q.bytes) != nil {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, q.plain, q.bytes); err != nil {
				return os.NewSyscallError("setsockopt queue length", err)
			}
		}
	}
	return nil
}

// stampFrames has the kernel tell when it took a frame from the interface. It then reads
// the clock for each frame of the whole machine, of whatever interface; a ring has the
// time of its own frames without that.
func stampFrames(fd int) error {
	return os.NewSyscallError("setsockopt SO_TIMESTAMPNS", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1))
}

func attach(fd int, prog []bpf.Instruction) error {
	raw, err := bpf.Assemble(prog)
	if err != nil {
		return err
	}
	f := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		f[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER",
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}))
}

// FD implements Device.
func (d *Packet) FD() int { return d.fd }

// HardwareAddr implements Device.
func (d *Packet) HardwareAddr() net.HardwareAddr { return d.mac }

// MTU implements Device.
func (d *Packet) MTU() int { return d.mtu }

// Close implements Device.
func (d *Packet) Close() error { return errors.Join(d.ring.close(), unix.Close(d.fd)) }

// Stats implements Device. Reading the kernel's drop counter resets it, so it
// is added up here.
func (d *Packet) Stats() Stats {
	if st, err := unix.GetsockoptTpacketStats(d.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		d.stats.KernelDropped += uint64(st.Drops)
	}
	return d.stats
}

// mmsghdr is struct mmsghdr of recvmmsg(2), which x/sys does not have.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// controlBytes holds a struct timespec (16 bytes) and a struct tpacket_auxdata
// (20 bytes), each with its header of 16.
const controlBytes = 96

// inbound holds the buffers of one receive call.
type inbound struct {
	msgs    [MaxBatch]mmsghdr
	iovs    [MaxBatch][2]unix.Iovec
	heads   [MaxBatch][offloadBytes]byte
	control [MaxBatch][controlBytes]byte
	buffers []byte
}

func (in *inbound) init() {
	in.buffers = make([]byte, MaxBatch*MaxFrameBytes)
	for i := range in.msgs {
		b := in.buffer(i)
		in.iovs[i][0].Base = &in.heads[i][0]
		in.iovs[i][0].SetLen(offloadBytes)
		in.iovs[i][1].Base = &b[0]
		in.iovs[i][1].SetLen(len(b))
		h := &in.msgs[i].hdr
		h.Iov = &in.iovs[i][0]
		h.SetIovlen(2)
		h.Control = &in.control[i][0]
	}
}

func (in *inbound) buffer(i int) []byte {
	return in.buffers[i*MaxFrameBytes : (i+1)*MaxFrameBytes : (i+1)*MaxFrameBytes]
}

// Receive implements Device. It fills at most MaxBatch frames.
func (d *Packet) Receive(frames []Frame) (int, error) {
	if d.ring != nil {
		return d.receiveShared(frames)
	}
	got, err := d.fetch(min(len(frames), MaxBatch))
	n := 0
	for i := range got {
		if !d.in.read(i, &frames[n]) {
			d.stats.Truncated++
			continue
		}
		n++
	}
	d.stats.ReceivedFrames += uint64(n)
	return n, err
}

// Release implements Device.
func (d *Packet) Release() {
	if d.ring != nil {
		d.ring.release()
	}
}

// fetch receives from the socket's queue, want frames at most.
func (d *Packet) fetch(want int) (int, error) {
	for i := range want {
		d.in.msgs[i].hdr.SetControllen(controlBytes)
		d.in.msgs[i].hdr.Flags = 0
	}
	got, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(d.fd),
		uintptr(unsafe.Pointer(&d.in.msgs[0])), uintptr(want), unix.MSG_DONTWAIT, 0, 0)
	d.stats.ReceiveCalls++
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return 0, nil
	}
	if errno != 0 {
		return 0, &net.OpError{Op: "receive", Net: "packet", Err: os.NewSyscallError("recvmmsg", errno)}
	}
	return int(got), nil
}

// read makes a frame of a message. False when its end is missing.
func (in *inbound) read(i int, f *Frame) bool {
	m := &in.msgs[i]
	if m.hdr.Flags&unix.MSG_TRUNC != 0 || m.n < offloadBytes {
		return false
	}
	f.Data = in.buffer(i)[:m.n-offloadBytes]
	f.Offload = decodeOffload(in.heads[i][:])
	f.readControl(in.control[i][:m.hdr.Controllen])
	return true
}

// readControl reads what the kernel says about a frame: control messages of
// cmsg(3), each with a length, a level and a type before its data and padded to
// 8 bytes.
func (f *Frame) readControl(control []byte) {
	f.Tagged, f.TCI, f.Stamp = false, 0, 0
	const header = unix.SizeofCmsghdr
	for len(control) >= header {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
		n := int(h.Len)
		if n < header || n > len(control) {
			return
		}
		switch data := control[header:n]; {
		case h.Level == unix.SOL_PACKET && h.Type == unix.PACKET_AUXDATA:
			f.setTag(vlanTag(data))
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPNS:
			f.Stamp = stamp(data)
		}
		control = control[min((n+7)&^7, len(control)):]
	}
}

// stamp reads the struct timespec of SO_TIMESTAMPNS, socket(7).
func stamp(b []byte) time.Duration {
	if len(b) < 16 {
		return 0
	}
	return time.Duration(binary.NativeEndian.Uint64(b))*time.Second + time.Duration(binary.NativeEndian.Uint64(b[8:]))
}

// vlanTag reads the tag that the kernel took out of the frame from struct
// tpacket_auxdata (include/uapi/linux/if_packet.h):
//
//	0         4      8          12      14      16            18
//	| status  | len  | snaplen  | mac   | net   | vlan_tci    | vlan_tpid |
func vlanTag(aux []byte) (status uint32, tci uint16) {
	if len(aux) < 20 {
		return 0, 0
	}
	return binary.NativeEndian.Uint32(aux), binary.NativeEndian.Uint16(aux[16:])
}

// setTag notes the tag, if the status of the frame says that there is one. A tag of
// VLAN 0 tells a priority, and no VLAN.
func (f *Frame) setTag(status uint32, tci uint16) {
	f.Tagged, f.TCI = status&unix.TP_STATUS_VLAN_VALID != 0 && tci&vlanMask != 0, 0
	if f.Tagged {
		f.TCI = tci
	}
}

// outbound holds the headers of one send call.
type outbound struct {
	msgs  [MaxBatch]mmsghdr
	iovs  [MaxBatch][1 + MaxPieces]unix.Iovec
	heads [MaxBatch][offloadBytes]byte
}

func (o *outbound) init() {
	for i := range o.msgs {
		o.iovs[i][0].Base = &o.heads[i][0]
		o.iovs[i][0].SetLen(offloadBytes)
		o.msgs[i].hdr.Iov = &o.iovs[i][0]
	}
}

func (o *outbound) set(i int, v *Vector) {
	v.Offload.encode(o.heads[i][:])
	pieces := v.Pieces
	if len(pieces) > MaxPieces {
		pieces = [][]byte{join(pieces)}
	}
	k := 1
	for _, p := range pieces {
		if len(p) == 0 {
			continue
		}
		o.iovs[i][k].Base = &p[0]
		o.iovs[i][k].SetLen(len(p))
		k++
	}
	o.msgs[i].hdr.SetIovlen(k)
}

func join(pieces [][]byte) []byte {
	var b []byte
	for _, p := range pieces {
		b = append(b, p...)
	}
	return b
}

// Send implements Device.
func (d *Packet) Send(vectors []Vector) error {
	var last error
	for len(vectors) > 0 {
		n := min(len(vectors), MaxBatch)
		for i := range n {
			d.out.set(i, &vectors[i])
		}
		if err := d.sendBatch(n); err != nil {
			last = err
		}
		vectors = vectors[n:]
	}
	return last
}

// sendBatch sends the first n messages. sendmmsg(2) stops at the first message
// that fails and reports its error only when it is the first of a call, so a
// refused message is passed over and the rest tried again.
func (d *Packet) sendBatch(n int) error {
	var last error
	for done := 0; done < n; {
		sent, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(d.fd),
			uintptr(unsafe.Pointer(&d.out.msgs[done])), uintptr(n-done), unix.MSG_DONTWAIT, 0, 0)
		d.stats.SendCalls++
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			last = &net.OpError{Op: "send", Net: "packet", Err: os.NewSyscallError("sendmmsg", errno)}
			d.stats.SendRefused++
			done++
		default:
			d.stats.SentFrames += uint64(sent)
			done += int(sent)
		}
	}
	return last
}
