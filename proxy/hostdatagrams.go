package proxy

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// HostDatagrams is a non-blocking UDP socket at a VIP, for this host's own datagrams to
// it, which Routes lead to loopback; see OwnHost.
type HostDatagrams struct{ fd int }

// ListenDatagrams opens the socket at an address that is nobody's on this host. The
// error wraps EADDRINUSE where a program has the port of all addresses.
func ListenDatagrams(at netip.AddrPort) (*HostDatagrams, error) {
	family, level, option := unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	if at.Addr().Is4() {
		family, level, option = unix.AF_INET, unix.SOL_IP, unix.IP_TRANSPARENT
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	h := &HostDatagrams{fd}
	// A process that stands still may have the address yet; see transparent.
	for _, o := range [][2]int{{level, option}, {unix.SOL_SOCKET, unix.SO_REUSEPORT}} {
		if err = unix.SetsockoptInt(fd, o[0], o[1], 1); err != nil {
			h.Close()
			return nil, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, sockaddrOf(at)); err != nil {
		h.Close()
		return nil, fmt.Errorf("proxy: listen on udp://%s for this host: %w", at, os.NewSyscallError("bind", err))
	}
	return h, nil
}

// FD is the descriptor to wait on.
func (h *HostDatagrams) FD() int { return h.fd }

// Receive takes up to MaxDatagrams and says in from who sent each. ErrAgain says that
// nothing has come.
func (h *HostDatagrams) Receive(b *DatagramBatch, from *[MaxDatagrams]netip.AddrPort) (int, error) {
	var names [MaxDatagrams]unix.RawSockaddrInet6
	for i := range names {
		b.msgs[i].hdr.Name = (*byte)(unsafe.Pointer(&names[i]))
		b.msgs[i].hdr.Namelen = unix.SizeofSockaddrInet6
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(h.fd), uintptr(unsafe.Pointer(&b.msgs[0])), MaxDatagrams, unix.MSG_DONTWAIT, 0, 0)
	for i := range names {
		b.msgs[i].hdr.Name, b.msgs[i].hdr.Namelen = nil, 0
		from[i] = addressOf(&names[i])
	}
	if errno != 0 {
		return 0, datagramError("recvmmsg", errno)
	}
	return int(n), nil
}

// addressOf reads an address of either family, of which the kernel writes the first
// bytes of a sockaddr_in6.
func addressOf(s *unix.RawSockaddrInet6) netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&s.Port))[:])
	if s.Family == unix.AF_INET {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(s))
		return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(s.Addr), port)
}

// Send sends a datagram from the VIP.
func (h *HostDatagrams) Send(p []byte, to netip.AddrPort) error {
	return datagramError("sendto", unix.Sendto(h.fd, p, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, sockaddrOf(to)))
}

// Close lets go of the socket.
func (h *HostDatagrams) Close() {
	if h.fd >= 0 {
		unix.Close(h.fd)
		h.fd = -1
	}
}
