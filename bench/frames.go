package bench

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// frame is a TCP segment without data in an Ethernet frame, of which addresses
// and ports may change between one and the next.
type frame [ethernetBytes + ipv4Bytes + tcpBytes]byte

const (
	ethernetBytes = 14
	ipv4Bytes     = 20
	// A SYN has the options that systems send: largest segment and window scale.
	tcpBytes = 28
)

// newSYN makes a SYN to a path.
func newSYN(from, to net.HardwareAddr, dst netip.AddrPort) *frame {
	f := new(frame)
	copy(f[0:], to)
	copy(f[6:], from)
	binary.BigEndian.PutUint16(f[12:], unix.ETH_P_IP)
	ip := f[ethernetBytes:]
	const versionAndLength, timeToLive = 0x45, 64
	ip[0], ip[8], ip[9] = versionAndLength, timeToLive, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(ip[2:], ipv4Bytes+tcpBytes)
	a := dst.Addr().As4()
	copy(ip[16:], a[:])
	tcp := ip[ipv4Bytes:]
	binary.BigEndian.PutUint16(tcp[2:], dst.Port())
	const syn, window = 0x02, 64240
	tcp[12], tcp[13] = tcpBytes/4<<4, syn
	binary.BigEndian.PutUint16(tcp[14:], window)
	copy(tcp[20:], []byte{2, 4, 0x05, 0xb4, 1, 3, 3, 7})
	return f
}

// from sets the source, and a sequence number that differs with it.
func (f *frame) from(src netip.Addr, port uint16) {
	ip := f[ethernetBytes:]
	a := src.As4()
	copy(ip[12:], a[:])
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], onesComplement(0, ip[:ipv4Bytes]))
	tcp := ip[ipv4Bytes:]
	binary.BigEndian.PutUint16(tcp[0:], port)
	binary.BigEndian.PutUint32(tcp[4:], binary.BigEndian.Uint32(a[:])^uint32(port)<<16)
	tcp[16], tcp[17] = 0, 0
	// The pseudo-header: addresses, protocol and length (RFC 9293, section 3.1).
	sum := uint32(unix.IPPROTO_TCP + tcpBytes)
	for i := 12; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(tcp[16:], onesComplement(sum, tcp[:tcpBytes]))
}

// onesComplement is the Internet checksum (RFC 1071) of an even number of bytes.
func onesComplement(sum uint32, b []byte) uint16 {
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// wire is a packet socket on an interface of the namespace in which it was
// opened.
type wire int

// openWire opens one that hears only answers to spoofed sources, and only counts
// them: its buffer is small, and the kernel counts what does not fit.
func openWire(device string) (wire, error) {
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket AF_PACKET", err)
	}
	filter := answersOnly()
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("SO_ATTACH_FILTER", err)
	}
	// On a port of a bridge only such a socket hears what comes in.
	to := unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: dev.Index}
	if err := unix.Bind(fd, &to); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return wire(fd), nil
}

func htons(x uint16) uint16 { return x<<8 | x>>8 }

// spoofed are the sources of frames that nobody sent: the network for
// measurements (RFC 2544, appendix C.2.2).
func spoofed() netip.Prefix { return netip.MustParsePrefix("198.18.0.0/15") }

// answersOnly passes SYN-ACKs to spoofed addresses that come in.
func answersOnly() []unix.SockFilter {
	const (
		packetType = 0xfffff000 + 4 // SKF_AD_OFF + SKF_AD_PKTTYPE
		loadWord   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		loadByte   = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		equal      = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		and        = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
		synAck     = 0x12
	)
	network := spoofed().Addr().As4()
	mask := ^uint32(0) << (32 - spoofed().Bits())
	return []unix.SockFilter{
		{Code: loadByte, K: packetType},
		{Code: equal, K: unix.PACKET_OUTGOING, Jt: 6},
		{Code: loadWord, K: ethernetBytes + 16},
		{Code: and, K: mask},
		{Code: equal, K: binary.BigEndian.Uint32(network[:]), Jf: 3},
		{Code: loadByte, K: ethernetBytes + ipv4Bytes + 13},
		{Code: equal, K: synAck, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 64},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
}

// send sends a frame. A queue that is full for a moment loses it, as on a wire.
func (w wire) send(f *frame) error {
	_, err := unix.Write(int(w), f[:])
	if err == unix.ENOBUFS || err == unix.EAGAIN {
		return nil
	}
	return os.NewSyscallError("write to the wire", err)
}

// answers is how many it has heard since the last call.
func (w wire) answers() (uint32, error) {
	s, err := unix.GetsockoptTpacketStats(int(w), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, os.NewSyscallError("PACKET_STATISTICS", err)
	}
	return s.Packets, nil
}

// heard takes the frames that are waiting and calls note with the address that
// each is for.
func (w wire) heard(note func(netip.Addr)) error {
	var b [128]byte
	for {
		n, err := unix.Read(int(w), b[:])
		if err == unix.EAGAIN {
			return nil
		}
		if err != nil {
			return os.NewSyscallError("read from the wire", err)
		}
		if n >= ethernetBytes+ipv4Bytes {
			note(netip.AddrFrom4([4]byte(b[ethernetBytes+16 : ethernetBytes+20])))
		}
	}
}

func (w wire) close() error { return os.NewSyscallError("close the wire", unix.Close(int(w))) }

// floodStep is how often frames are sent, a batch at a time.
const floodStep = time.Millisecond

// flood sends so many frames in a second until ctx ends or the time is over. It
// returns how many, and the processor time that this took of its thread, the
// kernel's work on the way of the frames with it. next prepares the frame with a
// number.
func (w wire) flood(ctx context.Context, rate float64, d time.Duration, f *frame, next func(i int)) (sent int, used time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := threadTime()
	if err != nil {
		return 0, 0, err
	}
	ticker := time.NewTicker(floodStep)
	defer ticker.Stop()
	for began := time.Now(); ; {
		since := time.Since(began)
		for wanted := int(min(since, d).Seconds() * rate); sent < wanted; sent++ {
			next(sent)
			if err := w.send(f); err != nil {
				return sent, 0, err
			}
		}
		if since >= d || ctx.Err() != nil {
			after, err := threadTime()
			return sent, after - before, err
		}
		<-ticker.C
	}
}
