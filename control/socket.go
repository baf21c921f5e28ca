package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlSocketBytes is room for a message of the largest size, 3,496 datagrams of which
// the kernel counts 2,304 bytes each, and as much for others.
const controlSocketBytes = 16 << 20

// socket is a UDP socket that never blocks, for a loop that polls. (Go's own
// poller would hand each datagram to another thread, which waits behind whatever
// the machine is busy with.)
type socket struct {
	fd    int
	local netip.Addr
}

func openSocket(at netip.AddrPort) (*socket, error) {
	if !at.Addr().Is4() {
		return nil, fmt.Errorf("control socket at %s: only IPv4 addresses can be used", at)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", os.NewSyscallError("socket", err))
	}
	s := &socket{fd, at.Addr()}
	if err := s.prepare(at); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return s, nil
}

func (s *socket) prepare(at netip.AddrPort) error {
	// Doubled by the kernel (socket(7)); without the right to force it, what
	// net.core.rmem_max allows must do.
	for force, plain := range map[int]int{unix.SO_RCVBUFFORCE: unix.SO_RCVBUF, unix.SO_SNDBUFFORCE: unix.SO_SNDBUF} {
		if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, force, controlSocketBytes/2) == nil {
			continue
		}
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, plain, controlSocketBytes/2); err != nil {
			return fmt.Errorf("control socket: %w", os.NewSyscallError("setsockopt", err))
		}
	}
	err := unix.Bind(s.fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()})
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("control socket: UDP port %d of %s is in use by another program; stop it, or set [cluster] control_port to another on all nodes", at.Port(), at.Addr())
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("control socket: %s is not an address of this host; correct [cluster] peers", at.Addr())
	case err != nil:
		return fmt.Errorf("control socket: %w", os.NewSyscallError("bind", err))
	}
	return nil
}

// receive reads one datagram. unix.EAGAIN is none. (The kernel reports errors of
// earlier sends only to connected sockets: udp_err in net/ipv4/udp.c.)
func (s *socket) receive(b []byte) (int, netip.AddrPort, error) {
	var from unix.RawSockaddrInet4
	size := uint32(unix.SizeofSockaddrInet4)
	// Raw, as all calls here: none blocks, and unix.Recvfrom asks for the socket's
	// protocol each time.
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT,
		uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0, netip.AddrPort{}, errno
	}
	if from.Family != unix.AF_INET {
		return 0, netip.AddrPort{}, unix.EAFNOSUPPORT
	}
	return int(n), netip.AddrPortFrom(netip.AddrFrom4(from.Addr), binary.BigEndian.Uint16(bytesOf(&from.Port)[:])), nil
}

// send sends one datagram.
func (s *socket) send(to netip.AddrPort, b []byte) error {
	at := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().As4()}
	binary.BigEndian.PutUint16(bytesOf(&at.Port)[:], to.Port())
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT,
		uintptr(unsafe.Pointer(&at)), unix.SizeofSockaddrInet4)
	if errno != 0 {
		return errno
	}
	return nil
}

// bytesOf is a port as the kernel has it, the more significant byte first.
func bytesOf(port *uint16) *[2]byte { return (*[2]byte)(unsafe.Pointer(port)) }

func (s *socket) close() error { return unix.Close(s.fd) }
