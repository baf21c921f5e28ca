package health

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// askUDP finds out whether a program has a UDP port. Of this host's own addresses the
// kernel is asked (sock_diag(7)), so that the program hears nothing: an empty datagram
// is a line in the log of some. Another host is sent one; what comes back is an ICMP
// error, or nothing, which is as good an answer as UDP has.
func askUDP(ctx context.Context, target string) error {
	at, err := netip.ParseAddrPort(target)
	if err != nil {
		return err
	}
	if own, err := isOwn(at.Addr()); err != nil || !own {
		return errors.Join(err, knock(ctx, at))
	}
	taken, err := portTaken(at)
	if errors.Is(err, errNoDiag) {
		return knock(ctx, at)
	}
	if err != nil {
		return err
	}
	if !taken {
		return fmt.Errorf("no program has UDP port %d of %s", at.Port(), at.Addr())
	}
	return nil
}

// isOwn reports whether an address is this host's: only then can a socket have it.
func isOwn(a netip.Addr) (bool, error) {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, c.Close()
}

// knockFor is how long an ICMP error is waited for.
const knockFor = 200 * time.Millisecond

// knock sends an empty datagram and waits for an error.
func knock(ctx context.Context, at netip.AddrPort) error {
	c, err := new(net.Dialer).DialContext(ctx, "udp", at.String())
	if err != nil {
		return err
	}
	defer c.Close()
	end := time.Now().Add(knockFor)
	if by, ok := ctx.Deadline(); ok && by.Before(end) {
		end = by
	}
	if err := c.SetDeadline(end); err != nil {
		return err
	}
	if _, err := c.Write(nil); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("no program has UDP port %d of %s", at.Port(), at.Addr())
	}
	return nil
}

// errNoDiag says that the kernel does not tell of UDP sockets.
var errNoDiag = errors.New("the kernel has no udp_diag")

// portTaken asks the kernel which socket a datagram to that port would go to. That
// there is none it says in the same words as that it cannot tell; so it is asked about
// a socket that is there, then.
func portTaken(at netip.AddrPort) (bool, error) {
	taken, err := udpSocket(at)
	if taken || err != nil {
		return taken, err
	}
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), 0)))
	if err != nil {
		return false, err
	}
	defer c.Close()
	known, err := udpSocket(c.LocalAddr().(*net.UDPAddr).AddrPort())
	if err == nil && !known {
		err = errNoDiag
	}
	return false, err
}

// Sizes and numbers of sock_diag(7): struct nlmsghdr, and struct inet_diag_req_v2
// with the struct inet_diag_sockid in it (include/uapi/linux/inet_diag.h).
const (
	diagByFamily  = 20 // SOCK_DIAG_BY_FAMILY
	headerBytes   = 16
	requestBytes  = 56
	sockidAt      = headerBytes + 8
	destinationAt = sockidAt + 4 + 16
	cookieAt      = sockidAt + 40
	diagTimeout   = 1 // second
)

// udpSocket asks for one socket. For one that is no dump, source is where the datagram
// would come from and destination where it would go (udp_dump_one in
// net/ipv4/udp_diag.c).
func udpSocket(at netip.AddrPort) (bool, error) {
	var b [headerBytes + requestBytes]byte
	e := binary.NativeEndian
	e.PutUint32(b[0:], uint32(len(b)))
	e.PutUint16(b[4:], diagByFamily)
	e.PutUint16(b[6:], unix.NLM_F_REQUEST)
	a := at.Addr().Unmap()
	b[headerBytes], b[headerBytes+1] = unix.AF_INET6, unix.IPPROTO_UDP
	if a.Is4() {
		b[headerBytes] = unix.AF_INET
	}
	e.PutUint32(b[headerBytes+4:], ^uint32(0)) // in every state
	binary.BigEndian.PutUint16(b[sockidAt:], 9)
	binary.BigEndian.PutUint16(b[sockidAt+2:], at.Port())
	copy(b[sockidAt+4:], a.AsSlice())
	copy(b[destinationAt:], a.AsSlice())
	e.PutUint64(b[cookieAt:], ^uint64(0)) // whatever its cookie
	answer, err := askKernel(b[:])
	if err != nil {
		return false, err
	}
	switch kind := e.Uint16(answer[4:]); kind {
	case diagByFamily:
		return true, nil
	case unix.NLMSG_ERROR:
		if code := unix.Errno(-int32(e.Uint32(answer[headerBytes:]))); code != unix.ENOENT {
			return false, os.NewSyscallError("sock_diag", code)
		}
		return false, nil
	default:
		return false, fmt.Errorf("sock_diag answered with a message of type %d", kind)
	}
}

// askKernel sends one message and receives one.
func askKernel(request []byte) ([]byte, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("socket NETLINK_SOCK_DIAG", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: diagTimeout}); err != nil {
		return nil, os.NewSyscallError("setsockopt SO_RCVTIMEO", err)
	}
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	b := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, b, 0)
	if err != nil {
		return nil, os.NewSyscallError("recvfrom", err)
	}
	if n < headerBytes+4 {
		return nil, fmt.Errorf("sock_diag answered with %d bytes", n)
	}
	return b[:n], nil
}
